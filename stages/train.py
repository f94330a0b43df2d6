"""Stage 3: train one model, writing its weights and one history row per epoch."""

from functools import partial
from pathlib import Path

from stages.runtime import artifacts, cli, threads
from stages.runtime import params as parameters
from stages.runtime.errors import UserError
from stages.runtime.params import Params
from stages.runtime.progress import first_process


def train(params: Params, dataset: str, defense: str, seed: int) -> list[Path]:
    """Write models/<dataset>/<defense>/<seed>/model.safetensors and history.csv.

    Every ``resume.minutes`` the state is saved to resume.pt beside them; a killed run resumes from it and ends with the
    same bytes. Of several processes that torchrun started, only the first one writes and returns paths.
    """
    data_block, block = params["datasets"][dataset], parameters.defense(params, defense, dataset)
    crop, profile, folder = data_block["crop"], block["training"], artifacts.model_dir(dataset, defense, seed)
    threads.limit(profile["threads"])
    from stages.data.batches import training_batches
    from stages.data.splits import central_crops, load_split, validated
    from stages.models import checkpoints, own_models, training
    from stages.runtime import device, resume

    place = device.configure(profile, dataset)
    inputs, test = validated(dataset), load_split(dataset, "test")
    if "model" in block:
        images = central_crops(test, crop)(own_models.some(len(test.labels)))
        return training.adopt(block["model"], folder, images, f"defenses.{defense}.model")
    learn = load_split(dataset, "train")
    cli.log.info("read %d training images of %s", len(learn.rows), dataset)

    architecture = training.architecture(profile, learn.pixels.shape[3], crop)
    model = training.initial(architecture, profile, seed).to(place)
    computing = device.in_precision(model, profile["precision"], place, f"datasets.{dataset}.training.precision")
    most = 2 * profile["pairs_per_batch"]
    data = training.Data(
        training_batches(learn, place, most=most, crop=crop, flip=data_block["flip"]),
        learn.labels,
        central_crops(test, crop, place),
        test.labels,
        test.sets,
    )
    run = resume.identity("train", block=block, data=inputs, dataset=data_block, seed=seed)
    saved = resume.Saved(folder / "resume.pt", run, params["resume"]["minutes"])
    plan, words = training.config(block, data_block["eps"], seed), f"{dataset} {defense} {seed}"
    try:
        history = training.fit(model, computing, plan, data, saved, profile["evaluate_every"], words)
    except training.TrainingError as error:
        raise UserError(f"{words}: {error}") from None
    if not first_process():
        return []
    outputs = training.write(folder, history, lambda path: checkpoints.save(model, architecture, path))
    saved.path.unlink(missing_ok=True)
    return outputs


main = partial(cli.main, train)  # python -m stages.train <dataset> <defense> <seed>


if __name__ == "__main__":
    cli.process(main)
