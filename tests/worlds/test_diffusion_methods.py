"""Methods on a denoiser: the callables that train language models train it; pools, sets, subjects; exact resuming."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from equipoise.core import reduce
from equipoise.core.objectives import CplKl, Dpo, Seppo, Vpo
from equipoise.core.scores import Scores
from equipoise.games.zoo import rps
from equipoise.methods.index import get
from equipoise.play.round import play
from equipoise.play.state import INITIAL, POOLED, START, State
from equipoise.worlds.diffusion.digits import ImageSettings, ImageWorld
from equipoise.worlds.diffusion.images import Images
from equipoise.worlds.diffusion.oracles import Classifier
from equipoise.worlds.diffusion.schedule import Schedule
from equipoise.worlds.diffusion.sets import Features
from equipoise.worlds.diffusion.unet import UNet
from equipoise.worlds.folder.journal import Journal
from equipoise.worlds.scored.examples import Examples
from equipoise.worlds.scored.fit import Training
from equipoise.worlds.scored.keeping import InFolder
from equipoise.worlds.scored.world import ScoredWorld
from equipoise.worlds.table.world import TableWorld

SHORT = Training(steps=6, batch=16, lr=1e-3)
SETTINGS = ImageSettings(pairs=64, sampling=3, samples=24, target=1, exemplars=(1, 2))


def images() -> ImageWorld:
    """Sixty images of 4x4 in three classes, and a denoiser that was not trained."""
    draw = np.random.default_rng(0)
    labels = np.arange(60) % 3
    values = np.clip(0.6 * (labels - 1)[:, None, None, None] + 0.3 * draw.normal(size=(60, 1, 4, 4)), -1, 1)
    known = Images(values.astype(np.float32), labels.astype(np.intp))
    unet = UNet(size=4, width=8)
    noise = torch.Generator().manual_seed(1)
    base = {n: p + 0.05 * torch.randn(p.shape, generator=noise) for n, p in unet.start(0).items()}
    classifier = Classifier(draw.normal(size=(3, 16)), np.zeros(3))
    return ImageWorld(known, unet, Schedule(), base, Features.fitted(known.values, 4), classifier)


def world(training: Training = SHORT, **changed: Any) -> ScoredWorld:
    return ScoredWorld.in_memory(images().task(replace(SETTINGS, **changed), 0), training, per_round=8)


@pytest.mark.parametrize("form", [{}, {"noise": "inversion"}, {"space": "encoder"}])
def test_the_dpo_of_language_models_trains_a_denoiser_and_a_finite_game(form: dict[str, str]):
    dpo = replace(get("dpo"), objective=Dpo(beta=2000.0))
    of_images = world(replace(SHORT, steps=30), **form)
    state = play(dpo, of_images, of_images.begin())
    first, last = (of_images.keeper.metrics[at] for at in (0, -1))
    assert first["loss"] == pytest.approx(np.log(2), abs=1e-4) and last["step"] == 30
    moved, began = (of_images.parameters(state, who) for who in (START, INITIAL))
    assert all(not torch.equal(moved[name], began[name]) for name in moved)
    if "noise" not in form:  # the inversion of a denoiser that was not trained says nothing of an image
        assert np.mean([line["accuracy"] for line in of_images.keeper.metrics[-8:]]) > 0.6
    table = TableWorld(rps())
    assert play(dpo, table, State.begin(table.game.initial())).round == state.round == 2


def test_diffusion_dpo_is_cpl_kl_without_its_bias():
    of_images = world()
    state = of_images.begin()
    rows = of_images.recorded(state).take(np.arange(8))
    anchors = of_images.anchors(state, rows, {"reference": INITIAL})
    moved = play(get("dpo"), of_images, state)
    live, _ = of_images.scores(moved, rows, START)
    batch = Scores(logp=torch.from_numpy(live), anchors={"reference": anchors["reference"].double()})
    assert torch.equal(Dpo(beta=50.0)(batch).value, CplKl(alpha=50.0, bias=1.0)(batch).value)
    assert not torch.equal(Dpo(beta=50.0)(batch).value, CplKl(alpha=50.0, bias=0.5)(batch).value)


# SePPO --------------------------------------------------------------------------------------------


def test_seppo_draws_its_reference_from_all_past_iterates_which_never_change():
    method = replace(get("seppo"), objective=Seppo(beta=2000.0), rounds=6)
    of_images = world(replace(SHORT, steps=2))
    begun = of_images.begin(method.update.memory, keep_past=method.asks_the_past)
    seen: list[State] = []
    copies: list[dict[str, torch.Tensor]] = []

    def boundary(state: State) -> None:
        seen.append(state)
        copies.append({n: p.clone() for n, p in of_images.parameters(state, START).items()})

    play(method, of_images, begun, boundary)
    pool = [state.policies[START] for state in seen]
    drawn = [pool.index(state.policies[POOLED]) for state in seen]
    assert drawn[0] == 0 and all(which <= round for round, which in enumerate(drawn))
    assert len(set(drawn)) > 2, "it is not always the same one"
    for state, copy in zip(seen, copies, strict=True):
        now = of_images.parameters(state, START)
        assert all(torch.equal(now[name], value) for name, value in copy.items())
    assert all(not torch.equal(a["leave.bias"], b["leave.bias"]) for a, b in pairwise(copies))


def test_seppo_s_samples_are_the_reference_s_and_winners_are_recorded():
    method = replace(get("seppo"), objective=Seppo(beta=2000.0), rounds=1)
    of_images = world(replace(SHORT, steps=1))
    play(method, of_images, of_images.begin(method.update.memory, keep_past=True))
    rows = of_images.keeper.stages[1, "judging"]
    recorded = len(of_images.task.recorded.examples["image"])
    assert rows.writers == ("recorded", POOLED) and (rows.prob == 1).all()
    assert (rows.responses[:, 0] < recorded).all() and (rows.responses[:, 1] >= recorded).all()


# DRAGON -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dragon", "dragon_unpaired"])
@pytest.mark.parametrize("oracle", ["exemplars", "diversity", "ink"])
def test_dragon_splits_samples_by_the_reward_of_a_set(name: str, oracle: str):
    of_images = world(replace(SHORT, steps=2), oracle=oracle)
    method = replace(get(name), rounds=1)
    play(method, of_images, of_images.begin())
    rows = of_images.keeper.stages[1, "judging"]
    paired = name == "dragon"
    upper = rows.responses[:, 0] if paired else rows.responses[rows.rewards[:, 0] == 1, 0]
    lower = rows.responses[:, 1] if paired else rows.responses[rows.rewards[:, 0] == 0, 0]
    assert len(upper) == len(lower) == 8 and not set(upper) & set(lower)
    judge, shown = of_images.task.judge, of_images.examples.numpy
    if oracle == "ink":
        none = np.zeros(8, dtype=np.intp)
        assert (judge.rewards(none, shown(upper)) >= judge.rewards(none, shown(lower))).all()  # type: ignore[attr-defined]
    else:
        before = of_images.keeper.stages[1, "sampling"].responses[:, 0]
        assert judge.set_reward(shown(upper)) >= judge.set_reward(shown(before))  # type: ignore[attr-defined]


# Subject RPO --------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", [0.0, 0.3, 1.0])
def test_subject_rpo_s_loss_is_the_authors_on_denoising_errors(label: float):
    """L = e(x_ref) + CE(y, sigma(D)), D = beta [(e0 - e)(x_ref) - (e0 - e)(x_gen)], up to a number e0(x_ref)."""
    draw = torch.Generator().manual_seed(0)
    error, frozen = (torch.rand(5, 2, generator=draw, dtype=torch.float64) for _ in range(2))
    gain = frozen - error
    entropy = binary_cross_entropy_with_logits(
        gain[:, 0] - gain[:, 1], torch.full((5,), label, dtype=torch.float64), reduction="none"
    )
    third = [0, 1, 0]
    batch = Scores(
        logp=-0.5 * error[:, third],
        anchors={"reference": -0.5 * frozen[:, third]},
        prob=torch.full((5,), label, dtype=torch.float64),
    )
    found = reduce.expected(Vpo(beta=2.0, alpha=1.0, optimistic=False), batch).value
    assert torch.allclose(found, entropy + error[:, 0] - frozen[:, 0], atol=1e-12)


def test_subject_rpo_compares_references_with_images_of_the_initial_model():
    of_images = world(replace(SHORT, steps=1), oracle="harmonic", rationality=1.0, references=4)
    play(replace(get("subject_rpo"), rounds=1), of_images, of_images.begin())
    rows = of_images.keeper.stages[1, "judging"]
    assert rows.responses.shape == (64, 3) and np.array_equal(rows.responses[:, 0], rows.responses[:, 2])
    assert rows.writers == ("recorded", INITIAL, "recorded")
    none = np.zeros(64, dtype=np.intp)
    judge, shown = of_images.task.judge, of_images.examples.numpy
    apart = [judge.rewards(none, shown(rows.responses[:, side])) for side in (0, 1)]  # type: ignore[attr-defined]
    assert rows.prob == pytest.approx(1 / (1 + np.exp(apart[1] - apart[0])))


# a run --------------------------------------------------------------------------------------------


def test_a_fit_that_is_interrupted_goes_on_with_the_same_noise(tmp_path: Path):
    """The numbers of a step are addressed by its position: what is left ends in the same bytes."""
    method = replace(get("dpo"), objective=Dpo(beta=2000.0))

    def run(name: str, stop: int | None) -> bytes:
        task = images().task(replace(SETTINGS, noise="inversion"), 0)
        examples = Examples(task.recorded.examples)

        def told(line: Any) -> None:
            if line["step"] == stop:
                raise KeyboardInterrupt

        journal = Journal(tmp_path / name)
        played = ScoredWorld(
            task=task,
            training=replace(SHORT, save_every=2),
            examples=examples,
            keeper=InFolder(journal, examples, told),
        )
        play(method, played, played.begin())
        return (journal.checkpoint(1) / "policy.safetensors").read_bytes()

    whole = run("whole", None)
    with pytest.raises(KeyboardInterrupt):
        run("cut", 5)
    assert run("cut", None) == whole


def test_a_task_measures_and_draws_its_policy():
    task = images().task(replace(SETTINGS, oracle="class"), 0)
    start = task.start(0)
    found = task.evaluation.measure(start, 3)
    assert (
        list(found) == list(task.evaluation.higher_is_better) == ["reward", "confidence", "frechet", "vendi"]
    )
    assert found == task.evaluation.measure(start, 3) != task.evaluation.measure(start, 4)
    assert 1 <= found["vendi"]["value"] <= 24 and 0 <= found["reward"]["value"] <= 1
    assert task.pictures is not None
    ((caption, png),) = task.pictures(start, 0)
    assert "noise" in caption and png.startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("oracle", "first"), [("ink", "reward"), ("exemplars", "frechet"), ("diversity", "vendi")]
)
def test_what_the_oracle_rewards_is_measured_first(oracle: str, first: str):
    measured = images().task(replace(SETTINGS, oracle=oracle), 0).evaluation.higher_is_better
    assert next(iter(measured)) == first and (first == "reward" or "reward" not in measured)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"oracle": "class", "target": 7}, "class 7"),
        ({"oracle": "harmonic", "references": 40}, "40 references"),
        ({"oracle": "exemplars", "exemplars": (9,)}, "exemplars"),
    ],
)
def test_settings_that_do_not_fit_the_images_are_refused(wrong: dict[str, Any], words: str):
    with pytest.raises(ValueError, match=words):
        images().task(replace(SETTINGS, **wrong), 0)
