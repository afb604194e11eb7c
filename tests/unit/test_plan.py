"""What a scale takes before it starts, and what of it fits into a budget."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline import config_files, jobs
from pipeline.advice.durations import Known
from pipeline.advice.plan import answer, costs, parts, speed
from pipeline.advice.plan.choice import Choice, choose
from pipeline.advice.plan.costs import Costs
from pipeline.advice.plan.estimates import (
    EARLIER,
    NOW,
    PARTS,
    SCALED,
    START,
    UNKNOWN,
    Cost,
    Estimates,
)
from pipeline.advice.plan.serves import Comparison, comparisons
from pipeline.advice.workflow import Job
from pipeline.errors import UserError

HEADER = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def demo() -> Any:
    return config_files.load({"scale": "demo"})


# Which trainings a claim rests on


def test_claims_rest_on_what_their_comparisons_compare(demo: Any) -> None:
    found: dict[str, set[tuple[str, str]]] = {}
    for one in comparisons(demo):
        found.setdefault(one.claim, set()).update((data, run) for data, run, _ in one.trainings)
    both = ("synthetic_cifar_fs", "synthetic_mini_imagenet")
    assert found["protonet_separates_better"] == {
        (data, run) for data in both for run in ("conv64_protonet", "conv64_classical")
    }
    assert found["maml_does_not_cluster"] == {
        (both[1], run) for run in ("maml_1shot", "maml_5shot", "maml_classical")
    }
    assert ("synthetic_cifar_fs", "r2d2_classical_hv") not in found["r_fc_improves_transfer"]
    # A comparison of times needs the two runs that it compares, not all that were timed.
    assert {run for _, run in found["classical_is_faster"]} == {
        *("r2d2_ridge", "r2d2_classical", "resnet12_svm", "resnet12_classical"),
    }
    # What is simulated needs no training.
    assert "small_variance_ratio_suffices" not in found


def test_every_comparison_is_of_trainings_that_there_are(demo: Any) -> None:
    trainings = set(demo.trainings())
    for one in comparisons(demo):
        assert one.trainings
        assert one.trainings <= trainings
        assert one.value > 0


def test_a_claim_counts_as_one_and_further_seeds_add_less() -> None:
    experiment = config_files.load({"scale": "demo", "seeds": 3})
    values: dict[tuple[str, int], float] = {}
    for one in comparisons(experiment):
        seeds = {seed for _, _, seed in one.trainings}
        if len(seeds) == 1:
            key = one.claim, seeds.pop()
            values[key] = values.get(key, 0.0) + one.value
    for (_, seed), value in values.items():
        assert value == pytest.approx(1 / (seed + 1))


def test_a_similarity_needs_all_twins_and_all_seeds() -> None:
    experiment = config_files.load({"scale": "demo", "seeds": 2})
    found = [one for one in comparisons(experiment) if one.claim == "r_fc_is_closer_to_meta"]
    for one in found:
        assert {seed for _, _, seed in one.trainings} == {0, 1}
        assert {"r2d2_classical_hv", "resnet12_classical_hv"} & {run for _, run, _ in one.trainings}


def test_what_a_scale_leaves_out_decides_nothing() -> None:
    """Without one side of a comparison the other is no reason to train."""
    runs = {"runs": {"reptile_classical": {"datasets": ["mini_imagenet"]}}}
    experiment = config_files.load({"scale": "demo", **runs})
    found = [
        one for one in comparisons(experiment) if one.claim == "weight_clustering_beats_others"
    ]
    assert {data for one in found for data, _, _ in one.trainings} == {"synthetic_mini_imagenet"}


# The choice

A, B, C, D = (("data", name, 0) for name in "abcd")


def compare(claim: str, value: float, *trainings: tuple[str, str, int]) -> Comparison:
    return Comparison(claim, claim, frozenset(trainings), value)


def test_what_adds_most_per_hour_comes_first() -> None:
    rests = [compare("dear", 1.0, A), compare("cheap", 1.0, B), compare("both", 1.0, A, B)]
    choice = choose({A: 10.0, B: 1.0}, rests, 20.0)
    assert choice.chosen == [B, A]
    assert choice.because == {B: ["cheap"], A: ["dear", "both"]}
    assert choice.decided == {"dear": 1, "cheap": 1, "both": 1}
    assert choice.left_out == {}
    assert choice.seconds == 11.0


def test_a_pair_is_taken_together_or_not_at_all() -> None:
    rests = [compare("pair", 1.0, A, B), compare("single", 0.01, C)]
    assert choose({A: 5.0, B: 5.0, C: 5.0}, rests, 10.0).chosen == [A, B]
    choice = choose({A: 5.0, B: 5.0, C: 5.0}, rests, 9.0)
    assert choice.chosen == [C]
    assert choice.left_out == dict.fromkeys([A, B], "too long for the time that is left")
    choice = choose({A: 1.0, B: 9.0, C: 5.0}, rests, 9.0)
    assert choice.left_out[A] == "of no use without b, for which there is no time besides"


def test_what_is_there_costs_nothing_and_completes_pairs() -> None:
    choice = choose({A: 0.0, B: 3.0}, [compare("pair", 1.0, A, B)], 3.0)
    assert (choice.chosen, choice.decided, choice.seconds) == ([B], {"pair": 1}, 3.0)


def test_what_serves_no_claim_comes_last() -> None:
    rests = [compare("claim", 1.0, A)]
    choice = choose({A: 5.0, D: 1.0}, rests, 6.0)
    assert (choice.chosen, choice.because[D]) == ([A, D], [])
    assert choose({A: 5.0, D: 2.0}, rests, 6.0).left_out == {D: "not needed for any claim"}
    # Not in the place of what serves one but does not fit.
    assert choose({A: 9.0, D: 2.0}, rests, 6.0).chosen == []


@given(
    st.lists(st.floats(0.0, 10.0), min_size=6, max_size=6),
    st.lists(
        st.tuples(st.frozensets(st.integers(0, 5), min_size=1, max_size=3), st.floats(0.1, 1.0)),
        max_size=8,
    ),
    st.floats(0.0, 40.0),
)
def test_a_choice_fits_and_leaves_nothing_unsaid(
    seconds: list[float], edges: list[tuple[frozenset[int], float]], budget: float
) -> None:
    names = [("data", f"run{n}", 0) for n in range(6)]
    prices = dict(zip(names, seconds, strict=True))
    rests = [
        compare(f"claim{n}", value, *(names[one] for one in edge))
        for n, (edge, value) in enumerate(edges)
    ]
    choice: Choice = choose(prices, rests, budget)
    assert sum(prices[one] for one in choice.chosen) == pytest.approx(choice.seconds)
    assert choice.seconds <= budget + 1e-9
    there = {one for one in names if prices[one] == 0}
    assert {*choice.chosen} | {*choice.left_out} | there == set(names)
    assert not {*choice.chosen} & {*choice.left_out}
    have = {*choice.chosen} | there
    for one in rests:
        lacking = sum(prices[o] for o in one.trainings - have)
        # Whatever could still be completed was.
        assert one.trainings <= have or choice.seconds + lacking > budget


# Costs


class Pretended:
    """A machine on which an image takes a millisecond, a step a second, and a start ten."""

    def step(self, settings: Any, image_size: int) -> speed.Step:
        return speed.Step(1.0, 3, 1.0)

    def passes(self, settings: Any, image_size: int) -> speed.Passes:
        return speed.Passes(forward=0.001, both=0.003, n_features=100, n_parameters=1000)

    def start(self, module: str) -> float:
        return 10.0

    def product(self) -> float:
        return 1e-9

    def episode(self, head: Any, n_way: int, n_shot: int, n_query: int) -> float:
        return 1e-3 * n_shot

    def pair(self, n_features: int) -> float:
        return 1e-5 * n_features

    def plane(self, n_classes: int, n_images: int, n_features: int) -> float:
        return 1e-4 * n_images

    def image(self, settings: Any) -> float:
        return 1e-3


def estimated(experiment: Any) -> Costs:
    return Costs(experiment, Known(), Estimates(experiment, Pretended(), Pretended()))


def a_job(experiment: Any, rule: str, run: str, dataset: str = "synthetic_cifar_fs") -> Job:
    names = {"dataset": dataset, "run": run, "seed": 0}
    if rule == "compare":
        del names["seed"]
    settings = jobs.settings(experiment, rule, **names)
    place = f"{dataset}/{run}/seed0"
    return Job(
        rule,
        (),
        (f"results/demo/{rule}/{place}/record.json",),
        "",
        f"logs/demo/{rule}/{place}.tsv",
        4000,
        f"{rule} --settings '{jobs.dumps(settings)}'",
    )


def timed(path: Path, seconds: float, rss: str = "100.0") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{HEADER}{seconds}\t0:00:01\t{rss}\t1\t1\t1\t1\t1\t1\t1\n")


def test_what_was_measured_goes_before_what_is_estimated(demo: Any, here: Path) -> None:
    job = a_job(demo, "embed", "r2d2_ridge")
    found = estimated(demo)
    assert found.of(job).source == SCALED
    timed(here / "logs/demo/embed/synthetic_cifar_fs/r2d2_ridge/seed7.tsv", 7.0)
    assert found.of(job) == Cost(7.0, EARLIER)
    timed(here / "logs/demo/embed/synthetic_cifar_fs/r2d2_ridge/seed0.tsv", 5.0)
    # Read once, so that one answer speaks of one state.
    assert Costs(demo, Known()).of(job).source == EARLIER


def test_another_seed_of_a_training_that_was_interrupted_takes_all_of_its_time(
    demo: Any, here: Path
) -> None:
    job = a_job(demo, "train", "r2d2_ridge")
    # The benchmark file is of the last part.
    timed(here / "logs/demo/train/synthetic_cifar_fs/r2d2_ridge/seed7.tsv", 30.0)
    record = here / "results/demo/train/synthetic_cifar_fs/r2d2_ridge/seed7/record.json"
    record.parent.mkdir(parents=True)
    record.write_text('{"wall_s": 7200.0}')
    assert estimated(demo).of(job) == Cost(7200.0, EARLIER)


def test_a_training_is_its_steps_and_its_validations(demo: Any, here: Path) -> None:
    found = estimated(demo)
    # Two validations, of 16 x 200 images.
    cost = found.of(a_job(demo, "train", "r2d2_classical"))
    steps = demo.runs["r2d2_classical"].training.steps
    assert cost == Cost(pytest.approx(10 + steps + 2 * 3200 * 0.001), NOW)
    # Two, of 5 episodes of 10 steps on 5 images, and 5 x 5 queries.
    cost = found.of(a_job(demo, "train", "maml_1shot"))
    steps = demo.runs["maml_1shot"].training.steps
    assert cost == Cost(pytest.approx(10 + steps + 2 * 5 * (10 * 5 * 0.003 + 25 * 0.001)), NOW)


def test_features_take_a_pass_of_each_image(demo: Any, here: Path) -> None:
    cost = estimated(demo).of(a_job(demo, "embed", "r2d2_ridge"))
    assert cost == Cost(pytest.approx(10 + (20 * 200 + 64 * 30) * 0.001), SCALED)


def test_fine_tuning_takes_its_steps_and_looks(demo: Any, here: Path) -> None:
    experiment = config_files.load(
        {"scale": "demo", "runs": {"r2d2_ridge": {"fine_tuners": ["maml_fresh"]}}}
    )
    cost = estimated(experiment).of(a_job(experiment, "adapt", "r2d2_ridge"))
    # At each shot: ten steps on the support, which is looked at twice, and queries.
    one = sum(10 * n * 0.003 + (75 + 2 * n) * 0.001 for n in (5, 25))
    n_episodes = experiment.adaptations["maml_fresh"].n_episodes
    assert cost == Cost(pytest.approx(10 + n_episodes * one), SCALED)


def test_what_is_done_of_features_is_the_sum_of_its_parts(demo: Any, here: Path) -> None:
    found = estimated(demo)
    novel, base = 20 * 200, 64 * 30
    # Three heads at one shot and at five, a thousand episodes each, from one Gram matrix.
    cost = found.of(a_job(demo, "evaluate", "r2d2_ridge"))
    assert cost == Cost(pytest.approx(10 + 1000 * 3 * 6e-3 + novel**2 * 100 * 1e-9), PARTS)
    cost = found.of(a_job(demo, "measure", "r2d2_ridge"))
    assert cost == Cost(pytest.approx(10 + 2 * 2000 * 1e-3), PARTS)
    # The run and its three twins.
    cost = found.of(a_job(demo, "compare", "r2d2_ridge"))
    assert cost == Cost(pytest.approx(10 + 4 * (novel**2 + base**2) * 100 * 1e-9), PARTS)
    # 30 images of a class are shown, and the plane is fitted to the 170 others, too.
    cost = found.of(a_job(demo, "project", "conv64_protonet"))
    assert cost == Cost(pytest.approx(10 + 20 * (30 + 170) * 1e-4), PARTS)


def other_job(rule: str, command: str = "", **settings: Any) -> Job:
    command = f"{command} --settings '{json.dumps(settings)}'"
    return Job(rule, (), (command,), "", None, None, command)


def test_generated_images_can_be_told_but_not_a_download(demo: Any) -> None:
    found = estimated(demo)
    generated = jobs.settings(demo, "pack", dataset="synthetic_cifar_fs")
    assert found.of(other_job("pack", **generated)) == Cost(pytest.approx(10 + 20.0), PARTS)
    real = jobs.settings(demo, "pack", dataset="cifar_fs")
    assert found.of(other_job("pack", **real)) == Cost(None, UNKNOWN)
    assert found.of(other_job("fetch")) == Cost(None, UNKNOWN)
    assert found.of(other_job("fetch", "fetch --path a.zip")).seconds == 0
    assert found.of(other_job("table", table="table3")) == Cost(10.0, START)


def test_jobs_of_one_kind_are_alike_at_one_scale_alone(demo: Any, here: Path) -> None:
    measured, trained = (a_job(demo, rule, "r2d2_ridge") for rule in ("measure", "train"))
    for rule in ("measure", "train"):
        timed(here / f"logs/small/{rule}/cifar_fs/r2d2_ridge/seed0.tsv", 9.0)
    assert Costs(demo, Known()).of(measured) == Cost(None, UNKNOWN)
    for rule in ("measure", "train"):
        timed(here / f"logs/demo/{rule}/synthetic_cifar_fs/reptile/seed0.tsv", 7.0)
    assert Costs(demo, Known()).of(measured) == Cost(7.0, "as the median of other measurements")
    assert Costs(demo, Known()).of(trained) == Cost(None, UNKNOWN)


def test_disk_is_what_arrays_take(demo: Any, here: Path) -> None:
    found = estimated(demo)
    n_images = 20 * 200 + 64 * 30
    assert found.disk(a_job(demo, "embed", "r2d2_ridge")) == n_images * (4 * 100 + 8)
    assert found.disk(a_job(demo, "train", "r2d2_classical")) == 4 * (1000 + 64 * 100)
    assert found.disk(a_job(demo, "train", "reptile")) == 2 * 4 * (1000 + 5 * 100)
    assert found.disk(a_job(demo, "evaluate", "reptile")) is None


def test_memory_is_the_most_that_was_seen(here: Path) -> None:
    assert costs.max_memory(Path("logs"), "demo") is None
    timed(here / "logs/demo/train/a.tsv", 1.0, "50.0")
    timed(here / "logs/demo/embed/d/a.tsv", 1.0, "70.5")
    timed(here / "logs/demo/embed/d/b.tsv", 1.0, "NA")
    timed(here / "logs/small/embed/d/a.tsv", 1.0, "700.5")
    assert costs.max_memory(Path("logs"), "demo") == 70.5


# Steps just now


def settings_of(demo: Any, run: str, **training: Any) -> dict[str, Any]:
    found = jobs.settings(demo, "train", dataset="synthetic_cifar_fs", run=run, seed=0)
    return {**found, "algorithm": {**found["algorithm"], **training}}


def test_a_kind_is_what_the_time_of_a_step_depends_on(demo: Any) -> None:
    base = speed.kind(settings_of(demo, "r2d2_ridge"), 32)
    assert speed.kind(settings_of(demo, "r2d2_ridge", lr=7.0, steps=9, validations=1), 32) == base
    assert speed.kind(settings_of(demo, "r2d2_ridge", meta_batch=3), 32) != base
    assert speed.kind(settings_of(demo, "r2d2_ridge"), 84) != base
    weak, strong, none = (
        speed.kind(settings_of(demo, "weight_clustering", coefficient=one), 32)
        for one in (1e-5, 1.0, 0)
    )
    assert weak == strong != none


@pytest.mark.parametrize(
    ("run", "changes", "images"),
    [
        ("r2d2_classical", {"batch_size": 64}, 64),
        ("r2d2_ridge", {"meta_batch": 2, "n_way": 5, "n_shot": 5, "n_query": 6}, 2 * 5 * 11),
        (
            "maml_1shot",
            {"meta_batch": 4, "n_way": 5, "n_shot": 1, "inner_steps": 5, "n_query": 15},
            4 * (5 * 5 + 75),
        ),
        (
            "reptile",
            {"meta_batch": 5, "inner_steps": 8, "batch_size": 10, "n_way": 5, "n_shot": 15},
            400,
        ),
    ],
)
def test_the_load_of_a_step(run: str, changes: dict[str, Any], images: int, demo: Any) -> None:
    assert speed.load(settings_of(demo, run, **changes)["algorithm"]) == images


@pytest.mark.parametrize("run", ["r2d2_classical", "r2d2_ridge", "maml_1shot", "weight_clustering"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_a_smaller_step_is_one_that_can_be_taken(run: str, share: float, demo: Any) -> None:
    paper = config_files.load(
        {"scale": "demo", "runs": {run: {"training": {"n_shot": 15}}}}
        if run == "r2d2_ridge"
        else {"scale": "demo"}
    )
    whole = settings_of(paper, run)["algorithm"]
    small = speed.reduced(whole, share)
    assert 0 < speed.load(small) <= speed.load(whole)
    assert small.keys() == whole.keys()
    if share == 1.0:
        assert small == whole
    if "n_query" in small:
        assert min(small["n_shot"], small["n_query"], small["meta_batch"]) >= 1
        assert small["n_shot"] + small["n_query"] <= speed._IMAGES_PER_CLASS
    else:
        assert small["batch_size"] % 4 == 0
    if run == "weight_clustering":
        assert small["meta_batch"] >= 2


@pytest.mark.parametrize(
    "run", ["r2d2_classical_fc", "r2d2_ridge", "maml_1shot", "weight_clustering"]
)
def test_steps_of_every_algorithm_can_be_timed(run: str, tiny_settings: Any) -> None:
    settings = tiny_settings(run)
    with speed.Speed(torch.device("cpu"), 1, budget_s=1.0) as measured:
        step, passes = measured.step(settings, 16), measured.passes(settings, 16)
        assert measured.step({**settings, "seed": 1}, 16) is step
        assert measured.passes(settings, 16) is passes
    assert step.seconds > 0
    assert step.n in (1, 3)
    assert 0 < step.share <= 1
    assert passes.forward > 0
    assert passes.n_features > 0


def test_parts_are_timed_once(demo: Any) -> None:
    measured = parts.Parts(torch.device("cpu"))
    head = {"name": "ridge", "options": {"regularization": 50.0}}
    generated = jobs.settings(demo, "pack", dataset="synthetic_mini_imagenet")
    every: list[tuple[Any, tuple[Any, ...]]] = [
        (measured.start, ("pipeline.canonical",)),
        (measured.product, ()),
        (measured.episode, (head, 5, 1, 15)),
        (measured.pair, (64,)),
        (measured.plane, (3, 30, 64)),
        (measured.image, (generated,)),
    ]
    for part, given_ in every:
        seconds = part(*given_)
        assert seconds > 0
        assert part(*given_) == seconds
    assert len(measured.known) == len(every)
    assert measured.pair(128) != measured.pair(64)


# The answer


def planned(experiment: Any, monkeypatch: pytest.MonkeyPatch, budget: str | None = None) -> str:
    """A plan of trainings, features and evaluations of three runs, all timed earlier but one."""
    run = []
    for name in ("r2d2_ridge", "r2d2_classical", "weight_clustering_0"):
        for rule in ("train", "embed", "evaluate"):
            if name == "weight_clustering_0" and rule != "train":
                continue
            job = a_job(experiment, rule, name)
            folder = {"train": "runs", "embed": "features", "evaluate": "evals"}[rule]
            end = ".json" if rule == "evaluate" else "/record.json"
            place = f"results/demo/{folder}/synthetic_cifar_fs/{name}/seed0{end}"
            job = Job(job.rule, (), (place,), "", job.benchmark, 4000, job.command)
            timed(Path(str(job.benchmark)), {"train": 600.0, "embed": 60.0, "evaluate": 30.0}[rule])
            run.append(job)
    monkeypatch.setattr(answer, "pending", lambda *_: run)
    monkeypatch.setattr(answer, "overrides", lambda _: {"scale": "demo"})
    return answer.plan("demo", budget)


def test_a_plan_says_what_and_from_where(
    demo: Any, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = here / "results/demo/runs/synthetic_cifar_fs/reptile/seed0/record.json"
    there.parent.mkdir(parents=True)
    there.touch()
    lines = planned(demo, monkeypatch).splitlines()
    assert lines[0] == "Scale demo: 7 jobs to do, about 33 min if one runs after the other."
    assert lines[1].startswith("1 of its 217 records, tables, figures and pages are there")
    rows = {line.split()[2]: line for line in lines if line.endswith(EARLIER)}
    assert rows.keys() == {"trainings", "embeddings", "evaluations"}
    assert rows["trainings"].split()[:5] == ["3", "1", "trainings", "30", "min"]
    assert "Training, fine-tuning and embedding are 32 min of it." in lines
    assert lines[-1] == "Memory: a job held 100 MB at the most in earlier runs of this scale."


def test_what_is_not_in_the_sum_is_said_at_the_top(
    demo: Any, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = [other_job("pack", source=one) for one in ("cifar_fs", "mini_imagenet")]
    run += [other_job("fetch"), other_job("fetch", "fetch --path a.zip")]
    monkeypatch.setattr(answer, "pending", lambda *_: run)
    monkeypatch.setattr(answer, "overrides", lambda _: {"scale": "demo"})
    monkeypatch.setattr(Costs, "disk", lambda *_: None)
    first, *_, end = answer.plan("demo").partition("\n")
    assert first == (
        "Scale demo: 4 jobs to do, about 0 s if one runs after the other, not counting "
        "2 packings, 1 download, whose length cannot be told before."
    )
    assert "Disk: packed images unknown" in end


def test_a_plan_of_a_finished_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer, "pending", lambda *_: [])
    monkeypatch.setattr(answer, "overrides", lambda _: {"scale": "demo"})
    assert answer.plan("demo") == "Scale demo: everything is there and current."


def test_a_budget_gives_a_command_to_paste(
    demo: Any, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = planned(demo, monkeypatch, "24m")
    part = said[said.index("Into 24 min fit ") :]
    assert "r2d2_classical + r2d2_ridge (synthetic_cifar_fs, seed 0): for " in part
    assert "1 training of weight_clustering_0: not needed for any claim" in part
    command = part[part.index("snakemake --cores all") :].replace("\\\n", " ").split()
    assert command == [
        *("snakemake", "--cores", "all"),
        "results/demo/evals/synthetic_cifar_fs/r2d2_ridge/seed0.json",
        "results/demo/evals/synthetic_cifar_fs/r2d2_classical/seed0.json",
        *("--config", "scale=demo"),
        *("python", "-m", "pipeline", "report", "--", "--config", "scale=demo"),
    ]
    # What is left over goes to what serves no claim, whose record is a target of its own.
    said = planned(demo, monkeypatch, "1h")
    assert "weight_clustering_0 (synthetic_cifar_fs, seed 0): not needed for any claim, but" in said
    assert (
        "    results/demo/runs/synthetic_cifar_fs/weight_clustering_0/seed0/record.json \\" in said
    )


def test_a_budget_into_which_nothing_fits(
    demo: Any, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        UserError,
        match="claim fits into 60 s; the least is r2d2_classical \\+ r2d2_classical_fc .*12 min",
    ):
        planned(demo, monkeypatch, "1m")
    with pytest.raises(UserError, match="is no time; write it as"):
        answer.plan("demo", "soon")


def test_settings_of_a_job_are_its_own(demo: Any) -> None:
    job = a_job(demo, "train", "reptile")
    assert json.loads(jobs.dumps(job.settings)) == jobs.settings(
        demo, "train", dataset="synthetic_cifar_fs", run="reptile", seed=0
    )
