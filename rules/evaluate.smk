"""From weights to numbers: what is measured of one model.

IN   results/<scale>/runs/<dataset>/<run>/seed<k>/weights.safetensors
OUT  results/<scale>/features/, evals/, measures/, adaptations/
1. embed: the features of all images that are looked at, once
2. evaluate: few-shot accuracy with every head, on episodes that all models share
3. adapt: the same with the whole network fine-tuned by gradient steps
4. measure: how tightly the features cluster by class
"""

FEATURES = f"{RESULTS}/features/{MODEL}"
FEATURE_ARRAYS = [
    f"{FEATURES}/{split}{kind}.npy"
    for split in ("novel", "base")
    for kind in ("", "_labels")
]


rule embed:
    """Embed {wildcards.dataset} with {wildcards.run}, seed {wildcards.seed}"""
    input:
        weights=rules.train.output.weights,
        passport=PASSPORT,
        arrays=ARRAYS,
    output:
        record=f"{FEATURES}/record.json",
        arrays=FEATURE_ARRAYS,
    log:
        f"logs/{SCALE}/embed/{MODEL}.log",
    benchmark:
        f"logs/{SCALE}/embed/{MODEL}.tsv"
    conda:
        "../environment.yaml"
    resources:
        gpu=1,
        mem_mb=4000,
        runtime=60,
    params:
        settings=settings("embed"),
        code=code("embed"),
    shell:
        "python -m pipeline embed --settings {params.settings:q} --code {params.code}"
        " --weights {input.weights:q} --data $(dirname {input.passport:q})"
        " --out $(dirname {output.record:q}) --threads {threads} > {log:q} 2>&1"


rule evaluate:
    """Evaluate {wildcards.run} on {wildcards.dataset}, seed {wildcards.seed}"""
    input:
        record=rules.embed.output.record,
        arrays=FEATURE_ARRAYS,
    output:
        f"{RESULTS}/evals/{MODEL}.json",
    log:
        f"logs/{SCALE}/evaluate/{MODEL}.log",
    benchmark:
        f"logs/{SCALE}/evaluate/{MODEL}.tsv"
    conda:
        "../environment.yaml"
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        settings=settings("evaluate"),
        code=code("evaluate"),
    shell:
        "python -m pipeline evaluate --settings {params.settings:q} --code {params.code}"
        " --features $(dirname {input.record:q}) --out {output:q} --threads {threads} > {log:q} 2>&1"


rule adapt:
    """Fine-tune {wildcards.run} on {wildcards.dataset}, seed {wildcards.seed}"""
    input:
        weights=rules.train.output.weights,
        passport=PASSPORT,
        arrays=ARRAYS,
    output:
        f"{RESULTS}/adaptations/{MODEL}.json",
    log:
        f"logs/{SCALE}/adapt/{MODEL}.log",
    benchmark:
        f"logs/{SCALE}/adapt/{MODEL}.tsv"
    conda:
        "../environment.yaml"
    resources:
        gpu=1,
        mem_mb=4000,
        runtime=360,
    params:
        settings=settings("adapt"),
        code=code("adapt"),
    shell:
        "python -m pipeline adapt --settings {params.settings:q} --code {params.code}"
        " --weights {input.weights:q} --data $(dirname {input.passport:q})"
        " --out {output:q} --threads {threads} > {log:q} 2>&1"


rule measure:
    """Measure clustering of {wildcards.run} on {wildcards.dataset}, seed {wildcards.seed}"""
    input:
        record=rules.embed.output.record,
        arrays=FEATURE_ARRAYS,
    output:
        f"{RESULTS}/measures/{MODEL}.json",
    log:
        f"logs/{SCALE}/measure/{MODEL}.log",
    benchmark:
        f"logs/{SCALE}/measure/{MODEL}.tsv"
    conda:
        "../environment.yaml"
    resources:
        mem_mb=8000,
        runtime=60,
    params:
        settings=settings("measure"),
        code=code("measure"),
    shell:
        "python -m pipeline measure --settings {params.settings:q} --code {params.code}"
        " --features $(dirname {input.record:q}) --out {output:q} --threads {threads} > {log:q} 2>&1"
