"""What is scored is the answer and the one token that ends it, whatever the template does with the rest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from equipoise.data.collate import laid_out
from equipoise.data.errors import DataError
from equipoise.run.config import resolve
from equipoise.run.materials import Materials, gather

USER = "Which river runs through the town?"
SYSTEM = "Please answer in one short sentence."
FIRST, SECOND = "The river is wide.", "I do not know."


def pair(
    prompt: list[dict[str, Any]], chosen: Any = FIRST, rejected: Any = SECOND, **more: Any
) -> dict[str, Any]:
    def turns(answer: Any) -> list[dict[str, Any]]:
        return answer if isinstance(answer, list) else [{"role": "assistant", "content": answer}]

    return {"prompt": prompt, "chosen": turns(chosen), "rejected": turns(rejected), **more}


def several(make: Callable[[str], dict[str, Any]], count: int = 4) -> list[dict[str, Any]]:
    """Rows with prompts of their own, so that some can be held out."""
    return [make(f" Number {i}?") for i in range(count)]


@pytest.fixture
def prepared(models, write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Materials]:
    monkeypatch.chdir(tmp_path)

    def of(family: str, rows: list[dict[str, Any]], **settings: Any) -> Materials:
        layer = {"model.path": models(family), "data.path": [write(rows)]}
        layer |= {name.replace("__", "."): value for name, value in settings.items()}
        return gather(resolve("dpo", layer), tmp_path)

    return of


def scored(materials: Materials) -> set[str]:
    """The scored tokens of every answer as text, special tokens shown."""
    tokenizer = materials.renderer.codec.tokenizer
    groups = [*materials.pairs.responses, *materials.held_out.responses]
    return {tokenizer.decode(list(r.ids), skip_special_tokens=False) for group in groups for r in group}


def prompts(materials: Materials) -> list[str]:
    tokenizer = materials.renderer.codec.tokenizer
    rows = [*materials.pairs.prompts, *materials.held_out.prompts]
    return [tokenizer.decode(list(p.ids), skip_special_tokens=False) for p in rows]


CLOSING = {
    "llama": "<|eot_id|>",
    "llama_base_end": "<|eot_id|>",
    "llama_always_open": "<|eot_id|>",
    "llama_dated": "<|eot_id|>",
    "qwen": "<|im_end|>",
    "qwen_tools": "<|im_end|>",
    "never_open": "</s>",
    "gemma2": "<end_of_turn>",
    "no_thoughts": "<e>",
}


@pytest.mark.parametrize("family", CLOSING)
def test_an_answer_and_its_closing_token_and_no_more(family: str, prepared):
    rows = several(lambda extra: pair([{"role": "user", "content": USER + extra}]))
    materials = prepared(family, rows)
    end = CLOSING[family]
    assert {text.strip() for text in scored(materials)} == {FIRST + end, SECOND + end}
    assert all(USER in prompt and FIRST not in prompt for prompt in prompts(materials))


@pytest.mark.parametrize("allow", [False, True])
def test_a_template_that_moves_the_context_never_has_it_scored(allow: bool, prepared):
    turns = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "Hello?"}]
    turns += [{"role": "assistant", "content": "Yes."}]
    rows = several(lambda extra: pair([*turns, {"role": "user", "content": USER + extra}]))
    if not allow:
        with pytest.raises(DataError, match="template"):
            prepared("mistral", rows)
        return
    materials = prepared("mistral", rows, data__allow_template_divergence=True)
    assert {text.strip() for text in scored(materials)} == {FIRST + "</s>", SECOND + "</s>"}
    assert all(SYSTEM in p and p.count(USER) == 1 and p.endswith("[/INST]") for p in prompts(materials))


def test_thoughts_that_the_template_drops_are_not_dropped_in_silence(prepared):
    thought = "<think>The town has one river.</think>"
    rows = several(
        lambda extra: pair([{"role": "user", "content": USER + extra}], thought + FIRST, thought + SECOND)
    )
    with pytest.raises(DataError, match="template"):
        prepared("no_thoughts", rows)
    plain = several(lambda extra: pair([{"role": "user", "content": USER + extra}]), 3)
    kept = prepared("no_thoughts", rows + plain).dataset.ledger
    assert (kept.used, sum(kept.refused.values())) == (3, 4)


def test_a_field_of_reasoning_is_scored_or_named(prepared):
    answer = [{"role": "assistant", "content": FIRST, "reasoning_content": "The town has one river."}]
    other = [{"role": "assistant", "content": SECOND, "reasoning_content": "It does not say."}]
    rows = several(lambda extra: pair([{"role": "user", "content": USER + extra}], answer, other))
    with pytest.raises(DataError, match="reasoning"):
        prepared("qwen", rows)


@pytest.mark.parametrize("role", ["User", "USER", "human", "customer", "prompter"])
def test_the_known_names_of_roles_are_read(role: str, prepared):
    rows = several(lambda extra: pair([{"role": role, "content": USER + extra}]))
    assert all(USER in prompt for prompt in prompts(prepared("qwen_strict_roles", rows)))


@pytest.mark.parametrize(("role", "says"), [("tool", "drops"), ("narrator", "unknown role")])
def test_no_turn_vanishes_with_its_role(role: str, says: str, prepared):
    rows = several(lambda extra: pair([{"role": role, "content": USER + extra}]))
    with pytest.raises(DataError, match=says):
        prepared("qwen_strict_roles", rows)


def test_a_system_turn_that_the_template_refuses_is_named_and_can_be_merged(prepared):
    turns = [{"role": "system", "content": SYSTEM}]
    rows = several(lambda extra: pair([*turns, {"role": "user", "content": USER + extra}]))
    with pytest.raises(DataError, match="no system role"):
        prepared("gemma2", rows)
    materials = prepared("gemma2", rows, data__system_turn="merge")
    assert all(SYSTEM in prompt and USER in prompt for prompt in prompts(materials))


def test_a_run_can_switch_thinking_off(prepared):
    rows = several(lambda extra: pair([{"role": "user", "content": USER + extra}]))
    assert all("<think>" not in prompt for prompt in prompts(prepared("qwen_tools", rows)))
    # the template opens an answer with an empty thought, and writes a finished answer without one
    switched = {"data__chat_template_kwargs": {"enable_thinking": False}}
    with pytest.raises(DataError, match="allow_template_divergence"):
        prepared("qwen_tools", rows, **switched)
    off = prepared("qwen_tools", rows, **switched, data__allow_template_divergence=True)
    assert all(prompt.endswith("<think>\n\n</think>\n\n") for prompt in prompts(off))


def test_only_the_assistants_part_of_a_tool_trajectory_is_scored(prepared):
    call = {"function": {"name": "look_up", "arguments": {"place": "town"}}}
    tools = [{"type": "function", "function": {"name": "look_up", "parameters": {}}}]
    trajectory = [
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "four rivers"},
        {"role": "assistant", "content": FIRST},
    ]
    rows = several(
        lambda extra: pair([{"role": "user", "content": USER + extra}], trajectory, SECOND, tools=tools)
    )
    materials = prepared("qwen_tools", rows)
    tokenizer = materials.renderer.codec.tokenizer
    response = materials.pairs.responses[0, 0]
    text = tokenizer.decode(list(response.ids))
    assert "look_up" in text and FIRST in text and "four rivers" not in text
    assert "four rivers" in tokenizer.decode(list(laid_out(response)[0]))


def test_a_cut_prompt_is_counted_and_keeps_its_frame(prepared):
    long = " One two three four five." * 30
    rows = several(
        lambda extra: pair(
            [{"role": "system", "content": SYSTEM}, {"role": "user", "content": USER + long + extra}]
        )
    )
    materials = prepared(
        "llama", rows, data__long_prompt="keep_end", data__max_prompt_length=96, data__max_length=128
    )
    assert materials.dataset.ledger.as_json()["remarks"]["prompt cut"] == 4
    for prompt in prompts(materials):
        assert prompt.startswith("<|begin_of_text|>") and SYSTEM in prompt
        assert prompt.endswith("<|start_header_id|>assistant<|end_header_id|>\n\n") and "Number" in prompt


def test_a_date_in_the_template_is_named(prepared):
    rows = several(lambda extra: pair([{"role": "user", "content": USER + extra}]))
    notes = " ".join(prepared("llama_dated", rows).dataset.notes)
    assert "date" in notes


def test_strings_beside_a_chat_model_are_named_and_can_be_wrapped(prepared):
    rows = [{"prompt": USER + f" {i}?", "chosen": " " + FIRST, "rejected": " " + SECOND} for i in range(4)]
    plain = prepared("qwen", rows)
    assert "4" in " ".join(note for note in plain.dataset.notes if "template" in note)
    wrapped = prepared("qwen", rows, data__wrap="chat")
    assert all("<|im_start|>user\n" in prompt for prompt in prompts(wrapped))
