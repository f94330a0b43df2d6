# Pictures, tables and the page, from exactly the configured runs.


rule visualize:
    """Draw pictures of attacks on some queries of a dataset, for every defense."""
    input:
        images="data/{dataset}/images.npy",
        manifest="data/{dataset}/manifest.parquet",
        # All of them, because DVC can only depend on their folders.
        models=of_dataset("models", ["model.safetensors"]),
        results=of_dataset(
            "results",
            [
                "gallery.npy",
                *(f"{attack}{end}" for attack in study["run"]["attacks"] for end in (".json", "_examples.npy")),
            ],
        ),
    output:
        "reports/visualize/{dataset}.json",
    log:
        "logs/visualize/{dataset}.log",
    benchmark:
        "logs/benchmarks/visualize/{dataset}.tsv"
    conda:
        "../envs/model.yaml"
    resources:
        **requested("visualize"),
    params:
        recipe=recipe("visualize"),
    shell:
        logged("python -m stages.visualize {wildcards.dataset}")


rule report:
    """Compute scores and intervals, and write tables and the page."""
    input:
        benign=of_all_models("results", ["benign.json", "benign.parquet"]),
        attacks=of_all_models(
            "results", [f"{attack}.{kind}" for attack in study["run"]["attacks"] for kind in ("json", "parquet")]
        ),
        transfers=expand(
            "results/transfer/{dataset}/{attack}.{kind}",
            dataset=study["run"]["datasets"],
            attack=study["run"]["transfer"],
            kind=["json", "parquet"],
        ),
        histories=of_all_models("models", ["history.csv"]),
        pictures=expand("reports/visualize/{dataset}.json", dataset=study["run"]["datasets"]),
    output:
        scores=report("reports/scores.csv", caption="../report/scores.rst", category="Scores"),
        metrics="reports/metrics.json",
        headline="reports/headline.csv",
        comparison=report("reports/comparison.csv", caption="../report/comparison.rst", category="Paper versus ours"),
        page="reports/index.html",  # a report of its own, whose links to its figures would break in Snakemake's
        figures=report(
            expand("reports/figures/{name}.{kind}", name=artifacts.figure_names(study), kind=["png", "svg"]),
            caption="../report/figures.rst",
            category="Figures",
        ),
        tables=report(
            expand("reports/tables/{table}.{kind}", table=study["tables"], kind=["csv", "md", "tex"]),
            caption="../report/tables.rst",
            category="Tables",
        ),
        matrices=report(
            expand("reports/tables/differences.{kind}", kind=["csv", "md"])
            + expand("reports/tables/transfer_{attack}.{kind}", attack=study["run"]["transfer"], kind=["csv", "md"]),
            caption="../report/tables.rst",
            category="Tables",
        ),
    log:
        "logs/report/all.log",
    benchmark:
        "logs/benchmarks/report/all.tsv"
    conda:
        "../envs/report.yaml"
    resources:
        **requested("report"),
    params:
        recipe=recipe("report"),
    shell:
        logged("python -m stages.report")
