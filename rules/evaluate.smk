"""From weights to numbers: what is measured of models, and what is simulated without any.

IN   results/<scale>/runs/<dataset>/<run>/seed<k>/weights.safetensors
OUT  results/<scale>/features/, evals/, adaptations/, measures/, similarities/, projections/,
     simulations/
1. embed: the features of all images that are looked at, once
2. evaluate: few-shot accuracy with every head, on episodes that all models share
3. adapt: the same with the whole network fine-tuned by gradient steps, and how far it moves
4. measure: how tightly the features cluster by class
5. compare: how similar a meta-learned model's features are to its classical twins'
6. project: some classes in the plane that separates them best
7. simulate: one-shot classification of known distributions
"""

FEATURES = f"{RESULTS}/features/{MODEL}"
FEATURE_ARRAYS = [
    f"{FEATURES}/{split}{kind}.npy"
    for split in ("novel", "base")
    for kind in ("", "_labels")
]


# Seconds of work: a submission would take longer to start.
localrules:
    simulate,


rule embed:
    """Embed {wildcards.dataset} with {wildcards.run}, seed {wildcards.seed}"""
    input:
        weights=rules.train.output.weights,
        passport=PASSPORT,
        arrays=ARRAYS,
    output:
        record=place("features"),
        arrays=FEATURE_ARRAYS,
    log:
        f"logs/{SCALE}/embed/{MODEL}.log",
    benchmark:
        f"logs/{SCALE}/embed/{MODEL}.tsv"
    conda:
        "../environment.yaml"
    resources:
        gpu=1,
        mem_mb=8000,
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
        place("evaluation"),
    log:
        f"logs/{SCALE}/evaluate/{MODEL}.log",
    benchmark:
        f"logs/{SCALE}/evaluate/{MODEL}.tsv"
    conda:
        "../environment.yaml"
    resources:
        gpu=1,
        mem_mb=8000,
        runtime=30,
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
        place("adaptation"),
    log:
        f"logs/{SCALE}/adapt/{MODEL}.log",
    benchmark:
        f"logs/{SCALE}/adapt/{MODEL}.tsv"
    conda:
        "../environment.yaml"
    resources:
        gpu=1,
        mem_mb=8000,
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
        place("measurement"),
    log:
        f"logs/{SCALE}/measure/{MODEL}.log",
    benchmark:
        f"logs/{SCALE}/measure/{MODEL}.tsv"
    conda:
        "../environment.yaml"
    resources:
        gpu=1,
        # 38,400 images of 51,200 features are 8 GB.
        mem_mb=16000,
        runtime=30,
    params:
        settings=settings("measure"),
        code=code("measure"),
    shell:
        "python -m pipeline measure --settings {params.settings:q} --code {params.code}"
        " --features $(dirname {input.record:q}) --out {output:q} --threads {threads} > {log:q} 2>&1"


rule compare:
    """Compare {wildcards.run} on {wildcards.dataset} with its classical twins"""
    input:
        compared,
    output:
        place("similarity"),
    log:
        f"logs/{SCALE}/compare/{{dataset}}/{{run}}.log",
    benchmark:
        f"logs/{SCALE}/compare/{{dataset}}/{{run}}.tsv"
    conda:
        "../environment.yaml"
    resources:
        gpu=1,
        mem_mb=16000,
        runtime=240,
    params:
        settings=settings("compare"),
        code=code("compare"),
    shell:
        "python -m pipeline compare --settings {params.settings:q} --code {params.code}"
        " --features $(dirname {input:q}) --out {output:q} --threads {threads} > {log:q} 2>&1"


rule project:
    """Project {wildcards.run} on {wildcards.dataset}, seed {wildcards.seed}"""
    input:
        record=rules.embed.output.record,
        arrays=FEATURE_ARRAYS,
    output:
        place("projection"),
    log:
        f"logs/{SCALE}/project/{MODEL}.log",
    benchmark:
        f"logs/{SCALE}/project/{MODEL}.tsv"
    conda:
        "../environment.yaml"
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        settings=settings("project"),
        code=code("project"),
    shell:
        "python -m pipeline project --settings {params.settings:q} --code {params.code}"
        " --features $(dirname {input.record:q}) --out {output:q} > {log:q} 2>&1"


rule simulate:
    """Simulate {wildcards.simulation}"""
    output:
        place("simulation"),
    log:
        f"logs/{SCALE}/simulate/{{simulation}}.log",
    benchmark:
        f"logs/{SCALE}/simulate/{{simulation}}.tsv"
    conda:
        "../environment.yaml"
    params:
        settings=settings("simulate"),
        code=code("simulate"),
    shell:
        "python -m pipeline simulate --settings {params.settings:q} --code {params.code}"
        " --out {output:q} > {log:q} 2>&1"
