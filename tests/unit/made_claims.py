"""Records by which the paper's claims are all right, all wrong, or undecided; and their verdicts."""

from pathlib import Path
from typing import Any

import made_records as made

from pipeline import jobs
from pipeline.config.experiment import Experiment
from pipeline.report.claims.statements import CLAIMS
from pipeline.report.claims.verdicts import Finding, judge
from pipeline.report.results import Results

# How many comparisons each claim rests on where all data is there, and how many of them on data
# on which the paper makes it.
COMPARISONS = {
    "meta_is_better_with_every_fine_tuner": (32, 32),
    "meta_clusters_features": (4, 4),
    "meta_steadies_hyperplanes": (4, 4),
    "small_variance_ratio_suffices": (1, 1),
    "protonet_separates_better": (2, 1),
    "r_fc_improves_transfer": (8, 8),
    "r_fc_can_beat_meta": (8, 8),
    "r_hv_improves_transfer": (8, 8),
    "r_hv_is_almost_r_fc": (8, 8),
    "r_fc_is_closer_to_meta": (4, 4),
    "classical_is_faster": (4, 4),
    "r_fc_is_free": (4, 4),
    "maml_does_not_cluster": (4, 4),
    "weight_clustering_beats_reptile": (4, 2),
    "weight_clustering_beats_others": (6, 4),
    "coefficients_around_it_help_too": (4, 4),
    "weight_clustering_travels_less": (4, 2),
    "last_layer_models_move_for_little": (16, 8),
}
ANY = {"r_fc_can_beat_meta", "classical_is_faster"}
# Of CIFAR-FS alone they cannot be judged: their runs are not trained on it.
MINI_ALONE = {"maml_does_not_cluster", "coefficients_around_it_help_too"}

# Levels by which all claims are right, and all are wrong.
RIGHT = {
    "accuracy": {"": 50, "r2d2_ridge": 53, "resnet12_svm": 53, "_fc": 55, "_hv": 54,
                 "reptile": 53, "fomaml": 52, "reptile_classical": 51,
                 "weight_clustering": 58, "weight_clustering_5em": 56},
    "r_fc_released": {"": 2, "r2d2_ridge": 1, "resnet12_svm": 1, "maml": 3, "maml_classical": 2},
    "r_hv_released": {"": 2, "r2d2_ridge": 1, "resnet12_svm": 1, "maml": 3, "maml_classical": 2},
    "ratios": {"": 2, "conv64_protonet": 1},
    "cka": {"": 0.6, "_fc": 0.8},
    "distance": {"": 4, "reptile": 3, "weight_clustering": 2},
    "loss_before": {"": 2},
    "loss_after": {"": 1.5, "reptile": 0.5},
    "step_seconds": {"": 1, "r2d2_ridge": 15, "resnet12_svm": 12, "_fc": 1.05},
    "error": {"": 0.01}, "bound": {"": 0.3},
}  # fmt: skip
WRONG = {
    "accuracy": {"": 50, "r2d2_ridge": 47, "resnet12_svm": 47, "_fc": 45, "_hv": 42,
                 "reptile": 53, "fomaml": 52, "reptile_classical": 51,
                 "weight_clustering": 48, "weight_clustering_5em": 51},
    "r_fc_released": {"": 2, "r2d2_ridge": 3, "resnet12_svm": 3, "maml": 1, "maml_classical": 2},
    "r_hv_released": {"": 2, "r2d2_ridge": 3, "resnet12_svm": 3, "maml": 1, "maml_classical": 2},
    "ratios": {"": 2, "conv64_protonet": 3},
    "cka": {"": 0.6, "_fc": 0.5},
    "distance": {"": 2, "reptile": 3, "weight_clustering": 4},
    "loss_before": {"": 2},
    "loss_after": {"": 0.5, "reptile": 1.5},
    "step_seconds": {"": 1, "r2d2_ridge": 9, "resnet12_svm": 12, "_fc": 1.2},
    "error": {"": 0.6}, "bound": {"": 0.3},
}  # fmt: skip
# All models alike, but where a claim allows for a margin: there they are at its edge.
ALIKE = {
    "step_seconds": {"": 1, "r2d2_ridge": 13, "resnet12_svm": 13, "_fc": 1.1},
    "error": {"": 0.01}, "bound": {"": 0.0101},
}  # fmt: skip


def level_of(levels: dict[str, dict[str, float]]) -> made.Level:
    """The level of the longest name that a run's begins or ends with; others are one."""

    def level(quantity: str, run: str, _: str) -> float:
        if quantity == "steps":
            return 100.0
        of_runs = levels.get(quantity, {"": 50.0 if quantity == "accuracy" else 1.0})
        fits = [name for name in of_runs if run.startswith(name) or run.endswith(name)]
        return of_runs[max(fits, key=len)]

    return level


class Judged:
    """The verdicts on an experiment's records."""

    def __init__(self, folder: Path, of: Experiment) -> None:
        self.folder, self.of = folder, of
        self.settings = jobs.settings(of, "claims")
        self.results = Results(folder, self.settings)
        self.judgements = {one.claim.id: one for one in judge(CLAIMS, self.results, self.settings)}

    @property
    def verdicts(self) -> dict[str, str]:
        return {name: one.verdict for name, one in self.judgements.items()}

    @property
    def findings(self) -> list[Finding]:
        return [finding for one in self.judgements.values() for finding in one.findings]


class Worlds:
    """What is judged in a test module, each made once below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.known: dict[tuple[str, str, str, int], Judged] = {}

    def __call__(
        self, name: str, roles: str = "real", scale: str = "paper", seeds: int = 1
    ) -> Judged:
        """``name`` is that of the levels; what is "absent" has no records at all."""
        key = (name, roles, scale, seeds)
        if key not in self.known:
            experiment = made.experiment(ROLES[roles], scale=scale, seeds=seeds)
            folder = self.folder / "-".join(map(str, key))
            folder.mkdir()
            if name in LEVELS:
                levels, spread = LEVELS[name]
                made.fill(folder, experiment, level_of(levels), spread)
            self.known[key] = Judged(folder, experiment)
        return self.known[key]


ROLES = {"real": made.REAL, "stand_ins": made.STAND_INS, "cifar_fs": {"cifar_fs": "cifar_fs"}}
LEVELS: dict[str, tuple[Any, float]] = {
    "right": (RIGHT, 1.0),
    "wrong": (WRONG, 1.0),
    # Even 1.5 points are within the noise.
    "neither": (ALIKE, 60.0),
}
