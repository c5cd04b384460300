"""Scalar rewards instead of win rates: the oracle's scores, normalised by the first round, clamped, and refused."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from equipoise.oracles.checked import Checked
from equipoise.play.pairings.response_rewards import ByReward
from equipoise.play.state import START
from equipoise.playground import LanguageGame
from equipoise.run.config import ConfigError
from equipoise.run.session import align


class Lengths:
    """An oracle whose score is the number of characters; texts that begin with a mark have none."""

    name, may_fail = "lengths", True

    def __init__(self, mark="?"):
        self.mark = mark

    def score(self, prompts, responses):
        known = [float("nan") if r.startswith(self.mark) else float(len(r)) for r in responses]
        return torch.tensor(known, dtype=torch.float64)

    def compare(self, prompts, a, b):
        return torch.sigmoid(self.score(prompts, a) - self.score(prompts, b))


def formed(world, pairing, state=None, count=4):
    state = state or world.begin()
    return state, pairing.form(world, state, world.sample(state, world.prompts(state), START, count))


def test_every_response_has_the_oracles_score(make_world):
    world = make_world(oracle=Checked(Lengths()))
    _, rows = formed(world, ByReward())
    lengths = [[float(len(response.text)) for response in group] for group in rows.responses]
    assert rows.reward.tolist() == lengths and rows.prob is None


def test_rewards_are_normalised_by_the_first_rounds_moments_and_clamped(make_world):
    world, pairing = make_world(oracle=Checked(Lengths())), ByReward(normalise=True, cap=1.5)
    state, first = formed(world, pairing)
    _, raw = formed(world, ByReward(), state)
    mean, spread = raw.reward.mean(), raw.reward.std()
    assert np.allclose(first.reward, np.clip((raw.reward - mean) / spread, -1.5, 1.5), atol=1e-15)
    assert abs(first.reward).max() == 1.5
    later = replace(state, round=2)
    rows = world.sample(later, world.prompts(later), START, 2)
    scored = pairing.form(world, later, rows)
    plain = world.judge.rewards(rows)
    assert np.allclose(scored.reward, np.clip((plain - mean) / spread, -1.5, 1.5), atol=1e-15)


def test_a_reward_without_variation_is_centred(make_world):
    class Same(Lengths):
        def score(self, prompts, responses):
            return torch.full((len(prompts),), 3.0, dtype=torch.float64)

    _, rows = formed(make_world(oracle=Checked(Same())), ByReward(normalise=True))
    assert not rows.reward.any()


def test_a_prompt_without_a_score_is_left_out(make_world):
    world = make_world(oracle=Checked(Lengths("Gladly")))
    state = world.begin()
    rows = world.stage(state, "judging", lambda: formed(world, ByReward(), state)[1])
    texts = [[response.text for response in group] for group in rows.responses]
    assert 0 < len(rows) < 12 and not any(text.startswith("Gladly") for group in texts for text in group)
    with pytest.raises(ValueError, match="cap must be positive"):
        ByReward(cap=0.0)


def test_an_oracle_without_scores_is_refused_before_anything_is_computed(tmp_path):
    with pytest.raises(
        ConfigError, match="rloo with these settings reads a scalar reward of every response, and"
    ):
        align("rloo", out=tmp_path / "run", quiet=True, settings={"play.pairing": "reward"})
    assert not (tmp_path / "run" / "rounds").exists()


@pytest.mark.slow
def test_a_short_run_on_the_hosts_reward(tmp_path):
    settings = {
        "play.rounds": 2, "play.prompts": 4, "play.samples": 2, "play.panel": "transitive", "evaluate.prompts": 2,
        "evaluate.samples": 1, "evaluate.every": 2, "play.pairing": "reward_normalised",
    }  # fmt: skip
    run = align("ppo", out=tmp_path / "run", quiet=True, settings=settings)
    assert run.summary["status"] == "finished" and run.summary["exact_kl"] > 0
    assert "reward" in json.dumps(run.summary) or (run.folder / "rounds").exists()
    assert LanguageGame("transitive").oracle().score([], []).shape == (0,)
