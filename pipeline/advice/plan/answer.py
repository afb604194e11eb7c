"""What a scale takes before it starts, and the most informative part of it that fits a budget."""

import shlex
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from pipeline import config_files, jobs, records
from pipeline.advice.durations import Known
from pipeline.advice.plan.choice import Choice, choose
from pipeline.advice.plan.costs import NOW, ON_DEVICE, SCALED, Cost, Costs, kinds, max_memory
from pipeline.advice.plan.serves import Training, comparisons
from pipeline.advice.quantities import duration, noun, plural, seconds, size
from pipeline.advice.workflow import Job, options_of, pending
from pipeline.config.experiment import Experiment
from pipeline.errors import UserError

# How many of what is left out or longest are shown.
SHOWN = 8
_RULES = {
    "training": "train",
    "features": "embed",
    "evaluation": "evaluate",
    "adaptation": "adapt",
    "measurement": "measure",
    "similarity": "compare",
    "projection": "project",
    "simulation": "simulate",
}
# What is made of one training's weights.
_OF_TRAINING = ("train", "embed", "evaluate", "adapt", "measure", "project")


def plan(
    scale: str | None = None,
    budget: str | None = None,
    device: str = "auto",
    options: Sequence[str] = (),
) -> str:
    """The jobs, hours, disk and memory of a scale; with a budget, what to run of it.

    Parameters
    ----------
    budget
        Such as 8h, 30m or 2d, of jobs that run one after the other.
    options
        For snakemake. A --configfile or --config among them must not change runs or data sets.

    Raises
    ------
    UserError
        If the configuration or the budget is not valid, or Snakemake cannot plan the scale.
    """
    limit = None if budget is None else seconds(budget)
    experiment = config_files.load({"scale": scale} if scale else {})
    run = pending([], experiment.scale, options)
    if not run:
        return f"Scale {experiment.scale}: everything is there and current."
    costs = Costs(experiment, Known(), None)
    described = "one device"
    with ExitStack() as stack:
        if any(costs.earlier(job) is None for job in run if job.rule in ON_DEVICE):
            from pipeline.advice.plan.speed import Speed
            from pipeline.machine import describe, prepare

            used = prepare(device, threads=1)
            described = describe(used)
            costs.speed = stack.enter_context(Speed(used, kinds(run)))
        of = {job.outputs: costs.of(job) for job in run}
        lines = [*_whole(experiment, run, of, described), *_sizes(experiment, run, costs)]
    if limit is not None:
        lines += ["", *_part(experiment, run, of, limit, options)]
    return "\n".join(lines)


Outputs = tuple[str, ...]


def _whole(
    experiment: Experiment, run: list[Job], of: dict[Outputs, Cost], device: str
) -> list[str]:
    every = _totals(experiment)
    lines = [
        f"Scale {experiment.scale}: {plural(len(run), 'job')} to do, "
        f"{sum(every.values()) - sum(job.rule in every for job in run)} of "
        f"{sum(every.values())} records and pages there and current.",
        "",
        f"  {'to do':>5}  {'there':>5}  {'':16} {'in all':>9}",
    ]
    total, unknown, hours = 0.0, 0, 0.0
    for rule in sorted({job.rule for job in run}, key=_order):
        some = [of[job.outputs] for job in run if job.rule == rule]
        time = sum(cost.seconds or 0.0 for cost in some)
        total += time
        hours += time if rule in ON_DEVICE else 0.0
        missing = sum(cost.seconds is None for cost in some)
        unknown += missing
        there = f"{max(0, every[rule] - len(some)):,}" if rule in every else ""
        shown = duration(time) if missing < len(some) else "?"
        lines.append(
            f"  {len(some):5,}  {there:>5}  {noun(rule, len(some)):16} {shown:>9}  {_sources(some)}"
        )
    besides = f"; {plural(unknown, 'job')} of unknown length not counted" if unknown else ""
    lines += [
        "",
        f"In all {duration(total)} if one job runs after the other, {duration(hours)} of it "
        f"training, fine-tuning and embedding on {device}{besides}.",
    ]
    # Seeds of a run take the same.
    longest = {_name(job): of[job.outputs].seconds or 0.0 for job in run}
    names = sorted(longest, key=lambda name: -longest[name])[:3]
    times = "; ".join(f"{name}, {duration(longest[name])}" for name in names)
    return [*lines, f"The longest jobs: {times}."]


def _order(rule: str) -> int:
    known = [
        "fetch",
        "pack",
        "contact_sheets",
        *_RULES.values(),
        "table",
        "figure",
        "claims",
        "page",
    ]
    return known.index(rule) if rule in known else len(known)


def _sources(some: list[Cost]) -> str:
    counts: dict[str, int] = {}
    for cost in some:
        counts[cost.source] = counts.get(cost.source, 0) + 1
    words = {NOW: "from steps timed just now", SCALED: "scaled from passes timed just now"}
    parts = [
        words.get(source, "never timed here" if source == "unknown" else f"by {source}")
        + (f" ({n})" if len(counts) > 1 else "")
        for source, n in counts.items()
    ]
    return ", ".join(parts)


def _name(job: Job) -> str:
    values = job.settings
    names = [str(values[key]) for key in ("run", "dataset") if values.get(key)]
    return " ".join([job.rule, *names[:1], *(["on", *names[1:]] if names[1:] else [])])


def _totals(experiment: Experiment) -> dict[str, int]:
    """How many jobs of each rule the whole scale has."""
    found = {
        rule: len(
            records.places(
                kind,  # type: ignore[arg-type]
                jobs.subjects(experiment, "evaluation" if kind == "features" else kind),  # type: ignore[arg-type]
                experiment.seeds,
            )
        )
        for kind, rule in _RULES.items()
    }
    return found | {"table": len(jobs.TABLES), "figure": len(jobs.FIGURES), "claims": 1, "page": 1}


def _sizes(experiment: Experiment, run: list[Job], costs: Costs) -> list[str]:
    names = {"train": "weights", "embed": "features", "pack": "packed images"}
    sizes: dict[str, float] = {}
    unknown = set()
    for job in run:
        n_bytes = costs.disk(job)
        if n_bytes is not None:
            sizes[names[job.rule]] = sizes.get(names[job.rule], 0.0) + n_bytes
        elif job.rule in names:
            unknown.add(names[job.rule])
    parts = [f"{name} {size(n_bytes)}" for name, n_bytes in sizes.items()]
    parts += [f"{name} unknown" for name in sorted(unknown)]
    lines = [f"Disk: {', '.join(parts) or 'little'} (from array sizes; records are small)."]
    seen = max_memory(Path("logs"), experiment.scale)
    asked = max((job.mem_mb or 0 for job in run), default=0)
    if seen:
        lines.append(
            f"Memory: a job held {size(seen * 1e6)} at the most in earlier runs of this scale."
        )
    elif asked:
        lines.append(
            "Memory: not measured at this scale yet; rules reserve up to "
            f"{size(asked * 1e6)} for a job."
        )
    return lines


# A part of it


def _part(
    experiment: Experiment,
    run: list[Job],
    of: dict[Outputs, Cost],
    limit: float,
    options: Sequence[str],
) -> list[str]:
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
        f"Into {duration(limit)}: {plural(len(choice.chosen), 'training')}, with all that is "
        f"measured of them {duration(choice.seconds)}. In the order in which they pay:"
    ]
    lines += _listed(choice, costs)
    n_whole = sum(choice.decided[claim] == choice.compared[claim] for claim in choice.compared)
    n_partly = sum(0 < choice.decided[claim] < n for claim, n in choice.compared.items())
    lines.append(
        f"With them {plural(n_whole, 'claim')} of {len(choice.compared)} can be judged by all of "
        f"their comparisons, {n_partly} by some."
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
        claims = choice.because[group[0]]
        more = f" and {len(claims) - 2} more" if len(claims) > 2 else ""
        why = (
            f"for {', '.join(claims[:2])}{more}" if claims else "no claim rests on it, but it fits"
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
    end = shlex.join(options_of(experiment.scale, options))
    return [
        "To run it, in bash:",
        "  snakemake --cores all \\",
        *(f"    {file} \\" for file in [*files, *bare]),
        f"    {end}",
        f"  python -m pipeline report --scale {experiment.scale}",
    ]
