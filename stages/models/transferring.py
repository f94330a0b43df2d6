"""Perturbed images that an attack kept, measured on models that they were not made on (method.md 12)."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from stages.core.attacking import measured
from stages.core.attacks.base import Attack, AttackBatch
from stages.models import embeddings
from stages.models.attacking import ImageSet, metrics_of, targets_of
from stages.runtime import artifacts, checksums
from stages.runtime.errors import UserError

BOTH = ("before", "after")


class Kept(NamedTuple):
    """What an attack on one model kept: a row of ``table`` (K rows) and an image of ``images`` (K, C, H, W) per query.

    ``table`` has the gallery row, the targets and the values on that model; ``inputs`` are SHA-256 by path of what the
    attack was made of.
    """

    table: pd.DataFrame
    images: Tensor
    inputs: Mapping[str, str]

    @classmethod
    def read(cls, folder: Path, attack: str, made_by: str, order: list[int]) -> "Kept":
        """What the command ``made_by`` wrote to a model's folder; ``order`` are the test split's rows as drawn.

        Raises:
            UserError: a file is missing, damaged, or not as the others of the same attack.
        """
        path = folder / f"{attack}.json"
        report = checksums.load(path, made_by)
        checksums.check_beside(report, path, made_by, f"{attack}.parquet")
        images, _ = embeddings.read_examples(folder, attack, made_by)
        table = pd.read_parquet(folder / f"{attack}.parquet")
        table = table[table["row"].isin(order[: len(images)])].reset_index(drop=True)
        if len(table) != len(images):
            raise UserError(f"{path}: {len(images)} images but {len(table)} of their queries; run `{made_by}` again")
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


def measure(attack: Attack, target: Target, kept: Kept, size: int) -> pd.DataFrame:
    """Values before and after of kept images (K rows) on a model that they were not made on.

    The attack's targets stay those that the perturbations aim at. ``size`` images are embedded at a time.
    """
    images = target.images
    device = images.gallery.labels.device
    rows, targets = torch.from_numpy(kept.table["row"].to_numpy()), targets_of(kept.table)
    parts = []
    for chosen in torch.arange(len(rows)).split(size):
        batch = AttackBatch(images.gallery, rows[chosen].to(device), targets[chosen].to(device))
        found = measured(attack, target.embed, images.load(rows[chosen]), kept.images[chosen].to(device), batch)
        pairs = {f"{name}_{when}": getattr(found, when)[name] for name in found.after for when in BOTH}
        parts.append(pd.DataFrame({name: value.double().cpu().numpy() for name, value in pairs.items()}))
    return pd.concat(parts, ignore_index=True)


def rows(kept: Kept, values: pd.DataFrame, **words: object) -> pd.DataFrame:
    """Values of kept queries as rows of the result: ``words``, then image_id and gallery row, then the values."""
    about = pd.DataFrame(words, index=kept.table.index)
    return pd.concat([about, kept.table[["image_id", "row"]], values], axis=1)


def means(table: pd.DataFrame) -> dict[str, Any]:
    """Means over queries by seed, source, measured defense, metric, and before or after."""
    found: dict[str, Any] = {}
    for (seed, source, defense), part in table.groupby(["seed", "source", "defense"], sort=False):
        found.setdefault(str(seed), {}).setdefault(source, {})[defense] = {
            metric: {when: float(part[f"{metric}_{when}"].mean()) for when in BOTH} for metric in metrics_of(table)
        }
    return found


def write(json_path: Path, parquet_path: Path, parts: list[pd.DataFrame], facts: Mapping[str, object]) -> list[Path]:
    """Write the rows of all models, and their means with ``facts``."""
    table = pd.concat(parts, ignore_index=True)
    report = {"means": means(table), "queries": table["row"].nunique(), **facts}
    with artifacts.writing(json_path, parquet_path) as (json_draft, parquet_draft):
        table.to_parquet(parquet_draft, index=False)
        checksums.dump(report, json_draft, {parquet_path.name: parquet_draft})
    return [json_path, parquet_path]
