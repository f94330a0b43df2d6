"""How fast stored pixels become training batches: random crop 224, mirror, float32 in channels_last order.

Generates random pixels (N, 256, 256, 3) as a memory map in a temporary folder and draws shuffled batches on one thread.
The page cache holds the file, as it does from the second epoch on where memory allows.

    python -m benchmarks.loader [images]
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from stages.data.batches import batch_buffer, random_crop
from stages.data.splits import Split, read_pixels

SIDE, CROP, BATCH, ROUNDS = 256, 224, 112, 5


def stored(folder: Path, count: int) -> Split:
    """A split of ``count`` images of random pixels in a memory-mapped file."""
    path = folder / "images.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8))
    return Split(read_pixels(path), np.arange(count), np.zeros(count, dtype=np.int64), np.arange(count))


def seconds_per_epoch(split: Split, seed: int) -> float:
    """Time to draw every image once in shuffled batches."""
    draws = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(split.rows), generator=draws)
    buffer = batch_buffer(split, BATCH, CROP)
    started = time.perf_counter()
    for rows in order.split(BATCH):
        images = random_crop(split, rows, draws, crop=CROP, flip=True, out=buffer)
    elapsed = time.perf_counter() - started
    assert images.is_contiguous(memory_format=torch.channels_last)
    return elapsed


def main(count: int) -> None:
    """Print the median of a few epochs."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        split = stored(Path(folder), count)
        times = sorted(seconds_per_epoch(split, seed) for seed in range(ROUNDS + 1))[:ROUNDS]
    rates = [round(count / one) for one in times]
    print(
        f"{count} images, crop {CROP} of {SIDE}, batches of {BATCH}, one thread: median {rates[ROUNDS // 2]} images/s"
    )
    print(f"fastest {rates[0]}, slowest {rates[-1]}; wanted at least 1500")


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 2240)
