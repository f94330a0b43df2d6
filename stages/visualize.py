"""Stage 6: pictures of attacks on one dataset: queries, perturbations, and the nearest images before and after."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.runtime import artifacts, checksums, cli
from stages.runtime.params import Params
from stages.runtime.params import dataset as dataset_block

if TYPE_CHECKING:
    from torch import Tensor

    from stages.data.splits import Split

NEAREST = 5  # gallery images shown before and after


def visualize(params: Params, dataset: str) -> list[Path]:
    """Write reports/visualize/<dataset>.json: the same queries for every defense, of the run's first seed.

    Attacks that are not in the run, and results that are not there, are left out.
    """
    cli.limit_threads(1)
    import numpy as np
    import torch

    from stages.core.seeding import drawn_order
    from stages.data.splits import central_crop, load_split
    from stages.models import own_models
    from stages.models.embeddings import read_examples, read_gallery
    from stages.reporting import thumbnails

    run, wanted, crop = params["run"], params["visualize"], dataset_block(params, dataset)["crop"]
    seed, test = run["seeds"][0], load_split(dataset, "test")
    names = artifacts.data_dir(dataset) / "manifest.parquet"
    order = drawn_order(test.image_ids)
    shown: dict[str, dict[int, dict[str, Any]]] = {}
    used: set[int] = set()
    attacks = [attack for attack in wanted["attacks"] if attack in run["attacks"]]
    for defense in run["defenses"]:
        words = f"{dataset} {defense} {seed}"
        folder = artifacts.result_dir(dataset, defense, seed)
        found = [attack for attack in attacks if (folder / f"{attack}.json").exists()]
        if not found:
            cli.log.info("no pictures of %s: not run", words)
            continue
        path = artifacts.model_dir(dataset, defense, seed) / "model.safetensors"
        own = params["defenses"][defense].get("model")
        model = own_models.load(path, f"python -m stages.train {words}", own)
        embeddings = read_gallery(folder / "gallery.npy", len(test.labels), f"python -m stages.evaluate {words}")
        for attack in found:
            command = f"python -m stages.attack {words} {attack}"
            report = checksums.load(folder / f"{attack}.json", command, "eps")
            checksums.check_beside(report, folder / f"{attack}.json", command, f"{attack}_examples.npy")
            factor = thumbnails.magnification(report["eps"])
            perturbed = read_examples(folder / f"{attack}_examples.npy", command)
            rows = order[: min(wanted["queries"], len(perturbed))]
            place = {row: position for position, row in enumerate(sorted(order[: len(perturbed)]))}
            images = perturbed[[place[row] for row in rows]]
            with torch.no_grad():
                moved = model(images)
            clean = central_crop(test, np.array(rows), crop)
            before = nearest(embeddings[rows], embeddings, rows)
            after = nearest(moved, embeddings, rows)
            used |= {*rows, *before.flatten().tolist(), *after.flatten().tolist()}
            for position, row in enumerate(rows):
                pair = clean[position].numpy(), images[position].numpy()
                shown.setdefault(attack, {}).setdefault(row, {})[defense] = {
                    "perturbed": thumbnails.data_address(thumbnails.to_pixels(pair[1]), exact=True),
                    "difference": thumbnails.data_address(thumbnails.difference(*pair, factor), exact=True),
                    "factor": factor,
                    "before": [ranked(test, row, other) for other in before[position].tolist()],
                    "after": [ranked(test, row, other) for other in after[position].tolist()],
                }
    classes = class_names(names, used)
    stills = central_crop(test, np.array(sorted(used), dtype=np.int64), crop).numpy() if used else ()
    content = {
        "dataset": dataset,
        "seed": seed,
        "attacks": {
            attack: [{"row": row, "defenses": by_defense} for row, by_defense in by_row.items()]
            for attack, by_row in shown.items()
        },
        "images": {
            str(row): {"class": classes[row], "picture": thumbnails.data_address(thumbnails.to_pixels(image))}
            for row, image in zip(sorted(used), stills, strict=True)
        },
    }
    output = artifacts.REPORTS / "visualize" / f"{dataset}.json"
    with artifacts.writing(output) as (draft,):
        artifacts.dump_json(content, draft)
    return [output]


def nearest(queries: Tensor, embeddings: Tensor, rows: list[int]) -> Tensor:
    """Rows (Q, 5) of the nearest embeddings, nearest first, each query's own row left out."""
    import torch

    distances = torch.cdist(queries.double(), embeddings.double())
    distances[torch.arange(len(rows)), torch.tensor(rows)] = torch.inf
    return distances.sort(dim=1, stable=True).indices[:, :NEAREST]


def ranked(test: Split, query: int, row: int) -> dict[str, Any]:
    """A retrieved image: its row, and whether it is of the query's class."""
    return {"row": row, "right": bool(test.labels[row] == test.labels[query])}


def class_names(manifest: Path, rows: set[int]) -> dict[int, str]:
    """Class names of some rows of the test split."""
    from stages.data.splits import read_manifest

    table = read_manifest(manifest)
    names = table[table["split"] == "test"]["class_name"].tolist()
    return {row: str(names[row]) for row in rows}


def main() -> None:
    """Command line: ``python -m stages.visualize <dataset>``."""
    cli.main(visualize, "visualize", __doc__ or "", "dataset")


if __name__ == "__main__":
    main()
