"""From records to tables, figures, claims and the page; no model is touched.

IN   the records of results/<scale>/, and the paper's numbers in published.csv
OUT  results/<scale>/tables/<id>.md, .tex, .csv; figures/<id>.png, .pdf, .svg, .csv
     results/<scale>/claims.md; report.html, with all of it; paper.tex
Beside each lies a .json, from which the page is made.
"""

PUBLISHED = here("pipeline/report/published.csv")
TABLE = f"{RESULTS}/tables/{{table}}"
FIGURE = f"{RESULTS}/figures/{{figure}}"


localrules:
    table,
    figure,
    claims,
    page,


rule table:
    """Render {wildcards.table}"""
    input:
        lambda wildcards: reads(shown.TABLES[wildcards.table]),
        PUBLISHED,
    output:
        multiext(TABLE, ".md", ".tex", ".json"),
        report(
            f"{TABLE}.csv",
            caption="captions/table.rst",
            category="Tables",
            labels={"table": "{table}"},
        ),
    log:
        f"logs/{SCALE}/table/{{table}}.log",
    benchmark:
        f"logs/{SCALE}/table/{{table}}.tsv"
    conda:
        "../environment.yaml"
    params:
        settings=settings("table"),
        code=code("table"),
        prefix=TABLE,
    shell:
        "python -m pipeline table --settings {params.settings:q} --code {params.code}"
        f" --results {RESULTS}"
        " --out {params.prefix:q} > {log:q} 2>&1"


rule figure:
    """Draw {wildcards.figure}"""
    input:
        lambda wildcards: reads(shown.FIGURES[wildcards.figure][1]),
    output:
        multiext(FIGURE, ".pdf", ".svg", ".csv", ".json"),
        report(
            f"{FIGURE}.png",
            caption="captions/figure.rst",
            category="Figures",
            labels={"figure": "{figure}"},
        ),
    log:
        f"logs/{SCALE}/figure/{{figure}}.log",
    benchmark:
        f"logs/{SCALE}/figure/{{figure}}.tsv"
    conda:
        "../environment.yaml"
    params:
        settings=settings("figure"),
        code=code("figure"),
        prefix=FIGURE,
    shell:
        "python -m pipeline figure --settings {params.settings:q} --code {params.code}"
        f" --results {RESULTS}"
        " --out {params.prefix:q} > {log:q} 2>&1"


rule claims:
    """Judge the paper's claims"""
    input:
        reads(shown.CLAIMS),
    output:
        f"{RESULTS}/claims.json",
        report(
            f"{RESULTS}/claims.md",
            caption="captions/claims.rst",
            category="Claims",
        ),
    log:
        f"logs/{SCALE}/claims.log",
    benchmark:
        f"logs/{SCALE}/claims.tsv"
    conda:
        "../environment.yaml"
    params:
        settings=settings("claims"),
        code=code("claims"),
    shell:
        "python -m pipeline claims --settings {params.settings:q} --code {params.code}"
        f" --results {RESULTS} --out {RESULTS}/claims"
        " > {log:q} 2>&1"


rule page:
    """Put all of it on one page"""
    input:
        records=reads(shown.CLAIMS),
        tables=expand(f"{TABLE}.json", table=shown.TABLES),
        figures=expand(f"{FIGURE}.{{form}}", figure=shown.FIGURES, form=["json", "svg"]),
        claims=rules.claims.output,
        passports=expand(PASSPORT, dataset=sorted(experiment.roles.values())),
        sheets=expand(CONTACT_SHEETS, dataset=sorted(experiment.roles.values())),
        ledger=here("pipeline/report/ledger.csv"),
        template=here("pipeline/report/page.html"),
    output:
        page=report(
            f"{RESULTS}/report.html", caption="captions/page.rst", category="The page"
        ),
        paper=f"{RESULTS}/paper.tex",
    log:
        f"logs/{SCALE}/page.log",
    benchmark:
        f"logs/{SCALE}/page.tsv"
    conda:
        "../environment.yaml"
    params:
        settings=settings("page"),
        code=code("page"),
    shell:
        "python -m pipeline page --settings {params.settings:q} --code {params.code}"
        f" --results {RESULTS}"
        " --data resources/packed > {log:q} 2>&1"
