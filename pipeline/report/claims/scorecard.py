"""The scorecard: every claim with its verdict, as Markdown and as JSON."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tabulate import tabulate

from pipeline.files import write_json, write_text
from pipeline.report.claims.statements import CLAIMS
from pipeline.report.claims.verdicts import LEVEL, Finding, Judgement, judge
from pipeline.report.results import Results, interval
from pipeline.report.table import stand_ins
from pipeline.words import plural

Settings = Mapping[str, Any]


def write(results: Results, settings: dict[str, Any], prefix: Path) -> None:
    """Write ``<prefix>.md``, the scorecard to be read, and ``.json`` for the page and programs.

    The JSON file has what is printed and, in full precision, the numbers that verdicts rest on.
    """
    judgements = judge(CLAIMS, results, settings)
    write_text(prefix.with_suffix(".md"), markdown(judgements, settings))
    write_json(prefix.with_suffix(".json"), as_json(judgements, settings))


def notes(settings: Settings) -> list[str]:
    generated, seeds = stand_ins(settings), settings["seeds"]
    found = [
        f"Scale: {settings['scale']}; {plural(seeds, 'seed')}.",
        "A comparison is a t test: paired over seeds where there are several; else over the "
        "episodes, pairs of classes, choices of classes or folds of images that both sides share; "
        "else unpaired (Welch). Its effect is positive where the paper is right, and has its 95 % "
        "confidence interval unless all samples are equal. p is two-sided and corrected for all "
        f"tests of the same table or figure (Holm); an effect is significant if p < {LEVEL}.",
        "A claim about all cases is reproduced if every comparison that was measured is "
        "significantly in its favour, and contradicted if one is significantly against it. A claim "
        'that something happens ("sometimes", "as much as") is reproduced if one comparison is in '
        "its favour, and contradicted if every one is against it. Anything else is undecided. What "
        "would decide is counted for the effect as it was measured, at a power of 80 %. "
        'Comparisons marked "not in the paper" are shown, and count only where none of the '
        "paper's was measured.",
    ]
    if generated:
        found.append(
            f"{', '.join(generated)}: generated images. Verdicts on them show that the pipeline "
            "works; they say nothing about the paper."
        )
    if seeds == 1:
        found.append(
            "With one seed, no interval covers what another training would change: a verdict is "
            "about these trained models alone."
        )
    return found


def markdown(judgements: list[Judgement], settings: Settings) -> str:
    scorecard = [
        {
            "#": number,
            "Claim": one.claim.statement,
            "Where": one.claim.where,
            "Verdict": f"**{one.verdict}**",
            "Because": one.reason,
        }
        for number, one in enumerate(judgements, 1)
    ]
    parts = [
        "# Claims of the paper",
        "\n".join(f"- {note}" for note in notes(settings)),
        tabulate(scorecard, "keys", "github", disable_numparse=True),
    ]
    for number, one in enumerate(judgements, 1):
        columns = ["Comparison", "Effect, 95 % interval", "p", "Samples", "Outcome"]
        lines = [_printed(finding).values() for finding in one.findings]
        parts += [
            f"## {number}. {one.claim.statement}",
            f"{one.claim.where}. Verdict: **{one.verdict}** ({one.reason}).",
            tabulate(lines, columns, "github", disable_numparse=True),
        ]
    return "\n\n".join(parts) + "\n"


def _printed(finding: Finding) -> dict[str, str]:
    """A comparison as it is read, here and on the page."""
    n = 0 if finding.effect is None else finding.effect.n
    return {
        "name": finding.name + ("" if finding.in_paper else " (not in the paper)"),
        "effect": _effect(finding),
        "p": "" if finding.p is None else _p(finding.p),
        "samples": plural(n, finding.unit) if n else "",
        "outcome": finding.outcome,
    }


def _effect(finding: Finding) -> str:
    if finding.effect is None:
        return ""
    ends = interval(finding.effect)
    text = f"{finding.effect.mean:+.4g}" + (f" [{ends[0]:.4g}, {ends[1]:.4g}]" if ends else "")
    return f"{text}; {finding.shown}" if finding.shown else text


def _p(p: float) -> str:
    # How much smaller it is tells nothing more.
    return f"{p:.2g}" if p >= 1e-16 else "< 1e-16"


def as_json(judgements: list[Judgement], settings: Settings) -> dict[str, Any]:
    return {
        "scale": settings["scale"],
        "notes": notes(settings),
        "claims": [
            {
                "id": one.claim.id,
                "statement": one.claim.statement,
                "where": one.claim.where,
                "family": one.claim.family,
                "quantifier": one.claim.quantifier,
                "verdict": one.verdict,
                "reason": one.reason,
                "findings": [_finding(finding) for finding in one.findings],
            }
            for one in judgements
        ],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    effect = finding.effect
    low, high = (effect and interval(effect)) or (None, None)
    needed = finding.needed
    return {
        "printed": _printed(finding),
        "cells": [list(cell) for cell in finding.cells],
        "in_paper": finding.in_paper,
        "effect": effect and effect.mean,
        "standard_error": effect and effect.se,
        "low_95": low,
        "high_95": high,
        "samples": effect and effect.n,
        "p": finding.p,
        # More than can be drawn is no number.
        "needed": None if needed is None or needed > 1e12 else math.ceil(needed),
    }
