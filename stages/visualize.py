"""Stage 7: pictures of attacks on one dataset: queries, perturbations, and the nearest images before and after."""

from functools import partial
from pathlib import Path

from stages.runtime import artifacts, cli, threads
from stages.runtime.params import Params


def visualize(params: Params, dataset: str) -> list[Path]:
    """Write reports/visualize/<dataset>.json: the same queries for every defense, of the run's first seed.

    Attacks that are not in the run, and results that are not there, are left out.
    """
    threads.limit(1)
    from stages.core.seeding import drawn_order
    from stages.data.splits import central_crops, class_names, load_split
    from stages.models import embeddings, own_models
    from stages.reporting.pictures import Album

    run, wanted, crop = params["run"], params["visualize"], params["datasets"][dataset]["crop"]
    seed, test = run["seeds"][0], load_split(dataset, "test")
    order = drawn_order(test.perturbed("query").image_ids)
    album = Album(test.labels, order, central_crops(test, crop), test.sets)
    for defense in run["defenses"]:
        words, folder = f"{dataset} {defense} {seed}", artifacts.result_dir(dataset, defense, seed)
        attacks = [name for name in wanted["attacks"] if name in run["attacks"] and (folder / f"{name}.json").exists()]
        if not attacks:
            cli.log.info("no pictures of %s: not run", words)
            continue
        path = artifacts.model_dir(dataset, defense, seed) / "model.safetensors"
        own = params["defenses"][defense].get("model")
        model = own_models.load(path, own)
        gallery = embeddings.read_gallery(folder / "gallery.npy", len(test.labels))
        for attack in attacks:
            kept, eps = embeddings.read_examples(folder, attack)
            album.add(attack, defense, model, gallery, kept, eps, wanted["queries"])
    path = artifacts.REPORTS / "visualize" / f"{dataset}.json"
    return album.write(path, class_names(dataset, "test"), {"dataset": dataset, "seed": seed})


main = partial(cli.main, visualize)  # python -m stages.visualize <dataset>


if __name__ == "__main__":
    cli.process(main)
