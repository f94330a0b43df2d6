"""Run a stage and print, as JSON, every definition of the project that ran: module, and name at its top level.

What a check of the method calls is left out with the check: its result goes nowhere.

python traced_stage.py train digits act 0
"""

import importlib
import inspect
import json
import sys
import threading

from workflow.code import CANNOT_CHANGE_A_RESULT

CHECKS = {module for module in CANNOT_CHANGE_A_RESULT if module.startswith("stages.core.")}
ran = set()


def for_a_check(frame):
    while frame and frame.f_globals.get("__name__") not in CHECKS:
        frame = frame.f_back
    return frame is not None


def note(frame, event, argument):
    if event == "call" and frame.f_code.co_flags & inspect.CO_NEWLOCALS:  # a function, not the body of a class
        module, name = frame.f_globals.get("__name__", ""), frame.f_code.co_qualname.partition(".")[0]
        of_project = module.startswith("stages.") and not name.startswith("<")  # a module's own code, a lambda
        if of_project and (module, name) not in ran and not for_a_check(frame):
            ran.add((module, name))


stage = importlib.import_module(f"stages.{sys.argv[1]}")
sys.argv = sys.argv[1:]
threading.settrace(note)
sys.settrace(note)  # no events of C functions, unlike setprofile
stage.main()
sys.settrace(None)
print(json.dumps(sorted(ran)))
