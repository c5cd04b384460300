"""SPIN: the data against the policy's own responses; it stops at the data's law, and what it is among other methods."""

from __future__ import annotations

import pytest
import torch

from equipoise.core import Scores
from equipoise.core.objectives import Dpo, Spac
from equipoise.games import TabularPolicy, zoo
from equipoise.games.expectation import Comparisons
from equipoise.games.fit import gradient
from equipoise.games.offline import PairData
from equipoise.methods.index import get
from equipoise.worlds.table.play_game import play_game

DOUBLE = torch.float64
GAME = zoo.random(4, 3)
DATA = TabularPolicy.from_probs([0.1, 0.4, 0.3, 0.2])
PAIRS = PairData(DATA.probs()[:, :, None].expand(1, 4, 4) / 4)  # winners of that law; the losers are not read


def against_itself(policy: TabularPolicy) -> Comparisons:
    """(data, own) with their probability; a response against itself counts too and pulls nowhere."""
    cells = torch.cartesian_prod(torch.arange(4), torch.arange(4))
    weight = DATA.probs()[0, cells[:, 0]] * policy.probs()[0, cells[:, 1]]
    return Comparisons(torch.zeros(16, dtype=torch.long), cells, weight, None)


def refitted(policy: TabularPolicy, beta: float) -> TabularPolicy:
    """pi_t^(1 - 1/beta) p_data^(1/beta): the odds p_data(y) pi_t(y') to p_data(y') pi_t(y) are met by beta lr."""
    return TabularPolicy((1 - 1 / beta) * policy.log_probs() + DATA.log_probs() / beta)


def test_the_first_gradient_is_half_beta_times_data_minus_policy():
    beta, policy = 0.3, GAME.initial()
    found = gradient(
        Dpo(beta=beta),
        against_itself(policy),
        start=policy.log_probs(),
        anchors={"reference": policy.log_probs()},
    )
    expected = -beta / 2 * (DATA.probs() - policy.probs())
    assert expected.abs().max() > 0.01
    assert torch.allclose(found, expected, atol=1e-14)
    there = DATA.log_probs()
    at_the_data = gradient(Dpo(beta=beta), against_itself(DATA), start=there, anchors={"reference": there})
    assert at_the_data.abs().max() < 1e-15


@pytest.mark.parametrize("beta", [0.8, 1.0, 3.0])
def test_a_round_goes_a_share_of_one_over_beta_of_the_way_to_the_data(beta):
    method = get("spin").with_parameters({"beta": beta})
    policy = GAME.initial()
    for rounds in (1, 2):
        policy = refitted(policy, beta)
        found = play_game(GAME, method, rounds=rounds, data=PAIRS)["policy"][0]
        assert found == pytest.approx(policy.probs()[0].tolist(), abs=1e-6)


def test_the_laws_fixed_point_is_the_data_and_nothing_beyond():
    """Whoever would win: the data's best response is no more likely than in the data."""
    found = play_game(GAME, get("spin").with_parameters({"beta": 0.8}), rounds=30, data=PAIRS)["policy"][0]
    assert found == pytest.approx(DATA.probs()[0].tolist(), abs=1e-6)
    best = int(GAME.win(DATA)[0].argmax())
    assert found[best] == pytest.approx(float(DATA.probs()[0, best]), abs=1e-6) and found[best] < 0.9


def test_below_one_half_an_exact_round_oversteps_ever_farther():
    """The log-ratio to the data is multiplied by 1 - 1/beta each round; at beta 0.1 only a finite fit stays near."""
    policy, gaps = GAME.initial(), []
    for _ in range(3):
        policy = refitted(policy, 0.4)
        gap = policy.log_probs() - DATA.log_probs()
        gaps.append(float((gap - gap.mean()).abs().max()))
    assert gaps[1] / gaps[0] == pytest.approx(1.5) and gaps[2] / gaps[1] == pytest.approx(1.5)


def test_it_is_dpo_of_data_over_own_from_the_last_iterate():
    spin = get("spin")
    assert spin.objective == Dpo(beta=0.1) and dict(spin.anchors) == {"reference": "start"}


def test_it_is_spacs_smooth_pessimism_alone_on_preferred_responses():
    """With the preferred response in both places of the pair, w_pref = 0 and 2 w_pess = 1."""
    draw = torch.Generator().manual_seed(0)
    target, own, past = (torch.randn(6, generator=draw, dtype=DOUBLE) for _ in range(3))
    beta = 0.7
    pair = Scores(
        logp=torch.stack([target, own], dim=1), anchors={"reference": torch.stack([past, -past], dim=1)}
    )
    triple = Scores(
        logp=torch.stack([target, target, own], dim=1),
        anchors={"previous": torch.stack([past, past, -past], dim=1)},
    )
    spac = Spac(b=beta, w_pref=0.0, w_pess=0.5)(triple).value
    assert torch.allclose(spac, Dpo(beta=beta)(pair).value, atol=1e-15)
