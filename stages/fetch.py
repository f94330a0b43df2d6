"""Download a dataset's original files to data/raw/<dataset>/ and verify them. Not a job of the graph: run it once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stages.io import artifacts, cli
from stages.io.errors import UserError
from stages.io.params import FILE, Params
from stages.io.params import dataset as dataset_block


def fetch(params: Params, dataset: str) -> list[Path]:
    """Download every file that ``datasets.<dataset>.fetch`` lists, or where one cannot be had, ``fetch_instead``.

    Files already there are verified.

    Raises:
        UserError: nothing is listed, or a file could not be had; the others are fetched all the same.
    """
    from stages.io.download import file_name

    block, folder = dataset_block(params, dataset), artifacts.raw_dir(dataset)
    sources, second = block.get("fetch", []), block.get("fetch_instead", [])
    if not sources:
        raise UserError(f"{FILE}: datasets.{dataset}: no `fetch` list; put the files into {folder}")
    if second and all((folder / file_name(source)).exists() for source in second):
        sources, second = second, []  # what an earlier run had to take
    fetched, problems = fetch_all(sources, folder)
    if problems and second:
        for problem in problems:
            cli.log.warning("%s", problem)
        cli.log.info("trying the second choice, datasets.%s.fetch_instead", dataset)
        instead, still = fetch_all(second, folder)
        fetched, problems = fetched + instead, [*still, *problems] if still else []
    for path in fetched:
        cli.log.info("verified %s", path)
    if problems:
        for problem in problems[1:]:
            cli.log.error("%s", problem)
        raise UserError(problems[0])
    return fetched


def fetch_all(sources: list[dict[str, Any]], folder: Path) -> tuple[list[Path], list[str]]:
    """Download several files; those that came, and what went wrong with the others."""
    from stages.io.download import download

    fetched, problems = [], []
    for source in sources:
        try:
            fetched.append(download(source, folder))
        except UserError as error:
            problems.append(str(error))
    return fetched, problems


def main() -> None:
    """Command line: ``python -m stages.fetch <dataset>``."""
    cli.main(fetch, "fetch", __doc__ or "", "dataset")


if __name__ == "__main__":
    main()
