"""Perturbed images that an attack kept, measured on models that they were not made on (method.md 12)."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.core.attacking import measured
from stages.core.attacks import ATTACKS
from stages.core.attacks.base import Attack, AttackBatch
from stages.core.directions import metrics_of
from stages.core.seeding import drawn_order
from stages.core.sets import Sets
from stages.models import attacking, embeddings, frozen
from stages.models.attacking import ImageSet, targets_of
from stages.runtime import artifacts, checksums
from stages.runtime import params as parameters
from stages.runtime.errors import UserError
from stages.runtime.params import Params
from stages.runtime.progress import progress

BOTH = ("before", "after")


class SplitView(NamedTuple):
    """The test split of a dataset as an attack sees it that ``perturbs`` a "query" or a "candidate".

    ``labels`` (N,) and ``sets`` are those of all test images; ``ids`` (P,) and ``view(rows)``, images (B, C, H, W) on
    the CPU, those of the perturbed set; ``inputs`` is SHA-256 by path of the prepared data.
    """

    dataset: str
    perturbs: str
    labels: NDArray[np.int64]
    sets: Sets
    ids: NDArray[np.int64]
    view: Callable[[Tensor], Tensor]
    inputs: dict[str, str]


class Kept(NamedTuple):
    """What an attack on one model kept: a row of ``table`` (K rows) and an image of ``images`` (K, C, H, W) per query.

    ``table`` has the gallery row, the targets and the values on that model; ``inputs`` are SHA-256 by path of what the
    attack was made of.
    """

    table: pd.DataFrame
    images: Tensor
    inputs: Mapping[str, str]

    @classmethod
    def read(cls, folder: Path, attack: str, order: list[int]) -> "Kept":
        """What an attack wrote to a model's folder; ``order`` are the test split's rows as drawn.

        Raises:
            UserError: a file is missing, damaged, or not as the others of the same attack.
        """
        path = folder / f"{attack}.json"
        report = checksums.load(path)
        checksums.check_beside(report, path, f"{attack}.parquet")
        images, _ = embeddings.read_examples(folder, attack)
        table = pd.read_parquet(folder / f"{attack}.parquet")
        table = table[table["row"].isin(order[: len(images)])].reset_index(drop=True)
        if len(table) != len(images):
            told = f"{len(images)} images but {len(table)} of their queries"
            raise UserError(f"{path}: {told}; run `{artifacts.made_by(path)}` again")
        return cls(table, images, report["inputs"])

    def own(self) -> pd.DataFrame:
        """The values before and after on the model that they were made on: those of the attack itself."""
        return self.table[[f"{metric}_{when}" for metric in metrics_of(self.table) for when in BOTH]]


class Target(NamedTuple):
    """A model that is measured: ``embed`` in evaluation mode, clean images with that model's gallery, and SHA-256 by
    path of what an attack on it is made of."""

    embed: Callable[[Tensor], Tensor]
    images: ImageSet
    inputs: dict[str, str]

    @classmethod
    def load(cls, params: Params, test: SplitView, defense: str, seed: int) -> "Target":
        """A model of the run.

        Raises:
            UserError: the model or its gallery is missing, damaged, or not of the present data.
        """
        model, device, inputs = frozen.load(params, test.dataset, defense, seed)
        inputs |= test.inputs
        folder = artifacts.result_dir(test.dataset, defense, seed)
        gallery = embeddings.gallery(folder, test.labels, inputs, device, sets=test.sets, perturbs=test.perturbs)
        images = ImageSet(gallery, test.ids, lambda rows: test.view(rows).to(device))
        return cls(model, images, inputs | checksums.hashes(folder / "gallery.npy"))


def of_seed(params: Params, test: SplitView, attack: str, seed: int, inputs: dict[str, str]) -> list[pd.DataFrame]:
    """The rows of every pair of defenses of one seed; adds to ``inputs`` what they are made of.

    Raises:
        UserError: a model, its gallery or what the attack kept on it is missing, damaged, or of other files.
    """
    defenses, order, parts = params["run"]["defenses"], drawn_order(test.ids), []
    chosen = ATTACKS[parameters.attack(params, attack, test.dataset)["attack"]]
    size = params["datasets"][test.dataset]["attack_batch"]
    folders = {defense: artifacts.result_dir(test.dataset, defense, seed) for defense in defenses}
    kept = {name: Kept.read(folder, attack, order) for name, folder in folders.items()}
    for defense in progress(defenses, total=len(defenses), label=f"transfer {test.dataset} {attack} {seed}"):
        target, path = Target.load(params, test, defense, seed), folders[defense] / f"{attack}.json"
        checksums.check_inputs({"inputs": kept[defense].inputs}, path, target.inputs)
        for source, found in kept.items():
            # The white box as it was measured, not anew: batches of other images differ in rounding.
            values = found.own() if source == defense else measure(chosen, target, found, size)
            parts.append(rows(found, values, seed=seed, source=source, defense=defense))
        inputs |= target.inputs | checksums.hashes(path)
    return parts


def measure(attack: Attack, target: Target, kept: Kept, size: int) -> pd.DataFrame:
    """Values before and after of kept images (K rows) on a model that they were not made on.

    The attack's targets stay those that the perturbations aim at. ``size`` images are embedded at a time.
    """
    images = target.images
    device = images.gallery.labels.device
    items, targets = torch.from_numpy(kept.table["row"].to_numpy()), targets_of(kept.table)
    parts = []
    for chosen in torch.arange(len(items)).split(size):
        batch = AttackBatch(images.gallery, items[chosen].to(device), targets[chosen].to(device))
        found = measured(attack, target.embed, images.load(items[chosen]), kept.images[chosen].to(device), batch)
        pairs = {f"{name}_{when}": getattr(found, when)[name] for name in found.after for when in BOTH}
        parts.append(pd.DataFrame({name: value.double().cpu().numpy() for name, value in pairs.items()}))
    return pd.concat(parts, ignore_index=True)


def rows(kept: Kept, values: pd.DataFrame, **words: object) -> pd.DataFrame:
    """Values of kept queries as rows of the result: ``words``, image_id, gallery row, target or targets, values."""
    about = pd.DataFrame(words, index=kept.table.index)
    known = ["image_id", "row", *(name for name in kept.table if str(name).startswith("target"))]
    return pd.concat([about, kept.table[known], values], axis=1)


def means(table: pd.DataFrame) -> dict[str, Any]:
    """Means over queries by seed, source, measured defense, metric, and before or after."""
    found: dict[str, Any] = {}
    for (seed, source, defense), part in table.groupby(["seed", "source", "defense"], sort=False):
        found.setdefault(str(seed), {}).setdefault(source, {})[defense] = attacking.means(part)
    return found


def write(json_path: Path, parquet_path: Path, parts: list[pd.DataFrame], facts: Mapping[str, object]) -> list[Path]:
    """Write the rows of all models, and their means with ``facts``."""
    table = pd.concat(parts, ignore_index=True)
    report = {"means": means(table), "queries": table["row"].nunique(), **facts}
    with artifacts.writing(json_path, parquet_path) as (json_draft, parquet_draft):
        table.to_parquet(parquet_draft, index=False)
        checksums.dump(report, json_draft, {parquet_path.name: parquet_draft})
    return [json_path, parquet_path]
