"""How a claim of the paper is judged: its comparisons, their tests, and the verdict."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from pipeline.analysis.statistics import Estimate, estimate, holm, p_value, samples_needed
from pipeline.report.results import Measured, Results, estimated, less
from pipeline.words import plural

LEVEL = 0.05
# Of more samples than this it is only said that they are more.
_MANY = 10_000_000
Verdict = Literal["reproduced", "contradicted", "undecided", "pending"]
PENDING: Verdict = "pending"
# What one comparison says of its claim.
OUTCOMES = {True: "supporting", False: "contradicting", None: "not significant"}


@dataclass(frozen=True)
class Finding:
    """One comparison: how far what was measured goes the way that the paper says."""

    name: str
    # The cells compared, as (table, address).
    cells: tuple[tuple[str, str], ...]
    # Positive where the paper is right; None while a side is pending.
    effect: Estimate | None
    unit: str
    # What was measured, in words, where a difference says too little.
    shown: str = ""
    # Whether it is about data on which the paper makes the claim.
    in_paper: bool = True
    # Holm's, within the family of so many tests.
    p: float | None = None
    n_tests: int = 1

    @property
    def supports(self) -> bool | None:
        """True or False where the effect is significant, None where it is not."""
        if self.effect is None or self.p is None or self.p >= LEVEL:
            return None
        return self.effect.mean > 0

    @property
    def outcome(self) -> str:
        return PENDING if self.effect is None else OUTCOMES[self.supports]

    @property
    def needed(self) -> float | None:
        """How many more samples would decide, if the effect is as large as it seems."""
        if self.effect is None or self.supports is not None:
            return None
        return max(0.0, samples_needed(self.effect, LEVEL / self.n_tests) - self.effect.n)


@dataclass(frozen=True)
class Claim:
    """A falsifiable statement of the paper.

    ``findings(results, settings)`` are the comparisons that it rests on. It holds if all of them
    do or, if it says "sometimes" or "as much as", any.
    """

    id: str
    # As the paper says it, or in our words where the paper takes several sentences.
    statement: str
    # Where in the paper; claims on one table are one family of tests.
    where: str
    family: str
    quantifier: Literal["all", "any"]
    findings: Callable[[Results, dict[str, Any]], Iterator[Finding]]
    # What the budgets of other scales cannot decide.
    needs_scale: str | None = None


@dataclass(frozen=True)
class Judgement:
    claim: Claim
    verdict: Verdict
    reason: str
    findings: list[Finding]


def judge(claims: list[Claim], results: Results, settings: dict[str, Any]) -> list[Judgement]:
    """A verdict on each claim; p values are corrected within each family (Holm)."""
    found = {claim.id: list(claim.findings(results, settings)) for claim in claims}
    for family in dict.fromkeys(claim.family for claim in claims):
        tested = [
            (claim.id, index, p)
            for claim in claims
            if claim.family == family
            for index, finding in enumerate(found[claim.id])
            if finding.effect is not None and (p := p_value(finding.effect)) is not None
        ]
        adjusted = holm([p for _, _, p in tested])
        for (claim_id, index, _), p in zip(tested, adjusted, strict=True):
            found[claim_id][index] = replace(found[claim_id][index], p=p, n_tests=len(tested))
    return [_verdict(claim, found[claim.id], settings["scale"]) for claim in claims]


def _verdict(claim: Claim, findings: list[Finding], scale: str) -> Judgement:
    relevant = [one for one in findings if one.in_paper and one.effect]
    place = ""
    if not relevant:
        relevant = [one for one in findings if one.effect]
        place = ", on data that the paper did not use for it" if relevant else ""
    total = sum(one.in_paper for one in findings)
    if not relevant:
        return Judgement(claim, PENDING, f"{plural(total, 'comparison')}, not measured", findings)
    outcomes = [one.supports for one in relevant]
    counted = f"{plural(len(relevant), 'comparison')}{place}: " + ", ".join(
        f"{outcomes.count(outcome)} {said}"
        for outcome, said in OUTCOMES.items()
        if outcome in outcomes
    )
    if not place and len(relevant) < total:
        counted += f"; {total - len(relevant)} more not measured"
    if claim.needs_scale not in (None, scale):
        reason = f"only the budgets of scale {claim.needs_scale} can decide; {counted}"
        return Judgement(claim, "undecided", reason, findings)
    decisive = all if claim.quantifier == "all" else any
    if decisive(outcome is True for outcome in outcomes):
        verdict: Verdict = "reproduced"
    elif (any if claim.quantifier == "all" else all)(outcome is False for outcome in outcomes):
        verdict = "contradicted"
    else:
        verdict = "undecided"
        more = [(one.needed, one.unit) for one in relevant if one.needed is not None]
        most, unit = max(more) if claim.quantifier == "all" else min(more)
        counted += "; " + (
            _none_measured(relevant)
            if math.isinf(most)
            else f"{_more(most, unit)} would decide {'all' if claim.quantifier == 'all' else 'one'}"
        )
    return Judgement(claim, verdict, counted, findings)


def _none_measured(findings: list[Finding]) -> str:
    """Of effects of 0, and of those without a spread, nothing tells how many would decide."""
    some = [one for one in findings if one.needed == math.inf]
    spread = "" if all(one.effect and one.effect.mean == 0 for one in some) else " with a spread"
    place = f" in {len(some)} of them" if len(some) < len(findings) else ""
    return f"no difference{spread} was measured{place}"


def _more(needed: float, unit: str) -> str:
    if needed > _MANY:
        return f"over {plural(_MANY, f'more {unit}')}"
    return f"some {plural(math.ceil(needed), f'more {unit}')}"


# Effects


def difference(ours: Measured, theirs: Measured) -> tuple[Estimate | None, str]:
    """Ours minus theirs: over seeds where there are several, else over samples.

    Samples are paired if both sides share them. Returns the effect and what one sample of it is.
    """
    seeds = [seed for seed in ours.samples if seed in theirs.samples]
    if not seeds:
        return None, ours.unit
    if len(seeds) > 1:
        mine, others = ours.of_seeds(), theirs.of_seeds()
        return estimated([less(mine[seed], others[seed]) for seed in seeds]), "seed"
    if ours.basis != theirs.basis:
        return unpaired(theirs, ours), ours.unit
    shared = ours.minus(theirs).estimate()
    return (shared if shared.se is not None else None), ours.unit


def shifted(effect: Estimate | None, by: float) -> Estimate | None:
    """The effect plus a margin that the claim allows."""
    return None if effect is None else replace(effect, mean=float(less(effect.mean, -by)))


def turned(effect: Estimate | None) -> Estimate | None:
    """The effect with the other sign, where lower is better."""
    # Of 0 the sign stays as it is.
    return None if effect is None else replace(effect, mean=0.0 - effect.mean)


def unpaired(ours: Measured, theirs: Measured, factor: float = 1.0) -> Estimate | None:
    """``factor`` times theirs minus ours, of samples that do not belong together (Welch)."""
    if not ours or not theirs:
        return None
    a = np.concatenate(list(ours.samples.values()))
    b = factor * np.concatenate(list(theirs.samples.values()))
    if min(len(a), len(b)) < 2:
        return None
    first, second = estimate(a), estimate(b)
    se = math.hypot(first.se or 0.0, second.se or 0.0)
    return Estimate(float(less(second.mean, first.mean)), se, min(first.n, second.n))
