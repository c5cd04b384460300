"""The rules of maxmin_worst_group, pal_new_users and fspo_unseen_users on evidence made to break them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from equipoise.claims.rewards import fspo, maxmin, pal
from equipoise.games.tabular import TabularPolicy
from equipoise.games.utilities import expected, max_min

SPREAD = np.linspace(-0.01, 0.01, 6)

# MaxMin-RLHF -------------------------------------------------------------------------------------


def groups_verdict(
    fair: float = 0.5,
    majority: float = 1.0,
    lost: tuple[float, float, float] = (0.1, 1.0, 2.0),
    saved: float = 0.1,
    purity: float = 1.0,
    spread: float = 1.0,
) -> str:
    """Worst group 0 and majority 2 by one reward; `fair` and `majority` by max-min."""
    figures = np.zeros((6, 3, 8))
    for k in range(3):
        figures[:, k] = [0.0, fair, 2.0, majority, lost[k], purity, 0.6 + saved, 0.6]
    figures[..., [1, 3, 4, 6]] += (spread * SPREAD)[:, None, None]
    return maxmin.judge(figures).verdict


def test_rule_of_max_min():
    assert groups_verdict() == "holds"
    assert groups_verdict(fair=0.0) == "fails"
    assert groups_verdict(majority=2.0) == "fails"  # max-min costs the majority nothing
    assert groups_verdict(spread=100.0) == "fails"  # within the interval
    assert groups_verdict(lost=(0.1, 2.0, 1.0)) == "mixed"  # lost where the groups are not opposed
    assert groups_verdict(saved=0.0) == groups_verdict(purity=0.9) == "mixed"


def test_utilities_of_users_have_the_cosine_and_are_zero_at_the_reference():
    """Utilities are linear in the features: the tastes that solve for them have the cosine and the length 2."""
    people = maxmin.Population.drawn(-0.9, np.random.default_rng(0))
    features = people.features - people.features.mean(dim=1, keepdim=True)
    tastes = torch.linalg.lstsq(features.flatten(0, 1), people.utilities.flatten(1).T).solution.T
    assert tastes.norm(dim=1).tolist() == pytest.approx([2.0, 2.0])
    assert float(tastes[0] @ tastes[1]) == pytest.approx(-0.9 * 4)
    assert int(people.group.sum()) == 8
    uniform = TabularPolicy(torch.zeros(maxmin.PROMPTS, maxmin.ACTIONS, dtype=torch.float64))
    assert expected(people.utilities, uniform).tolist() == pytest.approx([0.0, 0.0], abs=1e-12)


def test_groups_that_want_the_opposite_leave_nothing_to_gain():
    """With u_2 = -u_1 the worst group gains at most 0, which the reference has: it is the max-min policy."""
    utility = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 3, 5)))
    utility -= utility.mean(dim=2, keepdim=True)
    reference = TabularPolicy(torch.zeros(3, 5, dtype=torch.float64))
    found = max_min(torch.cat([utility, -utility]), reference, maxmin.BETA)
    assert found.weights.tolist() == pytest.approx([0.5, 0.5], abs=1e-3)
    assert torch.allclose(found.policy.probs(), reference.probs(), atol=2e-3)


def test_purity_does_not_depend_on_the_names_of_groups():
    people = maxmin.Population.drawn(0.0, np.random.default_rng(1))
    difference, prob, user = people.labels(5, np.random.default_rng(2))
    found = maxmin.fit_linear_groups(difference, prob, torch.ones_like(prob), user, 2, starts=1)
    assert maxmin.purity(found, people.group) == maxmin.purity(found, 1 - people.group) >= 0.5


# PAL ---------------------------------------------------------------------------------------------


def tastes_verdict(ten: float = 0.75, forty: float = 0.8, spread: float = 1.0) -> str:
    """Accuracies after 10 and 40 labels; one common reward has 0.7, no or five labels bring nothing."""
    figures = np.tile([0.7, 0.7, 0.7, ten, forty], (6, 1))
    figures[:, 1:] += spread * SPREAD[:, None] * [1, -1, 1, -1]
    return pal.judge(figures).verdict


def test_rule_of_pal():
    assert tastes_verdict() == "holds"
    assert tastes_verdict(ten=0.7) == tastes_verdict(ten=0.65) == "fails"
    assert tastes_verdict(spread=20.0) == "fails"  # within the interval
    assert tastes_verdict(forty=0.75) == tastes_verdict(forty=0.7) == "mixed"


def test_labels_of_pal_are_bradley_terry_in_the_distances():
    rng = np.random.default_rng(0)
    world = pal.World.drawn(rng)
    ideal = world.user(rng)
    # inside the hull of the three points: affine coordinates by least squares, in [0, 1] and of sum 1
    system = torch.cat([world.points.T, torch.ones(1, pal.POINTS, dtype=torch.float64)])
    shares = torch.linalg.lstsq(system, torch.cat([ideal, torch.ones(1).double()])[:, None]).solution
    assert float(shares.min()) > -1e-9 and float(shares.sum()) == pytest.approx(1)
    features, wins = world.labels(ideal, 20_000, rng)
    nearer = (features @ world.project - ideal).norm(dim=2)
    chance = torch.sigmoid(pal.SHARPNESS * (nearer[:, 1] - nearer[:, 0]))
    error = float((chance * (1 - chance)).mean().sqrt()) / 20_000**0.5
    for part in (chance > 0.8, chance < 0.2, torch.ones_like(chance).bool()):
        count = float(part.double().mean())
        assert float((wins - chance)[part].mean()) == pytest.approx(0, abs=4 * error / count**0.5)


# FSPO --------------------------------------------------------------------------------------------


def shots_verdict(two: float = 0.8, four: float = 0.85, flips: float = 0.8, spread: float = 1.0) -> str:
    """Accuracies with two and four shots, and the share of preferences that turn with the labels; 0.5 without."""
    figures = np.tile([0.5, 0.5, 0.7, two, four, 0.9, flips], (6, 1))
    figures[:, 1:] += spread * SPREAD[:, None] * [1, -1, 1, -1, 1, -1]
    return fspo.judge(figures).verdict


def test_rule_of_fspo():
    assert shots_verdict() == "holds"
    assert shots_verdict(four=0.5) == shots_verdict(four=0.4) == "fails"
    assert shots_verdict(spread=60.0) == "fails"  # within the interval
    assert shots_verdict(two=0.85) == shots_verdict(flips=0.5) == "mixed"


def test_order_of_shots_changes_nothing_and_none_leave_every_user_alike():
    torch.manual_seed(0)
    policy = fspo.Policy()
    episodes = fspo.Episodes.drawn(6, 4, torch.Generator().manual_seed(1))
    logp = policy(episodes.shots, episodes.responses)
    assert torch.allclose(logp, policy(episodes.shots[:, [2, 0, 3, 1]], episodes.responses), atol=1e-6)
    assert torch.allclose(logp.exp().sum(dim=1), torch.ones(6))
    same = episodes.responses[:1].expand(6, -1, -1)
    assert torch.allclose(policy(episodes.shots[:, :0], same), policy(episodes.shots[:1, :0], same[:1]))
    assert not torch.allclose(policy(episodes.shots, same)[0], policy(episodes.shots, same)[1])


def test_a_users_preferred_answer_is_first_as_often_as_bradley_terry_says():
    """The gap of a pair is normal with variance 2 TASTE^2; a label agrees with its sign with E sigmoid(|gap|)."""
    draw = torch.Generator().manual_seed(0)
    taste = torch.zeros(1, fspo.FEATURES)
    taste[0, 0] = fspo.TASTE
    pairs = torch.randn(1, 40_000, 2, fspo.FEATURES, generator=draw)
    labelled = fspo._labelled(pairs, taste, draw)[0, ..., 0]
    gap = torch.linspace(0, 10, 10_001, dtype=torch.float64) * fspo.TASTE
    density = torch.exp(-(gap**2) / (4 * fspo.TASTE**2))
    agree = float((density * torch.sigmoid(gap)).sum() / density.sum())
    # 40,000 pairs: one standard error is below 0.002
    assert float((labelled[:, 0] > labelled[:, 1]).double().mean()) == pytest.approx(agree, abs=0.007)
