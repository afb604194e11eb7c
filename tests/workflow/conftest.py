"""Copies of the project, to edit and to run, in folders whose paths hold a space."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.workflow import forked

ROOT = Path(__file__).resolve().parents[2]
# All that a run needs.
PARTS = ["Snakefile", "rules", "profiles", "environment.yaml", "config.yaml", "scales", "pipeline"]
# What an outer workflow or shell may have set, and would be handed down.
FOREIGN = {"PIPELINE_DIGESTS", "PYTHONPATH", "SNAKEMAKE_PROFILE"}


class Project:
    """A copy of the project."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environment = {name: os.environ[name] for name in os.environ.keys() - FOREIGN}

    def __truediv__(self, path: str) -> Path:
        return self.root / path

    def copy(self, root: Path, *, times: bool = True) -> "Project":
        """The same with all its results elsewhere, with the files' times or with new ones."""
        shutil.copytree(self.root, root, copy_function=shutil.copy2 if times else shutil.copy)
        return Project(root)

    def configure(self, changes: dict[str, Any], file: str = "config.yaml") -> None:
        """Set values in a YAML file by their dotted keys; its comments are lost."""
        content = yaml.safe_load((self / file).read_text())
        for key, value in changes.items():
            *parents, last = key.split(".")
            place = content
            for parent in parents:
                place = place[parent]
            place[last] = value
        (self / file).write_text(yaml.safe_dump(content, sort_keys=False))

    def python(self, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """``python -m module arguments`` in this folder."""
        return subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def snakemake(self, *arguments: str) -> str:
        """Run snakemake, which must succeed; what it says."""
        done = self.python("snakemake", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def files(self) -> dict[str, bool]:
        """Every file that the workflow makes, and whether snakemake would make it now."""
        output = self.root.with_name(f"{self.root.name}.summary")
        status = forked.snakemake(["--summary"], self.root, self.environment, output)
        assert status == 0, output.read_text()
        lines = (line.split("\t") for line in output.read_text().splitlines())
        header, *rows = (line for line in lines if len(line) > 1)
        rows = [dict(zip(header, row, strict=True)) for row in rows]
        plans = {"update pending": True, "no update": False}
        return {row["output_file"]: plans[row["plan"]] for row in rows}

    @contextmanager
    def started(self, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """Snakemake in a process group of its own, which does not outlive the block."""
        process = subprocess.Popen(
            [sys.executable, "-m", "snakemake", *arguments],
            cwd=self.root,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@pytest.fixture(scope="session")
def checkout() -> Callable[[Path], Project]:
    """Makes a copy of the project without results."""

    def make(root: Path) -> Project:
        root.mkdir(parents=True)
        for part in PARTS:
            if (ROOT / part).is_dir():
                shutil.copytree(ROOT / part, root / part)
            else:
                shutil.copy2(ROOT / part, root)
        return Project(root)

    return make


@pytest.fixture(scope="session")
def wait_until() -> Callable[[Callable[[], bool]], None]:
    """Waits until a condition holds, for two minutes at most."""

    def wait(condition: Callable[[], bool]) -> None:
        end = time.monotonic() + 120
        while not condition():
            assert time.monotonic() < end, "waited for two minutes, in vain"
            time.sleep(0.02)

    return wait
