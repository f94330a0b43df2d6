"""The benchmark as a Python call: a model and two arrays in, a table out; no files and no params.yaml."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from stages.core.attacks import ATTACKS
from stages.core.defenses.own import own as width
from stages.core.directions import metrics_of
from stages.core.models import Embedder, OwnModel
from stages.core.scores import STANDARD_ATTACKS
from stages.core.stats import percentile_interval
from stages.core.training import TrainingError
from stages.models import attacking, evaluation
from stages.models.arrays import Given, checked
from stages.models.inference import embed_split
from stages.reporting.doubts import doubtful
from stages.reporting.scoring import Queries, metric_name, scores


def benchmark(
    model: nn.Module,
    images: ArrayLike | Tensor,
    labels: ArrayLike | Tensor,
    *,
    eps: float,
    attacks: Sequence[str] = STANDARD_ATTACKS,
    alpha: float | None = None,
    steps: int = 32,
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
        attacks: names from ``stages.core.attacks.ATTACKS``; ERS needs the nine standard ones, the default.
        alpha: PGD step size in pixels in [0, 1]; 3/8 of eps by default.
        steps: PGD steps.
        seed: draws the targets of the attacks.
        attack_batch: images attacked at a time; no effect on results beyond rounding.
        attack_queries: "all", or how many images are attacked, drawn by their ids.
        image_ids: (N,) different whole numbers, which name the images in draws; 0 to N - 1 by default.
        dataset: names the resamples of the bootstrap; models of one name are resampled jointly.
        gallery_images: the gallery (G, ...) where it is a set of its own, as ``images``; those are the queries then.
        gallery_labels: (G,). Every query's class must be there; other classes are distractors.
        gallery_ids: (G,), as ``image_ids``, and different from those; the next numbers by default.
        cameras: (N,) whole numbers. With them a query's ranking leaves out gallery images of its class and camera.
        gallery_cameras: (G,).

    Returns:
        One row per metric, by its key in scores.csv: ``value``, and ``low`` and ``high`` of the 95 % bootstrap interval
        over queries, NaN for what is no mean over queries. In percent, but for ``tma`` (a cosine), ``es_d`` and
        ``spread`` (distances in [0, 2]).

    Raises:
        ValueError: an argument cannot be used; says which and why.
    """
    unknown = [name for name in attacks if name not in ATTACKS]
    if unknown:
        raise ValueError(f"attacks: {unknown[0]!r} is not there; choose from {', '.join(ATTACKS)}")
    for name, number in {"eps": eps, "alpha": eps if alpha is None else alpha}.items():
        if not 0 < number <= 1:
            raise ValueError(f"{name}: {number} is not above 0 and at most 1; pixels are in [0, 1]")
    queries = Given(images, labels, image_ids, cameras)
    test = checked(queries, Given(gallery_images, gallery_labels, gallery_ids, gallery_cameras))
    config = attacking.AttackConfig("", eps, 3 / 8 * eps if alpha is None else alpha, steps, seed)
    with frozen(model) as (embed, device):
        load = test.loader(device)
        try:
            width(embed, load(torch.arange(2)))
        except TrainingError as error:
            raise ValueError(f"model: {error}") from None
        embeddings = embed_split(embed, load, len(test.labels))
        per_query, benign = evaluation.benign(embeddings, test.labels, test.sets)
        seen = {kind: test.perturbed(kind, embeddings, device) for kind in ("query", "candidate")}
        tables = {
            name: attack(
                config._replace(attack=name), embed, seen[ATTACKS[name].perturbs], attack_queries, attack_batch
            )
            for name in attacks
        }
    return estimates(benign, per_query, tables, dataset)


def estimates(
    benign: dict[str, float], per_query: pd.DataFrame, tables: dict[str, pd.DataFrame], dataset: str
) -> pd.DataFrame:
    """All metrics with their intervals, from benign values and the per-query values of each attack."""
    before, after = (
        pd.DataFrame(
            {
                metric_name(metric, name): table[f"{metric}_{when}"]
                for name, table in tables.items()
                for metric in metrics_of(table)
            }
        )
        for when in ("before", "after")
    )
    values, draws = scores(benign, Queries(per_query, before, after), dataset)
    intervals = {name: percentile_interval(found) for name, found in draws.items()}
    rows = {name: (value, *intervals.get(name, (np.nan, np.nan))) for name, value in values.items()}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["value", "low", "high"]).rename_axis("metric")


def attack(
    config: attacking.AttackConfig, embed: nn.Module, test: attacking.ImageSet, queries: int | str, size: int
) -> pd.DataFrame:
    """Per-query values of one attack; warns where it may not have attacked."""
    chosen, done = attacking.Queries.of(test.ids, queries), attacking.Attacked([], [])
    for _ in attacking.attack_batches(config, embed, test, chosen.batches(size), set(), done):
        pass
    table = done.table(test.ids, chosen.rows)
    if why := doubtful(attacking.checks_of(table)):
        warnings.warn(f"attack {config.attack}: {why}", stacklevel=3)
    return table


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
