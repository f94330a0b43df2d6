"""IDX files as MNIST publishes them, made for a test."""

import gzip
from pathlib import Path

import numpy as np

NAMES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


def encoded(array):
    """An array of bytes behind its header."""
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


def write_idx(folder: Path, *, train=40, test=20, side=28, classes=10, packed=True):
    """Four files of random images whose labels go round all classes; the arrays by split."""
    draw, arrays = np.random.default_rng(0), {}
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in (("train", train), ("test", test)):
        images = draw.integers(0, 256, (count, side, side), dtype=np.uint8)
        labels = draw.permutation(np.arange(count, dtype=np.uint8) % classes)
        arrays[split] = images, labels
        for name, array in zip(NAMES[split], (images, labels), strict=True):
            content = encoded(array)
            path = folder / (f"{name}.gz" if packed else name)
            path.write_bytes(gzip.compress(content) if packed else content)
    return arrays
