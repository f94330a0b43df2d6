"""Benign metrics at the size of Stanford Online Products, and what a single start of k-means costs NMI.

First 60,502 random embeddings of 11,316 classes: seconds of all ranking metrics and of NMI, and the most memory that
the process held. Then a size where both run: NMI as it is measured above 1,000 clusters (one start from random items)
beside scikit-learn's k-means++ with ten starts, for classes from clear to blurred.

    python -m benchmarks.gallery [threads]
"""

import resource
import sys
import time

import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans
from sklearn.metrics import normalized_mutual_info_score
from torch import Tensor

from stages.core import metrics

ITEMS, CLASSES, DIMENSION = 60502, 11316, 512
SMALL_ITEMS, SMALL_CLASSES, SMALL_DIMENSION = 6000, 1100, 64


def embeddings(items: int, classes: int, dimension: int, blur: float) -> tuple[Tensor, Tensor]:
    """Unit vectors (N, D) around the center of each class, and their labels, class by class."""
    draw = torch.Generator().manual_seed(0)
    labels = torch.sort(torch.randint(classes, (items,), generator=draw)).values
    centers = F.normalize(torch.randn(classes, dimension, generator=draw))
    spread = blur / dimension**0.5
    return F.normalize(centers[labels] + spread * torch.randn(items, dimension, generator=draw)), labels


def main(threads: int) -> None:
    """Print both tables."""
    torch.set_num_threads(threads)
    points, labels = embeddings(ITEMS, CLASSES, DIMENSION, 1.2)
    print(f"{ITEMS} items, {CLASSES} classes, {DIMENSION} dimensions, {threads} threads\n")
    print("| metrics | seconds | most memory so far, GiB |\n| --- | --- | --- |")
    for name, measure in (
        ("R@1, R@2, mAP, mAP@R, mAP@10, spread", lambda: metrics.retrieval(points, labels)),
        ("NMI", lambda: metrics.nmi(points, labels, seed=0)),
    ):
        started = time.perf_counter()
        measure()
        seconds = time.perf_counter() - started
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"| {name} | {seconds:.0f} | {most:.1f} |", flush=True)

    print(f"\n{SMALL_ITEMS} items, {SMALL_CLASSES} classes, {SMALL_DIMENSION} dimensions\n")
    print("| blur | NMI, one random start | NMI, ten starts of k-means++ | difference |\n| --- | --- | --- | --- |")
    for blur in (0.5, 1.0, 1.5, 3.0):
        points, labels = embeddings(SMALL_ITEMS, SMALL_CLASSES, SMALL_DIMENSION, blur)
        ours = 100 * metrics.nmi(points, labels, seed=0)
        careful = KMeans(len(labels.unique()), n_init=10, random_state=0).fit_predict(points.numpy())
        reference = 100 * normalized_mutual_info_score(labels.numpy(), careful)
        print(f"| {blur} | {ours:.2f} | {reference:.2f} | {ours - reference:+.2f} |", flush=True)


if __name__ == "__main__":
    main(int((sys.argv[1:] or ["2"])[0]))
