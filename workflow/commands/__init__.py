"""The commands of ``ca-tride``, one module each."""

import argparse

from stages.core.scores import MADE_OF, MEASURED_BY
from stages.runtime import params
from stages.runtime.errors import UserError, choose


def number_of_cores(text: str) -> str:
    """The value of ``--cores``: "all" or a whole number from 1, because Snakemake waits forever for a job on 0 cores.

    Raises:
        argparse.ArgumentTypeError: it is neither.
    """
    if text != "all" and not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a whole number from 1 nor all")
    return text


def add_cores(parser: argparse.ArgumentParser) -> None:
    """The option ``--cores`` of commands that run jobs."""
    parser.add_argument(
        "--cores", type=number_of_cores, default="all", help="jobs' threads at once (default: all cores)"
    )


def table_block(loaded: params.Params, name: str) -> params.Params:
    """The block of `tables` with this name.

    Raises:
        UserError: there is none.
    """
    if name not in loaded["tables"]:
        raise UserError(f"{params.FILE}: tables: no block named {name!r}; {choose(name, list(loaded['tables']))}")
    return loaded["tables"][name]


def attacks_of(columns: list[str], known: list[str]) -> list[str]:
    """The blocks of `attacks` that a table's columns are made from."""
    parts = (part.partition(":") for name in columns for part in MADE_OF.get(name, (name,)))
    blocks = dict.fromkeys(block or MEASURED_BY.get(metric, metric) for metric, _, block in parts)
    return [name for name in blocks if name in known]
