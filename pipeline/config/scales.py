"""Budgets: all that a scale may change."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipeline.config.fields import Count, Name, Positive, Strict

Roles = Annotated[
    dict[Name, Name],
    Field(description="Which data set takes the place of each of the paper's."),
]


class BackboneBudget(Strict):
    width: Positive | None = None


class ResNet12Budget(BackboneBudget):
    ramp_passes: Count | None = None


class BackboneBudgets(Strict):
    r2d2: BackboneBudget = BackboneBudget()
    resnet12: ResNet12Budget = ResNet12Budget()
    conv4: BackboneBudget = BackboneBudget()


class AlgorithmBudget(Strict):
    steps: Count | None = None
    validations: Count | None = None


class EpisodeBudget(AlgorithmBudget):
    meta_batch: Count | None = None
    n_shot: Count | None = None
    n_query: Count | None = None
    validation_episodes: Count | None = None


class AlgorithmBudgets(Strict):
    classical: AlgorithmBudget = AlgorithmBudget()
    episodic: EpisodeBudget = EpisodeBudget()
    maml: EpisodeBudget = EpisodeBudget()
    reptile: EpisodeBudget = EpisodeBudget()


class AdaptationBudget(Strict):
    n_episodes: Count | None = None
    n_query: Count | None = None


class EvaluationBudget(Strict):
    n_episodes: Count | None = None


class MeasurementBudget(Strict):
    n_pairs: Count | None = None
    base_images_per_class: Count | None = None


class ProjectionBudget(Strict):
    n_images: Count | None = None
    n_draws: Count | None = None


class SimulationBudget(Strict):
    n_draws: Count | None = None


class SimulationBudgets(Strict):
    theorem1: SimulationBudget = SimulationBudget()
    boundaries: SimulationBudget = SimulationBudget()


class Scale(Strict):
    """``scales/<scale>.yaml``: budgets and data, never the experiment itself."""

    roles: Roles
    optional: tuple[Name, ...] = Field(
        (), description="Roles that are left out where the user has named no copy of the data."
    )
    seeds: Count
    backbones: BackboneBudgets = BackboneBudgets()
    algorithms: AlgorithmBudgets = AlgorithmBudgets()
    adaptations: dict[Name, AdaptationBudget] = {}
    evaluation: EvaluationBudget = EvaluationBudget()
    measurement: MeasurementBudget = MeasurementBudget()
    projection: ProjectionBudget = ProjectionBudget()
    simulations: SimulationBudgets = SimulationBudgets()
