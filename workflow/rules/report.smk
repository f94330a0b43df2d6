# The tables and the page, from exactly the configured matrix.


rule report:
    """Compute scores and intervals, and write tables and the page."""
    input:
        benign=of_all_models("results", ["benign.json", "benign.parquet"]),
        attacks=of_all_models(
            "results", [f"{attack}.{kind}" for attack in config["run"]["attacks"] for kind in ("json", "parquet")]
        ),
        histories=of_all_models("models", ["history.csv"]),
        template="workflow/report/index.html.j2",
        published="workflow/reference/published.csv",
        code=[
            "stages/report.py",
            "stages/core/comparison.py",
            "stages/core/metrics.py",
            "stages/core/scores.py",
            "stages/core/seeding.py",
            "stages/core/stats.py",
            "stages/core/tables.py",
            "stages/io/figures.py",
            "stages/io/published.py",
            "stages/io/results.py",
        ],
    output:
        scores=report("reports/scores.csv", caption="../report/scores.rst", category="Scores"),
        metrics="reports/metrics.json",
        headline="reports/headline.csv",
        comparison=report("reports/comparison.csv", caption="../report/comparison.rst", category="Paper versus ours"),
        page="reports/index.html",  # a report of its own, whose links to its figures would break in Snakemake's
        figures=report(
            expand("reports/figures/history_{dataset}.svg", dataset=config["run"]["datasets"]),
            caption="../report/history.rst",
            category="Training",
        ),
        tables=report(
            expand("reports/tables/{table}.{kind}", table=config["tables"], kind=["csv", "md", "tex"]),
            caption="../report/tables.rst",
            category="Tables",
        ),
    params:
        depends=depends("run", "tables"),
    resources:
        **asks("report"),
    log:
        "logs/report/all.log",
    benchmark:
        "logs/benchmarks/report/all.tsv"
    conda:
        "../envs/report.yaml"
    shell:
        logged("python -m stages.report")
