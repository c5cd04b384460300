"""Answers of a model to prompts: what two models' answers are compared by, whatever file they come from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from equipoise.data.collate import Ids
from equipoise.data.errors import DataError
from equipoise.data.files.object_rows import Row, read_rows
from equipoise.data.records import Candidate, Context, Conversation, Message, digest, oracle_context, plain
from equipoise.evaluate.written_rows import write_array, write_lines


@dataclass(frozen=True)
class Answer:
    """One answer; what is unknown of it is None.

    finished  False: it was cut.      tokens  scored tokens.      logp  under its writer, in nats
    ids, prompt_ids  tokens of the answer and of its prompt as its writer read them
    """

    text: str
    finished: bool | None = None
    tokens: int | None = None
    logp: float | None = None
    ids: Ids | None = None
    prompt_ids: Ids | None = None


@dataclass(frozen=True)
class Answers:
    """Answers of one writer, one or several to each prompt.

    name      the writer.      contexts  prompt's key -> the prompt as an oracle reads it
    by        prompt's key -> its answers, in the order of their numbers
    """

    name: str
    contexts: Mapping[str, Any]
    by: Mapping[str, tuple[Answer, ...]]
    notes: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return sum(map(len, self.by.values()))

    @property
    def texts(self) -> list[str]:
        return [answer.text for answers in self.by.values() for answer in answers]


def key_of(context: Any) -> str:
    """A prompt's key: equal for equal prompts; a text and a chat of one user turn with this text are one prompt."""
    if isinstance(context, str):
        return digest(context)
    turns = [turn.as_dict() if isinstance(turn, Message) else dict(turn) for turn in context]
    rest = (context.tools, context.template_kwargs) if isinstance(context, Conversation) else ((), {})
    if (
        len(turns) == 1
        and turns[0].keys() == {"role", "content"}
        and turns[0]["role"] == "user"
        and rest == ((), {})
    ):
        return digest(turns[0]["content"])
    return digest([turns, *rest] if rest != ((), {}) else turns)


def gather(name: str, items: Iterable[tuple[str, Any, Answer]], notes: Sequence[str] = ()) -> Answers:
    """Answers out of (prompt's key, prompt, answer)."""
    contexts: dict[str, Any] = {}
    by: dict[str, list[Answer]] = {}
    for key, context, answer in items:
        contexts.setdefault(key, context)
        by.setdefault(key, []).append(answer)
    return Answers(name, contexts, {key: tuple(answers) for key, answers in by.items()}, tuple(notes))


def read_answers(path: str | Path, questions: Mapping[str, Any] | None = None) -> Answers:
    """Answers of a file: ours, AlpacaEval's model_outputs, Arena-Hard's or MT-Bench's model_answer.

    questions   question's identifier -> prompt, for files that name their questions without repeating them

    Of MT-Bench the first turn is read: what is asked in the second one depends on the model's own first answer. Raises
    DataError, with file and line, for a row that is none of these, and for a file of several writers.
    """
    rows = read_rows(path)
    reader = _reader(rows[0])
    read = [reader(row, questions or {}) for row in rows]
    names = list(dict.fromkeys(name for name, _, _ in read if name))
    if len(names) > 1:
        raise DataError(
            f"answers of several models: {', '.join(names[:4])}",
            file=str(path),
            hint="give a file for each of them",
        )
    return gather(
        names[0] if names else Path(path).stem,
        ((key_of(context), context, answer) for _, context, answer in read),
    )


def _reader(row: Row) -> Any:
    columns = row.values.keys()
    for needed, reader in _READERS:
        if needed <= columns:
            return reader
    raise row.error(
        "no answers: expected `prompt` and `completion`, AlpacaEval's `instruction` and `output`, or "
        f"a model_answer file of Arena-Hard or MT-Bench; it has {', '.join(sorted(columns)[:8])}"
    )


def _ours(row: Row, questions: Mapping[str, Any]) -> tuple[str, Any, Answer]:
    said = _context(row, "completion")
    text = Candidate(content=said).text
    values = row.values
    ids = [
        tuple(v) if isinstance(v := values.get(name), list) and all(isinstance(i, int) for i in v) else None
        for name in ("ids", "prompt_ids")
    ]
    tools, kwargs = values.get("tools") or (), values.get("chat_template_kwargs") or {}
    answer = Answer(
        text,
        finished=values["finished"] if isinstance(values.get("finished"), bool) else None,
        tokens=values["tokens"] if isinstance(values.get("tokens"), int) else None,
        logp=row.number("logp") if values.get("logp") is not None else None,
        ids=ids[0],
        prompt_ids=ids[1],
    )
    name = values.get("model")
    return (
        name if isinstance(name, str) else "",
        oracle_context(_context(row, "prompt"), tools, kwargs),
        answer,
    )


def _alpaca(row: Row, questions: Mapping[str, Any]) -> tuple[str, Any, Answer]:
    task = row.text("instruction")
    given = row.values.get("input")
    if isinstance(given, str) and given.strip():
        task = f"{task}\n\n{given}"
    name = row.values.get("generator")
    return name if isinstance(name, str) else "", _asked(task), Answer(row.text("output"))


def _messages(row: Row, questions: Mapping[str, Any]) -> tuple[str, Any, Answer]:
    """Arena-Hard 2.0: `messages`, the last of which is the answer, its text inside an object."""
    turns = row.values.get("messages")
    if not isinstance(turns, list) or len(turns) < 2 or not all(isinstance(turn, Mapping) for turn in turns):
        raise row.error("`messages` must be a list of turns that ends with the answer")
    said = turns[-1].get("content")
    text = said.get("answer") if isinstance(said, Mapping) else said
    if not isinstance(text, str):
        raise row.error("the last turn of `messages` has no text of an answer")
    asked = [{"role": str(turn.get("role")), "content": str(turn.get("content"))} for turn in turns[:-1]]
    return row.name("model"), asked, Answer(text)


def _choices(row: Row, questions: Mapping[str, Any]) -> tuple[str, Any, Answer]:
    """Arena-Hard 0.1 and MT-Bench: `choices`, whose turns are texts or objects with `content`."""
    number = row.name("question_id")
    if number not in questions:
        raise row.error(
            f"the question {number} is not among the data: give --data with the benchmark's question.jsonl"
        )
    try:
        turn = row.values["choices"][0]["turns"][0]
        text = turn["content"] if isinstance(turn, Mapping) else turn
    except (KeyError, IndexError, TypeError):
        text = None
    if not isinstance(text, str):
        raise row.error("`choices` must hold a choice with the turns of the answer")
    return row.name("model_id"), questions[number], Answer(text)


_READERS = (
    (frozenset({"prompt", "completion"}), _ours),
    (frozenset({"instruction", "output"}), _alpaca),
    (frozenset({"messages", "model"}), _messages),
    (frozenset({"question_id", "choices"}), _choices),
)


def _asked(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def _context(row: Row, name: str) -> Context:
    value = row.values[name]
    if isinstance(value, str):
        return value
    fits = isinstance(value, list) and value and all(isinstance(turn, Mapping) for turn in value)
    if not fits or not all(
        isinstance(turn.get("role"), str) and isinstance(turn.get("content"), str) for turn in value
    ):
        raise row.error(f"`{name}` must be text or a list of turns with `role` and `content`")
    return tuple(
        Message(
            role=turn["role"],
            content=turn["content"],
            extra={k: v for k, v in turn.items() if k not in ("role", "content")},
        )
        for turn in value
    )


def questions_of(path: str | Path) -> dict[str, Any]:
    """Questions of a benchmark's question.jsonl (`question_id` or `uid`, and `turns` or `prompt`), by identifier.

    Rows without an identifier are left out: other data have none.
    """
    found: dict[str, Any] = {}
    for row in read_rows(path):
        name = row.values.get("question_id", row.values.get("uid"))
        turns = row.values.get("turns")
        first = turns[0] if isinstance(turns, list) and turns else row.values.get("prompt")
        first = first.get("content") if isinstance(first, Mapping) else first
        if name is not None and isinstance(first, str):
            found[str(name)] = _asked(first)
    return found


def as_rows(answers: Answers, *, ids: bool = False) -> Iterable[dict[str, Any]]:
    """Our JSON lines: rows of demonstrations (`prompt`, `completion`), with what is known of each answer beside them.

    ids   with the token ids, which KL divergences need
    """
    for key, written in answers.by.items():
        context = answers.contexts[key]
        for number, answer in enumerate(written):
            row: dict[str, Any] = {"id": f"{key}-{number}"} | _prompt(context)
            chat = not isinstance(context, str)
            row["completion"] = [{"role": "assistant", "content": answer.text}] if chat else answer.text
            row |= {"model": answers.name, "sample": number}
            row |= {
                name: value
                for name in ("finished", "tokens", "logp")
                if (value := getattr(answer, name)) is not None
            }
            if ids and answer.ids is not None and answer.prompt_ids is not None:
                row |= {"ids": list(answer.ids), "prompt_ids": list(answer.prompt_ids)}
            yield row


def _prompt(context: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "prompt": context if isinstance(context, str) else [dict(turn) for turn in context]
    }
    if isinstance(context, Conversation):
        row |= {"tools": list(context.tools)} if context.tools else {}
        row |= {"chat_template_kwargs": context.template_kwargs} if context.template_kwargs else {}
    return row


def write_answers(path: Path, answers: Answers, format: str = "jsonl", *, ids: bool = False) -> Path:
    """Write answers whole or not at all, in `format`: ours ("jsonl") or AlpacaEval's model_outputs ("alpaca_eval").

    Raises DataError for what AlpacaEval's layout has no place for: several turns, several answers to a prompt.
    """
    if format == "jsonl":
        return write_lines(path, as_rows(answers, ids=ids))
    return write_array(path, alpaca_rows(answers, path))


def alpaca_rows(answers: Answers, path: Path | str = "") -> list[dict[str, Any]]:
    """AlpacaEval's rows {instruction, output, generator}. Raises DataError, see `write_answers`."""
    rows = []
    for key, written in answers.by.items():
        if len(written) > 1:
            raise DataError(
                f"{len(written)} answers to one prompt: AlpacaEval's layout has one", file=str(path) or None
            )
        task = instruction_of(answers.contexts[key])
        if task is None:
            raise DataError(
                "a prompt of several turns: AlpacaEval's layout has one instruction",
                file=str(path) or None,
                hint="write our own layout",
            )
        rows.append({"instruction": task, "output": written[0].text, "generator": answers.name})
    return rows


def instruction_of(context: Any) -> str | None:
    """A prompt of one text or one user turn as this text; None for a longer conversation."""
    if isinstance(context, str):
        return context
    turns = list(context)
    return str(turns[0]["content"]) if len(turns) == 1 and turns[0]["role"] == "user" else None


def shown(context: Any) -> str:
    """A prompt as a reader is shown it."""
    if isinstance(context, str):
        return context
    return "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in context)


def canonical(context: Any) -> str:
    """A prompt as one line of JSON, for fingerprints."""
    return json.dumps(plain(context) if isinstance(context, str) else [dict(t) for t in context], default=str)
