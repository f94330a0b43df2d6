"""Run a stage and print, as JSON, every definition of the project that ran: module, and name at its top level.

python traced_stage.py train digits act 0
"""

import importlib
import inspect
import json
import sys
import threading

ran = set()


def note(frame, event, argument):
    if event == "call" and frame.f_code.co_flags & inspect.CO_NEWLOCALS:  # a function, not the body of a class
        module, name = frame.f_globals.get("__name__", ""), frame.f_code.co_qualname.partition(".")[0]
        if module.startswith("stages.") and not name.startswith("<"):  # a module's own code, a constant's lambda
            ran.add((module, name))


stage = importlib.import_module(f"stages.{sys.argv[1]}")
sys.argv = sys.argv[1:]
threading.settrace(note)
sys.settrace(note)  # no events of C functions, unlike setprofile
stage.main()
sys.settrace(None)
print(json.dumps(sorted(ran)))
