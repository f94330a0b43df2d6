"""Queries and gallery as two sets on a small float64 model, with distractors and cameras, and what counts for each."""

import torch
import torch.nn.functional as F
from torch import nn

from stages.core.sets import Sets

DISTRACTOR = 9  # a class of the gallery that has no query


class Galleries:
    """26 queries and 60 gallery images of four classes, mixed in one array, and 10 distractors."""

    def __init__(self, cameras: bool, seed: int = 0):
        draw = torch.Generator().manual_seed(seed)
        order = torch.randperm(96, generator=draw)
        self.queries, self.gallery = order[:26], order[26:].sort().values
        self.labels = torch.arange(96) % 4
        self.labels[self.gallery[::7]] = DISTRACTOR
        taken = torch.randint(3, (96,), generator=draw)
        self.cameras = taken if cameras else None
        self.sets = Sets(self.queries, self.gallery, self.cameras)
        centers = torch.rand(10, 1, 4, 4, generator=draw, dtype=torch.float64)
        noise = torch.rand(96, 1, 4, 4, generator=draw, dtype=torch.float64)
        self.images = 0.4 * centers[self.labels] + 0.6 * noise
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 6)).double()
        self.embed = lambda images: F.normalize(network(images), dim=1)
        with torch.no_grad():
            self.embeddings = self.embed(self.images)

    def ranked(self, query: int) -> list[int]:
        """Rows of the gallery images that count for the query in a row of the array."""
        return [row for row in self.gallery.tolist() if not self.is_junk(query, row)]

    def is_junk(self, query: int, row: int) -> bool:
        """Whether a gallery image shows the query's class from the query's camera."""
        if self.cameras is None:
            return False
        return bool(self.labels[row] == self.labels[query] and self.cameras[row] == self.cameras[query])

    def distance(self, one, other) -> float:
        """Plain distance of two embeddings, or of images in rows of the array."""
        points = [self.embeddings[point] if isinstance(point, int) else point for point in (one, other)]
        return (points[0] - points[1]).norm().item()
