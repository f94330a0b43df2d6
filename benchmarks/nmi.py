"""How far NMI moves with the start of the clustering, on the embeddings of one evaluated model.

    python -m benchmarks.nmi fashion vanilla 0          40 starts of FAISS's Kmeans, and the two of the reference

A published NMI is one start. On a CPU the reference draws it with seed 123, as this project does. Its path for a GPU
sets no seed, so that FAISS's own default, 1234, applies (metric_get_nmi in RobRank's robrank/utils.py).
"""

import argparse

import numpy as np
import torch

from stages.core import metrics
from stages.data.splits import load_split
from stages.models import embeddings
from stages.runtime import artifacts

STARTS = 40
SEEDS = {"CPU": 123, "GPU": 1234}


def main() -> None:
    """Print NMI in percent."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset"), parser.add_argument("defense"), parser.add_argument("seed", type=int)
    words = parser.parse_args()
    labels = load_split(words.dataset, "test").labels
    path = artifacts.result_dir(words.dataset, words.defense, words.seed) / "gallery.npy"
    found = embeddings.read_gallery(path, len(labels))
    torch.set_num_threads(1)

    def percent(seed: int) -> float:
        return 100 * metrics.nmi(found, torch.from_numpy(labels), seed=seed)

    cuts = "  ".join(f"{value:.1f}" for value in np.percentile([*map(percent, range(STARTS))], [0, 25, 50, 75, 100]))
    print(f"{STARTS} starts: least, quartiles, most: {cuts}")
    for place, seed in SEEDS.items():
        print(f"the reference on a {place}, seed {seed}: {percent(seed):.1f}")


if __name__ == "__main__":
    main()
