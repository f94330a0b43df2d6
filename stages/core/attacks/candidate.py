"""Candidate attacks: a perturbed candidate climbs (CA+) or sinks (CA-) in a query's ranking (method.md 3.1, 3.2)."""

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
    percentile_rank,
    plain_distance,
    plain_distances,
)


def objective(problem: Problem, *, sign: int) -> Values:
    """mean_x [sign * (d(q, c~) - d(q, x))]+ over the whole gallery; sign +1 for CA+, -1 for CA-."""
    query = problem.target()
    to_gallery = plain_distances(query, problem.gallery.embeddings)

    def values(embeddings: Tensor, step: int) -> Tensor:
        to_candidate = plain_distance(query, embeddings)
        return F.relu(sign * (to_candidate[:, None] - to_gallery)).mean(dim=1)

    return values


def measure(problem: Problem, embeddings: Tensor, last_seen: Tensor, *, name: str) -> Measured:
    """Rank of the candidate for its query in percent of N: share of the gallery strictly nearer to the query."""
    query = problem.target()
    to_gallery = plain_distances(query, problem.gallery.embeddings)
    strict, half = percentile_rank(to_gallery, plain_distance(query, embeddings))
    return {name: strict, f"{name}_ties_half": half}


ca_plus = Attack(anywhere, partial(objective, sign=1), partial(measure, name="ca_plus"))
ca_minus = Attack(nearby, partial(objective, sign=-1), partial(measure, name="ca_minus"))
