# Shared by all rules: what must hold before anything starts, what a job depends on, and what a wildcard may be.
from contextlib import ExitStack
from pathlib import Path

from stages.data import originals as data_files
from stages.runtime import artifacts
from workflow import recipes, sync

if config != parameters.read():
    sys.exit("params.yaml: overlaid with --config or --configfile, which the stages would not see; edit the file")

# Without records of what DVC made, Snakemake would take results as current whatever changed since.
if not sync.is_seen() and not {"-F", "--forceall"} & set(sys.argv):
    sys.exit(
        "dvc.lock: not what Snakemake last saw (after dvc repro, pull or checkout); "
        "run `ca-tride sync snakemake` first, or add --forceall to compute everything anew"
    )
if workflow.is_main_process:
    sync.refuse_edited(sync.edited())

reserved = ExitStack()  # what a run holds until it ends


wildcard_constraints:
    dataset="|".join(study["datasets"]),
    defense="|".join(study["defenses"]),
    attack="|".join(study["attacks"]),
    seed="[0-9]+",


def recipe(stage):
    """`params:` of a stage's rule: the values and the code that a job depends on, so that a change of one reruns it."""
    return lambda wildcards: recipes.recipe(study, stage, wildcards)


def threads(wildcards):
    """Threads of a job on a dataset: fixed by its training profile, so that --cores cannot change results."""
    return study["datasets"][wildcards.dataset]["training"]["threads"]


def originals(wildcards):
    """The folder of what was put into data/raw/<dataset>, its time of no account: `contents_of_originals` tells more.
    Where it is missing, the stage itself says what to do."""
    raw = artifacts.raw_dir(wildcards.dataset)
    return [ancient(str(raw))] if raw.exists() else []


def contents_of_originals(wildcards):
    """A fingerprint of what lies there, links followed. As files of its own, Snakemake would take braces in a name for
    a wildcard, and could not see into a folder behind a link."""
    try:
        return data_files.fingerprint(artifacts.raw_dir(wildcards.dataset))
    except OSError:  # not to be read; the stage says so
        return ""


def of_all_models(root, names):
    """Files of every model of the run."""
    run = study["run"]
    pattern = "{root}/{dataset}/{defense}/{seed}/{name}"
    return expand(pattern, root=root, dataset=run["datasets"], defense=run["defenses"], seed=run["seeds"], name=names)


def of_dataset(root, names):
    """Files of every model of one dataset of the run."""
    return lambda wildcards: [
        f"{root}/{wildcards.dataset}/{defense}/{seed}/{name}"
        for defense in study["run"]["defenses"]
        for seed in study["run"]["seeds"]
        for name in names
    ]


# What a rule's jobs ask a scheduler for: minutes for paper-sized data. Ranking and attacks hold a chunk of distances at a
# time, so memory hardly grows with the data.
MINUTES = {"prepare": 240, "validate": 60, "train": 1440, "evaluate": 240, "attack": 480, "visualize": 30, "report": 30}
MEMORY = 6000  # MB


def asks(rule):
    """`resources:` of a rule, for a scheduler: on one machine nothing is limited by them. A second attempt asks for
    twice the memory and time, and so on; gpu is asked for where the training profile trains on one."""

    def gpu(wildcards):
        return 1 if study["datasets"][wildcards.dataset]["training"].get("device") == "cuda" else None

    asked = {
        "mem_mb": lambda wildcards, attempt: attempt * MEMORY,
        "runtime": lambda wildcards, attempt: attempt * MINUTES[rule],
    }
    return asked | ({"gpu": gpu} if rule in ("train", "evaluate", "attack") else {})


def logged(command):
    """What a stage says goes to its log; its warnings, and where it fails its last line, which names the key or file
    and the fix, are shown at once."""
    shown = "grep '^[a-z]*: warning: ' {log} >&2 || :"
    return f"{command} 2> {{log}} || {{{{ code=$?; tail -n 1 {{log}} >&2; exit $code; }}}}; {shown}"
