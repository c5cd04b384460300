"""Every claim at its quick scale, and its rule on evidence made to break it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from equipoise.claims.convergence import inpo
from equipoise.claims.coverage import coverage_games as games
from equipoise.claims.coverage import spac
from equipoise.claims.coverage.spac_coverage import DPO, GREEDY, LIMIT, MIXTURE, SMOOTH, Curve, judge
from equipoise.claims.index import CLAIMS
from equipoise.core.objectives import Dpo
from equipoise.games import enumerate_data
from equipoise.games.expectation import loss

# What the papers say does not all come out; a part that fails is counted, not left out.
# below; in test_rlp.py: it fails, in twenty seconds; in test_pair_losses.py: it fails at the quick scale;
# in test_token_claims.py: two learn too little at the quick scale;
# in test_unary_claims.py: one fails, one takes long where shapes are checked;
# in test_label_claims.py: two seeds decide nothing;
# in test_image_claims.py: a denoiser is trained first;
# in test_control_claims.py: a few seeds decide nothing
ELSEWHERE = (
    "cpl_control",
    "sim_oprl_queries",
    "diffusion_dpo_ink",
    "ddim_inpo_inversion",
    "ncp_dpo_encoder",
    "seppo_anchor",
    "subject_rpo_early_stopping",
    "dragon_sets",
    "spac_coverage",
    "rlp_on_distribution",
    "three_d_properties",
    "rationale_data_efficiency",
    "spo_degree",
    "kto_wrong_thumbs",
    "bco_mismatched_thumbs",
    "ldr_label_noise",
    "smooth_adversarial",
    "contrastive_temperature",
    "isogclr_long_tail",
    "p2c_classification",
    "ibcl_preferences",
    "dual_head_distillation",
)
MIXED = (
    "f_dpo_divergences",
    "rso_accepted",
    "vpo_optimism_pessimism",
    "srpo_robustness",
    "ofs_forgetting",
    "sapo_against_spin",
    "sparse_po_masks",
    "d2o_negatives_only",
    "regret_preferences",
    "linear_alignment",
    "tpo_on_step_trees",
    "dstc_minimax",
    "constrained_proxy_points",
    "simulator_free_regret",
    "reward_depends_on_writer",
    "loss_entailment",
    "on_policy_negative_gradients",
    "osp_strengths",
)
# the differences are within the intervals of a few seeds
FAILS = (
    "dno_monotone",
    "sppo_raises_chosen",
    "asft_raises_chosen",
    "spac_three_rounds",
    "kto_unequal_thumbs",
    "mcts_dpo_step_pairs",
    "spa_few_labels",
    "cream_noise",
    "upo_noisy_labels",
    "sail_bilevel",
    "refined_regret",
    "reward_augmented_goals",
)

# more than six seconds each; test_small_programs.py runs the same programs in little, and their rules have tests
NIGHTLY = (
    "on_policy_negative_gradients",
    "constrained_proxy_points",
    "convergence_classes",
    "copg_off_policy",
    "egpo_against_baselines",
    "fspo_unseen_users",
    "ofs_forgetting",
    "onpo_last_iterate",
    "osp_strengths",
    "p3o_shift_invariance",
    "pal_new_users",
    "refined_regret",
    "regret_loss",
    "regret_preferences",
    "regret_self_play",
    "rso_accepted",
    "rto_credit",
    "simulator_free_regret",
    "sapo_against_spin",
    "spa_few_labels",
    "srpo_robustness",
    "upo_noisy_labels",
    "vpo_optimism_pessimism",
    "xpo_explores",
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.nightly if name in NIGHTLY else ())
        for name in CLAIMS
        if name not in ELSEWHERE
    ],
)
def test_quick_scale_ends_as_documented_and_repeats(name):
    first = CLAIMS[name].run("quick")
    expected = "mixed" if name in MIXED else "fails" if name in FAILS else "holds"
    assert first.verdict == expected, first.summary
    if name in ("spac_lucky_arm", "nash_md_last_iterate"):
        assert CLAIMS[name].run("quick") == first


@pytest.mark.slow
def test_quick_coverage_is_not_refuted():
    """Twenty data sets decide little about powers of n, so "holds" is for the full scale; "fails" would be news."""
    evidence = CLAIMS["spac_coverage"].run("quick")
    assert evidence.verdict in ("holds", "mixed"), evidence.summary
    means = {row[0]: row for row in evidence.tables[1].rows}
    assert means[LIMIT][3] < 0.3 * means[GREEDY][3]


# --- the rule of spac_coverage on constructed curves

NS = (100, 400, 1600, 6400)


def power(game: str, method: str, exponent: float, scale: float = 1.0, x: tuple[int, ...] = NS) -> Curve:
    noise = np.random.default_rng(len(game + method)).lognormal(0, 0.05, (40, len(x)))
    lost = scale * np.asarray(x, dtype=float) ** exponent * noise
    return Curve(game, method, x, lost, np.full_like(lost, 0.4))


def judged(n_power: float = -0.5, t_power: float = -0.5, greedy_power: float = 0.0, residual: float = 0.0):
    names = [family.name for family in games.FAMILIES]
    curves = [power(game, LIMIT, n_power) for game in names]
    curves += [power("lucky", GREEDY, greedy_power, 0.5), power("lucky", DPO, greedy_power, 0.5)]
    curves += [power("lucky", f"{MIXTURE}, T = 9", n_power), power("lucky", f"{SMOOTH}, T = 3", n_power)]
    for game in names[1:]:
        curves.append(power(game, GREEDY, 0.0))
    rounds = [power(game, MIXTURE, t_power, x=(10, 100, 1000)) for game in names]
    left = np.full((40, len(NS)), residual)
    own = power("lucky", SMOOTH, -0.5, x=(3, 10, 30))
    return judge(curves, rounds, own, [Curve("lucky", LIMIT, NS, left, left)]).verdict


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "holds"),
        ({"n_power": -1.0}, "holds"),
        ({"n_power": -0.2}, "fails"),
        ({"t_power": -0.2}, "fails"),
        ({"n_power": -0.4}, "mixed"),  # within the error of the limit: neither shown nor refuted
        ({"greedy_power": -0.5}, "mixed"),  # greedy learns as well
        ({"residual": 1.0}, "mixed"),  # the saddle was not reached
    ],
)
def test_the_rule_of_coverage(changes, expected):
    assert judged(**changes) == expected


def test_data_depend_on_family_n_and_seed_only():
    one, two = games.draw(games.LUCKY, (100,), 3), games.draw(games.LUCKY, (50, 100), 5)
    assert torch.equal(one.data.counts, two.data.counts[5:8])
    assert not torch.equal(one.data.counts[0], one.data.counts[1])
    assert one.data.size.tolist() == [100.0] * 3


def test_bad_arms_are_as_rare_as_the_families_say():
    for n in (100, 6400):
        batch = games.draw(games.LUCKY, (n,), 400)
        seen = (batch.data.counts.sum(dim=1) + batch.data.counts.sum(dim=2))[:, games.COVERED :]
        assert float(seen.mean()) == pytest.approx(3.0, abs=0.25)


def test_dpo_is_the_box_minimiser_of_the_core_loss():
    """No policy in the box has a lower empirical DPO loss, by random search around the minimiser."""
    batch, beta = games.draw(games.LUCKY, (60,), 1), 0.5
    reference = batch.start().log_probs()
    reward = games.fitted_reward(batch)
    rows = enumerate_data(batch.data.share)

    def value(implicit):
        log_pi = (reference + implicit / beta).log_softmax(dim=1)
        return float(loss(Dpo(beta=beta), log_pi, {"reference": reference}, rows))

    policy = games.dpo(batch, beta, batch.start().probs())
    assert torch.allclose(policy, (reference + reward / beta).softmax(dim=1))
    generator, best = torch.Generator().manual_seed(0), value(reward)
    middle = (reward.amax() + reward.amin()) / 2
    for scale in (0.03, 0.3, 1.0):
        for _ in range(100):
            other = (
                reward - middle + scale * torch.randn(reward.shape, generator=generator, dtype=torch.float64)
            )
            assert value(other.clamp(-games.BOUND, games.BOUND)) >= best - 1e-12


def test_greedy_shares_ties_and_ignores_unseen_arms():
    counts = torch.zeros(1, games.ARMS, games.ARMS, dtype=torch.float64)
    counts[0, 0, 2] = counts[0, 1, 2] = 3  # two arms won every pair against the third; the rest unseen
    batch = games.draw(games.LUCKY, (50,), 1)
    batch = replace(batch, data=type(batch.data)(counts))
    assert games.greedy(batch)[0].tolist() == pytest.approx([0.5, 0.5, 0, 0, 0, 0])


# --- the other rules


def test_the_rule_of_the_fixed_point():
    assert inpo.judge_fixed_point([("g", 0.5, 1e-9, 1e-9)]).verdict == "holds"
    assert inpo.judge_fixed_point([("g", 0.5, 1e-9, 1e-9), ("h", 0.5, 1e-3, 1e-9)]).verdict == "fails"
    assert inpo.judge_fixed_point([("g", 0.5, 1e-9, 1e-3)]).verdict == "mixed"


def test_the_rule_of_the_saddle():
    assert spac.judge_saddle([(1.0, 1e-6, 0.0)], [(1.0, 0.7, 0.7)]).verdict == "holds"
    assert spac.judge_saddle([(1.0, 1e-2, 0.0)], [(1.0, 0.7, 0.7)]).verdict == "fails"
    assert spac.judge_saddle([(1.0, 1e-6, 0.0)], [(1.0, 0.8, 0.7)]).verdict == "mixed"


def test_the_rule_of_the_lucky_arm():
    good, recovered = (10.0, 0.9, 0.05, 0.05), (1000.0, 0.0, 0.0, 1.0)
    greedy = [-1.6, -2.0, 2.0]
    assert spac.judge_lucky_arm([good, good, recovered], greedy).verdict == "holds"
    assert spac.judge_lucky_arm([good, (10.0, 0.5, 0.0, 0.5), recovered], greedy).verdict == "fails"
    assert spac.judge_lucky_arm([good, good, recovered], [2.0, 0.0, 1.0]).verdict == "fails"
    assert spac.judge_lucky_arm([good, good, good], greedy).verdict == "mixed"
