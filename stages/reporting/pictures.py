"""Pictures of attacks: queries, perturbations, and the nearest images before and after, as JSON for the page."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.core.sets import ONE_SET, Sets
from stages.reporting.thumbnails import data_address, difference, magnification, to_pixels
from stages.runtime import artifacts, checksums

NEAREST = 5  # gallery images shown before and after


class Album:
    """The same queries under each attack for every defense on one dataset."""

    def __init__(
        self,
        labels: NDArray[np.int64],
        order: list[int],
        images: Callable[[NDArray[np.int64]], Tensor],
        sets: Sets = ONE_SET,
    ):
        """Begin with the test split's labels (N,), the places of its queries in drawn order, ``images(rows)`` of the
        split, (B, C, H, W), and its ``sets``."""
        self.labels, self.order, self.images, self.sets = labels, order, images, sets
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

        ``gallery`` are the test split's clean embeddings (N, D), ``perturbed`` the images (E, C, H, W) that the attack
        kept.
        """
        chosen = self.order[: min(count, len(perturbed))]
        place = {query: position for position, query in enumerate(sorted(self.order[: len(perturbed)]))}
        images = perturbed[[place[query] for query in chosen]]
        rows = self.sets.of_queries(torch.arange(len(self.labels)))[chosen].tolist()
        clean, left_out = self.images(np.array(rows)), self.left_out(chosen)
        with torch.no_grad():
            moved = embed(images)
        before, after = nearest(gallery[rows], gallery, left_out), nearest(moved, gallery, left_out)
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

    def left_out(self, chosen: list[int]) -> Tensor:
        """A mask (Q, N) of the test images that are not in the rankings of some queries."""
        places = torch.tensor(chosen, dtype=torch.long)
        mask = torch.full((len(chosen), len(self.labels)), self.sets.gallery is not None)
        if self.sets.gallery is None:
            return mask.scatter_(1, places[:, None], True)
        junk = self.sets.left_out(places, torch.from_numpy(self.labels))
        mask[:, self.sets.gallery] = torch.tensor(False) if junk is None else junk
        return mask

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


def nearest(queries: Tensor, embeddings: Tensor, left_out: Tensor) -> Tensor:
    """Rows (Q, 5) of the nearest embeddings (N, D), nearest first, without those that the mask (Q, N) leaves out."""
    distances = torch.cdist(queries.double(), embeddings.double()).masked_fill_(left_out, torch.inf)
    return distances.sort(dim=1, stable=True).indices[:, :NEAREST]
