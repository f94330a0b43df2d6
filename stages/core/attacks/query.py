"""Query attacks: a perturbed query moves one candidate or reorders several (method.md 3.3, 3.4, 3.9 and 10).

QA and GTT lift or sink one candidate; SPQA does so while the query's own top items stay on top; the order
attack turns the query's nearest items into an order of the attacker's choice.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.core.attacks.base import (
    TEMPERATURE,
    Attack,
    AttackBatch,
    Gallery,
    Measured,
    Ranking,
    Values,
    anywhere,
    nearby,
    nearby_count,
    nearest_other,
    percentile_rank,
    plain_distance,
    soft_hinge,
)
from stages.core.neighbors import (
    anything_but,
    both,
    count_nearer,
    nearest,
    soft_hinges,
    summed_distances,
    sums,
)

KEPT = 5  # the query's nearest items that SPQA keeps on top, as in the reference
STRICTNESS, HEAVIEST = 4.0, 1e9  # SPQA's weight of the kept items: exp(STRICTNESS * N * violation), at most HEAVIEST
ORDERED, ORDER_WEIGHT = 5, 10.0  # items that the order attack permutes, and the weight of keeping them on top
VISIBLE = 50  # places of the ranking that a black-box order attack sees
Hinges = Callable[..., Tensor]


def mean_hinge(embeddings: Tensor, candidate: Tensor, ranking: Ranking, *, sign: int) -> Tensor:
    """mean_x [sign * (d(q~, c) - d(q~, x))]+ over the rankings of q, (B,), for candidates (B, D).

    With the count and the summed distances of the items that the hinge lets through, the mean is
    sign * (count * d(q~, c) - sum) / N, and so is its gradient.
    """
    to_candidate, (rows, admitted, size) = plain_distance(embeddings, candidate), ranking
    through = sums(embeddings, rows, to_candidate, beyond=sign < 0, slope=embeddings.requires_grad, admitted=admitted)
    total = summed_distances(embeddings, through)
    return sign * (through.number * to_candidate - total) / size


def mean_soft_hinge(embeddings: Tensor, candidate: Tensor, ranking: Ranking, *, sign: int) -> Tensor:
    """``mean_hinge`` with softplus for the hinge."""
    to_candidate, (rows, admitted, size) = plain_distance(embeddings, candidate), ranking
    hinges = soft_hinges(embeddings, rows, to_candidate, sign=sign, temperature=TEMPERATURE, admitted=admitted)
    return hinges / size


def objective(batch: AttackBatch, *, sign: int, hinge: Hinges = mean_hinge) -> Values:
    """The mean hinge of the target: sign +1 for QA+, -1 for QA- and GTT."""
    candidate, ranking = batch.target(), batch.ranking()
    return lambda embeddings, step: hinge(embeddings, candidate, ranking, sign=sign)


def measure_rank(batch: AttackBatch, embeddings: Tensor, last_seen: Tensor, *, name: str) -> Measured:
    """0-based rank of the candidate for the query in percent of N."""
    strict, half = percentile_rank(embeddings, batch.ranking(), plain_distance(embeddings, batch.target()))
    return {name: strict, f"{name}_ties_half": half}


def measure_retained(batch: AttackBatch, embeddings: Tensor, last_seen: Tensor) -> Measured:
    """GTT: 100 where the clean top-1 item is still among the four nearest, self removed, else 0."""
    to_candidate = plain_distance(embeddings, batch.target())
    nearer, _ = count_nearer(embeddings, batch.gallery.rows, to_candidate, batch.others())
    return {"gtt": 100 * (nearer < 4).double()}


def held(embeddings: Tensor, points: Sequence[Tensor], ranking: Ranking) -> Tensor:
    """L_QA+ of several items, each (B, D): the mean of their QA+ objectives, (B,), 0 where they lead."""
    terms = (mean_hinge(embeddings, point, ranking, sign=1) for point in points)
    return torch.stack(list(terms)).mean(dim=0)


def mean_rank(embeddings: Tensor, points: Sequence[Tensor], ranking: Ranking) -> Tensor:
    """Mean 0-based rank of several items, each (B, D), for each query in percent of N, (B,)."""
    limits = (plain_distance(embeddings, point) for point in points)
    return torch.stack([percentile_rank(embeddings, ranking, limit)[0] for limit in limits]).mean(dim=0)


def columns_of(batch: AttackBatch, rows: Tensor) -> list[Tensor]:
    """Clean embeddings (B, D) of each column of some gallery rows (B, M)."""
    return [batch.gallery.embeddings[column] for column in rows.T]


def kept_items(batch: AttackBatch, *, sign: int) -> Tensor:
    """SPQA's kept items, gallery rows (B, 5): the query's nearest others; SPQA- leaves its target out."""
    gallery, others = batch.gallery, batch.others()
    admitted = others if sign > 0 else both(others, anything_but(batch.targets))
    count = min(KEPT, len(gallery.labels) - (1 if sign > 0 else 2))
    return nearest(batch.clean(), gallery.rows, count, admitted)


def semantics_preserving(batch: AttackBatch, *, sign: int, hinge: Hinges = mean_hinge) -> Values:
    """SPQA: L_QA + xi * L_QA+(kept items), xi = min(exp(4 N * L_QA+(kept items)), 1e9) without gradient.

    The reference's scheme as it is on Fashion-MNIST (N = 10,000). The weight is each item's own, where the reference
    has one for the batch, so that items do not depend on each other (method.md 10).
    """
    move, ranking = objective(batch, sign=sign, hinge=hinge), batch.ranking()
    kept = columns_of(batch, kept_items(batch, sign=sign))
    strictness = STRICTNESS * len(batch.gallery.labels)

    def values(embeddings: Tensor, step: int) -> Tensor:
        violation = held(embeddings, kept, ranking)
        weight = (strictness * violation.detach()).clamp(max=math.log(HEAVIEST)).exp()
        return move(embeddings, step) + weight * violation

    return values


def measure_preserved(batch: AttackBatch, embeddings: Tensor, last_seen: Tensor, *, name: str, sign: int) -> Measured:
    """Rank of the candidate as in QA, and the mean rank of the kept items, all in percent of N."""
    ranks = measure_rank(batch, embeddings, last_seen, name=name)
    kept = columns_of(batch, kept_items(batch, sign=sign))
    return ranks | {f"{name}_kept": mean_rank(embeddings, kept, batch.ranking())}


def permuted_nearest(gallery: Gallery, items: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """The five nearest others of each item as gallery rows (B, 5), in a random order: the one the attacker wants."""
    count = min(ORDERED, len(gallery.labels) - 1)
    near = nearest(gallery.perturbed().embeddings[items], gallery.rows, count, gallery.others(items))
    wanted = torch.stack([torch.randperm(count, generator=g) for g in generators]).to(items)
    return near.gather(1, wanted)


def order_gaps(batch: AttackBatch, embeddings: Tensor) -> Tensor:
    """d(q~, c_i) - d(q~, c_j) of all pairs i < j of the wanted order, (B, M (M - 1) / 2): negative where it holds."""
    points = columns_of(batch, batch.targets)
    distances = torch.stack([plain_distance(embeddings, point) for point in points], dim=1)
    first, second = torch.triu_indices(distances.shape[1], distances.shape[1], offset=1, device=distances.device)
    return distances[:, first] - distances[:, second]


def order_objective(batch: AttackBatch, *, hinge: Callable[[Tensor], Tensor] = F.relu) -> Values:
    """Order attack: (1/M^2) sum_{i<j} [d(q~, c_i) - d(q~, c_j)]+ + 10 L_QA+(c_1..c_M)."""
    count, ranking, points = batch.targets.shape[1], batch.ranking(), columns_of(batch, batch.targets)

    def values(embeddings: Tensor, step: int) -> Tensor:
        relative = hinge(order_gaps(batch, embeddings)).sum(dim=1) / count**2
        return relative + ORDER_WEIGHT * held(embeddings, points, ranking)

    return values


def measure_order(batch: AttackBatch, embeddings: Tensor, last_seen: Tensor) -> Measured:
    """Kendall's tau between the wanted order and the one found, in [-1, 1]; 1 is the attacker's order.

    ``order_src`` is the short-range ranking correlation: a pair with an item behind the first 50 places counts as -1.
    ``order_kept`` is the mean rank of the permuted items in percent of N.
    """
    targets, points = batch.targets, columns_of(batch, batch.targets)
    agreeing = -order_gaps(batch, embeddings).sign()
    limits, others = (plain_distance(embeddings, point) for point in points), batch.others()
    ranks = [count_nearer(embeddings, batch.gallery.rows, limit, others)[0] for limit in limits]
    seen = torch.stack(ranks, dim=1) < VISIBLE
    first, second = torch.triu_indices(targets.shape[1], targets.shape[1], offset=1, device=targets.device)
    in_sight = agreeing.where(seen[:, first] & seen[:, second], -1)
    kept = mean_rank(embeddings, points, batch.ranking())
    return {"order": agreeing.mean(dim=1), "order_src": in_sight.mean(dim=1), "order_kept": kept}


def kept_and_target(count: int) -> int:
    """What SPQA- needs of each ranking, of ``count`` items: the kept ones and its target."""
    return max(nearby_count(count), min(KEPT, count - 2) + 1)


def or_all_others(most: int, count: int) -> int:
    """What an attack on ``most`` nearest others needs of each ranking, of ``count`` items: these, or all others."""
    return max(1, min(most, count - 1))


_soft = partial(objective, hinge=mean_soft_hinge)
qa_plus = Attack(anywhere, partial(objective, sign=1), partial(measure_rank, name="qa_plus"), partial(_soft, sign=1))
qa_minus = Attack(
    nearby,
    partial(objective, sign=-1),
    partial(measure_rank, name="qa_minus"),
    partial(_soft, sign=-1),
    needs=nearby_count,
)
gtt = Attack(nearest_other, partial(objective, sign=-1), measure_retained, partial(_soft, sign=-1))
spqa_plus = Attack(
    anywhere,
    partial(semantics_preserving, sign=1),
    partial(measure_preserved, name="spqa_plus", sign=1),
    partial(semantics_preserving, sign=1, hinge=mean_soft_hinge),
    least=2,
    needs=partial(or_all_others, KEPT),
)
spqa_minus = Attack(
    nearby,
    partial(semantics_preserving, sign=-1),
    partial(measure_preserved, name="spqa_minus", sign=-1),
    partial(semantics_preserving, sign=-1, hinge=mean_soft_hinge),
    least=3,
    needs=kept_and_target,
)
order = Attack(
    permuted_nearest,
    order_objective,
    measure_order,
    partial(order_objective, hinge=soft_hinge),
    least=3,
    needs=partial(or_all_others, ORDERED),
)
