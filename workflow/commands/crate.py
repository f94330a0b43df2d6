"""Describe a finished run as a Workflow Run RO-Crate: logs/provenance/crate/, a folder that can be archived as it is.

Snakemake runs this command at the end of a run; run it yourself after `dvc repro`. The crate contains the workflow,
params.yaml, the reports and the record of every job (when, where, with which versions, and the SHA-256 of its outputs).
It names models and data by these hashes and does not copy them.
"""

from __future__ import annotations

import argparse
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rocrate.model.contextentity import ContextEntity
from rocrate.model.person import Person
from rocrate.rocrate import ROCrate

from stages.runtime import artifacts

RECORDS = Path("logs") / "provenance"
TARGET = RECORDS / "crate"
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": "Process Run Crate",
    "https://w3id.org/ro/wfrun/workflow/0.5": "Workflow Run Crate",
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": "Workflow RO-Crate",
}
LICENSE = "https://spdx.org/licenses/Apache-2.0"
FORMATS = {
    ".csv": "text/csv",
    ".html": "text/html",
    ".json": "application/json",
    ".md": "text/markdown",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".tex": "application/x-tex",
    ".yaml": "application/yaml",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Take no arguments."""


def records() -> list[tuple[Path, dict[str, Any]]]:
    """What each job left in logs/provenance, in order of its end."""
    found = [(path, json.loads(path.read_text())) for path in RECORDS.glob("*/*.json") if path.parent != TARGET]
    return sorted(found, key=lambda pair: pair[1]["finished"])


def describe(crate: ROCrate) -> None:
    """Fill a crate with workflow, inputs, results and the action that led from the ones to the others."""
    jobs = records()
    crate.name = "CA-TRIDE, reproduced: one run"
    crate.description = (
        "Training and attacking the defenses of Collapse-Aware Triplet Decoupling for Adversarially Robust Image "
        "Retrieval (ICML 2024) and its baselines; parameters, tables, figures and the record of every job."
    )
    crate.license = crate.add(
        ContextEntity(crate, LICENSE, properties={"@type": "CreativeWork", "name": "Apache License 2.0"})
    )
    for address, name in PROFILES.items():
        profile = crate.add(ContextEntity(crate, address, properties={"@type": "CreativeWork", "name": name}))
        profile["version"] = address.rsplit("/", 1)[1]
        crate.root_dataset.append_to("conformsTo", profile)
    workflow = crate.add_workflow("Snakefile", "Snakefile", main=True, lang="snakemake", lang_version="9")
    workflow["name"] = "CA-TRIDE reproduction"
    workflow["license"] = crate.license
    workflow["version"] = version("ca-tride-repro")
    for path in sorted(Path("workflow/rules").glob("*.smk")):
        kinds = {"@type": ["File", "SoftwareSourceCode"], "name": path.name, "encodingFormat": "text/x-python"}
        rule = crate.add_file(path, path, properties=kinds)
        workflow.append_to("hasPart", rule)
    wanted = ContextEntity(crate, "#params", properties={"@type": "FormalParameter", "name": "params"})
    wanted["additionalType"], wanted["encodingFormat"] = "File", "application/yaml"
    wanted["conformsTo"] = {"@id": "https://bioschemas.org/profiles/FormalParameter/1.0-RELEASE"}
    workflow["input"] = crate.add(wanted)
    given = add(crate, Path("params.yaml"))
    given["exampleOfWork"] = wanted
    reports = [add(crate, path) for path in sorted(Path("reports").rglob("[!.]*")) if path.is_file()]
    files = [add(crate, path) for path, _ in jobs]
    agent = crate.add(Person(crate, "#runner", properties={"name": "whoever started this run"}))
    action = ContextEntity(crate, "#run", properties={"@type": "CreateAction", "name": "the run that made reports/"})
    action["instrument"], action["object"], action["result"] = workflow, [given], [*reports, *files]
    action["agent"], action["actionStatus"] = agent, "http://schema.org/CompletedActionStatus"
    if jobs:
        crate.datePublished = action["endTime"] = jobs[-1][1]["finished"]
        action["description"] = f"{len(jobs)} jobs, {sum(job['seconds'] for _, job in jobs):.0f} s of computing"
    crate.root_dataset.append_to("mentions", crate.add(action))


def add(crate: ROCrate, path: Path) -> Any:
    """Add a file under its own path."""
    properties = {"name": path.name, "encodingFormat": FORMATS.get(path.suffix, "text/plain")}
    return crate.add_file(path, path, properties=properties)


def run() -> str:
    """Write the crate in place of an older one; its folder, in one line.

    Raises:
        UserError: there is no report.
    """
    artifacts.require(artifacts.REPORTS / "index.html", "ca-tride compute")
    crate = ROCrate(version="1.1")  # what the profiles of Workflow Run Crate 0.5 build on
    describe(crate)
    with artifacts.replacing(TARGET) as draft:
        crate.write(draft)
    return f"crate: {TARGET}"
