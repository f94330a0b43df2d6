"""Training one model: built from its block, trained epoch by epoch, measured now and then, kept to go on from."""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stages.core.defenses import DEFENSES
from stages.core.defenses.own import own as width
from stages.core.metrics import chance_recall, collapse, mean_pairwise_distance, recall_at_1
from stages.core.mining import MINERS
from stages.core.models import Embedder, OwnModel
from stages.core.parallel import Sharded
from stages.core.sets import ONE_SET, Sets
from stages.core.training import EpochRow, Load, TrainConfig, TrainingError, TrainState, train
from stages.models import checkpoints, own_models, weights
from stages.models.inference import embed_split
from stages.runtime import artifacts, processes, resume
from stages.runtime.errors import UserError, reason
from stages.runtime.params import Params
from stages.runtime.progress import first_process, progress

History = list[dict[str, float]]
COLUMNS = [*EpochRow._fields, "recall_at_1"]
log = logging.getLogger(__name__)


def architecture(profile: Params, channels: int, side: int) -> checkpoints.Architecture:
    """The network of a training profile for images of ``channels`` x ``side`` x ``side``."""
    return checkpoints.Architecture(
        profile["backbone"], channels, side, profile["embedding_dim"], profile["freeze_batchnorm"]
    )


def initial(of: checkpoints.Architecture, profile: Params, seed: int) -> Embedder:
    """An untrained model: weights drawn by ``seed``, below its last layer those of ImageNet where the profile says so.

    Raises:
        UserError: the ImageNet weights are missing or damaged.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = checkpoints.build(of)
    if profile["weights"] == "imagenet":
        weights.load(model.network, profile["backbone"])
    return model


def config(block: Params, eps: float, seed: int) -> TrainConfig:
    """What ``stages.core.training`` needs of a defense's block."""
    profile, options = block["training"], block["options"]
    return TrainConfig(
        defense=partial(DEFENSES[block["method"]], **options),
        miner=MINERS[block["miner"]],
        eps=eps,
        lam=options.get("lam", 10.0),
        epochs=profile["epochs"],
        pairs_per_batch=profile["pairs_per_batch"],
        learning_rate=profile["learning_rate"],
        weight_decay=profile["weight_decay"],
        seed=seed,
    )


class Data(NamedTuple):
    """``load`` gives batches of the training images, of classes ``labels``; ``test_images(rows)`` loads test images
    (B, C, H, W) to the device, ``test_labels`` (N,) are theirs, ``test_sets`` says which are queries."""

    load: Load
    labels: NDArray[np.integer]
    test_images: Callable[[Tensor], Tensor]
    test_labels: NDArray[np.int64]
    test_sets: Sets = ONE_SET


def fit(
    model: Embedder,
    computing: nn.Module,
    plan: TrainConfig,
    data: Data,
    saved: resume.Saved,
    measure_every: int,
    words: str,
) -> History:
    """Train ``model`` in place; one row per epoch, with R@1 on the test split every so many epochs and after the last.

    ``computing`` is the same model in the number format of training. Of several processes the first one measures.

    Raises:
        TrainingError: training cannot go on.
    """
    history, begin = restored(model, saved)
    with processes.joined(next(model.parameters()).device) as group, saved.keeping() as keep:

        def on_step(now: TrainState) -> None:
            keep(lambda: now._asdict() | {"weights": model.state_dict(), "history": history})

        network = computing if group is None else Sharded(computing, group)
        rows = train(network, data.load, data.labels, plan, begin=begin, keep=on_step)
        for row in progress(rows, total=plan.epochs - len(history), label=f"train {words}"):
            last, due = row.epoch + 1 == plan.epochs, (row.epoch + 1) % measure_every == 0
            measured = (last or due) and first_process()
            recall = measure(computing, data, words, last=last) if measured else np.nan
            history.append(row._asdict() | {"recall_at_1": recall})
    return history


def restored(model: Embedder, saved: resume.Saved) -> tuple[History, TrainState | None]:
    """Give ``model`` the weights that a killed run saved; its history and its state."""
    state = saved.load("weights", "history", *TrainState._fields)
    if not state:
        return [], None
    model.load_state_dict(state["weights"])
    begin = TrainState(*(state[name] for name in TrainState._fields))
    log.info("going on from %s: epoch %d, batch %d", saved.path, begin.epoch, begin.batch)
    return list(state["history"]), begin


def measure(computing: nn.Module, data: Data, words: str, *, last: bool) -> float:
    """R@1 on the test split in percent; after the last epoch a collapsed model is warned of."""
    embeddings = embed_split(computing, data.test_images, len(data.test_labels))
    labels = torch.from_numpy(data.test_labels)
    recall = 100 * recall_at_1(embeddings, labels, data.test_sets).mean().item()
    if not last:
        return recall
    if why := collapse(recall, 100 * chance_recall(labels, data.test_sets), mean_pairwise_distance(embeddings)):
        log.warning("%s has collapsed: %s", words, why)
    return recall


def write(folder: Path, history: History, save: Callable[[Path], None]) -> list[Path]:
    """Write model.safetensors, by ``save``, and history.csv, a header alone where there were no epochs."""
    outputs = (folder / "model.safetensors", folder / "history.csv")
    with artifacts.writing(*outputs) as (model_path, history_path):
        save(model_path)
        table = pd.DataFrame(history, columns=COLUMNS)
        table.to_csv(history_path, index=False, float_format="%.6g", lineterminator="\n")
    return list(outputs)


def adopt(own: Params, folder: Path, images: Tensor, key: str) -> list[Path]:
    """Write a user's model as if it had been trained here; ``images`` (B, C, H, W) are tried on it.

    ``key`` is its place in params.yaml.

    Raises:
        UserError: it cannot be built, or cannot embed or be attacked through such images.
    """

    def save(path: Path) -> None:
        if "import" not in own:
            own_models.check(own_models.copy(own, images.shape[1], images.shape[2], path), images, key)
            return
        network = own_models.build(own["import"])
        try:
            log.info("%s gives embeddings of %d", own["import"], width(network, images[:2]))
        except TrainingError as error:
            raise UserError(f"{own['import']}: {reason(error)}") from None
        own_models.save(network, own, path)
        own_models.check(OwnModel(network), images, key)

    return write(folder, [], save)
