"""The stages of the reproduction, each a module and a command, and the benchmark as a Python call."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stages.benchmarking import STANDARD_ATTACKS, STRONG_ATTACKS, benchmark

__all__ = ["STAGES", "STANDARD_ATTACKS", "STRONG_ATTACKS", "benchmark"]

# In the order of a run.
STAGES = ("prepare", "validate", "train", "evaluate", "attack", "transfer", "visualize", "report")


def __getattr__(name: str) -> Any:
    """Import the call when it is used, and its names: it brings torch, which no command's `--help` should wait for."""
    if name in ("STANDARD_ATTACKS", "STRONG_ATTACKS", "benchmark"):
        import stages.benchmarking as benchmarking

        return getattr(benchmarking, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
