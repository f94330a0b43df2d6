"""Print Snakemake's jobs as JSON: command, inputs, outputs and the recipe of each job.

Run in a project's folder. Snakemake has no public listing with params, so this reaches for its workflow object.
"""

import json
from pathlib import Path

from snakemake.api import SnakemakeApi
from snakemake.settings.types import DAGSettings, OutputSettings, Quietness, ResourceSettings

with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
    opened = api.workflow(resource_settings=ResourceSettings(cores=1), snakefile=Path("Snakefile"))
    opened.dag(dag_settings=DAGSettings(forceall=True))
    workflow = opened._workflow
    workflow._prepare_dag(forceall=True, ignore_incomplete=True, lock_warn_only=True)
    workflow._build_dag()
    jobs = [
        {
            "command": job.shellcmd.removeprefix("trap : TERM; ").split(" 2> ")[0],
            "inputs": sorted(map(str, job.input)),
            "outputs": sorted(map(str, job.output)),
            "recipe": job.params.recipe,
        }
        for job in workflow.dag.jobs
        if job.shellcmd
    ]
print(json.dumps(jobs))
