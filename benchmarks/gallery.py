"""Benign metrics at the size of large test sets, and what a single start of k-means costs NMI.

``two_sets``: queries in a gallery of their own, in the numbers of In-Shop, and as many queries as Market-1501 has in a
gallery of 60,000 with distractors and cameras. ``one_set``: 60,502 random embeddings of 11,316 classes, as many as the
test images of Stanford Online Products, each a query among all others. Both print the time of all ranking metrics and
of NMI, and the most memory that the process held. ``starts``: a size where both run, NMI as it is measured (one start
from random items) beside scikit-learn's k-means++ with ten starts, for classes from clear to blurred.

    python -m benchmarks.gallery [threads] [two_sets | one_set | starts ...]
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
from stages.core.sets import ONE_SET, Sets

ITEMS, CLASSES, DIMENSION = 60502, 11316, 512
# Queries, gallery, classes in all, classes that queries have (others are distractors), and cameras.
TWO_SETS = {"In-Shop": (14218, 12612, 3985, 3985, 0), "Market-1501 with distractors": (3368, 60000, 2400, 750, 6)}
SMALL_ITEMS, SMALL_CLASSES, SMALL_DIMENSION = 6000, 1100, 64


def embeddings(items: int, classes: int, dimension: int, blur: float) -> tuple[Tensor, Tensor]:
    """Unit vectors (N, D) around the center of each class, and their labels, class by class."""
    draw = torch.Generator().manual_seed(0)
    labels = torch.sort(torch.randint(classes, (items,), generator=draw)).values
    centers = F.normalize(torch.randn(classes, dimension, generator=draw))
    deviation = blur / dimension**0.5
    return F.normalize(centers[labels] + deviation * torch.randn(items, dimension, generator=draw)), labels


def roles(labels: Tensor, count: int, asked: int, cameras: int) -> Sets:
    """``count`` of the items (N,) as queries, drawn from the first ``asked`` classes; the gallery is the rest."""
    draw = torch.Generator().manual_seed(1)
    possible = int((labels < asked).sum())
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    chosen[torch.randperm(possible, generator=draw)[:count]] = True
    taken_by = torch.randint(cameras, (len(labels),), generator=draw) if cameras else None
    return Sets(chosen.nonzero()[:, 0], (~chosen).nonzero()[:, 0], taken_by)


def measured(points: Tensor, labels: Tensor, sets: Sets) -> None:
    """Print seconds and memory of all benign metrics."""
    known = metrics.with_queries(labels, sets)
    print("| metrics | seconds | processor seconds | most memory so far, GiB |\n| --- | --- | --- | --- |")
    for name, measure in (
        ("R@1, R@2, mAP, mAP@R, mAP@10, mean pairwise distance", lambda: metrics.retrieval(points, labels, sets)),
        ("NMI", lambda: metrics.nmi(points[known], labels[known], seed=0)),
    ):
        started, used = time.perf_counter(), time.process_time()
        measure()
        seconds, used = time.perf_counter() - started, time.process_time() - used
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"| {name} | {seconds:.0f} | {used:.0f} | {most:.1f} |", flush=True)
    print()


def two_sets() -> None:
    """Queries and gallery apart."""
    for name, (queries, gallery, classes, asked, cameras) in TWO_SETS.items():
        points, labels = embeddings(queries + gallery, classes, DIMENSION, 1.2)
        print(f"{name}: {queries} queries, a gallery of {gallery}, {DIMENSION} dimensions\n")
        measured(points, labels, roles(labels, queries, asked, cameras))


def one_set() -> None:
    """Every item a query among all others."""
    print(f"{ITEMS} items, {CLASSES} classes, {DIMENSION} dimensions\n")
    measured(*embeddings(ITEMS, CLASSES, DIMENSION, 1.2), ONE_SET)


def starts() -> None:
    """NMI of one start beside that of ten."""
    print(f"{SMALL_ITEMS} items, {SMALL_CLASSES} classes, {SMALL_DIMENSION} dimensions\n")
    print("| blur | NMI, one random start | NMI, ten starts of k-means++ | difference |\n| --- | --- | --- | --- |")
    for blur in (0.5, 1.0, 1.5, 3.0):
        points, labels = embeddings(SMALL_ITEMS, SMALL_CLASSES, SMALL_DIMENSION, blur)
        ours = 100 * metrics.nmi(points, labels, seed=0)
        careful = KMeans(len(labels.unique()), n_init=10, random_state=0).fit_predict(points.numpy())
        reference = 100 * normalized_mutual_info_score(labels.numpy(), careful)
        print(f"| {blur} | {ours:.2f} | {reference:.2f} | {ours - reference:+.2f} |", flush=True)


PARTS = {"two_sets": two_sets, "one_set": one_set, "starts": starts}


if __name__ == "__main__":
    threads, *parts = sys.argv[1:] or ["2"]
    torch.set_num_threads(int(threads))
    print(f"{threads} threads\n")
    for part in parts or PARTS:
        PARTS[part]()
