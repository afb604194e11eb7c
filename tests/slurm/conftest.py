"""A SLURM of this machine's own, and a project that runs on it."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.workflow.conftest import checkout

__all__ = ["checkout"]

HERE = Path(__file__).resolve().parent
# Set by make test-slurm.
ASKED = "TEST_SLURM"
# How slurm-up.sh says that it cannot start one here.
IMPOSSIBLE = 3


class Cluster:
    """A running SLURM."""

    def run(self, *command: str) -> str:
        """A command of SLURM, which must succeed; what it prints."""
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def jobs(self, name: str = "") -> list[dict[str, str]]:
        """What SLURM knows of the jobs whose comment starts so, in the order of submission."""
        listing = self.run("scontrol", "--oneliner", "show", "job")
        jobs = [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in listing.splitlines()]
        return [job for job in jobs if job.get("Comment", "").startswith(f"rule_{name}")]


def unavailable() -> str | None:
    """Why there can be no SLURM here."""
    if ASKED not in os.environ:
        return "takes half an hour, and installs SLURM: make test-slurm"
    if os.geteuid() != 0:
        return "only root can start a SLURM"
    if not shutil.which("dpkg"):
        return "SLURM is taken from Debian's packages, and this is no Debian"
    return None


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """SLURM, as slurm-up.sh starts it."""
    if reason := unavailable():
        pytest.skip(reason)
    # Not below pytest's folder, which only its owner may enter: munge is another user.
    folder = Path(f"/var/lib/slurm-test-{os.getpid()}")
    up = subprocess.run([HERE / "slurm-up.sh", folder], capture_output=True, text=True, check=False)
    if up.returncode == IMPOSSIBLE:
        pytest.skip(f"no SLURM can be started: {up.stderr}")
    try:
        assert up.returncode == 0, up.stderr
        yield Cluster()
    finally:
        subprocess.run([HERE / "slurm-down.sh", folder], check=True)
