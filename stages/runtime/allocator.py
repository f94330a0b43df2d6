"""How the C library gives memory to tensors. Results do not depend on it."""

import ctypes
from contextlib import suppress

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # parameters of glibc's mallopt
_KEPT = 2**30  # bytes


def keep_freed_memory() -> None:
    """Have this process use freed memory again instead of handing it back to the system, up to blocks of 1 GiB.

    A network's activations are freed and allocated anew in each step. With glibc's own limits of 32 and 64 MiB the
    system clears them page by page every time: with EfficientNet-Lite0 on 112 images of 64 pixels that is a fifth of
    the time of a PGD step. Does nothing where the C library is another one.
    """
    with suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_THRESHOLD, _KEPT)
        mallopt(_TRIM_THRESHOLD, _KEPT)
