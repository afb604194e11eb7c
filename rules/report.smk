"""From records to tables; no model is touched.

IN   the records under results/<scale>/evals/, adaptations/ and measures/, published.csv
OUT  results/<scale>/tables/<id>.md, .tex, .csv
"""


localrules:
    table,


rule table:
    """Render {wildcards.table}"""
    input:
        records=table_records,
        published=here("pipeline/report/published.csv"),
    output:
        multiext(f"{RESULTS}/tables/{{table}}", ".md", ".tex", ".csv"),
    log:
        f"logs/{SCALE}/table/{{table}}.log",
    benchmark:
        f"logs/{SCALE}/table/{{table}}.tsv"
    conda:
        "../environment.yaml"
    params:
        settings=settings("table"),
        code=code("table"),
        prefix=f"{RESULTS}/tables/{{table}}",
    shell:
        "python -m pipeline table --settings {params.settings:q} --code {params.code}"
        " --records {input.records:q} --out {params.prefix:q} > {log:q} 2>&1"
