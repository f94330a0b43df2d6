# From original files to checked arrays.

def originals(wildcards):
    """What was put into data/raw/<dataset>: the folders, whose times tell of added and removed images, and the files
    beside them. Where it is missing, the stage itself says what to do."""
    raw = Path("data/raw") / wildcards.dataset
    folders = [path for path in raw.glob("**/") if not path.name.startswith(".")]
    files = [path for path in raw.glob("[!.]*") if path.is_file() and path.name != "README.md"]
    return sorted(str(path) for path in {*folders, *files} if path.suffix != ".dvc")


rule prepare:
    """Decode and resize a dataset's images once, and list them in a manifest."""
    input:
        raw=originals,
        code=[
            "stages/prepare.py",
            "stages/io/archives.py",
            "stages/io/download.py",
            "stages/io/listings.py",
            "stages/io/readers.py",
        ],
    output:
        images="data/{dataset}/images.npy",
        manifest="data/{dataset}/manifest.parquet",
    params:
        depends=depends("datasets.{dataset}.reader", "datasets.{dataset}.side", "datasets.{dataset}.split"),
    threads: 8
    log:
        "logs/prepare/{dataset}.log",
    benchmark:
        "logs/benchmarks/prepare/{dataset}.tsv"
    conda:
        "../envs/stages.yaml"
    shell:
        "python -m stages.prepare {wildcards.dataset} " + LOGGED


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
    log:
        "logs/validate/{dataset}.log",
    benchmark:
        "logs/benchmarks/validate/{dataset}.tsv"
    conda:
        "../envs/stages.yaml"
    shell:
        "python -m stages.validate {wildcards.dataset} " + LOGGED
