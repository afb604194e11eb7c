"""Snakemake in a fork of one process that has imported it, which takes half of a dry run."""

import os
import sys
from multiprocessing import get_context
from pathlib import Path

CONTEXT = get_context("forkserver")
CONTEXT.set_forkserver_preload(["snakemake.cli"])


def snakemake(arguments: list[str], root: Path, environment: dict[str, str], output: Path) -> int:
    """Run ``snakemake arguments`` in a folder; returns its exit status, its words are a file's."""
    process = CONTEXT.Process(target=_run, args=(arguments, root, environment, output))
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def _run(arguments: list[str], root: Path, environment: dict[str, str], output: Path) -> None:
    from snakemake.cli import main

    os.chdir(root)
    os.environ.clear()
    os.environ.update(environment)
    # The code of this folder, as an interpreter that was started in it would find.
    sys.path.insert(0, str(root))
    with output.open("w") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    main(arguments)
