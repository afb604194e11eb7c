"""The report for LaTeX: every table and figure of a scale, in the order of the page."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from pipeline.report import parts
from pipeline.report.contents import Part
from pipeline.report.tex import escaped, fitted

_BEFORE = r"""% Made by the pipeline. Compile it where it lies, twice: pdflatex paper.tex
\documentclass[10pt]{article}
\usepackage[utf8]{inputenc}
\usepackage[a4paper,margin=25mm]{geometry}
\usepackage{booktabs,graphicx,longtable}
% Captions name their tables themselves, and hold all notes of them.
\usepackage[font=footnotesize,labelformat=empty]{caption}
% Floats may fill their pages.
\renewcommand{\topfraction}{0.95}
\renewcommand{\bottomfraction}{0.95}
\renewcommand{\textfraction}{0.05}
\renewcommand{\floatpagefraction}{0.7}
\setcounter{topnumber}{4}
\setcounter{totalnumber}{6}
"""


def document(scale: str, chapters: Mapping[str, list[Part]], results: Path) -> str:
    """A document to be compiled in ``results``, which has the parts that are there by now.

    Raises
    ------
    UserError
        If what a figure says of itself is not whole.
    """
    title = f"Unraveling Meta-Learning, reproduced: scale {scale}"
    lines = [
        _BEFORE,
        rf"\title{{{escaped(title)}}}",
        r"\date{}",
        r"\begin{document}",
        r"\maketitle",
    ]
    for number, (chapter, of_chapter) in enumerate(chapters.items()):
        # Whose tables and figures have all been set before the next one starts.
        lines += [r"\clearpage"] if number else []
        lines += [rf"\section*{{{escaped(chapter)}}}", ""]
        for part in of_chapter:
            lines += [*_lines(part, results), ""]
    return "\n".join([*lines, r"\end{document}", ""])


def _lines(part: Part, results: Path) -> Iterator[str]:
    place = f"{part.folder}/{part.id}"
    suffix = ".tex" if part.folder == "tables" else ".pdf"
    if not (results / f"{place}{suffix}").exists():
        yield rf"\noindent\texttt{{{escaped(place)}}}: pending."
    elif part.folder == "tables":
        yield rf"\input{{{place}.tex}}"
    else:
        content = parts.load(results / f"{place}.json") or {"heading": part.id}
        words = [f"{content['heading']}.", content.get("caption", ""), *content.get("notes", [])]
        yield from (
            r"\begin{figure}[htbp]",
            r"\centering",
            fitted(rf"\includegraphics{{{place}.pdf}}"),
            rf"\caption{{{escaped(' '.join(filter(None, words)))}}}",
            r"\end{figure}",
        )
