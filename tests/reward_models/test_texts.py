"""Texts of a reward model: the seam between prompt and response, and each response of a call tokenised once."""

import pytest

from equipoise.oracles.models.reward import oracle_of
from equipoise.playground import LanguageGame, model_path
from equipoise.reward_models.folder import load, save
from equipoise.reward_models.head import Head
from equipoise.reward_models.start import begin

GAME = LanguageGame()
PROMPT, ANSWER = "On a sunny morning a tired farmer asks for tea.", "Gladly, a large iced mint tea."


@pytest.fixture(scope="module")
def beginning():
    return begin(str(model_path()), Head(kind="gpm", dimension=4), seed=0)


def test_a_tokenizer_of_words_knows_the_first_word_of_a_response(beginning):
    texts = beginning.texts
    ids = texts.answer(PROMPT, ANSWER)
    assert texts.tokenizer.convert_ids_to_tokens(ids) == ["<s>", *PROMPT.split(), *ANSWER.split()]


def test_unknown_words_away_from_the_seam_change_nothing(beginning):
    texts = beginning.texts
    known, whole = texts.tokenizer, "A prompt with words nobody knows: and so"
    assert texts.answer("A prompt with words nobody knows:", " and so") == known(whole).input_ids
    assert (
        texts.answer("On a sunny morn", "ing a tired farmer")
        == known("On a sunny morning a tired farmer").input_ids
    )


@pytest.mark.parametrize("chat", [False, True])
def test_each_response_of_a_call_is_tokenised_once(beginning, tmp_path, monkeypatch, chat):
    save(beginning.model, beginning.texts, tmp_path / "gpm")
    oracle = oracle_of(load(tmp_path / "gpm"))
    texts, asked = oracle.reading.loaded.texts, []
    read = texts.answer
    monkeypatch.setattr(
        texts, "answer", lambda prompt, response: asked.append(response) or read(prompt, response)
    )
    prompts = [[{"role": "user", "content": p}] if chat else p for p in GAME.prompts[:2]]
    rows = [(p, a, b) for p in prompts for a in GAME.responses[:3] for b in GAME.responses[:3]]
    together = oracle.compare(*map(list, zip(*rows, strict=True)))
    assert len(asked) == 2 * 3
    alone = [float(oracle.compare([p], [a], [b])) for p, a, b in rows]
    assert together.tolist() == pytest.approx(alone, abs=1e-6)
