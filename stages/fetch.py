"""Download a dataset's original files to data/raw/<dataset>/ and verify them. Not a job of the graph: run it once."""

from __future__ import annotations

from pathlib import Path

from stages.runtime import artifacts, cli
from stages.runtime.errors import UserError
from stages.runtime.params import FILE, Params
from stages.runtime.params import dataset as dataset_block


def fetch(params: Params, dataset: str) -> list[Path]:
    """Download every file that ``datasets.<dataset>.fetch`` lists; those already there are verified.

    Raises:
        UserError: nothing is listed, or a file could not be had; the others are fetched all the same.
    """
    from stages.data.download import download

    sources = dataset_block(params, dataset).get("fetch", [])
    if not sources:
        raise UserError(f"{FILE}: datasets.{dataset}: no `fetch` list; put the files into {artifacts.raw_dir(dataset)}")
    fetched, problems = [], []
    for source in sources:
        try:
            fetched.append(download(source, artifacts.raw_dir(dataset)))
        except UserError as error:
            problems.append(str(error))
    for path in fetched:
        cli.log.info("verified %s", path)
    if problems:
        for problem in problems[1:]:
            cli.log.error("%s", problem)
        raise UserError(problems[0])
    return fetched


def main() -> None:
    """Command line: ``python -m stages.fetch <dataset>``."""
    cli.main(fetch, "fetch", __doc__ or "", "dataset")


if __name__ == "__main__":
    main()
