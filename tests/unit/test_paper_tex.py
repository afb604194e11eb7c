"""The report for LaTeX has every table and figure in order, and is set without running off a page."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from small_report import FIGURE, RUNS, TABLES, settings_of, write_report

from pipeline.files import write_json, write_text
from pipeline.report import contents, paper, render, tex
from pipeline.report.contents import Part
from pipeline.report.results import Measured
from pipeline.report.table import Cell, Section, Table


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small report, with one figure's drawing."""
    folder = tmp_path_factory.mktemp("paper") / "demo"
    write_report(folder, TABLES, RUNS)
    write_drawing(folder / "figures/figure1a.pdf", width=3)
    return folder


def write_drawing(path: Path, width: float) -> None:
    drawing = Figure(figsize=(width, 2))
    drawing.subplots().plot([0, 1])
    drawing.savefig(path)


def document(results: Path, **changes: Any) -> str:
    settings = settings_of("page") | changes
    return paper.document("demo", contents.chapters(settings), results)


# Text


@pytest.mark.parametrize(
    ("text", "as_set"),
    [
        ("50 % of a_b & #1", r"50 \% of a\_b \& \#1"),
        (
            "a\\b {c} $d$ ~ ^",
            r"a\textbackslash{}b \{c\} \$d\$ \textasciitilde{} \textasciicircum{}",
        ),
        ("p < 0.05 ± 1 | [2, 3]", r"p $<$ 0.05 $\pm$ 1 $|$ {[}2, 3]"),
    ],
)
def test_no_character_of_a_text_is_a_command(text: str, as_set: str) -> None:
    assert tex.escaped(text) == as_set


# The document


def test_parts_come_in_the_order_of_the_page(results: Path) -> None:
    found = re.findall(
        r"\\(?:input|includegraphics){(.+?)\.(?:tex|pdf)}|\\texttt{(.+?)}", document(results)
    )
    names = [made or pending.replace("\\", "") for made, pending in found]
    chapters = contents.chapters(settings_of("page")).values()
    assert names == [f"{part.folder}/{part.id}" for chapter in chapters for part in chapter]


def test_what_is_not_there_is_pending_and_not_asked_for(results: Path) -> None:
    text = document(results)
    assert r"\texttt{tables/table6}: pending." in text
    assert r"\texttt{figures/training\_curves}: pending." in text
    assert text.count(r"\input{") == len(TABLES)
    assert text.count(r"\includegraphics{") == 1


def test_a_figure_says_what_it_is(results: Path) -> None:
    assert (
        r"\caption{Figure 1a: Boundaries of $<$wide$>$ \& near classes. What one sees: 5 \% of it. "
        r"A note of the figure.}" in document(results)
    )


def test_a_drawing_without_words_is_named(tmp_path: Path) -> None:
    write_text(tmp_path / "figures/mine_1.pdf", "")
    text = paper.document("a_scale", {"One": [Part("figures", "mine_1")]}, tmp_path)
    assert r"\caption{mine\_1.}" in text
    assert r"scale a\_scale}" in text


def test_chapters_are_set_before_the_next_begins(results: Path) -> None:
    before, after = document(results).split("\\clearpage\n")
    assert r"\section*{The paper's tables and figures}" in before
    assert after.startswith(r"\section*{Further tables and figures}")


# Tables


def table_of(n_rows: int, n_columns: int, notes: list[str]) -> Table:
    random = np.random.default_rng(0)
    cells = [
        Cell(f"row {row}", "", f"column {column}", Measured({0: random.normal(size=9)}))
        for row in range(n_rows)
        for column in range(n_columns)
    ]
    return Table("mine", None, "Mine", "demo", 2, [Section("cifar_fs", "cifar_fs", cells)], notes)


def latex_of(n_rows: int, n_columns: int, notes: list[str]) -> str:
    return render.latex(render.Layout(table_of(n_rows, n_columns, notes), []))


def test_a_short_table_is_a_float_that_fits_its_page() -> None:
    text = latex_of(3, 2, [])
    assert text.startswith("\\begin{table}[htbp]\n\\centering\\footnotesize\n\\resizebox{")
    assert re.search(r"\\bottomrule\n\\end{tabular}}\n\\caption{Mine\. .*}\n\\end{table}\n$", text)


def test_a_long_table_goes_on_over_pages_and_has_one_caption() -> None:
    # A row has two lines: its numbers, and their intervals.
    assert "longtable" not in latex_of(render.LONG // 2, 2, [])
    text = latex_of(render.LONG // 2 + 1, 2, [r"All 5 \ of it."])
    assert text.count(r"\begin{longtable}") == text.count(r"\end{longtable}") == 1
    assert text.count(r"\caption{") == 1
    assert re.search(r"\\begin{longtable}{lll}\n\\caption{Mine\. .*All 5 .*} \\\\\n\\toprule", text)
    assert "tabular" not in text


def compiled(folder: Path) -> str:
    """What pdflatex says when it sets paper.tex for the second time."""
    if shutil.which("pdflatex") is None:
        pytest.skip("no pdflatex is on the PATH")
    for _ in range(2):
        done = subprocess.run(
            ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"],
            cwd=folder,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


def test_the_document_compiles_and_nothing_runs_off_a_page(results: Path, tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    shutil.copytree(results, folder)
    # What is longer and wider than a page, and has characters that LaTeX would act on.
    notes = ["50 % of a_b & #1 {c} $d$ ~ ^ \\e < 1 ± 2 \u00d7 3 \u2212 4 → [5] … | “q” \u2013 é."]
    write_text(folder / "tables/table4.tex", latex_of(70, 3, notes))
    write_text(folder / "tables/table5.tex", latex_of(4, 14, notes))
    write_drawing(folder / "figures/figure1b.pdf", width=12)
    write_json(folder / "figures/figure1b.json", FIGURE | {"caption": notes[0]})
    write_text(folder / "paper.tex", document(folder))
    said = compiled(folder)
    assert "Overfull" not in said
    assert "Float too large" not in said
    assert (folder / "paper.pdf").stat().st_size > 10_000
