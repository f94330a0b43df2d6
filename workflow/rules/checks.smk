# Before Snakemake reads params.yaml, of whose mistakes it would say only that it is not valid: our own checks of it.
import sys

from stages.runtime import conflicts
from stages.runtime import params as parameters
from stages.runtime.errors import UserError

try:
    conflicts.check_all()
    study = parameters.load()
except UserError as error:
    sys.exit(str(error))
