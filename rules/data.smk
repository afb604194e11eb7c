"""From raw images to plain arrays.

IN   the user's own copy, or a download; nothing at all for generated images
OUT  resources/packed/<dataset>/: per split the images and labels, and a passport
1. fetch: link to the copy that the configuration names, or download one
2. pack: uint8 arrays to be mapped, their fingerprint, the base classes' channel statistics
3. contact_sheets: some images of every class, to be looked at
"""

PASSPORT = "resources/packed/{dataset}/passport.json"
ARRAYS = [
    f"resources/packed/{{dataset}}/{split}{kind}.npy"
    for split in ("base", "validation", "novel")
    for kind in ("", "_labels")
]

CONTACT_SHEETS = expand(
    "resources/packed/{{dataset}}/contact_sheets/{split}.png",
    split=["base", "validation", "novel"],
)


localrules:
    fetch,
    contact_sheets,


rule fetch:
    """Get {wildcards.dataset}"""
    output:
        # The folder, since the user's own copy, to which a link in it leads, may be a folder too.
        directory("resources/raw/{dataset}"),
    log:
        "logs/fetch/{dataset}.log",
    conda:
        "../environment.yaml"
    params:
        own_copy=own_copy,
    shell:
        "python -m pipeline fetch --dataset {wildcards.dataset} {params.own_copy:q}"
        " --out {output:q} > {log:q} 2>&1"


rule pack:
    """Pack {wildcards.dataset}"""
    input:
        raw=raw,
        classes=class_split,
        lists=image_lists,
    output:
        passport=PASSPORT,
        arrays=ARRAYS,
    log:
        "logs/pack/{dataset}.log",
    benchmark:
        "logs/pack/{dataset}.tsv"
    conda:
        "../environment.yaml"
    threads: 2
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        settings=settings("pack"),
        code=code("pack"),
        raw=lambda wildcards, input: (
            ["--raw", f"{input.raw}/archive"] if input.raw else []
        ),
    shell:
        "python -m pipeline pack --settings {params.settings:q} --code {params.code}"
        " {params.raw:q} --out $(dirname {output.passport:q}) --workers {threads} > {log:q} 2>&1"


rule contact_sheets:
    """Show {wildcards.dataset}"""
    input:
        passport=PASSPORT,
        arrays=ARRAYS,
    output:
        sheets=CONTACT_SHEETS,
    log:
        "logs/contact_sheets/{dataset}.log",
    benchmark:
        "logs/contact_sheets/{dataset}.tsv"
    conda:
        "../environment.yaml"
    params:
        settings=settings("contact_sheets"),
        code=code("contact_sheets"),
        folder=lambda wildcards, output: os.path.dirname(output.sheets[0]),
    shell:
        "python -m pipeline contact_sheets --settings {params.settings:q} --code {params.code}"
        " --data $(dirname {input.passport:q}) --out {params.folder:q} > {log:q} 2>&1"
