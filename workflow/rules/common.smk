# Shared by all rules: the checks before anything starts, what a job depends on, and what a wildcard may be.
import sys
from pathlib import Path

from stages.io import params as parameters
from stages.io.errors import UserError
from workflow import handover

try:
    on_disk = parameters.load()
except UserError as error:
    sys.exit(str(error))
if config != on_disk:
    sys.exit("params.yaml: overlaid with --config or --configfile, which the stages would not see; edit the file")

# Without records of what DVC made, Snakemake would take results as current whatever changed since.
if Path("models").exists() and not handover.is_seen() and not {"-F", "--forceall"} & set(sys.argv):
    sys.exit(
        "dvc.lock: not what Snakemake last saw (after dvc repro, pull or checkout); "
        "run `python workflow/handover.py snakemake` first, or add --forceall to compute everything anew"
    )


wildcard_constraints:
    dataset="|".join(config["datasets"]),
    defense="|".join(config["defenses"]),
    attack="|".join(config["attacks"]),
    seed="[0-9]+",


def depends(*keys):
    """The values of params.yaml that a job depends on: a change of one reruns it (`params:` in dvc.yaml)."""

    def values(wildcards):
        return {key: parameters.lookup(config, key) for key in (key.format(**wildcards) for key in keys)}

    return values


def threads(wildcards):
    """Threads of a job on a dataset: fixed by its training profile, so that --cores cannot change results."""
    return config["datasets"][wildcards.dataset]["training"]["threads"]


# Behind every command: what a stage says goes to its log, and where it fails its last line, which names the key or file
# and the fix, is shown at once.
LOGGED = "2> {log} || {{ code=$?; tail -n 1 {log} >&2; exit $code; }}"
