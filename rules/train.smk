"""From images to weights.

IN   resources/packed/<dataset>/
OUT  results/<scale>/runs/<dataset>/<run>/seed<k>/: weights, and the record with the training's log
Unfinished training lives in results/<scale>/state/, which no rule declares: Snakemake would
delete it when a job fails.
"""


rule train:
    """Train {wildcards.run} on {wildcards.dataset}, seed {wildcards.seed}"""
    input:
        passport=PASSPORT,
        arrays=ARRAYS,
    output:
        weights=f"{RESULTS}/runs/{MODEL}/weights.safetensors",
        record=place("training"),
    log:
        f"logs/{SCALE}/train/{MODEL}.log",
    benchmark:
        f"logs/{SCALE}/train/{MODEL}.tsv"
    conda:
        "../environment.yaml"
    resources:
        gpu=1,
        mem_mb=8000,
        runtime=1440,
    params:
        settings=settings("train"),
        code=code("train"),
        state=f"{RESULTS}/state/{MODEL}",
    shell:
        "exec python -m pipeline train --settings {params.settings:q} --code {params.code}"
        " --data $(dirname {input.passport:q}) --out $(dirname {output.weights:q})"
        " --state {params.state:q} --threads {threads} > {log:q} 2>&1"
