"""One attack on many test images: batches, metrics of each image, and resuming a killed run."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.core.attacking import run
from stages.core.attacks import ATTACKS
from stages.core.attacks.base import AttackBatch, Gallery
from stages.core.seeding import EXAMPLES, drawn_order, generator
from stages.runtime import artifacts, checksums, resume

log = logging.getLogger(__name__)
CHECKS = ("objective_before", "objective_after", "largest_change", "zero_gradients")


class AttackConfig(NamedTuple):
    """``attack`` is a name in ATTACKS; ``eps`` and ``alpha`` are in pixels in [0, 1]; ``seed`` draws the targets."""

    attack: str
    eps: float
    alpha: float
    steps: int
    seed: int


class Queries(NamedTuple):
    """What is attacked: rows of the perturbed set in order, and which of them have their perturbed images kept."""

    rows: list[int]
    examples: set[int]

    @classmethod
    def of(cls, image_ids: NDArray[np.int64], wanted: int | str) -> "Queries":
        """``wanted`` rows of all, the same for every model and attack; "all" for every one."""
        order = drawn_order(image_ids)
        return cls(sorted(order if wanted == "all" else order[: int(wanted)]), set(order[:EXAMPLES]))

    def batches(self, size: int) -> tuple[Tensor, ...]:
        """The rows in batches."""
        return torch.tensor(self.rows).split(size)


class Attacked(NamedTuple):
    """Results so far: per-query values of each batch, and the perturbed examples (C, H, W)."""

    columns: list[dict[str, Tensor]]
    pictures: list[Tensor]

    @classmethod
    def restored(cls, path: Path, identity: str) -> "Attacked":
        """What a killed run of the same identity kept at ``path``; empty where there is none."""
        kept = resume.load(path, identity, *cls._fields)
        if not kept:
            return cls([], [])
        log.info("going on from %s: batch %d", path, len(kept["columns"]))
        return cls(kept["columns"], kept["pictures"])

    def table(self, image_ids: NDArray[np.int64], rows: list[int]) -> pd.DataFrame:
        """One row per perturbed image: its id, its row in its set, target, and values before and after the attack."""
        values = {name: torch.cat([part[name] for part in self.columns]).numpy() for name in self.columns[0]}
        return pd.DataFrame({"image_id": image_ids[rows], "row": rows} | values)


class ImageSet(NamedTuple):
    """The images that are perturbed: ``gallery`` holds what the attack sees, ``ids`` (N,) names the images, and
    ``load(rows)`` gives some of them, (B, C, H, W) in [0, 1], on the gallery's device."""

    gallery: Gallery
    ids: NDArray[np.int64]
    load: Callable[[Tensor], Tensor]


def attack_batches(
    config: AttackConfig,
    embed: Callable[[Tensor], Tensor],
    images: ImageSet,
    batches: Iterable[Tensor],
    examples: set[int],
    done: Attacked,
) -> Iterator[None]:
    """Attack rows of the perturbed set batch by batch; each batch's results are in ``done`` when it yields."""
    for rows in batches:
        columns, perturbed = attack_batch(config, embed, images, rows)
        done.columns.append(columns)
        pairs = zip(rows.tolist(), perturbed, strict=True)
        done.pictures.extend(image.clone() for row, image in pairs if row in examples)
        yield


def attack_batch(
    config: AttackConfig, embed: Callable[[Tensor], Tensor], images: ImageSet, rows: Tensor
) -> tuple[dict[str, Tensor], Tensor]:
    """Values (B,) of some rows of the perturbed set before and after, and their perturbed images; both on the CPU."""
    chosen, items = ATTACKS[config.attack], rows.to(images.gallery.labels.device)
    draws = [generator(config.seed, config.attack, image_id) for image_id in images.ids[rows.numpy()]]
    batch = AttackBatch(images.gallery, items, chosen.select(images.gallery, items, draws))
    result = run(chosen, embed, images.load(rows), batch, eps=config.eps, alpha=config.alpha, steps=config.steps)
    values = {f"{name}_before": value for name, value in result.before.items()}
    values |= {f"{name}_after": value for name, value in result.after.items()}
    values |= {name: getattr(result, name) for name in CHECKS}
    columns = {"target": batch.targets.cpu()} | {name: value.double().cpu() for name, value in values.items()}
    return columns, result.images.cpu()


def metrics_of(table: pd.DataFrame) -> list[str]:
    """Names of what an attack measures, from its per-query values."""
    measured = [name.removesuffix("_after") for name in map(str, table) if name.endswith("_after")]
    return [name for name in measured if name != "objective"]


def checks_of(table: pd.DataFrame) -> dict[str, float]:
    """The checks that an attack attacked.

    ``zero_gradients``: share of pixels and steps without gradient; ``largest_change``: L-infinity norm over all images;
    ``improved``: share of queries whose objective ended lower; ``stuck``: share of queries with mostly zero gradients
    that did not improve.
    """
    improved = table["objective_after"] < table["objective_before"]
    return {
        "zero_gradients": float(table["zero_gradients"].mean()),
        "largest_change": float(table["largest_change"].max()),
        "improved": float(improved.mean()),
        "stuck": float((~improved & (table["zero_gradients"] > 0.5)).mean()),
        "objective_before": float(table["objective_before"].mean()),
        "objective_after": float(table["objective_after"].mean()),
    }


def summary(table: pd.DataFrame) -> dict[str, object]:
    """Means over queries before and after the attack, and its checks."""
    metrics = {
        name: {when: float(table[f"{name}_{when}"].mean()) for when in ("before", "after")}
        for name in metrics_of(table)
    }
    return {"metrics": metrics, "checks": checks_of(table), "queries": len(table)}


def write(
    folder: Path, name: str, table: pd.DataFrame, pictures: list[Tensor], facts: Mapping[str, object]
) -> list[Path]:
    """Write <name>.json (means, checks and ``facts``), <name>.parquet (per query) and <name>_examples.npy."""
    outputs = (folder / f"{name}.json", folder / f"{name}.parquet", folder / f"{name}_examples.npy")
    with artifacts.writing(*outputs) as (json_path, parquet_path, examples_path):
        table.to_parquet(parquet_path, index=False)
        np.save(examples_path, torch.stack(pictures).float().numpy())
        beside = {outputs[1].name: parquet_path, outputs[2].name: examples_path}
        checksums.dump(summary(table) | {"attack": name, **facts}, json_path, beside)
    return list(outputs)
