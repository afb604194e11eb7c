"""What a scale takes before it starts, and the most informative part of it that fits a budget."""

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from pipeline import config_files, records, shown
from pipeline.advice.durations import Known
from pipeline.advice.plan.budget import part
from pipeline.advice.plan.costs import Costs, max_memory
from pipeline.advice.plan.estimates import ON_DEVICE, Cost, Estimates, kinds
from pipeline.advice.quantities import counted, noun, seconds
from pipeline.advice.workflow import Job, options_of, overrides, pending
from pipeline.config.experiment import Experiment
from pipeline.words import duration, plural, size

_RULES: dict[records.Kind, str] = {
    "training": "train",
    "features": "embed",
    "evaluation": "evaluate",
    "adaptation": "adapt",
    "measurement": "measure",
    "similarity": "compare",
    "projection": "project",
    "simulation": "simulate",
}
_FIRST, _LAST = ("fetch", "pack", "contact_sheets"), ("table", "figure", "claims", "page")


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
        For snakemake. What --config and --configfile among them set counts here as in the run.

    Raises
    ------
    UserError
        If the configuration or the budget is not valid, or Snakemake cannot plan the scale.
    """
    limit = None if budget is None else seconds(budget)
    options = options_of(scale, options)
    experiment = config_files.load(overrides(options))
    run = pending([], options)
    if not run:
        return f"Scale {experiment.scale}: everything is there and current."
    costs, on = Costs(experiment, Known()), ""
    with ExitStack() as stack:
        if any(costs.of(job).seconds is None for job in run):
            from pipeline.advice.plan.parts import Parts
            from pipeline.advice.plan.speed import Speed
            from pipeline.machine import describe, prepare

            used = prepare(device, threads=1)
            on = f", here on {describe(used)}"
            speed = stack.enter_context(Speed(used, kinds(run)))
            costs.estimates = Estimates(experiment, speed, Parts(used))
        of = {job.outputs: costs.of(job) for job in run}
        lines = [*_whole(experiment, run, of, on), *_sizes(experiment, run, costs)]
    if limit is not None:
        lines += ["", *part(experiment, run, of, limit, options)]
    return "\n".join(lines)


def _whole(
    experiment: Experiment, run: list[Job], of: dict[tuple[str, ...], Cost], on: str
) -> list[str]:
    every = _files(experiment)
    made = {file for job in run for file in job.outputs}
    there = {
        rule: sum(file not in made and Path(file).exists() for file in files)
        for rule, files in every.items()
    }
    rows = []
    total = on_device = 0.0
    for rule in sorted({job.rule for job in run}, key=_order):
        some = [of[job.outputs] for job in run if job.rule == rule]
        known = [cost.seconds for cost in some if cost.seconds is not None]
        total += sum(known)
        on_device += sum(known) if rule in ON_DEVICE else 0.0
        done = f"{there[rule]:,}" if rule in every else ""
        time = duration(sum(known)) if known else "?"
        rows.append(
            f"  {len(some):5,}  {done:>5}  {noun(rule, len(some)):16} {time:>9}  {_sources(some)}"
        )
    untold = counted(job.rule for job in run if of[job.outputs].seconds is None)
    besides = f", not counting {untold}, whose length cannot be told before" if untold else ""
    # Seeds of a run take the same.
    longest = {_name(job): of[job.outputs].seconds or 0.0 for job in run}
    names = sorted(longest, key=lambda name: -longest[name])[:3]
    return [
        f"Scale {experiment.scale}: {plural(len(run), 'job')} to do, about {duration(total)} if "
        f"one runs after the other{besides}.",
        f"{sum(there.values()):,} of its {sum(map(len, every.values())):,} records, tables, "
        "figures and pages are there and current.",
        "",
        f"  {'to do':>5}  {'there':>5}  {'':16} {'in all':>9}",
        *rows,
        "",
        f"Training, fine-tuning and embedding are {duration(on_device)} of it{on}.",
        f"The longest jobs: {'; '.join(f'{name}, {duration(longest[name])}' for name in names)}.",
    ]


def _files(experiment: Experiment) -> dict[str, list[str]]:
    """A file of each job that the whole scale has, by rule."""
    found = {
        rule: records.places(
            kind,
            shown.subjects(experiment, "evaluation" if kind == "features" else kind),
            experiment.seeds,
        )
        for kind, rule in _RULES.items()
    }
    found["table"] = [f"tables/{name}.md" for name in shown.TABLES]
    found["figure"] = [f"figures/{name}.png" for name in shown.FIGURES]
    found |= {"claims": ["claims.md"], "page": ["report.html"]}
    return {
        rule: [f"results/{experiment.scale}/{file}" for file in files]
        for rule, files in found.items()
    }


def _order(rule: str) -> int:
    known = [*_FIRST, *_RULES.values(), *_LAST]
    return known.index(rule) if rule in known else len(known)


def _sources(some: list[Cost]) -> str:
    counts = Counter(cost.source for cost in some)
    return ", ".join(
        source + (f" ({n})" if len(counts) > 1 else "") for source, n in counts.items()
    )


def _name(job: Job) -> str:
    values = job.settings
    names = [str(values[key]) for key in ("run", "dataset") if values.get(key)]
    return " ".join(
        [
            noun(job.rule, 1),
            *(["of", *names[:1]] if names else []),
            *(["on", *names[1:]] if names[1:] else []),
        ]
    )


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
