"""Two engines, one graph: every job of Snakefile and dvc.yaml has the same command, inputs, params and outputs."""

import json
import os
import sys
from pathlib import Path

import pytest

from stages.runtime import params as parameters
from workflow.sync import is_copy


def snakemake_jobs(project):
    """Jobs by command."""
    done = project.run(sys.executable, str(Path(__file__).parents[1] / "snakemake_graph.py"))
    return {job.pop("command"): job for job in json.loads(done.stdout.splitlines()[-1])}


def dvc_jobs(project):
    """Stages by command, with what small stages copy replaced by its origin: a block's own file of code, or the keys of
    params.yaml. Snakemake names these themselves."""
    from dvc.repo import Repo

    def names(items):
        return [os.path.relpath(item.fs_path, project.folder) for item in items]

    def is_params(dep):
        return type(dep).__name__ == "ParamsDependency"

    loaded = load_of(project)
    with Repo(str(project.folder)) as repo:
        stages = list(repo.index.stages)
        files, keys = {}, {}  # by copy
        for stage in filter(lambda stage: is_copy(stage.name), stages):
            (out,) = names(stage.outs)
            head, named, given = stage.cmd.split()[:3], stage.cmd.split()[3], stage.cmd.split()[4:]
            assert (head, named) == (["python", "-m", "workflow.keys"], out)
            files[out], keys[out] = [], given
            if given[0] == "--code":
                block, (kind, *_) = parameters.lookup(loaded, given[1]), given[1].split(".")
                method = block["family" if kind == "attacks" else "method"]
                files[out], keys[out] = [f"stages/core/{kind}/{method}.py"], []
        jobs = {}
        for stage in filter(lambda stage: not is_copy(stage.name), stages):
            inputs = names(dep for dep in stage.deps if not is_params(dep))
            params = [key for dep in stage.deps if is_params(dep) for key in dep.params]
            jobs[stage.cmd] = {
                "inputs": sorted(name for path in inputs for name in files.get(path, [path])),
                "outputs": sorted(names(stage.outs)),
                "params": sorted(params + [key for path in inputs for key in keys.get(path, [])]),
            }
    return jobs


def load_of(project):
    """The project's parameters, all blocks written out."""
    return parameters.load(project.folder / "params.yaml")


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
    report = jobs["python -m stages.report"]
    files = {f"reports/tables/{name}.{kind}" for name in params["tables"] for kind in ("csv", "md", "tex")}
    kinds = ["sub_scores", "history", "readings", "sweep_eps_sweep", "sweep_steps_sweep"]
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
    """Three datasets, eight defenses, three seeds, nine attacks."""
    params["defenses"]["again"] = dict(params["defenses"]["act"])
    params["run"]["datasets"] = ["cub", "cars", "sop"]
    params["run"]["defenses"] = [*params["run"]["defenses"], "again"]
    params["run"]["seeds"] = [0, 1, 2]


@pytest.fixture
def graph(project):
    project.run("dvc", "init", "--no-scm", "-q")
    return project


@pytest.mark.parametrize("change", [lambda params: None, enlarge], ids=["default", "large"])
def test_both_graphs_are_the_same(graph, change):
    graph.edit(change)
    params = load_of(graph)
    snakemake, dvc = grouped(snakemake_jobs(graph)), listed(dvc_jobs(graph), params)
    assert sorted(snakemake) == sorted(dvc)
    for command, job in snakemake.items():
        assert job == dvc[command], command
    if change is enlarge:
        assert len(snakemake) == 3 * 3 + 72 * (2 + 9) + 1


def test_a_new_defense_touches_no_other_job(graph):
    """One function, one registry line, one block: trained models stay valid, in both graphs."""
    before = dvc_jobs(graph)
    defenses = graph.folder / "stages" / "core" / "defenses"
    (defenses / "mine.py").write_text((defenses / "vanilla.py").read_text().replace("def vanilla", "def mine"))
    registry = defenses / "__init__.py"
    text = registry.read_text().replace('    "vanilla": vanilla,', '    "vanilla": vanilla,\n    "mine": mine,')
    registry.write_text(text.replace("\n\nDEFENSES", "\nfrom stages.core.defenses.mine import mine\n\nDEFENSES", 1))

    def add(params):
        params["defenses"]["mine"] = {"method": "mine", "miner": "random"}
        params["run"]["defenses"].append("mine")

    graph.edit(add)
    for after in (dvc_jobs(graph), grouped(snakemake_jobs(graph))):
        for command, job in before.items():
            if not command.startswith(("python -m stages.report", "python -m stages.visualize")):
                assert after[command] == job
                assert not any("mine" in name or name.endswith("__init__.py") for name in job["inputs"])
        assert "stages/core/defenses/mine.py" in after["python -m stages.train digits mine 0"]["inputs"]
