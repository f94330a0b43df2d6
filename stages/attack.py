"""Stage 5: attack one model with one attack, every test image once (or as many as `attack_queries` says)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from stages.runtime import artifacts, checksums, cli, determinism
from stages.runtime.params import Params
from stages.runtime.params import attack as attack_block
from stages.runtime.params import dataset as dataset_block

if TYPE_CHECKING:
    import pandas as pd


def attack(params: Params, dataset: str, defense: str, seed: int, attack: str) -> list[Path]:
    """Write <attack>.json, <attack>.parquet and <attack>_examples.npy to results/<dataset>/<defense>/<seed>/.

    Every so many minutes what is done goes to <attack>.resume.pt beside them; a killed run goes on from it and ends
    with the same bytes.
    """
    data_block, block = dataset_block(params, dataset), attack_block(params, attack, dataset)
    cli.limit_threads(data_block["training"]["threads"])
    determinism.settle(data_block["training"]["deterministic"])
    device = cli.device(data_block["training"]["device"], dataset)
    import numpy as np
    import pandas as pd
    import torch
    from torch import Tensor

    from stages.core.attacking import run
    from stages.core.attacks import ATTACKS
    from stages.core.attacks.base import AttackBatch, Gallery
    from stages.core.seeding import EXAMPLES, drawn_order, generator
    from stages.data.splits import central_crop, load_split, validated
    from stages.models import own_models
    from stages.models.embeddings import read_gallery
    from stages.runtime import resume
    from stages.runtime.precision import in_precision

    model_path = artifacts.model_dir(dataset, defense, seed) / "model.safetensors"
    own = params["defenses"][defense].get("model")
    saved = own_models.load(model_path, f"python -m stages.train {dataset} {defense} {seed}", own).to(device)
    model = in_precision(saved.requires_grad_(False), data_block["precision"], device, f"datasets.{dataset}.precision")
    folder = artifacts.result_dir(dataset, defense, seed)
    benign_path, gallery_path = folder / "benign.json", folder / "gallery.npy"
    command = f"python -m stages.evaluate {dataset} {defense} {seed}"
    benign = checksums.load(benign_path, command)
    inputs = artifacts.hashes(model_path) | validated(dataset)
    checksums.check_inputs(benign, benign_path, command, inputs)
    checksums.check_beside(benign, benign_path, command, gallery_path.name)
    test = load_split(dataset, "test")
    embeddings = read_gallery(gallery_path, len(test.labels), command)
    gallery = Gallery.of(embeddings.to(device), torch.from_numpy(test.labels).to(device))
    cli.log.info("read %s, %s and %d test images", model_path, gallery_path, len(test.labels))

    chosen, eps = ATTACKS[block["attack"]], block.get("eps_scale", 1) * data_block["eps"]
    order, wanted = drawn_order(test.image_ids), data_block["attack_queries"]
    queries, examples = sorted(order if wanted == "all" else order[:wanted]), set(order[:EXAMPLES])
    batches = torch.tensor(queries).split(data_block["attack_batch"])
    label = f"attack {dataset} {defense} {seed} {attack}"
    inputs |= artifacts.hashes(gallery_path)
    state = folder / f"{attack}.resume.pt"
    run_of = resume.identity("attack", block=block, inputs=inputs, dataset=data_block, seed=seed)
    kept = resume.load(state, run_of, "columns", "pictures") or {"columns": [], "pictures": []}
    columns: list[dict[str, Tensor]] = kept["columns"]  # of each batch
    pictures: list[Tensor] = kept["pictures"]
    so_far = {"columns": columns, "pictures": pictures}
    if columns:
        cli.log.info("going on from %s: batch %d", state, len(columns))
    with resume.keeping(state, run_of, params["resume"]["minutes"]) as keep:
        left = batches[len(columns) :]
        for rows in cli.progress(left, total=len(left), label=label):
            items = rows.to(device)
            draws = [generator(seed, block["attack"], image_id) for image_id in test.image_ids[rows.numpy()]]
            batch = AttackBatch(gallery, items, chosen.select(gallery, items, draws))
            images = central_crop(test, rows, data_block["crop"]).to(device)
            size = {"eps": eps, "alpha": block["alpha_over_eps"] * eps, "steps": block["steps"]}
            result = run(chosen, model, images, batch, **size)
            values = {f"{name}_before": value for name, value in result.before.items()}
            values |= {f"{name}_after": value for name, value in result.after.items()}
            values |= {
                "objective_before": result.objective_before,
                "objective_after": result.objective_after,
                "largest_change": result.largest_change,
                "zero_gradients": result.zero_gradients,
            }
            columns.append({"target": batch.targets.cpu()} | {k: v.double().cpu() for k, v in values.items()})
            shown = zip(rows.tolist(), result.images.cpu(), strict=True)
            pictures += [image.clone() for row, image in shown if row in examples]
            keep(lambda: so_far)

    fixed = {"image_id": test.image_ids[queries], "row": queries}
    table = pd.DataFrame(fixed | {name: torch.cat([part[name] for part in columns]).numpy() for name in columns[0]})
    report = summary(table) | {"attack": attack, "eps": eps, "inputs": inputs}
    outputs = (folder / f"{attack}.json", folder / f"{attack}.parquet", folder / f"{attack}_examples.npy")
    with artifacts.writing(*outputs) as (json_path, parquet_path, examples_path):
        table.to_parquet(parquet_path, index=False)
        np.save(examples_path, torch.stack(pictures).float().numpy())
        beside = {outputs[1].name: parquet_path, outputs[2].name: examples_path}
        checksums.dump(report, json_path, beside)
    state.unlink(missing_ok=True)
    return list(outputs)


def summary(table: pd.DataFrame) -> dict[str, object]:
    """Means over queries before and after, and the checks that the attack attacked.

    ``zero_gradients``: share of pixels and steps without gradient; ``largest_change``: L-infinity norm over all images;
    ``improved``: share of queries whose objective ended lower; ``stuck``: share of queries with mostly zero gradients
    that did not improve.
    """
    measured = [name.removesuffix("_after") for name in map(str, table) if name.endswith("_after")]
    metrics = {
        name: {"before": float(table[f"{name}_before"].mean()), "after": float(table[f"{name}_after"].mean())}
        for name in measured
        if name != "objective"
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
