"""Query attacks: a perturbed query lifts (QA+, GTT) or sinks (QA-, GTT) a candidate (method.md 3.3, 3.4, 3.9)."""

from functools import partial

import torch.nn.functional as F
from torch import Tensor

from stages.core.attacks.base import (
    Attack,
    Measured,
    Problem,
    Values,
    anywhere,
    nearby,
    nearest,
    percentile_rank,
    plain_distance,
    plain_distances,
    without,
)


def objective(problem: Problem, *, sign: int) -> Values:
    """mean_x [sign * (d(q~, c) - d(q~, x))]+ over the whole gallery; sign +1 for QA+, -1 for QA- and GTT."""

    def values(embeddings: Tensor, step: int) -> Tensor:
        to_gallery = plain_distances(embeddings, problem.gallery.embeddings)
        to_candidate = to_gallery.gather(1, problem.targets[:, None])
        return F.relu(sign * (to_candidate - to_gallery)).mean(dim=1)

    return values


def measure_rank(problem: Problem, embeddings: Tensor, last_seen: Tensor, *, name: str) -> Measured:
    """0-based rank of the candidate for the query in percent of N."""
    to_gallery = plain_distances(embeddings, problem.gallery.embeddings)
    strict, half = percentile_rank(to_gallery, to_gallery.gather(1, problem.targets[:, None]).squeeze(1))
    return {name: strict, f"{name}_ties_half": half}


def measure_retained(problem: Problem, embeddings: Tensor, last_seen: Tensor) -> Measured:
    """GTT: 100 where the clean top-1 item is still among the four nearest, self removed, else 0."""
    to_gallery = without(plain_distances(embeddings, problem.gallery.embeddings), problem.items)
    to_candidate = plain_distance(embeddings, problem.target())
    return {"gtt": 100 * ((to_gallery < to_candidate[:, None]).sum(dim=1) < 4).double()}


qa_plus = Attack(anywhere, partial(objective, sign=1), partial(measure_rank, name="qa_plus"))
qa_minus = Attack(nearby, partial(objective, sign=-1), partial(measure_rank, name="qa_minus"))
gtt = Attack(nearest, partial(objective, sign=-1), measure_retained)
