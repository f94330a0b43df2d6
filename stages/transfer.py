"""Stage 6: transfer of one attack: the perturbed images that it kept on each defense, measured on all defenses."""

from pathlib import Path
from typing import TYPE_CHECKING

from stages.runtime import artifacts, checksums, cli, threads
from stages.runtime.params import Params
from stages.runtime.params import attack as attack_block
from stages.runtime.params import dataset as dataset_block

if TYPE_CHECKING:
    from stages.data.splits import Split
    from stages.models.transferring import Kept, Target


def transfer(params: Params, dataset: str, attack: str) -> list[Path]:
    """Write results/transfer/<dataset>/<attack>.parquet (per query) and <attack>.json (means).

    One row for each seed, defense that the images were made on, defense that they are measured on, and kept query.
    """
    block, run = dataset_block(params, dataset), params["run"]
    threads.limit(block["training"]["threads"])
    from stages.core.attacks import ATTACKS
    from stages.data.splits import load_split, validated
    from stages.models import transferring
    from stages.runtime.progress import progress

    data, test = validated(dataset), load_split(dataset, "test")
    chosen, inputs, parts = ATTACKS[attack_block(params, attack, dataset)["attack"]], dict(data), []
    for seed in run["seeds"]:
        kept = {defense: kept_on(dataset, defense, seed, attack, test) for defense in run["defenses"]}
        shown = progress(run["defenses"], total=len(kept), label=f"transfer {dataset} {attack} {seed}")
        for defense in shown:
            target = target_of(params, dataset, defense, seed, test, data)
            path = artifacts.result_dir(dataset, defense, seed) / f"{attack}.json"
            made_by = f"python -m stages.attack {dataset} {defense} {seed} {attack}"
            checksums.check_inputs({"inputs": kept[defense].inputs}, path, made_by, target.inputs)
            for source, found in kept.items():
                # The white box as it was measured, not anew: batches of other images differ in rounding.
                own = source == defense
                values = found.own() if own else transferring.measure(chosen, target, found, block["attack_batch"])
                parts.append(transferring.rows(found, values, seed=seed, source=source, defense=defense))
            inputs |= target.inputs | checksums.hashes(path)
    return transferring.write(*artifacts.transfer_files(dataset, attack), parts, {"attack": attack, "inputs": inputs})


def kept_on(dataset: str, defense: str, seed: int, attack: str, test: "Split") -> "Kept":
    """What the attack kept on one model.

    Raises:
        UserError: a file is missing or damaged.
    """
    from stages.core.seeding import drawn_order
    from stages.models.transferring import Kept

    made_by = f"python -m stages.attack {dataset} {defense} {seed} {attack}"
    return Kept.read(artifacts.result_dir(dataset, defense, seed), attack, made_by, drawn_order(test.image_ids))


def target_of(params: Params, dataset: str, defense: str, seed: int, test: "Split", data: dict[str, str]) -> "Target":
    """One model as it is measured; ``data`` are SHA-256 of the prepared data by path.

    Raises:
        UserError: the model or its gallery is missing, damaged, or not of the present data.
    """
    from stages.data.splits import central_crops
    from stages.models import attacking, embeddings, frozen
    from stages.models.transferring import Target

    folder, words = artifacts.result_dir(dataset, defense, seed), f"{dataset} {defense} {seed}"
    model, device, inputs = frozen.load(params, dataset, defense, seed)
    inputs |= data
    gallery = embeddings.gallery(folder, test.labels, f"python -m stages.evaluate {words}", inputs, device)
    view = central_crops(test, dataset_block(params, dataset)["crop"], device)
    images = attacking.ImageSet(gallery, test.image_ids, view)
    return Target(model, images, inputs | checksums.hashes(folder / "gallery.npy"))


def main() -> None:
    """Command line: ``python -m stages.transfer <dataset> <attack>``."""
    cli.main(transfer, "transfer", __doc__ or "", "dataset", "attack")


if __name__ == "__main__":
    main()
