"""Stage 4: benign retrieval metrics and the clean embeddings of the test split."""

from functools import partial
from pathlib import Path

from stages.runtime import artifacts, cli, threads
from stages.runtime.errors import UserError
from stages.runtime.params import Params


def evaluate(params: Params, dataset: str, defense: str, seed: int) -> list[Path]:
    """Write results/<dataset>/<defense>/<seed>/benign.json, benign.parquet (per query) and gallery.npy."""
    block = params["datasets"][dataset]
    threads.limit(block["training"]["threads"])
    from stages.data.splits import central_crops, load_split, validated
    from stages.models import evaluation, frozen, own_models
    from stages.models.inference import embed_split

    model, device, inputs = frozen.load(params, dataset, defense, seed)
    inputs |= validated(dataset)
    test = load_split(dataset, "test")
    cli.log.info("read %s and %d test images", next(iter(inputs)), len(test.labels))
    view = central_crops(test, block["crop"], device)
    if "model" in params["defenses"][defense]:
        own_models.check(model, view(own_models.some(len(test.labels))), f"defenses.{defense}.model")
    embeddings = embed_split(model, view, len(test.labels))
    if not embeddings.isfinite().all():
        path = next(iter(inputs))
        raise UserError(f"{path}: gives embeddings that are not finite numbers; use a wider float type or scale")
    per_query, values = evaluation.benign(embeddings, test.labels, test.sets)
    per_query.insert(0, "image_id", test.perturbed("query").image_ids)
    return evaluation.write(artifacts.result_dir(dataset, defense, seed), per_query, values, embeddings, inputs)


main = partial(cli.main, evaluate)  # python -m stages.evaluate <dataset> <defense> <seed>


if __name__ == "__main__":
    cli.process(main)
