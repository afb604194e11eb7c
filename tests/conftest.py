"""What all tests share: a tiny packed data set and tiny runs on it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline import config_files, jobs
from pipeline.data.packing import pack
from pipeline.data.synthetic import Synthetic

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of generated images, 16 pixels wide."""
    folder = tmp_path_factory.mktemp("packed")
    pack(Synthetic(image_size=16, images_per_class=20), "tiny", folder, workers=1)
    return folder


# Each algorithm's smallest training that does all it can do.
TINY: dict[str, Any] = {
    "datasets": {
        "tiny": {
            "source": "synthetic",
            "stands_for": "cifar_fs",
            "image_size": 16,
            "images_per_class": 20,
        }
    },
    "roles": {"cifar_fs": "tiny"},
    "projection": {"n_images": 4},
}
BACKBONES: dict[str, dict[str, Any]] = {
    "r2d2": {"width": 0.05},
    "resnet12": {"width": 0.03, "ramp_passes": 10},
    "conv4": {"width": 0.1},
}
ALGORITHMS: dict[str, dict[str, Any]] = {
    "classical": {},
    "episodic": {"meta_batch": 2, "n_shot": 3, "n_query": 3, "validation_episodes": 20},
    "maml": {"meta_batch": 2, "n_query": 3, "inner_steps": 2, "validation_episodes": 4},
    "reptile": {
        "meta_batch": 2,
        "n_shot": 4,
        "inner_steps": 3,
        "validation_steps": 3,
        "validation_episodes": 4,
    },
}


@pytest.fixture
def tiny_settings() -> Callable[..., dict[str, Any]]:
    """Settings of a short training on ``packed``, with changes to the run's own."""

    def settings(run: str, **training: Any) -> dict[str, Any]:
        whole = config_files.load().runs[run]
        changes = {
            "datasets": ["cifar_fs"],
            "backbone": BACKBONES[whole.backbone.name],
            "training": {
                "steps": 12,
                "validations": 3,
                **ALGORITHMS[whole.training.algorithm],
                **training,
            },
        }
        experiment = config_files.load(config_files.merged(TINY, {"runs": {run: changes}}))
        return jobs.settings(experiment, "train", dataset="tiny", run=run, seed=0)

    return settings
