# Metrics on clean test images and under each attack.


rule evaluate:
    """Embed the test images and measure benign retrieval."""
    input:
        model="models/{dataset}/{defense}/{seed}/model.safetensors",
        images="data/{dataset}/images.npy",
        manifest="data/{dataset}/manifest.parquet",
        validation="data/{dataset}/validation.json",
    output:
        benign="results/{dataset}/{defense}/{seed}/benign.json",
        queries="results/{dataset}/{defense}/{seed}/benign.parquet",
        gallery="results/{dataset}/{defense}/{seed}/gallery.npy",
    log:
        "logs/evaluate/{dataset}-{defense}-{seed}.log",
    benchmark:
        "logs/benchmarks/evaluate/{dataset}-{defense}-{seed}.tsv"
    conda:
        "../envs/model.yaml"
    threads: threads("evaluate")
    resources:
        **requested("evaluate"),
    params:
        recipe=recipe("evaluate"),
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
    output:
        result="results/{dataset}/{defense}/{seed}/{attack}.json",
        queries="results/{dataset}/{defense}/{seed}/{attack}.parquet",
        examples="results/{dataset}/{defense}/{seed}/{attack}_examples.npy",
    log:
        "logs/attack/{dataset}-{defense}-{seed}-{attack}.log",
    benchmark:
        "logs/benchmarks/attack/{dataset}-{defense}-{seed}-{attack}.tsv"
    conda:
        "../envs/model.yaml"
    threads: threads("attack")
    resources:
        **requested("attack"),
    params:
        recipe=recipe("attack"),
    shell:
        logged("python -m stages.attack {wildcards.dataset} {wildcards.defense} {wildcards.seed} {wildcards.attack}")


rule transfer:
    """Measure the perturbed images that an attack kept on each defense on all defenses."""
    input:
        images="data/{dataset}/images.npy",
        manifest="data/{dataset}/manifest.parquet",
        validation="data/{dataset}/validation.json",
        models=of_dataset("models", ["model.safetensors"]),
        results=of_dataset(
            "results", ["benign.json", "gallery.npy", "{attack}.json", "{attack}.parquet", "{attack}_examples.npy"]
        ),
    output:
        result="results/transfer/{dataset}/{attack}.json",
        queries="results/transfer/{dataset}/{attack}.parquet",
    log:
        "logs/transfer/{dataset}-{attack}.log",
    benchmark:
        "logs/benchmarks/transfer/{dataset}-{attack}.tsv"
    conda:
        "../envs/model.yaml"
    threads: threads("transfer")
    resources:
        **requested("transfer"),
    params:
        recipe=recipe("transfer"),
    shell:
        logged("python -m stages.transfer {wildcards.dataset} {wildcards.attack}")
