"""The registries of searches and of where they start: an attack block's ``optimizer`` and ``start``."""

from collections.abc import Callable

from torch import Tensor

from stages.core.search import black_box, gradient
from stages.core.search.base import Search, Task, clean, uniform

WHITE_BOX: dict[str, Search] = {
    "sign": gradient.sign,
    "momentum": gradient.momentum,
    "apgd": gradient.apgd,
}

BLACK_BOX: dict[str, Search] = {  # they never ask for a gradient
    "nes": black_box.nes,
    "square": black_box.square,
}

OPTIMIZERS = {**WHITE_BOX, **BLACK_BOX}

STARTS: dict[str, Callable[[Task], Tensor]] = {
    "clean": clean,
    "random": uniform,
}
