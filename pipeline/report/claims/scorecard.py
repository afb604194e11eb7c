"""The scorecard: every claim with its verdict, as Markdown and as JSON for the page."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tabulate import tabulate

from pipeline.errors import UserError
from pipeline.files import write_json, write_text
from pipeline.report.claims.statements import CLAIMS
from pipeline.report.claims.verdicts import PENDING, Finding, Judgement, judge
from pipeline.report.results import Results
from pipeline.report.table import PAPER_NAMES

Settings = Mapping[str, Any]


def write(results: Results, settings: dict[str, Any], prefix: Path) -> None:
    """Write ``<prefix>.md``, the scorecard, and ``.json``, the same for the page.

    Raises
    ------
    UserError
        If a claim is pending and the settings are strict.
    """
    judgements = judge(CLAIMS, results, settings)
    pending = [one.claim.id for one in judgements if one.verdict == PENDING]
    if settings["strict"] and pending:
        raise UserError(
            f"{len(pending)} claims are pending: {', '.join(pending)}; run what is missing, or "
            "leave out --strict"
        )
    write_text(prefix.with_suffix(".md"), markdown(judgements, settings))
    write_json(prefix.with_suffix(".json"), as_json(judgements, settings))


def notes(settings: Settings) -> list[str]:
    stand_ins = sorted(set(settings["roles"].values()) - set(PAPER_NAMES))
    found = [
        f"Scale: {settings['scale']}; {settings['seeds']} seed(s). A comparison is paired over "
        "shared episodes, pairs of classes or folds of images, and over seeds where there are "
        "several. Its effect is positive where the paper is right; p is two-sided, corrected "
        "within each table (Holm). An effect counts if p < 0.05.",
        'A claim on "all" is reproduced if every measured comparison is for it, contradicted if '
        'one is against it; a claim on "any" the other way round.',
    ]
    if stand_ins:
        found.append(
            f"{', '.join(stand_ins)}: generated images. These verdicts show that the pipeline "
            "works; they say nothing about the paper."
        )
    if settings["seeds"] == 1:
        found.append(
            "With one seed, what another training would change is in no interval: a verdict is "
            "about these models."
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
        lines = [
            {
                "Comparison": finding.name + ("" if finding.in_paper else " (not in the paper)"),
                "Effect": _effect(finding),
                "p": "" if finding.p is None else f"{finding.p:.2g}",
                "Samples": ""
                if finding.effect is None
                else f"{finding.effect.n:,} ({finding.unit})",
                "For it": {True: "yes", False: "against", None: "open"}[finding.supports]
                if finding.effect
                else PENDING,
            }
            for finding in one.findings
        ]
        parts += [
            f"## {number}. {one.claim.statement}",
            f"{one.claim.where}. Verdict: **{one.verdict}**, {one.reason}.",
            tabulate(lines, "keys", "github", disable_numparse=True),
        ]
    return "\n\n".join(parts) + "\n"


def _effect(finding: Finding) -> str:
    if finding.effect is None:
        return ""
    low, high = finding.effect.interval or (finding.effect.mean, finding.effect.mean)
    text = f"{finding.effect.mean:+.4g} [{low:.4g}, {high:.4g}]"
    return f"{text}; {finding.shown}" if finding.shown else text


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
    low, high = (effect and effect.interval) or (None, None)
    needed = finding.needed
    return {
        "name": finding.name,
        "cells": [list(cell) for cell in finding.cells],
        "effect": effect and effect.mean,
        "standard_error": effect and effect.se,
        "low_95": low,
        "high_95": high,
        "samples": effect and effect.n,
        "unit": finding.unit,
        "text": _effect(finding),
        "p": finding.p,
        "supports": finding.supports,
        # More than can be drawn is no number.
        "needed": None if needed is None or needed > 1e12 else math.ceil(needed),
        "in_paper": finding.in_paper,
    }
