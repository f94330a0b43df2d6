"""Two engines, one graph: every job of Snakefile and dvc.yaml has the same command, inputs, params and outputs."""

import json
import os
import re
import sys
from pathlib import Path

import pytest

from stages.runtime.params import load
from workflow.sync import RECIPES

ROOT = Path(__file__).resolve().parents[2]


def snakemake_jobs(project):
    """Jobs by command."""
    done = project.run(sys.executable, str(Path(__file__).parents[1] / "snakemake_graph.py"))
    return {job.pop("command"): job for job in json.loads(done.stdout.splitlines()[-1])}


def dvc_jobs(project):
    """Stages by command, with the file of a job's recipe replaced by what is in it: Snakemake has it in its params."""
    from dvc.repo import Repo

    def names(items):
        return sorted(os.path.relpath(item.fs_path, project.folder) for item in items)

    project.run(sys.executable, "-m", "workflow.recipes")
    with Repo(str(project.folder)) as repo:
        stages = list(repo.index.stages)
        jobs = {}
        for stage in filter(lambda stage: stage.name != RECIPES, stages):
            (recipe,) = (name for name in names(stage.deps) if name.startswith("recipes/"))
            jobs[stage.cmd] = {
                "inputs": [name for name in names(stage.deps) if name != recipe],
                "outputs": names(stage.outs),
                "recipe": json.loads((project.folder / recipe).read_text()),
            }
    return jobs


def listed(jobs, params):
    """Folders in DVC (`models`, `results`, `reports/...`) as the files that Snakemake lists.

    DVC cannot list an expansion in one stage, and Snakemake would leave a timestamp file in a folder of its own.
    """
    run = params["run"]
    for dataset in run["datasets"]:
        gallery = jobs[f"python -m stages.visualize {dataset}"]
        names = ["gallery.npy", *(f"{name}{end}" for name in run["attacks"] for end in (".json", "_examples.npy"))]
        models = [f"{dataset}/{defense}/{seed}" for defense in run["defenses"] for seed in run["seeds"]]
        files = {f"models/{folder}/model.safetensors" for folder in models}
        files |= {f"results/{folder}/{name}" for folder in models for name in names}
        folders = {f"models/{dataset}", f"results/{dataset}"}
        assert folders <= set(gallery["inputs"])
        gallery["inputs"] = sorted(files | (set(gallery["inputs"]) - folders))
        for attack in run["transfer"]:
            job = jobs[f"python -m stages.transfer {dataset} {attack}"]
            ends = ("benign.json", "gallery.npy", *(f"{attack}{end}" for end in (".json", ".parquet", "_examples.npy")))
            files = {f"models/{folder}/model.safetensors" for folder in models}
            files |= {f"results/{folder}/{end}" for folder in models for end in ends}
            assert folders <= set(job["inputs"])
            job["inputs"] = sorted(files | (set(job["inputs"]) - folders))
    report = jobs["python -m stages.report"]
    files = {f"reports/tables/{name}.{kind}" for name in params["tables"] for kind in ("csv", "md", "tex")}
    matrices = ["differences", *(f"transfer_{name}" for name in run["transfer"])]
    files |= {f"reports/tables/{name}.{kind}" for name in matrices for kind in ("csv", "md")}
    kinds = ["sub_scores", "history", "variants", "sweep_eps_sweep", "sweep_steps_sweep"]
    kinds += ["transfer"] if run["transfer"] else []
    figures = ["tradeoff", *(f"{kind}_{dataset}" for dataset in run["datasets"] for kind in kinds)]
    files |= {f"reports/figures/{name}.{kind}" for name in figures for kind in ("svg", "png")}
    report["outputs"] = sorted(files | (set(report["outputs"]) - {"reports/tables", "reports/figures"}))
    if "results" in report["inputs"]:
        made = {
            name
            for job in jobs.values()
            for name in job["outputs"]
            if name.startswith(("results/", "models/")) and name.endswith((".json", ".parquet", "history.csv"))
        }
        made |= {f"reports/visualize/{dataset}.json" for dataset in run["datasets"]}
        report["inputs"] = sorted(made | (set(report["inputs"]) - {"results", "models", "reports/visualize"}))
    return jobs


def grouped(jobs):
    """What lies in a dataset's raw folder as the folder: Snakemake cannot look into one, so it names the entries."""
    for job in jobs.values():
        below = {name for name in job["inputs"] if name.startswith("data/raw/")}
        job["inputs"] = sorted((set(job["inputs"]) - below) | {"/".join(name.split("/")[:3]) for name in below})
    return jobs


def enlarge(params):
    """Three datasets, eight defenses, three seeds, nine attacks of which two are transferred."""
    params["defenses"]["again"] = dict(params["defenses"]["act"])
    params["run"]["datasets"] = ["cub", "cars", "sop"]
    params["run"]["defenses"] = [*params["run"]["defenses"], "again"]
    params["run"]["seeds"] = [0, 1, 2]
    params["run"]["transfer"] = ["qa_plus", "tma"]


@pytest.fixture
def graph(project):
    project.run("dvc", "init", "--no-scm", "-q")
    return project


@pytest.mark.parametrize("change", [lambda params: None, enlarge], ids=["default", "large"])
def test_both_graphs_are_the_same(graph, change):
    graph.edit(change)
    params = load(graph.folder / "params.yaml")
    snakemake, dvc = grouped(snakemake_jobs(graph)), listed(dvc_jobs(graph), params)
    assert sorted(snakemake) == sorted(dvc)
    for command, job in snakemake.items():
        assert job == dvc[command], command
    if change is enlarge:
        assert len(snakemake) == 3 * (3 + 2) + 72 * (2 + 9) + 1
    assert any("stages.transfer" in command for command in dvc) == (change is enlarge)


def recipes(project):
    """All recipes by path."""
    project.run(sys.executable, "-m", "workflow.recipes")
    return {name: json.loads(text) for name, text in project.files("recipes").items()}


def test_recipes_of_removed_blocks_go_and_others_keep_their_files(project):
    recipes(project)
    before = {path: path.stat() for path in (project.folder / "recipes").rglob("*.json")}
    assert project.folder / "recipes/attack/digits/act/es.json" in before
    project.edit(lambda params: params["run"]["defenses"].remove("act"))
    recipes(project)
    after = {path: path.stat() for path in (project.folder / "recipes").rglob("*.json")}
    assert {path for path in before if path not in after} == {
        path for path in before if "act" in (*path.parts, path.stem)
    }
    assert not (project.folder / "recipes/attack/digits/act").exists()
    for path, stat in after.items():
        same = (stat.st_ino, stat.st_mtime_ns) == (before[path].st_ino, before[path].st_mtime_ns)
        assert same == (path.name != "report.json" and path.parent.name != "visualize"), path


def test_the_command_says_what_changed(project):
    recipes(project)
    project.edit(lambda params: params["attacks"]["es"].update(steps=5))
    losses = project.folder / "stages/core/losses.py"
    losses.write_text(losses.read_text().replace("MARGIN = 0.2", "MARGIN = 0.3"))
    said = project.run(sys.executable, "-m", "workflow.recipes").stdout.splitlines()
    assert (
        "recipes: recipes/attack/digits/act/es.json: attacks.es.steps: 32 -> 5; other code" in said or len(said) == 11
    )
    assert any(line == "recipes: recipes/train/digits/act.json: other code" for line in said)
    assert said[-1].startswith("recipes: and ")
    assert not project.run(sys.executable, "-m", "workflow.recipes").stdout


def add_defense(project):
    defenses = project.folder / "stages/core/defenses"
    (defenses / "mine.py").write_text((defenses / "vanilla.py").read_text().replace("def vanilla", "def mine"))
    registry = defenses / "__init__.py"
    text = registry.read_text().replace('    "vanilla": vanilla,', '    "vanilla": vanilla,\n    "mine": mine,')
    registry.write_text(text.replace("\n\nDEFENSES", "\nfrom stages.core.defenses.mine import mine\n\nDEFENSES", 1))

    def add(params):
        params["defenses"]["mine"] = {"method": "mine", "miner": "random"}
        params["run"]["defenses"].append("mine")

    project.edit(add)


def add_attack(project):
    """In a file that other attacks are in."""
    path = project.folder / "stages/core/attacks/query.py"
    path.write_text(path.read_text() + "\nmine = Attack(nearby, partial(objective, sign=1), measure_retained)\n")
    registry = project.folder / "stages/core/attacks/__init__.py"
    registry.write_text(registry.read_text().replace('    "gtt"', '    "mine": query.mine,\n    "gtt"'))

    def add(params):
        params["attacks"]["mine"] = {**params["attacks"]["gtt"], "attack": "mine"}
        params["run"]["attacks"].append("mine")

    project.edit(add)


def add_dataset(project):
    """With a reader and a backbone of its own, and a miner, all of them beside others in one file."""
    for name, registry, entry, base in (
        ("stages/data/readers.py", "READERS", "mine", "digits"),
        ("stages/core/mining.py", "MINERS", "mine", "random"),
        ("stages/core/models.py", "BACKBONES", "mine", "digits_cnn"),
    ):
        path = project.folder / name
        text = path.read_text()
        value = "Backbone(digits_cnn, mean=(0.0,), std=(1.0,))" if registry == "BACKBONES" else "of_mine"
        at = text.index(f'    "{base}": ', text.index(f"\n{registry}: "))
        text = f'{text[:at]}    "{entry}": {value},\n{text[at:]}'
        function = "def of_mine(*given):\n    return None\n\n\n"
        path.write_text(text.replace(f"{registry}: dict", f"{function}{registry}: dict", 1))

    def add(params):
        digits = params["datasets"]["digits"]
        training = {**digits["training"], "backbone": "mine"}
        params["datasets"]["mine"] = {**digits, "reader": "mine", "training": training}
        params["run"]["datasets"].append("mine")

    project.edit(add)


def add_table(project):
    project.edit(lambda params: params["tables"].update(mine={"extends": "main"}))


def add_comments(project):
    """To every file of code: a comment, a docstring, another layout."""
    for path in (project.folder / "stages").rglob("*.py"):
        text = re.sub(r'^( *""")(?=\w)', r"\1Better said: ", path.read_text(), flags=re.MULTILINE)
        path.write_text(text.replace("\nfrom ", "\n\n\n# A comment.\nfrom ") + "\n# The end.\n")


@pytest.mark.parametrize(
    ("change", "own", "also"),
    [
        (add_defense, {"train/digits/mine", "evaluate/digits/mine"}, ("report", "visualize/")),
        (add_attack, {"attack/digits/act/mine", "attack/digits/vanilla/mine"}, ("report", "visualize/")),
        (add_dataset, {"prepare/mine", "train/mine/act", "attack/mine/act/es"}, ("report", "visualize/")),
        (add_table, set(), ("report",)),
        (add_comments, set(), ()),
    ],
)
def test_an_addition_leaves_every_other_job_valid(project, change, own, also):
    """Neither graph is touched, and no job has another recipe, those apart that show all that is there."""
    before = recipes(project)
    change(project)
    after = recipes(project)
    changed = {name.removeprefix("recipes/").removesuffix(".json") for name in after if after[name] != before.get(name)}
    assert own <= changed
    assert all("mine" in name or name.startswith(also) for name in changed)
    assert set(before) <= set(after)
    if also:
        assert "report" in changed
    else:
        assert not changed


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        ("stages/core/defenses/act.py", "chunk(2)).mean()", "chunk(2)).sum()", {"train/digits/act"}),
        ("stages/core/mining.py", "candidates.same & inside", "candidates.same | inside",
         {f"train/digits/{name}" for name in ("hm", "hm_ics", "tride", "ca_tride")}),
        ("stages/core/attacks/query.py", "nearer < 4", "nearer < 5", {"attack/digits/act/gtt"}),
        ("stages/core/scores.py", "def ers(", "def ers(more=0, *, ", {"report"}),
        ("stages/core/pgd.py", "range(steps)", "range(1, steps)", {"train/digits/act", "attack/digits/vanilla/es"}),
        ("stages/data/splits.py", "def central_crop", "@cache\ndef central_crop",
         {"train/digits/act", "evaluate/digits/act", "attack/digits/act/es", "visualize/digits"}),
        ("stages/reporting/templates/page.css", "", "/* other */", {"report"}),
    ],
)  # fmt: skip
def test_an_edit_of_code_changes_the_recipes_of_the_jobs_that_run_it(project, file, old, new, expected):
    before = recipes(project)
    path = project.folder / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    after = recipes(project)
    changed = {name.removeprefix("recipes/").removesuffix(".json") for name in after if after[name] != before[name]}
    assert expected <= changed
    stages = {name.partition("/")[0] for name in expected}
    assert {name.partition("/")[0] for name in changed} == stages
    if stages == {"train"}:
        assert changed == expected


def test_neither_graph_names_code():
    for path in (ROOT / "dvc.yaml", ROOT / "Snakefile", *(ROOT / "workflow/rules").glob("*.smk")):
        named = [line for line in path.read_text().splitlines() if ".py" in line and not line.lstrip().startswith("#")]
        assert all("sync.py" in line or "crate.py" in line for line in named), path
    assert len((ROOT / "dvc.yaml").read_text().splitlines()) < 150
