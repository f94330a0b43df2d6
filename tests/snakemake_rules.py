"""Print what Snakemake knows of each rule as JSON, and what its jobs ask a scheduler for. Run in a project's folder."""

import json
from inspect import signature
from pathlib import Path

from snakemake.api import SnakemakeApi
from snakemake.iocontainers import Wildcards
from snakemake.settings.types import OutputSettings, Quietness, ResourceSettings

with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
    workflow = api.workflow(resource_settings=ResourceSettings(cores=1), snakefile=Path("Snakefile"))._workflow
    dataset = workflow.globals["study"]["datasets"]["sop"]
    dataset["training"] = dataset["training"] | {"device": "cuda"}

    workflow.globals["study"]["attacks"]["ltm"]["keep"] = "all"
    workflow.globals["study"]["defenses"]["act"]["training"] = {"device": "cuda", "threads": 8}

    def asked(rule, dataset, attempt, defense="vanilla", attack="es"):
        """Resources of a rule's job, those that are not set left out."""
        wildcards = Wildcards(fromdict={"dataset": dataset, "defense": defense, "attack": attack})
        given = {"wildcards": wildcards, "attempt": attempt}
        values = {
            key: function(**{name: given[name] for name in signature(function).parameters})
            for key, function in workflow.globals["requested"](rule).items()
        }
        return {key: value for key, value in values.items() if value is not None}

    rules = {
        rule.name: {
            "docstring": rule.docstring,
            "log": list(map(str, rule.log)),
            "benchmark": str(rule.benchmark) if rule.benchmark else None,
            "small": asked(rule.name, "digits", 1),
            "again": asked(rule.name, "digits", 2),
            "large": asked(rule.name, "sop", 1),
            "all_kept": asked(rule.name, "sop", 2, attack="ltm"),
            "own_profile": asked(rule.name, "digits", 1, "act"),
        }
        for rule in workflow.rules
        if rule.name != "all"
    }
print(json.dumps(rules))
