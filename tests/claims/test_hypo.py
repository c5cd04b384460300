"""HyPO under partial coverage: the known policy of three arms, and the rule on evidence made to break it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from equipoise.claims.coverage import hypo
from equipoise.claims.coverage.hypo import ARMS, DPO, HYPO, Course, Plan
from equipoise.core.objectives import Hypo
from equipoise.games.expectation import loss

pytestmark = pytest.mark.usefixtures("no_shape_types")  # thousands of small steps
PLAN = Plan(8, 4, (2, ARMS), (DPO, HYPO))
AT = [1, 2, 4]
ARMS_APART = {
    "DPO": np.array([[0.6, 0.2, 0.2], [0.3, 0.1, 0.6]]),
    "HyPO": np.array([[0.67, 0.06, 0.27]] * 2),
}


def test_three_arms_have_one_policy_under_hypo_and_many_under_dpo():
    found = hypo.three_arms()
    assert np.abs(found["HyPO"] - [0.667901, 0.056819, 0.275280]).max() < 1e-5
    # DPO: log-ratio of a to b is logit(0.8)/beta more than the reference's, whatever c gets
    assert np.log(found["DPO"][:, 0] / found["DPO"][:, 1]) == pytest.approx(np.log(4) / 0.5)
    assert np.ptp(found["DPO"][:, 2]) > 0.1


def test_uncovered_responses_are_rare_absent_and_worse():
    games = hypo.draw_games(replace(PLAN, seeds=2))
    copies = 2 * 2 * 2
    assert games.reward.shape == (copies * hypo.PROMPTS, ARMS)
    seen = (games.data.sum(dim=1) + games.data.sum(dim=2)) > 0
    assert not bool((seen & ~games.covered).any())
    first = games.reward.view(2, 2, 2, hypo.PROMPTS, ARMS)
    assert torch.allclose(first[1, 0, :, :, 2:] - first[0, 0, :, :, 2:], torch.ones(()).double())
    assert torch.allclose(first[1, :, :, :, :2], first[0, :, :, :, :2])
    reference = games.model.log_probs(games.model.start()).exp()
    assert float(reference[~games.covered].max()) == pytest.approx(hypo.RARE)


def test_the_feed_enumerates_what_a_sample_would_estimate():
    """Mean over sampled own responses of HyPO's gradient comes near the enumerated one."""
    games = hypo.draw_games(Plan(1, 1, (2,), (HYPO,)))
    reference = games.model.log_probs(games.model.start())
    logits = reference + torch.linspace(-1, 1, ARMS, dtype=torch.float64)
    logits.requires_grad_(True)
    rows, anchors = hypo._Fresh(games.data, reference)(logits.log_softmax(dim=1).detach())
    (exact,) = torch.autograd.grad(
        loss(Hypo(beta=0.1, lam=1.0), logits.log_softmax(dim=1), anchors, rows), logits
    )
    drawn = torch.multinomial(
        rows.weight, 200_000, replacement=True, generator=torch.Generator().manual_seed(0)
    )
    few = rows._replace(
        prompts=rows.prompts[drawn], responses=rows.responses[drawn], weight=torch.ones(200_000).double()
    )
    (estimate,) = torch.autograd.grad(
        loss(Hypo(beta=0.1, lam=1.0), logits.log_softmax(dim=1), anchors, few), logits
    )
    assert float((exact - estimate).abs().max()) < 0.1 * float(exact.abs().max())


def course(gains: tuple[float, float], kls: tuple[float, ...]) -> Course:
    noise = np.random.default_rng(len(kls)).normal(0, 1e-3, (2, 2, 8, 3))
    gain = np.array(gains)[None, :, None, None] + noise
    return Course(gain=gain, kl=np.array(kls) + noise, unseen=np.full_like(noise, 0.1))


@pytest.mark.parametrize(
    ("dpo", "mine", "arms", "expected"),
    [
        (((0.3, 0.9), (0.1, 1.0, 2.0)), ((0.5, 0.7), (0.1, 0.5, 0.6)), ARMS_APART, "holds"),
        (
            ((0.3, 0.9), (0.1, 1.0, 1.0)),
            ((0.5, 0.7), (0.1, 0.5, 0.6)),
            ARMS_APART,
            "fails",
        ),  # KL does not rise
        (
            ((0.3, 0.9), (0.1, 1.0, 2.0)),
            ((0.5, 0.7), (0.1, 2.0, 2.5)),
            ARMS_APART,
            "fails",
        ),  # HyPO moves further
        (
            ((0.3, 0.9), (0.1, 1.0, 2.0)),
            ((0.5, 0.7), (0.1, 0.5, 0.6)),
            ARMS_APART | {"HyPO": ARMS_APART["DPO"]},
            "fails",
        ),
        (((0.5, 0.9), (0.1, 1.0, 2.0)), ((0.3, 0.7), (0.1, 0.5, 0.6)), ARMS_APART, "mixed"),
        (
            ((0.3, 0.4), (0.1, 1.0, 2.0)),
            ((0.5, 0.9), (0.1, 0.5, 0.6)),
            ARMS_APART,
            "mixed",
        ),  # helps as much anywhere
    ],
)
def test_the_rule(dpo, mine, arms, expected):
    found = {DPO: course(*dpo), HYPO: course(*mine)}
    assert hypo.judge(arms, found, PLAN, AT).verdict == expected


def test_the_best_setting_is_chosen_on_the_truth():
    found = {
        DPO: course((0.1, 0.2), (0.0,) * 3),
        (1.0, 0.0): course((0.4, 0.1), (0.0,) * 3),
        HYPO: course((0.2, 0.2), (0.0,) * 3),
    }
    assert hypo.best(found, 0, 0) == ((1.0, 0.0), HYPO) and hypo.best(found, 1, 1) == (DPO, HYPO)
