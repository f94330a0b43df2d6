"""Query attacks: a perturbed query lifts (QA+, GTT) or sinks (QA-, GTT) a candidate (method.md 3.3, 3.4, 3.9)."""

from functools import partial

from torch import Tensor

from stages.core.attacks.base import (
    Attack,
    Measured,
    Problem,
    Values,
    anywhere,
    nearby,
    nearest_other,
    percentile_rank,
    plain_distance,
)
from stages.core.neighbours import anything_but, count_nearer, summed_distances, sums


def objective(problem: Problem, *, sign: int) -> Values:
    """mean_x [sign * (d(q~, c) - d(q~, x))]+ over the whole gallery; sign +1 for QA+, -1 for QA- and GTT.

    With the count and the summed distances of the items that the hinge lets through, the mean is
    sign * (count * d(q~, c) - sum) / N, and so is its gradient.
    """
    candidate, rows = problem.target(), problem.gallery.rows

    def values(embeddings: Tensor, step: int) -> Tensor:
        to_candidate = plain_distance(embeddings, candidate)
        through = sums(embeddings, rows, to_candidate, beyond=sign < 0, slope=embeddings.requires_grad)
        total = summed_distances(embeddings, through)
        return sign * (through.number * to_candidate - total) / len(rows.points)

    return values


def measure_rank(problem: Problem, embeddings: Tensor, last_seen: Tensor, *, name: str) -> Measured:
    """0-based rank of the candidate for the query in percent of N."""
    strict, half = percentile_rank(embeddings, problem.gallery, plain_distance(embeddings, problem.target()))
    return {name: strict, f"{name}_ties_half": half}


def measure_retained(problem: Problem, embeddings: Tensor, last_seen: Tensor) -> Measured:
    """GTT: 100 where the clean top-1 item is still among the four nearest, self removed, else 0."""
    to_candidate = plain_distance(embeddings, problem.target())
    nearer, _ = count_nearer(embeddings, problem.gallery.rows, to_candidate, anything_but(problem.items))
    return {"gtt": 100 * (nearer < 4).double()}


qa_plus = Attack(anywhere, partial(objective, sign=1), partial(measure_rank, name="qa_plus"))
qa_minus = Attack(nearby, partial(objective, sign=-1), partial(measure_rank, name="qa_minus"))
gtt = Attack(nearest_other, partial(objective, sign=-1), measure_retained)
