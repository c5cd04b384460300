"""Cycles, winners, flows, the set of Nash policies, verdicts and the bootstrap, against hand arithmetic."""

from __future__ import annotations

import itertools
import json
from math import comb, inf, log, nan

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from equipoise.games import PreferenceGame, TabularPolicy, gap0, load_game, regularised_nash, zoo
from equipoise.games import analyse as games
from equipoise.games.load import load_verdicts
from equipoise.games.nash_set import nash_average, nash_range
from equipoise.games.verdicts import from_game, from_prob, from_scores, from_votes

TIED = [[0.5, 0.5, 1.0], [0.5, 0.5, 1.0], [0.0, 0.0, 0.5]]  # a and b tie, both beat c


def table(rows) -> torch.Tensor:
    return torch.as_tensor(rows, dtype=torch.float64).unsqueeze(0)


# --- counting


@settings(deadline=None, max_examples=25)
@given(size=st.integers(3, 7), seed=st.integers(0, 1000))
def test_cycles_are_those_of_a_search_over_triples(size, seed):
    rng = np.random.default_rng(seed)
    above = np.triu(rng.choice([0.0, 0.5, 1.0], size=(size, size)), 1)
    prob = above + np.tril(1 - above.T, -1) + 0.5 * np.eye(size)
    wins = games.beats(table(prob))
    cycles = decided = 0
    for a, b, c in itertools.combinations(range(size), 3):
        edges = [prob[a, b], prob[b, c], prob[c, a]]
        decided += 0.5 not in edges
        cycles += edges in ([1, 1, 1], [0, 0, 0])
    assert (int(games.three_cycles(wins)), int(games.decided_triples(wins))) == (cycles, decided)


def test_a_tie_a_rounding_error_and_a_missing_pair_are_no_win():
    prob = table([[0.5, 0.5 + 1e-12, nan], [0.5 - 1e-12, 0.5, 0.6], [nan, 0.4, 0.5]])
    assert games.beats(prob).nonzero().tolist() == [[0, 1, 2]]
    assert games.condorcet(games.beats(prob)) == [None]


def test_winners_by_hand():
    game = zoo.dominated()
    wins = games.beats(game.preference)
    assert games.condorcet(wins) == [None]
    assert games.condorcet(games.beats(zoo.transitive(4).preference)) == [3]
    assert games.copeland(wins).tolist() == [[1, 1, 1, -3]]
    # a: 0.9 against b, 0.3 against c, 0.9 against d
    assert games.borda(game.preference)[0].tolist() == pytest.approx([0.7, 0.6, 0.6, 0.1])
    assert games.copeland(games.beats(table(TIED))).tolist() == [[1, 1, -2]]


# --- flows


def test_curl_is_the_residual_of_least_squares():
    rng = np.random.default_rng(3)
    flow = rng.normal(size=(6, 6))
    flow = flow - flow.T
    pairs = list(itertools.combinations(range(6), 2))
    design = np.array([[float(k == i) - float(k == j) for k in range(6)] for i, j in pairs])
    target = np.array([flow[pair] for pair in pairs])
    reward = np.linalg.lstsq(design, target, rcond=None)[0]
    expected = np.square(target - design @ reward).sum() / np.square(target).sum()
    assert games.curl(table(flow)).item() == pytest.approx(expected, abs=1e-12)


def test_curl_of_rewards_of_cycles_and_of_nothing():
    assert games.curl(torch.logit(zoo.transitive().preference)).item() < 1e-30
    assert games.curl(zoo.cyclic(5, 0.8).preference - 0.5).item() == pytest.approx(1)
    assert games.curl(torch.zeros(1, 3, 3, dtype=torch.float64)).item() == 0


# --- the set of Nash policies


def test_range_of_a_game_with_two_winners():
    game = PreferenceGame(TIED)
    assert nash_range(game).numpy() == pytest.approx(np.array([[0, 0, 0], [1, 1, 0]]))
    assert nash_average(game).probs()[0].tolist() == pytest.approx([0.5, 0.5, 0])


def test_a_condorcet_winner_is_the_only_equilibrium_with_or_without_linear_programs():
    game = zoo.transitive(5)
    assert nash_range(game).tolist() == [[0, 0, 0, 0, 1]] * 2
    assert nash_range(game, slack=1e-12).numpy() == pytest.approx(nash_range(game).numpy(), abs=1e-9)


def test_slack_admits_exploitable_policies():
    """Against c of `brps` with probability q_c + e the best answer gains: slack moves the bounds, monotonically."""
    game = zoo.brps()
    widths = [float((b[1] - b[0]).max()) for b in (nash_range(game, slack=s) for s in (0.0, 0.001, 0.01))]
    assert widths[0] < 1e-9 < widths[1] < widths[2]


def many_equilibria(seed: int) -> PreferenceGame:
    """Payoffs of -1, 0 and 1 leave room for several Nash policies."""
    above = np.triu(np.random.default_rng(seed).choice([0.0, 0.5, 1.0], size=(5, 5)), 1)
    return PreferenceGame(above + np.tril(1 - above.T, -1) + 0.5 * np.eye(5))


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 1000))
def test_no_step_towards_another_nash_policy_raises_the_entropy(seed):
    """The first-order condition of the largest entropy, against vertices found in random directions."""
    game = many_equilibria(seed)
    average, bounds = nash_average(game).probs()[0], nash_range(game)
    assert gap0(game, TabularPolicy.from_probs(average)).item() < 1e-7
    assert bool((average > bounds[0] - 1e-7).all() and (average < bounds[1] + 1e-7).all())
    rng = np.random.default_rng(seed)
    slope = -average.clamp_min(1e-300).log()
    for _ in range(10):
        found = linprog(
            rng.normal(size=5),
            A_ub=(game.preference[0] - 0.5).numpy(),
            b_ub=np.zeros(5),
            A_eq=np.ones((1, 5)),
            b_eq=[1],
        )
        assert float((torch.as_tensor(found.x) - average) @ slope) < 1e-8


@pytest.mark.parametrize("seed", [2, 4, 5, 11])
def test_nash_average_is_the_limit_of_the_regularised_policy(seed):
    game = many_equilibria(seed)
    far = [
        float((regularised_nash(game, tau, tolerance=1e-9).probs() - nash_average(game).probs()).abs().max())
        for tau in (1e-2, 1e-3, 1e-4, 1e-5)
    ]
    assert far[-1] < 3e-4 and all(later < max(earlier, 1e-9) for earlier, later in itertools.pairwise(far))


def test_copies_share_the_weight_of_their_original():
    game = zoo.brps()
    index = torch.tensor([0, 1, 2, 2])  # c twice
    copied = PreferenceGame(game.preference[:, index][:, :, index])
    assert nash_average(copied).probs()[0].tolist() == pytest.approx([3 / 9, 2 / 9, 2 / 9, 2 / 9], abs=1e-7)
    assert nash_range(copied)[1].tolist() == pytest.approx([3 / 9, 2 / 9, 4 / 9, 4 / 9], abs=1e-9)


def test_several_prompts_have_no_single_set():
    with pytest.raises(ValueError, match="one prompt, got 6"):
        nash_range(zoo.prompts())


# --- the whole analysis


def test_analysis_of_the_biased_cycle():
    found = games.analyse(zoo.brps(), taus=(0.1,))
    assert (found.triples, found.decided, found.cycles, found.condorcet) == (1, 1, 1, None)
    assert found.unique and found.nash.tolist() == pytest.approx([3 / 9, 2 / 9, 4 / 9])
    assert found.average.tolist() == pytest.approx([3 / 9, 2 / 9, 4 / 9]) and found.order == [2, 0, 1]
    assert found.gap < 1e-12 and found.ridge == 0
    # a flow of three edges has rank 2: one plane, its strength the Euclidean norm of the edges
    assert found.margin_planes.tolist() == pytest.approx([(0.4**2 + 0.3**2 + 0.2**2) ** 0.5])
    # the same through the logits: log 9, log 4 and log 7/3, whose mean around the cycle no reward explains
    edges = np.array([log(9), log(4), log(7 / 3)])
    assert found.curl_logit == pytest.approx(3 * edges.mean() ** 2 / np.square(edges).sum())
    assert [fit.planes for fit in found.fits] == [0, 1]
    assert found.fits[1].worst < 1e-6 and found.fits[1].accuracy == 1
    # Bradley-Terry only sees how often each wins: b and c win 0.9 of their two games, a 1.2
    assert found.bradley_terry.strength[0, 1] == pytest.approx(found.bradley_terry.strength[0, 2].item())
    ((tau, policy, gap),) = found.regularised
    assert tau == 0.1 and policy.tolist() == pytest.approx([0.591387, 0.066980, 0.341633], abs=1e-6)
    assert gap == pytest.approx(0.196366, abs=1e-6)


def test_analysis_of_certain_labels():
    found = games.analyse(zoo.rps())
    assert found.curl_logit is None and found.logit_planes is None and found.ridge == games.RIDGE
    assert found.curl_margin == pytest.approx(1) and found.fits[0].accuracy == 0.5
    assert found.fits[1].accuracy == 1 and found.fits[1].worst < 1e-3


def test_analysis_of_a_game_without_decisions():
    found = games.analyse(PreferenceGame(np.full((4, 4), 0.5)))
    assert (found.decided, found.cycles, found.condorcet, found.unique) == (0, 0, None, False)
    assert found.fits[0].accuracy is None and found.average.tolist() == pytest.approx([0.25] * 4)


def test_one_response_is_no_game():
    with pytest.raises(ValueError, match="at least two responses"):
        games.analyse(PreferenceGame([[0.5]]))


def test_order_is_by_nash_then_level_then_strength():
    prob = np.full((4, 4), 0.5)
    prob[0, 1:], prob[1:, 0] = 1, 0  # the first beats all with certainty
    prob[1, 2:], prob[2:, 1] = 0.4, 0.6
    prob[2, 3], prob[3, 2] = 0.7, 0.3
    found = games.analyse(PreferenceGame(prob))
    assert found.order == [0, 2, 3, 1] and found.bradley_terry.level[0].tolist() == [1, 0, 0, 0]


# --- verdicts


def test_pooling_counts_every_verdict_once():
    votes = np.zeros((2, 2, 2, 3))
    votes[0, 0, 1], votes[0, 1, 0] = (3, 1, 0), (1, 3, 0)
    votes[1, 0, 1], votes[1, 1, 0] = (0, 1, 1), (1, 0, 1)
    verdicts = from_votes(votes, names=["a", "b"], prompt_names=[7, 8])
    assert verdicts.prob[:, 0, 1].tolist() == [0.75, 0.25] and verdicts.prompt_names == ("7", "8")
    assert verdicts.pooled().preference[0, 0, 1].item() == (3 + 0.5) / 6
    assert verdicts.only("8").pooled().preference[0, 0, 1].item() == 0.25
    assert verdicts.game().prompt_weight.tolist() == pytest.approx([4 / 6, 2 / 6])


def test_scores_are_votes_of_those_who_gave_both():
    verdicts = from_scores([[3, 1, nan], [2, 2, 5]], names="abc")
    assert verdicts.prob[0, 0, 1] == 1 and verdicts.prob[1, 0, 1] == 0.5 and verdicts.prob[0, 0, 2].isnan()
    assert (verdicts.missing, verdicts.cells, verdicts.complete) == (2, 6, [False, True])
    assert verdicts.pooled().preference[0, 0].tolist() == [0.5, 0.75, 0]
    several = from_scores([[[3, 1], [0, 1], [0, nan]]])  # one prompt, three voters, one abstains
    assert several.prob[0, 0, 1] == 0.5 and several.count[0, 0, 1] == 2


def test_what_is_missing_is_refused_not_guessed():
    gap = from_scores([[1, 2, nan], [3, 2, nan]], names="abc", prompt_names=["p", "q"])
    with pytest.raises(ValueError, match="a and c were never compared"):
        gap.pooled()
    with pytest.raises(
        ValueError, match=r"4 of 6 comparisons were never made \(first: a and c at prompt 'p'\)"
    ):
        gap.game()
    with pytest.raises(ValueError, match="no part 'pp'; did you mean 'p'"):
        gap.only("pp")


@pytest.mark.parametrize(
    ("prob", "count", "message"),
    [
        ([[0.5, 0.7], [0.7, 0.5]], None, "do not sum to 1"),
        ([[0.5, 1.2], [-0.2, 0.5]], None, "not a share in"),
        ([[0.5, inf], [-inf, 0.5]], None, "not a share in"),
        ([[0.5, 0.5], [0.5, 0.5]], [[0, 0], [0, 0]], "a share without verdicts"),
        ([[0.5, nan], [nan, 0.5]], [[0, 2], [2, 0]], "a share without verdicts, or verdicts without a share"),
        ([[0.5, 0.7], [nan, 0.5]], None, "do not rest on the same verdicts"),
        ([[0.5, 0.7], [0.3, 0.5]], [[0, 2], [3, 0]], "do not rest on the same verdicts"),
        ([[0.5, 0.7], [0.3, 0.5]], [0, 2], "counts must be finite numbers"),
        ([0.5, 0.7], None, "must be .prompts, responses, responses."),
    ],
)
def test_impossible_verdicts_are_refused(prob, count, message):
    with pytest.raises(ValueError, match=message):
        from_prob(prob, count)


def test_shares_in_single_precision_are_made_exact():
    share = np.float32(1 / 3)
    found = from_prob(np.array([[0.5, share], [np.float32(1) - share, 0.5]], dtype=np.float32))
    assert found.pooled().preference[0].sum().item() == 2 and found.prob[0, 0, 1].item() == pytest.approx(
        1 / 3
    )


def test_a_game_survives_being_read_as_verdicts():
    game = zoo.prompts()
    verdicts = from_game(game)
    pooled = torch.einsum("x,xab->ab", game.prompt_weight, game.preference)
    assert torch.allclose(verdicts.pooled().preference[0], pooled, atol=1e-15)
    assert torch.allclose(verdicts.game().prompt_weight, game.prompt_weight, atol=1e-15)
    mixed = torch.einsum("x,xa->a", game.prompt_weight, game.reference)
    assert torch.allclose(verdicts.pooled().reference[0], mixed, atol=1e-15)
    never = PreferenceGame(torch.stack([game.preference[0], game.preference[1]]), prompt_weight=[1.0, 0.0])
    assert torch.allclose(from_game(never).pooled().preference[0], game.preference[0], atol=1e-15)


# --- files


def test_verdicts_from_files(tmp_path):
    prob = np.array([[[0.5, 0.8], [0.2, 0.5]], [[0.5, nan], [nan, 0.5]]])
    count = np.where(np.isnan(prob), 0, 5) * (1 - np.eye(2, dtype=int))
    np.savez(
        tmp_path / "t.npz", prob=prob, verdict_count=count, systems=["a", "b"], prompt_ids=[3, 4], more=1
    )
    verdicts = load_verdicts(tmp_path / "t.npz")
    assert (verdicts.names[0], verdicts.prompt_names, verdicts.missing) == (("a", "b"), ("3", "4"), 1)
    assert verdicts.count[0, 0, 1] == 5
    with pytest.raises(ValueError, match=r"t\.npz: 1 of 2 comparisons were never made"):
        load_game(tmp_path / "t.npz")
    assert load_verdicts(tmp_path / "t.npz", "3").missing == 0
    with pytest.raises(ValueError, match=r"t\.npz: no part '5'"):
        load_verdicts(tmp_path / "t.npz", "5")
    (tmp_path / "s.json").write_text(json.dumps({"scores": [[1, 2], [None, 3]], "models": ["a", "b"]}))
    found = load_verdicts(tmp_path / "s.json")
    assert found.missing == 1 and found.pooled().preference[0, 1, 0] == 1
    (tmp_path / "c.json").write_text(json.dumps({"verdict_count": [[0, 1], [1, 0]]}))
    with pytest.raises(ValueError, match="'verdict_count' needs 'prob'"):
        load_verdicts(tmp_path / "c.json")


def test_a_game_file_is_read_as_verdicts_too(tmp_path):
    payoff = 2 * zoo.cyclic(3, 0.8).preference.numpy() - 1
    np.savez(tmp_path / "g.npz", payoff=payoff, teams=[["x", "y", "z"]], seasons=["one"])
    verdicts = load_verdicts(tmp_path / "g.npz", "one")
    assert torch.allclose(verdicts.pooled().preference, zoo.cyclic(3, 0.8).preference)
    assert load_game(tmp_path / "g.npz").names == (("x", "y", "z"),)


def test_one_table_of_several(tmp_path):
    np.savez(tmp_path / "m.npz", u__scores=[[1.0, 2.0]], u__agents=["a", "b"], v__scores=[[3.0, 1.0, 2.0]])
    assert load_verdicts(tmp_path / "m.npz", "u").names[0] == ("a", "b")
    assert load_verdicts(tmp_path / "m.npz", "v").prob.shape == (1, 3, 3)
    with pytest.raises(ValueError, match="has several tables; choose one with --part: u, v"):
        load_verdicts(tmp_path / "m.npz")


# --- the bootstrap


def test_resampling_equal_prompts_changes_nothing():
    prob = np.repeat(zoo.brps().preference.numpy(), 4, axis=0)
    found = games.bootstrap(from_prob(prob), 20)
    assert (found.resamples, found.left_out, found.cyclic) == (20, 0, 1)
    assert torch.allclose(found.average, torch.tensor([3 / 9, 2 / 9, 4 / 9], dtype=torch.float64), atol=1e-9)
    assert torch.allclose(found.borda[0], found.borda[1], atol=1e-12) and found.cycles.tolist() == [1, 1]
    assert found.condorcet.tolist() == [0, 0, 0]


def test_bootstrap_frequencies_are_those_of_the_binomial_law():
    """Three prompts for a, two for b: a wins the pool if it wins three or more of five draws from p = 3/5."""
    verdicts = from_scores([[1, 0]] * 3 + [[0, 1]] * 2, names="ab")
    found = games.bootstrap(verdicts, 1000, seed=1)
    expected = sum(comb(5, k) * 0.6**k * 0.4 ** (5 - k) for k in (3, 4, 5))
    assert found.condorcet.tolist() == pytest.approx([expected, 1 - expected], abs=0.05)
    again = games.bootstrap(verdicts, 1000, seed=1)
    assert torch.equal(found.borda, again.borda)
    assert found.borda[:, 0].tolist() == pytest.approx([0.2, 1.0])  # Binomial(5, 0.6)/5 at 2.5 % and 97.5 %


def test_samples_that_miss_a_pair_are_left_out():
    verdicts = from_scores([[1, 2, nan], [nan, 1, 2], [2, nan, 1]], names="abc")
    found = games.bootstrap(verdicts, 300)
    # all three prompts must be drawn: 3!/3^3
    assert 1 - found.left_out / 300 == pytest.approx(6 / 27, abs=0.08)
    assert found.cyclic == 1  # a 1, 2 b; b 1, 2 c; c 1, 2 a


@pytest.mark.parametrize(
    ("verdicts", "message"),
    [
        (from_scores([[1, 2]]), "needs at least two prompts"),
        (from_scores([[1, 2], [2, 1]], names=[["a", "b"], ["c", "d"]]), "cannot be pooled"),
    ],
)
def test_no_bootstrap(verdicts, message):
    with pytest.raises(ValueError, match=message):
        games.bootstrap(verdicts, 10)


def test_policies_of_the_analysis_are_policies():
    found = games.analyse(zoo.random(6, 1))
    for policy in (found.nash, found.average, *(p for _, p, _ in found.regularised)):
        TabularPolicy.from_probs(policy)
