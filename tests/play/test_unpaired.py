"""Unpaired feedback: pairs split into responses, mismatched responses, weights, and the same methods on a table."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from equipoise.core import reduce
from equipoise.core.objectives import Bco, Kto
from equipoise.games import zoo
from equipoise.games.expectation import scores
from equipoise.games.fit import minimise
from equipoise.methods.index import get
from equipoise.play.pairings.density_ratio import odds_of_desirable
from equipoise.play.pairings.recorded import PreferredFirst
from equipoise.play.pairings.unpaired import AgainstOwnSamples, Labelled, MatchedPrompts, WithUnrelated
from equipoise.play.players.unpaired import DispreferredResponses, UnpairedResponses
from equipoise.play.rows import Rows
from equipoise.play.state import INITIAL, START, State
from equipoise.worlds.derangement import derangement
from equipoise.worlds.table.enumeration import comparisons
from equipoise.worlds.table.play_game import play_game
from equipoise.worlds.table.world import TableWorld


def table_rows(world: TableWorld) -> Rows:
    return UnpairedResponses().write(world, State.begin(world.game.initial()))


def test_a_pair_taken_apart_is_two_responses_with_its_soft_label(make_world, pairs):
    world = make_world()
    state = world.begin()
    alone = UnpairedResponses().write(world, state)
    assert len(alone) == 16 and alone.writers == ("recorded",) and alone.prob is None
    assert alone.reward[:, 0].tolist() == [*pairs.prob, *(1 - pairs.prob)]
    assert alone.weight.tolist() == [*pairs.weight, *pairs.weight]
    assert [r.ids for r in alone.responses[:, 0]] == [
        *[r.ids for r in pairs.responses[:, 0]],
        *[r.ids for r in pairs.responses[:, 1]],
    ]
    assert alone.alone() is alone


def test_what_becomes_of_the_rows_is_said_with_counts(pairs):
    assert UnpairedResponses().account(pairs) == (
        "8 pairs split: 16 responses to learn from, 9 desirable and 7 undesirable"
    )
    single = pairs.alone().take(np.arange(3))
    assert UnpairedResponses().account(single) == "3 responses to learn from, 3 desirable and 0 undesirable"
    assert "7 undesirable responses to learn from; 9 desirable" in DispreferredResponses().account(pairs)


def test_the_dispreferred_are_the_losers_of_pairs_whatever_their_order(make_world, pairs):
    world = make_world()
    rows = DispreferredResponses().write(world, world.begin())
    # pair 4 has p = 0.3: its first response lost; pair 2 is a tie, of which neither lost
    assert sorted(rows.reward[:, 0].round(9)) == sorted([0.0, 0.2, 0.0, 0.3, 0.0, 0.1, 0.0])
    assert pairs.responses[4, 0].ids in [r.ids for r in rows.responses[:, 0]]


@pytest.mark.parametrize("sizes", [(1, 1), (3, 3), (1, 2, 3), (5, 5, 10), (1,) * 7])
def test_nobody_meets_its_own_group_unless_one_has_more_than_half(sizes):
    groups = np.repeat(np.arange(len(sizes)), sizes)
    draw = np.random.default_rng(0)
    for _ in range(20):
        order = draw.permutation(len(groups))
        met = derangement(groups[order], draw.random(len(groups)))
        assert sorted(met) == list(range(len(groups)))
        assert (groups[order][met] != groups[order]).all()


def test_an_overlarge_group_leaves_few_at_home_and_a_single_row_meets_itself():
    groups = np.array([0] * 7 + [1, 2])
    met = derangement(groups, np.random.default_rng(1).random(9))
    assert sorted(met) == list(range(9)) and (met != np.arange(9)).all()
    assert (groups[met] != groups).sum() >= 2
    assert derangement(np.array([4]), np.array([0.5])).tolist() == [0]
    again = derangement(groups, np.random.default_rng(1).random(9))
    assert again.tolist() == met.tolist()


def test_unrelated_responses_of_text_come_from_other_prompts_and_stand_after_this_one(make_world):
    world = make_world()
    state = world.begin()
    alone = UnpairedResponses().write(world, state)
    both = WithUnrelated().form(world, state, alone)
    assert both.writers == ("recorded", "unrelated")
    assert both.reward[:, 0].tolist() == alone.reward[:, 0].tolist()
    own = {p.ids: set() for p in alone.prompts}
    for prompt, response in zip(alone.prompts, alone.responses[:, 0], strict=True):
        own[prompt.ids].add(response.ids)
    origin = {r.ids: p.ids for p, (r,) in zip(alone.prompts, alone.responses, strict=True)}
    foreign = [origin[r.ids] != p.ids for p, r in zip(both.prompts, both.responses[:, 1], strict=True)]
    assert np.mean(foreign) > 0.8  # some answers were recorded for two prompts
    assert sorted(r.ids for r in both.responses[:, 1]) == sorted(r.ids for r in alone.responses[:, 0])
    assert WithUnrelated().form(world, state, alone).responses.tolist() == both.responses.tolist()


def test_in_a_table_an_unrelated_response_is_counted_with_its_probability_at_other_prompts():
    world = TableWorld(_two_prompts())
    rows = table_rows(world)
    both = WithUnrelated().form(world, State.begin(world.game.initial()), rows)
    assert both.weight.sum() == pytest.approx(rows.weight.sum())
    elsewhere = np.zeros(world.game.actions)
    np.add.at(elsewhere, rows.responses[rows.prompts == 1, 0], rows.weight[rows.prompts == 1])
    got = np.zeros(world.game.actions)
    here = both.prompts == 0
    np.add.at(got, both.responses[here, 1], both.weight[here])
    assert got / got.sum() == pytest.approx(elsewhere / elsewhere.sum())


def _two_prompts():
    from equipoise.games.preference import PreferenceGame

    first = torch.tensor([[0.5, 0.9, 0.6], [0.1, 0.5, 0.8], [0.4, 0.2, 0.5]], dtype=torch.float64)
    reference = torch.tensor([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]], dtype=torch.float64)
    return PreferenceGame(torch.stack([first, first.T]), reference)


def test_both_kinds_weigh_alike_and_soft_labels_count_for_both(pairs):
    rows = replace(pairs.alone(), reward=np.array([[0.0]] * 3 + [[1.0]] * 12 + [[0.25]]))
    formed = Labelled(balanced=True).form(None, None, rows)
    label = formed.reward[:, 0]
    assert set(label) == {0.0, 1.0} and len(formed) == 17
    assert formed.weight[label == 1].sum() == pytest.approx(formed.weight[label == 0].sum())
    assert formed.weight.sum() == pytest.approx(rows.weight.sum())
    assert Labelled().form(None, None, rows) is rows


def uneven() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Prompts of two kinds, one-hot; thumbs up come from the first in 3 of 4 cases, thumbs down in 1 of 4."""
    kind = np.array([0] * 300 + [1] * 100 + [0] * 100 + [1] * 300)
    return np.eye(2)[kind], np.array([1.0] * 400 + [0.0] * 400), kind


def test_odds_are_the_ratio_of_the_prompts_densities():
    features, label, kind = uneven()
    odds = odds_of_desirable(features, label, np.ones(800), lambda count: np.zeros(count))
    # a ridge of 1 on a sum of 800 losses moves log 3 by about 1 %
    assert odds[kind == 0] == pytest.approx(3.0, rel=0.03)
    assert odds[kind == 1] == pytest.approx(1 / 3, rel=0.03)


def test_odds_do_not_depend_on_how_many_thumbs_of_each_kind_there_are():
    features, label, kind = uneven()
    few = np.flatnonzero((label == 0) | (np.arange(800) % 4 == 0))
    odds = odds_of_desirable(features[few], label[few], np.ones(len(few)), lambda count: np.zeros(count))
    assert odds[kind[few] == 0] == pytest.approx(3.0, rel=0.05)


def test_a_large_class_is_sampled():
    features, label, kind = (np.concatenate([x] * 5) for x in uneven())
    asked = []

    def uniforms(count):
        asked.append(count)
        return np.random.default_rng(0).random(count)

    odds = odds_of_desirable(features, label, np.ones(4000), uniforms)
    assert asked == [4000]
    assert odds[kind == 0][0] == pytest.approx(3.0, rel=0.3)  # 1024 of 2000 in each class


class OneHot:
    """A world whose prompts are 0 and 1."""

    def prompt_features(self, state, rows):
        return torch.eye(2, dtype=torch.float64)[torch.from_numpy(rows.prompts)]

    def uniforms(self, state, name, count):
        return np.zeros(count)


def unary_rows(kind: np.ndarray, label: np.ndarray) -> Rows:
    return Rows(
        prompts=kind,
        responses=np.zeros((len(kind), 1), dtype=np.int64),
        weight=np.ones(len(kind)),
        writers=("recorded",),
        reward=label[:, None],
    )


def test_matching_weighs_thumbs_down_alone_and_undoes_the_difference_of_prompts():
    _, label, kind = uneven()
    formed = MatchedPrompts().form(OneHot(), None, unary_rows(kind, label))
    up, down = formed.reward[:, 0] == 1, formed.reward[:, 0] == 0
    assert formed.weight[up] == pytest.approx(1.0)
    # ratios 3 and 1/3, the latter clamped to 1/2
    assert formed.weight[down & (formed.prompts == 0)] == pytest.approx(3.0, rel=0.03)
    assert formed.weight[down & (formed.prompts == 1)] == pytest.approx(0.5)


def test_matching_does_nothing_where_both_kinds_have_the_same_prompts_or_one_kind_is_alone():
    kind, label = np.array([0, 1] * 200), np.array([0.0, 0.0, 1.0, 1.0] * 100)
    formed = MatchedPrompts().form(OneHot(), None, unary_rows(kind, label))
    assert formed.weight == pytest.approx(1.0, rel=1e-3)
    alone = MatchedPrompts().form(OneHot(), None, unary_rows(kind, np.ones(400)))
    assert alone.weight == pytest.approx(1.0)


def test_matching_reads_the_initial_policys_states_of_text(make_world):
    world = make_world()
    state = world.begin()
    rows = UnpairedResponses().write(world, state)
    features = world.prompt_features(state, rows)
    assert features.shape[0] == 16 and bool((features[0] == features[8]).all())  # one prompt, twice
    formed = MatchedPrompts().form(world, state, rows)
    assert (formed.weight > 0).all() and set(formed.reward[:, 0]) == {0.0, 1.0}


def test_d2os_columns_are_own_bad_and_the_other_own_ones(make_world):
    world = make_world()
    state = world.begin()
    rows = DispreferredResponses(own=3).write(world, state)
    formed = AgainstOwnSamples().form(world, state, rows)
    assert formed.writers == (INITIAL, "recorded", INITIAL, INITIAL)
    assert formed.responses[:, 1].tolist() == rows.responses[:, 0].tolist()
    assert formed.prob.tolist() == [1.0] * len(rows) and formed.reward is None


def test_the_preferred_response_comes_first(pairs):
    formed = PreferredFirst().form(None, None, pairs)
    assert formed.prob.tolist() == [1, 0.8, 0.5, 1, 0.7, 1, 0.9, 1]
    assert formed.responses[4].tolist() == pairs.responses[4, ::-1].tolist()
    assert formed.responses[0].tolist() == pairs.responses[0].tolist()


@pytest.mark.parametrize("objective", [Kto(beta=0.7), Bco(beta=0.7)])
def test_an_exact_fit_is_stationary_with_the_context_of_its_own_policy(objective):
    """The detached gradient at the end of `minimise` is 0, with the reference point or shift of that very policy."""
    world = TableWorld(_two_prompts())
    state = State.begin(world.game.initial())
    rows = table_rows(world)
    rows = WithUnrelated().form(world, state, rows) if isinstance(objective, Kto) else rows
    soft = world.game.preference.mean(dim=2).numpy()  # labels strictly between 0 and 1: a finite minimum
    reward = rows.reward.copy()
    reward[:, 0] = soft[rows.prompts, rows.responses[:, 0]]
    soft_rows = comparisons(replace(rows, reward=reward))
    anchors = {"reference": state.policies[START].log_probs()}
    found = minimise(objective, *soft_rows, start=anchors["reference"], anchors=anchors)
    logits = found.clone().requires_grad_(True)
    batch = scores(logits.log_softmax(dim=1), anchors, *soft_rows[:2], None, soft_rows.reward)
    batch = reduce.with_batch_statistic(objective, batch, soft_rows.weight)
    loss = reduce.mean(objective(batch).value, soft_rows.weight)
    (slope,) = torch.autograd.grad(loss, logits)
    assert float(slope.abs().max()) < 1e-9
    assert float((found - anchors["reference"]).abs().max()) > 0.1


def test_own_samples_are_drawn_anew_in_every_round_by_whom_is_asked():
    with pytest.raises(ValueError, match="by must be initial or start, got 'past'"):
        DispreferredResponses(own=2, by="past")
    assert "by" in get("d2o").parameters() and "by" not in get("npo").parameters()
    assert get("d2o").with_parameters({"by": "start"}).players.by == "start"


@pytest.mark.parametrize(
    "name", ["kto", "apo_zero_unpaired", "bco", "bco_udm", "aot", "npo", "npo_rt", "d2o"]
)
def test_methods_of_thumbs_play_exact_games(name):
    method = get(name)
    played = play_game(zoo.parse("brps"), method.with_parameters(dict(method.exact)), rounds=1)
    assert np.isfinite(played["policy"]).all()


def test_gradient_ascent_takes_its_steps_and_simnpo_says_why_it_is_not_played():
    before, after = (
        play_game(zoo.parse("brps"), get("gradient_ascent"), rounds=rounds)["policy"] for rounds in (1, 20)
    )
    assert before != after
    with pytest.raises(ValueError, match="the batch carries no lengths"):
        play_game(zoo.parse("brps"), get("simnpo"), rounds=1)
