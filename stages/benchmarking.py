"""The benchmark as a Python call: a model and two arrays in, a table out; no files and no params.yaml."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from stages.core.attacks import ATTACKS
from stages.core.attacks.base import Gallery
from stages.core.defenses.own import own as width
from stages.core.models import Embedder, OwnModel
from stages.core.scores import STANDARD_ATTACKS
from stages.core.stats import percentile_interval
from stages.core.training import TrainingError
from stages.models import attacking, evaluation
from stages.models.inference import embed_split
from stages.reporting.results import doubtful
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
) -> pd.DataFrame:
    """Benign retrieval metrics, sub-scores and ERS of a model, as the pipeline measures them.

    Every image is a query among all others. ``model`` maps images (B, C, H, W) in [0, 1] to embeddings (B, D) of any
    length, pixel normalization inside; it is put into evaluation mode meanwhile, and computes where its weights are.

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
    pixels = checked_pixels(images)
    classes = checked_integers("labels", labels, len(pixels), least=2)
    ids = range(len(pixels)) if image_ids is None else image_ids
    names = checked_integers("image_ids", ids, len(pixels), least=len(pixels))
    config = attacking.AttackConfig("", eps, 3 / 8 * eps if alpha is None else alpha, steps, seed)
    with frozen(model) as (embed, device):
        load = loader(pixels, device)
        try:
            width(embed, load(torch.arange(2)))
        except TrainingError as error:
            raise ValueError(f"model: {error}") from None
        embeddings = embed_split(embed, load, len(classes))
        per_query, benign = evaluation.benign(embeddings, classes)
        gallery = Gallery.of(embeddings.to(device), torch.from_numpy(classes).to(device))
        test = attacking.ImageSet(gallery, names, load)
        tables = {
            name: attack(config._replace(attack=name), embed, test, attack_queries, attack_batch) for name in attacks
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
                for metric in attacking.metrics_of(table)
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


def checked_pixels(images: ArrayLike | Tensor) -> Tensor:
    """Images as a tensor (N, H, W, C) on the CPU, uint8 or float in [0, 1].

    Raises:
        ValueError: they have another shape, type or range.
    """
    pixels = torch.as_tensor(images).detach().cpu()
    shape = tuple(pixels.shape)
    if pixels.ndim != 4 or len(pixels) < 2 or (shape[1] not in (1, 3) and shape[3] not in (1, 3)):
        raise ValueError(f"images: of shape {shape}; give two or more of (N, C, H, W) or (N, H, W, C), C 1 or 3")
    if pixels.dtype != torch.uint8 and not pixels.is_floating_point():
        raise ValueError(f"images: of type {pixels.dtype}; give uint8, or float in [0, 1]")
    if pixels.is_floating_point() and not bool(((pixels >= 0) & (pixels <= 1)).all()):
        raise ValueError("images: floats outside [0, 1]; divide by 255, and leave normalization to the model")
    return pixels.permute(0, 2, 3, 1) if shape[1] in (1, 3) else pixels


def checked_integers(name: str, given: ArrayLike | Tensor, count: int, *, least: int) -> NDArray[np.int64]:
    """Whole numbers (N,), one for each of ``count`` images, at least so many of them different.

    Raises:
        ValueError: they are not; ``name`` is what the argument is called.
    """
    found = np.asarray(given.detach().cpu() if isinstance(given, Tensor) else given)
    if found.shape != (count,) or found.dtype.kind not in "iu":
        raise ValueError(
            f"{name}: {found.dtype} of shape {found.shape}; give a whole number for each of {count} images"
        )
    if len(np.unique(found)) < least:
        raise ValueError(f"{name}: {len(np.unique(found))} different ones; give {least} or more")
    return found.astype(np.int64)


def loader(pixels: Tensor, device: torch.device) -> Callable[[Tensor], Tensor]:
    """A function of rows that gives images (B, C, H, W), float32 in [0, 1], on a device."""
    scale = 255 if pixels.dtype == torch.uint8 else 1

    def load(rows: Tensor) -> Tensor:
        return pixels[rows].permute(0, 3, 1, 2).float().div_(scale).to(device)

    return load
