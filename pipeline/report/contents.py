"""The order in which the report shows its tables and figures: the paper's, then the others."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Part(NamedTuple):
    """A table or a figure."""

    # The folder below results/<scale> that holds its files: "tables" or "figures".
    folder: str
    id: str


# Sections 3 to 5.1. What the paper does not have is left to follow.
_PAPER = [
    Part("tables", "table1"),
    Part("tables", "table2"),
    Part("figures", "figure1a"),
    Part("figures", "figure1b"),
    Part("figures", "theorem1"),
    Part("figures", "figure2a"),
    Part("figures", "figure2b"),
    Part("tables", "table3"),
    Part("tables", "table4"),
    Part("tables", "table5"),
    Part("tables", "table6"),
    Part("figures", "figure3a"),
    Part("figures", "figure3b"),
]


def chapters(settings: Mapping[str, Any]) -> dict[str, list[Part]]:
    """The tables and figures that the settings of the page name, each once, by chapter.

    What is about one thing stands together: a figure follows the table of its name.
    """
    named = {
        Part(folder, name) for folder in ("tables", "figures") for name in settings[folder]
    } - set(_PAPER)
    ids = dict.fromkeys((*settings["tables"], *settings["figures"]))
    return {
        "The paper's tables and figures": [
            part for part in _PAPER if part.id in settings[part.folder]
        ],
        "Further tables and figures": [
            Part(folder, name)
            for name in ids
            for folder in ("tables", "figures")
            if (folder, name) in named
        ],
    }
