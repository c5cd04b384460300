"""Control: the callables that train language models train a policy over segments; what a run folder owes its user."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from equipoise.core.objectives import Dpo
from equipoise.methods.index import get
from equipoise.play.round import play, play_round
from equipoise.play.state import INITIAL, START
from equipoise.report.run.listing import runs
from equipoise.run.config import ConfigError
from equipoise.run.session import align
from equipoise.worlds.scored.fit import Fit, Training
from equipoise.worlds.scored.task import Recorded
from equipoise.worlds.scored.world import ScoredWorld
from equipoise.worlds.segments.control import ControlSettings
from equipoise.worlds.segments.files import checked, read_segments, write_segments
from equipoise.worlds.segments.heads import Head
from equipoise.worlds.segments.pendulum import Pendulum
from equipoise.worlds.segments.swing_up import pendulum

SMALL = ControlSettings(recorded=6, pairs=200, lists=40, warm_start=20, episodes=3, length=8, hidden=16)
FEW = {"recorded": 4, "pairs": 60, "lists": 20, "warm_start": 5, "episodes": 2, "length": 8, "hidden": 8}
SHORT = {f"task.{name}": value for name, value in FEW.items()} | {"train.steps": 12, "train.save_every": 5}


def small(**training: Any) -> ScoredWorld:
    return ScoredWorld.in_memory(
        pendulum(SMALL).task(SMALL, 0), Training(**{"steps": 30, "lr": 1e-2} | training), per_round=8
    )


# the same callables


@pytest.mark.parametrize("name", ["dpo", "ipo", "inpo"])
def test_the_same_method_trains_a_control_policy(name: str):
    world, method = small(), get(name).with_parameters({"tau": 0.05} if name == "ipo" else {})
    if name == "inpo":
        method = replace(method.with_parameters({"eta": 0.5, "tau": 0.1}), rounds=2)
    assert method.objective is not None and type(method.objective).__module__.startswith("equipoise.core.")
    state = play(method, world, world.begin())
    losses = [line["loss"] for line in world.keeper.metrics]  # type: ignore[attr-defined]
    assert np.mean(losses[-5:]) < 0.98 * np.mean(losses[:3])
    assert not torch.equal(*(world.parameters(state, who)["layer.0.weight"] for who in (INITIAL, START)))


def test_log_ratios_are_zero_before_the_first_step():
    world = small()
    state = world.begin()
    rows = world.recorded(state)
    anchors = world.anchors(state, rows, {"reference": INITIAL})
    fit: Fit = world._fit(state, rows, anchors, Dpo(), START, "policy", carry=False, speed=1.0)
    scores = fit.scores(np.arange(50))
    assert float(scores.log_ratio("reference").detach().abs().max()) < 1e-4
    assert fit.step()["loss"] == pytest.approx(np.log(2), abs=1e-5)


def test_another_scale_of_scores_is_seen_at_step_zero():
    world = small()
    state = world.begin()
    rows = world.recorded(state)
    anchors = world.anchors(state, rows, {"reference": INITIAL})
    broken = replace(anchors, kept={"reference": anchors["reference"] + 1.0})  # type: ignore[type-var]
    with pytest.raises(RuntimeError, match="before the first step"):
        world.fit(state, rows, broken, Dpo())


def test_rows_of_a_prompt_begin_in_its_state():
    world = small()
    state = world.begin()
    rows = world.sample(state, world.prompts(state), START, 3)
    first = world.examples.numpy(rows.responses)["observations"][:, :, 0]
    wanted = Pendulum().observe(np.stack([Pendulum().reset(seed) for seed in rows.prompts.tolist()]))
    np.testing.assert_allclose(first, np.repeat(wanted[:, None], 3, axis=1), atol=1e-6)


def test_win_rates_among_a_row_average_to_one_half():
    world = small()
    state = world.begin()
    rows = world.sample(state, world.prompts(state), START, 4)
    rates = world.win_rates(state, rows, START, 0, lambda wins: wins)
    np.testing.assert_allclose(rates.mean(axis=1), 0.5)


def test_a_ranking_is_read_as_lists():
    world = replace(small(), listed=True)
    state = play_round(get("cpl_ranking"), world, world.begin())
    assert state.round == 2


# heads


@pytest.mark.parametrize("kind", ["gaussian", "categorical"])
def test_a_heads_density_sums_to_one(kind: str):
    space = {"gaussian": Pendulum.actions, "categorical": replace(Pendulum.actions, size=3, low=(), high=())}
    head = Head(kind=kind, observation_size=3, actions=space[kind])  # type: ignore[arg-type]
    parameters, seen = head.start(1), torch.randn(4, 1, 3)
    if kind == "categorical":
        actions, width = torch.arange(3).expand(4, 3), 1.0
    else:
        grid = torch.linspace(-12, 12, 4001)
        actions, width = grid.expand(4, -1).unsqueeze(-1), float(grid[1] - grid[0])
    logp = head.log_likelihood(parameters, seen.expand(-1, actions.shape[1], -1), actions)
    torch.testing.assert_close(logp.exp().sum(dim=1) * width, torch.ones(4), atol=1e-3, rtol=0)


def test_the_deterministic_score_is_a_gaussian_of_variance_one_half():
    head = Head(kind="deterministic", observation_size=3, actions=Pendulum.actions)
    parameters, seen, acted = head.start(1), torch.randn(5, 3), torch.randn(5, 1)
    mean = head.act(parameters, sampled=False)(seen.double().numpy(), np.random.default_rng(0))
    density = torch.distributions.Normal(torch.from_numpy(np.asarray(mean)), 0.5**0.5).log_prob(acted)
    apart = head.log_likelihood(parameters, seen, acted) - density[:, 0]
    torch.testing.assert_close(apart, torch.full((5,), float(np.log(np.pi) / 2)).double(), atol=1e-5, rtol=0)


# run folders


def files(folder: Path) -> dict[str, bytes]:
    kept = ("checkpoints", "rounds", "metrics.jsonl", "evaluation.jsonl", "checks.jsonl", "config.yaml")
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.relative_to(folder).parts[0] in kept
    }


class Killed(BaseException):
    pass


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def run(name: str) -> None:
        more = SHORT | {"play.prompts": 4, "objective.eta": 0.5, "objective.tau": 0.1}
        align("inpo", world="pendulum", rounds=2, out=tmp_path / name, settings=more, quiet=True)

    run("whole")
    step, steps = Fit.step, 0

    def counted(fit: Fit) -> dict[str, float]:
        nonlocal steps
        steps += 1
        if steps in (
            13,
            24,
            32,
        ):  # within the first round, then before and after a saved position of the second
            raise Killed
        return step(fit)

    monkeypatch.setattr(Fit, "step", counted)
    for _ in range(3):
        with pytest.raises(Killed):
            run("killed")
    run("killed")
    assert files(tmp_path / "killed") == files(tmp_path / "whole")
    assert "return" in json.loads((tmp_path / "whole/summary.json").read_text())["measures"]["final"]


def test_a_folder_of_other_settings_is_refused(tmp_path: Path):
    align("cpl", world="pendulum", out=tmp_path / "run", settings=SHORT, quiet=True)
    (listed,) = runs(tmp_path)
    assert (listed.data, listed.state) == ("world pendulum", "finished") and listed.figure.startswith(
        "return "
    )
    page = (tmp_path / "run/report.html").read_text()
    assert "Contrastive Preference Learning" in page and "Sampled return" in page
    with pytest.raises(ConfigError, match=r"objective\.alpha: 0\.1 -> 0\.2"):
        align("cpl", world="pendulum", out=tmp_path / "run", settings=SHORT | {"alpha": 0.2}, quiet=True)


@pytest.mark.parametrize(
    "method, options, said",
    [
        ("cpl", {"world": "pendulim"}, "pendulum"),
        ("cpl", {"world": "pendulum", "model": "gpt2"}, "for language models alone: model"),
        ("tdpo1", {"world": "pendulum"}, "live references"),
        ("srpo", {"world": "pendulum"}, "revision prompts"),
        ("nash_md", {"world": "pendulum"}, "mixture"),
        ("cpl", {"world": "pendulum", "settings": {"task.length": 0}}, "length must be at least 1"),
        ("cpl", {"world": "pendulum", "settings": {"task.oracle": "taste"}}, "task.oracle"),
        ("cpl", {"world": "pendulum", "settings": {"stepz": 0}}, "stepz"),
    ],
)
def test_what_a_world_lacks_is_refused_in_a_sentence(
    method: str, options: dict[str, Any], said: str, tmp_path: Path
):
    with pytest.raises(ConfigError, match=said):
        align(method, out=tmp_path / "run", quiet=True, **options)
    assert not (tmp_path / "run").exists()


# files of segments


def arrays() -> dict[str, np.ndarray]:
    recorded = pendulum(SMALL).task(SMALL, 0).recorded
    return {
        **{name: np.asarray(array) for name, array in recorded.examples.items()},
        "pairs": recorded.pairs,
        "label": recorded.prob,
    }


def test_segments_are_read_as_they_were_written(tmp_path: Path):
    task = pendulum(SMALL).task(SMALL, 0)
    write_segments(tmp_path / "s.npz", task.recorded)
    again = read_segments(tmp_path / "s.npz", Pendulum())
    np.testing.assert_array_equal(again.pairs, task.recorded.pairs)
    np.testing.assert_array_equal(again.examples["actions"], task.recorded.examples["actions"])
    told = replace(SMALL, segments=str(tmp_path / "s.npz"))
    np.testing.assert_array_equal(pendulum(told).task(told, 5).recorded.prob, task.recorded.prob)


def test_parquet_segments_of_unequal_length_are_refused(tmp_path: Path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    given = arrays()
    rows = {name: given[name].tolist() for name in ("observations", "actions")}
    pairs = {"first": given["pairs"][:, 0], "second": given["pairs"][:, 1], "label": given["label"]}
    pq.write_table(pa.table(rows), tmp_path / "s.parquet")
    pq.write_table(pa.table(pairs), tmp_path / "s.pairs.parquet")
    again = read_segments(tmp_path / "s.parquet", Pendulum())
    np.testing.assert_allclose(again.examples["observations"], given["observations"])
    rows["observations"][3] = rows["observations"][3][:-1]
    pq.write_table(pa.table(rows), tmp_path / "s.parquet")
    with pytest.raises(ValueError, match=r"s\.parquet.*segment 3: observations of 7 steps, segment 0 has 8"):
        read_segments(tmp_path / "s.parquet", Pendulum())


@pytest.mark.parametrize(
    "name, place, value, said",
    [
        ("actions", (4, 2, 0), 2.5, "segment 4, step 2: the action 2.5 is not between -2 and 2"),
        ("actions", (4, 2, 0), np.nan, "segment 4, step 2"),
        ("observations", (1, 0, 2), np.inf, "segment 1, step 0: its observation is not a finite number"),
        ("label", (7,), 1.5, "recorded pair 7 has the label 1.5"),
        ("label", (7,), np.nan, "recorded pair 7"),
        ("pairs", (9, 1), 10**6, "recorded pair 9 compares examples"),
    ],
)
def test_bad_segments_are_refused_with_their_row(name: str, place: tuple[int, ...], value: float, said: str):
    given = {key: array.copy() for key, array in arrays().items()}
    given[name][place] = value
    with pytest.raises(ValueError, match=said):
        checked(given, 3, Pendulum.actions)


def test_a_missing_array_is_named():
    given = arrays()
    del given["label"]
    with pytest.raises(ValueError, match="there is no 'label'"):
        checked(given, 3, Pendulum.actions)


def test_no_pair_is_without_examples():
    with pytest.raises(ValueError, match="pairs must have shape"):
        Recorded(examples={"x": np.zeros((2, 1))}, pairs=np.zeros((3, 2), dtype=np.intp), prob=np.ones(2))
