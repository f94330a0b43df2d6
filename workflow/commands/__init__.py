"""The commands of ``ca-tride``, one module each."""

import argparse


def number_of_cores(text: str) -> str:
    """The value of ``--cores``: "all" or a whole number from 1, because Snakemake waits forever for a job on 0 cores.

    Raises:
        argparse.ArgumentTypeError: it is neither.
    """
    if text != "all" and not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a whole number from 1 nor all")
    return text
