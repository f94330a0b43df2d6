"""Pictures of attacks: queries, perturbations, and the nearest images before and after, as JSON for the page."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.reporting.thumbnails import data_address, difference, magnification, to_pixels
from stages.runtime import artifacts, checksums

NEAREST = 5  # gallery images shown before and after


class Album:
    """The same queries under each attack for every defense on one dataset."""

    def __init__(self, labels: NDArray[np.int64], order: list[int], images: Callable[[NDArray[np.int64]], Tensor]):
        """Begin with the test split's labels (N,), its rows in drawn order, and ``images(rows)``, (B, C, H, W)."""
        self.labels, self.order, self.images = labels, order, images
        self.shown: dict[str, dict[int, dict[str, Any]]] = {}  # by attack, query row and defense
        self.used: set[int] = set()

    def add(
        self,
        attack: str,
        defense: str,
        embed: Callable[[Tensor], Tensor],
        gallery: Tensor,
        perturbed: Tensor,
        eps: float,
        count: int,
    ) -> None:
        """Show up to ``count`` queries of one attack on one defense.

        ``gallery`` are its clean embeddings (N, D), ``perturbed`` the images (E, C, H, W) that the attack kept.
        """
        rows = self.order[: min(count, len(perturbed))]
        place = {row: position for position, row in enumerate(sorted(self.order[: len(perturbed)]))}
        images, clean = perturbed[[place[row] for row in rows]], self.images(np.array(rows))
        with torch.no_grad():
            moved = embed(images)
        before, after = nearest(gallery[rows], gallery, rows), nearest(moved, gallery, rows)
        self.used |= {*rows, *before.flatten().tolist(), *after.flatten().tolist()}
        factor = magnification(eps)
        for position, row in enumerate(rows):
            pair = clean[position].numpy(), images[position].numpy()
            self.shown.setdefault(attack, {}).setdefault(row, {})[defense] = {
                "perturbed": data_address(to_pixels(pair[1]), exact=True),
                "difference": data_address(difference(*pair, factor), exact=True),
                "factor": factor,
                "before": [self.ranked(row, other) for other in before[position].tolist()],
                "after": [self.ranked(row, other) for other in after[position].tolist()],
            }

    def ranked(self, query: int, row: int) -> dict[str, Any]:
        """A retrieved image: its row, and whether it is of the query's class."""
        return {"row": row, "right": bool(self.labels[row] == self.labels[query])}

    def write(self, path: Path, class_names: list[str], facts: Mapping[str, Any]) -> list[Path]:
        """Write all of it, each image once; ``class_names`` are those of the test split's rows."""
        used = sorted(self.used)
        stills = self.images(np.array(used, dtype=np.int64)).numpy() if used else ()
        content = {
            **facts,
            "attacks": {
                attack: [{"row": row, "defenses": by_defense} for row, by_defense in by_row.items()]
                for attack, by_row in self.shown.items()
            },
            "images": {
                str(row): {"class": str(class_names[row]), "picture": data_address(to_pixels(image))}
                for row, image in zip(used, stills, strict=True)
            },
        }
        with artifacts.writing(path) as (draft,):
            checksums.dump_json(content, draft)
        return [path]


def nearest(queries: Tensor, embeddings: Tensor, rows: list[int]) -> Tensor:
    """Rows (Q, 5) of the nearest embeddings, nearest first, each query's own row left out."""
    distances = torch.cdist(queries.double(), embeddings.double())
    distances[torch.arange(len(rows)), torch.tensor(rows)] = torch.inf
    return distances.sort(dim=1, stable=True).indices[:, :NEAREST]
