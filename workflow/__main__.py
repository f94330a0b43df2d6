"""The command line: ``ca-tride <command>``, the same as ``python -m workflow <command>``.

A command is a module of `workflow.commands` with two functions: ``configure(parser)`` names its arguments, and
``run(...)`` takes them by name and returns what is printed. Only the module that was asked for is imported.
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module

from stages.runtime.errors import UserError, printable

COMMANDS = {
    "compute": "run the study of params.yaml, or compute and print one table or one cell",
    "plan": "estimate jobs, hours and disk space before a run",
    "show": "print one table or one cell from existing results",
    "fetch": "download a dataset's original files and verify them",
    "sync": "tell one engine (Snakemake, DVC) what the other has finished",
    "prune": "list results of blocks that were removed from params.yaml, or delete them",
    "bundle": "put the report into one zip that opens without the repository",
    "export": "write one checkpoint with a model card and the license of its data",
    "evidence": "write one table with its verdicts, figure, jobs and parameters to a folder",
    "crate": "describe the finished run as a Workflow Run RO-Crate",
    "verify": "run the study again in an empty folder and compare its bytes with a record",
    "licenses": "write the licenses of all pinned packages to docs/licenses.md",
}
PASSED_ON = "--"  # arguments after it go to Snakemake


def main(words: list[str] | None = None) -> None:
    """Run one command; an error that the user can fix ends in one line on stderr and exit status 1."""
    words = sys.argv[1:] if words is None else words
    end = words.index(PASSED_ON) if PASSED_ON in words else len(words)
    words, passed_on = words[:end], words[end + 1 :]
    parser = argparse.ArgumentParser(prog="ca-tride", description="CA-TRIDE, reproduced: the study in this folder.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        added = commands.add_parser(name, help=summary, formatter_class=argparse.RawDescriptionHelpFormatter)
        if words[:1] == [name]:
            module = import_module(f"workflow.commands.{name}")
            added.description = module.__doc__
            module.configure(added)
    given = vars(parser.parse_args(words))
    name = given.pop("command")
    if passed_on and "snakemake" not in given:
        parser.error(f"{name} takes nothing after {PASSED_ON}")
    if passed_on:
        given["snakemake"] = passed_on
    try:
        if told := module.run(**given):
            print(told)
    except UserError as error:
        sys.exit(f"{name}: {error}")
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:
        sys.exit(f"{name}: {printable(str(error.filename or 'files'))}: {error.strerror or error}")
    except KeyboardInterrupt:
        sys.exit(f"{name}: interrupted")


if __name__ == "__main__":
    main()
