"""What each verb does: its options read, its job's code compared, the work handed on.

Whatever computes is imported when it is needed, since ``--help`` needs nothing of it.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

from pipeline import config_files, digest, jobs, records, shown
from pipeline.config.experiment import Experiment
from pipeline.config.fields import nearest
from pipeline.errors import UserError
from pipeline.files import require_writable, write_json
from pipeline.memory import host, memory_faults
from pipeline.plugins import find

# A job that was asked to stop, saved its state and can be started again (EX_TEMPFAIL).
INTERRUPTED = 75


def fetch(options: argparse.Namespace) -> None:
    from pipeline.data import download

    if options.path is None:
        download.fetch(download.of_dataset(options.dataset), options.out)
    else:
        download.link(options.path, options.out / "archive")


def pack(options: argparse.Namespace) -> None:
    settings, _ = _job("pack", options)
    from pipeline.data.packing import pack
    from pipeline.progress import say

    require_writable(options.out)
    with memory_faults("pack", settings, host()):
        source = find("data", settings["source"], "source")(settings, options.raw)
        passport = pack(source, settings["dataset"], options.out, options.workers)
    say(f"{passport.dataset}: fingerprint {passport.fingerprint}")


def train(options: argparse.Namespace) -> int | None:
    settings, code = _job("train", options)
    from pipeline.machine import capacity, prepare
    from pipeline.training.loop import Interrupted, train

    device = prepare(options.device, options.threads)
    require_writable(options.out)
    try:
        with memory_faults("train", settings, capacity(device)):
            train(settings, code, options.data, options.out, options.state, device)
    except Interrupted as stop:
        print(f"{stop}; run the same command to go on", file=sys.stderr)
        return INTERRUPTED
    return None


def contact_sheets(options: argparse.Namespace) -> None:
    settings, _ = _job("contact_sheets", options)
    from pipeline.data.contact_sheet import contact_sheet
    from pipeline.data.packed import SPLITS, Packed

    packed = Packed.open(options.data, settings["dataset"])
    for split in SPLITS:
        contact_sheet(packed, split, options.out / f"{split}.png")


# What each measures from, in the order of its function's arguments; the module is in
# pipeline.analysis and its function has the name of the verb.
ANALYSES = {
    "embed": ("embedding", ("weights", "data")),
    "evaluate": ("evaluation", ("features",)),
    "adapt": ("adaptation", ("weights", "data")),
    "measure": ("clustering", ("features",)),
    "compare": ("similarity", ("features",)),
}


def analyse(verb: str, options: argparse.Namespace) -> None:
    settings, code = _job(verb, options)
    from pipeline.machine import capacity, prepare

    module, inputs = ANALYSES[verb]
    device = prepare(options.device, options.threads)
    given = (getattr(options, name) for name in inputs)
    require_writable(options.out.parent)
    with memory_faults(verb, settings, capacity(device)):
        find("analysis", module, verb)(settings, code, *given, options.out, device)


def project(options: argparse.Namespace) -> None:
    settings, code = _job("project", options)
    from pipeline.analysis.projection import project

    with memory_faults("project", settings, host()):
        project(settings, code, options.features, options.out)


def simulate(options: argparse.Namespace) -> None:
    settings, code = _job("simulate", options)
    from pipeline.analysis import simulation

    with memory_faults("simulate", settings, host()):
        simulation.run(settings, code, options.out)


def show(verb: str, options: argparse.Namespace) -> None:
    """A table, a figure or the claims."""
    settings, _ = _job(verb, options)
    _render(verb, settings, options.results, options.out)


def page(options: argparse.Namespace) -> None:
    settings, _ = _job("page", options)
    from pipeline.report import page
    from pipeline.report.results import Results

    page.write(Results(options.results, settings), settings, options.data)


def _render(
    verb: str,
    settings: jobs.Settings,
    folder: Path,
    prefix: Path,
    read: Callable[[Path, records.Kind], records.Record] = records.read,
) -> None:
    from pipeline.report.results import Results

    results = Results(folder, settings, read)
    if verb == "table":
        from pipeline.report import render

        table = find("report.tables", settings["table"], "table")(results, settings)
        render.write(table, results, prefix)
    elif verb == "figure":
        from pipeline.report import figure

        draw = find("report.figures", shown.FIGURES[settings["figure"]][0], "draw")
        figure.write(draw, results, settings, prefix)
    else:
        from pipeline.report.claims import scorecard

        scorecard.write(results, settings, prefix)


def report(options: argparse.Namespace) -> None:
    """Everything that can be shown of what is there; what is missing is pending."""
    from pipeline.report import page
    from pipeline.report.results import Results

    experiment = _experiment(options)
    if options.strict:
        experiment = experiment.model_copy(update={"strict": True})
    folder = Path("results", experiment.scale)
    # Parts have most records in common.
    read = cache(records.read)

    def render(verb: str, place: str, **names: str) -> None:
        settings = jobs.settings(experiment, verb, **names)
        _render(verb, settings, folder, folder / place, read)

    # The page reads all that any part does: what is wrong or missing is said at once.
    settings = jobs.settings(experiment, "page")
    results = Results(folder, settings, read)
    for table in shown.TABLES:
        render("table", f"tables/{table}", table=table)
    for figure in shown.FIGURES:
        render("figure", f"figures/{figure}", figure=figure)
    render("claims", "claims")
    page.write(results, settings, Path("resources/packed"))
    print(folder / "report.html")


def data(options: argparse.Namespace) -> None:
    from pipeline.data.contact_sheet import contact_sheet, describe
    from pipeline.data.packed import SPLITS, Packed

    folder = Path("resources/packed", options.dataset)
    known = config_files.load({}).datasets
    # One that was configured on Snakemake's command line alone may be there as well.
    if options.dataset not in known and not folder.exists():
        raise UserError(f"unknown dataset {options.dataset!r}; {nearest(options.dataset, known)}")
    packed = Packed.open(folder)
    print(describe(packed.passport))
    packed.verify()
    print("every pixel and label is as the fingerprint says")
    for split in SPLITS:
        sheet = folder / "contact_sheets" / f"{split}.png"
        if not sheet.exists():
            contact_sheet(packed, split, sheet)
        print(f"{split}: {sheet}")


def explain(options: argparse.Namespace) -> None:
    from pipeline.report.explanation import explain

    experiment = config_files.load({"scale": options.scale} if options.scale else {})
    print(explain(Path("results", experiment.scale), options.table, options.cell))


def why(options: argparse.Namespace) -> None:
    from pipeline.advice.why import why

    print(why(options.target, options.scale, options.options))


def plan(options: argparse.Namespace) -> None:
    # What is timed must have the thread that Snakemake gives a job; numpy looks once, when it is
    # imported.
    os.environ["OMP_NUM_THREADS"] = "1"
    from pipeline.advice.plan.answer import plan

    print(plan(options.scale, options.budget, options.device, options.options))


def settings(options: argparse.Namespace) -> None:
    experiment = _experiment(options)
    names = {
        name: getattr(options, name)
        for name in ("dataset", "run", "seed", "table", "figure", "simulation")
        if getattr(options, name) is not None
    }
    print(jobs.dumps(jobs.settings(experiment, options.verb, **names)))


def schema(_: argparse.Namespace) -> None:
    for path, schema in config_files.schemas().items():
        write_json(path, schema)
        print(path)


def _experiment(options: argparse.Namespace) -> Experiment:
    """The configuration of a run at this scale, and with these options of Snakemake if any."""
    if not options.options:
        return config_files.load({"scale": options.scale} if options.scale else {})
    from pipeline.advice.workflow import options_of, overrides

    return config_files.load(overrides(options_of(options.scale, options.options)))


def _job(verb: str, options: argparse.Namespace) -> tuple[jobs.Settings, str]:
    """The job's settings, and the digest of the code it is about to run."""
    print_some = "print some with: python -m pipeline settings --help"
    try:
        settings = json.loads(options.settings)
        jobs.check(verb, settings)
        code = jobs.code(verb, settings)
    except json.JSONDecodeError as error:
        raise UserError(f"--settings is not JSON ({error}); {print_some}") from None
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"--settings is not that of {verb} ({error}); {print_some}") from None
    if options.code not in (None, code):
        raise UserError(
            f"the code of this job changed after the workflow was planned (it is {code} now, "
            f"was {options.code}); run snakemake again"
        )
    if options.code is not None:
        digest.keep(jobs.entries(verb, settings), digest.KEPT)
    return settings, code
