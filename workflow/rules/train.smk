# One model per dataset, defense and seed.


rule train:
    """Train one model."""
    input:
        images="data/{dataset}/images.npy",
        manifest="data/{dataset}/manifest.parquet",
        validation="data/{dataset}/validation.json",
        defense=defense_code,
        code=[
            "stages/train.py",
            "stages/core/backbones/efficientnet.py",
            "stages/core/backbones/resnet.py",
            "stages/core/backbones/small.py",
            "stages/core/defenses/base.py",
            "stages/core/losses.py",
            "stages/core/metrics.py",
            "stages/core/mining.py",
            "stages/core/models.py",
            "stages/core/parallel.py",
            "stages/core/pgd.py",
            "stages/core/seeding.py",
            "stages/core/training.py",
            "stages/data/batches.py",
            "stages/models/checkpoints.py",
            "stages/data/splits.py",
            "stages/runtime/determinism.py",
            "stages/models/inference.py",
            "stages/models/own_models.py",
            "stages/runtime/precision.py",
            "stages/runtime/processes.py",
            "stages/runtime/resume.py",
            "stages/models/weights.py",
        ],
    output:
        model="models/{dataset}/{defense}/{seed}/model.safetensors",
        history="models/{dataset}/{defense}/{seed}/history.csv",
    params:
        depends=depends(
            "datasets.{dataset}.crop",
            "datasets.{dataset}.flip",
            "datasets.{dataset}.eps",
            "datasets.{dataset}.training",
            "defenses.{defense}",
        ),
    threads: threads
    resources:
        **asks("train"),
    log:
        "logs/train/{dataset}-{defense}-{seed}.log",
    benchmark:
        "logs/benchmarks/train/{dataset}-{defense}-{seed}.tsv"
    conda:
        "../envs/model.yaml"
    shell:
        logged("python -m stages.train {wildcards.dataset} {wildcards.defense} {wildcards.seed}")
