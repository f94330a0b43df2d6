# How a model does on clean test images, and under each attack.


rule evaluate:
    """Embed the test images and measure benign retrieval."""
    input:
        model="models/{dataset}/{defense}/{seed}/model.safetensors",
        images="data/{dataset}/images.npy",
        manifest="data/{dataset}/manifest.parquet",
        validation="data/{dataset}/validation.json",
        code=[
            "stages/evaluate.py",
            "stages/core/backbones/efficientnet.py",
            "stages/core/backbones/resnet.py",
            "stages/core/backbones/small.py",
            "stages/core/metrics.py",
            "stages/core/models.py",
            "stages/models/checkpoints.py",
            "stages/data/splits.py",
            "stages/runtime/determinism.py",
            "stages/models/inference.py",
            "stages/models/own_models.py",
            "stages/runtime/precision.py",
        ],
    output:
        benign="results/{dataset}/{defense}/{seed}/benign.json",
        queries="results/{dataset}/{defense}/{seed}/benign.parquet",
        gallery="results/{dataset}/{defense}/{seed}/gallery.npy",
    params:
        depends=depends(
            "datasets.{dataset}.crop",
            "datasets.{dataset}.precision",
            "datasets.{dataset}.training.threads",
            "datasets.{dataset}.training.device",
            "datasets.{dataset}.training.deterministic",
        ),
    threads: threads
    resources:
        **asks("evaluate"),
    log:
        "logs/evaluate/{dataset}-{defense}-{seed}.log",
    benchmark:
        "logs/benchmarks/evaluate/{dataset}-{defense}-{seed}.tsv"
    conda:
        "../envs/model.yaml"
    shell:
        logged("python -m stages.evaluate {wildcards.dataset} {wildcards.defense} {wildcards.seed}")


rule attack:
    """Attack every test image once with one attack."""
    input:
        model="models/{dataset}/{defense}/{seed}/model.safetensors",
        benign="results/{dataset}/{defense}/{seed}/benign.json",
        gallery="results/{dataset}/{defense}/{seed}/gallery.npy",
        images="data/{dataset}/images.npy",
        manifest="data/{dataset}/manifest.parquet",
        validation="data/{dataset}/validation.json",
        attack=attack_code,
        code=[
            "stages/attack.py",
            "stages/core/attacking.py",
            "stages/core/attacks/base.py",
            "stages/core/backbones/efficientnet.py",
            "stages/core/backbones/resnet.py",
            "stages/core/backbones/small.py",
            "stages/core/losses.py",
            "stages/core/models.py",
            "stages/core/neighbours.py",
            "stages/core/pgd.py",
            "stages/core/seeding.py",
            "stages/models/checkpoints.py",
            "stages/data/splits.py",
            "stages/runtime/determinism.py",
            "stages/models/embeddings.py",
            "stages/models/own_models.py",
            "stages/runtime/precision.py",
            "stages/runtime/resume.py",
        ],
    output:
        result="results/{dataset}/{defense}/{seed}/{attack}.json",
        queries="results/{dataset}/{defense}/{seed}/{attack}.parquet",
        examples="results/{dataset}/{defense}/{seed}/{attack}_examples.npy",
    params:
        depends=depends(
            "datasets.{dataset}.crop",
            "datasets.{dataset}.eps",
            "datasets.{dataset}.attack_batch",
            "datasets.{dataset}.attack_queries",
            "datasets.{dataset}.precision",
            "datasets.{dataset}.training.threads",
            "datasets.{dataset}.training.device",
            "datasets.{dataset}.training.deterministic",
            "attacks.{attack}",
        ),
    threads: threads
    resources:
        **asks("attack"),
    log:
        "logs/attack/{dataset}-{defense}-{seed}-{attack}.log",
    benchmark:
        "logs/benchmarks/attack/{dataset}-{defense}-{seed}-{attack}.tsv"
    conda:
        "../envs/model.yaml"
    shell:
        logged("python -m stages.attack {wildcards.dataset} {wildcards.defense} {wildcards.seed} {wildcards.attack}")
