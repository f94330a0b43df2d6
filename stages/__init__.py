"""The stages of the reproduction, each a module and a command, and the benchmark as a Python call."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stages.benchmarking import benchmark

__all__ = ["STAGES", "benchmark"]

# In the order of a run.
STAGES = ("prepare", "validate", "train", "evaluate", "attack", "transfer", "visualize", "report")


def __getattr__(name: str) -> Any:
    """Import the call when it is used: it brings torch, which no command's `--help` should wait for."""
    if name == "benchmark":
        from stages.benchmarking import benchmark

        return benchmark
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
