"""Which definitions of the project a stage runs: a fork of the tests' process traces it."""

import inspect
import json
import sys
import threading
from functools import partial

import forked

from workflow.code import CANNOT_CHANGE_A_RESULT

CHECKS = {module for module in CANNOT_CHANGE_A_RESULT if module.startswith("stages.core.")}


def definitions_run(folder, stage, words):
    """Run a stage in a project's folder: module, and name at its top level, of all that ran.

    What a check of the method calls is left out with the check: its result goes nowhere.
    """
    answer = folder / "ran.json"
    done = forked.run(folder, stage, words, 540, wrap=partial(traced, answer))
    assert done.returncode == 0, done.stderr[-3000:]
    return {tuple(pair) for pair in json.loads(answer.read_text())}


def for_a_check(frame):
    while frame and frame.f_globals.get("__name__") not in CHECKS:
        frame = frame.f_back
    return frame is not None


def traced(answer, main):
    """Call ``main`` and write to a file what of the project ran meanwhile."""
    ran = set()

    def note(frame, event, argument):
        if event == "call" and frame.f_code.co_flags & inspect.CO_NEWLOCALS:  # a function, not the body of a class
            module, name = frame.f_globals.get("__name__", ""), frame.f_code.co_qualname.partition(".")[0]
            of_project = module.startswith("stages.") and not name.startswith("<")  # a module's own code, a lambda
            if of_project and (module, name) not in ran and not for_a_check(frame):
                ran.add((module, name))

    threading.settrace(note)
    sys.settrace(note)  # no events of C functions, unlike setprofile
    main()
    sys.settrace(None)
    answer.write_text(json.dumps(sorted(ran)))
