"""How far NMI moves with the start of the clustering, on the embeddings of one evaluated model.

    python -m benchmarks.nmi fashion vanilla 0          40 starts of FAISS's Kmeans, and 10 of its Clustering

A published NMI is one start; which one is not known. Both ways to call FAISS differ in nothing but defaults (25 and 10
iterations; both take at most 256 items per cluster).
"""

import argparse

import numpy as np
import torch

from stages.core import metrics
from stages.data.splits import load_split
from stages.models import embeddings
from stages.runtime import artifacts

STARTS, PLAIN = 40, 10


def plain_clustering(points: np.ndarray, labels: np.ndarray, seed: int) -> float:
    """NMI of ``faiss.Clustering`` with its own defaults, in [0, 1]."""
    import faiss
    from sklearn.metrics import normalized_mutual_info_score

    clustering, index = faiss.Clustering(points.shape[1], len(np.unique(labels))), faiss.IndexFlatL2(points.shape[1])
    clustering.seed = seed
    clustering.train(points, index)
    return float(normalized_mutual_info_score(labels, index.search(points, 1)[1][:, 0]))


def main() -> None:
    """Print least, quartiles and most of NMI in percent."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset"), parser.add_argument("defense"), parser.add_argument("seed", type=int)
    words = parser.parse_args()
    labels = load_split(words.dataset, "test").labels
    path = artifacts.result_dir(words.dataset, words.defense, words.seed) / "gallery.npy"
    found = embeddings.read_gallery(path, len(labels))
    torch.set_num_threads(1)
    kmeans = [100 * metrics.nmi(found, torch.from_numpy(labels), seed=seed) for seed in range(STARTS)]
    plain = [100 * plain_clustering(found.numpy(), labels, seed) for seed in range(PLAIN)]
    for name, values in (("Kmeans", kmeans), ("Clustering", plain)):
        cuts = "  ".join(f"{value:.1f}" for value in np.percentile(values, [0, 25, 50, 75, 100]))
        print(f"faiss.{name}, {len(values)} starts: least, quartiles, most: {cuts}")


if __name__ == "__main__":
    main()
