"""RTO against its authors' trainer, on stored numbers: token rewards, advantages, losses of policy and critic."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from equipoise.core.advantages import gae
from equipoise.core.objectives import Ppo
from equipoise.core.scores import Scores, TokenScores
from equipoise.core.value_loss import ClippedValue
from equipoise.play.pairings.response_rewards import ByReward
from equipoise.play.rows import Rows
from equipoise.play.state import INITIAL, START, TEACHER
from equipoise.play.updates.ppo import TeacherRewards, TokenAdvantages
from stored_losses import STORED, same, waves

SHAPE = (3, 5)
LENGTHS = torch.tensor([5.0, 3.0, 4.0], dtype=torch.float64)
MASK = torch.arange(5) < LENGTHS[:, None]


def table(pace: float, size: float, shift: float = 0.0) -> Tensor:
    return waves(15, pace, size, shift).view(SHAPE)


class Recorded:
    """A world of three prompts with one response each, whose log-probs and scores are given."""

    logps = {  # noqa: RUF012 - never written
        START: table(1.3, 1, -2),
        INITIAL: table(0.7, 1, -2),
        TEACHER: table(1.9, 1, -2),
    }

    def token_logps(self, state: Any, rows: Rows, policy: str) -> tuple[Tensor, Tensor]:
        return (self.logps[policy] * MASK)[:, None], MASK[:, None]

    def token_values(self, state: Any, rows: Rows, returns: Tensor) -> Tensor:
        raise AssertionError("the values are given")

    def rewards(self, rows: Rows) -> np.ndarray:
        return waves(3, 2.3, 12).numpy()[:, None]


def rewarded() -> tuple[TeacherRewards, Rows, tuple[Tensor, Tensor]]:
    update = TeacherRewards(base=TokenAdvantages(tau=0.01, lam=0.95), beta1=0.05, cap=0.05)
    world, state = cast(Any, Recorded()), cast(Any, SimpleNamespace())
    rows = Rows(
        prompts=np.arange(3),
        responses=np.array([["a"], ["b"], ["c"]], dtype=object),
        weight=np.full(3, 1 / 3),
        writers=(START,),
    )
    rows = ByReward(cap=10.0).form(world, state, rows)
    return update, rows, update.rewards(world, state, rows)


def per_token(logp: Tensor, previous: Tensor, reward: Tensor) -> Scores:
    return Scores.of_tokens(
        TokenScores(
            logp=(logp * MASK)[:, None],
            mask=MASK[:, None],
            anchors={"previous": (previous * MASK)[:, None]},
            reward=(reward * MASK)[:, None],
        )
    )


def test_token_rewards_scale_before_the_clip_and_pay_the_clamped_score_at_the_last_token():
    _, _, (reward, mask) = rewarded()
    same(reward[:, 0] * mask[:, 0], STORED["rto_rewards"]["value"])


def test_advantages_returns_and_their_normalisation():
    update, rows, rewards = rewarded()
    values, stored = (table(0.4, 0.5) * MASK)[:, None], STORED["rto_advantages"]
    advantage = gae(rewards[0] * rewards[1], values, lam=update.base.lam)
    same(advantage[:, 0] * MASK, stored["value"])
    same((advantage + values)[:, 0] * MASK, stored["returns"])
    world, state = cast(Any, Recorded()), cast(Any, SimpleNamespace())
    normalised = update.base.advantages(world, state, rows, rewards, values).reward
    assert normalised is not None
    same(torch.from_numpy(normalised)[:, 0], stored["normalised"])


def test_the_policy_loss_is_the_authors_where_each_response_is_divided_by_its_length():
    own = Recorded.logps[START]
    logp = (own + table(2.1, 0.3)).requires_grad_()
    advantage = torch.tensor(STORED["rto_advantages"]["normalised"], dtype=torch.float64)
    loss = (Ppo(clip=0.2)(per_token(logp, own, advantage)).value / LENGTHS).mean()
    same(loss, STORED["rto_policy"]["value"])
    same(torch.autograd.grad(loss, logp)[0], STORED["rto_policy"]["gradient"])


def test_the_value_loss_is_the_authors():
    before = table(0.4, 0.5)
    values = (before + table(1.7, 0.4)).requires_grad_()
    returns = torch.tensor(STORED["rto_advantages"]["returns"], dtype=torch.float64)
    loss = ClippedValue(clip=0.2)(per_token(values, before, returns)).value.mean()
    same(loss, STORED["rto_value"]["value"])
    same(torch.autograd.grad(loss, values)[0], STORED["rto_value"]["gradient"])
