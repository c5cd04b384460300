"""Pairs that the policy labels itself: who is best, how far two policies agree, and what becomes of the loss."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from equipoise.core import Scores, reduce
from equipoise.core.objectives import Cdpo, Dpo, Spa
from equipoise.games import zoo
from equipoise.methods.index import get
from equipoise.methods.own_labels import CREAM, SPA
from equipoise.play.pairings.self_labelled import ImplicitRewardLabels, kendall
from equipoise.play.players.recorded import RecordedThenSampled
from equipoise.play.round import play_round
from equipoise.play.rows import Rows
from equipoise.play.state import BASE, BEFORE, INITIAL, START, State
from equipoise.policy.scoring.live_reference import FrozenReference
from equipoise.run.session import align
from equipoise.worlds.table.play_game import play_game
from equipoise.worlds.table.world import TableWorld
from equipoise.worlds.text.folder.row_files import load_rows
from equipoise.worlds.text.scoring.live_scoring import LiveScoring

STATE = State(round=2, policies={INITIAL: "first", BEFORE: "older", START: "own"})
FRESH = State(round=2, policies={INITIAL: "first", BEFORE: "first", START: "own"})


class Written:
    """Log-probs by hand, [N, K] for each policy, and lengths."""

    def __init__(self, length=None, **logps):
        self.logps = {name: np.array(values, dtype=float) for name, values in logps.items()}
        self.length = np.ones_like(self.logps["own"]) if length is None else np.array(length, float)

    def scores(self, state, rows, policy):
        return self.logps[state.policies[policy]], self.length


def rows(responses, weight=None):
    array = np.array(responses)
    weight = np.ones(len(array)) if weight is None else np.array(weight, float)
    return Rows(
        prompts=np.arange(len(array)), responses=array, weight=weight, writers=("start",) * array.shape[1]
    )


def test_the_largest_implicit_reward_is_chosen_and_the_smallest_rejected():
    # rewards 1, -1, 0 and 0, 2, -1: neither is the order of the likelihoods
    world = Written(own=[[-3, -2, -1], [-5, -1, -2]], first=[[-4, -1, -1], [-5, -3, -1]])
    pairs = ImplicitRewardLabels().form(world, STATE, rows([[10, 11, 12], [20, 21, 22]]))
    assert pairs.responses.tolist() == [[10, 11], [21, 22]] and pairs.prob.tolist() == [1.0, 1.0]
    world.logps["own"] += np.array([[7.0], [-3.0]])  # c(x)
    again = ImplicitRewardLabels().form(world, STATE, rows([[10, 11, 12], [20, 21, 22]]))
    assert again.responses.tolist() == pairs.responses.tolist()


def test_equal_rewards_and_equal_responses_give_no_pair():
    world = Written(own=[[-3, -2], [-1, -2]], first=[[-4, -3], [-2, -2]])
    assert len(ImplicitRewardLabels().form(world, STATE, rows([[1, 2], [3, 3]]))) == 0


def test_round_one_is_the_recorded_seed():
    data = rows([[1, 2]])
    assert ImplicitRewardLabels().form(None, State.begin("initial"), data) is data


@pytest.mark.parametrize(
    ("first", "second", "tau"),
    [
        ([3, 2, 1], [30, 2, 1], 1),
        ([3, 2, 1], [1, 2, 3], -1),
        ([3, 2, 1], [2, 3, 1], 1 / 3),
        ([2, 1], [1, 2], -1),
    ],
)
def test_kendalls_tau_by_hand(first, second, tau):
    assert kendall(np.array([first]), np.array([second])) == pytest.approx([tau])


def test_the_label_is_the_mean_consistency_of_two_rankings():
    world = Written(
        own=[[-1, -2, -3], [-1, -2, -3]],
        first=[[-5, -5, -5], [-5, -5, -5]],
        older=[[-1, -2, -3], [-2, -1, -3]],
    )
    pairs = ImplicitRewardLabels(consistency="corpus").form(
        world, STATE, rows([[1, 2, 3], [4, 5, 6]], weight=[1, 3])
    )
    # C = 1 and (1/3 + 1)/2 = 2/3, weighted 1 : 3
    assert pairs.prob == pytest.approx([(1 + 3 * 2 / 3) / 4] * 2)
    assert pairs.responses.tolist() == [[1, 3], [4, 6]]


def test_while_the_policy_before_has_no_rewards_its_mean_log_probs_rank():
    # sums rank the second response higher, means the first: with the means both rankings agree
    world = Written(own=[[-3, -4]], first=[[-6, -4]], length=[[6, 2]])
    assert ImplicitRewardLabels(consistency="corpus").form(world, FRESH, rows([[1, 2]])).prob.tolist() == [
        1.0
    ]
    world.length = np.ones((1, 2))
    assert ImplicitRewardLabels(consistency="corpus").form(world, FRESH, rows([[1, 2]])).prob.tolist() == [
        0.0
    ]


def scores(margins, prob=None):
    logp = torch.stack([margins, torch.zeros_like(margins)], dim=1) / 0.1
    label = None if prob is None else torch.full_like(margins, prob)
    return Scores(logp=logp, anchors={"reference": torch.zeros_like(logp)}, prob=label)


MARGINS = torch.linspace(-3, 3, 13, dtype=torch.float64)


def test_spa_is_conservative_dpo_for_the_smallest_margins_of_the_step():
    # of 13 pairs 13 * 0.25 = 3.25 lie below: the threshold is the mean of the fourth and the fifth margin
    found = Spa(share=0.25)(scores(MARGINS))
    clear = (MARGINS[3] + MARGINS[4]) / 2 < MARGINS
    assert int(clear.sum()) == 9
    assert torch.equal(found.value[clear], Dpo(beta=0.1)(scores(MARGINS)).value[clear])
    assert torch.allclose(found.value[~clear], Cdpo(beta=0.1, smoothing=0.1)(scores(MARGINS)).value[~clear])
    assert found.metrics["doubtful"].tolist() == (~clear).double().tolist()


def test_a_pair_recorded_the_other_way_round_is_as_doubtful():
    """Half of the pairs are stored with the loser first: the same losses, by label 0."""
    other = torch.arange(13) % 2 == 0
    turned = torch.where(other, -MARGINS, MARGINS)
    batch = replace(scores(turned), prob=torch.where(other, 0.0, 1.0).double())
    objective = Spa(share=0.25)
    found = reduce.expected(objective, reduce.with_batch_statistic(objective, batch)).value
    assert torch.allclose(found, objective(scores(MARGINS)).value, rtol=1e-12)


def test_extrapolated_logits_find_the_doubtful_pairs():
    """The pair that the extrapolated policy orders the other way is smoothed, whatever its own margin."""
    batch = scores(MARGINS)
    ahead = MARGINS.clone()
    ahead[12] = -9.0
    extrapolated = {"reference": torch.stack([ahead, torch.zeros_like(ahead)], dim=1) / 0.1}
    found = Spa(share=0.05, mix=1.5)(replace(batch, extrapolated=extrapolated))
    assert found.metrics["doubtful"].nonzero().flatten().tolist() == [12]
    plain = Spa(share=0.05, mix=1.5)(
        batch
    )  # a response is one token: the margins themselves are extrapolated
    assert plain.metrics["doubtful"].nonzero().flatten().tolist() == [0]


# 50 random pairs through the released trainer (kingdy2002/SPA, trl/trl/trainer/dpo_trainer.py, loss_type "distill",
# beta 0.1, threshold 0.1): mean loss, sum of |gradient|, gradient of the first chosen log-probs; before and after a
# fifth of the steps
RELEASED = {
    0.0: (
        0.7243454480294518,
        0.09833662799944085,
        [-0.0008088522933732053, -0.0010911857748647548, -0.0014216665622740876],
    ),
    0.1: (
        0.7169420336310973,
        0.09593662799944085,
        [-0.0008088522933732053, -0.0010911857748647548, -0.0012216665622740875],
    ),
}


@pytest.mark.parametrize("smoothing", RELEASED)
def test_spa_gives_the_numbers_of_the_released_trainer(smoothing):
    draws = torch.Generator().manual_seed(7)
    policy, reference, mixed = (
        3 * torch.randn(50, 2, generator=draws, dtype=torch.float64) for _ in range(3)
    )
    policy.requires_grad_()
    batch = Scores(logp=policy, anchors={"reference": reference}, extrapolated={"reference": mixed})
    value = Spa(smoothing=smoothing, mix=1.5)(batch).value.mean()
    value.backward()
    loss, total, first = RELEASED[smoothing]
    assert value.item() == pytest.approx(loss, abs=1e-12)
    assert policy.grad.abs().sum().item() == pytest.approx(total, abs=1e-12)
    assert policy.grad[:3, 0].tolist() == pytest.approx(first, abs=1e-14)


def test_smoothing_begins_after_a_fifth_of_the_steps_and_not_on_the_seed():
    second = SPA.at_round(2).loss
    assert [second.at(done).smoothing for done in (0.0, 0.19, 0.2, 1.0)] == [0.0, 0.0, 0.1, 0.1]
    seed = SPA.at_round(1).loss
    assert seed.base.share == 0 and seed.base.mix == 1 and seed.reads.live == ()
    assert second.base.share == 0.1 and second.base.mix == 1.5 and second.reads.live == ("reference",)
    assert SPA.at_round(3).objective.mix == 1.25


def test_a_share_of_the_labels_is_read_and_the_rest_gives_prompts(make_world):
    world = make_world()
    players = RecordedThenSampled(labelled=0.25)
    seed = players.write(world, world.begin())
    assert [p.ids for p in seed.prompts] == [world.pairs.prompts[k].ids for k in (0, 4)]
    assert "labels of 2 of 8 recorded pairs are read" in players.account(world.pairs)
    with pytest.raises(ValueError, match="labelled must be a share"):
        RecordedThenSampled(labelled=0.0)


def test_extrapolated_log_probs_are_those_of_the_mixed_logits(make_world):
    """A round whose policy has left its reference: beside plain transformers, token by token."""
    world = make_world()
    state = world.begin()
    dpo = replace(get("dpo"), rounds=2)
    state = play_round(dpo, world, state)
    rows = world.recorded(state)
    world.model.hold(state.policies[INITIAL])
    frozen = FrozenReference(world.policy)
    world.model.hold(state.policies[START])
    scoring = LiveScoring(world.policy, Spa(mix=1.5), frozen={"reference": frozen})
    found = scoring.extrapolated([p.ids for p in rows.prompts], list(rows.responses))["reference"]
    for row in (0, 3):
        for k in (0, 1):
            prompt, answer = rows.prompts[row].ids, rows.responses[row, k].ids
            ids = torch.tensor([[*prompt, *answer]])
            with torch.no_grad():
                own = world.policy.model(ids).logits[0].double()
                other = frozen.scorer.model(ids).logits[0].double()
            logps = (1.5 * own - 0.5 * other).log_softmax(dim=1)[len(prompt) - 1 : -1]
            want = logps.gather(1, torch.tensor(answer)[:, None]).sum()
            assert found[row, k].item() == pytest.approx(want.item(), abs=2e-4)


def test_sample_level_consistency_is_each_prompts_own():
    world = Written(
        own=[[-1, -2, -3], [-1, -2, -3]],
        first=[[-5, -5, -5], [-5, -5, -5]],
        older=[[-1, -2, -3], [-2, -1, -3]],
    )
    pairs = ImplicitRewardLabels(consistency="prompt").form(world, STATE, rows([[1, 2, 3], [4, 5, 6]]))
    assert pairs.prob.tolist() == pytest.approx([1, 2 / 3])
    with pytest.raises(ValueError, match="consistency must be one of none, corpus, prompt"):
        ImplicitRewardLabels(consistency="mean")


def test_creams_first_round_ranks_against_the_model_before_fine_tuning():
    """M1 against M0: rewards log M1 - log M0, and M0 ranks by mean log-probs."""
    state = State(round=1, policies={BASE: "first", INITIAL: "own", BEFORE: "own", START: "own"})
    world = Written(own=[[-1, -3, -2]], first=[[-4, -4, -2]], length=[[4, 1, 1]])
    # rewards 3, 1, 0; M0's means -1, -4, -2: one of three pairs is ordered otherwise, tau = 1/3
    pairs = CREAM.pairing.form(world, state, rows([[1, 2, 3]]))
    assert pairs.responses.tolist() == [[1, 3]] and pairs.prob.tolist() == pytest.approx([2 / 3])


def test_a_floor_keeps_labels_from_being_turned_round():
    """Reversed rankings, so that C = 0: by default the pair is learned in reverse, with the floor not at all."""
    world = Written(own=[[-3, -4]], first=[[-6, -4]])
    for floor, label in ((0.0, 0.0), (0.5, 0.5)):
        pairing = ImplicitRewardLabels(consistency="corpus", floor=floor)
        assert pairing.form(world, FRESH, rows([[1, 2]])).prob.tolist() == [label]
    agreed = ImplicitRewardLabels(consistency="prompt", floor=0.5)
    assert agreed.form(
        world, replace(FRESH, policies={**FRESH.policies, BEFORE: "own"}), rows([[1, 2]])
    ).prob == [1]
    policy = torch.tensor([[-3.0, -4.0]], requires_grad=True)
    batch = Scores(logp=policy, anchors={"reference": policy.detach()}, prob=torch.tensor([0.5]))
    reduce.expected(CREAM.objective, batch).value.sum().backward()
    assert policy.grad.abs().sum() == 0  # nothing is learned from C = 1/2 where a round begins
    with pytest.raises(ValueError, match="floor must lie in"):
        ImplicitRewardLabels(consistency="corpus", floor=0.6)


@pytest.mark.slow
def test_cream_begins_with_supervised_fine_tuning(tmp_path):
    align(
        "cream",
        out=tmp_path / "run",
        quiet=True,
        settings={"play.rounds": 1, "play.prompts": 12, "data.pairs": 60, "train.epochs": 1},
    )
    assert (tmp_path / "run" / "phases" / "sft" / "checkpoints" / "round-001").is_dir()
    judged = load_rows(tmp_path / "run" / "rounds" / "001" / "judging.parquet")
    assert len(judged) and len(set(judged.prob.tolist())) == 1 and 0 < judged.prob[0] < 1


@pytest.mark.parametrize("c", [0.0, 0.5, 0.8, 1.0])
def test_creams_loss_is_conservative_dpo_with_what_is_inconsistent(c):
    found = reduce.expected(CREAM.objective, scores(MARGINS, c)).value
    dpo = Dpo(beta=0.1)
    want = c * dpo(scores(MARGINS)).value + (1 - c) * dpo(scores(-MARGINS)).value
    assert torch.allclose(found, want, rtol=1e-12)
    if c >= 0.5:
        assert torch.allclose(found, Cdpo(beta=0.1, smoothing=1 - c)(scores(MARGINS)).value, rtol=1e-12)


def test_on_an_exact_game_the_policy_sharpens_what_the_seed_taught():
    game = zoo.parse("transitive")
    gaps = play_game(game, SPA.with_parameters(SPA.exact), rounds=2)["gap0"]
    seed = play_game(game, get("dpo").with_parameters({"beta": 0.5}), rounds=1)["gap0"]
    assert gaps[1] == pytest.approx(seed[1], rel=1e-6)
    assert gaps[1] < gaps[0] / 5 and gaps[2] <= gaps[1]


def test_a_round_of_own_labels_asks_nobody(monkeypatch):
    game = zoo.parse("brps")
    world, state = TableWorld(game), State.begin(game.initial())
    method = CREAM.with_parameters({"beta": 0.5})
    state = play_round(method, world, state)
    monkeypatch.setattr(TableWorld, "compare", lambda *_: pytest.fail("asked"))
    monkeypatch.setattr(TableWorld, "win_rates", lambda *_: pytest.fail("asked"))
    assert play_round(method, world, state).round == 3


def test_seeded_players_write_from_round_two():
    assert (
        RecordedThenSampled().writing(4).samples == 4
        and "recorded pairs in round 1" in RecordedThenSampled().describe()
    )
