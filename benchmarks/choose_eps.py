"""Choose the budget eps of the digits dataset on its training classes alone.

Trains on classes 0-2 and tests on classes 3-4, so the test classes 5-9 have no say. Prints R@1 and ERS of the
undefended and of the ACT-trained model for each eps. The rule: the smallest eps of the grid at which the undefended
model has nothing left to lose, that is, where the next eps lowers its ERS by less than one point.

    python -m benchmarks.choose_eps
"""

from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stages.core import metrics
from stages.core.attacking import run
from stages.core.attacks import ATTACKS
from stages.core.attacks.base import AttackBatch, Gallery
from stages.core.defenses import DEFENSES
from stages.core.mining import MINERS
from stages.core.models import BACKBONES, Embedder
from stages.core.scores import ers
from stages.core.seeding import generator
from stages.core.training import TrainConfig, train
from stages.data.readers import READERS
from stages.runtime import params

GRID = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4)
TRAIN_CLASSES, TEST_CLASSES = (0, 1, 2), (3, 4)


def load(classes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Images (N, 1, 8, 8) in [0, 1] and labels of some digit classes, ordered by label."""
    items = sorted((item for item in READERS["digits"](Path()) if item.class_id in classes), key=lambda i: i.class_id)
    pixels = np.stack([np.asarray(item.open()) for item in items])
    return torch.from_numpy(pixels)[:, None].float() / 255, torch.tensor([item.class_id for item in items])


def fit(defense: str, eps: float, loaded: params.Params) -> Embedder:
    """Train one model on the training half of the training classes with the digits profile."""
    block = params.defense(loaded, defense, "digits")
    profile, (images, labels) = block["training"], load(TRAIN_CLASSES)
    torch.manual_seed(0)
    model = Embedder(BACKBONES[profile["backbone"]], channels=1, side=8, dimension=profile["embedding_dim"])
    setting = TrainConfig(
        defense=partial(DEFENSES[block["method"]], **block["options"]),
        miner=MINERS[block["miner"]],
        eps=eps,
        lam=10.0,
        epochs=profile["epochs"],
        pairs_per_batch=profile["pairs_per_batch"],
        learning_rate=profile["learning_rate"],
        weight_decay=profile["weight_decay"],
        seed=0,
    )
    for _ in train(model, lambda batches, _: ((rows, images[rows]) for rows in batches), labels.numpy(), setting):
        pass
    return model.eval()


def measure(model: Embedder, eps: float, loaded: params.Params) -> tuple[float, float]:
    """R@1 and ERS in percent on the other training classes."""
    images, labels = load(TEST_CLASSES)
    rows = torch.arange(len(labels))
    with torch.no_grad():
        gallery = Gallery.of(model(images), labels)
    distances = torch.cdist(gallery.embeddings, gallery.embeddings)
    recall = 100 * metrics.recall_at_k(distances, labels, labels, 1, exclude=rows).mean().item()
    sub_scores: dict[str, float] = {}
    for name in ("ca_plus", "ca_minus", "qa_plus", "qa_minus", "tma", "es", "ltm", "gtm", "gtt"):
        block, attack = params.attack(loaded, name, "digits"), ATTACKS[name]
        targets = attack.select(gallery, rows, [generator(0, name, row) for row in rows.tolist()])
        alpha = block["alpha_over_eps"] * eps
        budget = {"eps": eps, "alpha": alpha, "steps": block["steps"]}
        after = run(attack, model, images, AttackBatch(gallery, rows, targets), **budget).after
        sub_scores |= {metric: value.mean().item() for metric, value in after.items()}
    return recall, ers(sub_scores)


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    loaded = params.load()
    vanilla = fit("vanilla", 0.0, loaded)
    print("| eps | vanilla R@1 | vanilla ERS | ACT R@1 | ACT ERS |\n|----:|----:|----:|----:|----:|")
    undefended = []
    for eps in GRID:
        act = fit("act", eps, loaded)
        figures = [*measure(vanilla, eps, loaded), *measure(act, eps, loaded)]
        undefended.append(figures[1])
        print(f"| {eps} | " + " | ".join(f"{figure:.1f}" for figure in figures) + " |", flush=True)
    saturated = [
        eps for eps, here, further in zip(GRID, undefended, undefended[1:], strict=False) if here - further < 1
    ]
    print(f"\nchosen: {saturated[0] if saturated else 'none: extend the grid'}")


if __name__ == "__main__":
    main()
