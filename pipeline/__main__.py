"""The command line: one verb for each rule of the workflow, and those for people."""

import argparse
import gc
import io
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeAlias

from pipeline import commands, jobs
from pipeline.errors import UserError

Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
Action = Callable[[argparse.Namespace], int | None]

# What --out is.
FOLDER, RECORD = ("DIR", "folder to fill"), ("FILE", "record to write")
ANALYSES = {
    "embed": "Compute the features of one model.",
    "adapt": "Few-shot accuracy of one model, fine-tuned by gradient steps.",
    "evaluate": "Few-shot accuracy of one model with every head.",
    "measure": "Feature clustering (R_FC, R_HV) of one model.",
    "compare": "Similarity (CKA) of a meta-learned run's features and its twins'.",
}


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; returns the exit status."""
    for stream in (sys.stdout, sys.stderr):
        # Whatever the locale: class names, paths and the signs of tables come out.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="surrogateescape")
    options = _options(sys.argv[1:] if arguments is None else arguments)
    try:
        result: int | None = options.action(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        from pipeline.progress import silence

        # Whoever read what is printed has seen enough.
        silence()
        return 1
    return result or 0


def _options(words: list[str]) -> argparse.Namespace:
    parser = _parser()
    # By hand, since argparse takes what follows "--" for a list only where no option precedes it.
    end = words.index("--") if "--" in words else len(words)
    options = parser.parse_args(words[:end])
    if end < len(words):
        if not hasattr(options, "options"):
            parser.error(f"unrecognized arguments: {' '.join(words[end:])}")
        options.options = words[end + 1 :]
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline",
        description="Reproduce 'Unraveling Meta-Learning' (ICML 2020), step by step. Snakemake "
        "calls these verbs in order; each also runs by itself.",
        epilog="The commands of a whole scale, ready to paste: snakemake -np --config scale=small",
    )
    verbs = parser.add_subparsers(metavar="verb", required=True)

    verb = _verb(verbs, "fetch", commands.fetch, "Download a data set, or link to a copy.")
    verb.add_argument("--dataset", required=True, help="a data set of config.yaml")
    verb.add_argument("--path", type=Path, help="your own copy, a file or a folder")
    _out_option(verb, *FOLDER)

    verb = _job_verb(
        verbs, "pack", commands.pack, "Turn raw images, or generated ones, into plain arrays."
    )
    verb.add_argument("--raw", type=Path, metavar="PATH", help="the downloaded archive or folder")
    _out_option(verb, *FOLDER)
    verb.add_argument(
        "--workers", type=_count, default=1, metavar="N", help="processes (default: 1)"
    )

    verb = _job_verb(
        verbs, "contact_sheets", commands.contact_sheets, "Show some images of every class."
    )
    _data_option(verb)
    _out_option(verb, *FOLDER)

    verb = _job_verb(
        verbs,
        "train",
        commands.train,
        "Train one run. Stopped by SIGTERM, SIGINT or SIGUSR1 it saves its state and exits with "
        f"status {commands.INTERRUPTED}; the same command goes on from there, to the same weights.",
    )
    _data_option(verb)
    _out_option(verb, *FOLDER)
    verb.add_argument(
        "--state", type=Path, required=True, metavar="DIR", help="where unfinished training lives"
    )
    _machine_options(verb)

    for name, text in ANALYSES.items():
        verb = _job_verb(verbs, name, partial(commands.analyse, name), text)
        if "weights" in commands.ANALYSES[name][1]:
            verb.add_argument(
                "--weights", type=Path, required=True, metavar="FILE", help="from train"
            )
            _data_option(verb)
        else:
            _features_option(verb, nargs="+" if name == "compare" else None)
        _out_option(verb, *(FOLDER if name == "embed" else RECORD))
        _machine_options(verb)

    verb = _job_verb(verbs, "project", commands.project, "Some novel classes in a plane (LDA).")
    _features_option(verb)
    _out_option(verb, *RECORD)

    verb = _job_verb(
        verbs, "simulate", commands.simulate, "What needs no data: Theorem 1, Figure 1."
    )
    _out_option(verb, *RECORD)

    for name, text, files in (
        ("table", "Render one table from records.", ".md, .tex, .csv and .json"),
        ("figure", "Draw one figure from records.", ".png, .pdf, .svg, .csv and .json"),
        ("claims", "Judge the paper's claims by records.", ".md and .json"),
    ):
        verb = _job_verb(verbs, name, partial(commands.show, name), text)
        _results_option(verb)
        _out_option(verb, "PREFIX", f"of the {files} files")

    verb = _job_verb(verbs, "page", commands.page, "Put tables, figures and claims on one page.")
    _results_option(verb)
    verb.add_argument("--data", type=Path, required=True, metavar="DIR", help="packed data sets")

    verb = _verb(
        verbs,
        "report",
        commands.report,
        "Render everything from the results that are there; the rest is marked pending.",
    )
    _scale_option(verb)
    verb.add_argument(
        "--strict",
        action="store_true",
        help="fail where a record that the configuration asks for is missing",
    )
    _snakemake_options(verb)

    verb = _verb(
        verbs,
        "data",
        commands.data,
        "What a packed data set is, whether it is whole, and some images of each class.",
    )
    verb.add_argument("dataset", help="a data set of config.yaml")

    verb = _verb(verbs, "explain", commands.explain, "Where a number comes from.")
    verb.add_argument("table", help="for example table3")
    verb.add_argument("cell", nargs="?", help="a part of its name; without it: all there are")
    _scale_option(verb)

    verb = _verb(verbs, "why", commands.why, "What moved since a file was made.")
    verb.add_argument("target", help="a file of the workflow, for example a table")
    _scale_option(verb)
    _snakemake_options(verb)

    verb = _verb(verbs, "plan", commands.plan, "What a scale costs, before it starts.")
    _scale_option(verb)
    verb.add_argument("--budget", help="such as 8h, 30m or 2d: what tells most within it")
    _device_option(verb)
    _snakemake_options(verb)

    verb = _verb(
        verbs,
        "settings",
        commands.settings,
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
    _snakemake_options(verb)

    _verb(
        verbs,
        "schema",
        commands.schema,
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


def _features_option(verb: argparse.ArgumentParser, nargs: str | None = None) -> None:
    verb.add_argument(
        "--features", type=Path, nargs=nargs, required=True, metavar="DIR", help="from embed"
    )


def _out_option(verb: argparse.ArgumentParser, what: str, text: str) -> None:
    verb.add_argument("--out", type=Path, required=True, metavar=what, help=text)


def _data_option(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--data", type=Path, required=True, metavar="DIR", help="from pack")


def _snakemake_options(verb: argparse.ArgumentParser) -> None:
    verb.epilog = "After --, options of Snakemake: those of the run that this is about."
    verb.set_defaults(options=[])


def _device_option(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: a GPU if any"
    )


def _machine_options(verb: argparse.ArgumentParser) -> None:
    _device_option(verb)
    verb.add_argument(
        "--threads", type=_count, default=1, metavar="N", help="CPU threads (default: 1)"
    )


if __name__ == "__main__":
    # PyTorch's import makes objects that stay. To look through them for garbage, again and again
    # as they come and once more at the end, takes a quarter of a short job.
    gc.set_threshold(100_000)
    status = main()
    gc.freeze()
    sys.exit(status)
