"""From weights to numbers: what is measured of one model.

IN   results/<scale>/runs/<dataset>/<run>/seed<k>/weights.safetensors
OUT  results/<scale>/features/, evals/, measures/
1. embed: the features of all images that are looked at, once
2. evaluate: few-shot accuracy with every head, on episodes that all models share
3. measure: how tightly the features cluster by class
"""


def features(name="{split}"):
    return f"{RESULTS}/features/{MODEL}/{name}"


FEATURES = [
    features(name)
    for name in ("record.json", "novel.npy", "novel_labels.npy", "base.npy", "base_labels.npy")
]


rule embed:
    """Embed {wildcards.dataset} with {wildcards.run}, seed {wildcards.seed}"""
    input:
        weights=rules.train.output.weights,
        data=packed(),
    output:
        FEATURES,
    params:
        settings=settings("embed"),
        code=code("embed"),
    log:
        f"logs/{SCALE}/embed/{MODEL}.log",
    benchmark:
        f"logs/{SCALE}/embed/{MODEL}.tsv"
    resources:
        gpu=1,
        mem_mb=4000,
        runtime=60,
    shell:
        "python -m pipeline embed --settings {params.settings:q} --code {params.code}"
        " --weights {input.weights:q} --data $(dirname {input.data[0]:q})"
        " --out $(dirname {output[0]:q}) --threads {threads} > {log:q} 2>&1"


rule evaluate:
    """Evaluate {wildcards.run} on {wildcards.dataset}, seed {wildcards.seed}"""
    input:
        FEATURES,
    output:
        f"{RESULTS}/evals/{MODEL}.json",
    params:
        settings=settings("evaluate"),
        code=code("evaluate"),
    log:
        f"logs/{SCALE}/evaluate/{MODEL}.log",
    benchmark:
        f"logs/{SCALE}/evaluate/{MODEL}.tsv"
    resources:
        mem_mb=4000,
        runtime=60,
    shell:
        "python -m pipeline evaluate --settings {params.settings:q} --code {params.code}"
        " --features $(dirname {input[0]:q}) --out {output:q} --threads {threads} > {log:q} 2>&1"


rule measure:
    """Measure clustering of {wildcards.run} on {wildcards.dataset}, seed {wildcards.seed}"""
    input:
        FEATURES,
    output:
        f"{RESULTS}/measures/{MODEL}.json",
    params:
        settings=settings("measure"),
        code=code("measure"),
    log:
        f"logs/{SCALE}/measure/{MODEL}.log",
    benchmark:
        f"logs/{SCALE}/measure/{MODEL}.tsv"
    resources:
        mem_mb=4000,
        runtime=60,
    shell:
        "python -m pipeline measure --settings {params.settings:q} --code {params.code}"
        " --features $(dirname {input[0]:q}) --out {output:q} --threads {threads} > {log:q} 2>&1"
