"""Stage 1: original images to one uint8 array and a manifest with one row per image."""

from functools import partial
from pathlib import Path

from stages.runtime import cli
from stages.runtime.params import Params


def prepare(params: Params, dataset: str) -> list[Path]:
    """Write data/<dataset>/images.npy and manifest.parquet.

    Raises:
        UserError: the original files are missing, damaged or not what their lists say, or the disk is too small.
    """
    from stages.data import preparation

    return preparation.prepare(params["datasets"][dataset], dataset)


main = partial(cli.main, prepare)  # python -m stages.prepare <dataset>


if __name__ == "__main__":
    cli.process(main)
