"""Claims of lists, tokens and texts: known figures of small runs, and each rule on evidence made to break it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from equipoise.claims.tokens import frontier, linear_alignment, rationale, sparse_po, spo_degree, tpo
from equipoise.claims.tokens.frontier import Climb
from equipoise.claims.tokens.tiny_fits import BASE, Playground, fit, scores
from equipoise.core.objectives import SparsePo
from equipoise.games import TokenPolicy, TokenTree, kl, soft_optimum, terminal_reward
from equipoise.policy.scoring.live_reference import LiveScorer

pytestmark = pytest.mark.usefixtures("no_shape_types")  # hundreds of small steps


def test_a_level_is_crossed_between_steps_by_hand():
    found = Climb(np.array([[0.0, 1.0, 3.0], [0.0, 0.5, 0.9]]), np.array([[0.0, 2.0, 6.0], [1.0, 1.0, 1.0]]))
    assert found.value_at(2.0)[0] == pytest.approx(4.0) and np.isnan(found.value_at(2.0)[1])
    assert found.kl_at(1.0).tolist() == pytest.approx([0.5, 0.0])
    assert np.isnan(
        frontier.ahead(found.value_at(2.0), np.zeros(2))[1]
    )  # a seed that is missing decides nothing


# TPO ---------------------------------------------------------------------------------------------


def test_lists_are_judged_best_first_and_drawn_from_the_tree():
    world = tpo.draw(3)
    assert torch.allclose(world.truth.mean(dim=1), torch.zeros(3).double(), atol=1e-12)
    assert torch.allclose(world.truth.square().mean(dim=1), torch.ones(3).double())
    lists = tpo.sample(world, 500)
    assert bool((lists.judged.diff(dim=2) <= 0).all())
    noise = lists.judged - world.truth.gather(1, lists.paths.flatten(1)).view_as(lists.judged)
    assert float(noise.std()) == pytest.approx(tpo.NOISE, rel=0.04)  # 7,500 draws: four standard errors


def test_steps_that_all_paths_share_weigh_nothing():
    paths = torch.tensor([[[0, 1]]])  # a a a a and a a a b
    assert tpo.step_weights(paths)[0, 0].tolist() == [[0, 0, 0, 4], [0, 0, 0, 4]]


def test_tpo_of_ones_is_dpo_on_all_pairs_along_the_whole_path():
    world = tpo.draw(2)
    lists = tpo.sample(world, 10)
    ones, pairs = (tpo.learn(world, lists, name, steps=5) for name in (tpo.ONES, tpo.ALL))
    # ten times the mean over pairs: Adam divides the factor out, up to its epsilon
    assert ones.value == pytest.approx(pairs.value, abs=1e-6)


def test_no_loss_gains_more_than_the_tilted_reference():
    world = tpo.draw(2)
    possible = tpo.best_possible(world, 0.3)
    gained = tpo.learn(world, tpo.sample(world, 160), tpo.TPO, steps=40).value_at(0.3)
    assert (gained < possible).all() and (gained > 0.5 * possible).all()


def climbs(rise: dict[str, float], far: float = 2.0) -> dict[tuple[str, int], Climb]:
    spread = 1 + np.linspace(-0.01, 0.01, 5)[:, None]
    way = np.linspace(0, far, 21)
    return {
        (name, tpo.LISTS): Climb(np.tile(way, (5, 1)), slope * spread * way) for name, slope in rise.items()
    }


def lists_verdict(
    best: float = 1.0, pairs: float = 1.1, plain: float = 1.2, steps: float = 1.3, far: float = 2.0
):
    rise = {tpo.BEST: best, tpo.ALL: pairs, tpo.ONES: pairs, tpo.TPO: plain, tpo.STEPS: steps}
    return tpo.judge(climbs(rise, far), np.ones(5)).verdict


def test_rule_of_tpo():
    assert lists_verdict() == "holds"
    assert lists_verdict(steps=1.2) == lists_verdict(pairs=1.2) == "mixed"
    assert lists_verdict(best=1.2) == lists_verdict(best=1.3) == "fails"
    assert lists_verdict(far=0.9) == "fails"  # nobody gets where values are compared


def test_rank_weights_beat_the_best_and_worst_but_not_all_pairs():
    """Half of the claim fails: what the lists add is their pairs, not the ranks' weights."""
    found = tpo.run("quick")
    at = {row[1]: row[2:5] for row in found.tables[0].rows}
    assert found.verdict == "mixed"
    assert at[tpo.BEST][0] < at[tpo.TPO][0] < at[tpo.ALL][0]


# SparsePO ----------------------------------------------------------------------------------------


def test_pairs_prefer_the_word_that_matters_as_often_as_bradley_terry_says():
    said = sparse_po.truth()[sparse_po.draw(20, 1000).responses]
    apart = said[..., 0] != said[..., 1]
    rate = 1 / (1 + np.exp(-sparse_po.WORTH))
    # some 10,000 pairs that differ there: one standard error is 0.0033
    assert float(said[apart][:, 0].mean()) == pytest.approx(rate, abs=0.012)


def test_a_true_mask_lets_no_gradient_through_elsewhere_and_a_mask_of_ones_does():
    pairs = sparse_po.draw(2, 50)
    elsewhere, there = sparse_po.leak(pairs)
    assert elsewhere == 0 < 0.01 < there
    base = sparse_po.reference(2)
    logits = base.logits.clone().requires_grad_(True)
    ones = torch.ones(2, len(sparse_po.TREE.responses), sparse_po.TREE.length, dtype=torch.float64)
    found = sparse_po.scores(sparse_po.TokenPolicy(sparse_po.TREE, logits), base, pairs, ones)
    SparsePo(l1_u=0.0, l1_d=0.0)(found).value.sum().backward()
    assert bool((logits.grad.abs().amax(dim=(0, 2))[:7] > 1e-4).all())  # all prefixes of up to two words


def test_with_the_true_mask_the_kl_is_that_of_one_word():
    """All KL stands in the place that matters: at most a little over that of one word, 0.8 against 0.5."""
    path = sparse_po.learn(sparse_po.draw(4, 200), sparse_po.GIVEN, steps=60).path
    one_word = 0.8 * np.log(1.6) + 0.2 * np.log(0.4)
    at = path.kl_at(0.8)
    assert (at >= one_word - 1e-3).all() and at == pytest.approx(one_word, rel=0.02)


def test_masks_begin_at_one():
    assert torch.allclose(sparse_po.Masks(2)(), torch.ones((), dtype=torch.float64))


def masks_verdict(
    given: float = 0.3,
    learnt: float = 0.5,
    drift: float = 0.6,
    leaked: float = 0.0,
    own: float = 1.0,
    on: float = 2.0,
):
    """Figures are KLs per unit of score; DPO's is 1."""
    spread = 1 + np.linspace(-0.01, 0.01, 5)[:, None]
    value = np.tile(np.linspace(0.5, 1.0, 11), (5, 1))
    costs = {sparse_po.DPO: 1.0, sparse_po.TDPO1: drift, sparse_po.TDPO2: drift}
    costs |= {sparse_po.GIVEN: given, sparse_po.LEARNT: learnt}
    masks = np.ones((5, sparse_po.TREE.length)) + 0.01 * spread
    masks[:, sparse_po.MATTERS] = on
    found = {
        (name, sparse_po.PAIRS): sparse_po.Learnt(
            Climb(cost * (1 if name == sparse_po.DPO else spread) * (value - 0.5) * 8, value),
            masks if name == sparse_po.LEARNT else None,
        )
        for name, cost in costs.items()
    }
    return sparse_po.judge(found, (leaked, own)).verdict


def test_rule_of_sparse_po():
    assert masks_verdict() == "holds"
    assert masks_verdict(leaked=1e-9) == masks_verdict(own=0.0) == "fails"
    assert masks_verdict(learnt=1.0) == "fails"
    assert masks_verdict(given=1.1) == masks_verdict(drift=1.2) == masks_verdict(on=0.5) == "mixed"


@pytest.mark.slow
def test_the_true_mask_saves_most_and_tdpo1_pays_for_chosen_responses_that_drift():
    found = sparse_po.run("quick")
    at = {row[1]: row[2] for row in found.tables[0].rows}
    assert at[sparse_po.GIVEN] < at[sparse_po.TDPO2] < at[sparse_po.DPO] < at[sparse_po.TDPO1]


# fits of the playground's transformer ------------------------------------------------------------


@pytest.fixture(scope="module")
def world() -> Playground:
    return Playground()


def test_the_reference_wins_half_against_itself(world):
    # the table is of answers given that they stay in the grammar; the model leaves it now and then
    assert 0.495 < world.win_rate(world.policy()) <= 0.5


def test_a_rationale_stands_behind_both_answers_and_is_all_that_is_scored(world):
    row = world.rows(1, seed=0)[0]
    better, worse, why = row.texts
    assert why.lead[: len(better.ids) - 1] == better.ids[:-1]
    assert world.renderer.text(why.ids).strip() == why.text
    policy = world.policy()
    found = scores(LiveScorer(policy.scorer), [row], 3, None, policy.pad)
    assert found.length.tolist() == [[len(better.ids), len(worse.ids), len(why.ids)]]
    ids = torch.tensor([[*row.prompt, *why.lead, *why.ids]])
    law = policy.model(ids).logits[0].detach().log_softmax(dim=1)
    by_hand = sum(float(law[-len(why.ids) - 1 + k, token]) for k, token in enumerate(why.ids))
    assert found.logp[0, 2].item() == pytest.approx(by_hand, abs=1e-4)  # float32


def test_texts_of_a_pair_are_whole_and_then_lack_more_and_more(world):
    texts = [len(text.text.split()) for text in world.degraded(1, 0, 4)[0].texts]
    whole, less = texts[0], texts[2:5]
    assert whole > less[0] > less[1] > less[2]


def test_dpo_learns_and_a_frozen_policy_stays(world):
    rows = world.rows(32, seed=0)
    policy = world.policy()
    before = world.win_rate(policy)
    fit(policy, rows, BASE, steps=4, seed=0)
    assert world.win_rate(policy) > before
    still = world.policy()
    kept = {name: value.detach().clone() for name, value in still.parameters()}
    network = spo_degree.build_head(spo_degree.DegreeHeads(degrees=4), 96, 2, 0)
    learnt = {name: value.clone() for name, value in network.state_dict().items()}
    data = world.degraded(16, 0, 4)
    fit(still, data, spo_degree.objective(spo_degree.FROZEN), steps=2, seed=0, network=network, frozen=True)
    assert all(torch.equal(value, kept[name]) for name, value in still.parameters())
    assert any(not torch.equal(value, learnt[name]) for name, value in network.state_dict().items())


SPREAD = np.linspace(-0.005, 0.005, 5)


def reasons_verdict(few: float, many: float, spread: float = 1.0):
    """Win rates with rationales, of few and of many pairs; without they are 0.6 and 0.7."""
    rates = {(rationale.WITHOUT, 16): 0.6, (rationale.WITHOUT, 64): 0.7}
    rates |= {(rationale.WITH, 16): few, (rationale.WITH, 64): many}
    return rationale.judge(
        {key: rate + spread * SPREAD * (key[0] == rationale.WITH) for key, rate in rates.items()}
    ).verdict


def test_rule_of_rationales():
    assert reasons_verdict(0.71, 0.75) == "holds"
    assert reasons_verdict(0.65, 0.75) == "mixed"
    assert reasons_verdict(0.6, 0.7) == reasons_verdict(0.71, 0.58) == "fails"
    assert reasons_verdict(0.71, 0.75, spread=30.0) == "fails"  # within the interval


def degrees_verdict(win: float = 0.75, alone: float = 1.0, trained: float = 0.5):
    found = {
        spo_degree.FROZEN: spo_degree.Learnt(np.full(5, 0.5), alone + SPREAD),
        spo_degree.WITHOUT: spo_degree.Learnt(np.full(5, 0.7)),
        spo_degree.WITH: spo_degree.Learnt(win + SPREAD, trained + SPREAD),
    }
    return spo_degree.judge(found).verdict


def test_rule_of_degrees():
    assert degrees_verdict() == "holds"
    assert degrees_verdict(win=0.701) == "fails"
    assert degrees_verdict(alone=spo_degree.CHANCE) == degrees_verdict(trained=1.5) == "mixed"


@pytest.mark.slow
def test_four_steps_tell_degrees_apart_and_gain_nothing_yet():
    """The frozen reference's states already tell how much is missing; the policy has hardly moved."""
    found = spo_degree.run("quick")
    rows = {row[0]: row[1:] for row in found.tables[0].rows}
    assert found.verdict == "fails"
    assert rows[spo_degree.FROZEN][6] < spo_degree.CHANCE - 0.2
    assert rows[spo_degree.FROZEN][0] < 0.5 < rows[spo_degree.WITHOUT][0]


@pytest.mark.slow
def test_four_steps_of_rationales_gain_nothing_yet():
    found = rationale.run("quick")
    assert found.verdict == "fails"
    assert all(row[2] > 0.5 for row in found.tables[0].rows)  # both have begun to win


def test_the_contrast_of_a_soft_optimum_is_a_sharper_one_where_a_response_is_one_token():
    """z_p = z_0 + R/beta: a step c is the optimum at the KL weight beta/(1 + c), and so lies on the frontier."""
    tree = TokenTree(words=("a", "b", "c"), length=1)
    draws = torch.Generator().manual_seed(3)
    reference = TokenPolicy(tree, torch.randn(2, *tree.child.shape, generator=draws, dtype=torch.float64))
    reward = torch.randn(2, 3, generator=draws, dtype=torch.float64)
    model = soft_optimum(reference, terminal_reward(tree, reward), beta=2.0).policy
    sharper = soft_optimum(reference, terminal_reward(tree, reward), beta=0.5).policy.tabular()
    policy = linear_alignment.aligned(reference, model, 3.0).tabular()
    assert torch.allclose(policy.probs(), sharper.probs(), atol=1e-6)
    best = linear_alignment.frontier(reference, reward, kl(policy, reference.tabular()))
    assert torch.allclose(best, linear_alignment.earned(policy, reward), atol=1e-5)


def test_rule_of_linear_alignment():
    noises, steps = linear_alignment.NOISES, linear_alignment.STEPS
    rise = np.linspace(0.9, 1.1, 5)
    gains = {(n, s): rise * (1 + s) for n in noises for s in steps}
    shares = {where: np.array(0.97) for where in gains}
    moved = dict.fromkeys(gains, 1.0)
    assert linear_alignment.judge(gains, shares, moved).verdict == "holds"
    low = shares | {(0.0, 5.0): np.array(0.9)}
    assert linear_alignment.judge(gains, low, moved).verdict == "mixed"
    flat = gains | {(0.25, 3.0): gains[0.25, 0.0]}
    assert linear_alignment.judge(flat, shares, moved).verdict == "fails"
