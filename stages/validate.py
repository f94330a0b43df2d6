"""Stage 2: great-expectations checks the manifest and the images; no model trains on data that fail."""

import os
from functools import partial
from pathlib import Path

from stages.runtime import cli
from stages.runtime.params import Params


def validate(params: Params, dataset: str) -> list[Path]:
    """Write data/<dataset>/validation.json, and Data Docs under logs/validation/<dataset>/.

    Raises:
        UserError: an expectation fails; an earlier pass is withdrawn, so nothing can train on this data.
    """
    os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read when great-expectations is imported
    from stages.data import validation

    return validation.validate(params["datasets"][dataset], dataset)


main = partial(cli.main, validate)  # python -m stages.validate <dataset>


if __name__ == "__main__":
    cli.process(main)
