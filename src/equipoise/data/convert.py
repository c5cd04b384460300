"""Conversion of preference data: records of any format as rows of another project's layout, with an account of losses.

jsonl          rows that `data.read` reads as the same records; every kind
trl            TRL's columns: pairs, unpaired feedback, demonstrations, prompts
openai         OpenAI's preference JSON lines: pairs of chat turns
llama-factory  ShareGPT columns: pairs and unpaired feedback of chat turns; Alpaca columns: demonstrations
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from equipoise.data.errors import DataError, Refusal
from equipoise.data.reading.read import Dataset
from equipoise.data.records import Candidate, Context, Kind, Message, Record, digest, plain

Target: TypeAlias = Literal["jsonl", "trl", "openai", "llama-factory"]
Row: TypeAlias = dict[str, Any]

FROM = {
    "user": "human",
    "assistant": "gpt",
    "tool": "observation",
    "system": "system",
}  # ShareGPT's names of roles


@dataclass
class Account:
    """What became of the records: rows written, rows left out by reason, and what of written rows was lost."""

    written: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)

    def sentences(self) -> list[str]:
        """The account in words, one sentence each."""
        said = [f"{self.written:,} rows written"]
        said += [f"{count:,} rows left out: {reason}" for reason, count in self.left_out.most_common()]
        return said + [f"not written, {count:,} rows: {what}" for what, count in self.lost.most_common()]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A target: the kinds it can hold, whether it holds chat turns only, and how a record becomes its row.

    row     raises Refusal for a record that the layout cannot hold
    holds   fields of a record that it can hold besides context and answers
    """

    kinds: frozenset[Kind]
    chat_only: bool
    holds: frozenset[str]
    row: Callable[[Record], Row]


def convert(dataset: Dataset, target: Target, account: Account) -> Iterator[Row]:
    """The records as rows of the target; the account is complete when the last row is taken.

    Raises DataError if the target cannot hold this kind of data at all.
    """
    layout = LAYOUTS[target]
    if dataset.kind not in layout.kinds:
        able = ", ".join(name for name, other in LAYOUTS.items() if dataset.kind in other.kinds)
        hint = " (or --pairs, which makes pairs of lists)" if dataset.kind in ("rank", "scores") else ""
        raise DataError(f"{target} has no rows of kind {dataset.kind}", hint=f"convert to {able}{hint}")
    if layout.chat_only and dataset.space == "text":
        raise DataError(
            f"{target} holds chat turns, and these rows are plain strings",
            hint="wrap the strings as turns when they are read, or convert to jsonl or trl",
        )
    return _rows(dataset.records, layout, account)


def _rows(records: Iterable[Record], layout: Layout, account: Account) -> Iterator[Row]:
    seen: set[str] = set()
    for record in records:
        try:
            row = layout.row(record)
        except Refusal as refusal:
            account.left_out[refusal.reason] += 1
            continue
        content = digest({name: value for name, value in row.items() if name != "id"})
        if content in seen:  # they differed in what this layout cannot hold
            account.left_out["equal to an earlier row in this layout"] += 1
            continue
        seen.add(content)
        account.written += 1
        account.lost.update(_lost(record, layout.holds))
        yield row


def _lost(record: Record, holds: frozenset[str]) -> list[str]:
    """What a written record has and the layout cannot hold."""
    has = {
        "prob": record.kind == "pair" and 0 < record.prob < 1,
        "weight": record.weight != 1.0,
        "margin": record.margin is not None,
        "rationale": bool(record.rationale),
        "tools": bool(record.tools),
        "chat_template_kwargs": bool(record.template_kwargs),
        "user": bool(record.user),
        "attributes": bool(record.attributes) or any(c.attributes for c in record.candidates),
        "ids of tool calls": any("id" in call for call in _calls(record)),
        "other columns": bool(record.extra),
    }
    return [name for name, there in has.items() if there and name not in holds]


def _calls(record: Record) -> Iterator[Mapping[str, Any]]:
    for content in (record.context, *(candidate.content for candidate in record.candidates)):
        for turn in () if isinstance(content, str) else content:
            yield from (call for call in turn.extra.get("tool_calls", ()) if isinstance(call, Mapping))


def jsonl(record: Record) -> Row:
    """The record as a row that is read as the same record; ranks stay ranks."""
    if record.kind != "rank" or isinstance(record.context, str):
        return record.as_row()
    items = [{"completion": plain(c.content), "rank": _whole(-(c.score or 0.0))} for c in record.candidates]
    row = {
        name: value
        for name, value in record.as_row().items()
        if name not in ("prompt", "responses", "rewards")
    }
    return row | {"context": plain(record.context), "completions": items}


def trl(record: Record) -> Row:
    """TRL's columns. A pair's likelier answer is the chosen one, for there are no soft labels; ties are left out."""
    row: Row = {"prompt": plain(record.context)}
    if record.kind == "pair":
        chosen, rejected = preferred_first(record)
        row |= {"chosen": plain(chosen.content), "rejected": plain(rejected.content)}
    elif record.kind in ("unpaired", "demonstration"):
        row |= {"completion": plain(record.candidates[0].content)}
    row |= {"label": record.desirable} if record.kind == "unpaired" else {}
    row |= {} if record.margin is None else {"margin": record.margin}
    row |= {"tools": list(record.tools)} if record.tools else {}
    row |= {"chat_template_kwargs": dict(record.template_kwargs)} if record.template_kwargs else {}
    return row | {"id": record.id}


def openai(record: Record) -> Row:
    """OpenAI's preference layout: `input`, `preferred_output`, `non_preferred_output`; arguments are JSON strings."""
    chosen, rejected = preferred_first(record)
    asked: Row = {"messages": [_openai_turn(turn) for turn in _turns(record.context)]}
    asked |= {"tools": list(record.tools)} if record.tools else {}
    return {
        "input": asked,
        "preferred_output": [_openai_turn(turn) for turn in _turns(chosen.content)],
        "non_preferred_output": [_openai_turn(turn) for turn in _turns(rejected.content)],
    }


def llama_factory(record: Record) -> Row:
    """LLaMA-Factory's ShareGPT layout, of demonstrations Alpaca's; `dataset_info` says how to register the file."""
    if record.kind == "demonstration":
        return _alpaca(record) | {"id": record.id}
    context = [_sharegpt_turn(turn) for turn in _turns(record.context)]
    row: Row
    if record.kind == "pair":
        chosen, rejected = preferred_first(record)
        row = {"conversations": context, "chosen": _only_turn(chosen), "rejected": _only_turn(rejected)}
    else:
        row = {"conversations": [*context, _only_turn(record.candidates[0])]}
    row |= {"kto_tag": record.desirable} if record.kind == "unpaired" else {}
    row |= {"tools": json.dumps(list(record.tools), ensure_ascii=False)} if record.tools else {}
    return row | {"id": record.id}


def _alpaca(record: Record) -> Row:
    turns = _turns(record.context)
    system = turns[0].content if turns[0].role == "system" else ""
    rest = turns[1:] if system else turns
    answer = record.candidates[0].messages
    roles = [turn.role for turn in (*rest, *answer)]
    alternate = roles == ["user", "assistant"] * (len(roles) // 2)
    if record.tools or not alternate or any(turn.extra or not turn.content for turn in (*turns, *answer)):
        raise Refusal("a conversation that Alpaca's columns do not hold")
    texts = [turn.content for turn in rest]
    row: Row = {"instruction": texts[-1], "output": answer[0].content}
    row |= {"system": system} if system else {}
    history = [texts[place : place + 2] for place in range(0, len(texts) - 1, 2)]
    return row | ({"history": history} if history else {})


def dataset_info(kind: Kind, file: str) -> dict[str, Any]:
    """The entry of LLaMA-Factory's `dataset_info.json` for a converted file."""
    if kind == "demonstration":
        columns = {"prompt": "instruction", "response": "output", "system": "system", "history": "history"}
        return {"file_name": file, "formatting": "alpaca", "columns": columns}
    columns = {"messages": "conversations", "tools": "tools"}
    columns |= {"chosen": "chosen", "rejected": "rejected"} if kind == "pair" else {}
    columns |= {"kto_tag": "kto_tag"} if kind == "unpaired" else {}
    return {"file_name": file, "formatting": "sharegpt", "ranking": kind == "pair", "columns": columns}


def preferred_first(record: Record) -> tuple[Candidate, Candidate]:
    """A pair's answers, the likelier one first. Refuses a tie, which has none."""
    first, second = record.candidates
    if record.prob == 0.5:
        raise Refusal("a tie has no chosen answer")
    return (first, second) if record.prob > 0.5 else (second, first)


def _turns(content: Context) -> tuple[Message, ...]:
    if isinstance(content, str):
        raise Refusal("plain strings have no turns")
    return content


def _openai_turn(turn: Message) -> Row:
    row = turn.as_dict()
    if "tool_calls" in row:
        row["tool_calls"] = [_with_text_arguments(call) for call in row["tool_calls"]]
    return row


def _with_text_arguments(call: Any) -> Any:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or isinstance(function.get("arguments"), str | None):
        return call
    arguments = json.dumps(function["arguments"], ensure_ascii=False)
    return {**call, "function": {**function, "arguments": arguments}}


def _sharegpt_turn(turn: Message) -> Row:
    if turn.role not in FROM:
        raise Refusal("a role that LLaMA-Factory does not know", turn.role)
    calls = turn.extra.get("tool_calls")
    others = sorted(turn.extra.keys() - {"tool_calls"})
    if others:
        raise Refusal("a turn has fields that LLaMA-Factory does not hold", ", ".join(others))
    if not calls:
        return {"from": FROM[turn.role], "value": turn.content}
    if turn.content.strip():
        raise Refusal("a turn has both text and tool calls")
    found = [call.get("function") if isinstance(call, Mapping) else None for call in calls]
    if not all(isinstance(f, Mapping) and f.keys() <= {"name", "arguments"} for f in found):
        raise Refusal("a tool call is not a function with a name and arguments")
    values = [{"name": f["name"], "arguments": f.get("arguments", {})} for f in found if f]
    return {
        "from": "function_call",
        "value": json.dumps(values if len(values) > 1 else values[0], ensure_ascii=False),
    }


def _only_turn(candidate: Candidate) -> Row:
    turns = _turns(candidate.content)
    if len(turns) != 1:
        raise Refusal("the answer spans several turns")
    return _sharegpt_turn(turns[0])


def _whole(number: float) -> float | int:
    return int(number) if number == int(number) else number


_EVERY: tuple[Kind, ...] = ("pair", "unpaired", "demonstration", "prompt", "rank", "scores")
_ALL_FIELDS = frozenset(
    {
        "prob",
        "weight",
        "margin",
        "rationale",
        "user",
        "attributes",
        "tools",
        "chat_template_kwargs",
        "ids of tool calls",
        "other columns",
    }
)
LAYOUTS: dict[Target, Layout] = {
    "jsonl": Layout(kinds=frozenset(_EVERY), chat_only=False, holds=_ALL_FIELDS, row=jsonl),
    "trl": Layout(
        kinds=frozenset({"pair", "unpaired", "demonstration", "prompt"}),
        chat_only=False,
        holds=frozenset({"margin", "tools", "chat_template_kwargs", "ids of tool calls"}),
        row=trl,
    ),
    "openai": Layout(
        kinds=frozenset({"pair"}), chat_only=True, holds=frozenset({"tools", "ids of tool calls"}), row=openai
    ),
    "llama-factory": Layout(
        kinds=frozenset({"pair", "unpaired", "demonstration"}),
        chat_only=True,
        holds=frozenset({"tools"}),
        row=llama_factory,
    ),
}
