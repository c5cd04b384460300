"""The large tea house: its grammar, its drawn cycles, its panels, its votes and its exact enumeration."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from equipoise.games import controls, gaps
from equipoise.games.preference import PreferenceGame
from equipoise.games.tabular import TabularPolicy
from equipoise.oracles.checked import Checked
from equipoise.oracles.protocol import OracleError
from equipoise.playground.large import LargeTeaHouse, answer_logps, draws, trie_of_ids
from equipoise.playground.large.grammar import (
    ANSWERS,
    NEW_GUESTS,
    REQUESTS,
    STYLES,
    answer_index,
    article,
    request_index,
)
from equipoise.playground.large.habits import habits
from equipoise.playground.large.panels import PANELS, PER_WORD, RARE, lengths, panel, rare_answers
from equipoise.playground.large.votes import Votes

GAME = LargeTeaHouse("skewed")
BETAS = [float(beta) for beta in np.geomspace(30, 0.01, 25)]


def test_sentences_are_read_back_and_have_their_lengths() -> None:
    assert (len(REQUESTS), len(ANSWERS)) == (128, 972)
    assert [request_index(f" {text}  ") for text in GAME.prompts] == list(range(128))
    assert [answer_index(text.replace(" ", "  ")) for text in GAME.responses] == list(range(972))
    words = lengths()
    assert (words.min(), words.max()) == (4, 30)
    assert answer_index("Gladly, a iced black tea.") is None  # articles agree
    assert answer_index("Because warm days call for shade, a hot black tea.") is None  # and so do reasons
    for text in (*GAME.prompts, *GAME.responses):
        parts = text.lower().split()
        assert all(a == article(b) for a, b in pairwise(parts) if a in ("a", "an"))


def test_splits_are_new_combinations_and_new_words() -> None:
    sizes = {name: len(split) for name, split in GAME.splits.items()}
    assert sizes == {"train": 64, "combinations": 32, "words": 32}
    assert GAME.held_out == sorted(set(range(128)) - set(GAME.train))
    trained = {word for x in GAME.train for word in GAME.prompts[x].split()}
    assert all(set(GAME.prompts[x].split()) <= trained for x in GAME.splits["combinations"])
    assert all(set(GAME.prompts[x].split()) & set(NEW_GUESTS) for x in GAME.splits["words"])
    assert not trained & set(NEW_GUESTS)


def test_habits_are_distributions_with_rare_answers_and_parts_that_depend() -> None:
    table = habits()
    assert torch.allclose(table.sum(1), torch.ones(128, dtype=torch.float64), atol=1e-12)
    assert 1e-6 < table.min() < 1e-5 and (table < 1e-4).double().mean() > 0.1
    opened = torch.tensor([bool(a.opening) for a in ANSWERS]).double()
    reason = torch.tensor([a.reason for a in ANSWERS]).double()
    both, apart = table @ (opened * reason), (table @ opened) * (table @ reason)
    covariance = 0.7 * 0.3 * (0.8 - 0.4) * (0.6 - 0.12)  # of two waiters who open and reason this often
    assert torch.allclose(both - apart, torch.full_like(both, covariance), atol=1e-12)


def test_drawn_cycles_are_nash_and_no_bradley_terry_policy_comes_near() -> None:
    drawn = list(draws.cycles().values())
    weights = np.stack([cycle.nash for cycle in drawn])
    assert weights.min() >= 0.1 and weights.max() <= 0.7 and (weights.max(1) > 0.5).sum() == 8
    assert np.abs(np.stack([cycle.margins @ cycle.nash for cycle in drawn])).max() < 1e-12
    margins, pours = (np.stack([getattr(cycle, name) for cycle in drawn]) for name in ("margins", "pours"))
    assert draws.least_exploitability(margins, pours).min() > draws.LEAST
    even = np.full((1, 3), 1 / 3)
    assert draws.least_exploitability(draws.margins_of(even, np.ones(1)), even).max() < 1e-9  # it can fail


@pytest.mark.parametrize("x", [0, 57, 101])
def test_skewed_keeps_the_best_bradley_terry_policy_exploitable_at_every_temperature(x: int) -> None:
    reference = habits()[[x]]
    game = GAME.as_preference_game([x], reference)
    for share in (reference, torch.full_like(reference, 1 / 972)):
        policies = controls.scalar_policies(game, controls.scalar_reward(game.preference, share), BETAS)
        assert min(float(gaps.gap0(game, policy)[0]) for policy in policies) > 0.2
    assert float(gaps.gap0(game, nash_of(x))[0]) == pytest.approx(0, abs=1e-12)


@pytest.mark.nightly
def test_skewed_keeps_bradley_terry_exploitable_for_every_request() -> None:
    for x in range(128):
        reference = habits()[[x]]
        game = GAME.as_preference_game([x], reference)
        policies = controls.scalar_policies(game, controls.scalar_reward(game.preference, reference), BETAS)
        assert min(float(gaps.gap0(game, policy)[0]) for policy in policies) > 0.2, x


def nash_of(x: int) -> TabularPolicy:
    """The answers of best quality, mixed by the drawn weights of their styles."""
    request, judging = REQUESTS[x], panel("skewed")
    quality = judging.rewards[0, x, :-1]
    probs = torch.zeros(1, 972, dtype=torch.float64)
    for share, style in zip(draws.cycles()[request.weather, request.mood].nash, STYLES, strict=True):
        own = quality.where(torch.tensor([a.style == style for a in ANSWERS]), torch.tensor(-9.0).double())
        probs[0, own.argmax()] = float(share)
    return TabularPolicy.from_probs(probs)


@pytest.mark.parametrize("name", PANELS)
def test_panels_are_games_whose_oracle_is_their_table(name: str) -> None:
    game = LargeTeaHouse(name)  # type: ignore[arg-type]
    table = game.tables([5])[0]
    assert float((table + table.T - 1).abs().max()) < 1e-12 and table.min() >= 0 and table.max() <= 1
    assert table[:-1, -1].min() >= 0.99 - 1e-12
    draw = torch.Generator().manual_seed(0)
    a, b = torch.randint(973, (2, 40), generator=draw)
    texts = [*game.responses, "Coffee!"]
    prob = Checked(game.oracle()).compare(
        [game.prompts[5]] * 40, [texts[i] for i in a], [texts[i] for i in b]
    )
    if name == "noisy":
        assert set((6 * prob).round().tolist()) <= {0, 2, 3, 4, 6}  # of three votes, or of a tie
        assert not torch.allclose(prob, table[a, b], atol=0.1)
    else:
        assert torch.allclose(prob, table[a, b], atol=1e-12)


def test_panels_say_what_they_are_for() -> None:
    host, long = LargeTeaHouse("bradley_terry"), LargeTeaHouse("length")
    words = lengths()
    odds = torch.logit(long.tables([9])[0, :-1, :-1]) - torch.logit(host.tables([9])[0, :-1, :-1])
    assert torch.allclose(odds, PER_WORD * (words[:, None] - words[None, :]), atol=1e-9)
    assert torch.allclose(long.tables([9], gold=True)[0, :-1, :-1], host.tables([9])[0, :-1, :-1])
    assert not host.has_gold and long.has_gold
    rare, at = LargeTeaHouse("rare"), rare_answers()
    assert all(int(rare.reward[x, :-1].argmax()) == at[x] for x in range(128))
    assert all(RARE / 2 < float(habits()[x, at[x]]) < 2 * RARE for x in range(128))
    users = LargeTeaHouse("users")
    shares = torch.tensor([0.6, 0.3, 0.1]).double()
    of = [users.group_of(user) for user in range(10)]
    assert [of.count(g) for g in range(3)] == [6, 3, 1]
    r = users.group_rewards[:, 3, :-1]
    mixed = torch.einsum("g,gab->ab", shares, torch.sigmoid(r[:, :, None] - r[:, None, :]))
    assert torch.allclose(users.tables([3])[0, :-1, :-1], mixed)
    with pytest.raises(OracleError, match="no scalar score"):
        users.oracle().score([users.prompts[0]], [users.responses[0]])
    with pytest.raises(ValueError, match="panel must be one of"):
        LargeTeaHouse("cyclic")  # type: ignore[arg-type]


def test_a_learned_reward_is_over_optimised() -> None:
    game, ref = LargeTeaHouse("gold_proxy"), habits()
    judging = panel("gold_proxy")
    told, gold = [], []
    for beta in (4.0, 2.0, 1.0, 0.5, 0.05):
        policy = torch.softmax(ref.log() + judging.rewards[0, :, :-1] / beta, 1)
        at = range(0, 128, 16)
        told.append(sum(float(policy[x] @ judging.table(x)[:-1, :-1] @ ref[x]) for x in at) / 8)
        gold.append(sum(float(policy[x] @ judging.gold_table(x)[:-1, :-1] @ ref[x]) for x in at) / 8)
    assert told == sorted(told) and game.has_gold
    assert max(gold) > gold[-1] + 0.02 and gold[1] > gold[0]  # rises, then falls


def test_votes_have_the_stated_mean_and_are_the_same_when_asked_again() -> None:
    votes = Votes(count=3, flips=0.2, sway=0.1)
    asked = 6000
    x, a, b = torch.zeros(asked).long(), torch.arange(asked), torch.arange(asked) + asked
    prob = torch.full((asked,), 0.9, dtype=torch.float64)
    found = votes.verdicts(prob, x, a, b)
    mean = 0.9 * (0.8 * 0.9 + 0.2 * 0.1) + 0.1 * 0.5
    assert float(found.mean()) == pytest.approx(mean, abs=4 * (0.25 / (3 * asked)) ** 0.5)
    assert torch.equal(found, votes.verdicts(prob, x, a, b))
    assert torch.allclose(found + votes.verdicts(1 - prob, x, b, a), torch.ones(asked).double())
    assert votes.verdicts(prob[:1], x[:1], a[:1], a[:1]).tolist() == [0.5]
    assert not torch.equal(found, Votes(count=3, flips=0.2, sway=0.1, seed=1).verdicts(prob, x, a, b))
    with pytest.raises(ValueError, match="at least one vote"):
        Votes(count=0)


def test_a_trie_gives_what_each_sequence_gives() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=20, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4
    )
    model = LlamaForCausalLM(config).double().eval()
    draw = np.random.default_rng(0)
    answers = [(*draw.integers(3, 8, int(draw.integers(1, 9))).tolist(), 2) for _ in range(60)]
    answers = list(dict.fromkeys(answers))
    prompts = [[1, 9, 10], [1, 11, 12, 13, 14]]
    found = answer_logps(model, prompts, trie_of_ids(answers, most=7))
    for x, prompt in enumerate(prompts):
        for k, answer in enumerate(answers):
            ids = torch.tensor([[*prompt, *answer]])
            logps = torch.log_softmax(model(ids).logits[0].detach(), dim=-1)
            at = torch.arange(len(prompt) - 1, ids.shape[1] - 1)
            assert float(found[x, k]) == pytest.approx(float(logps[at, ids[0, at + 1]].sum()), abs=1e-9)
    with pytest.raises(ValueError, match="needs a prompt"):
        answer_logps(model, [[]], trie_of_ids(answers))


def test_controls_by_hand() -> None:
    reference = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64)
    reward = torch.tensor([[0.0, 1.0, 3.0]]).double()
    prob = torch.sigmoid(reward[:, :, None] - reward[:, None, :])
    fitted = controls.scalar_reward(prob, reference)
    assert torch.allclose(fitted, reward - reward.mean(), atol=1e-8)  # it is Bradley-Terry
    game = PreferenceGame(prob, reference)
    best = controls.best_of_n(game.initial(), reward, 2).probs()[0]
    assert best.tolist() == pytest.approx([0.25, 0.39, 0.36])  # 0.5^2, 0.8^2 - 0.5^2, 1 - 0.8^2
    tied = controls.best_of_n(game.initial(), torch.zeros(1, 3).double(), 5).probs()[0]
    assert tied.tolist() == pytest.approx([0.5, 0.3, 0.2])
    even = controls.uniform_over(torch.tensor([[True, False, True]])).probs()[0]
    assert even.tolist() == [0.5, 0.0, 0.5]
    with pytest.raises(ValueError, match="at least one sample"):
        controls.best_of_n(game.initial(), reward, 0)
    with pytest.raises(ValueError, match="positive share"):
        controls.scalar_reward(prob, torch.tensor([[1.0, 0.0, 0.0]]).double())
    with pytest.raises(ValueError, match="uniform over"):
        controls.uniform_over(torch.zeros(1, 3, dtype=torch.bool))
