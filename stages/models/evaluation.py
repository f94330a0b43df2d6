"""Benign retrieval metrics of a model's clean embeddings."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.core import metrics
from stages.core.sets import ONE_SET, Sets
from stages.runtime import artifacts, checksums


def benign(
    embeddings: Tensor, labels: NDArray[np.int64], sets: Sets = ONE_SET
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Metrics of each query (Q rows) of the test images' embeddings (N, D), and the values of all together.

    In percent; ``spread`` is the mean pairwise distance of the test images, in [0, 2]. NMI is of all test images but
    distractors, which have no class.
    """
    classes = torch.from_numpy(labels)
    found, spread = metrics.retrieval(embeddings, classes, sets)
    per_query = pd.DataFrame({name: 100 * value.numpy() for name, value in found.items()})
    values = {str(name): float(per_query[name].mean()) for name in per_query}
    known = metrics.with_queries(classes, sets)
    values["nmi"] = 100 * metrics.nmi(embeddings[known], classes[known], seed=metrics.NMI_SEED)
    values["nmi_deviation"] = 100 * metrics.nmi_deviation(embeddings[known], classes[known])
    values["spread"] = spread
    values["chance"] = 100 * metrics.chance_recall(classes, sets)
    return per_query, values


def write(
    folder: Path, per_query: pd.DataFrame, values: dict[str, float], embeddings: Tensor, inputs: dict[str, str]
) -> list[Path]:
    """Write benign.json, benign.parquet (per query) and gallery.npy; ``inputs`` are hashes of what they come from."""
    outputs = (folder / "benign.json", folder / "benign.parquet", folder / "gallery.npy")
    with artifacts.writing(*outputs) as (benign_path, table_path, gallery_path):
        per_query.to_parquet(table_path, index=False)
        np.save(gallery_path, embeddings.numpy().astype(np.float32))
        report = {"metrics": values, "queries": len(per_query), "inputs": inputs}
        checksums.dump(report, benign_path, {"benign.parquet": table_path, "gallery.npy": gallery_path})
    return list(outputs)
