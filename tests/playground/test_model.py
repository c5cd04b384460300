"""The shipped transformer: its tokenizer, its exact policy, and how winnable the game is from there."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from equipoise.games.closed_form import inpo_step
from equipoise.games.gaps import gap0
from equipoise.playground import LanguageGame, load_model, model_path, reference_policy, response_logprob
from equipoise.playground.reference import POLICY_FILE
from equipoise.playground.train import build_tokenizer, habits

GAME = LanguageGame()


@pytest.fixture(scope="module")
def shipped() -> tuple[Any, Any]:
    return load_model()


@pytest.fixture(scope="module")
def inside(shipped: tuple[Any, Any]) -> torch.Tensor:
    """pi(response, EOS | prompt), [X, A], from the transformer itself."""
    return response_logprob(*shipped, GAME.prompts, GAME.responses).exp()


def test_tokenizer_puts_one_bos_before_a_prompt_and_nothing_round_a_response(
    shipped: tuple[Any, Any],
) -> None:
    _, tokenizer = shipped
    specials = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}
    assert len(specials) == 3 and tokenizer.unk_token_id not in specials
    for prompt in GAME.prompts:
        ids = tokenizer(prompt)["input_ids"]
        assert ids[0] == tokenizer.bos_token_id and not specials & set(ids[1:])
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids, skip_special_tokens=True) == prompt
    for response in GAME.responses:
        ids = tokenizer(response, add_special_tokens=False)["input_ids"]
        assert ids == tokenizer(f"  {response}", add_special_tokens=False)["input_ids"]
        assert len(ids) == len(response.split()) and not specials & set(ids)
        assert tokenizer.decode([*ids, tokenizer.eos_token_id], skip_special_tokens=True) == response


def test_joining_ids_is_joining_text(shipped: tuple[Any, Any]) -> None:
    _, tokenizer = shipped
    prompt, response = GAME.prompts[11], GAME.responses[17]
    joined = tokenizer(f"{prompt} {response}")["input_ids"]
    apart = tokenizer(prompt)["input_ids"] + tokenizer(response, add_special_tokens=False)["input_ids"]
    assert joined == apart


def test_shipped_tokenizer_is_the_one_the_script_builds(shipped: tuple[Any, Any]) -> None:
    assert build_tokenizer().get_vocab() == shipped[1].get_vocab()


def test_model_is_tiny_and_speaks_the_grammar(shipped: tuple[Any, Any], inside: torch.Tensor) -> None:
    assert 100_000 <= shipped[0].num_parameters() <= 400_000
    assert sum(file.stat().st_size for file in model_path().iterdir()) <= 4 * 2**20
    outside = 1 - inside.sum(1)
    assert outside.min() >= 0 and outside.max() < 0.01


def test_enumeration_agrees_with_greedy_generation(shipped: tuple[Any, Any], inside: torch.Tensor) -> None:
    model, tokenizer = shipped
    prompt = tokenizer(GAME.prompts[0], return_tensors="pt")
    prompt.pop("token_type_ids", None)
    out = model.generate(**prompt, do_sample=False, max_new_tokens=10)
    start = prompt["input_ids"].shape[1]
    text = tokenizer.decode(out[0, start:], skip_special_tokens=True)
    assert out[0, -1] == tokenizer.eos_token_id
    assert inside[0, GAME.responses.index(text)] > 0.08  # greedy need not be the mode, but is never unlikely


def test_stored_table_is_the_transformers_policy(inside: torch.Tensor) -> None:
    stored = load_file(model_path() / POLICY_FILE)
    assert torch.allclose(stored["policy"], inside / inside.sum(1, keepdim=True), atol=1e-6, rtol=0)
    assert torch.allclose(stored["outside"], 1 - inside.sum(1), atol=1e-6, rtol=0)
    policy = reference_policy()
    assert policy.dtype == torch.float64
    assert torch.allclose(policy.sum(1), torch.ones(96).double(), atol=1e-12, rtol=0)
    assert policy.min() > 0.003


def test_model_learned_its_habits_on_prompts_it_never_saw() -> None:
    policy, habit = reference_policy()[GAME.held_out], habits()[GAME.held_out]
    assert (policy * (policy / habit).log()).sum(1).max() < 0.005
    blind = policy.mean(0)
    assert (policy * (policy / blind).log()).sum(1).min() > 0.02  # it does read the prompt


def test_reference_is_exploitable_and_inpo_mends_it() -> None:
    game = GAME.as_preference_game(reference_policy())
    policy = game.initial()
    gaps = [game.mean(gap0(game, policy))]
    for _ in range(8):
        policy = inpo_step(game, policy, eta=0.2, tau=0.05)
        gaps.append(game.mean(gap0(game, policy)))
    assert 0.35 < gaps[0] < 0.7
    assert gaps[8] < gaps[0] / 8
    assert gaps == sorted(gaps, reverse=True)


def test_enumeration_refuses_texts_of_unequal_length(shipped: tuple[Any, Any]) -> None:
    with pytest.raises(ValueError, match="responses of equal length"):
        response_logprob(*shipped, GAME.prompts[:1], ["tea.", "hot tea."])
