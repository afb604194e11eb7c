"""How far parameters travel in fine-tuning, and what it does to the loss (section 5.1)."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from pipeline.report.results import Results
from pipeline.report.table import Cell, Table, sections

# The models of Figure 3, and those of which the text says that they move a lot for little.
MODELS = [
    ("Reptile", "reptile", "reptile"),
    ("W-Clustering", "weight_clustering", "reptile"),
    ("coefficient 0", "weight_clustering_0", "reptile"),
    ("MetaOptNet-M", "resnet12_svm", "maml_fresh"),
    ("R2-D2-M", "r2d2_ridge", "maml_fresh"),
    ("Reptile, SGD", "reptile", "maml_fresh"),
    ("W-Clustering, SGD", "weight_clustering", "maml_fresh"),
]
QUANTITIES = {
    "distance": "distance",
    "with the head": "distance_with_head",
    "length": "length",
    "loss before": "loss_before",
    "loss after": "loss_after",
}


def cells(results: Results, _: str, dataset: str, *, n_shot: int) -> list[Cell]:
    return [
        Cell(row, "", column, results.travel(dataset, run, adaptation, n_shot, name))
        for row, run, adaptation in MODELS
        for column, name in QUANTITIES.items()
    ]


def table(results: Results, settings: Mapping[str, Any]) -> Table:
    """From adaptation records."""
    return Table(
        id="travel",
        number=None,
        title="What fine-tuning of the whole network moves, and what it gains",
        scale=settings["scale"],
        digits=3,
        sections=[
            section
            for n_shot in (1, 5)
            for section in sections(
                settings, partial(cells, results, n_shot=n_shot), part=f"{n_shot}-shot"
            )
        ],
        notes=[
            "Distance: filter-normalised, the root of the sum over convolution filters of the "
            "squared move relative to the squared norm of the filter before; as in Figure 3. With "
            "the head: its rows counted as filters. Length: the move of all filters, not "
            "normalised. Loss: mean cross-entropy on the support.",
            "Reptile and W-Clustering take Reptile's steps of Adam. The others take the steps of "
            "SGD of maml_fresh, from a new head; so do the rows that say SGD, for comparison.",
        ],
    )
