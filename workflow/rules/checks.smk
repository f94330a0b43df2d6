# Check params.yaml before Snakemake reads it, whose own message would only say that the file is not valid.
import gc
import sys

from stages.runtime import conflicts
from stages.runtime import params as parameters
from stages.runtime.errors import UserError

# A graph is a million objects that live to the end: looking for garbage among them is a fifth of a dry run of 700 jobs.
gc.freeze()
gc.set_threshold(50_000, 20, 100)

try:
    conflicts.check_all()
    study = parameters.load()
except UserError as error:
    sys.exit(str(error))
