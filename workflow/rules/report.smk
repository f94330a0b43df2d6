# The tables and the page, from exactly the configured matrix.


def results(*names):
    """Result files of every model of the run."""
    run = config["run"]
    models = expand("results/{dataset}/{defense}/{seed}", dataset=run["datasets"], defense=run["defenses"], seed=run["seeds"])
    return [f"{folder}/{name}" for folder in models for name in names]


rule report:
    """Compute scores and intervals, and write tables and the page."""
    input:
        benign=results("benign.json", "benign.parquet"),
        attacks=results(*(f"{attack}.{kind}" for attack in config["run"]["attacks"] for kind in ("json", "parquet"))),
        template="workflow/report/index.html.j2",
        code=[
            "stages/report.py",
            "stages/core/metrics.py",
            "stages/core/scores.py",
            "stages/core/seeding.py",
            "stages/core/stats.py",
            "stages/core/tables.py",
        ],
    output:
        scores="reports/scores.csv",
        metrics="reports/metrics.json",
        page="reports/index.html",
        tables=expand("reports/tables/{table}.{kind}", table=config["tables"], kind=["csv", "md", "tex"]),
    params:
        depends=depends("run", "tables"),
    log:
        "logs/report/all.log",
    benchmark:
        "logs/benchmarks/report/all.tsv"
    conda:
        "../envs/stages.yaml"
    shell:
        "python -m stages.report 2> {log}"
