"""Claims of single responses' losses: known figures of small runs, and each rule on evidence made to break it."""

from __future__ import annotations

from dataclasses import replace
from math import log

import numpy as np
import pytest
import torch

from equipoise.claims.unpaired import bco, d2o, kto, kto_thumbs

pytestmark = pytest.mark.usefixtures("no_shape_types")  # thousands of small steps

SPREAD = np.linspace(-0.001, 0.001, 5)


# KTO ---------------------------------------------------------------------------------------------


def test_kto_is_as_its_card_says_point_by_point():
    shape = kto.look()
    assert shape.inside and shape.pull == 0
    assert max(shape.half, shape.slope) < 1e-15
    # 4 s(a)(1 - s(a)) at a = 20
    assert shape.tails == pytest.approx(4 * np.exp(-20.0), rel=1e-6)
    assert shape.logistic == pytest.approx(1.0, abs=1e-8)


def test_wrong_thumbs_are_a_tenth_and_lie_where_they_should():
    world = kto.draw(2)
    clean, far, near = (kto.mislabelled(world, which) for which in kto.WRONG)
    size = np.abs(world.reward.numpy()[np.arange(2)[:, None], clean.prompts, clean.responses[..., 0]])
    for thumbs in (far, near):
        assert ((thumbs.label != clean.label).sum(axis=1) == 22).all()
    for copy in range(2):
        assert size[copy][(far.label != clean.label)[copy]].min() >= np.sort(size[copy])[-22]
        assert size[copy][(near.label != clean.label)[copy]].max() <= np.sort(size[copy])[21]


def test_unequal_thumbs_have_their_numbers_and_weights_their_ratio():
    thumbs = kto.imbalanced(kto.draw(2), 200, 20)
    assert thumbs.label.sum(axis=1).tolist() == [200, 200] and thumbs.label.shape == (2, 220)
    for (up, down), ratio in ((mix, ratio) for mix in kto.MIXES for ratio in kto.RATIOS):
        objective = kto.weighed(up, down, ratio)
        assert objective.desirable * up / (objective.undesirable * down) == pytest.approx(ratio)
        assert max(objective.desirable, objective.undesirable) == 1.0


def test_pairs_are_ordered_by_the_truth_and_against_it():
    reward = kto.draw(2).reward
    assert kto.ordered(reward.flatten(0, 1), reward).tolist() == [1.0, 1.0]
    assert kto.ordered(-reward.flatten(0, 1), reward).tolist() == [0.0, 0.0]


def test_rule_of_the_card():
    shape = kto.look()
    assert kto.judge(shape).verdict == "holds"
    broken = (
        {"inside": False},
        {"half": 1e-9},
        {"slope": 1e-9},
        {"tails": 1e-3},
        {"logistic": 0.9},
        {"pull": 0.1},
    )
    assert all(kto.judge(replace(shape, **change)).verdict == "fails" for change in broken)


def wrong(ahead: float = 0.9, unsaturated: float = 0.9, clean: float = 0.8):
    found = {
        (beta, which, loss): 0.8 + SPREAD
        for beta in kto_thumbs.BETAS
        for which in kto.WRONG
        for loss in kto.LOSSES
    }
    for beta in kto_thumbs.BETAS:
        found[beta, kto.FARTHEST, kto.KTO] = (ahead if beta > 1 else unsaturated) + 0 * SPREAD
        found[beta, kto.CLEAN, kto.KTO] = clean + 0 * SPREAD
    return kto_thumbs.judge_wrong(found).verdict


def test_rule_of_wrong_thumbs():
    assert wrong() == wrong(unsaturated=0.1) == "holds"
    assert wrong(ahead=0.8001) == "fails"  # within the interval
    assert wrong(clean=0.7) == "mixed"


@pytest.mark.parametrize("mix", kto.MIXES)
def test_rule_of_unequal_thumbs(mix):
    found = {(m, ratio): 0.9 + 0 * SPREAD for m in kto.MIXES for ratio in kto.RATIOS}
    found |= {(m, m[0] / m[1]): 0.8 + SPREAD for m in kto.MIXES}
    assert kto_thumbs.judge_unequal(found).verdict == "holds"
    assert kto_thumbs.judge_unequal(found | {(mix, 4 / 3): 0.8 + SPREAD}).verdict == "fails"


# BCO ---------------------------------------------------------------------------------------------


def test_thumbs_keep_their_shares_and_the_odds_within_a_prompt():
    (game,) = bco.draw(1)
    rows = bco.thumbs(game, 0.8, down=10.0)
    up, first = rows.reward[:, 0] == 1, rows.prompts < bco.PROMPTS // 2
    assert rows.weight[up].sum() == pytest.approx(1) and rows.weight[~up].sum() == pytest.approx(10)
    assert rows.weight[up & first].sum() == pytest.approx(0.8)
    assert rows.weight[~up & first].sum() == pytest.approx(2.0)
    odds = np.log(rows.weight[up] / rows.weight[~up]).reshape(bco.PROMPTS, bco.ARMS) - game.reward.numpy()
    assert np.ptp(odds, axis=1).max() < 1e-12


def test_matching_gives_thumbs_down_the_prompts_of_thumbs_up_unless_a_ratio_is_cut():
    (game,) = bco.draw(1)
    for share, ratios in ((0.65, (0.65 / 0.35, 0.35 / 0.65)), (0.9, (9.0, 0.5))):
        plain, formed = (f(game, bco.thumbs(game, share)) for f in (bco.weighed, bco.matched))
        assert (formed.prompts == plain.prompts).all() and (formed.reward == plain.reward).all()
        ratio = formed.weight / plain.weight
        down, first = plain.reward[:, 0] == 0, plain.prompts < bco.PROMPTS // 2
        assert ratio[~down] == pytest.approx(1.0)
        # a ridge of 1 on sums over 1,000 thumbs of each kind: a few per cent
        assert ratio[down & first] == pytest.approx(ratios[0], rel=0.05)
        assert ratio[down & ~first] == pytest.approx(ratios[1], rel=0.05)


def test_games_side_by_side_are_learnt_as_each_alone():
    games = bco.draw(2)
    rows = [bco.weighed(game, bco.thumbs(game, 0.65)) for game in games]
    together = bco.learn(games, rows, "none")
    for game, row, found in zip(games, rows, together, strict=True):
        assert torch.allclose(bco.learn([game], [row], "none")[0], found, atol=1e-6)


def mismatch(
    matched: float = 0.001,
    as_they_come: float = 0.1,
    cut: float = 0.3,
    none: float = 0.5,
    unshifted: float = 0.05,
    alike: float = 0.0,
    unequal: float = 0.6,
    noise: float = 0.0,
):
    found = {}
    for q in bco.SHARES:
        for udm in (False, True):
            moved = (0.0 if q == 0.5 else matched if udm else as_they_come) + SPREAD * (q != 0.5)
            moved = moved + noise * np.linspace(-1, 1, 5) * (not udm)
            lost = 0.1 if udm or q == 0.5 else 0.4
            lost = cut if udm and q == 0.9 else lost
            found["balanced", udm, q] = bco.Found(lost + SPREAD, moved)
            found["none", udm, q] = bco.Found(none + 0 * SPREAD, np.full(5, unshifted))
    imbalance = {(down, True): bco.Found(0.1 + SPREAD, np.full(5, alike)) for down in bco.IMBALANCES}
    imbalance |= {(down, False): bco.Found(np.full(5, unequal), np.ones(5)) for down in bco.IMBALANCES}
    return bco.judge(found, imbalance).verdict


def test_rule_of_bco():
    assert mismatch() == "holds"
    assert mismatch(matched=0.02) == "fails"  # more than a tenth is left
    assert mismatch(noise=0.3) == "fails"  # within the interval
    assert mismatch(cut=0.4) == "mixed"  # no help where ratios are cut
    assert mismatch(none=0.4) == "mixed"  # the shift is of no use
    assert mismatch(unshifted=0.3) == "mixed"  # the shift matches by itself
    assert mismatch(alike=1e-3) == mismatch(unequal=0.1) == "mixed"


@pytest.mark.slow
def test_matching_undoes_the_mismatch_where_no_ratio_is_cut_and_the_shift_makes_it_worse():
    evidence = bco.run("quick")
    assert evidence.verdict == "mixed"
    kl = {row[:2]: row[-3] for row in evidence.tables[0].rows}  # at q = 0.65
    for shift in bco.NAMES.values():
        assert kl[shift, "yes"] < 0.02 * kl[shift, "no"]
    assert kl["shift", "no"] > 2 * kl["no shift", "no"]


# D2O ---------------------------------------------------------------------------------------------


def test_a_winner_drawn_for_dpo_is_never_the_bad_response():
    reference = d2o.draw(d2o.TABLE, 50).reference.flatten(0, 1)
    assert (d2o.drawn_once(reference, 1, bad=False).responses[:, 0] != d2o.BAD).all()
    assert d2o.drawn_once(reference, 11, bad=True).responses.shape == (50, 12)


def test_in_a_table_npo_takes_the_path_of_gradient_ascent():
    """One bad response for each table: NPO's weight changes the speed, and the steps have one length."""
    model = d2o.draw(d2o.TABLE, 4)
    ascent, npo = (d2o.flow(model, loss, 120) for loss in (d2o.ASCENT, d2o.NPO))
    assert npo.moved == pytest.approx(ascent.moved, abs=1e-12)
    assert (ascent.reached > log(10)).all() and not ascent.idle.any()


def test_samples_that_are_all_the_bad_response_teach_nothing():
    """Bad at 1 - 1e-12: alpha = beta, so both terms are the same log-ratio."""
    model = d2o.LinearSoftmax.tabular(
        torch.tensor([[[30.0] + [0.0] * (d2o.ARMS - 1)]], dtype=torch.float64).log_softmax(dim=2)
    )
    path = d2o.flow(model, d2o.D2O_WITH, 10)
    assert path.idle.all() and path.reached.tolist() == [0.0]


def left(
    d2o_kl: float = 0.1,
    dpo: float = 0.3,
    ascent: float = 0.2,
    npo: float = 0.2,
    entropy: float = -0.05,
    reached=5.0,
):
    kl = {d2o.DPO: dpo, d2o.ASCENT: ascent, d2o.NPO: npo}
    columns = len(d2o.FALLS) + len(d2o.LEVELS)

    def made(loss: str) -> d2o.Path:
        own = loss not in kl
        moved = np.full((5, columns), kl.get(loss, 0.1)) + (SPREAD[:, None] if own else 0)
        return d2o.Path(moved, np.full((5, columns), entropy), np.full(5, reached), np.zeros(5, dtype=bool))

    paths = {(p, loss): made(loss) for p in (d2o.TABLE, d2o.SHARED) for loss in d2o.LOSSES}
    return d2o.judge(paths).verdict


def test_rule_of_d2o():
    assert left() == "holds"
    assert left(dpo=0.1001) == "fails"  # within the interval
    assert left(reached=4.0) == "fails"  # not a hundredth
    assert left(ascent=0.1) == left(npo=0.05) == left(entropy=-0.2) == "mixed"
