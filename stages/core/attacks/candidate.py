"""Candidate attacks: a perturbed candidate climbs (CA+) or sinks (CA-) in a query's ranking (method.md 3.1, 3.2)."""

from functools import partial

from torch import Tensor

from stages.core.attacks.base import (
    TEMPERATURE,
    Attack,
    AttackBatch,
    Measured,
    Ranking,
    Values,
    anywhere,
    nearby,
    nearby_count,
    percentile_rank,
    plain_distance,
)
from stages.core.neighbors import soft_hinges, sums


def ranking(batch: AttackBatch) -> Ranking:
    """The rankings (B,) of the targets, which are the queries here: what the perturbed candidates are ranked among."""
    return batch.gallery.turned().whole(batch.targets)


def objective(batch: AttackBatch, *, sign: int) -> Values:
    """mean_x [sign * (d(q, c~) - d(q, x))]+ over the ranking of q; sign +1 for CA+, -1 for CA-.

    Only c~ moves: with the count and the summed distances of the items that the hinge lets through, the mean is
    sign * (count * d(q, c~) - sum) / N.
    """
    query, (rows, admitted, size) = batch.target(), ranking(batch)

    def values(embeddings: Tensor, step: int) -> Tensor:
        to_candidate = plain_distance(query, embeddings)
        through = sums(query, rows, to_candidate, beyond=sign < 0, slope=False, admitted=admitted)
        return sign * (through.number * to_candidate - through.total) / size

    return values


def smooth_objective(batch: AttackBatch, *, sign: int) -> Values:
    """``objective`` with softplus for the hinge."""
    query, (rows, admitted, size) = batch.target(), ranking(batch)

    def values(embeddings: Tensor, step: int) -> Tensor:
        to_candidate = plain_distance(query, embeddings)
        hinges = soft_hinges(query, rows, to_candidate, sign=sign, temperature=TEMPERATURE, admitted=admitted)
        return hinges / size

    return values


def measure(batch: AttackBatch, embeddings: Tensor, last_seen: Tensor, *, name: str) -> Measured:
    """Rank of the candidate for its query in percent of N: share of its ranking strictly nearer to the query."""
    query = batch.target()
    strict, half = percentile_rank(query, ranking(batch), plain_distance(query, embeddings))
    return {name: strict, f"{name}_ties_half": half}


ca_plus = Attack(
    anywhere,
    partial(objective, sign=1),
    partial(measure, name="ca_plus"),
    partial(smooth_objective, sign=1),
    perturbs="candidate",
)
ca_minus = Attack(
    nearby,
    partial(objective, sign=-1),
    partial(measure, name="ca_minus"),
    partial(smooth_objective, sign=-1),
    perturbs="candidate",
    needs=nearby_count,
)
