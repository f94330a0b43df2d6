"""Array files, which strangers may have written."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.runtime import artifacts
from stages.runtime.errors import reason


def read_array(path: Path, *, memory_map: bool = False) -> NDArray[Any]:
    """Open an array file; as a private memory map no write reaches the file.

    Raises:
        UserError: it is damaged, or holds Python objects or several arrays.
    """
    try:
        # torch shares only writable arrays
        array = np.load(path, mmap_mode="c" if memory_map else None, allow_pickle=False)
    except Exception as error:  # of damaged headers numpy raises what its parser, tokenizer or the memory says
        raise artifacts.damaged(path, f"damaged ({reason(error)})") from None
    if not isinstance(array, np.ndarray):
        raise artifacts.damaged(path, "an archive of arrays instead of one")
    return array
