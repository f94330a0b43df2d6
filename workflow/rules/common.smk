# Shared by all rules: checks before a run, recipes, wildcards and resources.
import math
from contextlib import ExitStack
from pathlib import Path

from stages.data import originals as data_files
from stages.runtime import artifacts, cli, forkserver
from workflow import cost, recipes, sync

if config != parameters.read():
    sys.exit("params.yaml: overlaid with --config or --configfile, which the stages would not see; edit the file")

# Without a record of what DVC made, Snakemake would take results as current whatever changed since.
if not sync.is_seen() and not {"-F", "--forceall"} & set(sys.argv):
    sys.exit(
        "dvc.lock: not what Snakemake last saw (after dvc repro, pull or checkout); "
        "run `ca-tride sync snakemake` first, or add --forceall to compute everything anew"
    )
if workflow.is_main_process:
    sync.refuse_edited(sync.edited())

forkserver.lead_path()
reserved = ExitStack()  # locks that a run holds until it ends


wildcard_constraints:
    dataset="|".join(study["datasets"]),
    defense="|".join(study["defenses"]),
    attack="|".join(study["attacks"]),
    seed="[0-9]+",


def recipe(stage):
    """`params:` of a stage's rule: the values and the code that a job depends on, so that a change of one reruns it."""
    return lambda wildcards: recipes.recipe(study, stage, wildcards)


def profile(rule, wildcards):
    """The training profile that a job computes by, its defense's or its dataset's."""
    return parameters.profile(study, rule, wildcards.dataset, wildcards.get("defense"))


def threads(rule):
    """`threads:` of a rule: fixed by the training profile, so that --cores cannot change results."""
    return lambda wildcards: profile(rule, wildcards)["threads"]


def originals(wildcards):
    """The folder data/raw/<dataset>, whose modification time does not matter: `contents_of_originals` compares its
    contents. If it is missing, the stage says what to do."""
    raw = artifacts.raw_dir(wildcards.dataset)
    return [ancient(str(raw))] if raw.exists() else []


def contents_of_originals(wildcards):
    """A fingerprint of the original files, links followed. They are not inputs themselves, because Snakemake would
    take braces in a name for a wildcard and does not look behind links to folders."""
    try:
        return data_files.fingerprint(artifacts.raw_dir(wildcards.dataset))
    except OSError:  # unreadable; the stage reports it
        return ""


def of_all_models(root, names):
    """Files of every model of the run."""
    run = study["run"]
    pattern = "{root}/{dataset}/{defense}/{seed}/{name}"
    return expand(pattern, root=root, dataset=run["datasets"], defense=run["defenses"], seed=run["seeds"], name=names)


def of_dataset(root, names):
    """Files of every model of one dataset of the run; a name may hold {attack}."""
    return lambda wildcards: [
        f"{root}/{wildcards.dataset}/{defense}/{seed}/{name.format(**dict(wildcards.items()))}"
        for defense in study["run"]["defenses"]
        for seed in study["run"]["seeds"]
        for name in names
    ]


# What jobs request from a scheduler, for data of the papers' size. Ranking and attacks process distances in chunks, so
# memory hardly grows with the data, but with the perturbed images that the key `keep` of an attack asks for.
MINUTES = {
    "prepare": 240,
    "validate": 60,
    "train": 1440,
    "evaluate": 240,
    "attack": 480,
    "transfer": 240,
    "visualize": 30,
    "report": 30,
}
MEMORY = 6000  # MB


def requested(rule):
    """`resources:` of a rule, for a scheduler; on one machine they limit nothing. A second attempt requests twice the
    memory and time, and so on. A job requests a GPU if its training profile has `device: cuda`."""

    def gpu(wildcards):
        return 1 if profile(rule, wildcards).get("device") == "cuda" else None

    def memory(wildcards, attempt):
        images = cost.memory(study, wildcards.dataset, wildcards.attack) if rule == "attack" else 0
        return attempt * (MEMORY + math.ceil(images / 1e6))

    found = {
        "mem_mb": memory,
        "runtime": lambda wildcards, attempt: attempt * MINUTES[rule],
    }
    return found | ({"gpu": gpu} if rule in cli.ON_DEVICE else {})


def logged(command):
    """Write the output of a stage to its log, and show its warnings. If it fails, also show its last line, which names
    the key or file and the fix. A SIGTERM to all processes of a job does not end the shell before the stage has saved
    its state: Snakemake would take the job as ended, and Slurm would kill what is left of it."""
    shown = "grep '^[a-z]*: warning: ' {log} >&2 || :"
    return f"trap : TERM; {command} 2> {{log}} || {{{{ code=$?; tail -n 1 {{log}} >&2; exit $code; }}}}; {shown}"
