# Before Snakemake reads params.yaml, of whose mistakes it would say only that it is not valid: our own checks of it.
import sys

from stages.io import conflicts
from stages.io import params as parameters
from stages.io.errors import UserError

try:
    conflicts.check_all()
    on_disk = parameters.load()
except UserError as error:
    sys.exit(str(error))
