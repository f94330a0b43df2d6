"""Stage 4: benign retrieval figures and the clean embeddings of the test split."""

from __future__ import annotations

from pathlib import Path

from stages.io import artifacts, cli, determinism, seals
from stages.io.errors import UserError
from stages.io.params import Params
from stages.io.params import dataset as dataset_block


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
    from stages.core.selfchecks import IMAGES
    from stages.io import own_models
    from stages.io.data import central_crop, load_split, validated
    from stages.io.inference import embed_split
    from stages.io.precision import in_precision

    model_path = artifacts.model_dir(dataset, defense, seed) / "model.safetensors"
    own = params["defenses"][defense].get("model")
    saved = own_models.load(model_path, f"python -m stages.train {dataset} {defense} {seed}", own).to(device)
    model = in_precision(saved.requires_grad_(False), block["precision"], device, f"datasets.{dataset}.precision")
    inputs = artifacts.hashes(model_path) | validated(dataset)
    test = load_split(dataset, "test")
    labels = torch.from_numpy(test.labels)
    cli.log.info("read %s and %d test images", model_path, len(labels))

    def view(rows: torch.Tensor) -> torch.Tensor:
        return central_crop(test, rows, block["crop"]).to(device)

    if own:
        own_models.check(model, view(torch.arange(min(IMAGES, len(labels)))), f"defenses.{defense}.model")
    embeddings = embed_split(model, view, len(labels))
    if not embeddings.isfinite().all():
        raise UserError(f"{model_path}: gives embeddings that are not finite numbers; use a wider float type or scale")

    per_query, spread = metrics.retrieval(embeddings, labels)
    table = pd.DataFrame({"image_id": test.image_ids} | {name: 100 * v.numpy() for name, v in per_query.items()})
    values = {name: float(table[name].mean()) for name in per_query}
    values["nmi"] = 100 * metrics.nmi(embeddings, labels, seed=0)
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
        seals.dump(report, benign_path, {"benign.parquet": table_path, "gallery.npy": gallery_path})
    return list(outputs)


def main() -> None:
    """Command line: ``python -m stages.evaluate <dataset> <defense> <seed>``."""
    cli.main(evaluate, "evaluate", __doc__ or "", "dataset", "defense", "seed")


if __name__ == "__main__":
    main()
