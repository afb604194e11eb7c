"""Durations as people write them, and jobs as they are called."""

import re
from collections import Counter
from collections.abc import Iterable

from pipeline.errors import UserError

_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}


def seconds(text: str) -> float:
    """``8h``, ``30m``, ``1.5d`` or ``90s`` in seconds.

    Raises
    ------
    UserError
        If it is none of these.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?) *(s|m|min|h|d)", text.strip())
    if match is None or float(match[1]) == 0:
        raise UserError(f"{text!r} is no time; write it as 90s, 30m, 8h or 2d, more than zero")
    return float(match[1]) * _SECONDS[match[2]]


# What the jobs of a rule are called, where it is not the rule's name with an s.
_NOUNS = {
    "fetch": "download",
    "pack": "packing",
    "train": "training",
    "embed": "embedding",
    "evaluate": "evaluation",
    "adapt": "adaptation",
    "measure": "measurement",
    "compare": "comparison",
    "project": "projection",
    "simulate": "simulation",
}
_WHOLE = {"contact_sheets": "contact sheets", "claims": "scorecard", "page": "page"}


def noun(rule: str, n: int = 2) -> str:
    """What so many jobs of a rule are called."""
    if rule in _WHOLE:
        return _WHOLE[rule]
    return _NOUNS.get(rule, rule) + ("s" if n != 1 else "")


def counted(rules: Iterable[str]) -> str:
    """How many jobs of each rule, most first; those of few in one number."""
    most_first = sorted(Counter(rules).items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{n:,} {noun(rule, n)}" for rule, n in most_first[:4]]
    if rest := sum(n for _, n in most_first[4:]):
        shown.append(f"{rest:,} more")
    return ", ".join(shown)
