"""Stage 1: original images to one uint8 array and a manifest with one row per image."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.runtime import artifacts, checksums, cli
from stages.runtime.errors import UserError, reason
from stages.runtime.params import FILE, Params
from stages.runtime.params import dataset as dataset_block

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from stages.data.annotations import Item

CHUNK = 256  # images decoded before they are written: bounds memory whatever the size of the dataset
GREY = {"1", "L", "LA", "I", "I;16", "I;16L", "I;16B", "F"}


def channels_of(items: list[Item]) -> int:
    """1 where every image is grey, else 3; reads headers only.

    Raises:
        UserError: a file is not an image.
    """
    for item in items:
        with opened(item) as image:
            if image.mode not in GREY:
                return 3
    return 1


@contextmanager
def opened(item: Item) -> Iterator[Image.Image]:
    """Open one image, and name it in what goes wrong with it.

    Raises:
        UserError: the file cannot be decoded to the end.
    """
    try:
        with item.open() as image:
            yield image
    except Exception as error:  # besides its own errors, Pillow lets through what Python says of damaged headers
        raise UserError(
            f"{item.source_path}: cannot be decoded ({reason(error)}); replace or remove the file"
        ) from None


def decode(item: Item, side: int, channels: int) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Decode one image as people see it to uint8 (side, side, channels); also its stored (width, height).

    Upright, transparent parts on white, 16-bit grey scaled to 8 bits, then resized with bilinear interpolation
    without keeping the aspect ratio (method.md 1.2).

    Raises:
        UserError: the file cannot be decoded to the end.
    """
    import numpy as np
    from PIL import Image, ImageOps

    with opened(item) as original:
        size = original.size
        image = ImageOps.exif_transpose(original)
        if image.mode.startswith("I;16"):
            image = Image.fromarray((np.asarray(image, dtype=np.uint16) // 257).astype(np.uint8))
        if image.has_transparency_data:
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image.convert("RGBA"))
        image = image.convert("L" if channels == 1 else "RGB")
        resized = image.resize((side, side), Image.Resampling.BILINEAR) if image.size != (side, side) else image
        pixels = np.asarray(resized, dtype=np.uint8)
    return pixels.reshape(side, side, channels), size


def chosen(items: list[Item], split: dict[str, Any], key: str) -> list[tuple[Item, int, str]]:
    """The images that take part with label (from 0) and split, in manifest order.

    ``split`` is the block's; ``key`` its name for messages.

    Raises:
        UserError: there are fewer classes than asked for, or no lists to split by.
    """
    return by_lists(items, split, key) if "by" in split else by_class(items, split, key)


def by_lists(items: list[Item], split: dict[str, Any], key: str) -> list[tuple[Item, int, str]]:
    """The publisher's own training and test lists, each in its own order; labels by class id.

    ``images_per_class`` keeps the first so many images of each class in each list.

    Raises:
        UserError: the reader knows no such lists.
    """
    if not all(item.split for item in items):
        raise UserError(f"{FILE}: {key}: by lists, but these files have no train and test lists; give train and test")
    labels = {class_id: label for label, class_id in enumerate(sorted({item.class_id for item in items}))}
    most = split.get("images_per_class", len(items))
    rows: list[tuple[Item, int, str]] = []
    for part in ("train", "test"):
        seen = dict.fromkeys(labels, 0)
        for item in items:
            if item.split == part and seen[item.class_id] < most:
                seen[item.class_id] += 1
                rows.append((item, labels[item.class_id], part))
    return rows


def by_class(items: list[Item], split: dict[str, Any], key: str) -> list[tuple[Item, int, str]]:
    """Classes in the order of their ids: the first ``train`` of them train, the last ``test`` of them test.

    Ordered by label, then by id. ``images_per_class`` keeps the first so many images of each.

    Raises:
        UserError: there are fewer classes than asked for.
    """
    classes = [list(members) for _, members in groupby(sorted(items, key=itemgetter(1, 0)), key=itemgetter(1))]
    train, test = split["train"], split["test"]
    if train + test > len(classes):
        raise UserError(f"{FILE}: {key}: {train} + {test} classes asked for, {len(classes)} are there; lower one")
    kept = [(members, "train") for members in classes[:train]]
    kept += [(members, "test") for members in classes[len(classes) - test :]]
    return [
        (item, label, part)
        for label, (members, part) in enumerate(kept)
        for item in members[: split.get("images_per_class")]
    ]


def decoded(items: list[Item], side: int, channels: int) -> Iterator[tuple[NDArray[np.uint8], tuple[int, int]]]:
    """``decode`` over many images in order, on several threads (Pillow lets go of Python's lock), some at a time."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(cli.workers()) as pool:
        for start in range(0, len(items), CHUNK):
            yield from pool.map(lambda item: decode(item, side, channels), items[start : start + CHUNK])


@contextmanager
def located(raw: Path) -> Iterator[None]:
    """Put the folder in front of messages that name files relative to it."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{raw}: {error}") from None


def require_space(path: Path, size: int) -> None:
    """Refuse to begin what cannot end.

    Raises:
        UserError: ``size`` bytes do not fit beside ``path``.
    """
    free = shutil.disk_usage(path.parent).free
    if size > free:
        raise UserError(f"{path}: needs {size / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; make room or lower `side`")


def store(images_path: Path, shape: tuple[int, ...], items: list[Item], label: str) -> list[dict[str, Any]]:
    """Decode images into an array file of a shape (N, side, side, channels); what the manifest says of each."""
    import numpy as np

    facts = []
    with images_path.open("wb") as file:
        # Plain writes, because a full disk kills a process that writes through a memory map.
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        images = cli.progress(decoded(items, shape[1], shape[3]), total=len(items), label=label)
        for item, (pixels, (width, height)) in zip(items, images, strict=True):
            stored = pixels.tobytes()
            file.write(stored)
            facts.append(
                {
                    "image_id": item.image_id,
                    "class_name": item.class_name,
                    "source_path": item.source_path,
                    "width": width,
                    "height": height,
                    "sha256": hashlib.sha256(stored).hexdigest(),
                }
            )
    return facts


def check_raw(raw: Path, sources: list[dict[str, str]], dataset: str) -> None:
    """Compare what lies in ``raw`` with the checksums of the dataset's ``fetch`` list.

    Raises:
        UserError: nothing is there, or a published file is not the published one.
    """
    from stages.data.download import file_name, verify

    there = raw.is_dir() and any(path.name != "README.md" and path.suffix != ".dvc" for path in raw.glob("[!.]*"))
    if not there:
        raise UserError(f"{raw}: empty; run `python -m stages.fetch {dataset}` or put the original files there")
    for source in sources:
        path = raw / file_name(source)
        for form in (path, path.with_suffix("")) if "unpacked_md5" in source else (path,):
            if form.is_file():
                verify(form, source)


def prepare(params: Params, dataset: str) -> list[Path]:
    """Write data/<dataset>/images.npy and manifest.parquet.

    Raises:
        UserError: the original files are missing, damaged or not what their lists say, or the disk is too small.
    """
    import math
    import warnings

    import pandas as pd
    from PIL import Image

    from stages.data.archives import unpacked
    from stages.data.readers import READERS

    block, raw, folder = dataset_block(params, dataset), artifacts.raw_dir(dataset), artifacts.data_dir(dataset)
    if "fetch" in block:
        check_raw(raw, block["fetch"], dataset)
    outputs = (folder / "images.npy", folder / "manifest.parquet")
    with (
        warnings.catch_warnings(),
        unpacked(raw, beside=folder / "raw") as originals,
        artifacts.writing(*outputs) as (images_path, manifest_path),
    ):
        warnings.simplefilter("error", Image.DecompressionBombWarning)  # Pillow itself refuses twice that size only
        with located(raw):
            items = READERS[block["reader"]](originals)
            channels = channels_of(items)
        rows = chosen(items, block["split"], f"datasets.{dataset}.split")
        cli.log.info("read lists of %d images of %s, %d take part", len(items), dataset, len(rows))
        shape = (len(rows), block["side"], block["side"], channels)
        require_space(outputs[0], math.prod(shape))
        with located(raw):
            facts = store(images_path, shape, [item for item, _, _ in rows], f"prepare {dataset}")
        manifest = pd.DataFrame(facts).assign(
            label=[label for _, label, _ in rows], split=[part for _, _, part in rows]
        )
        checksums.sign(manifest).to_parquet(manifest_path, index=False)
    return list(outputs)


def main() -> None:
    """Command line: ``python -m stages.prepare <dataset>``."""
    cli.main(prepare, "prepare", __doc__ or "", "dataset")


if __name__ == "__main__":
    main()
