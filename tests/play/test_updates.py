"""Updates on tables, where each has a formula, and on text, where a killed run must go on as if nothing had been."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from equipoise.games import zoo
from equipoise.games.closed_form import mirror_step
from equipoise.methods.index import METHODS, get
from equipoise.oracles.learned.feature_reward import Fitting
from equipoise.play.pairings.learned_reward import ByLearnedReward
from equipoise.play.pairings.replay_buffer import Replayed
from equipoise.play.pairings.sampled import Pairs, Scored
from equipoise.play.players.sampled import Self
from equipoise.play.round import play_round
from equipoise.play.state import AVERAGE, BEFORE, FITTED, INITIAL, LAZY, MAGNET, OPPONENT, START, State
from equipoise.play.updates.basic import Averaged, Descend, Extrapolated, Magnetic, Refit
from equipoise.worlds.table.play_game import by_closed_form, play_game
from equipoise.worlds.table.world import TableWorld
from equipoise.worlds.text.fit import Training
from equipoise.worlds.text.folder import row_files

# the loss meets these formulas only up to the log-partition, or on the way of a gradient, or reads lengths, which a
# game's responses do not have
APPROXIMATE = {"sppo", "gpo", "spo", "mpo", "srpo", "self_consuming"}
EXACT = [m.name for m in METHODS.values() if m.closed_form and m.name not in APPROXIMATE]


def start(game, method):
    return State.begin(game.initial(), method.update.memory, keep_past=method.asks_the_past)


@pytest.mark.parametrize("spec", ["brps", "random:4"])
@pytest.mark.parametrize("name", EXACT)
def test_playing_the_objective_is_playing_the_formula(name, spec):
    game, method = zoo.parse(spec), get(name)
    method = method.with_parameters(dict(method.exact) | ({"w_pref": 20.0} if name == "spac" else {}))
    formula, played = (play_game(game, method, rounds=3, exact=exact, tau=0.1) for exact in (True, False))
    assert formula["policy"][0] == pytest.approx(played["policy"][0], abs=1e-6)
    assert formula["policy"][0] != pytest.approx(game.reference[0].tolist(), abs=1e-3)


@pytest.mark.parametrize("name", ["sppo", "gpo", "mpo"])
def test_small_steps_of_the_approximate_methods_are_those_of_their_formula(name):
    game, step = zoo.parse("brps"), 1e-3
    small = {"sppo": {"eta": step}, "gpo": {"beta": 1 / step}, "mpo": {"rate": step, "alpha": 0.5}}[name]
    method = get(name).with_parameters(dict(get(name).exact) | small)
    played = play_game(game, method, rounds=1, exact=False)["policy"][0]
    moved = torch.tensor(played).log() - game.initial().log_probs()[0]
    payoff = game.win(game.initial())[0]
    if name == "gpo":
        payoff = (torch.logit(game.preference) @ game.initial().probs().unsqueeze(2))[0, :, 0]
    if name == "mpo":  # a plain gradient step on the logits, not the mirror step: weighted by the policy
        probs = game.reference[0]
        payoff = game.actions * probs * (payoff - probs @ payoff)
    expected = step * (payoff - payoff.mean())
    assert torch.allclose(moved - moved.mean(), expected, atol=3 * step**2)


def test_an_extrapolated_refit_is_nesterovs_step():
    game = zoo.parse("transitive:4")
    method = replace(get("apo"), in_theory=get("online_dpo").in_theory).with_parameters(
        {"alpha": 0.4, "beta": 1.0}
    )
    world, state = TableWorld(game), start(game, method)
    for _ in range(3):
        before = state
        state = play_round(method.on_exact_games(3), world, state)
        plain = replace(method, update=Refit()).on_exact_games(3)
        fitted = play_round(plain, world, before).policies[START]
        ahead = 1.4 * fitted.log_probs() - 0.4 * before.policies[FITTED].log_probs()
        assert torch.allclose(state.policies[START].log_probs(), ahead.log_softmax(1), atol=1e-9)
        assert torch.allclose(state.policies[FITTED].probs(), fitted.probs(), atol=1e-12)
    still = method.with_parameters({"alpha": 0.0})
    assert isinstance(still.update, Extrapolated)
    once = play_round(still.on_exact_games(1), world, start(game, method)).policies[START]
    assert torch.allclose(once.probs(), play_round(plain, world, start(game, method)).policies[START].probs())


def test_a_magnet_moves_every_so_many_rounds():
    game, method = zoo.parse("rps"), get("mpo").with_parameters({"every": 3, "alpha": 0.1, "eta": 1.0})
    assert isinstance(method.update, Magnetic)
    state = start(game, method)
    method, world = by_closed_form(game, method.on_exact_games(6))
    magnets = []
    for _ in range(6):
        state = play_round(method, world, state)
        magnets.append(state.policies[MAGNET])
    assert magnets[0] is magnets[1] is state.policies[INITIAL]
    assert magnets[2] is magnets[3] is magnets[4]
    assert magnets[5] is state.policies[START]


def test_an_average_follows_at_its_own_pace():
    game, method = zoo.parse("rps"), get("nash_ema_pg").with_parameters({"decay": 0.75, "tau": 0.1})
    assert isinstance(method.update, Averaged)
    world, state = TableWorld(game), start(game, method)
    average = game.initial().log_probs()
    for _ in range(3):
        state = play_round(method.on_exact_games(3), world, state)
        average = (0.75 * average + 0.25 * state.policies[START].log_probs()).log_softmax(1)
        assert torch.allclose(state.policies[AVERAGE].log_probs(), average)


def test_optimism_without_the_second_fit_is_multiplicative_weights():
    """The lazy sequence moves by the formula; the policy played is one more step from it."""
    game, method = zoo.parse("brps"), get("onpo").with_parameters({"eta": 0.5})
    world, state = TableWorld(game), start(game, method)
    for _ in range(2):
        lazy, win = state.policies[LAZY], game.win(state.policies[START])
        state = play_round(method.on_exact_games(2), world, state)
        lazy = mirror_step(lazy, win, step=0.5)
        assert torch.allclose(state.policies[LAZY].probs(), lazy.probs(), atol=1e-9)
        ahead = mirror_step(lazy, win, step=0.5)
        assert torch.allclose(state.policies[START].probs(), ahead.probs(), atol=1e-9)


def test_a_parameter_that_follows_another_moves_with_it_unless_it_is_set():
    method = get("nash_md").with_parameters({"eta": 0.5, "tau": 0.1})
    assert method.parameters()["mixture"] == pytest.approx(0.05)
    assert method.with_parameters({"mixture": 0.3}).parameters()["mixture"] == 0.3


def test_replay_brings_back_the_comparisons_of_earlier_rounds(make_world):
    world = make_world()
    pairing = Replayed(base=Pairs(equal=True), shares=(0.5, 0.25))
    method = replace(get("iterative_dpo"), players=Self(samples=2), pairing=pairing, rounds=3)
    state = world.begin()
    counts = []
    for round in range(1, 4):
        state = play_round(method, world, state)
        rows = world.past(state, 1)
        counts.append((rows.fresh, len(rows)))
        assert round == state.round - 1
    assert counts == [(12, 12), (12, 18), (12, 21)]
    everything = replace(pairing, shares=None)
    assert everything.form is not None
    with pytest.raises(ValueError, match="needs random draws"):
        game = zoo.parse("rps")
        play_game(game, replace(method, in_theory=None), rounds=2)


def test_steps_on_recorded_pairs_follow_the_methods_own():
    """To first order in the rate a round moves by the sum of both gradients; without a share it is the plain method."""
    game = zoo.parse("random:4")
    world = TableWorld(game)

    def moved(offline: float, rate: float = 1e-5, **parameters):
        method = get("sail").with_parameters(
            {**get("sail").exact, "offline": offline, "rate": rate, **parameters}
        )
        method = method.on_exact_games(1)
        if not offline:
            method = replace(method, update=method.update.base)
        after = play_round(method, world, start(game, method)).policies[START]
        return (after.log_probs() - game.initial().log_probs()) / rate

    dpo = replace(get("dpo"), update=Descend(rate=1e-5)).with_parameters({"beta": 0.5}).on_exact_games(1)
    alone = play_round(dpo, world, start(game, dpo)).policies[START]
    pairs = (alone.log_probs() - game.initial().log_probs()) / 1e-5
    assert pairs.abs().max() > 0.05
    assert torch.allclose(moved(2.0) - moved(0.0), 2 * pairs, atol=1e-4)
    still = get("sail_dpp").with_parameters({**get("sail_dpp").exact, "offline": 0.0})
    assert still.needs.records is None and still.with_parameters({"offline": 0.5}).needs.records == "pairs"
    ends = [
        play_game(game, still.with_parameters({"offline": share}), rounds=20)["policy"][0]
        for share in (0.0, 1.0)
    ]
    assert ends[0] == pytest.approx(game.reference[0].tolist(), abs=1e-12)  # every margin is 0
    assert ends[1] != pytest.approx(game.reference[0].tolist(), abs=1e-2)
    with pytest.raises(ValueError, match="offline"):
        still.with_parameters({"offline": -1.0})


def test_a_magnets_pull_charged_as_sampled_makes_the_explicit_step():
    game = zoo.parse("brps")
    method = get("mpo").with_parameters({"alpha": 0.1, "eta": 0.5, "every": 1000, "real_time": False})
    state = start(game, method)
    played, world = by_closed_form(game, method.on_exact_games(2))
    once = play_round(played, world, state)
    twice = play_round(played, world, once)
    policy = once.policies[START]
    expected = mirror_step(policy, game.win(policy), step=0.5, magnet=game.initial(), pull=0.05)
    assert torch.allclose(twice.policies[START].probs(), expected.probs())
    ends = [
        play_game(game, method.with_parameters({"real_time": now}), rounds=400, tau=0.1)["gap_tau"][-1]
        for now in (True, False)
    ]
    assert max(map(abs, ends)) < 1e-9, "both settle at the game regularised towards the magnet"


def test_the_second_gradient_is_on_what_the_half_step_policy_writes_to_other_prompts(make_world):
    world = make_world(prompts_per_round=4, rounds=2)
    method = replace(get("egpo").with_parameters({"temperature": 1.0, "top_k": 0}), rounds=2)
    state = world.begin()
    rows = world.stage(
        state, "judging", lambda: method.pairing.form(world, state, method.players.write(world, state))
    )
    moved = method.update.move(method, world, state, rows, world.anchors(state, rows, method.anchors))
    first, again = (
        row_files.load(world.journal, world.journal.stage(1, name)) for name in ("judging", "judging-again")
    )
    asked = [{prompt.ids for prompt in rows.prompts} for rows in (first, again)]
    assert len(asked[0]) == len(asked[1]) == 4 and not asked[0] & asked[1]
    half = world.journal.checkpoint(1, "half")
    writing = replace(state.with_policies(**{START: half}), draw=1)
    sampled = world.sample(writing, again.columns([]), START, 2, method.players.decode)
    assert [[r.ids for r in row] for row in sampled.responses] == [
        [r.ids for r in row] for row in again.responses
    ]
    steps = world.journal.lines("metrics.jsonl")
    assert [line.get("fit", "policy") for line in steps] == ["half"] * 2 + ["policy"] * 2
    assert moved[START] != half


def test_a_carried_optimizer_has_one_schedule_over_the_whole_run(make_world):
    training = Training(lr=1e-3, batch=4, micro_batch=2, epochs=1, schedule="linear", warmup=0.5)
    world = make_world(rounds=2, training=training, prompts_per_round=4)
    method = replace(get("omd").with_parameters({"temperature": 1.0, "top_k": 0}), rounds=2)
    state = world.begin()
    for _ in range(2):
        state = play_round(method, world, state)
    rates = [line["lr"] for line in world.journal.lines("metrics.jsonl")]
    assert rates == pytest.approx(
        [1e-3, 1e-3]
    )  # one step a round: the first rises, the second begins to fall


def test_a_policy_made_without_training_is_waited_for_by_a_process_that_comes_late(make_world, tmp_path):
    """It has been written when the second process asks: both wait as often, or one would wait for ever."""

    class Process:
        def __init__(self, first: bool) -> None:
            self.is_main_process, self.waited = first, 0

        def wait_for_everyone(self) -> None:
            self.waited += 1

    processes = [Process(True), Process(False)]
    make_world().begin()
    folders, held = [], []
    for process in processes:
        world = make_world(accelerator=process)
        state = world.begin()
        folders.append(world.combine(state, {START: 0.5, INITIAL: 0.5}, name="made"))
        held.append(world.model.held)
    assert folders[0] == folders[1] and folders[0].exists()
    assert processes[0].waited == processes[1].waited
    assert held == [folders[0], state.policies[START]], "each knows whose weights it holds"


ONLINE = [
    "egpo",
    "onpo",
    "mpo",
    "apo",
    "nash_ema_pg",
    "xpo",
    "sail",
    "zpg",
    "zbcpg",
    "rlp_uml",
    "rlp_spg",
    "rlp_uml_ppo",
]
SMALL = {
    "sail": {"offline": 1.0, "parts": 1},
    "rlp_uml": {"every": 1, "own": 4},
    "rlp_uml_ppo": {"every": 1, "own": 4},
    "rlp_spg": {"every": 1, "own": 4, "confidence": 0.1},
}


OFTEN = ("egpo", "onpo", "sail", "rlp_uml_ppo")  # two gradients, memory, mixed rounds, networks and rewards


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in OFTEN else pytest.mark.nightly) for name in ONLINE]
)
def test_a_round_broken_off_anywhere_ends_with_the_same_weights(make_world, tmp_path, name, monkeypatch):
    """The second round is broken off before several of the checkpoints and learned rewards that it writes, and played
    again by a new world each time."""
    from equipoise.policy import checkpoint
    from equipoise.policy.scoring.anchor_store import AnchorStore
    from equipoise.worlds.folder.journal import Journal
    from equipoise.worlds.text.folder import run_folder as text_run

    method = replace(get(name), rounds=2).with_parameters(SMALL.get(name, {}))
    method = replace(method, players=method.players.writing(2))
    if isinstance(method.pairing, ByLearnedReward):
        method = replace(method, pairing=replace(method.pairing, fitting=Fitting(steps=10, batch=4, width=8)))
    if isinstance(method.pairing, Scored) and method.pairing.opponents == 0:
        method = replace(method, pairing=replace(method.pairing, opponents=1))

    initial = tmp_path / "whole" / "checkpoints" / "initial"

    class Broken(Exception):
        pass

    def played(folder, stops):
        """Rounds 1 and 2, stopped before the given saves (counted over both rounds) and begun again each time."""
        seen = [0]

        def breaking(real):
            def save(*arguments):
                seen[0] += 1
                if seen[0] in stops:
                    raise Broken
                real(*arguments)

            return save

        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, "save", breaking(checkpoint.save))
            patch.setattr(text_run, "write_tensors", breaking(text_run.write_tensors))
            while True:
                world = make_world(journal=Journal(folder), store=AnchorStore(folder / "anchors"))
                if initial.exists():  # the fixture's model was trained by the run before
                    checkpoint.load_into(world.policy, initial)
                try:
                    state = world.begin(method.update.memory)
                    while state.round <= 2:
                        state = play_round(method, world, state)
                    return state, seen[0]
                except Broken:
                    continue

    whole, saves = played(tmp_path / "whole", ())
    stops = range(3, saves + 1)
    resumed, _ = played(tmp_path / "resumed", {stops[0], stops[0] + 2, saves + 1})
    kept = [
        sorted(f.read_bytes() for f in (tmp_path / run / "rewards").glob("*/*.safetensors"))
        for run in ("whole", "resumed")
    ]
    assert kept[0] == kept[1] and len(kept[0]) == (2 if name.startswith("rlp") else 0)
    for policy in (START, BEFORE, OPPONENT, *method.update.memory):
        a, b = (state.policies[policy] for state in (whole, resumed))
        assert a.name == b.name
        one, other = (load_file(folder / "model.safetensors") for folder in (a, b))
        assert all(torch.equal(one[key], other[key]) for key in one), policy
    lines = [list(Journal(tmp_path / run).lines("metrics.jsonl")) for run in ("whole", "resumed")]
    assert lines[0] == lines[1] and bool(lines[0]) == (method.objective is not None)
    steps = [(line["round"], line["step"]) for line in lines[0]]
    assert len(set(steps)) == len(steps)
