"""Stage 8: scores, tables, comparison and the page, from exactly the configured runs."""

from functools import partial
from pathlib import Path

from stages.runtime import cli, threads
from stages.runtime.params import Params


def report(params: Params) -> list[Path]:
    """Write reports/scores.csv, headline.csv, comparison.csv, metrics.json, index.html, tables/ and figures/."""
    threads.limit(1)
    from stages.reporting import outputs

    return outputs.write(params)


main = partial(cli.main, report)  # python -m stages.report


if __name__ == "__main__":
    cli.process(main)
