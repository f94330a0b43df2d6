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
    table = facts(manifest, pixels, disjoint="by" not in block["split"])
    results = checked(table, block, dataset)
    failed = sorted((result for result in results if not result["success"]), key=lambda one: not one["image_ids"])
    output = artifacts.data_dir(dataset) / "validation.json"
    if failed:
        output.unlink(missing_ok=True)
        damaged = any(one["arguments"].get("column_B") == "stored_sha256" for one in failed)
        counts = f"mend the data, or write what was found under datasets.{dataset}.expected if that is right"
        many = f"{len(failed)} expectations fail: " if len(failed) > 1 else ""
        told = "; ".join(describe(one, table) for one in failed)
        raise UserError(f"{manifest_path}: {many}{told}; {remedy(images_path) if damaged else counts}")
    report = {"success": True, "expectations": results, "inputs": checksums.hashes(images_path, manifest_path)}
    with artifacts.writing(output) as (draft,):
        checksums.dump(report, draft)
    return [output]


def checked(table: pd.DataFrame, block: Params, dataset: str) -> list[dict[str, Any]]:
    """Outcome of every expectation of a table of ``facts``; builds the Data Docs."""
    from stages.data import expectations  # after the files have been read, since it takes seconds

    docs = artifacts.LOGS / "validation" / dataset
    suite = expectations.suite(list(COLUMNS), block, len(table))
    if "by" in block["split"]:
        log.info("split by lists: both splits hold the same classes, so that they are disjoint is not expected")
    results = expectations.run(table, suite, dataset, docs)
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


def describe(failed: dict[str, Any], table: pd.DataFrame) -> str:
    """A failed expectation: what was found, and either the key of `expected` that says otherwise or the images.

    ``table`` is what was validated. Counts are put in words, since they are what a user's first guess gets wrong.
    """
    arguments, observed, split = failed["arguments"], failed["observed"], failed["split"]
    kind, column = failed["expectation"], arguments.get("column")
    where = f"{split} has" if split != "all" else "there are"
    if kind == "expect_table_row_count_to_equal":
        key = f"expected.{split}.images" if split != "all" else "the sum of expected.train.images and .test.images"
        return f"{where} {observed} images, not {arguments['value']} ({key})"
    if kind == "expect_column_unique_value_count_to_be_between":
        return f"{where} {observed} classes, not {arguments['min_value']} (expected.{split}.classes)"
    if column == "images_of_class":
        least, most = (int(bound) for bound in table[column].agg(["min", "max"]))
        cure = f"write [{least}, {most}]" if least > 1 else "a class needs two images at least"
        wanted = f"{int(arguments['min_value'])} to {int(arguments['max_value'])}"
        told = f"classes have {least} to {most} images, not {wanted} (expected.images_per_class: {cure})"
        return told + named(failed, table)
    if column == "splits_of_image":
        allowed = round((1 - arguments.get("mostly", 1)) * len(table))
        found = int((table[column] > 1).sum())
        key = "expected.duplicates_across_splits"
        return f"{found} images occur in both splits, not {allowed} ({key}){named(failed, table)}"
    settings = ", ".join(f"{key}={value}" for key, value in sorted(arguments.items()))
    seen = f", found {observed}" if observed is not None else ""
    return f"{kind}({settings}) fails on split {split}{seen}{named(failed, table)}"


def named(failed: dict[str, Any], table: pd.DataFrame) -> str:
    """The first images that fail an expectation, by id, and where one of them comes from; "" where none is known."""
    rows = failed["image_ids"]
    if not rows:
        return ""
    source = table.loc[table["image_id"] == rows[0], "source_path"].iloc[0]
    ids = f"{', '.join(map(str, rows[:SHOWN]))}{' ...' if len(rows) > SHOWN else ''}"
    return f": image ids {ids}, such as {source}"
