"""SAPO: segments by a moving average, which is the reference, and a buffer that favours unseen pairs."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from equipoise.core import reduce
from equipoise.core.scores import Scores
from equipoise.data.collate import Response
from equipoise.games import zoo
from equipoise.methods.index import get
from equipoise.methods.sapo import SAPO
from equipoise.play.pairings.recorded import TargetBeatsOwn
from equipoise.play.pairings.replay_buffer import Buffered
from equipoise.play.players.recorded import Segments, Targets
from equipoise.play.round import play_round
from equipoise.play.rows import Rows
from equipoise.play.state import AVERAGE, INITIAL, MAGNET, START, State
from equipoise.policy.generation.segment_rewrite import segment_start
from equipoise.policy.protocol import Decoding
from equipoise.policy.scoring.anchor_store import score
from equipoise.worlds.table.play_game import play_game
from equipoise.worlds.table.world import TableWorld
from equipoise.worlds.text.fit import Training
from equipoise.worlds.text.folder.row_files import load_rows

SMALL = replace(
    SAPO,
    players=Segments(longest=3, pairs=4),
    pairing=Buffered(size=100),
).with_parameters({"every": 1})


def played(world, method, rounds):
    state = world.begin(method.update.memory)
    for _ in range(rounds):
        state = play_round(method, world, state)
    return state


# --- segments


def test_where_a_segment_starts():
    # |y| = 10, g = 4: k in {0, 1, 2, 3}, each on a quarter of the draws
    assert [segment_start(10, 4, u) for u in (0.0, 0.24, 0.26, 0.6, 0.999)] == [0, 0, 1, 2, 3]
    assert {segment_start(5, 4, u) for u in (0.0, 0.999)} == {0}, (
        "never so late that under three tokens are spared"
    )
    assert {segment_start(7, g, 0.999) for g in (7, 8, 256)} == {0}, "all of a short response is written anew"


def test_a_segment_as_long_as_the_response_is_spins_own_response(make_world):
    world = make_world()
    state = world.begin()
    spin = Targets(own=1).write(world, state).responses
    whole = Segments(longest=256, by=START).write(world, state).responses
    finished = 0
    for (target, own), (kept, new) in zip(spin, whole, strict=True):
        assert kept == target
        assert new.ids == own.ids[: len(target.ids)], "cut at the target's length"
        assert new.finished == (own.finished and len(own.ids) <= len(target.ids))
        finished += new.finished
        if new.finished:
            assert new.text == own.text
    assert finished >= 4


def test_head_and_tail_stay_and_the_policy_writes_between(make_world):
    """With greedy decoding each token of the segment is the likeliest after all that stands before it."""
    world = make_world(decoding=Decoding(temperature=0.0, max_new_tokens=1))
    state = world.begin()
    rows = world.recorded(state).columns([np.zeros(8, dtype=int)])
    new = world.rewrite(state, rows, INITIAL, 2)
    assert new.writers == ("recorded", "initial")
    starts = [
        segment_start(len(old.ids), 2, u)
        for (old,), u in zip(rows.responses, world.uniforms(state, "segment", 8), strict=True)
    ]
    assert len(set(starts)) > 1
    for prompt, (old, written), k in zip(new.prompts, new.responses, starts, strict=True):
        assert written.ids[:k] == old.ids[:k]
        if len(written.ids) == len(old.ids):
            assert written.ids[k + 2 :] == old.ids[k + 2 :]
            assert written.finished == old.finished
        else:
            assert written.finished and written.ids[-1] in world.policy.stops and len(written.ids) <= k + 2
        ids = torch.tensor([prompt.ids + written.ids])
        logits = world.policy.model(input_ids=ids).logits[0]
        for place in range(k, min(k + 2, len(written.ids))):
            assert written.ids[place] == int(logits[len(prompt.ids) + place - 1].argmax())
        assert written.text == world.policy.tokenizer.decode(written.ids, skip_special_tokens=True)


def test_segments_are_the_same_every_time_and_in_any_batch(make_world):
    groups = []
    for batch in (32, 32, 3):
        world = make_world(decoding=Decoding(max_new_tokens=10, batch=batch))
        groups.append(Segments(longest=3, by=INITIAL).write(world, world.begin()).responses.tolist())
    assert groups[0] == groups[1] == groups[2]
    assert any(old != new for old, new in groups[0])
    later = world.begin().advance({START: world.journal.checkpoint(0)})
    assert Segments(longest=3, by=INITIAL).write(world, later).responses.tolist() != groups[0]


def test_head_tokens_cancel_in_the_margin(make_world):
    """log pi(y_w) - log pi(y_l) is what the tokens after the shared head give, read after prompt and head."""
    world = make_world()
    world.policy.model.double()
    rows = Segments(longest=2, by=INITIAL).write(world, world.begin())
    pairs, behind, heads = [], [], []
    for prompt, group in zip(rows.prompts, rows.responses, strict=True):
        old, new = (r.ids for r in group)
        k = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), 0)
        if 0 < k < min(len(old), len(new)):
            pairs.append((prompt.ids, list(group)))
            behind.append((prompt.ids, [Response(ids[k:], "", lead=ids[:k]) for ids in (old, new)]))
            heads.append(k)
    assert len(heads) >= 2
    whole, after = score(world.policy, pairs, 1)[0], score(world.policy, behind, 1)[0]
    assert torch.allclose(whole[:, 0] - whole[:, 1], after[:, 0] - after[:, 1], rtol=0, atol=1e-10)
    assert float((whole - after).abs().min()) > 1e-6, "the head itself is not free"


def test_players_refuse_what_makes_no_sense():
    with pytest.raises(ValueError, match="longest must be at least 1 token, got 0"):
        Segments(longest=0)
    with pytest.raises(ValueError, match="one segment is resampled per response; got 2"):
        Segments().writing(2)
    with pytest.raises(ValueError, match="size must be at least 1"):
        Buffered(size=0)


def test_a_round_writes_for_at_most_as_many_pairs_as_asked_and_an_epoch_for_all(make_world):
    world = make_world()
    whole = world.recorded(world.begin())
    seen, state = [], world.begin()
    for _ in range(3):
        rows = Segments(longest=3, pairs=3, by=INITIAL).write(world, state)
        assert len(rows) <= 3
        seen += [prompt.ids for prompt in rows.prompts]
        state = state.advance({START: world.journal.checkpoint(0)})
    assert len(seen) == len(whole) == 8
    assert len(Segments(longest=3, by=INITIAL).write(world, world.begin())) == 8
    with pytest.raises(ValueError, match="pairs must be at least 0"):
        Segments(pairs=-1)


# --- the moving average


def test_the_average_becomes_the_reference_every_so_many_rounds():
    game = zoo.parse("brps")
    method = SAPO.with_parameters({**SAPO.exact, "every": 3}).on_exact_games(6)
    world = TableWorld(game)
    state = State.begin(game.initial(), method.update.memory)
    reference = state.policies[MAGNET]
    for done in range(1, 7):
        state = play_round(method, world, state)
        reference = state.policies[AVERAGE] if done % 3 == 0 else reference
        assert state.policies[MAGNET] is reference
    assert state.policies[MAGNET] is not state.policies[START]


@pytest.mark.parametrize("name", ["sapo_hinge", "sapo_orpo"])
def test_the_other_forms_of_the_loss_run(make_world, name):
    world = make_world(training=Training(lr=1e-3, batch=8, micro_batch=8))
    method = get(name).with_parameters({"pairs": 4, "longest": 3})
    state = played(world, method, 2)
    before, after = (weights(world, state.policies[n]) for n in (INITIAL, START))
    assert not all(torch.equal(before[n], after[n]) for n in before)


def test_decay_one_freezes_reference_and_generator(make_world):
    world = make_world(training=Training(lr=1e-3, batch=8, micro_batch=8))
    method = SMALL.with_parameters({"decay": 1.0})
    state = played(world, method, 2)
    initial, average, trained = (weights(world, state.policies[name]) for name in (INITIAL, AVERAGE, START))
    assert all(torch.equal(initial[n], average[n]) for n in initial)
    assert not all(torch.equal(initial[n], trained[n]) for n in initial)
    rows = world.recorded(state).columns([np.zeros(8, dtype=int)])
    as_initial = state.with_policies(
        **{AVERAGE: state.policies[INITIAL]}
    )  # the same seeds, the initial weights
    by_average, by_initial = (world.rewrite(s, rows, AVERAGE, 3).responses for s in (state, as_initial))
    assert by_average.tolist() == by_initial.tolist()


def weights(world, folder):
    with world.model.playing(folder) as policy:
        return {name: p.detach().clone() for name, p in policy.parameters()}


def test_decay_zero_gives_zero_logits_and_the_plain_gradient():
    """theta' = theta + rate A beta/2 (p_target - pi)/P(y_w != y_l), in every round, by hand."""
    game, rate, beta = zoo.parse("brps"), 0.7, 0.4
    method = SAPO.with_parameters(
        {"beta": beta, "rate": rate, "decay": 0.0, "pairs": 0, "every": 1}
    ).on_exact_games(3)
    world = TableWorld(game)
    state = State.begin(game.initial(), method.update.memory)
    recorded = world.recorded(state)
    target = np.zeros(3)
    np.add.at(target, recorded.responses[:, 0], recorded.weight)
    target = torch.from_numpy(target / target.sum())
    for _ in range(3):
        before = state.policies[START]
        assert torch.allclose(state.policies[AVERAGE].log_probs(), before.log_probs(), rtol=0, atol=1e-14)
        pi = before.probs()[0]
        state = play_round(method, world, state)
        differ = 1 - float(target @ pi)
        expected = before.log_probs()[0] + rate * 3 * beta / 2 * (target - pi) / differ
        assert torch.allclose(
            state.policies[START].log_probs()[0], expected.log_softmax(0), rtol=0, atol=1e-12
        )


def test_at_the_anchor_each_log_prob_is_pulled_by_half_of_beta():
    logp = torch.tensor([[-1.0, -2.0]], dtype=torch.float64, requires_grad=True)
    found = Scores(logp=logp, anchors={"reference": logp.detach()})
    losses = reduce.expected(replace(SAPO.objective, beta=0.3), found)
    assert losses.metrics["margin"].tolist() == [0.0]
    losses.value.sum().backward()
    assert logp.grad.tolist() == [[-0.15, 0.15]]


def test_the_average_moves_geometrically_in_a_table():
    game = zoo.parse("brps")
    method = SAPO.with_parameters({**SAPO.exact, "decay": 0.5}).on_exact_games(2)
    world = TableWorld(game)
    state = State.begin(game.initial(), method.update.memory)
    average = game.initial().log_probs()
    for _ in range(2):
        state = play_round(method, world, state)
        average = (0.5 * average + 0.5 * state.policies[START].log_probs()).log_softmax(1)
        assert torch.allclose(state.policies[AVERAGE].log_probs(), average, rtol=0, atol=1e-12)


def test_an_exact_run():
    trace = play_game(zoo.parse("brps"), SAPO.with_parameters(SAPO.exact), rounds=20)
    assert trace["round"][-1] == 20


# --- the buffer


class Shelf:
    """Rounds that were: what was written and what was drawn."""

    def __init__(self, written, judged, draws):
        self.stages, self.draws = {"sampling": written, "judging": judged}, draws

    def past(self, state, back, stage="judging"):
        found = self.stages[stage]
        return None if state.round <= back else pairs_of(found[state.round - back - 1])

    def uniforms(self, state, name, count):
        assert len(self.draws) == count
        return np.array(self.draws)


def pairs_of(names):
    return Rows(
        prompts=np.array(names),
        responses=np.array([[1, 0]] * len(names)).reshape(-1, 2),
        weight=np.ones(len(names)),
        writers=("recorded", "average"),
    )


def drawn(size, written, judged, new, draws):
    state = State(round=len(written) + 1, policies={})
    return Buffered(size=size).form(Shelf(written, judged, draws), state, pairs_of(new)).prompts.tolist()


def test_a_pair_drawn_twice_before_has_a_third_of_the_chance():
    # held: c d a b with chances 1 1 1/3 1, of 10/3: edges at 0.3, 0.6, 0.7, 1
    about = {"size": 100, "written": [["a", "b"]], "judged": [["a", "a"]], "new": ["c", "d"]}
    for draws, expected in (
        ((0.0, 0.29), "cc"),
        ((0.31, 0.59), "dd"),
        ((0.61, 0.69), "aa"),
        ((0.71, 0.99), "bb"),
    ):
        assert "".join(drawn(**about, draws=draws)) == expected


def test_the_oldest_go_out_first():
    about = {"written": [["a", "b"], ["c", "d"]], "judged": [["a", "b"], ["c", "c"]], "new": ["e", "f"]}
    grid = (np.arange(2) + 0.5) / 2
    assert set(drawn(size=2, draws=grid, **about)) == {"e", "f"}
    seen = Counter()
    for u in np.linspace(0, 0.999, 400):
        seen.update(drawn(size=4, draws=(u, u), **about))
    # e f d never drawn, c drawn twice: 3/10 each, and 1/10
    assert set(seen) == set("cdef")
    assert seen["c"] / 800 == pytest.approx(0.1, abs=0.01)
    assert seen["d"] / 800 == pytest.approx(0.3, abs=0.01)


def test_a_run_draws_from_what_it_wrote(make_world):
    """Every judged pair was written in this round or before, and older ones come back."""
    world = make_world(training=Training(lr=1e-3, batch=8, micro_batch=8))
    played(world, replace(SMALL, players=Segments(longest=3)), 2)
    written: set[object] = set()
    repeated = 0
    for done in (1, 2):
        stages = [load_rows(world.journal.stage(done, name)) for name in ("sampling", "judging")]
        new, judged = ([(p, *g) for p, g in zip(s.prompts, s.responses, strict=True)] for s in stages)
        formed = TargetBeatsOwn().form(world, None, stages[0])
        assert len(judged) == len(formed)
        written |= set(new)
        assert set(judged) <= written
        repeated += len(set(judged) - set(new))
        assert stages[1].prob.tolist() == [1.0] * len(judged)
    assert repeated > 0
