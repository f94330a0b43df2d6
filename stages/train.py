"""Stage 3: train one model, writing its weights and one history row per epoch."""

from __future__ import annotations

from pathlib import Path

from stages.io import artifacts, cli, determinism
from stages.io.errors import UserError, reason
from stages.io.params import Params
from stages.io.params import dataset as dataset_block
from stages.io.params import defense as defense_block


def train(params: Params, dataset: str, defense: str, seed: int) -> list[Path]:
    """Write models/<dataset>/<defense>/<seed>/model.safetensors and history.csv.

    Every so many minutes the state goes to resume.pt beside them; a killed run goes on from it and ends with the same
    bytes.
    Of several processes that torchrun started, the first one writes, and names what it wrote.
    """
    data_block, block = dataset_block(params, dataset), defense_block(params, defense, dataset)
    profile = block["training"]
    cli.limit_threads(profile["threads"])
    determinism.settle(profile["deterministic"])
    device = cli.device(profile["device"], dataset)
    from functools import partial

    import numpy as np
    import pandas as pd
    import torch
    from torch import Tensor

    from stages.core.defenses import DEFENSES
    from stages.core.metrics import chance_recall, collapse, recall_at_1, spread
    from stages.core.mining import MINERS
    from stages.core.training import EpochRow, Setting, Standing, TrainingError
    from stages.core.training import train as epochs
    from stages.io import checkpoints, processes, resume, weights
    from stages.io.batches import training_batches
    from stages.io.data import central_crop, load_split, validated
    from stages.io.inference import embed_split
    from stages.io.precision import in_precision

    data = validated(dataset)
    if "model" in block:
        return adopt(block["model"], dataset, defense, seed, data_block["crop"])
    learn, test = load_split(dataset, "train"), load_split(dataset, "test")
    cli.log.info("read %d training images of %s", len(learn.rows), dataset)
    architecture = checkpoints.Architecture(
        backbone=profile["backbone"],
        channels=learn.pixels.shape[3],
        side=data_block["crop"],
        embedding_dim=profile["embedding_dim"],
        freeze_batchnorm=profile["freeze_batchnorm"],
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = checkpoints.build(architecture)
    if profile["weights"] == "imagenet":
        weights.load(model.network, profile["backbone"])
    model.to(device)
    options = block["options"]
    setting = Setting(
        defense=partial(DEFENSES[block["method"]], **options),
        miner=MINERS[block["miner"]],
        eps=data_block["eps"],
        lam=options.get("lam", 10.0),
        epochs=profile["epochs"],
        pairs_per_batch=profile["pairs_per_batch"],
        learning_rate=profile["learning_rate"],
        weight_decay=profile["weight_decay"],
        seed=seed,
    )
    load = training_batches(
        learn, device, most=2 * profile["pairs_per_batch"], crop=data_block["crop"], flip=data_block["flip"]
    )
    labels = torch.from_numpy(test.labels)
    computing = in_precision(model, profile["precision"], device, f"datasets.{dataset}.training.precision")

    def view(rows: Tensor) -> Tensor:
        return central_crop(test, rows, data_block["crop"]).to(device)

    folder = artifacts.model_dir(dataset, defense, seed)
    state, run = folder / "resume.pt", resume.identity("train", block=block, data=data, dataset=data_block, seed=seed)
    collapsed = ""
    history: list[dict[str, float]] = []
    kept, begin = resume.load(state, run, "weights", "history", *Standing._fields), None
    if kept:
        model.load_state_dict(kept["weights"])
        history += kept["history"]
        begin = Standing(*(kept[name] for name in Standing._fields))
        cli.log.info("going on from %s: epoch %d, batch %d", state, begin.epoch, begin.batch)
    try:
        with processes.joined(device) as group, resume.keeping(state, run, params["resume"]["minutes"]) as keep:

            def standing(now: Standing) -> None:
                keep(lambda: now._asdict() | {"weights": model.state_dict(), "history": history})

            split = processes.split(computing, group)
            rows = epochs(split, load, learn.labels, setting, begin=begin, keep=standing)
            for row in cli.progress(
                rows, total=setting.epochs - len(history), label=f"train {dataset} {defense} {seed}"
            ):
                last, due = row.epoch + 1 == setting.epochs, (row.epoch + 1) % profile["evaluate_every"] == 0
                recall = np.nan
                if (last or due) and cli.first_process():
                    embeddings = embed_split(computing, view, len(labels))
                    recall = 100 * recall_at_1(embeddings, labels).mean().item()
                    if last:
                        collapsed = collapse(recall, 100 * chance_recall(labels), spread(embeddings))
                history.append(row._asdict() | {"recall_at_1": recall})
    except TrainingError as error:
        raise UserError(f"{dataset} {defense} {seed}: {error}") from None
    if not cli.first_process():
        return []
    outputs = (folder / "model.safetensors", folder / "history.csv")
    with artifacts.writing(*outputs) as (model_path, history_path):
        checkpoints.save(model, architecture, model_path)
        table = pd.DataFrame(history, columns=[*EpochRow._fields, "recall_at_1"])  # a header even without epochs
        table.to_csv(history_path, index=False, float_format="%.6g", lineterminator="\n")
    state.unlink(missing_ok=True)
    if collapsed:
        cli.log.warning("%s %s %s has collapsed: %s", dataset, defense, seed, collapsed)
    return list(outputs)


def adopt(own: Params, dataset: str, defense: str, seed: int, crop: int) -> list[Path]:
    """Write a user's model as if it had been trained here, with a history of no epochs."""
    import pandas as pd
    import torch

    from stages.core.defenses.own import own as width
    from stages.core.models import Embedder, OwnModel
    from stages.core.selfchecks import IMAGES
    from stages.core.training import EpochRow, TrainingError
    from stages.io import own_models
    from stages.io.data import central_crop, load_split

    test = load_split(dataset, "test")
    images = central_crop(test, torch.arange(min(IMAGES, len(test.labels))), crop)
    folder = artifacts.model_dir(dataset, defense, seed)
    outputs = (folder / "model.safetensors", folder / "history.csv")
    with artifacts.writing(*outputs) as (model_path, history_path):
        model: Embedder | OwnModel
        if "import" in own:
            network = own_models.build(own["import"])
            try:
                cli.log.info("%s gives embeddings of %d", own["import"], width(network, images[:2]))
            except TrainingError as error:
                raise UserError(f"{own['import']}: {reason(error)}") from None
            own_models.save(network, own, model_path)
            model = OwnModel(network)
        else:
            model = own_models.copy(own, test.pixels.shape[3], crop, model_path)
        own_models.check(model, images, f"defenses.{defense}.model")
        pd.DataFrame(columns=[*EpochRow._fields, "recall_at_1"]).to_csv(history_path, index=False, lineterminator="\n")
    return list(outputs)


def main() -> None:
    """Command line: ``python -m stages.train <dataset> <defense> <seed>``."""
    cli.main(train, "train", __doc__ or "", "dataset", "defense", "seed")


if __name__ == "__main__":
    main()
