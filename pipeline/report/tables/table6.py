"""Table 6: Reptile with Weight-Clustering against other end-to-end methods."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from pipeline.report.results import Results
from pipeline.report.table import Cell, Table, published, sections

# The run and the adaptation of each row, at 1 and at 5 shots.
ROWS = {
    "Classical": dict.fromkeys((1, 5), ("reptile_classical", "reptile")),
    "FOMAML": {1: ("fomaml_1shot", "maml"), 5: ("fomaml_5shot", "maml")},
    "Reptile": dict.fromkeys((1, 5), ("reptile", "reptile")),
    "W-Clustering": dict.fromkeys((1, 5), ("weight_clustering", "reptile")),
}


def cells(results: Results, role: str, dataset: str, *, compared: bool = True) -> list[Cell]:
    return [
        Cell(
            row,
            "",
            f"{n_shot}-shot",
            results.accuracy(dataset, *of_shot[n_shot], n_shot),
            published("table6", row, "", role, f"{n_shot}-shot") if compared else None,
            ("transductive",),
            f"{n_shot}-shot",
        )
        for row, of_shot in ROWS.items()
        for n_shot in (1, 5)
        if results.expects("adaptation", dataset, of_shot[n_shot][0])
    ]


def table(results: Results, settings: Mapping[str, Any]) -> Table:
    """From adaptation records."""
    of_role = partial(cells, results, compared=settings["n_way"] == 5)
    return Table(
        id="table6",
        number="Table 6",
        title=f"End-to-end methods, {settings['n_way']}-way accuracy in percent",
        scale=settings["scale"],
        digits=2,
        sections=sections(settings, of_role, best="highest"),
        notes=[
            "Each fine-tunes the whole network on an episode: FOMAML by its own steps of SGD, the "
            "others by Reptile's of Adam, with one query per class. FOMAML is trained with as many "
            "shots as it is tested with.",
            "The paper took Reptile's and FOMAML's numbers from Nichol & Schulman (2018) and Finn "
            "et al. (2017), where they are transductive; without transduction see the table "
            "fine_tuners.",
            "The paper has no such table of CIFAR-FS, and FOMAML is not trained on it.",
        ],
    )
