"""Figure 3: how far fine-tuning moves Reptile's parameters, with weight clustering or without."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import mannwhitneyu

from pipeline.report.figure import BLUE, COLUMN, Figure, canvas, data_names, lookup
from pipeline.report.results import Measured, Results, Samples

ROLE = "mini_imagenet"
PARTS = {"figure3a": 1, "figure3b": 5}
# Red and blue, as in the paper.
MODELS = {"reptile": ("Reptile", "#C8102E"), "weight_clustering": ("W-Clustering", BLUE)}
FINE_TUNER = "reptile"
MOST_BINS = 60
COLUMNS = ["model", "low", "high", "episodes", "median"]


def draw(results: Results, settings: Mapping[str, Any]) -> Figure:
    """From adaptation records, all seeds pooled."""
    n_shot = PARTS[settings["figure"]]
    dataset = settings["roles"].get(ROLE, "")
    sources, missing = lookup(results, settings, "adaptation", ROLE, MODELS)
    found = {run: results.travel(dataset, run, FINE_TUNER, n_shot, "distance") for run in MODELS}
    if not missing:
        missing = [
            f"{n_shot}-shot fine-tuning by {FINE_TUNER} in the records of {run} on {dataset}"
            for run, measured in found.items()
            if not measured
        ]
    distances = {run: _pooled(measured) for run, measured in found.items()}
    # Parts a and b have the same bins.
    everything = [
        _pooled(results.travel(dataset, run, FINE_TUNER, n_shot, "distance"))
        for run in MODELS
        for n_shot in PARTS.values()
    ]
    plotted = _histograms(distances, np.concatenate(everything))
    drawing = canvas(COLUMN, 2.3)
    axes = drawing.subplots()
    for run, (name, colour) in MODELS.items():
        bars = plotted[plotted["model"] == run]
        if not bars.empty:
            edges = [*bars["low"], bars["high"].iloc[-1]]
            axes.stairs(bars["episodes"], edges, fill=True, color=colour, alpha=0.45)
            axes.stairs(bars["episodes"], edges, color=colour, linewidth=0.8)
            median = bars["median"].iloc[0]
            axes.axvline(median, color=colour, linestyle="--", label=f"{name}, median {median:.3g}")
    axes.set(xlabel="filter-normalised distance", ylabel="episodes")
    if not plotted.empty:
        drawing.legend(loc="outside lower center", ncols=2)
    return Figure(
        id=settings["figure"],
        number=f"Figure {settings['figure'].removeprefix('figure')}",
        title=f"Distance that parameters travel in {n_shot}-shot fine-tuning",
        data=data_names(settings, [ROLE]),
        caption=(
            f"Histograms of how far the whole network moves when it is fine-tuned on {n_shot}-shot "
            "episodes of novel classes, trained by Reptile (red) or by Reptile with weight "
            "clustering (blue). Dashed: medians." + _numbers(found, distances)
        ),
        notes=[
            "Distance: the root of the sum over convolution filters of the squared move "
            "relative to the squared norm of the filter before.",
            "Seeds are pooled. The test is of these trained models, over episodes; it does not "
            "say how much other trainings would differ.",
        ],
        drawing=drawing,
        plotted=plotted,
        sources=sources,
        missing=missing,
    )


def _pooled(measured: Measured) -> Samples:
    return np.concatenate([*measured.samples.values(), np.empty(0)])


def _histograms(distances: Mapping[str, Samples], everything: Samples) -> pd.DataFrame:
    """In the same bins for all models, which span everything."""
    n_bins = min(MOST_BINS, 1 + round(len(everything) ** 0.5))
    edges = np.histogram_bin_edges(everything, n_bins)
    rows = [
        (run, low, high, count, np.median(sample))
        for run, sample in distances.items()
        if len(sample)
        for low, high, count in zip(
            edges[:-1], edges[1:], np.histogram(sample, edges)[0], strict=True
        )
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def _numbers(found: Mapping[str, Measured], distances: Mapping[str, Samples]) -> str:
    vanilla, clustered = (distances[run] for run in ("reptile", "weight_clustering"))
    if not (len(vanilla) and len(clustered)):
        return ""
    difference = np.median(clustered) - np.median(vanilla)
    test = mannwhitneyu(clustered, vanilla)
    # Below it floating point underflows.
    p = f"= {test.pvalue:.2g}" if test.pvalue > 1e-300 else "< 1e-300"
    share = test.statistic / (len(clustered) * len(vanilla))
    seeds = {len(measured.samples) for measured in found.values()}
    return (
        f" Difference of the medians, with weight clustering minus without: {difference:+.3g}. "
        f"With it the distance is the larger one in {100 * share:.3g} % of pairs (Mann-Whitney U "
        f"test, two-sided: U = {test.statistic:.6g}, p {p}); {len(clustered)} and {len(vanilla)} "
        f"fine-tunings, seeds: {', '.join(map(str, sorted(seeds)))}."
    )
