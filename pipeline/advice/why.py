"""Why a file is as it is: what moved since it was made, and what a run would do about it."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from pipeline import config_files, shown
from pipeline.advice import durations
from pipeline.advice.causes import ORDER, Cause, causes, date
from pipeline.advice.quantities import counted, noun
from pipeline.advice.workflow import MEMORY, Job, options_of, overrides, pending, remembered
from pipeline.errors import UserError
from pipeline.words import duration, plural

# So many lines of what moved fit on a screen with the rest.
SHOWN = 14


def why(target: str, scale: str | None = None, options: Sequence[str] = ()) -> str:
    """What moved since a file was made, down to the roots, and what a run would do.

    Parameters
    ----------
    target
        A file of the workflow, relative to the folder of its results, or the name of a table or
        figure, "claims" or "report".
    scale
        Of the target if that is a name; a file under results/ says it itself.
    options
        For snakemake, such as the --configfile that the results were made with. What they set
        of the configuration counts as in the run itself.

    Raises
    ------
    UserError
        If no rule makes the file, or the configuration is not valid.
    """
    file, options = _file(target, scale, options)
    run = pending([file], options)
    made = frozenset(output for job in run for output in job.outputs)
    lines = [_opening(file, run, made)]
    if run:
        lines += ["", *_moved(file, run, made), "", *_would_do(file, run, options)]
    return "\n".join(lines)


def _file(target: str, scale: str | None, options: Sequence[str]) -> tuple[str, Sequence[str]]:
    """The file that is meant, and the options of a run that makes it."""
    parts = Path(target).parts
    if parts[:1] == ("results",) and len(parts) > 2:
        return str(Path(target)), options_of(parts[1], options)
    options = options_of(scale, options)
    folder = f"results/{config_files.load(overrides(options)).scale}"
    if target in shown.TABLES:
        return f"{folder}/tables/{target}.md", options
    if target in shown.FIGURES:
        return f"{folder}/figures/{target}.png", options
    names = {"claims": "claims.md", "report": "report.html"}
    if target in names:
        return f"{folder}/{names[target]}", options
    if len(parts) == 1 and not Path(target).exists():
        raise UserError(
            f"{target!r} is no file of the workflow. Name one, as {folder}/tables/table3.md, "
            f"or one of {', '.join({**names, **shown.TABLES, **shown.FIGURES})}"
        )
    return str(Path(target)), options


def _opening(file: str, run: list[Job], made: frozenset[str]) -> str:
    memory, there = remembered(file), Path(file).exists()
    own = next((job for job in run if file in job.outputs), None)
    if memory is None and not there:
        return f"{file} was never made."
    if memory is None:
        does = "does not make it again" if own is None else "would make it again"
        lost = "has no record of it" if MEMORY.exists() else "is not there"
        return (
            f"Snakemake does not remember how {file} was made: {MEMORY} {lost}. It {does}, but "
            "cannot see whether code or configuration moved.\n"
            "If the results were copied, copy .snakemake too. Otherwise make it again, with\n"
            f"  snakemake --cores all --force {file}\n"
            "or, if you are sure that today's code and configuration made it, let Snakemake take "
            f"it for that:\n  snakemake --touch {file}"
        )
    when = f"{date(memory.ended)} by {memory.rule}"
    if not there:
        return f"{file} is gone; it was made {when}."
    if own is None:
        gone = [one for one in memory.inputs if not Path(one).exists()]
        also = f" Of what it was made of, {_few(gone)} gone; it does not need it." if gone else ""
        return f"Nothing moved: {file} is as a run now would make it. It was made {when}.{also}"
    n = sum(one in made for one in own.inputs)
    some = f"{n} of its {len(own.inputs)} inputs"
    if n == len(own.inputs):
        some = "its input" if n == 1 else f"all its {n} inputs"
    inputs = f"{some} {'is' if n == 1 else 'are'}"
    if n and not causes(own, made):
        return f"{file}, made {when}, is stale because {inputs}."
    beside = f", and {inputs} stale" if n else ""
    return f"{file}, made {when}, is stale: what it is made of moved{beside}."


def _moved(file: str, run: list[Job], made: frozenset[str]) -> list[str]:
    """The roots: each thing that moved, for whom, and how it comes to the file."""
    found: dict[Cause, list[Job]] = {}
    for job in run:
        for cause in causes(job, made):
            found.setdefault(cause, []).append(job)
    ordered = sorted(found, key=lambda one: (ORDER.index(one.kind), -len(found[one]), one.text))
    texts = [_filled(one.text, found[one]) for one in ordered[:SHOWN]]
    width = min(70, max((len(text) for text in texts), default=0))
    lines = ["What is to be made:" if {one.kind for one in ordered} == {"new"} else "What moved:"]
    for cause, text in zip(ordered[:SHOWN], texts, strict=True):
        of = found[cause]
        rules = counted(job.rule for job in of)
        lines.append(f"  {cause.kind:14}{text:{width}}  {rules}{_way(file, of, run)}")
    if len(ordered) > SHOWN:
        rest = ordered[SHOWN:]
        kinds = ", ".join(dict.fromkeys(one.kind for one in rest))
        lines.append(f"  and {len(rest)} more ({kinds})")
    return lines


def _filled(text: str, of: list[Job]) -> str:
    """The text of a cause with the run that it is about, or a star for several."""
    runs = {job.settings.get("run") for job in of}
    return text.replace("{run}", str(runs.pop()) if len(runs) == 1 else "*")


def _way(file: str, of: list[Job], run: list[Job]) -> str:
    """The rules through which the nearest of the jobs leads to the file."""
    users: dict[str, list[Job]] = {}
    for job in run:
        for one in job.inputs:
            users.setdefault(one, []).append(job)
    ways: list[tuple[Job, tuple[str, ...]]] = [(job, (job.rule,)) for job in of]
    seen = {job.outputs for job in of}
    while ways:
        job, way = ways.pop(0)
        if file in job.outputs:
            return f"  ({' > '.join(way)})" if len(way) > 1 else ""
        for output in job.outputs:
            for user in users.get(output, []):
                if user.outputs not in seen:
                    seen.add(user.outputs)
                    ways.append((user, (*way, user.rule)))
    return ""


def _would_do(file: str, run: list[Job], options: Sequence[str]) -> list[str]:
    known = durations.Known()
    command = shlex.join(["snakemake", "--cores", "all", file, *options])
    lines = [f"{command}\nwould do {plural(len(run), 'job')}:"]
    total = 0.0
    untimed: list[str] = []
    for rule in _in_order(run):
        of = [job for job in run if job.rule == rule]
        times = [known.of_job(job) for job in of]
        measured = [one for one in times if one]
        total += sum(one.seconds for one in measured)
        untimed += [rule] * (len(of) - len(measured))
        time = f"about {duration(sum(one.seconds for one in measured))}" if measured else ""
        sources = "; ".join(dict.fromkeys(one.source for one in measured)) or "never timed here"
        lines.append(f"  {len(of):4} {noun(rule, len(of)):16} {time:14} {sources}")
    if len(untimed) == len(run):
        return [*lines, "How long that takes is not known: none of them was timed here before."]
    besides = f", not counting {counted(untimed)}, never timed here" if untimed else ""
    return [*lines, f"One after the other about {duration(total)}{besides}."]


def _in_order(run: list[Job]) -> list[str]:
    """The rules of the jobs, those whose files others need first."""
    rules = list(dict.fromkeys(job.rule for job in run))
    makers = {output: job for job in run for output in job.outputs}
    depths: dict[tuple[str, ...], int] = {}

    def depth(job: Job) -> int:
        if job.outputs not in depths:
            before = {makers[one].outputs: makers[one] for one in job.inputs if one in makers}
            depths[job.outputs] = 1 + max((depth(one) for one in before.values()), default=0)
        return depths[job.outputs]

    latest = {rule: max(depth(job) for job in run if job.rule == rule) for rule in rules}
    return sorted(rules, key=latest.__getitem__)


def _few(files: list[str]) -> str:
    """Files as the subject of a sentence, with its verb."""
    if len(files) == 1:
        return f"{files[0]} is"
    return f"{files[0]} and {plural(len(files) - 1, 'other')} are"
