"""The command line: one verb for each rule of the workflow, and those for people."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from pipeline import config_files, jobs
from pipeline.errors import UserError
from pipeline.files import write_json

Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
Action = Callable[[argparse.Namespace], int | None]

# A job that was asked to stop, saved its state and can be started again (EX_TEMPFAIL).
INTERRUPTED = 75


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        result: int | None = options.action(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return result or 0


def _fetch(options: argparse.Namespace) -> None:
    from pipeline.data import download

    if options.path is None:
        download.fetch(download.of_dataset(options.dataset), options.out)
    else:
        download.link(options.path, options.out / "archive")


def _pack(options: argparse.Namespace) -> None:
    settings, _ = _job("pack", options)
    from pipeline.data.packing import pack
    from pipeline.plugins import find

    source = find("data", settings["source"], "source")(settings, options.raw)
    passport = pack(source, settings["dataset"], options.out, options.workers)
    print(f"{passport.dataset}: fingerprint {passport.fingerprint}")


def _train(options: argparse.Namespace) -> int | None:
    settings, code = _job("train", options)
    from pipeline.machine import prepare
    from pipeline.training.loop import Interrupted, train

    device = prepare(options.device, options.threads)
    try:
        train(settings, code, options.data, options.out, options.state, device)
    except Interrupted as stop:
        print(f"{stop}; run the same command to go on", file=sys.stderr)
        return INTERRUPTED
    return None


def _contact_sheets(options: argparse.Namespace) -> None:
    _job("contact_sheets", options)
    from pipeline.data.contact_sheet import contact_sheet
    from pipeline.data.packed import SPLITS, Packed

    packed = Packed.open(options.data)
    for split in SPLITS:
        contact_sheet(packed, split, options.out / f"{split}.png")


def _embed(options: argparse.Namespace) -> None:
    settings, code = _job("embed", options)
    from pipeline.analysis.embedding import embed
    from pipeline.machine import prepare

    device = prepare(options.device, options.threads)
    embed(settings, code, options.weights, options.data, options.out, device)


def _evaluate(options: argparse.Namespace) -> None:
    settings, code = _job("evaluate", options)
    from pipeline.analysis.evaluation import evaluate
    from pipeline.machine import prepare

    device = prepare(options.device, options.threads)
    evaluate(settings, code, options.features, options.out, device)


def _adapt(options: argparse.Namespace) -> None:
    settings, code = _job("adapt", options)
    from pipeline.analysis.adaptation import adapt
    from pipeline.machine import prepare

    device = prepare(options.device, options.threads)
    adapt(settings, code, options.weights, options.data, options.out, device)


def _measure(options: argparse.Namespace) -> None:
    settings, code = _job("measure", options)
    from pipeline.analysis.clustering import measure
    from pipeline.machine import prepare

    device = prepare(options.device, options.threads)
    measure(settings, code, options.features, options.out, device)


def _compare(options: argparse.Namespace) -> None:
    settings, code = _job("compare", options)
    from pipeline.analysis.similarity import compare
    from pipeline.machine import prepare

    device = prepare(options.device, options.threads)
    compare(settings, code, options.features, options.out, device)


def _project(options: argparse.Namespace) -> None:
    settings, code = _job("project", options)
    from pipeline.analysis.projection import project

    project(settings, code, options.features, options.out)


def _simulate(options: argparse.Namespace) -> None:
    settings, code = _job("simulate", options)
    from pipeline.analysis import simulation

    simulation.run(settings, code, options.out)


def _table(options: argparse.Namespace) -> None:
    settings, _ = _job("table", options)
    _render("table", settings, options.results, options.out)


def _figure(options: argparse.Namespace) -> None:
    settings, _ = _job("figure", options)
    _render("figure", settings, options.results, options.out)


def _claims(options: argparse.Namespace) -> None:
    settings, _ = _job("claims", options)
    _render("claims", settings, options.results, options.out)


def _page(options: argparse.Namespace) -> None:
    settings, _ = _job("page", options)
    from pipeline.report import page

    page.write(settings, options.results, options.data)


def _render(verb: str, settings: jobs.Settings, folder: Path, prefix: Path) -> None:
    from pipeline.plugins import find
    from pipeline.report.results import Results

    results = Results(folder, settings)
    if verb == "table":
        from pipeline.report import render

        table = find("report.tables", settings["table"], "table")(results, settings)
        render.write(table, results, settings, prefix)
    elif verb == "figure":
        from pipeline.report import figure

        draw = find("report.figures", jobs.FIGURES[settings["figure"]][0], "draw")
        figure.write(draw, results, settings, prefix)
    else:
        from pipeline.report.claims import scorecard

        scorecard.write(results, settings, prefix)


def _report(options: argparse.Namespace) -> None:
    """Everything that can be shown of what is there; what is missing is pending."""
    from pipeline.report import page

    experiment = config_files.load({"scale": options.scale} if options.scale else {})
    results = Path("results", experiment.scale)

    def settings(verb: str, **names: str) -> jobs.Settings:
        return jobs.settings(experiment, verb, **names) | {"strict": options.strict}

    for table in jobs.TABLES:
        _render("table", settings("table", table=table), results, results / "tables" / table)
    for figure in jobs.FIGURES:
        _render("figure", settings("figure", figure=figure), results, results / "figures" / figure)
    _render("claims", settings("claims"), results, results / "claims")
    page.write(settings("page"), results, Path("resources/packed"))
    print(results / "report.html")


def _data(options: argparse.Namespace) -> None:
    from pipeline.data.contact_sheet import contact_sheet, describe
    from pipeline.data.packed import SPLITS, Packed

    folder = Path("resources/packed", options.dataset)
    packed = Packed.open(folder)
    print(describe(packed.passport))
    for split in SPLITS:
        sheet = folder / "contact_sheets" / f"{split}.png"
        if not sheet.exists():
            contact_sheet(packed, split, sheet)
        print(f"{split}: {sheet}")


def _explain(options: argparse.Namespace) -> None:
    from pipeline.report.explanation import explain

    experiment = config_files.load({"scale": options.scale} if options.scale else {})
    print(explain(Path("results", experiment.scale), options.table, options.cell))


def _settings(options: argparse.Namespace) -> None:
    experiment = config_files.load({"scale": options.scale} if options.scale else {})
    names = {
        name: getattr(options, name)
        for name in ("dataset", "run", "seed", "table", "figure", "simulation")
        if getattr(options, name) is not None
    }
    print(jobs.dumps(jobs.settings(experiment, options.verb, **names)))


def _schema(_: argparse.Namespace) -> None:
    for path, schema in config_files.schemas().items():
        write_json(path, schema)
        print(path)


def _job(verb: str, options: argparse.Namespace) -> tuple[jobs.Settings, str]:
    """The job's settings, and the digest of the code it is about to run."""
    print_some = "print some with: python -m pipeline settings --help"
    try:
        settings = json.loads(options.settings)
        code = jobs.code(verb, settings)
    except json.JSONDecodeError as error:
        raise UserError(f"--settings is not JSON ({error}); {print_some}") from None
    except (KeyError, TypeError) as error:
        raise UserError(f"--settings is not that of {verb} ({error!r}); {print_some}") from None
    if options.code not in (None, code):
        raise UserError(
            f"the code of this job changed after the workflow was planned (it is {code} now, "
            f"was {options.code}); run snakemake again"
        )
    return settings, code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline",
        description="Reproduce 'Unraveling Meta-Learning' (ICML 2020), step by step. Snakemake "
        "calls these verbs in order; each also runs by itself.",
        epilog="The commands of a whole scale, ready to paste: snakemake -np --config scale=small",
    )
    verbs = parser.add_subparsers(metavar="verb", required=True)

    verb = _verb(verbs, "fetch", _fetch, "Download a data set, or link to a copy.")
    verb.add_argument("--dataset", required=True, help="a data set of config.yaml")
    verb.add_argument("--path", type=Path, help="your own copy, a file or a folder")
    verb.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to fill")

    verb = _job_verb(verbs, "pack", _pack, "Turn raw images, or generated ones, into plain arrays.")
    verb.add_argument("--raw", type=Path, metavar="PATH", help="the downloaded archive or folder")
    verb.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to fill")
    verb.add_argument(
        "--workers", type=_count, default=1, metavar="N", help="processes (default: 1)"
    )

    verb = _job_verb(verbs, "contact_sheets", _contact_sheets, "Show some images of every class.")
    _data_option(verb)
    verb.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to fill")

    verb = _job_verb(
        verbs,
        "train",
        _train,
        "Train one run. Stopped by SIGTERM, SIGINT or SIGUSR1 it saves its state and exits "
        f"with status {INTERRUPTED}; the same command goes on from there, to the same weights.",
    )
    _data_option(verb)
    verb.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to fill")
    verb.add_argument(
        "--state", type=Path, required=True, metavar="DIR", help="where unfinished training lives"
    )
    _machine_options(verb)

    verb = _job_verb(verbs, "embed", _embed, "Compute the features of one model.")
    verb.add_argument("--weights", type=Path, required=True, metavar="FILE", help="from train")
    _data_option(verb)
    verb.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to fill")
    _machine_options(verb)

    verb = _job_verb(
        verbs, "adapt", _adapt, "Few-shot accuracy of one model, fine-tuned by gradient steps."
    )
    verb.add_argument("--weights", type=Path, required=True, metavar="FILE", help="from train")
    _data_option(verb)
    verb.add_argument("--out", type=Path, required=True, metavar="FILE", help="record to write")
    _machine_options(verb)

    for name, action, text in (
        ("evaluate", _evaluate, "Few-shot accuracy of one model with every head."),
        ("measure", _measure, "Feature clustering (R_FC, R_HV) of one model."),
    ):
        verb = _job_verb(verbs, name, action, text)
        verb.add_argument("--features", type=Path, required=True, metavar="DIR", help="from embed")
        verb.add_argument("--out", type=Path, required=True, metavar="FILE", help="record to write")
        _machine_options(verb)

    verb = _job_verb(verbs, "compare", _compare, "Similarity (CKA) of twins' features.")
    verb.add_argument(
        "--features", type=Path, nargs="+", required=True, metavar="DIR", help="from embed"
    )
    verb.add_argument("--out", type=Path, required=True, metavar="FILE", help="record to write")
    _machine_options(verb)

    verb = _job_verb(verbs, "project", _project, "Some novel classes in a plane (LDA).")
    verb.add_argument("--features", type=Path, required=True, metavar="DIR", help="from embed")
    verb.add_argument("--out", type=Path, required=True, metavar="FILE", help="record to write")

    verb = _job_verb(verbs, "simulate", _simulate, "What needs no data: Theorem 1, Figure 1.")
    verb.add_argument("--out", type=Path, required=True, metavar="FILE", help="record to write")

    for name, action, text, files in (
        ("table", _table, "Render one table from records.", ".md, .tex, .csv and .json"),
        ("figure", _figure, "Draw one figure from records.", ".png, .pdf, .svg, .csv and .json"),
        ("claims", _claims, "Judge the paper's claims by records.", ".md and .json"),
    ):
        verb = _job_verb(verbs, name, action, text)
        _results_option(verb)
        verb.add_argument(
            "--out", type=Path, required=True, metavar="PREFIX", help=f"of the {files} files"
        )

    verb = _job_verb(verbs, "page", _page, "Put tables, figures and claims on one page.")
    _results_option(verb)
    verb.add_argument("--data", type=Path, required=True, metavar="DIR", help="packed data sets")

    verb = _verb(
        verbs,
        "report",
        _report,
        "Render everything from the results that are there; the rest is marked pending.",
    )
    _scale_option(verb)
    verb.add_argument("--strict", action="store_true", help="fail where something is pending")

    verb = _verb(verbs, "data", _data, "What a packed data set is, and some images of each class.")
    verb.add_argument("dataset", help="a data set of config.yaml")

    verb = _verb(verbs, "explain", _explain, "Where a number comes from.")
    verb.add_argument("table", help="for example table3")
    verb.add_argument("cell", nargs="?", help="a part of its name; without it: all there are")
    _scale_option(verb)

    verb = _verb(
        verbs,
        "settings",
        _settings,
        "Print the effective settings of a job, to pass to its verb as --settings.",
    )
    verb.add_argument("verb", choices=sorted(jobs.VERBS), help="the job's verb")
    _scale_option(verb)
    verb.add_argument("--dataset", help="a data set of config.yaml")
    verb.add_argument("--run", help="a run of config.yaml")
    verb.add_argument("--seed", type=int, default=None, help="seed of the run")
    verb.add_argument("--table", help="a table of pipeline/report/tables")
    verb.add_argument("--figure", help="a figure, with the letter of its part")
    verb.add_argument("--simulation", help="a simulation of pipeline/analysis/simulations")

    _verb(
        verbs,
        "schema",
        _schema,
        "Write the JSON schemas by which editors check config.yaml and scales/.",
    )
    return parser


def _verb(verbs: Verbs, name: str, action: Action, text: str) -> argparse.ArgumentParser:
    verb = verbs.add_parser(name, help=text, description=text)
    verb.set_defaults(action=action)
    return verb


def _job_verb(verbs: Verbs, name: str, action: Action, text: str) -> argparse.ArgumentParser:
    verb = _verb(verbs, name, action, text)
    verb.add_argument(
        "--settings",
        required=True,
        metavar="JSON",
        help=f"effective settings, as printed by: python -m pipeline settings {name} ...",
    )
    verb.add_argument(
        "--code", metavar="DIGEST", help="refuse to run if the job's code has another digest"
    )
    return verb


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number, 1 or more")
    return int(text)


def _scale_option(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--scale", help="a file of scales/ (default: the scale of config.yaml)")


def _results_option(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--results", type=Path, required=True, metavar="DIR", help="results/<scale>, with records"
    )


def _data_option(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--data", type=Path, required=True, metavar="DIR", help="from pack")


def _machine_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: a GPU if any"
    )
    verb.add_argument(
        "--threads", type=_count, default=1, metavar="N", help="CPU threads (default: 1)"
    )


if __name__ == "__main__":
    sys.exit(main())
