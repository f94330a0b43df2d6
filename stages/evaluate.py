"""Stage 4: benign retrieval figures and the clean embeddings of the test split."""

from __future__ import annotations

from pathlib import Path

from stages.runtime import artifacts, checksums, cli, determinism
from stages.runtime.params import Params
from stages.runtime.params import dataset as dataset_block


def evaluate(params: Params, dataset: str, defense: str, seed: int) -> list[Path]:
    """Write results/<dataset>/<defense>/<seed>/benign.json, benign.parquet (per query) and gallery.npy."""
    block = dataset_block(params, dataset)
    cli.limit_threads(block["training"]["threads"])
    determinism.settle(block["training"]["deterministic"])
    device = cli.device(block["training"]["device"], dataset)
    import numpy as np
    import pandas as pd
    import torch

    from stages.core import metrics
    from stages.data.splits import central_crop, load_split, validated
    from stages.models import own_models
    from stages.models.inference import embed_split
    from stages.runtime.precision import in_precision

    model_path = artifacts.model_dir(dataset, defense, seed) / "model.safetensors"
    own = params["defenses"][defense].get("model")
    saved = own_models.load(model_path, f"python -m stages.train {dataset} {defense} {seed}", own).to(device)
    model = in_precision(saved.requires_grad_(False), block["precision"], device, f"datasets.{dataset}.precision")
    inputs = artifacts.hashes(model_path) | validated(dataset)
    test = load_split(dataset, "test")
    labels = torch.from_numpy(test.labels)
    cli.log.info("read %s and %d test images", model_path, len(labels))
    embeddings = embed_split(model, lambda rows: central_crop(test, rows, block["crop"]).to(device), len(labels))

    per_query, spread = metrics.retrieval(embeddings, labels)
    table = pd.DataFrame({"image_id": test.image_ids} | {name: 100 * v.numpy() for name, v in per_query.items()})
    values = {name: float(table[name].mean()) for name in per_query}
    values["nmi"] = 100 * metrics.nmi(embeddings, labels, seed=metrics.NMI_SEED)
    values["nmi_deviation"] = 100 * metrics.nmi_deviation(embeddings, labels)
    values["spread"] = spread
    values["chance"] = 100 * metrics.chance_recall(labels)

    folder = artifacts.result_dir(dataset, defense, seed)
    outputs = (folder / "benign.json", folder / "benign.parquet", folder / "gallery.npy")
    report = {
        "metrics": values,
        "queries": len(labels),
        "inputs": inputs,
    }
    with artifacts.writing(*outputs) as (benign_path, table_path, gallery_path):
        table.to_parquet(table_path, index=False)
        np.save(gallery_path, embeddings.numpy().astype(np.float32))
        checksums.dump(report, benign_path, {"benign.parquet": table_path, "gallery.npy": gallery_path})
    return list(outputs)


def main() -> None:
    """Command line: ``python -m stages.evaluate <dataset> <defense> <seed>``."""
    cli.main(evaluate, "evaluate", __doc__ or "", "dataset", "defense", "seed")


if __name__ == "__main__":
    main()
