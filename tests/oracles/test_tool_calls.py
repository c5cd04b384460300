"""Tool calls: read from text of every kind, compared exactly and by degrees, and as an oracle of a YAML file."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from equipoise import oracles
from equipoise.oracles.protocol import OracleError
from equipoise.oracles.tools.calls import Call, NoCalls, read_calls
from equipoise.oracles.tools.scoring import BadTools, Signatures, agreement, exact, graded
from equipoise.playground.tools.requests import TOOLS, Request, request, requests

ORDER = Call("order", {"item": "tea", "count": 3})
TIMER = Call("set_timer", {"minutes": 5})
SPELLINGS = [
    '{"name": "order", "arguments": {"item": "tea", "count": 3}}',
    '[{"name": "order", "arguments": {"count": 3, "item": "tea"}}]',
    ' \n{"name": "order", "parameters": {"item": "tea", "count": 3}}\n',
    '{"type": "function", "function": {"name": "order", "arguments": "{\\"item\\": \\"tea\\", \\"count\\": 3}"}}',
    '```json\n{"name": "order", "arguments": {"item": "tea", "count": 3}}\n```',
    'I will.\n<tool_call>\n{"name": "order", "arguments": {"item": "tea", "count": 3}}\n</tool_call> Done.',
    "order(item='tea', count=3)",
    "[order(item='tea', count=3)]",
    "[ order( item= 'tea' , count= 3 ) ]",
    "```python\norder(count=3, item='tea')\n```",
    "<tool_call>order(item='tea', count=3)</tool_call>",
]
HOSTILE = [
    "",
    "   ",
    "I would order three teas.",
    "order('tea', 3)",
    "order(**{'item': 'tea'})",
    "order(item='tea', item='juice')",
    "order(item=open('/etc/passwd'))",
    "order(item=lambda: 1)",
    "order(count=9**9**9)",
    "order(count=1e999)",
    "order(count=-'tea')",
    "(lambda: 1)(x=2)",
    "order(item='tea'); order(item='tea')",
    "import os",
    '{"name": "order", "arguments": {"count": NaN}}',
    '{"name": "order", "arguments": {"count": Infinity}}',
    '{"name": "order", "name": "send", "arguments": {}}',
    '{"name": "order", "arguments": {"count": 3, "count": 4}}',
    '{"name": 7, "arguments": {}}',
    '{"name": "a b", "arguments": {}}',
    '{"name": "order", "arguments": [3]}',
    '{"name": "order", "arguments": {"count": 3}} and so on',
    '{"name": "order", "arguments": {"count": 3}',
    '<tool_call>{"name": "order", "arguments": {}}',
    '</tool_call>{"name": "order", "arguments": {}}<tool_call>',
    "[" * 100_000,
    "[" * 9_000 + "]" * 9_000,
    '{"name": "order", "arguments": {"a": ' + "[" * 60 + "]" * 60 + "}}",
    "order(a=" + "[" * 60 + "]" * 60 + ")",
    "order(a=" + "(" * 900 + "1" + ")" * 900 + ")",
    "[" + ", ".join(["f()"] * 70) + "]",
    "x" * 30_000,
    "order(item='\0')",
    "null",
    "7",
    '"order"',
]


@pytest.mark.parametrize("text", SPELLINGS)
def test_one_call_in_every_spelling(text: str):
    assert read_calls(text) == (ORDER,)


def test_several_calls_and_none():
    both = (ORDER, TIMER)
    order = '{"name": "order", "arguments": {"item": "tea", "count": 3}}'
    timer = '{"name": "set_timer", "arguments": {"minutes": 5}}'
    for text in (
        "[order(item='tea', count=3), set_timer(minutes=5)]",
        f"[{order}, {timer}]",
        f"{order}\n{timer}",
        "<tool_call>order(item='tea', count=3)</tool_call>\n<tool_call>set_timer(minutes=5)</tool_call>",
    ):
        assert read_calls(text) == both
    assert read_calls("[]") == ()
    assert read_calls("now()") == (Call("now", {}),)


def test_values_of_every_plain_kind():
    text = "f(a=[1, -2.5, 'x'], b={'c': None, 'd': True}, e=false, g=null)"
    wanted = {"a": [1, -2.5, "x"], "b": {"c": None, "d": True}, "e": False, "g": None}
    assert read_calls(text) == (Call("f", wanted),)
    assert read_calls(json.dumps({"name": "f", "arguments": wanted})) == (Call("f", wanted),)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_what_is_no_list_of_calls_is_none(text: str):
    with pytest.raises(NoCalls):
        read_calls(text)


@given(st.text(max_size=200) | st.text(alphabet="[](){}=,'\"\\:<>/_calltoo1 \n", max_size=120))
@settings(deadline=None)
def test_any_text_is_calls_or_none(text: str):
    try:
        calls = read_calls(text)
    except NoCalls as error:
        assert str(error)
    else:
        assert all(isinstance(call, Call) for call in calls)


# comparison ---------------------------------------------------------------------------------------


def test_what_makes_calls_right():
    tools = Signatures.of(list(TOOLS))
    assert exact([ORDER, TIMER], [TIMER, ORDER]) and not exact([ORDER, TIMER], [TIMER, ORDER], ordered=True)
    assert exact([Call("order", {"count": 3.0, "item": "tea"})], [ORDER])
    assert not exact([Call("order", {"count": 3, "item": "Tea"})], [ORDER])
    assert not exact([Call("f", {"a": True})], [Call("f", {"a": 1})])
    assert not exact([ORDER], [ORDER, ORDER]) and not exact([], [ORDER]) and exact([], [])
    small = Call("order", {"item": "tea", "count": 3, "size": "small"})
    assert exact([small], [ORDER], tools) and not exact([small], [ORDER])
    large = Call("order", {"item": "tea", "count": 3, "size": "large"})
    assert not exact([large], [ORDER], tools)


def test_agreement_by_hand():
    """One value of two is wrong: name 1, number 1, names 1, values 1/2, and the texts nearly equal."""
    wrong = Call("order", {"item": "tea", "count": 4})
    assert agreement(ORDER, ORDER) == 1
    assert 0.9 * 5 < 5 * agreement(wrong, ORDER) - 0.5 + 1 < 5
    other = Call("zzz", {})
    assert agreement(other, ORDER) < 0.2
    assert graded([ORDER], [ORDER, TIMER]) == pytest.approx(0.5)
    assert graded([], [ORDER]) == 0 and graded([], []) == 1


@given(st.integers(0, 10_000), st.integers(1, 3))
@settings(deadline=None, max_examples=50)
def test_right_calls_score_one_and_the_order_of_parameters_never_matters(seed: int, calls: int):
    draw = random.Random(seed)
    asked = request(draw, calls)
    right = as_calls(asked)
    turned = [Call(c.name, dict(reversed(list(c.arguments.items())))) for c in reversed(right)]
    assert exact(turned, right) and graded(turned, right) == pytest.approx(1)
    name, given = asked.calls[0]
    worse = [Call(name, {**given, next(iter(given)): "?"}), *right[1:]]
    assert not exact(worse, right) and graded(worse, right) < 1
    assert graded(worse[1:], right[1:]) == pytest.approx(1)


def as_calls(asked: Request) -> list[Call]:
    return [Call(name, dict(given)) for name, given in asked.calls]


def test_signatures_that_are_none_are_refused():
    deep: Any = 1
    for _ in range(200):
        deep = [deep]
    for tools in (
        {},
        ["order"],
        [{"name": 7}],
        [{"name": "f", "parameters": [1]}],
        [{"name": "f", "parameters": {"properties": [1]}}],
        [{"name": "f", "parameters": {"properties": {"x": {"default": deep}}}}],
    ):
        with pytest.raises(BadTools):
            Signatures.of(tools)


def test_requests_of_the_small_world_have_one_answer_each_that_reads_as_their_calls():
    made = requests(300, seed=1)
    assert len({r.text for r in made}) == 300
    names = {tool["name"]: tool["parameters"] for tool in TOOLS}
    for r in made:
        assert read_calls(r.answer) == tuple(as_calls(r))
        for name, values in r.calls:
            assert set(names[name]["required"]) <= set(values) <= set(names[name]["properties"])
    assert {len(r.calls) for r in made} == {1, 2, 3}
    assert min(r.difficulty for r in made) == 1 and max(r.difficulty for r in made) >= 8


# the oracle ---------------------------------------------------------------------------------------


def made(folder: Path, rows: list[dict[str, Any]], **more: Any) -> str:
    (folder / "calls.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "tools.json").write_text(json.dumps(TOOLS))
    file = folder / "oracle.yaml"
    file.write_text(json.dumps({"kind": "tool_calls", "calls": "calls.jsonl", **more}))
    return str(file)


ROW = {"prompt": "Three teas.", "calls": "order(item='tea', count=3)"}


def test_the_oracle_scores_a_response(tmp_path: Path):
    """A conversation finds its own row, or the row of its last user turn."""
    chat = [{"role": "user", "content": "Five minutes."}]
    rows = [ROW, {"prompt": chat, "calls": [{"name": "set_timer", "arguments": {"minutes": 5}}]}]
    asked = [
        *["Three teas."] * 4,
        chat,
        [{"role": "system", "content": "Be quick."}, {"role": "user", "content": "Three teas."}],
    ]
    responses = [
        '{"name": "order", "arguments": {"count": 3, "item": "tea", "size": "small"}}',
        "order(item='tea', count=4)",
        "[order(item='tea', count=3), now()]",
        "Here you are!",
        "set_timer(minutes=5)",
        "order(item='tea', count=3)",
    ]
    oracle = oracles.load(made(tmp_path, rows, tools="tools.json"))
    assert oracle.score(asked, responses).tolist() == [1, 0, 0, 0, 1, 1]
    by_degrees = oracles.load(made(tmp_path, rows, score="graded")).score(asked, responses).tolist()
    assert by_degrees[3] == 0 and 0.5 < by_degrees[1] < 1 and by_degrees[2] == pytest.approx(0.5)


@pytest.mark.parametrize(
    "rows, said",
    [
        ([{"prompt": "a"}], "calls.jsonl:1.*no column 'calls'"),
        ([{"calls": "f()"}], "calls.jsonl:1.*no column 'prompt'"),
        ([{"prompt": 7, "calls": "f()"}], "calls.jsonl:1.*neither text nor messages"),
        ([ROW, {"prompt": "b", "calls": "f(1)"}], "calls.jsonl:2.*cannot be read: a call has a name"),
        ([ROW, {**ROW, "calls": "f()"}], "calls.jsonl:2.*same prompt and other calls"),
        ([{**ROW, "tools": "no"}], "calls.jsonl:1.*perhaps as JSON"),
        ([{**ROW, "tools": "[" * 100_000}], "calls.jsonl:1.*perhaps as JSON"),
        ([{**ROW, "calls": [{"name": "f", "arguments": "[" * 100_000}]}], "calls.jsonl:1.*nested too deeply"),
    ],
)
def test_rows_that_cannot_be_used_are_named(rows: list[dict[str, Any]], said: str, tmp_path: Path):
    with pytest.raises(OracleError, match=said):
        oracles.load(made(tmp_path, rows))


def test_tools_and_prompts_that_are_missing_are_named(tmp_path: Path):
    with pytest.raises(OracleError, match=r"the tools .*nowhere\.json cannot be read"):
        oracles.load(made(tmp_path, [ROW], tools="nowhere.json"))
    with pytest.raises(OracleError, match=r"has no calls for the prompt 'Four teas\.'"):
        oracles.load(made(tmp_path, [ROW])).score(["Four teas."], ["f()"])
