"""What a job costs on any machine: passes of one image through its network, and bytes that it writes."""

from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

from stages.runtime import params as parameters
from stages.runtime import registries
from stages.runtime.errors import UserError

FLOAT = 4  # bytes of a float32
# Images of each pair that a method perturbs in training: EST both, ACT the positive and the negative, HM all three, the
# phases of TRIDE one and two in turn. Of other methods all three at most.
PERTURBED = {"est": 2, "act": 2, "tride": 1.5, "ca_tride": 1.5}


class Passes(NamedTuple):
    """Passes of one image: forward alone, and forward and backward."""

    forward: float = 0.0
    both: float = 0.0


def passes(loaded: parameters.Params, stage: str, words: tuple[str, ...]) -> Passes:
    """The passes that a job makes; none where a stage has no network."""
    if stage == "evaluate":
        return Passes(images_tested(loaded["datasets"][words[0]]))
    if stage == "transfer":
        return Passes(kept(loaded, *words) * pairs(loaded))
    if stage == "attack":
        dataset, _, _, attack = words
        block = parameters.attack(loaded, attack, dataset)
        tried = [searched(one) for one in block.get("suite", {"": block}).values()]
        images = attacked(loaded, dataset, attack)
        return Passes(*(images * sum(kind) for kind in zip(*tried, strict=True)))
    return trained(loaded, words[0], words[1]) if stage == "train" else Passes()


def trained(loaded: parameters.Params, dataset: str, name: str) -> Passes:
    """Passes of a training; none where the model is a user's own."""
    data, defense = loaded["datasets"][dataset], parameters.defense(loaded, name, dataset)
    if "model" in defense:
        return Passes()
    profile = defense["training"]
    # The two images of a pair are mined on, some are perturbed in PGD steps, and three are trained on.
    steps = defense["options"].get("steps", 0) * PERTURBED.get(defense["method"], 3)
    return Passes(
        forward=images_tested(data) * profile["epochs"] / profile["evaluate_every"],
        both=data["expected"]["train"]["images"] * profile["epochs"] * (2 + steps + 3),
    )


def searched(tried: Mapping[str, Any]) -> Passes:
    """Passes of one search for one image: an attack block without a suite, or a member of one."""
    from stages.core.search import BLACK_BOX
    from stages.core.search.black_box import POPULATION

    optimizer, steps, restarts = tried.get("optimizer", "sign"), tried["steps"], tried.get("restarts", 1)
    count = restarts * {"nes": steps * POPULATION, "apgd": steps + 1, "square": steps + 1}.get(optimizer, steps)
    return Passes(forward=count) if optimizer in BLACK_BOX else Passes(both=count)


def images_tested(data: Mapping[str, Any], perturbs: str = "") -> int:
    """How many test images a dataset has, or how many of them an attack on a "query" or a "candidate" perturbs."""
    expected = data["expected"]
    if "test" in expected:
        return int(expected["test"]["images"])
    parts = {"query": ("query",), "candidate": ("gallery",)}.get(perturbs, ("query", "gallery"))
    return sum(expected[part]["images"] for part in parts)


def attacked(loaded: parameters.Params, dataset: str, attack: str) -> int:
    """How many images an attack perturbs."""
    data, family = loaded["datasets"][dataset], registries.attacks()[loaded["attacks"][attack]["attack"]]
    images = images_tested(data, "candidate" if family == "candidate" else "query")
    return images if data["attack_queries"] == "all" else min(images, data["attack_queries"])


def kept(loaded: parameters.Params, dataset: str, attack: str) -> int:
    """Perturbed images that an attack on a dataset keeps."""
    block, images = loaded["attacks"][attack], attacked(loaded, dataset, attack)
    if "keep" not in block:
        from stages.core.seeding import EXAMPLES  # with torch, which takes seconds

        return min(images, EXAMPLES)
    return images if block["keep"] == "all" else min(images, block["keep"])


def memory(loaded: parameters.Params, dataset: str, attack: str) -> float:
    """Bytes of memory that an attack takes for the perturbed images that its block has it keep; 0 where that is not
    said. They are there twice while they are written. Of three channels, which most images have."""
    if "keep" not in loaded["attacks"][attack]:
        return 0.0
    return 2 * kept(loaded, dataset, attack) * 3 * loaded["datasets"][dataset]["crop"] ** 2 * FLOAT


def pairs(loaded: parameters.Params) -> int:
    """Models that a transfer measures, times those that its images were made on."""
    return len(loaded["run"]["seeds"]) * len(loaded["run"]["defenses"]) ** 2


def size(loaded: parameters.Params, weights: int, stage: str, words: tuple[str, ...]) -> float:
    """Bytes that a job writes, small files left out; ``weights`` is the number of values in its network."""
    if stage not in ("prepare", "train", "evaluate", "attack", "transfer"):
        return 0.0
    data = loaded["datasets"][words[0]]
    counts, channels = data["expected"], channels_of(words[0], data["reader"])
    if stage == "prepare":
        return (counts["train"]["images"] + images_tested(data)) * data["side"] ** 2 * channels
    if stage == "train":
        return weights * FLOAT
    if stage == "evaluate":
        return images_tested(data) * (data["training"]["embedding_dim"] * FLOAT + 48)
    if stage == "transfer":
        return kept(loaded, *words) * pairs(loaded) * 50
    pictures = kept(loaded, words[0], words[3]) * channels * data["crop"] ** 2 * FLOAT
    return attacked(loaded, words[0], words[3]) * 100 + pictures


@cache
def channels_of(dataset: str, reader: str) -> int:
    """Channels of a dataset's images: as they were prepared, else as the originals' headers say.

    Where those are missing, still packed or not in order, 3: what most images have, and the larger plan.
    """
    from stages.data import archives, decoding, originals
    from stages.data.readers import READERS
    from stages.data.splits import read_pixels
    from stages.runtime import artifacts

    raw = artifacts.raw_dir(dataset)
    try:
        if (prepared := artifacts.data_dir(dataset) / "images.npy").exists():
            return int(read_pixels(prepared).shape[3])
        packed = any(archives.is_archive(path) for path in originals.files(raw))
        return 3 if packed else decoding.channels_of(READERS[reader](raw))
    except (UserError, OSError):
        return 3
