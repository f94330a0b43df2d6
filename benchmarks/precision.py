"""Do lower number formats give the same tables? A study of digits in float32 and in bfloat16, on the CPU.

Three runs in a temporary copy of the project: all in float32; the same models evaluated and attacked in bfloat16;
models trained in bfloat16 and attacked in float32. Each figure is compared with the 95 % bootstrap interval of the
first. TF32 exists on GPUs only: `python -m benchmarks.gpu` times it, its tables were not run.

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
    "attacked in bf16": {"training": "fp32", "attacks": "bf16"},
    "trained in bf16": {"training": "bf16", "attacks": "fp32"},
}


def study(folder: Path, training: str, attacks: str, cores: str) -> pd.DataFrame:
    """The main table's cells of digits, one row each, after a run in these formats."""
    path = folder / "params.yaml"
    params = yaml.safe_load(path.read_text())
    params["run"] |= {"datasets": ["digits"], "defenses": DEFENSES, "seeds": [0]}
    block = params["datasets"]["digits"]
    block["precision"], block["training"]["precision"] = attacks, training
    path.write_text(yaml.safe_dump(params, sort_keys=False))
    run(folder, "snakemake", "--cores", cores, "--quiet", "all")
    cells = pd.read_csv(folder / "reports/tables/main.csv")
    return cells[cells["dataset"] == "digits"].dropna(subset=["value"]).set_index(["row", "metric"])


def main(cores: str) -> None:
    """Print how many figures stay inside the interval, and those that do not."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy(folder)
        base = study(folder, "fp32", "fp32", cores)
        for title, formats in RUNS.items():
            other = study(folder, formats["training"], formats["attacks"], cores)
            pairs = base.join(other["value"], rsuffix="_other").dropna(subset=["low", "high"])
            outside = pairs[(pairs["value_other"] < pairs["low"]) | (pairs["value_other"] > pairs["high"])]
            print(f"{title}: {len(pairs) - len(outside)} of {len(pairs)} figures inside float32's interval\n")
            print(outside[["value", "low", "high", "value_other"]].to_markdown(floatfmt=".3f"), "\n", flush=True)


if __name__ == "__main__":
    main((sys.argv[1:] or ["2"])[0])
