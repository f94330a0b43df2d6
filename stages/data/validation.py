"""A prepared dataset checked: nothing trains on data that fails."""

import hashlib
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.data.splits import COLUMNS, data_files, read_manifest, read_pixels, remedy
from stages.runtime import artifacts, checksums
from stages.runtime.errors import UserError
from stages.runtime.params import Params

SHOWN = 5  # offending rows named in the error line
log = logging.getLogger(__name__)


def validate(block: Params, dataset: str) -> list[Path]:
    """Write data/<dataset>/validation.json, and Data Docs under logs/validation/<dataset>/.

    Raises:
        UserError: an expectation fails; an earlier pass is withdrawn, so nothing can train on this data.
    """
    images_path, manifest_path = data_files(dataset)
    pixels, manifest = read_pixels(images_path), read_manifest(manifest_path)
    if len(pixels) != len(manifest):
        raise UserError(f"{images_path}: {len(pixels)} images but {len(manifest)} manifest rows; {remedy(images_path)}")
    log.info("read %d images and manifest rows of %s", len(manifest), dataset)
    results = checked(pixels, manifest, block, dataset)
    failed = sorted((result for result in results if not result["success"]), key=lambda one: not one["image_ids"])
    output = artifacts.data_dir(dataset) / "validation.json"
    if failed:
        output.unlink(missing_ok=True)
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        damaged = any(one["arguments"].get("column_B") == "stored_sha256" for one in failed)
        cure = remedy(images_path) if damaged else f"mend the data or datasets.{dataset}"
        raise UserError(f"{manifest_path}: {describe(failed[0])}{more}; {cure}")
    report = {"success": True, "expectations": results, "inputs": checksums.hashes(images_path, manifest_path)}
    with artifacts.writing(output) as (draft,):
        checksums.dump(report, draft)
    return [output]


def checked(pixels: NDArray[np.uint8], manifest: pd.DataFrame, block: Params, dataset: str) -> list[dict[str, Any]]:
    """Outcome of every expectation; builds the Data Docs."""
    from stages.data import expectations  # after the files have been read, since it takes seconds

    docs = artifacts.LOGS / "validation" / dataset
    suite, disjoint = expectations.suite(list(COLUMNS), block, len(manifest)), "by" not in block["split"]
    if not disjoint:
        log.info("split by lists: both splits hold the same classes, so that they are disjoint is not expected")
    results = expectations.run(facts(manifest, pixels, disjoint=disjoint), suite, dataset, docs)
    log.info("Data Docs: %s", docs / "index.html")
    return results


def facts(manifest: pd.DataFrame, pixels: NDArray[np.uint8], *, disjoint: bool) -> pd.DataFrame:
    """The manifest with what expectations need beside it, one row per image; ``disjoint`` where splits share no class.

    ``pixel_range`` is max - min of the stored image, ``stored_sha256`` the hash of its pixels, ``images_of_class`` the
    size of its class (within its split unless ``disjoint``), ``splits_of_class`` and ``splits_of_image`` the number of
    splits in which its class and its very pixels occur.
    """
    table = manifest.copy()
    table["images_of_class"] = table.groupby("label" if disjoint else ["label", "split"])["label"].transform("size")
    table["pixel_range"] = [int(image.max()) - int(image.min()) for image in pixels]
    table["stored_sha256"] = [hashlib.sha256(image.tobytes()).hexdigest() for image in pixels]
    table["splits_of_class"] = table.groupby("label")["split"].transform("nunique")
    table["splits_of_image"] = table.groupby("stored_sha256")["split"].transform("nunique")
    return table


def describe(failed: dict[str, Any]) -> str:
    """A failed expectation in one line, with the first offending image ids."""
    arguments = ", ".join(f"{key}={value}" for key, value in sorted(failed["arguments"].items()))
    rows = failed["image_ids"]
    named = f"; image ids {', '.join(map(str, rows[:SHOWN]))}{' ...' if len(rows) > SHOWN else ''}" if rows else ""
    seen = f"; found {failed['observed']}" if failed["observed"] is not None else ""
    return f"{failed['expectation']}({arguments}) fails on split {failed['split']}{seen}{named}"
