"""Rules of claims on rates, writers, safety, own samples and entailment, on figures made to break them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from equipoise.claims.convergence import inpo_sampled, last_iterate
from equipoise.claims.convergence.sampled_rounds import labelled_pairs, random_games
from equipoise.claims.coverage import coverage_games, spac_safety
from equipoise.claims.draws import numpy_draws
from equipoise.claims.exploration import on_policy
from equipoise.claims.likelihood import entanglement
from equipoise.claims.rewards import loss_entailment, writers
from equipoise.games import zoo

NOISE = np.random.default_rng(0).lognormal(0, 0.01, (12, 1))


# --- labelled pairs


def test_labels_are_drawn_from_the_games_own_probabilities():
    game = random_games(2, 3)
    rows = labelled_pairs(game, game.reference, game.reference, 20_000, numpy_draws(0))
    for x in range(2):
        mine = rows.responses[rows.prompts == x]
        for a, b in ((0, 1), (0, 2), (1, 2)):
            won = ((mine == torch.tensor([a, b])).all(dim=1)).sum()
            lost = ((mine == torch.tensor([b, a])).all(dim=1)).sum()
            spread = 4 * 0.5 / float(won + lost) ** 0.5
            assert float(won / (won + lost)) == pytest.approx(float(game.preference[x, a, b]), abs=spread)
    shares = torch.bincount(rows.responses.flatten(), minlength=3) / rows.responses.numel()
    assert torch.allclose(shares.double(), game.reference.mean(dim=0), atol=0.01)


# --- last iterates


def runs(setting, power=-1.0, cycles_power=-1.0, excess=0.0, end=None):
    t = np.maximum(np.arange(2001.0), 0.5)
    kls = {(last_iterate.CYCLES, setting.text): NOISE * t**cycles_power}
    kls[last_iterate.RANDOM, setting.text] = NOISE * t**power
    if end is not None:
        kls[last_iterate.RANDOM, setting.text] = np.maximum(kls[last_iterate.RANDOM, setting.text], end)
    for eta in setting.constant:
        kls |= {
            (kind, f"{eta:g}"): NOISE * 0.3 + 0 * t for kind in (last_iterate.CYCLES, last_iterate.RANDOM)
        }
    return last_iterate.Runs(kls, excess)


@pytest.mark.parametrize("setting", [last_iterate.INPO, last_iterate.NASH_MD])
def test_the_rule_of_last_iterates(setting):
    assert last_iterate.judge(setting, runs(setting)).verdict == "holds"
    assert last_iterate.judge(setting, runs(setting, power=-0.5)).verdict == "fails"
    assert last_iterate.judge(setting, runs(setting, cycles_power=0.0)).verdict == "fails"  # never moves
    assert last_iterate.judge(setting, runs(setting, end=0.1)).verdict == "fails"  # stays at a bias
    assert last_iterate.judge(setting, runs(setting, excess=1e-3)).verdict == "mixed"


@pytest.mark.parametrize("setting", [last_iterate.INPO, last_iterate.NASH_MD])
def test_played_rounds_keep_the_inequality(setting):
    game = last_iterate.cycles()
    path = last_iterate.played(game, setting.method, [setting.steps(t) for t in range(1, 41)])
    assert setting.excess(game, path, last_iterate.distances(game, path)) <= last_iterate.ROUNDING


def test_a_policy_that_never_moves_breaks_the_inequality_in_the_end():
    """INPO's at once; Nash-MD's where 400/t is below the KL."""
    game = last_iterate.cycles()
    still = [game.initial()] * 41
    kls = last_iterate.distances(game, still)
    assert last_iterate.INPO.excess(game, still, kls) > 1e-4
    assert last_iterate.NASH_MD.excess(game, still, kls) < 0
    assert last_iterate.NASH_MD.excess(game, still, np.full((1, 3001), 0.25)) > 0


def test_the_rule_of_sampled_inpo():
    at, start = (8, 32, 128), np.full(12, 0.2)

    def judged(power, end=1.0, bent=False):
        values = end * 0.02 * NOISE * (np.array(at) / 8.0) ** power
        if bent:
            values[:, 2] = values[:, 1]
        found = {inpo_sampled.SCHEDULE: values, inpo_sampled.CONSTANT: 0.02 * NOISE + np.zeros(3)}
        return inpo_sampled.judge(found, start, at).verdict

    assert judged(-0.5) == judged(-1.0) == "holds"
    assert judged(-0.3) == "fails"
    assert judged(-0.5, end=20) == "fails"  # half of the start's gap is left
    assert judged(-2.0, bent=True) == "mixed"  # all of the fall lies in the first step


# --- writers


def test_the_rule_of_writers():
    sizes = (1_000, 10_000, 100_000)
    n = np.array(sizes) / 1_000

    def judged(reward=0.0, model=-0.5, control=-0.5, level=0.4):
        falls = {
            (writers.GENERAL, writers.REWARD): level * NOISE * n**reward,
            (writers.GENERAL, writers.MODEL): 0.1 * NOISE * n**model,
            (writers.TRANSITIVE, writers.REWARD): 0.1 * NOISE * n**control,
            (writers.TRANSITIVE, writers.MODEL): 0.1 * NOISE * n**-0.5,
        }
        return writers.judge(falls, sizes).verdict

    assert judged() == "holds"
    assert judged(reward=-0.5) == judged(model=-0.1) == judged(level=0.001) == "fails"
    assert judged(control=-0.1) == "mixed"


# --- SPAC


def gains(spac=0.1, quantile=0.0, dpo=-0.5):
    found = {}
    for method, values in ((spac_safety.SPAC, spac_safety.LAMBDAS), (spac_safety.DPO, spac_safety.BETAS)):
        for value in values:
            level = spac if method == spac_safety.SPAC else dpo
            found["lucky", 100, method, value] = level + np.linspace(-0.01, 0.01, 40)
    found["lucky", 100, spac_safety.GREEDY, 0.0] = dpo + np.linspace(-0.01, 0.01, 40)
    found["lucky", 100, spac_safety.SPAC, 1e4] = np.where(np.arange(40) < 4, quantile, spac) + np.linspace(
        -0.01, 0.01, 40
    )
    return spac_safety.judge_safe(found).verdict


def test_the_rule_of_safety():
    assert gains() == "holds"
    assert gains(spac=-0.04) == "holds"  # forgiven
    assert gains(spac=-0.06) == "fails"
    assert gains(quantile=-0.6) == "mixed"  # the unlucky data sets lose more than DPO's


def test_spac_keeps_to_the_data_at_a_small_lambda_and_leaves_it_at_a_larger_one(monkeypatch):
    monkeypatch.setattr(spac_safety, "LAMBDAS", (0.01, 100.0))
    batch = coverage_games.draw(coverage_games.RARELY, (200,), 2)
    found = {(m, v): p for m, v, p in spac_safety.policies(batch, 100)}
    assert (found[spac_safety.SPAC, 0.01] - batch.behaviour).abs().max() < 0.15
    best = batch.rewards.argmax(dim=1)
    assert (found[spac_safety.SPAC, 100.0].gather(1, best[:, None]) > 0.5).all()


def test_the_rule_of_three_rounds():
    def judged(three, one=0.5):
        lost = np.tile([one, three, 0.2, 0.1], (10, 1)) + 0.001 * NOISE[:10]
        lost[:, 1] += np.linspace(0, 0.001, 10)
        return spac_safety.judge_rounds({("lucky", 100): lost}).verdict

    assert judged(0.11) == "holds"
    assert judged(0.3) == "fails"
    assert judged(0.11, one=0.11) == "mixed"


# --- own samples


def ends(**change):
    level = {on_policy.SFT: 0.1, on_policy.DPO: 0.5, on_policy.OWN_SFT: 1.0, on_policy.OWN_DPO: 3.0}
    level |= {on_policy.RL: 3.0, on_policy.OLD_SFT: 0.2, on_policy.OLD_DPO: 2.9} | change
    found = {}
    for k, (name, value) in enumerate(level.items()):
        noise = np.random.default_rng(k).normal(0, 0.01, 8)
        found["tail", name] = on_policy.End(value + noise, noise, 0.1)
        found["mode", name] = on_policy.End(3.9 + noise, noise, 0.1)
        found["tenth percentile", name] = on_policy.End(3.0 + noise, noise, 0.1)
    return found


def test_the_rule_of_own_samples():
    assert on_policy.judge(ends()).verdict == "holds"
    assert on_policy.judge(ends(**{on_policy.OWN_DPO: 0.5})).verdict == "fails"
    assert on_policy.judge(ends(**{on_policy.DPO: 0.1})).verdict == "fails"
    assert on_policy.judge(ends(**{on_policy.OWN_SFT: 3.5, on_policy.OLD_SFT: 1.0})).verdict == "mixed"
    assert on_policy.judge(ends(**{on_policy.OLD_DPO: 0.0})).verdict == "mixed"
    found = ends()
    found["mode", on_policy.OWN_DPO] = replace(
        found["mode", on_policy.OWN_DPO], reward=np.linspace(3.0, 3.1, 8)
    )
    assert on_policy.judge(found).verdict == "mixed"


def test_the_responses_are_as_rare_as_the_study_says():
    share = on_policy.reference().exp()
    assert float(share[0]) == pytest.approx(0.0676, abs=1e-3) and float(share[-1]) == pytest.approx(
        7e-5, rel=0.1
    )
    assert float(share[: on_policy.PEAKS["tenth percentile"]].sum()) == pytest.approx(0.9, abs=0.01)
    assert all(int(on_policy.rewards(peak).argmax()) == at for peak, at in on_policy.PEAKS.items())


# --- entanglement


def moves(right=1.0, sign=1.0, rising=0.5):
    """Signs of 40 pairs a seed; `right` of them as predicted, `rising` of the chosen ones up."""
    pairs = np.where(np.arange(40)[:, None] < 40 * rising, [1.0, -1.0], [-1.0, -1.0]) * np.ones((6, 1, 1))
    moved = np.where(np.arange(40)[:, None] < 40 * right, pairs, -pairs)
    return entanglement.Moves(sign * pairs, moved, moved)


def test_the_rule_of_entanglement():
    good = dict.fromkeys(entanglement.LOSSES, moves())
    noisy = np.random.default_rng(0).random((6, 40, 2)) < 0.02
    seeds = replace(good["DPO"], far=np.where(noisy, np.nan, good["DPO"].far))
    good = dict.fromkeys(entanglement.LOSSES, seeds)
    assert entanglement.judge(good).verdict == "holds"
    assert entanglement.judge(good | {"DPO": moves(right=0.8)}).verdict == "fails"
    assert (
        entanglement.judge(good | {"IPO": moves(rising=1.0)}).verdict == "fails"
    )  # the naive rule is as good
    assert entanglement.judge(good | {"SPPO": moves(sign=-1.0)}).verdict == "mixed"


def test_a_small_step_moves_what_the_inner_products_say():
    phi, reference = entanglement.draw(30)
    loss = entanglement.LOSSES["DPO"]
    found = entanglement.follow(phi, reference, loss, (1, 30, 2))
    ratio = found.predicted[0] / found.predicted[0].sum(axis=1, keepdims=True)
    moved = found.near[0] / found.near[0].sum(axis=1, keepdims=True)
    close = np.abs(found.predicted[0].sum(axis=1)) > 0.1 * np.abs(found.predicted[0]).sum(axis=1)
    assert close.sum() > 10 and np.median(np.abs(ratio - moved)[close]) < 0.2


# --- entailment


def test_the_rule_of_entailment():
    rising = (np.linspace(0.5, 0.6, 8), np.linspace(0.1, 0.2, 8))
    new = {"a": rising, "b": rising}
    assert loss_entailment.judge({("x", "y"): 0.0}, 1.0, (256, 225), new).verdict == "holds"
    assert loss_entailment.judge({("x", "y"): -1e-6}, 1.0, (256, 225), new).verdict == "fails"
    assert loss_entailment.judge({("x", "y"): 0.0}, 1.0, (16, 9), new).verdict == "mixed"
    flat = (np.linspace(-0.5, 0.6, 8), rising[1])
    assert loss_entailment.judge({("x", "y"): 0.0}, 1.0, (256, 225), new | {"b": flat}).verdict == "mixed"


def test_the_structures_over_two_atoms_that_have_a_loss():
    """Some row wins and some loses: 4^4 - 2 2^4 + 1."""
    assert loss_entailment.count() == (256, 256 - 2 * 16 + 1)


def test_random_games_move_with_the_first_seed():
    assert torch.equal(random_games(2, 4).preference[1], zoo.random(4, 1).preference[0])
    assert torch.equal(random_games(1, 4, first=1).preference[0], zoo.random(4, 1).preference[0])
