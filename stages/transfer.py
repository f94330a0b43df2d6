"""Stage 6: transfer of one attack: the perturbed images that it kept on each defense, measured on all defenses."""

from functools import partial
from pathlib import Path

from stages.runtime import artifacts, cli, threads
from stages.runtime import params as parameters
from stages.runtime.params import Params


def transfer(params: Params, dataset: str, attack: str) -> list[Path]:
    """Write results/transfer/<dataset>/<attack>.parquet (per query) and <attack>.json (means).

    One row for each seed, defense that the images were made on, defense that they are measured on, and kept query.
    """
    block, chosen = params["datasets"][dataset], parameters.attack(params, attack, dataset)["attack"]
    threads.limit(block["training"]["threads"])
    from stages.core.attacks import ATTACKS
    from stages.data.splits import central_crops, load_split, validated
    from stages.models import transferring

    data, split, kind = validated(dataset), load_split(dataset, "test"), ATTACKS[chosen].perturbs
    items = split.perturbed(kind)
    cli.log.info("read %d test images of %s", len(split.labels), dataset)
    test = transferring.SplitView(
        dataset,
        kind,
        split.labels,
        split.sets,
        items.image_ids,
        central_crops(items, block["crop"]),
        data,
    )
    inputs, parts = dict(data), []
    for seed in params["run"]["seeds"]:
        parts += transferring.of_seed(params, test, attack, seed, inputs)
    return transferring.write(*artifacts.transfer_files(dataset, attack), parts, {"attack": attack, "inputs": inputs})


main = partial(cli.main, transfer)  # python -m stages.transfer <dataset> <attack>


if __name__ == "__main__":
    cli.process(main)
