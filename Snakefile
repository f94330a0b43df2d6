# The graph of the study. Stages are in stages/, settings in params.yaml.
# dvc.yaml has the same graph for DVC; tests/integration/test_graphs.py compares the two.
from snakemake.utils import min_version

min_version("9.0")


include: "workflow/rules/checks.smk"


configfile: "params.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        rules.report.output,


# DVC is locked out while jobs run. A finished run is recorded in dvc.lock. Jobs on this machine are forked from one process.
onstart:
    reserved.enter_context(sync.exclusive())
    sync.remember()
    if workflow.local_exec:
        reserved.enter_context(forkserver.serving())


onsuccess:
    reserved.close()
    shell("{sys.executable:q} -m workflow sync dvc || true")
    if Path("reports/index.html").exists():
        shell("{sys.executable:q} -m workflow crate > /dev/null || true")
        print("The report is reports/index.html", file=sys.stderr)


onerror:
    reserved.close()
