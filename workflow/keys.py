"""Write some keys of params.yaml and their values to a file of their own, for the stages of dvc.yaml.

    python -m workflow.keys data/.keys/attacks/es.json attacks.es

DVC parses params.yaml once for every stage that names keys of it, and searches all of it once for every key. For some
hundred attacks that takes longer than anything else DVC does, so stages that name the same keys share a file.
"""

import json
import shutil
import sys
from pathlib import Path

from stages.runtime import artifacts
from stages.runtime import params as parameters
from stages.runtime.errors import UserError


def copy_code(out: str, key: str) -> None:
    """Copy the one file that a block of defenses or attacks names to ``out``.

    Raises:
        UserError: params.yaml is wrong.
    """
    block, (kind, *_) = parameters.lookup(parameters.load(), key), key.split(".")
    with artifacts.writing(Path(out)) as (draft,):
        shutil.copyfile(f"stages/core/{kind}/{block['family' if kind == 'attacks' else 'method']}.py", draft)


def main(out: str, *keys: str) -> None:
    """Write ``keys`` and their values to ``out``, checking params.yaml as the stages do.

    Raises:
        UserError: params.yaml is wrong.
    """
    params = parameters.load()
    with artifacts.writing(Path(out)) as (draft,):
        values = {key: parameters.lookup(params, key) for key in keys}
        draft.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: python -m workflow.keys <file> <key>...")
    try:
        copy_code(sys.argv[1], sys.argv[3]) if sys.argv[2] == "--code" else main(*sys.argv[1:])
    except UserError as error:
        sys.exit(f"keys: {error}")
