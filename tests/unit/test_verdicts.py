"""How comparisons become a verdict: tests, families, and what more would decide."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from pipeline.analysis.statistics import Estimate, estimate
from pipeline.report.claims.verdicts import (
    Claim,
    Finding,
    Judgement,
    difference,
    judge,
    shifted,
    turned,
    unpaired,
)
from pipeline.report.results import Measured, Samples


def finding(mean: float | None, se: float = 1.0, n: int = 20, **others: Any) -> Finding:
    effect = None if mean is None else Estimate(mean, se, n)
    return Finding(f"{mean}", (), effect, "episode", **others)


def claim(*findings: Finding, **changes: Any) -> Claim:
    own = Claim("own", "We are right.", "Nowhere", "own", "all", lambda *_: iter(findings))
    return replace(own, **changes)


def judged_alone(*findings: Finding, scale: str = "demo", **changes: Any) -> Judgement:
    (judgement,) = judge([claim(*findings, **changes)], None, {"scale": scale})  # type: ignore[arg-type]
    return judgement


YES, NO, OPEN, LACKING = finding(9.0), finding(-9.0), finding(0.1), finding(None)


@pytest.mark.parametrize(
    ("findings", "of_all", "of_any"),
    [
        ([YES], "reproduced", "reproduced"),
        ([NO], "contradicted", "contradicted"),
        ([OPEN], "undecided", "undecided"),
        ([LACKING], "pending", "pending"),
        ([YES, YES], "reproduced", "reproduced"),
        ([YES, NO], "contradicted", "reproduced"),
        ([YES, OPEN], "undecided", "reproduced"),
        ([NO, OPEN], "contradicted", "undecided"),
        ([YES, NO, OPEN], "contradicted", "reproduced"),
        ([NO, NO], "contradicted", "contradicted"),
        ([OPEN, OPEN], "undecided", "undecided"),
        ([YES, LACKING], "reproduced", "reproduced"),
        ([NO, LACKING], "contradicted", "contradicted"),
        ([], "pending", "pending"),
    ],
)
def test_a_verdict_is_by_what_the_claim_is_on(
    findings: list[Finding], of_all: str, of_any: str
) -> None:
    assert judged_alone(*findings).verdict == of_all
    assert judged_alone(*findings, quantifier="any").verdict == of_any


def test_a_reason_counts() -> None:
    reason = judged_alone(YES, YES, NO, OPEN, LACKING).reason
    assert reason == (
        "4 comparisons: 2 supporting, 1 contradicting, 1 not significant; 1 more not measured"
    )
    assert judged_alone(YES).reason == "1 comparison: 1 supporting"
    assert judged_alone(LACKING, LACKING).reason == "2 comparisons, not measured"
    small = finding(1.0, n=10)
    assert judged_alone(OPEN, small).reason.endswith("; some 18,993 more episodes would decide all")
    assert (
        "; some 88 more episodes would decide one"
        in judged_alone(OPEN, small, quantifier="any").reason
    )
    tiny = judged_alone(finding(1e-4)).reason
    assert tiny.endswith("; over 10,000,000 more episodes would decide all")


@pytest.mark.parametrize(
    ("findings", "of_all", "of_any"),
    [
        ([0.0], "no difference was measured", "no difference was measured"),
        ([0.0, 0.0], "no difference was measured", "no difference was measured"),
        ([0.0, 0.1, 0.0], "no difference was measured in 2 of them", "more episodes would decide one"),
    ],
)  # fmt: skip
def test_no_number_of_samples_decides_what_does_not_differ(
    findings: list[float], of_all: str, of_any: str
) -> None:
    means = [finding(mean) for mean in findings]
    assert judged_alone(*means).reason.endswith(f"not significant; {of_all}")
    assert judged_alone(*means, quantifier="any").reason.endswith(of_any)


def test_equal_differences_are_not_said_to_be_none() -> None:
    equal = finding(5.0, se=0.0, n=4)
    assert judged_alone(equal).reason.endswith("; no difference with a spread was measured")


def test_a_claim_that_needs_a_scale_is_judged_at_that_scale() -> None:
    verdicts = {
        scale: judged_alone(YES, needs_scale="paper", scale=scale).verdict
        for scale in ("demo", "small", "paper")
    }
    assert verdicts == {"demo": "undecided", "small": "undecided", "paper": "reproduced"}
    assert judged_alone(LACKING, needs_scale="paper").verdict == "pending"


def slow_holm(p_values: list[float]) -> list[float]:
    """The smallest times their number, the next times one less; never less than one before."""
    order, largest, adjusted = sorted(range(len(p_values)), key=p_values.__getitem__), 0.0, {}
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, p_values[index] * (len(p_values) - rank)))
        adjusted[index] = largest
    return [adjusted[index] for index in range(len(p_values))]


def test_p_values_are_corrected_within_a_family_and_not_across() -> None:
    """Over all claims of the family, in the paper or not; what is pending is no test."""
    means = {"a": [2.4, 2.9], "b": [3.1, 2.2], "c": [2.3]}
    claims = [
        claim(
            *(finding(mean, in_paper=index == 0) for index, mean in enumerate(of_claim)),
            LACKING,
            id=name,
            family="one" if name in "ab" else "another",
        )
        for name, of_claim in means.items()
    ]
    judgements = judge(claims, None, {"scale": "demo"})  # type: ignore[arg-type]
    raw = {
        name: [2 * stats.t.sf(mean, 19) for mean in of_claim] for name, of_claim in means.items()
    }
    found = [[one.p for one in judgement.findings] for judgement in judgements]
    a, b, c = found
    assert [*a[:2], *b[:2]] == pytest.approx(slow_holm([*raw["a"], *raw["b"]]))
    assert c[0] == pytest.approx(raw["c"][0])
    assert a[2] is b[2] is c[1] is None
    assert [[one.n_tests for one in judgement.findings] for judgement in judgements] == [
        [4, 4, 1], [4, 4, 1], [1, 1],
    ]  # fmt: skip
    # Alone it would be significant.
    assert raw["a"][0] < 0.05 < a[0]
    assert judgements[0].verdict == "undecided"
    assert judgements[2].verdict == "reproduced"


def test_larger_effects_need_fewer_samples() -> None:
    needed = [
        judged_alone(finding(mean)).findings[0].needed for mean in (0.01, 0.1, 0.5, 1.0, 1.5, 2.0)
    ]
    assert all(one is not None and one > 0 for one in needed)
    assert needed == sorted(needed, reverse=True)
    assert judged_alone(finding(0.0)).findings[0].needed == math.inf
    # Decided, or not there, it needs none.
    assert judged_alone(YES).findings[0].needed is None
    assert judged_alone(LACKING).findings[0].needed is None


@pytest.mark.parametrize("n", [2, 3, 30])
def test_what_is_open_always_needs_more(n: int) -> None:
    """Also where it would count outside its family, and with as many samples as there are seeds."""
    for mean in np.linspace(0.5, 12, 24):
        for one in judged_alone(*[finding(float(mean), n=n)] * 8).findings:
            assert (one.needed is None) == (one.supports is not None)
            assert one.needed is None or one.needed > 0


# Effects


def measured(basis: str = "heads", **samples: list[float]) -> Measured:
    return Measured({int(name[1:]): np.array(one) for name, one in samples.items()}, basis=basis)


def test_without_a_shared_seed_nothing_is_compared() -> None:
    assert difference(measured(s0=[1, 2]), measured(s1=[1, 2])) == (None, "episode")
    assert difference(Measured(unit="model"), measured(s0=[1, 2])) == (None, "model")


def test_one_value_of_each_side_is_no_comparison() -> None:
    assert difference(measured(s0=[2]), measured(s0=[1])) == (None, "episode")


def test_a_single_shared_seed_is_compared_by_its_samples() -> None:
    ours, theirs = measured(s0=[9, 9, 9], s1=[1, 4, 7]), measured(s1=[0, 1, 5], s2=[8, 8, 8])
    assert difference(ours, theirs) == (estimate([1, 3, 2]), "episode")


def test_several_shared_seeds_are_compared_by_their_quantities() -> None:
    """Whatever their samples: these are not even as many."""
    ours = measured("one", s0=[1, 3], s1=[5, 7], s2=[0, 0])
    theirs = measured("another", s0=[1], s1=[2])
    assert difference(ours, theirs) == (estimate([1, 4]), "seed")


THIRDS = np.array([1.0, 2.0, 0.0, 7.0, 5.0]) * 100 / 75


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        # Paired, over seeds, and unpaired.
        ([THIRDS], [np.roll(THIRDS, 1)]),
        ([THIRDS, THIRDS + 0.1], [np.roll(THIRDS, 1), THIRDS + 0.3 - 0.2]),
        ([THIRDS, 3 * THIRDS], [3 * np.roll(THIRDS, 1), np.roll(THIRDS, 1)]),
    ],
)
@pytest.mark.parametrize("theirs_basis", ["heads", "another"])
def test_a_difference_that_is_rounding_is_none(
    ours: list[Samples], theirs: list[Samples], theirs_basis: str
) -> None:
    effect, _ = difference(
        Measured(dict(enumerate(ours)), basis="heads"),
        Measured(dict(enumerate(theirs)), basis=theirs_basis),
    )
    assert effect is not None
    assert effect.mean == 0


def test_margins_and_signs_leave_no_rounding() -> None:
    assert shifted(Estimate(0.1 + 0.2, 1.0, 9), -0.3) == Estimate(0.0, 1.0, 9)
    assert shifted(Estimate(-2.0, 1.0, 9), 1.5) == Estimate(-0.5, 1.0, 9)
    none = turned(Estimate(0.0, 1.0, 9))
    assert f"{none and none.mean:+}" == "+0.0"
    assert turned(Estimate(2.0, 1.0, 9)) == Estimate(-2.0, 1.0, 9)


def test_unpaired_samples_are_compared_by_both_errors() -> None:
    ours, theirs = measured(s0=[1, 2], s1=[3]), measured(s0=[2, 4, 6, 8])
    effect = unpaired(ours, theirs, 1.5)
    assert effect is not None
    assert effect.mean == pytest.approx(7.5 - 2)
    assert effect.se == pytest.approx(math.hypot(stats.sem([1, 2, 3]), stats.sem([3, 6, 9, 12])))
    assert effect.n == 3
    assert unpaired(measured(s0=[1]), theirs) is None
    assert unpaired(Measured(), theirs) is None
