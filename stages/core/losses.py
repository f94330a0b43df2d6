"""Losses and distances of the method (method.md sections 2 and 2.5).

All take rows of unit-norm embeddings (B, D) or distances (B,) in [0, 2] and return a scalar unless said otherwise.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

MARGIN = 0.2  # triplet margin on the unit sphere (method.md 1.7)


def distance(x: Tensor, y: Tensor) -> Tensor:
    """Euclidean distance row by row, (B, D) x (B, D) -> (B,).

    PyTorch's form adds 1e-6 to each coordinate of the difference, so its gradient at zero shift is not zero: this is
    what starts the embedding-shift attacks and the shift term of ANP (method.md, quirk Q8).
    """
    return F.pairwise_distance(x, y)


def hardness(anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """H = d(a, p) - d(a, n) per triplet, (B,) in [-2, 2] (HM paper, section 3)."""
    return distance(anchor, positive) - distance(anchor, negative)


def triplet(anchor: Tensor, positive: Tensor, negative: Tensor, margin: float = MARGIN) -> Tensor:
    """mean_i [d(a_i, p_i) - d(a_i, n_i) + margin]+ (method.md 2)."""
    return F.relu(hardness(anchor, positive, negative) + margin).mean()


def softmax_weighted(distances: Tensor, lam: float) -> Tensor:
    """W(d) = sum_i softmax(lam * d)_i d_i over a batch of distances (B,); the weights carry gradient.

    lam = 0 gives the mean, lam -> infinity the maximum (method.md 2.5).
    """
    return (torch.softmax(lam * distances, dim=0) * distances).sum()


def collapseness(d_positive: Tensor, d_negative: Tensor, lam: float) -> Tensor:
    """c = W(d_ap) - W(d_an) from distances (B,): towards 0 or above when the batch collapses (method.md 2.5)."""
    return softmax_weighted(d_positive, lam) - softmax_weighted(d_negative, lam)


def lower_half_mean(distances: Tensor) -> Tensor:
    """Mean of the floor(B/2) smallest of B distances; of the only one where B is 1 (method.md 2.5)."""
    half = max(1, distances.numel() // 2)
    return distances.topk(half, largest=False).values.mean()


def decoupled_triplet(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    auxiliary_weight: float = 0.5,
    auxiliary_margin: float = 0.04,
) -> Tensor:
    """Outer loss of TRIDE and CA-TRIDE as released (method.md 2.5).

    Triplet loss plus ``auxiliary_weight`` * [lowhalf(d_ap) - lowhalf(d_an) + auxiliary_margin]+, the halves taken
    separately for positives and negatives.
    """
    d_positive, d_negative = distance(anchor, positive), distance(anchor, negative)
    auxiliary = F.relu(lower_half_mean(d_positive) - lower_half_mean(d_negative) + auxiliary_margin)
    return F.relu(d_positive - d_negative + MARGIN).mean() + auxiliary_weight * auxiliary


def intra_class_structure(anchor: Tensor, anchor_adversarial: Tensor, positive: Tensor, margin: float = 0.0) -> Tensor:
    """ICS: mean_i [d(a_i, a~_i) - d(a_i, p_i) + margin]+ with clean a and p (method.md 2.4)."""
    return F.relu(distance(anchor, anchor_adversarial) - distance(anchor, positive) + margin).mean()
