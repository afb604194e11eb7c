"""From raw images to plain arrays.

IN   the user's own copy, or a download; nothing at all for generated images
OUT  resources/packed/<dataset>/: per split the images and labels, and a passport
1. fetch: link to the copy that the configuration names, or download one
2. pack: uint8 arrays to be mapped, their fingerprint, the base classes' channel statistics
"""

SPLITS = ["base", "validation", "novel"]


def packed(dataset="{dataset}"):
    folder = f"resources/packed/{dataset}"
    return multiext(
        f"{folder}/",
        "passport.json",
        *(f"{split}{suffix}.npy" for split in SPLITS for suffix in ("", "_labels")),
    )


def raw(wildcards):
    """The archive or folder to pack; generated images have none."""
    if experiment.datasets[wildcards.dataset].source == "synthetic":
        return []
    return f"resources/raw/{wildcards.dataset}/archive"


def own_copy(wildcards):
    """Where the user's own copy lies, as an option of fetch.

    A data set is what it is wherever it lies, so a new place makes nothing stale: of a value
    that is no plain type Snakemake keeps no record.
    """
    path = experiment.datasets[wildcards.dataset].path
    return [] if path is None else [Path("--path"), Path(path).expanduser().absolute()]


def class_split(wildcards):
    """The table of classes that a source reads beside its images."""
    table = here(f"pipeline/data/splits/{experiment.datasets[wildcards.dataset].source}.csv")
    return table if os.path.exists(table) else []


localrules:
    fetch,


rule fetch:
    """Get {wildcards.dataset}"""
    output:
        "resources/raw/{dataset}/archive",
    params:
        own_copy=own_copy,
    log:
        "logs/fetch/{dataset}.log",
    shell:
        "python -m pipeline fetch --dataset {wildcards.dataset} {params.own_copy:q}"
        " --out $(dirname {output:q}) > {log:q} 2>&1"


rule pack:
    """Pack {wildcards.dataset}"""
    input:
        raw=raw,
        classes=class_split,
    output:
        packed(),
    params:
        settings=settings("pack"),
        code=code("pack"),
        raw=lambda wildcards, input: ["--raw", input.raw] if input.raw else [],
    log:
        "logs/pack/{dataset}.log",
    benchmark:
        "logs/pack/{dataset}.tsv"
    threads: 2
    resources:
        mem_mb=1000,
        runtime=30,
    shell:
        "python -m pipeline pack --settings {params.settings:q} --code {params.code}"
        " {params.raw:q} --out $(dirname {output[0]:q}) --workers {threads} > {log:q} 2>&1"
