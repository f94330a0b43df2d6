"""A test set given as arrays instead of prepared files: one set of images, or queries and a gallery."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from stages.core.attacks.base import Gallery
from stages.core.sets import Sets
from stages.models.attacking import ImageSet
from stages.runtime.errors import reason

Load = Callable[[Tensor], Tensor]


class Given(NamedTuple):
    """One set of images as a caller gives it, unchecked; None for what is not given."""

    images: ArrayLike | Tensor | None
    labels: ArrayLike | Tensor | None
    ids: ArrayLike | None
    cameras: ArrayLike | Tensor | None


class Arrays(NamedTuple):
    """M test images: ``parts`` holds their pixels (n, H, W, C), queries before the gallery where these are two sets;
    ``labels`` and ``ids`` (M,) are of all, ``sets`` says which of them are queries."""

    parts: list[Tensor]
    labels: NDArray[np.int64]
    ids: NDArray[np.int64]
    sets: Sets

    def loader(self, device: torch.device) -> Load:
        """A function of ascending rows that gives images (B, C, H, W), float32 in [0, 1], on a device."""

        def load(rows: Tensor) -> Tensor:
            images, first = [], 0
            for pixels in self.parts:
                here = rows[(rows >= first) & (rows < first + len(pixels))] - first
                scale = 255 if pixels.dtype == torch.uint8 else 1
                if len(here):  # joined with nothing, images lie differently in memory, and networks round otherwise
                    images.append(pixels[here].permute(0, 3, 1, 2).float().div_(scale))
                first += len(pixels)
            return torch.cat(images).to(device)

        return load

    def perturbed(self, kind: str, embeddings: Tensor, device: torch.device) -> ImageSet:
        """What an attack on a "query" or a "candidate" perturbs; ``embeddings`` (M, D) are the clean ones."""
        labels = torch.from_numpy(self.labels).to(device)
        gallery = Gallery.of_sets(embeddings.to(device), labels, self.sets, kind)
        rows, load = self.sets.queries if kind == "query" else self.sets.gallery, self.loader(device)
        if rows is None:
            return ImageSet(gallery, self.ids, load)
        return ImageSet(gallery, self.ids[rows.numpy()], lambda places: load(rows[places]))


def checked(queries: Given, gallery: Given) -> Arrays:
    """Check what is given: ``queries`` alone, which search each other, or with the ``gallery`` that they search.

    Raises:
        ValueError: an argument of ``benchmark`` cannot be used; names it.
    """
    first = checked_pixels("images", queries.images)
    alone = gallery.images is None
    labels = checked_integers("labels", queries.labels, len(first), least=2 if alone else 1)
    ids = range(len(first)) if queries.ids is None else queries.ids
    names = checked_integers("image_ids", ids, len(first), least=len(first))
    if alone:
        lost = {"gallery_labels": gallery.labels, "gallery_ids": gallery.ids, "gallery_cameras": gallery.cameras}
        for name, given in (lost | {"cameras": queries.cameras}).items():
            if given is not None:
                raise ValueError(f"{name}: belongs to queries and gallery as two sets; give gallery_images, too")
        return Arrays([first], labels, names, Sets())
    second = checked_pixels("gallery_images", gallery.images)
    if first.shape[1:] != second.shape[1:]:
        shapes = " and ".join(str(tuple(pixels.shape[1:])) for pixels in (first, second))
        raise ValueError(f"gallery_images: of another size (H, W, C) than images, {shapes}; resize them")
    found = checked_integers("gallery_labels", gallery.labels, len(second), least=2)
    ids = range(max(names) + 1, max(names) + 1 + len(second)) if gallery.ids is None else gallery.ids
    both = np.concatenate([names, checked_integers("gallery_ids", ids, len(second), least=len(second))])
    if len(np.unique(both)) < len(both):
        raise ValueError("gallery_ids: some are among image_ids, too; give every image an id of its own")
    query_rows, gallery_rows = torch.arange(len(both)).split([len(first), len(second)])
    sets = Sets(query_rows, gallery_rows, checked_cameras(queries, gallery, len(first), len(second)))
    test = Arrays([first, second], np.concatenate([labels, found]), both, sets)
    require_relevant(test)
    return test


def checked_cameras(queries: Given, gallery: Given, first: int, second: int) -> Tensor | None:
    """Cameras of all images, or None.

    Raises:
        ValueError: they are given for one of the two sets only, or are no whole numbers.
    """
    if queries.cameras is None and gallery.cameras is None:
        return None
    if queries.cameras is None or gallery.cameras is None:
        absent = "cameras" if queries.cameras is None else "gallery_cameras"
        raise ValueError(f"{absent}: missing; give the cameras of queries and gallery, or neither")
    found = checked_integers("cameras", queries.cameras, first, least=1)
    return torch.from_numpy(
        np.concatenate([found, checked_integers("gallery_cameras", gallery.cameras, second, least=1)])
    )


def require_relevant(test: Arrays) -> None:
    """Refuse queries that have nothing to find.

    Raises:
        ValueError: names the first.
    """
    labels = torch.from_numpy(test.labels)
    query_labels, gallery_labels = test.sets.of_queries(labels), test.sets.of_gallery(labels)
    for place, label in enumerate(query_labels):
        relevant = gallery_labels == label
        if (junk := test.sets.left_out(torch.tensor([place]), labels)) is not None:
            relevant = relevant & ~junk[0]
        if not relevant.any():
            other = "" if junk is None else " from another camera"
            raise ValueError(f"labels: query {place} has no image of class {label}{other} in the gallery")


def checked_pixels(name: str, images: ArrayLike | Tensor | None) -> Tensor:
    """Images as a tensor (N, H, W, C) on the CPU, uint8 or float in [0, 1].

    Raises:
        ValueError: they have another shape, type or range; ``name`` is what the argument is called.
    """
    try:
        pixels = torch.as_tensor(images).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name}: no array of images ({reason(error)}); give numpy or torch") from None
    shape = tuple(pixels.shape)
    if pixels.ndim != 4 or len(pixels) < 2 or (shape[1] not in (1, 3) and shape[3] not in (1, 3)):
        raise ValueError(f"{name}: of shape {shape}; give two or more of (N, C, H, W) or (N, H, W, C), C 1 or 3")
    if pixels.dtype != torch.uint8 and not pixels.is_floating_point():
        raise ValueError(f"{name}: of type {pixels.dtype}; give uint8, or float in [0, 1]")
    if pixels.is_floating_point() and not bool(((pixels >= 0) & (pixels <= 1)).all()):
        raise ValueError(f"{name}: floats outside [0, 1]; divide by 255, and leave normalization to the model")
    return pixels.permute(0, 2, 3, 1) if shape[1] in (1, 3) else pixels


def checked_integers(name: str, given: ArrayLike | Tensor | None, count: int, *, least: int) -> NDArray[np.int64]:
    """Whole numbers (N,), one for each of ``count`` images, at least so many of them different.

    Raises:
        ValueError: they are not; ``name`` is what the argument is called.
    """
    try:
        found = np.asarray(given.detach().cpu() if isinstance(given, Tensor) else given)
    except ValueError as error:  # lists of different lengths
        raise ValueError(f"{name}: no array of whole numbers ({reason(error)}); give numpy or torch") from None
    if found.shape != (count,) or found.dtype.kind not in "iu":
        raise ValueError(
            f"{name}: {found.dtype} of shape {found.shape}; give a whole number for each of {count} images"
        )
    if len(np.unique(found)) < least:
        raise ValueError(f"{name}: {len(np.unique(found))} different ones; give {least} or more")
    return found.astype(np.int64)
