"""Stage 5: attack one model with one attack, every test image once (or as many as `attack_queries` says)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from stages.io import artifacts, cli, seals
from stages.io.params import Params
from stages.io.params import attack as attack_block
from stages.io.params import dataset as dataset_block

if TYPE_CHECKING:
    import pandas as pd


def attack(params: Params, dataset: str, defense: str, seed: int, attack: str) -> list[Path]:
    """Write <attack>.json, <attack>.parquet and <attack>_examples.npy to results/<dataset>/<defense>/<seed>/."""
    data_block, block = dataset_block(params, dataset), attack_block(params, attack)
    cli.limit_threads(data_block["training"]["threads"])
    device = cli.device(data_block["training"]["device"], dataset)
    import numpy as np
    import pandas as pd
    import torch

    from stages.core.attacking import run
    from stages.core.attacks import ATTACKS
    from stages.core.attacks.base import Gallery, Problem
    from stages.core.seeding import EXAMPLES, drawn_order, generator
    from stages.io import own_models
    from stages.io.data import central_crop, load_split, validated
    from stages.io.embeddings import read_gallery
    from stages.io.precision import in_precision

    model_path = artifacts.model_dir(dataset, defense, seed) / "model.safetensors"
    own = params["defenses"][defense].get("model")
    saved = own_models.load(model_path, f"python -m stages.train {dataset} {defense} {seed}", own).to(device)
    model = in_precision(saved.requires_grad_(False), data_block["precision"], device, f"datasets.{dataset}.precision")
    folder = artifacts.result_dir(dataset, defense, seed)
    benign_path, gallery_path = folder / "benign.json", folder / "gallery.npy"
    command = f"python -m stages.evaluate {dataset} {defense} {seed}"
    benign = seals.load(benign_path, command)
    inputs = artifacts.hashes(model_path) | validated(dataset)
    seals.check_inputs(benign, benign_path, command, inputs)
    seals.check_beside(benign, benign_path, command, gallery_path.name)
    test = load_split(dataset, "test")
    embeddings = read_gallery(gallery_path, len(test.labels), command)
    gallery = Gallery.of(embeddings.to(device), torch.from_numpy(test.labels).to(device))
    cli.log.info("read %s, %s and %d test images", model_path, gallery_path, len(test.labels))

    chosen, eps = ATTACKS[block["attack"]], block.get("eps_scale", 1) * data_block["eps"]
    order, wanted = drawn_order(test.image_ids), data_block["attack_queries"]
    queries, examples = sorted(order if wanted == "all" else order[:wanted]), set(order[:EXAMPLES])
    frames, pictures = [], []
    batches = torch.tensor(queries).split(data_block["attack_batch"])
    label = f"attack {dataset} {defense} {seed} {attack}"
    for rows in cli.progress(batches, total=len(batches), label=label):
        ids, items = test.image_ids[rows.numpy()], rows.to(device)
        draws = [generator(seed, block["attack"], image_id) for image_id in ids]
        problem = Problem(gallery, items, chosen.select(gallery, items, draws))
        images = central_crop(test, rows, data_block["crop"]).to(device)
        result = run(chosen, model, images, problem, eps=eps, alpha=block["alpha_over_eps"] * eps, steps=block["steps"])
        columns = {f"{name}_before": value for name, value in result.before.items()}
        columns |= {f"{name}_after": value for name, value in result.after.items()}
        columns |= {
            "objective_before": result.objective_before,
            "objective_after": result.objective_after,
            "largest_change": result.largest_change,
            "zero_gradients": result.zero_gradients,
        }
        fixed = {"image_id": ids, "row": rows.numpy(), "target": problem.targets.cpu().numpy()}
        frames.append(pd.DataFrame(fixed | {key: value.double().cpu().numpy() for key, value in columns.items()}))
        pairs = zip(rows.tolist(), result.images.cpu(), strict=True)
        pictures += [image.numpy() for row, image in pairs if row in examples]

    table = pd.concat(frames, ignore_index=True)
    report = summary(table, list(result.after)) | {
        "attack": attack,
        "eps": eps,
        "inputs": inputs | artifacts.hashes(gallery_path),
    }
    outputs = (folder / f"{attack}.json", folder / f"{attack}.parquet", folder / f"{attack}_examples.npy")
    with artifacts.writing(*outputs) as (json_path, parquet_path, examples_path):
        table.to_parquet(parquet_path, index=False)
        np.save(examples_path, np.stack(pictures).astype(np.float32))
        beside = {outputs[1].name: parquet_path, outputs[2].name: examples_path}
        seals.dump(report, json_path, beside)
    return list(outputs)


def summary(table: pd.DataFrame, names: list[str]) -> dict[str, object]:
    """Means over queries before and after, and the checks that the attack attacked.

    ``zero_gradients``: share of pixels and steps without gradient; ``largest_change``: L-infinity norm over all images;
    ``improved``: share of queries whose objective ended lower; ``stuck``: share of queries with mostly zero gradients
    that did not improve.
    """
    metrics = {
        name: {"before": float(table[f"{name}_before"].mean()), "after": float(table[f"{name}_after"].mean())}
        for name in names
    }
    improved = table["objective_after"] < table["objective_before"]
    checks = {
        "zero_gradients": float(table["zero_gradients"].mean()),
        "largest_change": float(table["largest_change"].max()),
        "improved": float(improved.mean()),
        "stuck": float((~improved & (table["zero_gradients"] > 0.5)).mean()),
        "objective_before": float(table["objective_before"].mean()),
        "objective_after": float(table["objective_after"].mean()),
    }
    return {"metrics": metrics, "checks": checks, "queries": len(table)}


def main() -> None:
    """Command line: ``python -m stages.attack <dataset> <defense> <seed> <attack>``."""
    cli.main(attack, "attack", __doc__ or "", "dataset", "defense", "seed", "attack")


if __name__ == "__main__":
    main()
