"""Which responses meet: brackets, i.i.d. pairs, random matches, neighbours in a ranking."""

from __future__ import annotations

import math

import numpy as np
import pytest

from equipoise.games import zoo
from equipoise.methods.osp import OSP
from equipoise.play.pairings.ranking import Matches, Neighbours
from equipoise.play.pairings.recorded import AsRecorded
from equipoise.play.pairings.sampled import Pairs, Scored, Tournament
from equipoise.play.players.sampled import Self
from equipoise.play.round import play_round
from equipoise.play.rows import Rows
from equipoise.play.state import START, State
from equipoise.worlds.table.world import TableWorld
from equipoise.worlds.text.judging import Judge

STATE = State.begin("initial")


class Arena:
    """Responses are numbers; `win` says P(a > b)."""

    def __init__(self, win):
        self.win, self.asked = win, 0

    def compare(self, rows, first, second):
        every = np.arange(len(rows))
        self.asked += 1
        pairs = zip(rows.responses[every, first], rows.responses[every, second], strict=True)
        return np.array([self.win(a, b) for a, b in pairs])

    def uniforms(self, state, name, count):
        return np.random.default_rng(list(name.encode())).random(count)


def rows(responses):
    array = np.array(responses)
    return Rows(
        prompts=np.arange(len(array)),
        responses=array,
        weight=np.ones(len(array)),
        writers=("start",) * array.shape[1],
    )


def by_score(a, b):
    return 1 / (1 + math.exp(b - a))


@pytest.mark.parametrize(("count", "matches"), [(4, 2 + 1 + 1 + 1), (8, 4 + 3 + 3 + 1), (16, 8 + 7 + 7 + 1)])
def test_best_and_worst_are_found_in_so_many_comparisons(count, matches):
    arena = Arena(by_score)
    draw = np.random.default_rng(0)
    scores = np.stack([draw.permutation(count) for _ in range(50)]).astype(float)
    pairs = Tournament().form(arena, STATE, rows(scores))
    assert arena.asked == matches
    assert pairs.responses.tolist() == [[count - 1.0, 0.0]] * 50
    assert pairs.prob.tolist() == [1.0] * 50
    assert pairs.writers == ("start", "start")


def test_ties_go_to_the_first():
    """Everybody is even: first of the first pair wins its bracket, second of the first pair loses the other."""
    pairs = Tournament().form(Arena(lambda a, b: 0.5), STATE, rows([[10, 11, 12, 13, 14, 15, 16, 17]]))
    # winners 10 12 14 16 -> 10; losers 11 13 15 17, the side that loses a tie is the second: 17
    assert pairs.responses.tolist() == [[10, 17]]


def test_identical_responses_give_no_pair():
    pairs = Tournament().form(Arena(by_score), STATE, rows([[5, 5, 5, 5], [5, 5, 6, 5]]))
    assert pairs.prompts.tolist() == [1]
    assert pairs.responses.tolist() == [[6, 5]]


def test_in_a_cycle_a_pair_is_kept_only_if_the_winner_beats_the_loser():
    beats = {(0, 1), (2, 3), (0, 2), (1, 3), (3, 0)}  # best 0, worst 3, yet 3 beats 0
    win = lambda a, b: 1.0 if (a, b) in beats else 0.0  # noqa: E731
    assert len(Tournament().form(Arena(win), STATE, rows([[0, 1, 2, 3]]))) == 0


@pytest.mark.parametrize("count", [1, 2, 3, 5, 6, 12])
def test_tournament_needs_a_power_of_two(count):
    with pytest.raises(ValueError, match=f"needs 4, 8, 16, ... responses per prompt, got {count}"):
        Tournament().form(Arena(by_score), STATE, rows([list(range(count))]))


def test_iid_pairs_are_disjoint_with_soft_labels():
    pairs = Pairs().form(Arena(by_score), STATE, rows([[1, 2, 3, 4], [5, 6, 8, 7]]))
    assert pairs.responses.tolist() == [[1, 2], [5, 6], [3, 4], [8, 7]]
    assert pairs.prompts.tolist() == [0, 1, 0, 1]
    assert pairs.prob.tolist() == pytest.approx([by_score(0, 1)] * 3 + [by_score(1, 0)])
    every = Pairs(every=True).form(Arena(by_score), STATE, rows([[1, 2, 4]]))
    assert every.responses.tolist() == [[1, 2], [1, 4], [2, 4]]
    assert every.prob.tolist() == pytest.approx([by_score(0, 1), by_score(0, 3), by_score(0, 2)])
    same = Pairs().form(Arena(by_score), STATE, rows([[3, 3, 3, 4]]))
    assert same.responses.tolist() == [[3, 4]], "equal responses carry no gradient"
    with pytest.raises(ValueError, match="at least two responses per prompt, got 1"):
        Pairs(every=True).form(Arena(by_score), STATE, rows([[1]]))
    with pytest.raises(ValueError, match="even number of responses per prompt, got 3"):
        Pairs().form(Arena(by_score), STATE, rows([[1, 2, 3]]))


def test_bernoulli_labels_have_the_soft_labels_frequency():
    n = 4000
    for p in (0.0, 0.2, 0.7, 1.0):
        pairs = Pairs(labels="bernoulli").form(Arena(lambda a, b, p=p: p), STATE, rows([[0, 1, 2, 3]] * n))
        assert set(pairs.prob) <= {0.0, 1.0}
        assert abs(pairs.prob.mean() - p) <= 4 * math.sqrt(p * (1 - p) / (2 * n))
    drawn = Pairs(labels="bernoulli").form(Arena(lambda a, b: 0.5), STATE, rows([[0, 1, 2, 3]] * n)).prob
    first, second = drawn[:n], drawn[n:]
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.07, "two pairs of one prompt share no draw"


def test_as_recorded_changes_nothing_and_asks_nobody():
    data = rows([[1, 2]])
    assert AsRecorded().form(None, STATE, data) is data


# by rank ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "pairs"), [(2, 1), (4, 2), (7, 3), (8, 4)])
def test_random_disjoint_pairs(count, pairs):
    arena = Arena(by_score)
    found = Matches().form(arena, STATE, rows([list(range(count))] * 300))
    assert len(found) == 300 * pairs and arena.asked == pairs
    assert (found.responses[:, 0] > found.responses[:, 1]).all() and (found.prob == 1).all()
    for x in range(300):
        met = found.responses[found.prompts == x].ravel().tolist()
        assert len(set(met)) == 2 * pairs, "nobody is in two matches"


def test_who_meets_whom_is_drawn_evenly():
    n = 3000
    found = Matches().form(Arena(by_score), STATE, rows([[0, 1, 2, 3]] * n))
    with_best = found.responses[found.responses[:, 0] == 3, 1]
    for other in (0, 1, 2):
        assert abs((with_best == other).mean() - 1 / 3) <= 4 * math.sqrt(2 / 9 / n)


@pytest.mark.parametrize("count", [2, 3, 5, 8])
def test_a_tournament_has_one_match_fewer_than_responses_and_the_best_wins_it(count):
    found = Matches(tournament=True).form(Arena(by_score), STATE, rows([list(range(count))] * 50))
    assert len(found) == 50 * (count - 1)
    for x in range(50):
        pairs = found.responses[found.prompts == x].tolist()
        assert sorted(loser for _, loser in pairs) == list(range(count - 1)), "all but the best lose once"
        assert pairs[-1][0] == count - 1


def test_equal_responses_are_no_pair():
    assert len(Matches().form(Arena(by_score), STATE, rows([[5, 5]]))) == 0
    assert len(Neighbours().form(Ranker(by_score), STATE, rows([[5, 5, 6]]))) == 1


class Ranker(Arena):
    """An arena where responses of a prompt meet each other."""

    def win_rates(self, state, rows, against, opponents, of, decode):
        assert against == START and not opponents
        wins = [[[self.win(a, b) for b in group] for a in group] for group in rows.responses.tolist()]
        count = rows.responses.shape[1]
        return (np.array(wins).sum(axis=2) - 0.5) / (count - 1)


def test_neighbours_in_the_ranking_with_the_strength_as_label():
    found = Neighbours().form(Ranker(by_score), STATE, rows([[1.0, 4.0, 2.0, 0.5]]))
    assert found.responses.tolist() == [[4.0, 2.0], [2.0, 1.0], [1.0, 0.5]]
    assert found.prob.tolist() == pytest.approx([by_score(2, 0), by_score(1, 0), by_score(0.5, 0)])


def test_in_a_cycle_a_neighbour_may_be_labelled_the_worse_one():
    win = {(0, 1): 0.6, (1, 2): 0.9, (2, 0): 0.7}  # mean wins 0.45, 0.65, 0.4: the ranking is 1, 0, 2
    both = lambda a, b: 0.5 if a == b else win.get((a, b), 1 - win.get((b, a), 0.0))  # noqa: E731
    found = Neighbours().form(Ranker(both), STATE, rows([[0, 1, 2]]))
    assert found.responses.tolist() == [[1, 0], [0, 2]]
    assert found.prob.tolist() == pytest.approx([0.4, 0.3])


def test_one_response_cannot_be_ranked_or_matched():
    for pairing in (Matches(), Neighbours()):
        with pytest.raises(ValueError, match="at least two responses per prompt, got 1"):
            pairing.check(1)


def test_in_an_exact_game_strengths_recover_the_reward_whoever_wrote_the_pairs():
    game = zoo.parse("transitive")
    method = OSP.with_parameters({"beta": 0.5}).on_exact_games(1)
    assert (method.players, method.pairing) == (Self(samples=2), Pairs())
    policy = play_round(method, TableWorld(game), State.begin(game.initial())).policies[START]
    margins = 0.5 * (policy.log_probs() - game.initial().log_probs())[0]
    want = (game.preference[0] / (1 - game.preference[0])).log()
    assert (margins[:, None] - margins).numpy() == pytest.approx(want.numpy(), abs=1e-5)


def in_a_circle(a, b):
    """Each beats the next of five and loses to the one before, neither always."""
    return 0.5 if a == b else (0.9 if (b - a) % 5 in (1, 2) else 0.1)


class Field(Arena):
    among = Judge.among

    def win_rates(self, state, rows, against, opponents, of, decode):
        assert opponents == 0
        return self.among(rows, of)


def test_rewards_among_own_samples_are_one_half_in_the_mean_and_follow_their_response():
    """SPO's reward: the win rate against the other samples of the prompt, whatever the order."""
    written = np.random.default_rng(3).integers(0, 5, (7, 6))
    reward = Scored().form(Field(in_a_circle), STATE, rows(written)).reward
    assert np.allclose(reward.mean(axis=1), 0.5, atol=1e-15)
    by_hand = np.mean([in_a_circle(written[2, 1], written[2, j]) for j in (0, 2, 3, 4, 5)])
    assert reward[2, 1] == pytest.approx(by_hand) and np.ptp(reward) > 0.3
    order = np.random.default_rng(4).permutation(6)
    turned = Scored().form(Field(in_a_circle), STATE, rows(written[:, order])).reward
    assert np.allclose(turned, reward[:, order], atol=1e-15)
