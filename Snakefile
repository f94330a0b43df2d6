# The study as a graph. What each stage does is in stages/, what is run is in params.yaml.
# The same graph for DVC is in dvc.yaml; tests/test_graphs.py holds the two equal.
from snakemake.utils import min_version

min_version("9.0")


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


# While jobs run, DVC keeps away; results of this run become DVC's as well, once all of them are there.
onstart:
    reserved.enter_context(sync.exclusive())
    sync.remember()


onsuccess:
    reserved.close()
    shell("{sys.executable} -m workflow sync dvc || true")
    if Path("reports/index.html").exists():
        shell("{sys.executable} -m workflow crate > /dev/null || true")
        print("The report is reports/index.html", file=sys.stderr)


onerror:
    reserved.close()
