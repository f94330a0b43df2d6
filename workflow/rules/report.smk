# The pictures, tables and the page, from exactly the configured matrix.


rule visualize:
    """Show what attacks do to some queries of a dataset, under every defense."""
    input:
        images="data/{dataset}/images.npy",
        manifest="data/{dataset}/manifest.parquet",
        # All of them, since DVC can only name the folders they are in.
        models=of_dataset("models", ["model.safetensors"]),
        results=of_dataset(
            "results",
            ["gallery.npy", *(f"{attack}{end}" for attack in config["run"]["attacks"] for end in (".json", "_examples.npy"))],
        ),
        code=[
            "stages/visualize.py",
            "stages/core/backbones/efficientnet.py",
            "stages/core/backbones/resnet.py",
            "stages/core/backbones/small.py",
            "stages/core/models.py",
            "stages/core/seeding.py",
            "stages/models/checkpoints.py",
            "stages/data/splits.py",
            "stages/models/embeddings.py",
            "stages/models/own_models.py",
            "stages/reporting/thumbnails.py",
        ],
    output:
        "reports/visualize/{dataset}.json",
    params:
        depends=depends("datasets.{dataset}.crop", "visualize", "run"),
    resources:
        **asks("visualize"),
    log:
        "logs/visualize/{dataset}.log",
    benchmark:
        "logs/benchmarks/visualize/{dataset}.tsv"
    conda:
        "../envs/model.yaml"
    shell:
        logged("python -m stages.visualize {wildcards.dataset}")


rule report:
    """Compute scores and intervals, and write tables and the page."""
    input:
        benign=of_all_models("results", ["benign.json", "benign.parquet"]),
        attacks=of_all_models(
            "results", [f"{attack}.{kind}" for attack in config["run"]["attacks"] for kind in ("json", "parquet")]
        ),
        histories=of_all_models("models", ["history.csv"]),
        pictures=expand("reports/visualize/{dataset}.json", dataset=config["run"]["datasets"]),
        template=expand(
            "workflow/report/{name}",
            name=["visualize.html.j2", "index.html.j2", "page.css", "page.js", "parts.html.j2", "table.html.j2"],
        ),
        published=[str(path) for path in sorted(Path("workflow/papers").glob("*/published.csv"))],
        code=[
            "stages/report.py",
            "stages/reporting/verdicts.py",
            "stages/core/metrics.py",
            "stages/core/scores.py",
            "stages/core/seeding.py",
            "stages/core/stats.py",
            "stages/reporting/tables.py",
            "stages/reporting/figures.py",
            "stages/reporting/page.py",
            "stages/reporting/plotting.py",
            "stages/reporting/published.py",
            "stages/reporting/results.py",
            "stages/reporting/rows.py",
        ],
    output:
        scores=report("reports/scores.csv", caption="../report/scores.rst", category="Scores"),
        metrics="reports/metrics.json",
        headline="reports/headline.csv",
        comparison=report("reports/comparison.csv", caption="../report/comparison.rst", category="Paper versus ours"),
        page="reports/index.html",  # a report of its own, whose links to its figures would break in Snakemake's
        figures=report(
            expand("reports/figures/{name}.{kind}", name=artifacts.figure_names(config), kind=["png", "svg"]),
            caption="../report/figures.rst",
            category="Figures",
        ),
        tables=report(
            expand("reports/tables/{table}.{kind}", table=config["tables"], kind=["csv", "md", "tex"]),
            caption="../report/tables.rst",
            category="Tables",
        ),
    params:
        depends=depends("attacks", "datasets", "defenses", "visualize", "run", "tables"),
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
