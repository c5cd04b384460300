"""Defaults by data and model: hand arithmetic, bounds and monotonicity of the rules, and a run that keeps them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from equipoise.methods.index import METHODS, get
from equipoise.play.pairings.recorded import InBothRoles
from equipoise.play.pairings.sampled import BestWorst, Pairs, Tournament
from equipoise.playground import LanguageGame, model_path, reference_policy, write_pairs
from equipoise.policy.learning_rate import HIGHEST, automatic
from equipoise.run.config import ConfigError, parse_settings, resolve
from equipoise.run.materials import gather
from equipoise.run.planning.defaults import (
    ENOUGH_STEPS,
    LEAST_BATCH,
    MOST_EPOCHS,
    batch_and_epochs,
    comparisons,
    decide,
    per_prompt,
    response_tokens,
    steps_needed,
)
from equipoise.run.planning.plan import plan
from equipoise.run.session import align
from equipoise.run.settings import AUTOMATIC, flat

SMALL = {"evaluate.prompts": 2, "evaluate.samples": 1, "evaluate.pairs": 20}
sizes = st.integers(1, 10**12)
counts = st.integers(1, 10**6)


def steps(comparisons: int, batch: int, epochs: int) -> int:
    return epochs * math.ceil(comparisons / batch)


# batch and passes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "count, most, least, expected",
    [
        (100_000, 64, 1, (64, 1)),  # 1,563 steps
        (6_400, 64, 1, (64, 1)),  # 100 steps, exactly
        (6_336, 64, 1, (32, 1)),  # 99 would be too few; 198
        (2_545, 64, 1, (16, 1)),  # 40, 80, 160 steps
        (2_545, 128, 3, (64, 3)),  # 60 steps of 128; 120 of 64
        (800, 64, 1, (8, 1)),  # 100 steps
        (799, 64, 1, (8, 1)),  # 100 too: the last one is of seven
        (792, 64, 1, (8, 2)),  # 99 steps in a pass: 198
        (144, 64, 1, (8, 5)),  # 18 in a pass: 90 in the most passes
        (1, 64, 1, (8, 5)),  # five steps; the run is warned
        (144, 16, 10, (8, 10)),  # a paper's ten passes stay: 90 steps of 16, 180 of 8
        (100, 4, 1, (4, 4)),  # a paper's batch below the least is kept: 25 in a pass
    ],
)
def test_batch_is_halved_then_passes_are_added(count, most, least, expected):
    assert batch_and_epochs(count, most=most, least=least) == expected


@given(counts, st.integers(1, 512), st.integers(1, 12), st.integers(1, 200))
def test_steps_are_enough_or_the_bounds_are_reached(count, most, least, needed):
    batch, epochs = batch_and_epochs(count, needed=needed, most=most, least=least)
    assert min(most, LEAST_BATCH) <= batch <= most and least <= epochs <= max(least, MOST_EPOCHS)
    bounds = batch < 2 * LEAST_BATCH and epochs == max(least, MOST_EPOCHS)
    assert steps(count, batch, epochs) >= needed or bounds
    if epochs > least:  # no pass more than needed, and none while the batch could be halved
        assert steps(count, batch, epochs - 1) < needed and batch < 2 * LEAST_BATCH


@given(counts, counts, st.integers(1, 512), st.integers(1, 12))
def test_more_data_give_no_smaller_batch_and_no_more_passes_at_a_batch(one, other, most, least):
    few, many = sorted((one, other))
    before, after = (batch_and_epochs(n, most=most, least=least) for n in (few, many))
    assert before[0] <= after[0]
    assert before[0] < after[0] or before[1] >= after[1]


@given(counts, st.integers(1, 12))
def test_passes_that_are_set_stay(count, epochs):
    assert batch_and_epochs(count, least=epochs, more=False)[1] == epochs


def test_a_fit_needs_comparisons():
    with pytest.raises(ValueError, match="needs comparisons, got 0"):
        batch_and_epochs(0)


def test_gradient_steps_are_counted_over_the_run():
    assert steps_needed(get("inpo")) == steps_needed(get("dpo")) == steps_needed(get("tdpo1")) == ENOUGH_STEPS
    assert steps_needed(get("online_dpo")) == 1  # of 100 rounds
    assert steps_needed(get("gradient_ascent")) == ENOUGH_STEPS  # of one


@pytest.mark.parametrize(
    "pairing, width, expected",
    [
        (Tournament(), 8, 1),
        (BestWorst(), 5, 1),
        (Pairs(), 6, 3),
        (Pairs(every=True), 6, 15),
        (InBothRoles(base=Pairs()), 6, 3),
    ],
)
def test_comparisons_of_a_prompt(pairing, width, expected):
    assert per_prompt(pairing, width) == expected


# rate -----------------------------------------------------------------------------------------------


def test_rate_by_hand():
    assert automatic(8 * 10**9) == 5e-7
    assert automatic(8 * 10**9, lora=True) == 5e-6
    assert automatic(8 * 10**9, papers=1e-5) == 1e-5
    assert automatic(8 * 10**4) == HIGHEST  # 5e-7 x 10^(5 x 0.8) is 5e-3
    assert automatic(8 * 10**6) == 1.3e-4  # 5e-7 x 10^2.4 = 1.256e-4, in two digits


@given(sizes, sizes, st.booleans())
def test_rate_falls_with_size_and_is_bounded(one, other, lora):
    small, large = sorted((one, other))
    assert 0 < automatic(large, lora=lora) <= automatic(small, lora=lora) <= HIGHEST
    assert automatic(small) <= automatic(small, lora=True)


@pytest.mark.parametrize("wrong", [{"parameters": 0}, {"parameters": 5, "papers": 0.0}])
def test_rate_refuses_what_has_none(wrong):
    with pytest.raises(ValueError, match="positive rate"):
        automatic(**wrong)


# length ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "recorded, expected",
    [
        ([], 128),
        ([2, 2, 3], 16),
        ([17], 32),
        ([16] * 99 + [500], 16),  # one of a hundred is cut
        ([16] * 98 + [40, 500], 48),
        ([5000] * 10, 512),
    ],
)
def test_sampled_responses_are_as_long_as_recorded_ones(recorded, expected):
    assert response_tokens(recorded) == expected


@given(st.lists(st.integers(1, 2000), min_size=1))
def test_length_has_bounds_and_grows_with_the_recorded_ones(recorded):
    found = response_tokens(recorded)
    assert 16 <= found <= 512 and found % 16 == 0
    assert found <= response_tokens([length + 1 for length in recorded])
    assert sum(length <= found for length in recorded) >= 0.99 * len(recorded) or found == 512


# settings and runs ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "pairs.jsonl"
    return write_pairs(path, LanguageGame(), 60, seed=1, reference=reference_policy())


def asked(method: str, pairs: Path, **settings):
    given_ = {"model.path": str(model_path()), "data.path": [str(pairs)]} | SMALL | settings
    return resolve(method, given_)


def test_the_built_in_games_settings_are_its_own():
    for name, method in METHODS.items():
        settings = flat(resolve(name).plain())
        assert "auto" not in [settings[n] for n in AUTOMATIC if n != "train.lr" or n in method.playground]
        for setting, value in method.playground.items():
            if "playground:" in str(value):  # a file of its small world
                assert "playground:" not in str(settings[setting]), (name, setting)
            else:
                assert settings[setting] == value, (name, setting)


def test_what_is_set_wins_and_the_rest_is_decided(pairs, tmp_path):
    config = asked("dpo", pairs, **{"train.batch": 5, "train.lr": 2e-5})
    found = decide(config, gather(config, tmp_path))
    assert (found.config.train.batch, found.config.train.lr, found.config.train.epochs) == (5, 2e-5, 1)
    assert found.chosen == ("train.epochs", "sampling.max_new_tokens")
    assert "train.epochs=1" in found.sentence
    again = decide(found.config, gather(config, tmp_path))
    assert again.config == found.config and again.chosen == ()


def test_comparisons_are_recorded_or_sampled(pairs, tmp_path):
    config = asked("dpo", pairs)
    materials = gather(config, tmp_path)
    assert comparisons(config, materials) == len(materials.pairs)
    thirds = asked("dpo", pairs, **{"objective.parts": 3})
    assert comparisons(thirds, gather(thirds, tmp_path)) == math.ceil(len(materials.pairs) / 3)
    for prompts, expected in ((None, None), (5, 5 * 12)):  # 24 samples in disjoint pairs
        game = resolve("inpo", {"play.prompts": prompts})
        own = gather(game, tmp_path)
        assert comparisons(game, own) == (expected or len(own.pool) * 12)


@pytest.mark.slow
def test_a_run_says_and_keeps_what_was_decided(pairs, tmp_path, capsys):
    def play(**settings):
        return align("dpo", model=model_path(), data=pairs, out=tmp_path / "run", settings=SMALL | settings)

    run = play()
    told = capsys.readouterr().err
    assert "chosen    train.batch=8, train.epochs=5, train.lr=0.001, sampling.max_new_tokens=16" in told
    stored = yaml.safe_load((run.folder / "config.yaml").read_text())
    assert stored["chosen"] == list(AUTOMATIC)
    assert (stored["train"]["batch"], stored["train"]["epochs"]) == (8, 5)
    gates = {gate["name"]: gate for gate in json.loads((run.folder / "gates.json").read_text())}
    steps_ = gates["few_steps"]["measured"]
    assert steps_ == len((run.folder / "metrics.jsonl").read_text().splitlines())
    assert gates["few_steps"]["passed"] == (steps_ >= 50)
    before = (run.folder / "config.yaml").read_bytes()
    assert play().summary == run.summary  # resumed
    assert (run.folder / "config.yaml").read_bytes() == before
    assert play(**{"train.batch": 8}).summary == run.summary  # the same, said
    with pytest.raises(ConfigError, match=r"train\.batch: 8 -> 4"):
        play(**{"train.batch": 4})
    (run.folder / "config.yaml").write_text(before.decode().replace("- train.batch\n", ""))
    with pytest.raises(ConfigError, match=r"train\.batch: 8 -> auto"):
        play()


def test_a_plan_says_what_would_be_decided(pairs, tmp_path):
    made = plan(asked("dpo", pairs, **parse_settings(["train.epochs=1"])), tmp_path / "run")
    assert made.batch == 8 and "train.batch=8" in made.chosen and "train.epochs" not in made.chosen
    assert any(line.startswith("chosen    train.batch=8") for line in made.lines())
    assert any("gate few_steps" in warning for warning in made.warnings)
