"""One attack on many test images: batches, metrics of each image, and resuming a killed run."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.core.attacking import PROTOCOL, Strength, run, shares, worst_of
from stages.core.attacks import ATTACKS
from stages.core.attacks.base import AttackBatch, Gallery, short_ranking
from stages.core.directions import metrics_of
from stages.core.seeding import EXAMPLES, drawn_order, generator
from stages.runtime import artifacts, checksums, resume

log = logging.getLogger(__name__)
OF_MEMBERS = ("objective_after", "zero_gradients")  # checks that a suite keeps of each member
CHECKS = ("objective_before", "objective_after", "largest_change", "zero_gradients")


class AttackConfig(NamedTuple):
    """``attack`` is a name in ATTACKS; ``eps`` and ``alpha`` are in pixels in [0, 1]; ``seed`` draws the targets.

    ``strength`` is how hard the attack tries. Where there is a ``suite``, its members run instead, each as a block of
    its own would, and each query keeps the worst case by each metric.
    """

    attack: str
    eps: float
    alpha: float
    steps: int
    seed: int
    strength: Strength = PROTOCOL
    suite: Mapping[str, "AttackConfig"] = {}

    @classmethod
    def of(cls, block: Mapping[str, Any], eps: float, seed: int) -> "AttackConfig":
        """That of an attack block, as ``stages.runtime.params.attack`` gives it; ``eps`` is the dataset's."""
        budget = block.get("eps_scale", 1) * eps

        def one(tried: Mapping[str, Any]) -> "AttackConfig":
            alpha = tried["alpha_over_eps"] * budget
            return cls(block["attack"], budget, alpha, tried["steps"], seed, Strength.of(tried))

        return one(block)._replace(suite={name: one(tried) for name, tried in block.get("suite", {}).items()})


class Queries(NamedTuple):
    """What is attacked: rows of the perturbed set in order, and which of them have their perturbed images kept."""

    rows: list[int]
    examples: set[int]

    @classmethod
    def of(cls, image_ids: NDArray[np.int64], wanted: int | str, keep: int | str = EXAMPLES) -> "Queries":
        """``wanted`` rows of all, and ``keep`` of these, the same for every model; "all" for every one."""
        order = drawn_order(image_ids)
        chosen = order if wanted == "all" else order[: int(wanted)]
        return cls(sorted(chosen), set(chosen if keep == "all" else chosen[: int(keep)]))

    def batches(self, size: int) -> tuple[Tensor, ...]:
        """The rows in batches."""
        return torch.tensor(self.rows).split(size)


class Attacked(NamedTuple):
    """Results so far: per-query values of each batch, and the perturbed examples (C, H, W)."""

    columns: list[dict[str, Tensor]]
    pictures: list[Tensor]

    @classmethod
    def restored(cls, saved: resume.Saved) -> "Attacked":
        """What a killed run kept; empty where there is none."""
        kept = saved.load(*cls._fields)
        if not kept:
            return cls([], [])
        log.info("going on from %s: batch %d", saved.path, len(kept["columns"]))
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


def lacking(attack: str, images: ImageSet, rows: list[int]) -> str:
    """What the set lacks for an attack on some of its rows, in words; "" where nothing is lacking."""
    chosen, count = ATTACKS[attack], len(images.gallery.labels)
    drawn_from = "gallery" if chosen.perturbs == "query" else "set of queries"
    if count < chosen.least:
        return f"{attack} needs a {drawn_from} of {chosen.least} images or more; {count} are there"
    items = torch.tensor(rows, device=images.gallery.labels.device)
    if (short := short_ranking(chosen, images.gallery, items)) is None:
        return ""
    place, size = short
    return (
        f"{attack} needs for each image {chosen.needs(count)} of the {drawn_from}, of another class or camera; the "
        f"image with id {images.ids[rows[place]]} has {size}"
    )


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
    """Values (B,) of some rows of the perturbed set before and after, and their perturbed images; both on the CPU.

    A suite adds columns of each member, such as ``ltm_after@apgd``, so that its members can be compared.
    """
    chosen, items = ATTACKS[config.attack], rows.to(images.gallery.labels.device)
    words = [(config.seed, config.attack, image_id) for image_id in images.ids[rows.numpy()]]
    targets = chosen.select(images.gallery, items, [generator(*own) for own in words])
    batch, clean = AttackBatch(images.gallery, items, targets), images.load(rows)
    results = {
        member: run(
            chosen,
            embed,
            clean,
            batch,
            eps=tried.eps,
            alpha=tried.alpha,
            steps=tried.steps,
            strength=tried.strength,
            generators=[generator(*own, "search") for own in words],
        )
        for member, tried in (config.suite or {"": config}).items()
    }
    result = worst_of(list(results.values()))
    values = {f"{name}_before": value for name, value in result.before.items()}
    values |= {f"{name}_after": value for name, value in result.after.items()}
    values |= {name: getattr(result, name) for name in CHECKS}
    for member in config.suite:
        values |= {f"{name}_after@{member}": value for name, value in results[member].after.items()}
        values |= {f"{name}@{member}": getattr(results[member], name) for name in OF_MEMBERS}
    columns = target_columns(batch.targets.cpu()) | {name: value.double().cpu() for name, value in values.items()}
    return columns, result.images.cpu()


def target_columns(targets: Tensor) -> dict[str, Tensor]:
    """Targets (B,) as the column ``target``; several for each query, (B, M), as ``target_1`` to ``target_M``."""
    if targets.ndim == 1:
        return {"target": targets}
    return {f"target_{place}": column for place, column in enumerate(targets.T, start=1)}


def targets_of(table: pd.DataFrame) -> Tensor:
    """The targets, (B,) or (B, M), that ``target_columns`` made columns of."""
    if "target" in table:
        return torch.from_numpy(table["target"].to_numpy(dtype=np.int64))
    return torch.from_numpy(table.filter(regex=r"^target_\d+$").to_numpy(dtype=np.int64))


def checks_of(table: pd.DataFrame) -> dict[str, float]:
    """The checks that an attack attacked.

    ``zero_gradients``: share of pixels and steps without gradient; ``largest_change``: L-infinity norm over all images;
    ``improved`` and ``stuck`` as ``stages.core.attacking.shares`` says.
    """
    return {
        "zero_gradients": float(table["zero_gradients"].mean()),
        "largest_change": float(table["largest_change"].max()),
        **shares(table["objective_before"], table["objective_after"], table["zero_gradients"]),
        "objective_before": float(table["objective_before"].mean()),
        "objective_after": float(table["objective_after"].mean()),
    }


def means(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Means over queries by metric, before and after the attack."""
    return {
        name: {when: float(table[f"{name}_{when}"].mean()) for when in ("before", "after")}
        for name in metrics_of(table)
    }


def write(
    folder: Path, name: str, table: pd.DataFrame, pictures: list[Tensor], facts: Mapping[str, object]
) -> list[Path]:
    """Write <name>.json (means, checks and ``facts``), <name>.parquet (per query) and <name>_examples.npy."""
    outputs = (folder / f"{name}.json", folder / f"{name}.parquet", folder / f"{name}_examples.npy")
    with artifacts.writing(*outputs) as (json_path, parquet_path, examples_path):
        table.to_parquet(parquet_path, index=False)
        np.save(examples_path, torch.stack(pictures).float().numpy())
        beside = {outputs[1].name: parquet_path, outputs[2].name: examples_path}
        report = {"metrics": means(table), "checks": checks_of(table), "queries": len(table), "attack": name, **facts}
        checksums.dump(report, json_path, beside)
    return list(outputs)
