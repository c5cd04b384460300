"""Tokens that are read between scored ones, such as a tool's result: never scored, always seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from equipoise.data.collate import Prompt, Response, collate, cut, gathered, laid_out, row_length
from equipoise.data.pack import pack, packed_length
from equipoise.data.records import Conversation, template_kwargs_of, tools_of
from equipoise.play.rows import Rows, objects
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.scoring.anchor_store import AnchorStore
from equipoise.worlds.text.features import mean_hidden
from equipoise.worlds.text.folder.row_files import load_rows, save_rows

PROMPT = (1, 5, 6)
# 7 8 9 are scored, 20 21 read, 10 scored, 22 read, 11 2 scored
SEVERAL = Response((7, 8, 9, 10, 11, 2), "", between=((3, (20, 21)), (4, (22,))))
PLAIN = Response((12, 13, 2), "")


def test_the_tokens_stand_in_their_order_with_their_flags() -> None:
    ids, scored = laid_out(SEVERAL)
    assert ids == (7, 8, 9, 20, 21, 10, 22, 11, 2)
    assert [i for i, counts in zip(ids, scored, strict=True) if not counts] == [20, 21, 22]
    batch = collate([PROMPT], [[SEVERAL, PLAIN]], 0)
    assert batch.ids[0].tolist() == [*PROMPT, *ids]
    assert batch.scored[0].tolist() == [False] * 3 + list(scored)
    assert batch.scored[1].tolist() == [False] * 3 + [True] * 3 + [False] * 6
    assert row_length(PROMPT, SEVERAL) == 12
    assert len(pack([PROMPT], [[SEVERAL, PLAIN]]).ids) == packed_length(PROMPT, [SEVERAL, PLAIN]) == 13


@given(st.lists(st.tuples(st.integers(3, 40), st.booleans()), min_size=1, max_size=12), st.integers(0, 14))
def test_laying_out_is_undone_by_gathering_and_a_cut_ends_with_a_scored_token(
    tokens: list[tuple[int, bool]], room: int
) -> None:
    ids, flags = tuple(i for i, _ in tokens), (*(flag for _, flag in tokens[:-1]), True)
    response = gathered(ids, flags)
    assert laid_out(response) == (ids, flags)
    short, scored = laid_out(cut(response, room))
    assert len(short) <= room and short == ids[: len(short)]
    assert not scored or scored[-1]
    assert sum(scored) == sum(flags[:room])  # nothing scored is lost but what lies behind


@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2"])
def test_packed_padded_and_a_plain_forward_agree(family: str, tiny: Callable[..., CausalPolicy]) -> None:
    policy = tiny(family)
    ids, scored = laid_out(SEVERAL)
    row = torch.tensor([[*PROMPT, *ids]])
    with torch.no_grad():
        logp = policy.model(input_ids=row).logits.double().log_softmax(-1)
        each = logp[0, torch.arange(2, 11), row[0, 3:]]
        truth = each[torch.tensor(scored)]
        for batch in (
            pack([PROMPT], [[SEVERAL, PLAIN]]),
            collate([PROMPT], [[SEVERAL, PLAIN]], 0),
            collate([PROMPT], [[SEVERAL]], 0),
        ):
            sums, lengths = policy.logprobs(batch)
            assert_close(sums[0, 0], truth.sum(), atol=2e-5, rtol=2e-6)
            assert int(lengths[0, 0]) == 6
            tokens, _ = policy.token_logprobs(batch)
            assert_close(tokens[0, 0, :6], truth, atol=2e-5, rtol=2e-6)


def test_features_are_the_states_of_the_scored_tokens_themselves(tiny: Callable[..., CausalPolicy]) -> None:
    policy = tiny("llama")
    ids, scored = laid_out(SEVERAL)
    with torch.no_grad():
        states = policy.model.model(input_ids=torch.tensor([[*PROMPT, *ids]])).last_hidden_state[0, 3:]
    found = mean_hidden(policy, [(PROMPT, [SEVERAL])], None)
    assert_close(found[0, 0], states[torch.tensor(scored)].mean(dim=0), atol=2e-5, rtol=2e-5)


def test_a_stored_anchor_depends_on_what_is_read_and_where(tmp_path: Path) -> None:
    store = AnchorStore(tmp_path)
    others = [
        (SEVERAL, PLAIN),
        (replace(SEVERAL, between=()), PLAIN),
        (replace(SEVERAL, between=((3, (20, 21)),)), PLAIN),
        (replace(SEVERAL, between=((2, (20, 21)), (4, (22,)))), PLAIN),
        (replace(SEVERAL, between=()), replace(PLAIN, between=((1, (20,)),))),
        (replace(SEVERAL, between=((1, (20,)),)), PLAIN),
    ]
    assert len({store.key("policy", [(PROMPT, pair)]) for pair in others}) == len(others)


def rows_of(responses: list[Response], *contexts: object) -> Rows:
    return Rows(
        prompts=objects([Prompt((1, k), context, "t") for k, context in enumerate(contexts)]),
        responses=objects([[response] for response in responses], width=1),
        weight=np.ones(len(responses)),
        writers=("recorded",),
    )


def test_rows_keep_what_is_read_and_what_belongs_to_a_prompt(tmp_path: Path) -> None:
    turn = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f"}}]}
    tools, settings = ({"function": {"name": "f"}},), {"enable_thinking": False}
    contexts = Conversation([turn], tools, settings), [turn], "text"
    save_rows(tmp_path / "rows.parquet", rows_of([SEVERAL, PLAIN, PLAIN], *contexts))
    back = load_rows(tmp_path / "rows.parquet")
    assert back.responses[:, 0].tolist() == [SEVERAL, PLAIN, PLAIN]
    found = [prompt.context for prompt in back.prompts]
    assert [list(context) for context in found[:2]] == [[turn], [turn]] and found[2] == "text"
    assert [tools_of(context) for context in found] == [tools, (), ()]
    assert [template_kwargs_of(context) for context in found] == [settings, {}, {}]


def test_rows_without_any_of_it_have_the_columns_that_they_always_had(tmp_path: Path) -> None:
    save_rows(tmp_path / "rows.parquet", rows_of([PLAIN], "text"))
    schema = pq.read_schema(tmp_path / "rows.parquet")
    assert schema.names == ["prompt_ids", "prompt", "context", "weight", "prob", "reward", "responses"]
    fields = schema.field("responses").type.value_type
    assert [fields.field(k).name for k in range(fields.num_fields)] == [
        "ids",
        "text",
        "finished",
        "logp",
        "lead",
    ]
