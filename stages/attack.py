"""Stage 5: attack one model with one attack, every test image once (or as many as `attack_queries` says)."""

from functools import partial
from pathlib import Path

from stages.runtime import artifacts, checksums, cli, threads
from stages.runtime import params as parameters
from stages.runtime.errors import UserError
from stages.runtime.params import Params


def attack(params: Params, dataset: str, defense: str, seed: int, attack: str) -> list[Path]:
    """Write <attack>.json, <attack>.parquet and <attack>_examples.npy to results/<dataset>/<defense>/<seed>/.

    Every ``resume.minutes`` finished results are saved to <attack>.resume.pt beside them; a killed run resumes from it
    and ends with the same bytes.

    Raises:
        UserError: a file is missing or damaged, or the test set is too small for the attack.
    """
    data_block, block = params["datasets"][dataset], parameters.attack(params, attack, dataset)
    threads.limit(data_block["training"]["threads"])
    from stages.core import evaluation_checks
    from stages.core.attacks import ATTACKS
    from stages.core.seeding import EXAMPLES
    from stages.data.splits import central_crops, load_split, validated
    from stages.models import attacking, embeddings, frozen
    from stages.runtime import resume
    from stages.runtime.progress import progress

    folder, words = artifacts.result_dir(dataset, defense, seed), f"{dataset} {defense} {seed}"
    model, device, inputs = frozen.load(params, dataset, defense, seed)
    inputs |= validated(dataset)
    test = load_split(dataset, "test")
    kind = ATTACKS[block["attack"]].perturbs
    gallery = embeddings.gallery(folder, test.labels, inputs, device, sets=test.sets, perturbs=kind)
    inputs |= checksums.hashes(folder / "gallery.npy")
    cli.log.info("read model, gallery and %d test images of %s", len(test.labels), words)

    items = test.perturbed(kind)
    images = attacking.ImageSet(gallery, items.image_ids, central_crops(items, data_block["crop"], device))
    config = attacking.AttackConfig.of(block, data_block["eps"], seed)
    queries = attacking.Queries.of(items.image_ids, data_block["attack_queries"], block.get("keep", EXAMPLES))
    if lacks := attacking.lacking(config.attack, images, queries.rows):
        raise UserError(f"{parameters.FILE}: datasets.{dataset}: {lacks}; take more images, or another attack")
    run = resume.identity("attack", block=block, inputs=inputs, dataset=data_block, seed=seed)
    saved = resume.Saved(folder / f"{attack}.resume.pt", run, params["resume"]["minutes"])
    done = attacking.Attacked.restored(saved)
    left = queries.batches(data_block["attack_batch"])[len(done.columns) :]
    shown = progress(left, total=len(left), label=f"attack {words} {attack}")
    with saved.keeping() as keep:
        for _ in attacking.attack_batches(config, model, images, shown, queries.examples, done):
            keep(done._asdict)

    table = done.table(items.image_ids, queries.rows)
    outputs = attacking.write(folder, attack, table, done.pictures, {"eps": config.eps, "inputs": inputs})
    saved.path.unlink(missing_ok=True)
    columns = {str(name): table[name].to_numpy() for name in table}
    for line in evaluation_checks.of_block(attack, block, columns):
        cli.log.warning("warning: %s", line)
    return outputs


main = partial(cli.main, attack)  # python -m stages.attack <dataset> <defense> <seed> <attack>


if __name__ == "__main__":
    cli.process(main)
