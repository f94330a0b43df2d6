# From original files to checked arrays.


rule prepare:
    """Decode and resize a dataset's images once, and list them in a manifest."""
    input:
        raw=originals,
        code=[
            "stages/prepare.py",
            "stages/io/archives.py",
            "stages/io/cars.py",
            "stages/io/decoding.py",
            "stages/io/download.py",
            "stages/io/folders.py",
            "stages/io/listings.py",
            "stages/io/matlab.py",
            "stages/io/originals.py",
            "stages/io/readers.py",
        ],
    output:
        images="data/{dataset}/images.npy",
        manifest="data/{dataset}/manifest.parquet",
    params:
        depends=depends("datasets.{dataset}.reader", "datasets.{dataset}.side", "datasets.{dataset}.split"),
        originals=contents_of_originals,
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
        code=["stages/validate.py", "stages/io/data.py"],
    output:
        "data/{dataset}/validation.json",
    params:
        depends=depends("datasets.{dataset}.expected"),
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
