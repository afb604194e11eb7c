"""Few-shot accuracy of one model with every frozen-feature head, on shared episodes."""

import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.dlpack import from_dlpack

from pipeline import records
from pipeline.analysis.features import Features
from pipeline.data.episodes import sample, stream
from pipeline.heads.scoring import Head, correct, gram
from pipeline.machine import describe
from pipeline.plugins import find


def evaluate(
    settings: dict[str, Any], code: str, features: Path, out: Path, device: torch.device
) -> None:
    """Write a record of how many queries of each episode each head gets right.

    All heads and shots of one model share one Gram matrix of the novel images. Episodes
    depend on the data set and the evaluation seed, never on the model, so differences
    between models can be paired episode by episode.
    """
    started = time.monotonic()
    source = Features(features, settings)
    embedded, labels = source.split("novel")
    products = gram(from_dlpack(embedded).to(device))
    heads: dict[str, Head] = {
        head["name"]: partial(find("heads", head["name"], "logits"), **head["options"])
        for head in settings["heads"]
    }
    protocol = settings["episodes"]
    values: dict[str, Any] = {"n_queries": protocol["n_way"] * protocol["n_query"], "correct": {}}
    for n_shot in protocol["n_shots"]:
        episodes = sample(
            labels,
            n_way=protocol["n_way"],
            n_shot=n_shot,
            n_query=protocol["n_query"],
            n_episodes=protocol["n_episodes"],
            seed=protocol["seed"],
            stream=stream(settings["dataset"], protocol["n_way"], n_shot),
        )
        counts = correct(products, episodes, heads)
        values["correct"][str(n_shot)] = {name: part.tolist() for name, part in counts.items()}
    records.write(
        out,
        "evaluation",
        settings,
        code=code,
        sources=source.record.sources,
        device=describe(device),
        wall_s=time.monotonic() - started,
        values=values,
    )
