"""Query attacks: a perturbed query lifts (QA+, GTT) or sinks (QA-, GTT) a candidate (method.md 3.3, 3.4, 3.9)."""

from functools import partial

from torch import Tensor

from stages.core.attacks.base import (
    Attack,
    AttackBatch,
    Measured,
    Values,
    anywhere,
    nearby,
    nearest_other,
    percentile_rank,
    plain_distance,
)
from stages.core.neighbors import anything_but, count_nearer, summed_distances, sums


def objective(batch: AttackBatch, *, sign: int) -> Values:
    """mean_x [sign * (d(q~, c) - d(q~, x))]+ over the whole gallery; sign +1 for QA+, -1 for QA- and GTT.

    With the count and the summed distances of the items that the hinge lets through, the mean is
    sign * (count * d(q~, c) - sum) / N, and so is its gradient.
    """
    candidate, rows = batch.target(), batch.gallery.rows

    def values(embeddings: Tensor, step: int) -> Tensor:
        to_candidate = plain_distance(embeddings, candidate)
        through = sums(embeddings, rows, to_candidate, beyond=sign < 0, slope=embeddings.requires_grad)
        total = summed_distances(embeddings, through)
        return sign * (through.number * to_candidate - total) / len(rows.points)

    return values


def measure_rank(batch: AttackBatch, embeddings: Tensor, last_seen: Tensor, *, name: str) -> Measured:
    """0-based rank of the candidate for the query in percent of N."""
    strict, half = percentile_rank(embeddings, batch.gallery, plain_distance(embeddings, batch.target()))
    return {name: strict, f"{name}_ties_half": half}


def measure_retained(batch: AttackBatch, embeddings: Tensor, last_seen: Tensor) -> Measured:
    """GTT: 100 where the clean top-1 item is still among the four nearest, self removed, else 0."""
    to_candidate = plain_distance(embeddings, batch.target())
    nearer, _ = count_nearer(embeddings, batch.gallery.rows, to_candidate, anything_but(batch.items))
    return {"gtt": 100 * (nearer < 4).double()}


qa_plus = Attack(anywhere, partial(objective, sign=1), partial(measure_rank, name="qa_plus"))
qa_minus = Attack(nearby, partial(objective, sign=-1), partial(measure_rank, name="qa_minus"))
gtt = Attack(nearest_other, partial(objective, sign=-1), measure_retained)
