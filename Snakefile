"""Unraveling Meta-Learning, from raw images to every table.

    snakemake --cores all                            scale demo: generated images, minutes
    snakemake --cores all --config scale=small       real CIFAR-FS, hours of CPU
    snakemake --cores all --config scale=paper       the paper's budgets, GPU hours

What depends on what stands in rules/; what computes stands in pipeline/.
"""

from snakemake.utils import min_version

min_version("9.20")


include: "rules/common.smk"
include: "rules/data.smk"
include: "rules/train.smk"
include: "rules/evaluate.smk"
include: "rules/report.smk"


localrules:
    all,


rule all:
    """All tables, figures and claims of this scale, and the page that shows them"""
    default_target: True
    input:
        rules.page.output,
