"""From stored pixels to training batches on the device that trains."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from stages.core.training import Load
from stages.data.splits import Split

T = TypeVar("T")


class Window(NamedTuple):
    """Where each image of a batch is cut, and whether it is mirrored; one entry each."""

    tops: Tensor
    lefts: Tensor
    mirrored: Tensor


def draw_windows(shape: tuple[int, ...], count: int, generator: torch.Generator, *, crop: int, flip: bool) -> Window:
    """Random crops of ``crop`` x ``crop`` from images of ``shape`` (N, H, W, C): training transform (method.md 1.2)."""
    tops = torch.randint(shape[1] - crop + 1, (count,), generator=generator)
    lefts = torch.randint(shape[2] - crop + 1, (count,), generator=generator)
    mirrored = torch.rand(count, generator=generator) < 0.5
    return Window(tops, lefts, mirrored if flip else torch.zeros_like(mirrored))


def batch_buffer(split: Split, count: int, crop: int) -> Tensor:
    """Memory for ``count`` images of ``crop`` x ``crop`` pixels, float32 (count, crop, crop, C)."""
    return torch.empty(count, crop, crop, split.pixels.shape[3])


def random_crop(
    split: Split, rows: Tensor, generator: torch.Generator, *, crop: int, flip: bool, out: Tensor
) -> Tensor:
    """Images (B, C, crop, crop) of some rows, randomly cut and mirrored, as a view of the ``batch_buffer`` ``out``.

    Fresh memory for every batch would cost more time than filling it.
    """
    window = draw_windows(split.pixels.shape, len(rows), generator, crop=crop, flip=flip)
    images = out[: len(rows)]
    for image, row, top, left, mirror in zip(images, rows.tolist(), *(part.tolist() for part in window), strict=True):
        stored = torch.from_numpy(split.pixels[split.rows[row], top : top + crop, left : left + crop])
        torch.div(stored.flip(1) if mirror else stored, 255, out=image)
    return images.permute(0, 3, 1, 2)


def random_crop_there(pixels: Tensor, rows: Tensor, generator: torch.Generator, *, crop: int, flip: bool) -> Tensor:
    """The same images as ``random_crop``, cut by the device that holds a split's pixels, uint8 (n, H, W, C)."""
    window = draw_windows(tuple(pixels.shape), len(rows), generator, crop=crop, flip=flip)
    tops, lefts, mirrored = (part.to(pixels.device)[:, None] for part in window)
    along = torch.arange(crop, device=pixels.device)
    y, x = tops + along, lefts + torch.where(mirrored, along.flip(0), along)
    stored = pixels[rows.to(pixels.device)[:, None, None], y[:, :, None], x[:, None, :]]
    # CUDA multiplies by the reciprocal of a plain number, which rounds other than a division does.
    return torch.div(stored, torch.full((), 255.0, device=stored.device)).permute(0, 3, 1, 2)


def ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items, the next one made by a thread while the last one is in use."""
    end = object()
    with ThreadPoolExecutor(1) as worker:
        coming = worker.submit(next, items, end)
        while (item := coming.result()) is not end:
            coming = worker.submit(next, items, end)
            yield item  # type: ignore[misc]


def resident(split: Split, device: torch.device) -> Tensor | None:
    """A split's pixels, uint8 (n, H, W, C), in the memory of a GPU; None where they would fill more than half of what
    is free, and on a CPU, which has them in memory already."""
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    size = len(split.rows) * split.pixels[0].nbytes
    return torch.from_numpy(split.pixels[split.rows]).to(device) if size < free // 2 else None


def training_batches(split: Split, device: torch.device, *, most: int, crop: int, flip: bool) -> Load:
    """A loader of epochs, with at most ``most`` images per batch, to the device.

    A GPU that holds all pixels cuts the images itself. Otherwise this process prepares the next batch in memory that is
    reused, so a batch is valid until the next one is requested.
    """
    there = resident(split, device)

    def cut_there(batches: Iterator[Tensor], draws: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        assert there is not None
        for rows in batches:
            yield rows, random_crop_there(there, rows, draws, crop=crop, flip=flip)

    buffers = cycle([batch_buffer(split, most, crop) for _ in range(2)])

    def cut_here(batches: Iterator[Tensor], draws: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        made = ((rows, random_crop(split, rows, draws, crop=crop, flip=flip, out=next(buffers))) for rows in batches)
        for rows, images in ahead(made):
            yield rows, images.to(device)

    return cut_here if there is None else cut_there
