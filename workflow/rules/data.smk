# From original files to checked arrays.


rule prepare:
    """Decode and resize a dataset's images once, and list them in a manifest."""
    input:
        raw=originals,
        code=[
            "stages/prepare.py",
            "stages/data/archives.py",
            "stages/data/download.py",
            "stages/data/idx.py",
            "stages/data/annotations.py",
            "stages/data/matlab.py",
            "stages/data/readers.py",
        ],
    output:
        images="data/{dataset}/images.npy",
        manifest="data/{dataset}/manifest.parquet",
    params:
        depends=depends("datasets.{dataset}.reader", "datasets.{dataset}.side", "datasets.{dataset}.split"),
    threads: 8
    resources:
        **asks("prepare"),
    log:
        "logs/prepare/{dataset}.log",
    benchmark:
        "logs/benchmarks/prepare/{dataset}.tsv"
    conda:
        "../envs/data.yaml"
    shell:
        logged("python -m stages.prepare {wildcards.dataset}")


rule validate:
    """Check manifest and images with great-expectations; a failure stops everything behind it."""
    input:
        images="data/{dataset}/images.npy",
        manifest="data/{dataset}/manifest.parquet",
        code=["stages/validate.py", "stages/data/splits.py"],
    output:
        "data/{dataset}/validation.json",
    params:
        depends=depends("datasets.{dataset}.expected", "datasets.{dataset}.split"),
    resources:
        **asks("validate"),
    log:
        "logs/validate/{dataset}.log",
    benchmark:
        "logs/benchmarks/validate/{dataset}.tsv"
    conda:
        "../envs/data.yaml"
    shell:
        logged("python -m stages.validate {wildcards.dataset}")
