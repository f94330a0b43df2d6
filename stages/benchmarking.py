"""The benchmark as a Python call: a model and two arrays in, a table out; no files and no params.yaml."""

import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from stages.core.attacks import ATTACKS
from stages.core.defenses.own import own as width
from stages.core.directions import metrics_of
from stages.core.evaluation_checks import unattacked
from stages.core.models import Embedder, OwnModel
from stages.core.scores import STANDARD_ATTACKS
from stages.core.stats import percentile_interval
from stages.core.training import TrainingError
from stages.models import attacking, evaluation
from stages.models.arrays import Given, checked
from stages.models.inference import embed_split
from stages.reporting import strong
from stages.reporting.scoring import Queries, metric_name, scores
from stages.runtime.errors import ParameterError, UserError, printable
from stages.runtime.params import attacks_without_file

STRONG_ATTACKS = tuple(f"{name}_strong" for name in STANDARD_ATTACKS)


def benchmark(
    model: nn.Module,
    images: ArrayLike | Tensor,
    labels: ArrayLike | Tensor,
    *,
    eps: float,
    attacks: Iterable[str] | Mapping[str, Mapping[str, Any]] = STANDARD_ATTACKS,
    alpha: float | None = None,
    steps: int | None = None,
    seed: int = 0,
    attack_batch: int = 112,
    attack_queries: int | str = "all",
    image_ids: ArrayLike | None = None,
    dataset: str = "benchmark",
    gallery_images: ArrayLike | Tensor | None = None,
    gallery_labels: ArrayLike | Tensor | None = None,
    gallery_ids: ArrayLike | None = None,
    cameras: ArrayLike | Tensor | None = None,
    gallery_cameras: ArrayLike | Tensor | None = None,
) -> pd.DataFrame:
    """Benign retrieval metrics, sub-scores and ERS of a model, as the pipeline measures them.

    Every image is a query among all others, or with ``gallery_images`` in that gallery. ``model`` maps images
    (B, C, H, W) in [0, 1] to embeddings (B, D) of any length, pixel normalization inside; it is put into evaluation
    mode meanwhile, and computes where its weights are.

    Args:
        model: the network.
        images: numpy or torch, (N, C, H, W) or (N, H, W, C) with C 1 or 3; uint8, or float in [0, 1].
        labels: (N,) whole numbers.
        eps: L-infinity budget of the attacks, in pixels in [0, 1].
        attacks: names of attack blocks of the papers in workflow/papers, or entries of ``stages.core.attacks.ATTACKS``
            at the protocol's strength; ERS needs the nine standard ones, the default, and ERS (strong) also those in
            ``STRONG_ATTACKS``. Or blocks by name, in the words of params.yaml, which extend or change such blocks, as
            in ``{"ltm": {}, "hard": {"extends": "ltm", "optimizer": "apgd", "restarts": 5}}``.
        alpha: step size in pixels in [0, 1], at most eps, for all blocks but members of suites that do not give
            ``alpha_over_eps`` here; 3/8 of eps in the protocol.
        steps: the same of the number of steps; 32 in the protocol.
        seed: draws the targets of the attacks.
        attack_batch: images attacked at a time; no effect on results beyond rounding.
        attack_queries: "all", or how many images are attacked, drawn by their ids.
        image_ids: (N,) different whole numbers, which name the images in draws; 0 to N - 1 by default.
        dataset: names the resamples of the bootstrap, so that models of one name are resampled jointly, and chooses
            values of blocks that differ by dataset.
        gallery_images: the gallery (G, ...) where it is a set of its own, as ``images``; those are the queries then.
        gallery_labels: (G,). Every query's class must be there; other classes are distractors.
        gallery_ids: (G,), as ``image_ids``, and different from those; the next numbers by default.
        cameras: (N,) whole numbers. With them a query's ranking leaves out gallery images of its class and camera.
        gallery_cameras: (G,).

    Returns:
        One row per metric, by its key in scores.csv: ``value``, and ``low`` and ``high`` of the 95 % bootstrap interval
        over queries, NaN for what is no mean over queries and for single members of a suite (``ltm:ltm_strong@apgd``).
        In percent, but for ``tma`` (a cosine), ``es_d`` and ``spread`` (distances in [0, 2]).

    Raises:
        ValueError: an argument cannot be used; says which and why.
    """
    require_counts(attack_queries, attack_batch)
    blocks = blocks_of(attacks, eps, alpha, steps, dataset)
    queries = Given(images, labels, image_ids, cameras)
    test = checked(queries, Given(gallery_images, gallery_labels, gallery_ids, gallery_cameras))
    with frozen(model) as (embed, device):
        load = test.loader(device)
        try:
            width(embed, load(torch.arange(2)))
        except TrainingError as error:
            raise ValueError(f"model: {error}") from None
        embeddings = embed_split(embed, load, len(test.labels))
        if len(bad := (~embeddings.isfinite().all(dim=1)).nonzero()):
            raise ValueError(f"model: gives embeddings that are not finite numbers, first for image {int(bad[0])}")
        per_query, benign = evaluation.benign(embeddings, test.labels, test.sets)
        seen = {kind: test.perturbed(kind, embeddings, device) for kind in ("query", "candidate")}
        tables = {
            name: attack(
                attacking.AttackConfig.of(block, eps, seed),
                embed,
                seen[ATTACKS[block["attack"]].perturbs],
                attack_queries,
                attack_batch,
            )
            for name, block in blocks.items()
        }
    for line in [*weak(tables), *strong.doubts("", blocks, tables, {})]:
        warnings.warn(f"attack {line}", stacklevel=2)
    return estimates(benign, per_query, blocks, tables, dataset)


def require_counts(attack_queries: int | str, attack_batch: int) -> None:
    """Refuse numbers of images that are none.

    Raises:
        ValueError: names the argument.
    """
    whole: dict[str, Any] = {"attack_batch": attack_batch}
    if not (isinstance(attack_queries, str) and attack_queries == "all"):
        whole["attack_queries"] = attack_queries
    for name, given in whole.items():
        if not isinstance(given, Integral) or isinstance(given, bool) or given < 1:
            also = ', nor "all"' if name == "attack_queries" else ""
            raise ValueError(f"{name}: {shown(given)} is no whole number of at least 1{also}")


def shown(given: object) -> str:
    """An argument as messages quote it, in one line."""
    return printable(f"{given!r:.100}")


def within(given: Any, most: Any) -> bool:
    """Whether something is a number above 0 and at most ``most``."""
    try:
        return bool(0 < given <= most)
    except (TypeError, ValueError, RuntimeError):  # a text, or several numbers in an array or a tensor
        return False


def blocks_of(
    attacks: Iterable[str] | Mapping[str, Mapping[str, Any]],
    eps: float,
    alpha: float | None,
    steps: int | None,
    dataset: str,
) -> dict[str, dict[str, Any]]:
    """The blocks of the attacks that a call of ``benchmark`` asks for, by name.

    Raises:
        ValueError: one of the arguments cannot be used; says which and why.
    """
    if not within(eps, 1):
        raise ValueError(f"eps: {shown(eps)} is not above 0 and at most 1; pixels are in [0, 1]")
    if alpha is not None and not within(alpha, eps):
        raise ValueError(f"alpha: {shown(alpha)} is not above 0 and at most eps, {eps}")
    if not isinstance(attacks, Mapping):
        names = list(attacks) if isinstance(attacks, Iterable) and not isinstance(attacks, str) else [None]
        if not all(isinstance(name, str) for name in names):
            raise ValueError(f"attacks: {shown(attacks)} is no list of names and no mapping of names to blocks")
        attacks = {str(name): {} for name in names}
    changes = {"steps": steps, "alpha_over_eps": None if alpha is None else alpha / eps}
    given = {key: value for key, value in changes.items() if value is not None}
    try:
        return attacks_without_file(attacks, given, dataset)
    except (ParameterError, UserError) as fault:
        raise ValueError(printable(str(fault))) from None


def weak(tables: Mapping[str, pd.DataFrame]) -> list[str]:
    """Signs that attacks did not attack, from the per-query values of each."""
    return [f"{name}: {why}" for name, table in tables.items() for why in unattacked(attacking.checks_of(table))]


def estimates(
    benign: dict[str, float],
    per_query: pd.DataFrame,
    blocks: strong.Blocks,
    tables: dict[str, pd.DataFrame],
    dataset: str,
) -> pd.DataFrame:
    """All metrics with their intervals, from benign values and the per-query values of each attack."""
    strongest = {name: strong.strongest(name, blocks, tables, {}) for name in tables}
    before, after = (
        pd.DataFrame(
            {
                metric_name(metric, name): table[f"{metric}_{when}"]
                for name, table in strongest.items()
                for metric in metrics_of(table)
            }
        )
        for when in ("before", "after")
    )
    values, draws = scores(benign, Queries(per_query, before, after), dataset)
    values |= strong.by_member(blocks, tables)
    intervals = {name: percentile_interval(found) for name, found in draws.items()}
    rows = {name: (value, *intervals.get(name, (np.nan, np.nan))) for name, value in values.items()}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["value", "low", "high"]).rename_axis("metric")


def attack(
    config: attacking.AttackConfig, embed: nn.Module, test: attacking.ImageSet, queries: int | str, size: int
) -> pd.DataFrame:
    """Per-query values of one attack.

    Raises:
        ValueError: the test set is too small for it.
    """
    chosen, done = attacking.Queries.of(test.ids, queries), attacking.Attacked([], [])
    if lacks := attacking.lacking(config.attack, test, chosen.rows):
        raise ValueError(f"attacks: {lacks}")
    for _ in attacking.attack_batches(config, embed, test, chosen.batches(size), set(), done):
        pass
    return done.table(test.ids, chosen.rows)


@contextmanager
def frozen(model: nn.Module) -> Iterator[tuple[nn.Module, torch.device]]:
    """``model`` with embeddings of unit norm, in evaluation mode and without gradients of its weights while the block
    runs, and its device."""
    if not isinstance(model, nn.Module):
        raise ValueError(f"model: {type(model).__name__}; give a torch.nn.Module")
    modes = {module: module.training for module in model.modules()}
    wanted = {parameter: parameter.requires_grad for parameter in model.parameters()}
    first = next(chain(model.parameters(), model.buffers()), None)
    try:
        model.eval().requires_grad_(False)
        yield (
            (model if isinstance(model, Embedder | OwnModel) else OwnModel(model)),
            (torch.device("cpu") if first is None else first.device),
        )
    finally:
        for module, training in modes.items():
            module.training = training
        for parameter, gradient in wanted.items():
            parameter.requires_grad_(gradient)
