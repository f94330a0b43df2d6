"""What the study, one table or one cell would take, before anything starts: jobs, passes, hours and disk.

  ca-tride plan                        the study of params.yaml
  ca-tride plan robrank_fashion        what `ca-tride compute robrank_fashion` would run

Jobs are Snakemake's own dry run. Times are of this machine: the mean of earlier jobs of the same kind (logs/benchmarks)
where there are some, else the passes a job makes through its dataset's network, a few of which are timed now. Passes
are millions of images through a network, forward or forward and back: what a study costs where you know the speed.
Preparing and checking data is counted at no time where it never ran here.
"""

from __future__ import annotations

import argparse
import math
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from statistics import mean
from timeit import repeat
from typing import Any

from stages import STAGES
from stages.runtime import params as parameters
from stages.runtime.errors import UserError
from workflow import cost
from workflow.commands import compute

JOB = re.compile(r"python -m stages\.(\w+)((?: (?!2>)[\w]+)*)")
HOURS, MILLION, GB = 3600, 10**6, 10**9


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

        # The best of three after one that warms up.
        self.forward, self.both = (min(repeat(run, number=1, repeat=4)[1:]) / len(images) for run in (forward, both))


def estimate(loaded: parameters.Params, network: Network, stage: str, words: tuple[str, ...]) -> float:
    """Seconds of a job from the passes it makes."""
    passes = cost.passes(loaded, stage, words)
    return passes.forward * network.forward + passes.both * network.both


def rows(loaded: parameters.Params, todo: list[tuple[str, tuple[str, ...]]]) -> list[dict[str, Any]]:
    """For each stage: jobs, seconds, bytes, and of how many jobs the time was measured before."""
    networks: dict[tuple[str, str], Network] = {}
    found: dict[str, Any] = {}  # counters; seconds are floats
    for stage, words in todo:
        row, seconds = found.setdefault(stage, Counter()), measured(stage, words)
        row.update(jobs=1, measured=seconds is not None, **cost.passes(loaded, stage, words)._asdict())
        row.update(seconds=seconds or 0.0, bytes=0, substitute=False)
        if words:
            data = loaded["datasets"][words[0]]
            key = words[0], data["training"]["precision"] if stage == "train" else data["precision"]
            if key not in networks:
                channels = cost.channels_of(words[0], data["reader"])
                networks[key] = Network(data["training"], data["crop"], channels, key[1])
            row.update(bytes=cost.size(loaded, networks[key].weights, stage, words))
            if seconds is None:
                row.update(seconds=estimate(loaded, networks[key], stage, words), substitute=networks[key].substitute)
    return [{"stage": stage} | dict(found[stage]) for stage in STAGES if stage in found]


def text(found: list[dict[str, Any]]) -> str:
    """The plan as a table with a sum and what it rests on."""
    if not found:
        return "Nothing to be done: all results of the configured matrix are there."
    total = {key: sum(row[key] for row in found) for key in ("jobs", "forward", "both", "seconds", "bytes", "measured")}
    lines = [f"{'stage':<10}{'jobs':>6}{'forward, M':>12}{'fwd+bwd, M':>13}{'hours':>10}{'disk, GB':>11}"]
    units = {"forward": (MILLION, 12), "both": (MILLION, 13), "seconds": (HOURS, 10), "bytes": (GB, 11)}
    for row in [*found, {"stage": "total"} | total]:
        values = "".join(f"{_short(row[key] / unit):>{width}}" for key, (unit, width) in units.items())
        lines.append(f"{row['stage']:<10}{row['jobs']:>6}{values}")
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
    return text(rows(loaded, jobs(*compute.targets(loaded, name) if name else ())))
