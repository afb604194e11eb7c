"""The paper's claims: on records built so that it is right, wrong, or nobody knows."""

import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

import made_records as made
import numpy as np
import pytest
from made_claims import ANY, COMPARISONS, MINI_ALONE, RIGHT, Judged, Worlds, level_of
from scipy import stats

from pipeline import records
from pipeline.analysis.statistics import Estimate
from pipeline.plugins import find
from pipeline.report.claims import scorecard
from pipeline.report.claims.statements import CLAIMS
from pipeline.report.claims.verdicts import Finding


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Worlds:
    return Worlds(tmp_path_factory.mktemp("worlds"))


# All claims


def test_there_are_eighteen_claims_in_families() -> None:
    assert [claim.id for claim in CLAIMS] == list(COMPARISONS)
    assert len(CLAIMS) == 18
    assert {claim.id for claim in CLAIMS if claim.quantifier == "any"} == ANY
    assert {claim.id for claim in CLAIMS if claim.needs_scale} == {"classical_is_faster"}
    # The paper has no number of its sweep in a table, but its text does in that of Table 6.
    assert Counter(claim.family for claim in CLAIMS) == {
        "Table 1": 1, "Table 2": 2, "Table 3": 4, "Table 4": 1, "Table 5": 1, "Table 6": 3,
        "Theorem 1": 1, "Figure 2": 1, "Figure 3": 2, "Training times": 2,
    }  # fmt: skip


# Cells of mini-ImageNet that each claim compares: pairs of rows, in each column.
TWINS = ("metaoptnet/metaoptnet-m metaoptnet/metaoptnet-c", "r2-d2/r2-d2-m r2-d2/r2-d2-c")
NAMES, SHOTS = ("r2-d2", "metaoptnet"), "1-shot 5-shot"
FINE_TUNERS = "svm rr protonet maml"
COMPARED: dict[str, list[tuple[str, tuple[str, ...], str]]] = {
    "meta_is_better_with_every_fine_tuner": [
        ("table1", TWINS, FINE_TUNERS),
        ("cross_fine_tuners", tuple(
            " ".join(f"5-shot/{side}" for side in twins.split()) for twins in TWINS
        ), FINE_TUNERS),
    ],
    "meta_clusters_features": [("table2", TWINS, "r-fc")],
    "meta_steadies_hyperplanes": [("table2", TWINS, "r-hv")],
    "protonet_separates_better": [("separation", ("protonet classical",), "other-images")],
    "r_fc_improves_transfer": [
        ("table3", tuple(f"{name}/classical-w-r-fc {name}/classical" for name in NAMES), SHOTS)
    ],
    "r_fc_can_beat_meta": [
        ("table3", ("r2-d2/classical-w-r-fc r2-d2/r2-d2",
                    "metaoptnet/classical-w-r-fc metaoptnet/metaoptnet-svm"), SHOTS)
    ],
    "r_hv_improves_transfer": [
        ("table3", tuple(f"{name}/classical-w-r-hv {name}/classical" for name in NAMES), SHOTS)
    ],
    "r_hv_is_almost_r_fc": [
        ("table3", tuple(f"{name}/classical-w-r-hv {name}/classical-w-r-fc" for name in NAMES), SHOTS)
    ],
    "r_fc_is_closer_to_meta": [("table4", tuple(f"{name}/r-fc {name}/c" for name in NAMES), "")],
    "classical_is_faster": [
        ("training_times", ("r2d2-classical r2d2-ridge", "resnet12-classical resnet12-svm"),
         "seconds-in-all")
    ],
    "r_fc_is_free": [
        ("training_times", ("r2d2-classical-fc r2d2-classical",
                            "resnet12-classical-fc resnet12-classical"), "seconds-a-step")
    ],
    "maml_does_not_cluster": [("table5", ("maml-1 maml-c", "maml-5 maml-c"), "r-fc r-hv")],
    "weight_clustering_beats_reptile": [("table6", ("w-clustering reptile",), SHOTS)],
    "weight_clustering_beats_others": [
        ("table6", ("w-clustering fomaml", "w-clustering classical"), SHOTS)
    ],
    "coefficients_around_it_help_too": [
        ("coefficient_sweep", ("5e-6 reptile", "5e-4 reptile"), SHOTS)
    ],
    "weight_clustering_travels_less": [
        ("travel", tuple(f"{n}-shot/w-clustering {n}-shot/reptile" for n in (1, 5)), "distance")
    ],
    "last_layer_models_move_for_little": [
        ("travel", tuple(
            f"{n}-shot/{model} {n}-shot/reptile-sgd"
            for n in (1, 5) for model in ("metaoptnet-m", "r2-d2-m")
        ), "distance loss"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", COMPARED)
def test_each_claim_compares_what_it_speaks_of(name: str, judged: Worlds) -> None:
    expected = []
    for table, pairs, columns in COMPARED[name]:
        for pair, column in [(pair, one) for pair in pairs for one in columns.split() or [""]]:
            sides = [f"mini-imagenet/{side}" for side in pair.split()]
            if column == "loss":
                ends = [f"{side}/loss-{when}" for when in ("before", "after") for side in sides]
            else:
                ends = ["/".join(filter(None, [side, column])) for side in sides]
            expected.append(tuple((table, end) for end in ends))
    cells = [finding.cells for finding in judged("right").judgements[name].findings]
    of_mini = [one for one in cells if one[0][1].startswith("mini-imagenet/")]
    assert sorted(of_mini) == sorted(expected)


@pytest.mark.parametrize(
    ("name", "verdict"),
    [("right", "reproduced"), ("wrong", "contradicted"), ("neither", "undecided"), ("absent", "pending")],
)  # fmt: skip
def test_each_claim_has_the_verdict_that_its_records_say(
    name: str, verdict: str, judged: Worlds
) -> None:
    assert judged(name).verdicts == dict.fromkeys(COMPARISONS, verdict)


def said(n: int) -> str:
    return f"{n} comparison{'s' if n > 1 else ''}"


@pytest.mark.parametrize("name", ["right", "wrong"])
def test_every_comparison_is_decided_by_records_that_decide(name: str, judged: Worlds) -> None:
    """But "any" needs one alone; what has no run on CIFAR-FS is not compared there."""
    found = judged(name)
    for claim, judgement in found.judgements.items():
        relevant = [one for one in judgement.findings if one.in_paper]
        assert (len(judgement.findings), len(relevant)) == COMPARISONS[claim]
        outcomes = {one.supports for one in relevant}
        if (name, claim) == ("right", "classical_is_faster"):
            assert outcomes == {True, False}
        else:
            assert outcomes == {name == "right"}
        n = len(relevant)
        counted = f"{n} {'supporting' if name == 'right' else 'contradicting'}"
        if (name, claim) == ("right", "classical_is_faster"):
            counted = "2 supporting, 2 contradicting"
        assert judgement.reason == f"{said(n)}: {counted}"
    assert not [finding.name for finding in found.findings if finding.effect is None]


def test_what_is_undecided_says_how_much_would_decide(judged: Worlds) -> None:
    for claim, judgement in judged("neither").judgements.items():
        n = COMPARISONS[claim][1]
        each = "one" if claim in ANY else "all"
        number = r"(some [\d,]+|over 10,000,000) more [a-z -]+s( of [a-z]+)?"
        decides = rf"{number} would decide {each}|no difference was measured( in \d+ of them)?"
        expected = rf"{said(n)}: {n} not significant; ({decides})"
        assert re.fullmatch(expected, judgement.reason)


def test_what_is_absent_says_what_it_lacks(judged: Worlds) -> None:
    for claim, judgement in judged("absent").judgements.items():
        assert judgement.reason == f"{said(COMPARISONS[claim][1])}, not measured"
        assert all(finding.effect is None for finding in judgement.findings)


@pytest.mark.parametrize(
    ("name", "scale", "verdict"),
    [
        ("right", "demo", "undecided"),
        ("wrong", "small", "undecided"),
        ("right", "paper", "reproduced"),
        ("wrong", "paper", "contradicted"),
        ("absent", "demo", "pending"),
    ],
)
def test_how_much_faster_only_the_papers_budgets_tell(
    name: str, scale: str, verdict: str, judged: Worlds
) -> None:
    found = judged(name, scale=scale)
    assert found.verdicts["classical_is_faster"] == verdict
    reason = found.judgements["classical_is_faster"].reason
    assert ("only the budgets of scale paper can decide" in reason) == (verdict == "undecided")
    others = {"right": "reproduced", "wrong": "contradicted", "absent": "pending"}[name]
    assert {
        verdict for claim, verdict in found.verdicts.items() if claim != "classical_is_faster"
    } == {others}


@pytest.mark.parametrize("name", ["right", "wrong"])
def test_with_several_seeds_a_seed_is_the_unit(name: str, judged: Worlds) -> None:
    """Episodes and pairs say nothing of another training; stretches and simulations have none."""
    found = judged(name, seeds=3)
    others = {
        "classical_is_faster": "stretch of training",
        "r_fc_is_free": "stretch of training",
        "small_variance_ratio_suffices": "one-shot pair",
    }
    for claim, judgement in found.judgements.items():
        for one in judgement.findings:
            assert one.effect is not None
            assert one.unit == others.get(claim, "seed")
            assert (one.effect.n == 3) == (claim not in others)
    expected = {"right": "reproduced", "wrong": "contradicted"}[name]
    assert found.verdicts == dict.fromkeys(COMPARISONS, expected)


def test_the_effect_over_seeds_is_that_of_their_means(judged: Worlds) -> None:
    found = judged("right", seeds=3)
    means = []
    for run in ("r2d2_ridge", "r2d2_classical"):
        of_run = [
            made.values_of(found.folder, "evaluation", dataset="cifar_fs", run=run, seed=seed)
            for seed in range(3)
        ]
        means.append([100 * np.mean(one["correct"]["5"]["svm"]) / made.N_QUERIES for one in of_run])
    (finding,) = (
        finding
        for finding in found.judgements["meta_is_better_with_every_fine_tuner"].findings
        if finding.name == "CIFAR-FS, 5-shot: R2-D2-M against R2-D2-C, SVM"
    )
    test = stats.ttest_rel(*means)
    assert finding.effect is not None
    assert finding.effect.interval == pytest.approx(tuple(test.confidence_interval(0.95)))
    assert finding.n_tests == 32


@pytest.mark.parametrize("name", ["right", "wrong"])
def test_on_cifar_fs_alone_claims_on_mini_imagenet_say_so(name: str, judged: Worlds) -> None:
    """They are judged by what is there, unless they cannot be."""
    verdict = {"right": "reproduced", "wrong": "contradicted"}[name]
    for claim, judgement in judged(name, "cifar_fs").judgements.items():
        total, in_paper = COMPARISONS[claim]
        if claim in MINI_ALONE:
            assert judgement.verdict == "pending"
            continue
        elsewhere = total > in_paper
        assert judgement.verdict == verdict
        assert ("on data that the paper did not use for it" in judgement.reason) == elsewhere
        if not elsewhere and claim != "small_variance_ratio_suffices":
            pending = in_paper // 2
            if claim == "meta_is_better_with_every_fine_tuner":
                # Table 1 itself, and its 5-shot companion.
                pending = 16
            assert judgement.reason.endswith(f"; {pending} more not measured")


def test_data_that_the_paper_did_not_use_does_not_count_beside_its_own(tmp_path: Path) -> None:
    """Whatever it says."""
    of = made.experiment()
    made.fill(tmp_path, of, level_of(RIGHT), kinds=("projection",))
    own = ("conv64_protonet", "conv64_classical")
    for run, value in zip(own, (3.0, 2.0), strict=True):
        path = tmp_path / f"projections/cifar_fs/{run}/seed0.json"
        content = json.loads(path.read_text())
        content["values"]["held_out"]["ratios"] = made.around(value, 0.05, 6, run).tolist()
        path.write_text(json.dumps(records.sealed(content)))
    judgement = Judged(tmp_path, of).judgements["protonet_separates_better"]
    assert [one.supports for one in judgement.findings] == [False, True]
    assert judgement.verdict == "reproduced"
    assert judgement.reason == "1 comparison: 1 supporting"


# Single claims


def samples_of(
    found: Judged, run: str, name: str, shot: int, dataset: str = "mini_imagenet"
) -> Any:
    values = made.values_of(found.folder, "adaptation", dataset=dataset, run=run, seed=0)
    return 100 * np.array(values[name]["correct"][str(shot)]) / made.N_QUERIES


def finding_of(found: Judged, claim: str, name: str) -> tuple[Finding, Estimate]:
    (finding,) = (one for one in found.judgements[claim].findings if one.name == name)
    assert finding.effect is not None
    return finding, finding.effect


def test_what_shares_episodes_is_paired(judged: Worlds) -> None:
    found = judged("right")
    _, effect = finding_of(
        found,
        "weight_clustering_beats_reptile",
        "mini-ImageNet: W-Clustering against Reptile, 5-shot",
    )
    test = stats.ttest_rel(
        samples_of(found, "weight_clustering", "reptile", 5),
        samples_of(found, "reptile", "reptile", 5),
    )
    assert effect.n == made.EPISODES["reptile"]
    assert effect.interval == pytest.approx(tuple(test.confidence_interval(0.95)))


def test_what_has_other_episodes_is_not_paired(judged: Worlds) -> None:
    """FOMAML is tested by its own steps, on episodes of its own."""
    found = judged("right")
    _, effect = finding_of(
        found,
        "weight_clustering_beats_others",
        "mini-ImageNet: W-Clustering against FOMAML, 1-shot",
    )
    ours = samples_of(found, "weight_clustering", "reptile", 1)
    theirs = samples_of(found, "fomaml_1shot", "maml", 1)
    assert len(ours) != len(theirs)
    assert effect.mean == pytest.approx(ours.mean() - theirs.mean())
    assert effect.se == pytest.approx(math.hypot(stats.sem(ours), stats.sem(theirs)))
    # The fewer of both: Welch's test never has fewer degrees of freedom.
    assert effect.n == min(len(ours), len(theirs))


@pytest.mark.parametrize(
    ("behind", "verdict"), [(1.0, "reproduced"), (2.0, "contradicted"), (-1.0, "reproduced")]
)
def test_almost_as_good_is_within_its_margin(behind: float, verdict: str, tmp_path: Path) -> None:
    """Worse by less than 1.5 points is almost as good, however certain it is that it is worse."""
    levels = {"accuracy": {"": 50.0, "_fc": 55.0, "_hv": 55.0 - behind}}
    of = made.experiment()
    made.fill(tmp_path, of, level_of(levels), kinds=("evaluation",))
    judgement = Judged(tmp_path, of).judgements["r_hv_is_almost_r_fc"]
    assert judgement.verdict == verdict
    for finding in judgement.findings:
        assert finding.effect is not None
        assert finding.effect.mean == pytest.approx(1.5 - behind, abs=0.05)


@pytest.mark.parametrize(
    ("factor", "verdict"), [(1.08, "reproduced"), (0.9, "reproduced"), (1.12, "contradicted")]
)
def test_not_appreciably_slower_is_within_its_margin(
    factor: float, verdict: str, tmp_path: Path
) -> None:
    levels = {"step_seconds": {"": 2.0, "_fc": 2.0 * factor}}
    of = made.experiment()
    made.fill(tmp_path, of, level_of(levels), 0.5, kinds=("training",))
    judgement = Judged(tmp_path, of).judgements["r_fc_is_free"]
    assert judgement.verdict == verdict
    longer = [float(finding.shown.removesuffix(" %")) for finding in judgement.findings]
    assert longer == pytest.approx([100 * (factor - 1)] * 4, abs=0.2)


def test_times_of_whole_runs_are_compared_and_not_of_steps(tmp_path: Path) -> None:
    """Here a step is as long, but there are fewer of them; one backbone is enough."""

    def level(quantity: str, run: str, where: str) -> float:
        if quantity == "steps":
            return {"r2d2_classical": 10, "resnet12_classical": 10, "r2d2_ridge": 140}.get(run, 120)
        return 2.0

    of = made.experiment(scale="paper")
    made.fill(tmp_path, of, level, kinds=("training",))
    judgement = Judged(tmp_path, of).judgements["classical_is_faster"]
    assert judgement.verdict == "reproduced"
    shown = [finding.shown for finding in judgement.findings]
    assert [float(one.removesuffix(" times faster")) for one in shown] == pytest.approx(
        [14, 12] * 2, abs=0.05
    )
    finding = judgement.findings[0]
    assert finding.effect is not None
    assert finding.effect.mean == pytest.approx(1, abs=0.05)
    # Both steps have an error of one per cent over ten stretches.
    assert finding.effect.se == pytest.approx(14 * 0.01 * math.sqrt(2 / 10), rel=0.05)


def test_a_run_timed_once_says_nothing_of_its_spread(tmp_path: Path) -> None:
    of = made.experiment(scale="paper")
    made.fill(tmp_path, of, level_of(RIGHT), kinds=("training",))
    for run in ("r2d2_classical", "resnet12_classical"):
        for dataset in made.REAL:
            path = tmp_path / f"runs/{dataset}/{run}/seed0/record.json"
            content = json.loads(path.read_text())
            content["values"]["step_seconds"] = [1.0]
            path.write_text(json.dumps(records.sealed(content)))
    found = Judged(tmp_path, of)
    for claim in ("classical_is_faster", "r_fc_is_free"):
        assert found.verdicts[claim] == "pending"
    scorecard.write(found.results, found.settings, tmp_path / "claims")


@pytest.mark.parametrize(
    ("error", "bound", "n", "verdict"),
    [
        (0.01, 0.3, 1000, "reproduced"),
        (0.0, 0.3, 1000, "reproduced"),
        (0.35, 0.3, 1000, "contradicted"),
        (0.31, 0.3, 1000, "undecided"),
        (0.31, 0.3, 100_000, "contradicted"),
        # A law that never errs in a few draws may still err.
        (0.0, 0.02, 40, "undecided"),
    ],
)
def test_the_theorem_is_judged_by_the_law_closest_to_its_bound(
    error: float, bound: float, n: int, verdict: str, tmp_path: Path
) -> None:
    """Where the bound is 1 or more, or does not hold, it says nothing."""
    values = made.theorem1(error, bound, n)
    far = {**values["rows"][0], "law": "uniform", "error": 0.0, "interval": [0, 0.001]}
    values["rows"].insert(0, {**far, "printed_bound": 0.9})
    made.write(tmp_path, made.experiment(), "simulation", values, simulation="theorem1")
    judgement = Judged(tmp_path, made.experiment()).judgements["small_variance_ratio_suffices"]
    assert judgement.verdict == verdict
    (finding,) = judgement.findings
    assert finding.shown == (
        f"closest: gaussian, error {error:.4f}, bound {bound:.4f}; 2 laws and ratios"
    )
    assert finding.effect is not None
    assert (finding.effect.mean, finding.effect.n) == (pytest.approx(bound - error), n)
    assert finding.unit == "one-shot pair"


def test_the_theorem_holds_of_its_own_simulation(tmp_path: Path) -> None:
    simulate = find("analysis.simulations", "theorem1", "simulate")
    values = simulate({"n_draws": 2000, "seed": 0})
    made.write(tmp_path, made.experiment(), "simulation", values, simulation="theorem1")
    found = Judged(tmp_path, made.experiment())
    assert found.verdicts["small_variance_ratio_suffices"] in ("reproduced", "undecided")
    (finding,) = found.judgements["small_variance_ratio_suffices"].findings
    assert finding.supports is not False
    assert finding.effect is not None
    # Of the bounds below one, not a single error was above.
    assert finding.effect.mean > 0


def test_families_of_the_papers_claims_are_their_tables(judged: Worlds) -> None:
    found = judged("right")
    sizes: dict[str, int] = {}
    for judgement in found.judgements.values():
        tests = sum(finding.effect is not None for finding in judgement.findings)
        sizes[judgement.claim.family] = sizes.get(judgement.claim.family, 0) + tests
    for judgement in found.judgements.values():
        for one in judgement.findings:
            if one.effect is not None:
                assert one.n_tests == sizes[judgement.claim.family]
