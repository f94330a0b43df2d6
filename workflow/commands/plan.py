"""What the study, one table or one cell would take, before anything starts: jobs, hours and disk.

  ca-tride plan                        the study of params.yaml
  ca-tride plan robrank_fashion        what `ca-tride compute robrank_fashion` would run

Jobs are Snakemake's own dry run. Times are of this machine: the mean of earlier jobs of the same kind (logs/benchmarks)
where there are some, else the passes a job makes through its dataset's network, a few of which are timed now.
Preparing and checking data is counted at no time where it never ran here.
"""

from __future__ import annotations

import argparse
import math
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from statistics import mean
from typing import Any

from stages import STAGES
from stages.runtime import params as parameters
from stages.runtime import registries
from stages.runtime.errors import UserError, choose
from workflow.commands import compute

JOB = re.compile(r"python -m stages\.(\w+)((?: (?!2>)[\w]+)*)")
HOURS, GB = 3600, 10**9
WEIGHTS = 4  # bytes of a float32
# Images of each pair that a method perturbs in training: EST both, ACT the positive and the negative, HM all three, the
# phases of TRIDE one and two in turn. Of other methods all three at most.
PERTURBED = {"est": 2, "act": 2, "tride": 1.5, "ca_tride": 1.5}


def configure(parser: argparse.ArgumentParser) -> None:
    """What to plan."""
    parser.add_argument("name", nargs="?", help="a block of `tables`, or dataset/defense/seed/attack; default: all")


def jobs(*targets: str) -> list[tuple[str, tuple[str, ...]]]:
    """Stage and words of every job that Snakemake would run for some files, or for the study.

    Raises:
        UserError: Snakemake refuses; shows its last line.
    """
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--cores", "1", "--printshellcmds", *targets]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(refusal(done))
    found = {(stage, tuple(words.split())) for stage, words in JOB.findall(done.stdout + done.stderr)}
    return sorted(found)


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """Why Snakemake failed, in one line: its last on stderr, or the first of a dry run's report on stdout."""
    lines = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith("Using ")]
    told = [line for line in done.stdout.splitlines() if "Exception" in line or "Error" in line]
    return (lines[-1:] or told[:1] or ["snakemake failed; run `snakemake -n` to see why"])[0]


def measured(stage: str, words: tuple[str, ...]) -> float | None:
    """Mean seconds of earlier jobs of a stage that agree in all words but the seed; None where there are none."""
    pattern = "-".join(["*" if word.isdigit() else word for word in words]) or "all"
    seconds = [
        float(line.split("\t")[0])
        for path in (Path("logs/benchmarks") / stage).glob(f"{pattern}.tsv")
        for line in path.read_text().splitlines()[1:]
    ]
    return mean(seconds) if seconds else None


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


class Network:
    """What one image costs a dataset's network here: seconds of a forward pass, and of one with its backward pass."""

    def __init__(self, profile: Mapping[str, Any], crop: int, channels: int, precision: str):
        """Build the network and time a few small batches."""
        import torch

        from stages.core.models import BACKBONES, Bfloat16, Embedder

        torch.set_num_threads(profile["threads"])
        device = profile["device"] if profile["device"] == "cpu" or torch.cuda.is_available() else "cpu"
        self.substitute = device != profile["device"]
        dimension = profile["embedding_dim"]
        whole = Embedder(BACKBONES[profile["backbone"]], channels=channels, side=crop, dimension=dimension).to(device)
        self.weights = sum(value.numel() for value in whole.state_dict().values())
        model = Bfloat16(whole) if precision == "bf16" else whole
        images = torch.rand(112 if crop <= 32 else 8, channels, crop, crop, device=device, requires_grad=True)

        def forward() -> None:
            with torch.no_grad():
                model(images).sum().item()

        def both() -> None:
            model(images).sum().backward()

        self.forward, self.both = (self._time(run) / len(images) for run in (forward, both))

    @staticmethod
    def _time(run: Any) -> float:
        """The best of three after one that warms up."""
        run()
        times = []
        for _ in range(3):
            started = time.perf_counter()
            run()
            times.append(time.perf_counter() - started)
        return min(times)


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


def estimate(loaded: parameters.Params, network: Network, stage: str, words: tuple[str, ...]) -> float:
    """Seconds of a job from the passes it makes."""
    if stage not in ("train", "evaluate", "attack", "transfer"):
        return 0.0
    dataset, name, *_ = words
    data = loaded["datasets"][dataset]
    if stage == "evaluate":
        return images_tested(data) * network.forward
    if stage == "attack":
        block = parameters.attack(loaded, words[3], dataset)
        tried = block.get("suite", {"": block}).values()
        return attacked(loaded, dataset, words[3]) * sum(searched(one, network) for one in tried)
    if stage == "transfer":
        return kept(loaded, dataset, name) * pairs(loaded) * network.forward
    defense = parameters.defense(loaded, name, dataset)
    if "model" in defense:
        return 0.0
    profile = defense["training"]
    # The two images of a pair are mined on, some are perturbed in PGD steps, and three are trained on.
    steps = defense["options"].get("steps", 0) * PERTURBED.get(defense["method"], 3)
    perturbed = data["expected"]["train"]["images"] * profile["epochs"] * (2 + steps + 3)
    return (
        perturbed * network.both + images_tested(data) * network.forward * profile["epochs"] / profile["evaluate_every"]
    )


def kept(loaded: parameters.Params, dataset: str, attack: str) -> int:
    """Perturbed images that an attack on a dataset keeps."""
    from stages.core.seeding import EXAMPLES

    wanted, images = loaded["attacks"][attack].get("keep", EXAMPLES), attacked(loaded, dataset, attack)
    return images if wanted == "all" else min(images, wanted)


def pairs(loaded: parameters.Params) -> int:
    """Models that a transfer measures, times those that its images were made on."""
    return len(loaded["run"]["seeds"]) * len(loaded["run"]["defenses"]) ** 2


def searched(tried: Mapping[str, Any], network: Network) -> float:
    """Seconds of one search for one image: an attack block without a suite, or a member of one."""
    from stages.core.search import BLACK_BOX
    from stages.core.search.black_box import POPULATION

    optimizer, steps, restarts = tried.get("optimizer", "sign"), tried["steps"], tried.get("restarts", 1)
    passes = {"nes": steps * POPULATION, "apgd": steps + 1, "square": steps + 1}.get(optimizer, steps)
    return restarts * passes * (network.forward if optimizer in BLACK_BOX else network.both)


def size(loaded: parameters.Params, network: Network, stage: str, words: tuple[str, ...]) -> float:
    """Bytes that a job writes, small files left out."""
    if stage not in ("prepare", "train", "evaluate", "attack", "transfer"):
        return 0.0
    data = loaded["datasets"][words[0]]
    counts, channels = data["expected"], channels_of(words[0], data["reader"])
    if stage == "prepare":
        return (counts["train"]["images"] + images_tested(data)) * data["side"] ** 2 * channels
    if stage == "train":
        return network.weights * WEIGHTS
    if stage == "evaluate":
        return images_tested(data) * (data["training"]["embedding_dim"] * WEIGHTS + 48)
    if stage == "transfer":
        return kept(loaded, *words) * pairs(loaded) * 50
    pictures = kept(loaded, words[0], words[3]) * channels * data["crop"] ** 2 * WEIGHTS
    return attacked(loaded, words[0], words[3]) * 100 + pictures


def rows(loaded: parameters.Params, todo: list[tuple[str, tuple[str, ...]]]) -> list[dict[str, Any]]:
    """For each stage: jobs, seconds, bytes, and of how many jobs the time was measured before."""
    networks: dict[tuple[str, str], Network] = {}
    found: dict[str, Any] = {}  # counters; seconds are floats
    for stage, words in todo:
        network = None
        if words:
            data = loaded["datasets"][words[0]]
            precision = data["training"]["precision"] if stage == "train" else data["precision"]
            channels = channels_of(words[0], data["reader"])
            if (words[0], precision) not in networks:
                networks[words[0], precision] = Network(data["training"], data["crop"], channels, precision)
            network = networks[words[0], precision]
        row, before = found.setdefault(stage, Counter()), measured(stage, words)
        known = before if before is not None else estimate(loaded, network, stage, words) if network else 0.0
        row.update(jobs=1, seconds=known, bytes=size(loaded, network, stage, words) if network else 0.0)
        row.update(measured=before is not None)
        row.update(substitute=bool(network and network.substitute and before is None))
    return [{"stage": stage} | dict(found[stage]) for stage in STAGES if stage in found]


def text(found: list[dict[str, Any]]) -> str:
    """The plan as a table with a sum and what it rests on."""
    if not found:
        return "Nothing to be done: all results of the configured matrix are there."
    total = {key: sum(row[key] for row in found) for key in ("jobs", "seconds", "bytes", "measured")}
    lines = [f"{'stage':<10}{'jobs':>6}{'hours':>10}{'disk, GB':>11}"]
    for row in [*found, {"stage": "total"} | total]:
        hours, disk = row["seconds"] / HOURS, row["bytes"] / GB
        lines.append(f"{row['stage']:<10}{row['jobs']:>6}{_short(hours):>10}{_short(disk):>11}")
    lines.append(
        f"One job after another on this machine; {total['measured']} of {total['jobs']} jobs from earlier times, the "
        "others from passes timed now."
    )
    if any(row.get("substitute") for row in found):
        lines.append("There is no GPU here, so GPU jobs are estimated on the CPU, which is far too long.")
    return "\n".join(lines)


def _short(value: float) -> str:
    """Two significant digits, small values as such."""
    if value < 0.01:
        return "<0.01" if value else "0"
    return f"{value:.{max(0, 1 - math.floor(math.log10(value)))}f}"


def run(name: str | None = None) -> str:
    """The plan of the study, of a table or of a cell.

    Raises:
        UserError: params.yaml is wrong, there is no such table or cell, or Snakemake refuses.
    """
    loaded = parameters.load()
    if name and "/" not in name and name not in loaded["tables"]:
        raise UserError(f"{parameters.FILE}: tables: no block named {name!r}; {choose(name, list(loaded['tables']))}")
    return text(rows(loaded, jobs(*compute.targets(loaded, name) if name else ())))
