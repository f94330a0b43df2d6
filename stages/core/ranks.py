"""Ranks of relevant items in the complete rankings of queries, counted instead of sorted.

Only items about as near as a relevant one are compared with it: all within the farthest of them where these are few,
otherwise those that share a bin of distances with one. Of a bin that holds none, the number of its items is enough.
"""

import torch
from torch import Tensor

FEW = 1 / 8  # of all items: so many are compared as fast as they are put into bins
BINS_OF_AN_ITEM = 16  # more leave less to compare and take longer to add up


def relevant_ranks(
    distances: Tensor, query_labels: Tensor, gallery_labels: Tensor, exclude: Tensor | None
) -> tuple[Tensor, Tensor]:
    """0-based ranks (Q, R) of each query's relevant items in ascending order, infinite behind the last; counts (Q,).

    Items at the same distance, of ``distances`` (Q, N), rank in the order of the gallery. Excluded items are not
    relevant and rank last.
    """
    wanted, counts = _relevant(distances, query_labels, gallery_labels, exclude)
    behind = wanted.isinf()
    farthest = _keys(wanted.masked_fill(behind, 0).amax(dim=1, keepdim=True), -1, distances.shape[1])
    compared, nearer = filled(distances <= farthest, exclude, False), torch.zeros_like(behind, dtype=torch.long)
    if compared.count_nonzero() > FEW * compared.numel():
        compared, nearer = _in_their_bins(distances, wanted, exclude)
    # An item is nearer than wanted item k if at most k of the wanted are as near as it or nearer.
    passed = torch.searchsorted(wanted, _selected(distances, compared), right=True)
    ranks = nearer + _histogram(passed, wanted.shape[1] + 1).cumsum(dim=1)[:, :-1]
    return ranks.double().masked_fill_(behind, torch.inf), counts


def _relevant(
    distances: Tensor, query_labels: Tensor, gallery_labels: Tensor, exclude: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Ascending keys (Q, R) of each query's relevant items, R at least 1, infinite behind the last; how many (Q,)."""
    labels, order = gallery_labels.sort()
    start, stop = (torch.searchsorted(labels, query_labels.contiguous(), right=right) for right in (False, True))
    place = start[:, None] + torch.arange(max([1, *(stop - start).tolist()]), device=order.device)
    item = order[place.clamp(max=len(order) - 1)]
    excluded = filled(torch.zeros_like(distances, dtype=torch.bool), exclude, True).gather(1, item)
    relevant = (place < stop[:, None]) & ~excluded
    keys = _keys(distances.gather(1, item), item, len(order)).masked_fill_(~relevant, torch.inf).sort(dim=1).values
    counts = relevant.sum(dim=1)
    return keys[:, : max([1, *counts.tolist()])].contiguous(), counts


def _in_their_bins(distances: Tensor, wanted: Tensor, exclude: Tensor | None) -> tuple[Tensor, Tensor]:
    """Which items share a bin with a wanted key (Q, R), a mask (Q, N), and how many in other bins are nearer (Q, R).

    Bins are equal parts of the range of the wanted; the first is for what is nearer, the last for what is farther.
    Float32 rounds without changing an order, and all distances of one key to at most two numbers: those of its ends.
    """
    items, size = distances.shape[1], min(BINS_OF_AN_ITEM * wanted.shape[1], distances.shape[1]) + 3
    behind = wanted.isinf()
    ends = [_keys(wanted, item, items).float() for item in (0, -1)]
    nearest, farthest = ends[0][:, :1], ends[1].masked_fill(behind, 0).amax(dim=1, keepdim=True)
    scale = (size - 3) / (farthest - nearest).clamp(min=1e-30)  # the scale stays finite

    def bins(values: Tensor) -> Tensor:
        # The lower limit behind the cast, which makes a negative number of NaN.
        return (values - nearest).mul_(scale).add_(1).clamp_(max=size - 1).int().clamp_(min=0)

    own = [bins(end).long() for end in ends]
    shared = torch.zeros(len(wanted), size, dtype=torch.bool, device=wanted.device)
    shared.scatter_(1, own[0], ~behind).scatter_(1, own[1], ~behind)
    of_items = filled(bins(distances.float()), exclude, size - 1)
    nearer = _histogram(of_items, size).masked_fill_(shared, 0).cumsum(dim=1).gather(1, own[0])
    return shared.flatten().index_select(0, of_items.flatten()).view_as(of_items), nearer


def _histogram(values: Tensor, size: int) -> Tensor:
    """How many of each query's integers (Q, n) are 0, 1 and so on below ``size``, (Q, size); overwrites ``values``."""
    values += size * torch.arange(len(values), dtype=values.dtype, device=values.device)[:, None]
    return torch.bincount(values.flatten(), minlength=len(values) * size).view(-1, size)


def _selected(distances: Tensor, mask: Tensor) -> Tensor:
    """Keys (Q, K) of the items in ``mask`` (Q, N) in their order, infinite for what is not."""
    items, counts = mask.shape[1], mask.sum(dim=1, dtype=torch.int32)
    most = max([0, *counts.tolist()])
    if 2 * most > items:
        return _keys(distances, torch.arange(items, device=mask.device), items).masked_fill_(~mask, torch.inf)
    row, item = mask.nonzero(as_tuple=True)
    place = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
    keys = torch.full((len(mask), most), torch.inf, dtype=torch.float64, device=mask.device)
    keys[row, place] = _keys(distances[row, item], item, items)
    return keys


def _keys(distances: Tensor, item: Tensor | int, items: int) -> Tensor:
    """Float64 that order like the distances, ties by their item of so many; -1 stands for the highest possible.

    The last bits of a number carry its item: 2^20 items leave 32 bits behind the point, more than float32 has.
    """
    spare = max(1, (items - 1).bit_length())
    keys = distances.double() + 0.0  # a copy without negative zeros
    keys.view(torch.int64).bitwise_right_shift_(spare).bitwise_left_shift_(spare).bitwise_or_(item % 2**spare)
    return keys


def filled(values: Tensor, exclude: Tensor | None, number: float) -> Tensor:
    """``values`` (Q, N) with ``number`` written over what is excluded: an item (Q,), or a mask (Q, N)."""
    if exclude is None:
        return values
    return values.scatter_(1, exclude[:, None], number) if exclude.ndim == 1 else values.masked_fill_(exclude, number)
