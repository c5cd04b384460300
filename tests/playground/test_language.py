"""The grammar, the panel and the oracle: everything the game claims, checked on every prompt."""

from __future__ import annotations

import subprocess
import sys
from itertools import product

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from equipoise.oracles.checked import Checked
from equipoise.oracles.protocol import Oracle, OracleError
from equipoise.playground import LanguageGame, panel, reference_policy
from equipoise.playground.grammar import (
    ANSWERS,
    GUESTS,
    MOODS,
    REQUESTS,
    STYLES,
    WEATHERS,
    answer_index,
    canonical,
    request_index,
    vocabulary,
)

GAME = LanguageGame()
HOST_ONLY = LanguageGame("transitive")
OUTSIDE = "Gladly, a tea."


def nash(table: np.ndarray) -> tuple[np.ndarray, float]:
    """Maximin strategy and value of a symmetric game, by linear programming."""
    n = len(table)
    solved = linprog(
        np.r_[np.zeros(n), -1],
        A_ub=np.c_[-table.T, np.ones(n)],
        b_ub=np.zeros(n),
        A_eq=[[1.0] * n + [0.0]],
        b_eq=[1.0],
        bounds=[(0, 1)] * (n + 1),
    )
    assert solved.success
    return solved.x[:n], solved.x[n]


def fitting(x: int) -> list[int]:
    """The three answers that fit request x in everything but style, by style."""
    request = REQUESTS[x]
    return [
        index
        for style in STYLES
        for index, y in enumerate(ANSWERS)
        if (y.courtesy, y.size, y.temperature, y.style)
        == ("Gladly,", GUESTS[request.guest], WEATHERS[request.weather], style)
    ]


def test_every_sentence_is_read_back_and_short() -> None:
    assert [request_index(f"  {text} ") for text in GAME.prompts] == list(range(96))
    assert [answer_index(text.replace(" ", "  ")) for text in GAME.responses] == list(range(24))
    assert max(len(text.split()) for text in GAME.prompts) <= 12
    assert max(len(text.split()) for text in GAME.responses) <= 8
    assert all(canonical(text) == text for text in (*GAME.prompts, *GAME.responses))
    assert answer_index(OUTSIDE) is None and answer_index(GAME.prompts[0]) is None


def test_held_out_prompts_are_new_combinations_of_known_words() -> None:
    train = [GAME.prompts[x].split() for x in GAME.train]
    assert (len(GAME.train), len(GAME.held_out)) == (64, 32)
    assert sorted(GAME.train + GAME.held_out) == list(range(96))
    pairs = {pair for words in train for pair in product(words, words)}
    held_out = {pair for x in GAME.held_out for pair in product(GAME.prompts[x].split(), repeat=2)}
    assert held_out <= pairs
    assert set(vocabulary()) == {w for text in (*GAME.prompts, *GAME.responses) for w in text.split()}


@pytest.mark.parametrize("game", [GAME, HOST_ONLY])
def test_preference_is_a_skew_symmetric_table(game: LanguageGame) -> None:
    p = game.preference
    assert p.shape == (96, 24, 24) and p.dtype == torch.float64
    assert torch.allclose(p + p.mT, torch.ones_like(p), atol=1e-14, rtol=0)
    assert p.min() > 0 and p.max() < 1


def test_three_judges_vote_by_the_closed_form() -> None:
    p = torch.rand(3, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    a, b, c = p
    assert torch.allclose(panel.majority(p), a * b + a * c + b * c - 2 * a * b * c, atol=1e-15, rtol=0)
    assert torch.equal(panel.majority(p[:1]), a)
    five = torch.full((5,), 0.7, dtype=torch.float64)
    assert panel.majority(five[:, None]).item() == pytest.approx(0.83692, abs=1e-12)
    with pytest.raises(ValueError, match="odd number"):
        panel.majority(p[:2])


def test_the_style_majority_is_cyclic_and_the_evening_reverses_it() -> None:
    for x, request in enumerate(REQUESTS):
        black, green, mint = fitting(x)
        circle = [(black, green), (green, mint), (mint, black)]
        for a, b in circle if request.time == "morning" else [pair[::-1] for pair in circle]:
            assert GAME.preference[x, a, b] > 0.59


def test_nash_mixes_the_three_fitting_answers_and_follows_mood_and_time() -> None:
    seen = {}
    for x, request in enumerate(REQUESTS):
        p = GAME.preference[x].numpy()
        strategy, value = nash(p)
        support = fitting(x)
        black, green, mint = support
        margins = np.abs(np.array([p[green, mint], p[mint, black], p[black, green]]) - 0.5)
        assert value == pytest.approx(0.5, abs=1e-9)
        assert strategy[support] == pytest.approx(margins / margins.sum(), abs=1e-7)
        others = np.delete(p @ strategy, support)
        assert others.max() < 0.49  # strict: the support cannot grow, so the equilibrium is unique
        seen.setdefault((request.mood, request.time), []).append(strategy[support])
    assert len(seen) == 6 and all(np.ptp(rows, axis=0).max() < 0.05 for rows in seen.values())
    centres = [np.mean(rows, axis=0) for rows in seen.values()]
    assert min(np.abs(a - b).max() for i, a in enumerate(centres) for b in centres[:i]) > 0.02


def test_a_policy_that_does_not_read_the_prompt_is_exploited() -> None:
    blind, _ = nash(GAME.preference.mean(0).numpy())
    win = GAME.preference @ torch.from_numpy(blind)
    assert (2 * win.max(1).values - 1).mean() > 0.3


def test_transitive_variant_is_exactly_bradley_terry() -> None:
    logit = torch.logit(HOST_ONLY.preference)
    chained = logit[:, :, :1] + logit[:, :1, :]  # logit P(a > 0) + logit P(0 > b)
    assert torch.allclose(logit, chained, atol=1e-12, rtol=0)
    reward = HOST_ONLY.oracle().score([HOST_ONLY.prompts[5]] * 24, HOST_ONLY.responses)
    assert torch.allclose(reward[:, None] - reward[None, :], logit[5], atol=1e-12, rtol=0)
    cycle = torch.logit(GAME.preference)
    assert (cycle - (cycle[:, :, :1] + cycle[:, :1, :])).abs().max() > 1
    for x, request in enumerate(REQUESTS):
        best = ANSWERS[int(HOST_ONLY.reward[x].argmax())]
        assert best.temperature == WEATHERS[request.weather] and best.size == GUESTS[request.guest]


@pytest.mark.parametrize("game", [GAME, HOST_ONLY])
def test_oracle_is_the_table_on_every_pair(game: LanguageGame) -> None:
    oracle = Checked(game.oracle())
    assert isinstance(oracle, Oracle)
    x, a, b = zip(*product(range(96), range(24), range(24)), strict=True)
    asked = oracle.compare(
        [game.prompts[i] for i in x], [game.responses[i] for i in a], [game.responses[i] for i in b]
    )
    assert asked.dtype == torch.float64
    assert torch.equal(asked.reshape(96, 24, 24), game.preference)


def test_texts_outside_the_grammar_lose_and_tie() -> None:
    prompt = GAME.prompts[7]
    inside, outside = list(GAME.responses), [OUTSIDE] * 24
    for game in (GAME, HOST_ONLY):
        oracle = game.oracle()
        win = oracle.compare([prompt] * 24, inside, outside)
        assert win.min() >= 0.99 - 1e-12
        assert torch.allclose(oracle.compare([prompt] * 24, outside, inside), 1 - win, atol=1e-14)
        assert oracle.compare([prompt], [OUTSIDE], ["tea. tea."]).item() == 0.5
    assert GAME.oracle().compare([prompt] * 24, inside, outside).tolist() == [0.99] * 24
    score = HOST_ONLY.oracle().score([prompt] * 2, [HOST_ONLY.responses[3], OUTSIDE])
    asked = HOST_ONLY.oracle().compare([prompt], [HOST_ONLY.responses[3]], [OUTSIDE])
    assert torch.sigmoid(score[0] - score[1]).item() == pytest.approx(asked.item(), abs=1e-15)


def test_oracle_reads_chats_and_ignores_whitespace() -> None:
    oracle = GAME.oracle()
    plain = oracle.compare([GAME.prompts[2]], [GAME.responses[0]], [GAME.responses[9]])
    chat = [{"role": "user", "content": GAME.prompts[2] + "\n"}]
    assert torch.equal(oracle.compare([chat], [" " + GAME.responses[0]], [GAME.responses[9] + " "]), plain)
    assert oracle.compare([], [], []).shape == (0,)


def test_what_the_oracle_refuses() -> None:
    oracle = GAME.oracle()
    with pytest.raises(OracleError, match="no scalar score"):
        oracle.score([GAME.prompts[0]], [GAME.responses[0]])
    with pytest.raises(OracleError, match="'Coffee!' is not a request"):
        oracle.compare(["Coffee!"], [OUTSIDE], [OUTSIDE])
    with pytest.raises(OracleError, match="1 prompts, 2 and 1 responses"):
        oracle.compare([GAME.prompts[0]], [OUTSIDE] * 2, [OUTSIDE])
    with pytest.raises(ValueError, match="variant must be one of"):
        LanguageGame("cyclic")  # type: ignore[arg-type]


def test_description_and_exact_game_agree_with_the_game() -> None:
    for game in (GAME, HOST_ONLY):
        assert "96 requests (64 to train on, 32 held out) and 24 answers" in game.describe()
    exact = GAME.as_preference_game(reference_policy())
    assert torch.equal(exact.preference, GAME.preference)
    assert exact.names[0] == GAME.responses and exact.prompt_names == GAME.prompts
    assert set(MOODS.values()) == set(STYLES)


def test_importing_the_playground_does_not_import_transformers() -> None:
    code = "import sys, equipoise.playground; sys.exit('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
