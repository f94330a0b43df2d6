# From original files to checked arrays.


rule prepare:
    """Decode and resize a dataset's images once, and list them in a manifest."""
    input:
        raw=originals,
    output:
        images="data/{dataset}/images.npy",
        manifest="data/{dataset}/manifest.parquet",
    log:
        "logs/prepare/{dataset}.log",
    benchmark:
        "logs/benchmarks/prepare/{dataset}.tsv"
    conda:
        "../envs/data.yaml"
    threads: 8
    resources:
        **requested("prepare"),
    params:
        recipe=recipe("prepare"),
        originals=contents_of_originals,
    shell:
        logged("python -m stages.prepare {wildcards.dataset}")


rule validate:
    """Check manifest and images with great-expectations; a failure stops all later jobs."""
    input:
        images="data/{dataset}/images.npy",
        manifest="data/{dataset}/manifest.parquet",
    output:
        "data/{dataset}/validation.json",
    log:
        "logs/validate/{dataset}.log",
    benchmark:
        "logs/benchmarks/validate/{dataset}.tsv"
    conda:
        "../envs/data.yaml"
    resources:
        **requested("validate"),
    params:
        recipe=recipe("validate"),
    shell:
        logged("python -m stages.validate {wildcards.dataset}")
