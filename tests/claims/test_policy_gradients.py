"""Claims on P3O and CoPG: what does not change, where the optimum lies, and their rules, on made evidence."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from equipoise.claims.rewards import copg, p3o
from equipoise.claims.rewards.copg import BETA, OFF_POLICY, ON_POLICY
from equipoise.claims.rewards.p3o import LEARNERS, SHIFTS, TAU, Run
from equipoise.core.objectives import Copg, Reinforce, Rloo

pytestmark = pytest.mark.usefixtures("no_shape_types")  # thousands of small steps


@pytest.mark.parametrize("name", LEARNERS)
def test_a_shift_moves_only_those_that_do_not_compare(name):
    learner = LEARNERS[name]
    for tau in (0.0, TAU):
        run = p3o.run(learner, tau, 2, 12)
        assert run.curve.shape == (len(SHIFTS), 2, 12)
        assert run.moved[0] == 0
        assert (run.moved[1:].max() < 1e-12) if learner.pairwise else (run.moved[1:].min() > 0.01)


def test_critics_start_at_nothing_and_learn_the_mean():
    sizes = (1, 2, 3)
    rewards = torch.arange(12, dtype=torch.float64).view(1, 2, 3, 2)
    for kind, expected in (("each", rewards.mean(dim=3)), ("all", rewards.mean(dim=(2, 3)).unsqueeze(2))):
        critic = p3o.critics(kind, sizes)
        assert torch.equal(critic(rewards), torch.full((1, 2, 3, 1), -0.5, dtype=torch.float64))
        for _ in range(300):
            learned = critic(rewards)
        assert torch.allclose(learned.squeeze(3) + 0.5, expected.expand(1, 2, 3), atol=1e-5)
    assert torch.equal(p3o.critics("", sizes)(rewards), torch.zeros(1, 2, 3, 1, dtype=torch.float64))


def runs(pairwise: float = 0.0, moved: float = 1.0, lost: float = 0.2) -> dict[tuple[str, float], Run]:
    curve = 0.8 + np.random.default_rng(0).normal(0, 0.01, (len(SHIFTS), 10, 4))

    def one(name: str) -> Run:
        if LEARNERS[name].pairwise:
            return Run(moved=np.array([0, pairwise, pairwise]), curve=np.stack([curve[0]] * 3))
        return Run(moved=np.array([0, moved, moved]), curve=curve - np.array([0, lost, lost])[:, None, None])

    return {(name, tau): one(name) for name in LEARNERS for tau in (0.0, TAU)}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, "holds"),
        ({"pairwise": 1e-3}, "fails"),
        ({"moved": 0.0}, "fails"),
        ({"lost": -0.1}, "mixed"),  # a shift that helps
    ],
)
def test_the_rule_of_p3o(change, expected):
    assert p3o.judge(runs(**change)).verdict == expected


# --- CoPG


@pytest.fixture(scope="module")
def world():
    return copg.bandits_and_writers(6, np.random.default_rng(2))


@pytest.mark.parametrize("writer", OFF_POLICY)
@pytest.mark.parametrize("size", [2, 3])
def test_copg_meets_its_target_whoever_writes(world, writer, size):
    bandits, writers = world
    rows = bandits.groups((*writers[writer], *writers[writer])[:size])
    assert bandits.far(copg.minimised(bandits, rows)).max() < 1e-12
    assert torch.allclose(bandits.target.exp().sum(dim=1), torch.ones(6, dtype=torch.float64))


def test_slopes_at_the_target(world):
    bandits, writers = world
    for laws in writers.values():
        assert copg.slope(Copg(beta=BETA), bandits, laws).max() < 1e-12
        assert copg.slope(Rloo(tau=BETA), bandits, laws).max() < 1e-12  # the same direction, K = 2
        assert copg.slope(Reinforce(tau=BETA), bandits, laws).min() > 1e-4
    own = (bandits.target.exp(),) * 2
    assert copg.slope(Reinforce(tau=BETA), bandits, own).max() < 1e-12  # on its own samples it stays


def test_groups_are_a_law_and_samples_come_from_it(world):
    bandits, writers = world
    one, two = writers["two policies"]
    rows = bandits.groups((one, two))
    totals = torch.zeros(6, dtype=torch.float64).index_add(0, rows.prompts, rows.weight)
    assert torch.allclose(totals, torch.ones(6, dtype=torch.float64))
    drawn = bandits.recorded((one, two), 4000, np.random.default_rng(0))
    shares = torch.stack(
        [torch.bincount(drawn.responses[drawn.prompts == s, 1], minlength=5) for s in range(6)]
    )
    assert float((shares / 4000 - two).abs().max()) < 0.04
    assert torch.equal(drawn.reward[7], bandits.reward[0, drawn.responses[7]])


def test_compared_wants_every_response_beside_another(world):
    bandits, _ = world
    rows = bandits.groups((bandits.reference.exp(),) * 2)
    assert copg.compared(rows, 6).all()
    some = rows.responses.ne(4).all(dim=1) | (rows.responses == 4).all(dim=1)
    fewer = rows._replace(prompts=rows.prompts[some], responses=rows.responses[some])
    assert not copg.compared(fewer, 6).any()


def judged(worst=1e-12, still=1e-14, away=0.1, own=1e-3, free=1.0, left=1e-12):
    def flat(value: float):
        return np.full((4, 3), value) * np.linspace(0.99, 1.01, 4)[:, None]

    courses = {("CoPG", w): flat(1e-9) for w in (ON_POLICY, *OFF_POLICY)}
    courses |= {("RLOO", w): flat(1e-9) for w in (ON_POLICY, *OFF_POLICY)}
    courses |= {("no KL", w): flat(free) for w in (ON_POLICY, *OFF_POLICY)}
    courses |= {("REINFORCE", w): flat(away) for w in OFF_POLICY} | {("REINFORCE", ON_POLICY): flat(own)}
    far, whole = np.array([left, 1.0]), np.array([True, False])
    exact = {(w, 2): worst for w in OFF_POLICY}
    return copg.judge(
        exact, still, dict.fromkeys(OFF_POLICY, 0.1), courses, [1, 2, 3], {(2, 30): (far, whole)}
    ).verdict


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, "holds"),
        ({"worst": 1e-3}, "fails"),
        ({"still": 1e-3}, "fails"),
        ({"away": 1e-3}, "fails"),
        ({"own": 0.1}, "mixed"),
        ({"free": 0.0}, "mixed"),
        ({"left": 0.1}, "mixed"),
    ],
)
def test_the_rule_of_copg(change, expected):
    assert judged(**change) == expected
