"""One simulation, run by its name and recorded."""

import time
from pathlib import Path
from typing import Any

from pipeline import records
from pipeline.plugins import find


def run(settings: dict[str, Any], code: str, out: Path) -> None:
    """Write a record of the values that ``settings["simulation"]`` gives."""
    started = time.monotonic()
    simulate = find("analysis.simulations", settings["simulation"], "simulate")
    values = simulate(settings["options"])
    records.write(
        out,
        "simulation",
        settings,
        code=code,
        sources={},
        device="cpu",
        wall_s=time.monotonic() - started,
        values=values,
    )
