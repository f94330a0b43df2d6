# One model per dataset, defense and seed.


rule train:
    """Train one model."""
    input:
        images="data/{dataset}/images.npy",
        manifest="data/{dataset}/manifest.parquet",
        validation="data/{dataset}/validation.json",
    output:
        model="models/{dataset}/{defense}/{seed}/model.safetensors",
        history="models/{dataset}/{defense}/{seed}/history.csv",
    log:
        "logs/train/{dataset}-{defense}-{seed}.log",
    benchmark:
        "logs/benchmarks/train/{dataset}-{defense}-{seed}.tsv"
    conda:
        "../envs/model.yaml"
    threads: threads("train")
    resources:
        **requested("train"),
    params:
        recipe=recipe("train"),
    shell:
        logged("python -m stages.train {wildcards.dataset} {wildcards.defense} {wildcards.seed}")
