"""Stage 1: original images to one uint8 array and a manifest with one row per image."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.io import artifacts, cli
from stages.io.errors import UserError
from stages.io.params import Params
from stages.io.params import dataset as dataset_block

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from stages.io.readers import Item


def channels_of(items: list[Item]) -> int:
    """1 where every image is grey, else 3; reads headers only.

    Raises:
        UserError: a file is not an image.
    """
    for item in items:
        with opened(item) as image:
            if image.mode != "L":
                return 3
    return 1


@contextmanager
def opened(item: Item) -> Iterator[Image.Image]:
    """Open one image, and name it in what goes wrong with it.

    Raises:
        UserError: the file cannot be decoded to the end.
    """
    from PIL import Image

    try:
        with item.open() as image:
            yield image
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{item.source_path}: cannot be decoded ({error}); replace or remove the file") from None


def decode(item: Item, side: int, channels: int) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Decode one image upright to uint8 (side, side, channels); also its original (width, height).

    Raises:
        UserError: the file cannot be decoded to the end.
    """
    import numpy as np
    from PIL import Image, ImageOps

    with opened(item) as original:
        size = original.size
        image = ImageOps.exif_transpose(original).convert("L" if channels == 1 else "RGB")
        resized = image.resize((side, side), Image.Resampling.BILINEAR) if image.size != (side, side) else image
        pixels = np.asarray(resized, dtype=np.uint8)
    return pixels.reshape(side, side, channels), size


def ordered(items: list[Item]) -> list[Item]:
    """Manifest order: by label, then by id."""
    return sorted(items, key=lambda item: (item.label, item.image_id))


def prepare(params: Params, dataset: str) -> list[Path]:
    """Write data/<dataset>/images.npy and manifest.parquet."""
    import numpy as np
    import pandas as pd

    from stages.io.readers import READERS

    block, raw = dataset_block(params, dataset), artifacts.raw_dir(dataset)
    items = ordered(READERS[block["reader"]](raw))
    cli.log.info("read %d images of %s", len(items), dataset)
    outputs = (artifacts.data_dir(dataset) / "images.npy", artifacts.data_dir(dataset) / "manifest.parquet")
    channels = channels_of(items)
    rows: list[dict[str, Any]] = []
    with artifacts.writing(*outputs) as (images_path, manifest_path):
        shape = (len(items), block["side"], block["side"], channels)
        images = np.lib.format.open_memmap(images_path, mode="w+", dtype=np.uint8, shape=shape)
        for i, item in enumerate(cli.progress(items, total=len(items), label=f"prepare {dataset}")):
            pixels, (width, height) = decode(item, block["side"], channels)
            images[i] = pixels
            rows.append(
                {
                    "image_id": item.image_id,
                    "label": item.label,
                    "class_name": item.class_name,
                    "split": "train" if item.label < block["train_classes"] else "test",
                    "source_path": item.source_path,
                    "width": width,
                    "height": height,
                    "sha256": hashlib.sha256(pixels.tobytes()).hexdigest(),
                }
            )
        images.flush()
        pd.DataFrame(rows).to_parquet(manifest_path, index=False)
    return list(outputs)


def main() -> None:
    """Command line: ``python -m stages.prepare <dataset>``."""
    cli.main(prepare, "prepare", __doc__ or "", "dataset")


if __name__ == "__main__":
    main()
