"""Download a dataset's original files and verify them; run by hand, no job of the graph."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from stages.runtime import artifacts, cli
from stages.runtime.errors import UserError
from stages.runtime.params import FILE, Params


def fetch(params: Params, dataset: str) -> list[Path]:
    """Download every file that ``datasets.<dataset>.fetch`` lists, or where one cannot be had, ``fetch_instead``.

    Files already there are verified.

    Raises:
        UserError: nothing is listed, or a file could not be had; the others are fetched all the same.
    """
    from stages.data.download import fetch_either

    block, folder = params["datasets"][dataset], artifacts.raw_dir(dataset)
    if not block.get("fetch"):
        raise UserError(f"{FILE}: datasets.{dataset}: no `fetch` list; put the files into {folder}")
    fetched, problems = fetch_either(block["fetch"], block.get("fetch_instead", []), folder)
    for path in fetched:
        cli.log.info("verified %s", path)
    for problem in problems[1:]:
        cli.log.error("%s", problem)
    if problems:
        raise UserError(problems[0])
    return fetched


main = partial(cli.main, fetch)  # python -m stages.fetch <dataset>


if __name__ == "__main__":
    cli.process(main)
