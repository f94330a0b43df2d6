"""Original images to one uint8 array and a manifest with one row per image."""

import hashlib
import logging
import math
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from stages.data import originals
from stages.data.annotations import Item
from stages.data.archives import unpacked
from stages.data.decoding import channels_of, decoded
from stages.data.download import check_originals
from stages.data.readers import READERS
from stages.data.selection import chosen
from stages.runtime import artifacts, checksums
from stages.runtime.errors import UserError, printable
from stages.runtime.params import Params
from stages.runtime.progress import progress

log = logging.getLogger(__name__)


def prepare(block: Params, dataset: str) -> list[Path]:
    """Write data/<dataset>/images.npy and manifest.parquet of a dataset's block.

    Raises:
        UserError: the original files are missing, damaged or not what their lists say, or the disk is too small.
    """
    raw, folder = artifacts.raw_dir(dataset), artifacts.data_dir(dataset)
    if "fetch" in block:
        check_originals(raw, [*block["fetch"], *block.get("fetch_instead", [])], dataset)
    outputs = (folder / "images.npy", folder / "manifest.parquet")
    with located(raw):
        originals.require_reachable(raw)
        require_followed(raw)
    with (
        warnings.catch_warnings(),
        unpacked(raw, beside=folder / "raw") as place,
        artifacts.writing(*outputs) as (images_path, manifest_path),
    ):
        warnings.simplefilter("error", Image.DecompressionBombWarning)  # Pillow itself refuses twice that size only
        with located(raw):
            items = READERS[block["reader"]](place)
            channels = channels_of(items)
            used = [item.file for item in items if item.file]
            if left := originals.left_out(place, used, with_lists=block["reader"] != "folder"):
                warn(f"{raw}: {left}")
        rows = chosen(items, block["split"], f"datasets.{dataset}.split")
        log.info("read lists of %d images of %s, %d take part", len(items), dataset, len(rows))
        shape = (len(rows), block["side"], block["side"], channels)
        require_space(outputs[0], math.prod(shape))
        with located(raw):
            facts = store(images_path, shape, [item for item, _, _ in rows], f"prepare {dataset}")
        manifest = pd.DataFrame(facts).assign(
            label=[label for _, label, _ in rows], split=[part for _, _, part in rows]
        )
        checksums.sign(manifest).to_parquet(manifest_path, index=False)
    return list(outputs)


@contextmanager
def located(raw: Path) -> Iterator[None]:
    """Put the folder in front of messages that name files relative to it."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{raw}: {error}") from None


def require_space(path: Path, size: int) -> None:
    """Refuse to start if the disk has not enough space.

    Raises:
        UserError: ``size`` bytes do not fit beside ``path``.
    """
    free = shutil.disk_usage(path.parent).free
    if size > free:
        raise UserError(f"{path}: needs {size / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; make room or lower `side`")


def store(images_path: Path, shape: tuple[int, ...], items: list[Item], label: str) -> list[dict[str, Any]]:
    """Decode images into an array file of a shape (N, side, side, channels); what the manifest says of each."""
    facts, several = [], []
    with images_path.open("wb") as file:
        # Plain writes, because a full disk kills a process that writes through a memory map.
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        images = progress(decoded(items, shape[1], shape[3]), total=len(items), label=label)
        for item, (pixels, (width, height), frames) in zip(items, images, strict=True):
            stored = pixels.tobytes()
            file.write(stored)
            several += [item.source_path] if frames > 1 else []
            facts.append(
                {
                    "image_id": item.image_id,
                    "class_name": item.class_name,
                    "source_path": item.source_path,
                    "width": width,
                    "height": height,
                    "sha256": hashlib.sha256(stored).hexdigest(),
                    **({} if item.camera is None else {"camera": item.camera}),
                }
            )
    if several:
        warn(
            f"{len(several)} files are animated or have pages, such as {several[0]}; the first picture of each is taken"
        )
    return facts


def warn(text: str) -> None:
    """Say what a user would want to know of data that is prepared all the same."""
    log.warning("warning: %s", printable(text))


def require_followed(raw: Path) -> None:
    """Refuse links that DVC would not follow: under it, a change behind them would go unnoticed.

    Raises:
        UserError: DVC runs this, and ``raw`` holds a link to a folder.
    """
    link = originals.linked_folder(raw) if "DVC_STAGE" in os.environ else None
    if link:
        raise UserError(
            f"{link.relative_to(raw)}: a link to a folder, into which DVC does not look; copy the folder there, run "
            f"`snakemake`, which follows links, or make {raw} itself the only link"
        )
