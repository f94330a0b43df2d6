"""The same bytes from every run on one kind of machine: the `deterministic` key of a training profile."""

import os


def settle(deterministic: bool) -> None:
    """Hold torch to operations that give the same result each time, or let it choose; for this whole process.

    On a GPU cuBLAS needs a workspace of fixed size for it, named before the first kernel runs. An operation that has no
    deterministic form then raises a RuntimeError, which `stages.runtime.cli` turns into a line. On a CPU all have one.
    """
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    # The same switch as use_deterministic_algorithms, which spends 0.7 s on a compiler's settings that no stage uses.
    torch.set_deterministic_debug_mode("error" if deterministic else "default")
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = False  # would choose algorithms by a stopwatch
