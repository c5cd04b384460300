"""DNO-Prct's pairs: a teacher among the policy's own responses, clear winners against clear losers."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest

from equipoise.games import zoo
from equipoise.methods.dno_prct import DNO_PRCT
from equipoise.play.pairings.score_margin import ScoreMargin, repeats
from equipoise.play.players.recorded import Targets
from equipoise.play.round import play_round
from equipoise.play.rows import Rows
from equipoise.play.state import State
from equipoise.worlds.table.play_game import play_game
from equipoise.worlds.text.fit import Training
from equipoise.worlds.text.folder.row_files import load_rows

STATE = State.begin("initial")


class Judge:
    """Every response has the win rate that it is named after."""

    def win_rates(self, state, rows, against, opponents, of, decode):
        assert opponents == 0, "the responses of a prompt meet each other"
        return rows.responses.astype(float)

    def rewards(self, rows):
        return rows.responses * 10

    def texts(self, rows):
        return [[TEXTS.get(response, "a word") for response in group] for group in rows.responses]


TEXTS = {0.91: "one two three four five six seven eight nine ten " * 2, 0.92: "to be or not to be " * 2}


def rows(rates):
    return Rows(
        prompts=np.arange(len(rates)),
        responses=np.array(rates),
        weight=np.ones(len(rates)),
        writers=("recorded", *["start"] * (len(rates[0]) - 1)),
    )


def points(pairs):
    return sorted((round(6 * w, 6), round(6 * l, 6)) for w, l in pairs.responses)


def test_winners_and_losers_by_hand():
    # points 5.7 (teacher) 5.4 3.0 3.6 4.2 0.6: the teacher beats all at most 3.7, the 5.4 all at most 4.4
    pairs = ScoreMargin().form(Judge(), STATE, rows([[0.95, 0.9, 0.5, 0.6, 0.7, 0.1]]))
    assert points(pairs) == [
        (5.4, 0.6),
        (5.4, 3.0),
        (5.4, 3.6),
        (5.4, 4.2),
        (5.7, 0.6),
        (5.7, 3.0),
        (5.7, 3.6),
    ]
    assert pairs.prob.tolist() == [1.0] * 7
    teacher = [w for (w, _), p in zip(pairs.responses, pairs.prompts, strict=True) if w == 0.95]
    assert len(teacher) == 3


def test_a_teacher_may_lose():
    # 2.4 for the teacher, 5.1 for an own response
    pairs = ScoreMargin().form(Judge(), STATE, rows([[0.4, 0.85]]))
    assert points(pairs) == [(5.1, 2.4)]
    assert pairs.responses.tolist() == [[0.85, 0.4]]


def test_a_threshold_that_is_just_met_counts():
    # 5 points exactly; 3 is 2 less, 4 is 1 less
    assert points(ScoreMargin().form(Judge(), STATE, rows([[5 / 6, 0.5, 4 / 6]]))) == [(5.0, 3.0)]
    assert points(ScoreMargin().form(Judge(), STATE, rows([[0.5, 5 / 6, 4 / 6]]))) == [(5.0, 3.0), (5.0, 4.0)]


def test_settings_change_what_counts():
    close = rows([[0.6, 0.5]])
    assert len(ScoreMargin().form(Judge(), STATE, close)) == 0
    assert points(ScoreMargin(high=3.5, margin=0.5).form(Judge(), STATE, close)) == [(3.6, 3.0)]
    with pytest.raises(ValueError, match="margins must be positive, got 0 and 1"):
        ScoreMargin(margin=0)


def test_a_response_that_repeats_itself_always_loses():
    # 5.46 points repeat ten words and lose to a winner by less than the margin; 5.52 points repeat six
    pairs = ScoreMargin().form(Judge(), STATE, rows([[0.2, 0.9, 0.91, 0.92]]))
    found = [tuple(pair) for pair in pairs.responses.tolist()]
    assert (0.9, 0.91) in found and (0.92, 0.91) in found and (0.91, 0.2) not in found
    kept = ScoreMargin(ngram=0).form(Judge(), STATE, rows([[0.2, 0.91]])).responses
    assert kept.tolist() == [[0.91, 0.2]]
    assert repeats("a b a b", 2) and not repeats("a b a b", 3) and not repeats("", 1)


def test_a_judges_own_points_are_read_where_it_gives_them():
    pairs = ScoreMargin(points="oracle").form(Judge(), STATE, rows([[0.5, 0.6, 0.4, 0.3]]))
    # 5, 6, 4, 3 points: the teacher's 5 beats 3 by 2 and not 4; the pupil's 6 beats all
    assert sorted(map(tuple, pairs.responses.tolist())) == [(0.5, 0.3), (0.6, 0.3), (0.6, 0.4), (0.6, 0.5)]
    with pytest.raises(ValueError, match="points must be one of"):
        ScoreMargin(points="stars")


def test_points_are_win_rates_among_all_the_prompts_responses(make_world):
    """Six responses to a prompt, each pair judged once by the oracle; teacher and pupils by the text's labels."""
    world = make_world()
    state = world.begin()
    written = Targets(own=5).write(world, state)
    assert written.writers == ("recorded", *["start"] * 5)
    pairs = ScoreMargin(high=4.0, margin=1.5, own_margin=0.75).form(world, state, written)
    expected = []
    for row, group in enumerate(written.responses):
        one = written.take(np.array([row]))

        def beats(a, b, one=one):
            return float(world.compare(one, np.array([a]), np.array([b]))[0])

        score = [6 * sum(beats(k, j) for j in range(6) if j != k) / 5 for k in range(6)]
        expected += [
            (one.prompts[0].ids, group[w].ids, group[l].ids)
            for w, l in permutations(range(6), 2)
            if score[w] >= 4.0 and score[w] - score[l] >= (1.5 if w == 0 else 0.75)
        ]
    found = [(p.ids, w.ids, l.ids) for p, (w, l) in zip(pairs.prompts, pairs.responses, strict=True)]
    assert sorted(found) == sorted(expected)
    assert found


def test_replayed_shares_are_never_exceeded(make_world):
    world = make_world(training=Training(lr=1e-4, batch=64, micro_batch=64))
    method = replace(DNO_PRCT.with_parameters({"high": 4.5, "margin": 1.0}), players=Targets(own=3))
    state = world.begin(method.update.memory)
    fresh: list[set[object]] = []
    for done in range(1, 4):
        state = play_round(method, world, state)
        judged = load_rows(world.journal.stage(done, "judging"))
        keys = [(p, *g) for p, g in zip(judged.prompts, judged.responses, strict=True)]
        new, old = keys[: judged.fresh], keys[judged.fresh :]
        assert len(old) <= int(0.3 * len(new)) + int(0.15 * len(new))
        assert set(old) <= set().union(*fresh[-2:])
        assert bool(old) == (done > 1)
        fresh.append(set(new))


def test_an_exact_run():
    trace = play_game(zoo.parse("brps"), DNO_PRCT.with_parameters(DNO_PRCT.exact), rounds=5)
    assert trace["round"][-1] == 5
    assert trace["policy"][0] != trace["average_policy"][0]
