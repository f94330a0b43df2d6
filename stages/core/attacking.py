"""Run one attack on one batch of test images, at a chosen strength, and check that it really attacked."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from stages.core.attacks.base import Attack, AttackBatch, Measured, Values
from stages.core.directions import direction
from stages.core.search import BLACK_BOX, OPTIMIZERS, STARTS
from stages.core.search.base import Task


class Strength(NamedTuple):
    """How hard an attack tries, whatever it attacks; the default is the protocol's (method.md 1.6).

    ``optimizer``: a name in OPTIMIZERS. ``start``: one in STARTS. ``restarts``: how many times the search begins, after
    the first time at random; each query keeps its worst. ``surrogate``: one in SURROGATES, what the search minimizes.
    """

    optimizer: str = "sign"
    start: str = "clean"
    restarts: int = 1
    surrogate: str = "none"

    @classmethod
    def of(cls, block: Mapping[str, Any]) -> "Strength":
        """That of an attack block, or of a member of its suite; what it leaves out is as in the protocol."""
        return cls(**{key: block[key] for key in cls._fields if key in block})


PROTOCOL = Strength()


class Attacked(NamedTuple):
    """Per-item results of one batch, each (B,).

    ``before`` and ``after`` are measured on the clean and on the perturbed items with the same targets.
    ``objective_*`` is the attack's own minimized value at the start and at the end, ``largest_change`` the L-infinity
    norm of the perturbation in [0, 1], ``zero_gradients`` the share of pixels and steps whose gradient was exactly
    zero, 0 where no gradient was asked for.
    """

    images: Tensor
    before: Measured
    after: Measured
    objective_before: Tensor
    objective_after: Tensor
    largest_change: Tensor
    zero_gradients: Tensor


def run(
    attack: Attack,
    embed: Callable[[Tensor], Tensor],
    images: Tensor,
    batch: AttackBatch,
    *,
    eps: float,
    alpha: float,
    steps: int,
    strength: Strength = PROTOCOL,
    generators: Sequence[torch.Generator] = (),
) -> Attacked:
    """Perturb ``images`` (B, C, H, W), the batch's items, within ``eps`` by ``steps`` steps of a search.

    ``embed`` must be in evaluation mode. Each item's result depends on that item alone: the objective is a sum of
    per-item values, so the batch it travels in cannot matter beyond rounding; what is drawn at random comes from the
    item's own generator.

    Raises:
        ValueError: the strength draws at random and there is not one generator per item.
    """
    values, size = SURROGATES[strength.surrogate](attack)(batch), images[0].numel()
    draws = strength.start == "random" or strength.restarts > 1 or strength.optimizer in BLACK_BOX
    if draws and len(generators) != len(images):
        raise ValueError(f"{len(images)} images need one generator each, not {len(generators)}")
    last_seen = batch.clean()
    zeros: list[Tensor] = []
    hooks: list[RemovableHandle] = []

    def watched(perturbed: Tensor) -> Tensor:
        if hooks:  # PGD moves one tensor in place, which would keep the hook of every step and count late steps often
            hooks.pop().remove()
        if perturbed.requires_grad:
            hooks.append(perturbed.register_hook(lambda gradient: zeros.append((gradient == 0).sum(dim=(1, 2, 3)))))
        return embed(perturbed)

    def seen(embeddings: Tensor, step: int) -> Tensor:
        nonlocal last_seen
        last_seen = embeddings.detach()
        return values(embeddings, step)

    search, task = OPTIMIZERS[strength.optimizer], Task(watched, images, seen, images, eps, alpha, steps, generators)
    results = []
    for restart in range(strength.restarts):
        zeros.clear()
        start = STARTS["random" if restart else strength.start](task)
        adversarial = search(task._replace(start=start))
        # Only the protocol's loop ends with a step whose result it has not seen (quirk Q9).
        result = measured(
            attack, embed, images, adversarial, batch, last_seen if strength.optimizer == "sign" else None
        )
        share = sum(zeros, torch.zeros(len(images), device=images.device)) / max(1, len(zeros) * size)
        results.append(result._replace(zero_gradients=share))
    return worst_of(results)


def measured(
    attack: Attack,
    embed: Callable[[Tensor], Tensor],
    images: Tensor,
    adversarial: Tensor,
    batch: AttackBatch,
    last_seen: Tensor | None = None,
) -> Attacked:
    """Results of given perturbed images (B, C, H, W), found on this model or transferred from another.

    ``embed``, and the gallery and the targets in ``batch``, are those of the model that is measured. ``last_seen``
    (B, D) are the embeddings before the last step, which ES:D is published for; the final ones where it is None.
    """
    values, clean = attack.objective(batch), batch.clean()
    with torch.no_grad():
        final = embed(adversarial)
        return Attacked(
            images=adversarial,
            before=attack.measure(batch, clean, clean),
            after=attack.measure(batch, final, final if last_seen is None else last_seen),
            objective_before=values(clean, -1),
            objective_after=values(final, -1),
            largest_change=(adversarial - images).abs().amax(dim=(1, 2, 3)),
            zero_gradients=torch.zeros(len(images), device=images.device),
        )


def worst_of(runs: Sequence[Attacked]) -> Attacked:
    """Several runs of one attack on one batch as one: for each query the attack's best.

    Each metric is the best for the attack over the runs, by itself, so no query comes out stronger than in
    any single run. The image, and what belongs to it, comes from the run that is best by the first metric, then by
    the objective. By what is measured, since the objective can fall in a run that ranks worse.
    """
    if len(runs) == 1:
        return runs[0]
    after = {name: _worst(name, [run.after[name] for run in runs]) for name in runs[0].after}
    first = next(iter(after))
    tied = torch.stack([run.after[first] == after[first] for run in runs])
    objectives = torch.stack([run.objective_after for run in runs])
    best = objectives.masked_fill(~tied, torch.inf).argmin(dim=0)
    own = torch.arange(len(best), device=best.device)
    return Attacked(
        images=torch.stack([run.images for run in runs])[best, own],
        before=runs[0].before,
        after=after,
        objective_before=runs[0].objective_before,
        objective_after=objectives[best, own],
        largest_change=torch.stack([run.largest_change for run in runs])[best, own],
        zero_gradients=torch.stack([run.zero_gradients for run in runs]).mean(dim=0),
    )


def _worst(metric: str, values: Sequence[Tensor]) -> Tensor:
    each = torch.stack(list(values))
    return each.amax(dim=0) if direction(metric) > 0 else each.amin(dim=0)


def own_objective(attack: Attack) -> Callable[[AttackBatch], Values]:
    """What the attack minimizes by itself."""
    return attack.objective


def smooth_objective(attack: Attack) -> Callable[[AttackBatch], Values]:
    """Its objective with softplus for the hinge, or the objective itself where it has none."""
    return attack.smooth or attack.objective


def shares(objective_before: ArrayLike, objective_after: ArrayLike, zero_gradients: ArrayLike) -> dict[str, float]:
    """Of the values (Q,) of each query: the share whose objective ended lower, ``improved``, and of those with mostly
    zero gradients whose objective did not, ``stuck``."""
    improved = np.asarray(objective_after) < np.asarray(objective_before)
    stuck = ~improved & (np.asarray(zero_gradients) > 0.5)
    return {"improved": float(improved.mean()), "stuck": float(stuck.mean())}


SURROGATES: dict[str, Callable[[Attack], Callable[[AttackBatch], Values]]] = {
    "none": own_objective,
    "softplus": smooth_objective,
}
