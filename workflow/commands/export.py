"""Export one checkpoint: the weights, a model card and a license note of the data.

They are written to export/<dataset>-<defense>-<seed>/. The card (README.md) describes training, data, measured values
and limits, in the form that model hubs read. That of a model made elsewhere says of its training and license nothing.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.runtime import artifacts, checksums, cli
from stages.runtime import params as parameters

LICENSES = {
    "digits": "Digits: scikit-learn's copy of the UCI set Optical Recognition of Handwritten Digits (CC BY 4.0).",
    "mnist": "MNIST (LeCun, Cortes and Burges) derives from data of NIST; its publishers state no license.",
    "fashion": "Fashion-MNIST (Zalando) is under the MIT license.",
    "cub": "CUB-200-2011 (Caltech) is for non-commercial research and education; the photographs are their owners'.",
    "cars": "Cars-196 (Stanford) is for non-commercial research; the photographs belong to their owners.",
    "sop": "Stanford Online Products is for non-commercial research; the photographs belong to their sellers.",
}
UNKNOWN = (
    "The data are the user's own; this project knows nothing of their license. Add it here before passing this on."
)
CARD = """---
{license}library_name: pytorch
tags: [image-retrieval, metric-learning, adversarial-robustness]
---

# {dataset}, {defense}, seed {seed}

{about}: images (B, C, H, W) in [0, 1] to unit-norm embeddings.

## Use

```python
from pathlib import Path

{load}
```

{use}
{training}
## What was measured

On {test}{attacked}, with attacks within eps {eps:.4g} of pixels in [0, 1].

{table}

{repeated}SHA-256 of the weights: `{sha256}`.

## Limits

{kind}Its robustness was measured with the attacks above, not proven; an attacker with more steps or
another aim may do better. A small mean pairwise distance (`spread`) raises ERS without protecting a ranking.
"""
PAPER = """*Collapse-Aware Triplet Decoupling for Adversarially Robust Image Retrieval*
(ICML 2024, arXiv 2312.07364)"""
TRAINING = """
## Training

```yaml
{block}```

Data: {dataset}, {train} training images of {classes} classes. {license}
"""
LOAD = """from stages.models import checkpoints

model = checkpoints.load(Path("model.safetensors"))"""
LOAD_IMPORTED = """from stages.models import own_models

model = own_models.load(Path("model.safetensors"), {own})"""
IN_HEADER = "The header of the safetensors file contains the architecture. The model normalizes pixels itself."
IMPORTED = (
    "The safetensors file contains weights alone. `{name}` builds the network, so its code must be importable where "
    "the model is used."
)
THEIRS = (
    "The model was made elsewhere; this project trained nothing and knows nothing of the license of code and weights. "
    "Add it here before passing this on."
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Which checkpoint."""
    parser.add_argument("model", help="dataset/defense/seed, such as digits/ca_tride/0")


def figures(dataset: str, defense: str, seed: int) -> list[tuple[str, str]]:
    """Name and value of everything in reports/scores.csv for a model; empty where it is not there."""
    path = artifacts.REPORTS / "scores.csv"
    rows = [line.split(",") for line in path.read_text().splitlines()[1:]] if path.exists() else []
    return [(metric, f"{float(value):.4g}") for *words, metric, value in rows if words == [dataset, defense, str(seed)]]


def tested(expected: Mapping[str, Any]) -> str:
    """What a model was tested on, in words."""
    if "test" in expected:
        return f"{expected['test']['images']} test images"
    return f"{expected['query']['images']} queries and a gallery of {expected['gallery']['images']} images"


def card(loaded: parameters.Params, dataset: str, defense: str, seed: int, model: Path) -> str:
    """The model card as Markdown."""
    data, block = loaded["datasets"][dataset], parameters.defense(loaded, defense, dataset)
    found = figures(dataset, defense, seed)
    lines = ["| metric | value |", "| --- | ---: |", *(f"| {name} | {value} |" for name, value in found)]
    queries = data["attack_queries"]
    return CARD.format(
        **(of_another(block["model"]) if "model" in block else of_this_project(data, block, dataset)),
        dataset=dataset,
        defense=defense,
        seed=seed,
        test=tested(data["expected"]),
        attacked="" if queries == "all" else f", {queries} of them attacked",
        eps=data["eps"],
        table="\n".join(lines) if found else "Not run: reports/scores.csv has no values of this model.",
        sha256=checksums.sha256(model),
    )


def of_this_project(data: Mapping[str, Any], block: parameters.Params, dataset: str) -> dict[str, str]:
    """The parts of the card of a model that was trained here."""
    train = data["expected"]["train"]
    return {
        "license": "license: apache-2.0\n",
        "about": f"An embedding network of a reproduction of {PAPER}",
        "load": LOAD,
        "use": IN_HEADER,
        "training": TRAINING.format(
            block=parameters.text(block),
            dataset=dataset,
            train=train["images"],
            classes=train["classes"],
            license=LICENSES.get(dataset, UNKNOWN),
        ),
        "repeated": "The values are of one training; another seed gives others. ",
        "kind": "This is a study model. ",
    }


def of_another(own: Mapping[str, Any]) -> dict[str, str]:
    """The parts of the card of a model that was made elsewhere; ``own`` is its block's ``model``."""
    imported = "import" in own
    use = IMPORTED.format(name=own["import"]) if imported else IN_HEADER
    return {
        "license": "",
        "about": f"An embedding network, measured like the rows of a reproduction of {PAPER}",
        "load": LOAD_IMPORTED.format(own=dict(own)) if imported else LOAD,
        "use": f"{use}\n\n{THEIRS}",
        "training": "",
        "repeated": "",
        "kind": "",
    }


def run(model: str) -> str:
    """Write the folder, whole or not at all; its name, in one line.

    Raises:
        UserError: the name is not a model's, or it was not trained.
    """
    loaded = parameters.load()
    dataset, defense, seed, _ = cli.cell(f"{model}/benign", loaded)
    folder = artifacts.model_dir(dataset, defense, seed)
    weights = artifacts.require(folder / "model.safetensors", f"snakemake --cores 8 {folder}/model.safetensors")
    target = Path("export") / f"{dataset}-{defense}-{seed}"
    with artifacts.replacing(target) as draft:
        shutil.copyfile(weights, draft / "model.safetensors")
        shutil.copyfile(folder / "history.csv", draft / "history.csv")
        (draft / "README.md").write_text(card(loaded, dataset, defense, seed, weights))
        (draft / "DATA_LICENSE.txt").write_text(LICENSES.get(dataset, UNKNOWN) + "\n")
    return f"exported: {target}"
