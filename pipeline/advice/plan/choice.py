"""The most informative part of a scale that fits into a budget."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.advice.plan.serves import Comparison, Training


@dataclass
class Choice:
    """What to train, in the order in which it pays, and what not."""

    chosen: list[Training] = field(default_factory=list)
    # Why each was taken: the claims that it then decides a part of.
    because: dict[Training, list[str]] = field(default_factory=dict)
    left_out: dict[Training, str] = field(default_factory=dict)
    seconds: float = 0.0
    # How many comparisons each claim has, and how many of them a seed at least decides.
    compared: dict[str, int] = field(default_factory=dict)
    decided: dict[str, int] = field(default_factory=dict)


def choose(
    costs: Mapping[Training, float], comparisons: Sequence[Comparison], budget_s: float
) -> Choice:
    """Take, again and again, what adds most to the claims per hour and still fits.

    What a comparison lacks is taken together, since a part of it tells nothing. Trainings that no
    claim rests on come last, once all others are taken.

    Parameters
    ----------
    costs
        Seconds of each training with all that is measured of it; 0 for what is there.
    """
    choice = Choice()
    have: set[Training] = {one for one, seconds in costs.items() if seconds == 0}
    while True:
        best: tuple[float, frozenset[Training]] | None = None
        for needed in {one.trainings - have for one in comparisons}:
            seconds = sum(costs[one] for one in needed)
            if not needed or choice.seconds + seconds > budget_s:
                continue
            gain = sum(
                one.value
                for one in comparisons
                if one.trainings - have and one.trainings <= have | needed
            )
            rate = gain / max(seconds, 1e-9)
            # Sorted, so that equals do not change places from one process to the next.
            if best is None or (rate, sorted(needed)) > (best[0], sorted(best[1])):
                best = rate, needed
        if best is None:
            break
        have |= best[1]
        choice.seconds += sum(costs[one] for one in best[1])
        claims = list(
            dict.fromkeys(
                one.claim
                for one in comparisons
                if one.trainings <= have and one.trainings & best[1]
            )
        )
        for one in sorted(best[1]):
            choice.chosen.append(one)
            choice.because[one] = claims
    _count(choice, comparisons, have)
    serving = {training for one in comparisons for training in one.trainings}
    for one in sorted(costs, key=lambda one: (costs[one], one)):
        if one in have:
            continue
        if serving <= have and choice.seconds + costs[one] <= budget_s:
            choice.chosen.append(one)
            choice.because[one] = []
            choice.seconds += costs[one]
        else:
            choice.left_out[one] = _reason(one, costs, comparisons, have, budget_s - choice.seconds)
    return choice


def _count(choice: Choice, comparisons: Sequence[Comparison], have: set[Training]) -> None:
    every = {(one.claim, one.name) for one in comparisons}
    decided = {(one.claim, one.name) for one in comparisons if one.trainings <= have}
    claims = dict.fromkeys(one.claim for one in comparisons)
    choice.compared = {claim: sum(of == claim for of, _ in every) for claim in claims}
    choice.decided = {claim: sum(of == claim for of, _ in decided) for claim in claims}


def _reason(
    one: Training,
    costs: Mapping[Training, float],
    comparisons: Sequence[Comparison],
    have: set[Training],
    left_s: float,
) -> str:
    serving = [comparison for comparison in comparisons if one in comparison.trainings]
    if not serving:
        return "not needed for any claim"
    if costs[one] > left_s:
        return "too long for the time that is left"
    # What the cheapest comparison lacks besides.
    lacks = min((c.trainings - have for c in serving), key=lambda some: sum(costs[o] for o in some))
    others = sorted({run for _, run, _ in lacks} - {one[1]})
    return f"of no use without {', '.join(others)}, for which there is no time besides"
