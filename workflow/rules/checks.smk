# Check params.yaml before Snakemake reads it, whose own message would only say that the file is not valid.
import sys

from stages.runtime import conflicts
from stages.runtime import params as parameters
from stages.runtime.errors import UserError

try:
    conflicts.check_all()
    study = parameters.load()
except UserError as error:
    sys.exit(str(error))
