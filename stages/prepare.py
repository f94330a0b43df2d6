"""Stage 1: original images to one uint8 array and a manifest with one row per image."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.io import artifacts, cli, originals, seals
from stages.io.decoding import channels_of, decoded
from stages.io.errors import UserError, printable
from stages.io.params import FILE, Params
from stages.io.params import dataset as dataset_block

if TYPE_CHECKING:
    from stages.io.listings import Item


def chosen(items: list[Item], split: dict[str, int], key: str) -> list[tuple[Item, int, str]]:
    """The images that take part with label (from 0) and split, in manifest order: by label, then by id.

    ``split`` counts classes in the order of their ids: the first ``train`` of them train, the last ``test`` of them
    test; ``images_per_class`` keeps the first so many images of each, by id. ``key`` is its name for messages.

    Raises:
        UserError: there are fewer classes than asked for, or one lies in a folder for the other split.
    """
    classes = [list(members) for _, members in groupby(sorted(items, key=itemgetter(1, 0)), key=itemgetter(1))]
    train, test = split["train"], split["test"]
    if train + test > len(classes):
        raise UserError(f"{FILE}: {key}: {train} + {test} classes asked for, {len(classes)} are there; lower one")
    kept = [(members, "train") for members in classes[:train]]
    kept += [(members, "test") for members in classes[len(classes) - test :]]
    astray = [(members[0], part) for members, part in kept if members[0].part not in ("", part)]
    if astray:
        item, part = astray[0]
        counts = Counter(members[0].part for members in classes)
        raise UserError(
            f"{FILE}: {key}: {item.source_path} is of a class that would {part}; "
            f"write {{train: {counts['train']}, test: {counts['test']}}} for the split that the folders make"
        )
    return [
        (item, label, part)
        for label, (members, part) in enumerate(kept)
        for item in members[: split.get("images_per_class")]
    ]


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

    facts, several = [], []
    with images_path.open("wb") as file:
        # Plain writes, because a full disk kills a process that writes through a memory map.
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        images = cli.progress(decoded(items, shape[1], shape[3]), total=len(items), label=label)
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
                }
            )
    if several:
        warn(
            f"{len(several)} files are animated or have pages, such as {several[0]}; the first picture of each is taken"
        )
    return facts


def warn(text: str) -> None:
    """Say what a user would want to know of data that is prepared all the same."""
    cli.log.warning("warning: %s", printable(text))


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


def check_raw(raw: Path, sources: list[dict[str, Any]], dataset: str) -> None:
    """Compare what lies in ``raw`` with the checksums of the dataset's ``fetch`` list.

    Raises:
        UserError: nothing is there, or a published file is not the published one.
    """
    from stages.io.download import file_name, verify

    if next(originals.files(raw), None) is None:
        raise UserError(f"{raw}: empty; run `python -m stages.fetch {dataset}` or put the original files there")
    for source in sources:
        path = raw / file_name(source)
        if path.exists():
            verify(path, source)


def prepare(params: Params, dataset: str) -> list[Path]:
    """Write data/<dataset>/images.npy and manifest.parquet.

    Raises:
        UserError: the original files are missing, damaged or not what their lists say, or the disk is too small.
    """
    import math
    import warnings

    import pandas as pd
    from PIL import Image

    from stages.io.archives import unpacked
    from stages.io.readers import READERS

    block, raw, folder = dataset_block(params, dataset), artifacts.raw_dir(dataset), artifacts.data_dir(dataset)
    if "fetch" in block:
        check_raw(raw, [*block["fetch"], *block.get("fetch_instead", [])], dataset)
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
        cli.log.info("read lists of %d images of %s, %d take part", len(items), dataset, len(rows))
        shape = (len(rows), block["side"], block["side"], channels)
        require_space(outputs[0], math.prod(shape))
        with located(raw):
            facts = store(images_path, shape, [item for item, _, _ in rows], f"prepare {dataset}")
        manifest = pd.DataFrame(facts).assign(
            label=[label for _, label, _ in rows], split=[part for _, _, part in rows]
        )
        seals.sign(manifest).to_parquet(manifest_path, index=False)
    return list(outputs)


def main() -> None:
    """Command line: ``python -m stages.prepare <dataset>``."""
    cli.main(prepare, "prepare", __doc__ or "", "dataset")


if __name__ == "__main__":
    main()
