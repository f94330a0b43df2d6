"""Do lower number formats give the same tables? A study of digits in float32 and in bfloat16, on the CPU.

Four runs in a temporary copy of the project: all in float32; the same models evaluated and attacked in bfloat16; models
trained in bfloat16 and attacked in float32; and, to tell rounding from chance, models trained in float32 from another
seed. Each value is compared with the first one's 95 % bootstrap interval over queries. TF32 exists on GPUs only:
`python -m benchmarks.gpu` times it, its tables were not run.

    python -m benchmarks.precision [cores]
"""

import sys
import tempfile
from pathlib import Path

import pandas as pd
import yaml

from benchmarks.engines import copy, run

DEFENSES = ["vanilla", "act", "ca_tride"]
RUNS = {
    "attacked in bf16": ("fp32", "bf16", 0),
    "trained in bf16": ("bf16", "fp32", 0),
    "trained in fp32 from another seed": ("fp32", "fp32", 1),
}


def study(folder: Path, training: str, attacks: str, seed: int, cores: str) -> pd.DataFrame:
    """The main table's cells of digits, one row each, after a run in these formats from one seed."""
    path = folder / "params.yaml"
    params = yaml.safe_load(path.read_text())
    params["run"] |= {"datasets": ["digits"], "defenses": DEFENSES, "seeds": [seed]}
    block = params["datasets"]["digits"]
    block["precision"], block["training"]["precision"] = attacks, training
    path.write_text(yaml.safe_dump(params, sort_keys=False))
    run(folder, "snakemake", "--cores", cores, "--quiet", "all")
    cells = pd.read_csv(folder / "reports/tables/main.csv")
    return cells[cells["dataset"] == "digits"].dropna(subset=["value"]).set_index(["row", "metric"])


def main(cores: str) -> None:
    """Print how many values stay inside the interval, and those that do not."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy(folder)
        base = study(folder, "fp32", "fp32", 0, cores)
        for title, (training, attacks, seed) in RUNS.items():
            other = study(folder, training, attacks, seed, cores)
            pairs = base.join(other["value"], rsuffix="_other").dropna(subset=["low", "high"])
            outside = pairs[(pairs["value_other"] < pairs["low"]) | (pairs["value_other"] > pairs["high"])]
            print(f"{title}: {len(pairs) - len(outside)} of {len(pairs)} values inside float32's interval\n")
            print(outside[["value", "low", "high", "value_other"]].to_markdown(floatfmt=".3f"), "\n", flush=True)


if __name__ == "__main__":
    main((sys.argv[1:] or ["2"])[0])
