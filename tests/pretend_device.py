"""A second device without the hardware: tensors "there" are real numbers in CPU memory that call their device `meta`.

Inside ``Pretend()``, ``tensor.to(PLACE)`` and every factory called with ``device=PLACE`` give a tensor of that kind,
and any operation that mixes one with an ordinary tensor fails, as on a GPU: a tensor created on the CPU by mistake is
found by running the code. As on a GPU, tensors without axes may come from the CPU, and numpy refuses what is not there.
The arithmetic is the CPU's, so results must equal those of a plain run bit by bit.
"""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

PLACE = torch.device("meta")
COPIES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)


class There(torch.Tensor):
    """A tensor on the pretended device; ``here`` holds its numbers."""

    @staticmethod
    def __new__(cls, here):
        return torch.Tensor._make_wrapper_subclass(
            cls, here.size(), strides=here.stride(), dtype=here.dtype, device=PLACE, requires_grad=here.requires_grad
        )

    def __init__(self, here):
        self.here = here

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return dispatch(func, args, kwargs or {})


class Pretend(TorchDispatchMode):
    """While active, the pretended device exists."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return dispatch(func, args, kwargs or {})


def dispatch(func, args, kwargs):
    """Compute on the CPU; the result is there if an argument was, unless ``device`` says otherwise."""
    tensors = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, torch.Tensor)]
    owners = {id(tensor.here): tensor for tensor in tensors if isinstance(tensor, There)}
    strangers = [tensor for tensor in tensors if not isinstance(tensor, There) and tensor.dim()]
    if owners and strangers and func not in COPIES:
        raise RuntimeError(f"{func}: tensors on two devices, one of shape {tuple(strangers[0].shape)} on the CPU")
    device = kwargs.get("device")
    there = torch.device(device).type == PLACE.type if device is not None else bool(owners)
    if there and device is not None:
        kwargs = kwargs | {"device": torch.device("cpu")}
    args, kwargs = tree_map(lambda leaf: leaf.here if isinstance(leaf, There) else leaf, (args, kwargs))
    result = func(*args, **kwargs)

    def place(leaf):
        if not there or not isinstance(leaf, torch.Tensor):
            return leaf
        return (
            owners[id(leaf)] if id(leaf) in owners else There(leaf)
        )  # in-place operations give back the tensor that they changed

    return tree_map(place, result)
