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


@pytest.fixture
def tiny_settings() -> Callable[..., dict[str, Any]]:
    """Settings of a short training on ``packed``, with changes to the run's own."""

    def settings(run: str, **training: Any) -> dict[str, Any]:
        tiny: dict[str, Any] = {
            "datasets": {
                "tiny": {
                    "source": "synthetic",
                    "stands_for": "cifar_fs",
                    "image_size": 16,
                    "images_per_class": 20,
                }
            },
            "roles": {"cifar_fs": "tiny"},
            "width": {"r2d2": 0.05},
        }
        if run == "r2d2_ridge":
            training = {"n_shot": 3, "n_query": 3, "validation_episodes": 20, **training}
        experiment = config_files.load(
            config_files.merged(
                tiny, {"runs": {run: {"training": {"steps": 12, "validations": 3, **training}}}}
            )
        )
        return jobs.settings(experiment, "train", dataset="tiny", run=run, seed=0)

    return settings
