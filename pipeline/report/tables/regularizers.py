"""What R_FC and R_HV do to classical training: paired differences to the plain run."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from pipeline.report.results import Measured, Results
from pipeline.report.table import Cell, Table, sections

HEADS = ["ridge", "svm", "prototypes"]
BACKBONES = {"R2-D2": "r2d2_classical", "MetaOptNet": "resnet12_classical"}
EFFECTS = {"+ R_FC": "fc", "+ R_HV": "hv"}
MEASURES = [("R_FC", "r_fc_released"), ("R_HV", "r_hv_released"), ("R_HV printed", "r_hv_printed")]


def cells(results: Results, _: str, dataset: str) -> list[Cell]:
    def quantities(run: str) -> dict[str, Measured]:
        accuracy = {
            f"{head} {n_shot}-shot": results.accuracy(dataset, run, head, n_shot)
            for head in HEADS
            for n_shot in (1, 5)
        }
        clustering = {
            f"{name} {split}": results.clustering(dataset, run, split, measure)
            for split in ("base", "novel")
            for name, measure in MEASURES
        }
        return accuracy | clustering

    found = []
    for backbone, run in BACKBONES.items():
        plain = quantities(run)
        found += [
            Cell(quantity, backbone, effect, regularized.minus(plain[quantity]))
            for effect, suffix in EFFECTS.items()
            for quantity, regularized in quantities(f"{run}_{suffix}").items()
        ]
    return found


def table(results: Results, settings: Mapping[str, Any]) -> Table:
    """From evaluation and measurement records."""
    return Table(
        id="regularizers",
        number=None,
        title="Effect of the regularisers on classical training",
        scale=settings["scale"],
        digits=3,
        sections=sections(settings, partial(cells, results)),
        notes=[
            "Each cell is the regularised run minus the plain one, paired over the same episodes "
            "(accuracy, in percentage points) or the same pairs of classes (R_FC and R_HV, "
            "released form unless it says printed). Seeds are paired as well. The interval is over "
            "episodes or pairs; what another training seed would change is not in it.",
        ],
    )
