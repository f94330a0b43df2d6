"""Speed and memory of preparing a large dataset, on generated photographs in the folder-per-class layout.

Writes JPEG files of 400 x 300 pixels to a temporary folder, runs the stage on them as a user would, watches its
anonymous memory, and says what that means for Stanford Online Products.

    python -m benchmarks.prepare [images]
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

PER_CLASS = 5
SOP_IMAGES = 120_053
SIDE = 256
LINKED = ("stages", "workflow")


def generate(raw: Path, count: int) -> None:
    """JPEG files that cost about as much to decode as photographs: smooth noise of three sizes, each one different."""
    rng = np.random.default_rng(0)
    for i in range(count):
        layers = [
            Image.fromarray(rng.integers(0, 256, (h, 4 * h // 3, 3), dtype=np.uint8)).resize((400, 300))
            for h in (6, 30, 150)
        ]
        mixed = Image.blend(Image.blend(layers[0], layers[1], 0.4), layers[2], 0.25)
        folder = raw / f"{i // PER_CLASS:05}"
        folder.mkdir(parents=True, exist_ok=True)
        mixed.save(folder / f"{i % PER_CLASS}.jpg", quality=88)


def project(folder: Path, classes: int) -> None:
    """A project whose params.yaml knows the generated dataset."""
    here = Path.cwd()
    for name in LINKED:
        (folder / name).symlink_to(here / name)
    params = yaml.safe_load((here / "params.yaml").read_text())
    half = {"images": classes // 2 * PER_CLASS, "classes": classes // 2}
    params["datasets"]["generated"] = params["datasets"]["digits"] | {
        "reader": "folder",
        "side": SIDE,
        "crop": 224,
        "split": {"train": classes // 2, "test": classes // 2},
        "expected": {"train": half, "test": half, "images_per_class": [2, PER_CLASS], "duplicates_across_splits": 0},
    }
    (folder / "params.yaml").write_text(yaml.safe_dump(params))


def watch(folder: Path, stage: str) -> tuple[float, int]:
    """Run a stage in ``folder``: seconds, and the most anonymous memory in bytes that its process held."""
    command = [sys.executable, "-m", f"stages.{stage}", "generated"]
    started, most = time.perf_counter(), 0
    with subprocess.Popen(command, cwd=folder) as process:
        status = Path(f"/proc/{process.pid}/status")
        while process.poll() is None:
            lines = [line.split() for line in status.read_text().splitlines() if line.startswith("RssAnon")]
            most = max([most, *(1024 * int(line[1]) for line in lines)])
            time.sleep(0.05)
    if process.returncode:
        sys.exit(f"{stage} failed")
    return time.perf_counter() - started, most


def main(count: int) -> None:
    """Print time, rate and peak memory of prepare and validate."""
    with tempfile.TemporaryDirectory(dir=".") as name:
        folder = Path(name)
        generate(folder / "data" / "raw" / "generated", count)
        size = sum(path.stat().st_size for path in folder.rglob("*.jpg"))
        project(folder, count // PER_CLASS)
        print(f"{count} JPEG files of {size / count / 1000:.0f} kB, an array of {count * SIDE**2 * 3 / 1e9:.1f} GB")
        for stage in ("prepare", "validate"):
            seconds, memory = watch(folder, stage)
            whole = SOP_IMAGES / count * seconds / 60
            print(
                f"{stage}: {seconds:.0f} s, {count / seconds:.0f} images/s, {memory / 2**20:.0f} MiB anonymous memory"
            )
            print(f"{stage}: {SOP_IMAGES} images would take {whole:.0f} minutes")


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 20_000)
