"""The part of a scale that tells most within a budget, and the command that runs it."""

import shlex
from collections.abc import Mapping, Sequence

from pipeline.advice.plan.choice import Choice, choose
from pipeline.advice.plan.estimates import Cost
from pipeline.advice.plan.serves import Training, comparisons
from pipeline.advice.workflow import Job
from pipeline.config.experiment import Experiment
from pipeline.errors import UserError
from pipeline.report.claims.statements import CLAIMS
from pipeline.words import duration, plural

# How many reasons of what is left out are shown, and three times as many of what is chosen.
SHOWN = 8
# What is made of one training's weights.
_OF_TRAINING = ("train", "embed", "evaluate", "adapt", "measure", "project")
# Of the claims, as the scorecard has them.
_NUMBERS = {claim.id: number for number, claim in enumerate(CLAIMS, 1)}


def part(
    experiment: Experiment,
    run: list[Job],
    of: Mapping[tuple[str, ...], Cost],
    limit: float,
    options: Sequence[str],
) -> list[str]:
    """What to train first within so many seconds, what is left out, and how to run it.

    Parameters
    ----------
    of
        The cost of each job, by its outputs.
    options
        Of the run.

    Raises
    ------
    UserError
        If no training is left, or none that tells something fits.
    """
    costs = dict.fromkeys(experiment.trainings(), 0.0)
    for job in run:
        if job.rule in _OF_TRAINING:
            costs[_training_of(job)] += max(of[job.outputs].seconds or 0.0, 1e-3)
    if all(seconds_ == 0 for seconds_ in costs.values()):
        raise UserError("every training of this scale is there; run snakemake without a budget")
    found = comparisons(experiment)
    choice = choose(costs, found, limit)
    if not choice.chosen:
        least = min(
            (one.trainings for one in found if any(costs[o] for o in one.trainings)),
            key=lambda some: sum(costs[one] for one in some),
            default=frozenset(one for one in costs if costs[one]),
        )
        raise UserError(
            f"--budget: nothing that decides a claim fits into {duration(limit)}; the least is "
            f"{_names(sorted(least))}, which takes {duration(sum(costs[one] for one in least))}"
        )
    lines = [
        f"Into {duration(limit)} fit {plural(len(choice.chosen), 'training')}, which with all that "
        f"is measured of each take {duration(choice.seconds)}; packing and comparisons come on "
        "top. What tells most per hour comes first:"
    ]
    lines += _listed(choice, costs)
    n_whole = sum(choice.decided[claim] == choice.compared[claim] for claim in choice.compared)
    n_partly = sum(0 < choice.decided[claim] < n for claim, n in choice.compared.items())
    lines.append(
        f"With them {n_whole} of {plural(len(choice.compared), 'claim')} can be judged by all of "
        f"their comparisons, {n_partly} others by some."
    )
    if choice.left_out:
        lines += ["", "Left out:", *_left_out(choice, costs)]
    return [*lines, "", *_command(experiment, run, choice, options)]


def _training_of(job: Job) -> Training:
    values = job.settings
    return values["dataset"], values["run"], int(values["seed"])


def _listed(choice: Choice, costs: dict[Training, float]) -> list[str]:
    """Those that were taken together in one line."""
    lines: list[str] = []
    groups: list[list[Training]] = []
    for one in choice.chosen:
        if groups and choice.because[groups[-1][-1]] is choice.because[one] and choice.because[one]:
            groups[-1].append(one)
        else:
            groups.append([one])
    for group in groups:
        numbers = [str(_NUMBERS[claim]) for claim in choice.because[group[0]]]
        more = f" and {len(numbers) - 2} more" if len(numbers) > 2 else ""
        why = (
            f"for claim{'s' * (len(numbers) > 1)} {', '.join(numbers[:2])}{more}"
            if numbers
            else "not needed for any claim, but there is time"
        )
        time = duration(sum(costs[one] for one in group))
        lines.append(f"  {time:>8}  {_names(group)}: {why}")
    if len(lines) > 3 * SHOWN:
        rest = len(lines) - 3 * SHOWN
        lines[3 * SHOWN :] = [f"  and {rest} more"]
    return lines


def _names(group: list[Training]) -> str:
    """Runs of one data set and seed, the rest said once."""
    by_place: dict[tuple[str, int], list[str]] = {}
    for dataset, run, seed in group:
        by_place.setdefault((dataset, seed), []).append(run)
    return "; ".join(
        f"{' + '.join(runs)} ({dataset}, seed {seed})" for (dataset, seed), runs in by_place.items()
    )


def _left_out(choice: Choice, costs: dict[Training, float]) -> list[str]:
    by_reason: dict[str, list[Training]] = {}
    for one, reason in choice.left_out.items():
        by_reason.setdefault(reason, []).append(one)
    lines = []
    for reason, some in sorted(by_reason.items(), key=lambda item: -len(item[1])):
        runs = list(dict.fromkeys(run for _, run, _ in some))
        more = f" and {len(runs) - 4} more" if len(runs) > 4 else ""
        lines.append(
            f"  {duration(sum(costs[one] for one in some)):>8}  {plural(len(some), 'training')} of "
            f"{', '.join(runs[:4])}{more}: {reason}"
        )
    if len(lines) > SHOWN:
        lines[SHOWN:] = [f"  and {len(lines) - SHOWN} more reasons"]
    return lines


def _command(
    experiment: Experiment, run: list[Job], choice: Choice, options: Sequence[str]
) -> list[str]:
    chosen = set(choice.chosen)
    folder = f"results/{experiment.scale}"
    targets: dict[str, list[str]] = {}
    for job in run:
        if job.rule in ("evaluate", "adapt", "measure", "project") and _training_of(job) in chosen:
            file = job.outputs[0]
            place, rest = file.removeprefix(f"{folder}/").split("/", 1)
            targets.setdefault(rest, []).append(place)
    # What a run leaves alone, without being measured.
    measured = {tuple(rest.removesuffix(".json").split("/")) for rest in targets}
    bare = [
        f"{folder}/runs/{dataset}/{name}/seed{seed}/record.json"
        for dataset, name, seed in choice.chosen
        if (dataset, name, f"seed{seed}") not in measured
    ]
    files = [
        f"{folder}/{places[0]}/{rest}"
        if len(places) == 1
        else f"{folder}/{{{','.join(sorted(places))}}}/{rest}"
        for rest, places in targets.items()
    ]
    # A similarity is of a run, all its twins and all seeds.
    there = {one for one in experiment.trainings() if one not in choice.left_out}
    for job in run:
        if job.rule == "compare":
            dataset, name = job.settings["dataset"], job.settings["run"]
            needed = [name, *experiment.twins_of(name, dataset)]
            if all(
                (dataset, one, seed) in there for one in needed for seed in range(experiment.seeds)
            ):
                files.append(job.outputs[0])
    with_options = [shlex.join(options)] if options else []
    words = ["snakemake --cores all", *files, *bare, *with_options]
    return [
        "To run it, in bash:",
        *("  " + " \\\n    ".join(words)).split("\n"),
        "  " + " -- ".join(["python -m pipeline report", *with_options]),
    ]
