"""Texts that a reward model reads, as tokens: a prompt with a response, a prompt alone, or with two responses."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from typing import Any

from equipoise.data.records import template_kwargs_of, tools_of
from equipoise.models.errors import ModelError, first_line
from equipoise.models.tokenizer import check_tokenizer

log = logging.getLogger(__name__)


class TooLong(ModelError):
    """A text beyond the context length of a reward model."""


MARKS = ("[CONTEXT]", "[A]", "[B]", "[BETTER]")  # of the two responses in one text


class Texts:
    """Tokenises what one reward model reads; training and judging share it, so that both see the same tokens.

    Prompt and response are one text, by the model's chat template if the prompt is a conversation, and one segment also
    for models of BERT's kind: one that was trained on two segments scores differently here. A text beyond the context
    length is refused, not cut: a cut response is a different response.

    limit    context length, None if the model names none        rows   of the model's embedding
    ends     whether a text's last token is replaced by the end of sequence, as some published models read it
    opens    whether a prompt alone ends with the opening of an answer
    question (prompt, response) -> what is asked about a response, in place of the conversation itself
    pairing  (tokenizer, prompt, first, second) -> tokens of both responses in one text, of a published layout

    Raises ModelError for a template that refuses or loses a plain exchange, or a special token without a row.
    """

    def __init__(
        self,
        tokenizer: Any,
        name: str,
        *,
        rows: int,
        limit: int | None,
        ends: bool = False,
        opens: bool = True,
        pairing: Callable[[Any, Any, str, str], list[int]] | None = None,
        question: Callable[[Any, str], str] | None = None,
    ) -> None:
        self.tokenizer, self.name, self.rows, self.limit = tokenizer, name, rows, limit
        self.ends, self.opens, self.pairing = ends and tokenizer.eos_token_id is not None, opens, pairing
        self.question = question
        pads = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)  # masked: any token will do
        self.pad: int = next(pad for pad in pads if pad is not None)
        check_tokenizer(name, tokenizer, rows=rows)
        if tokenizer.chat_template:
            self._probe_template()

    def answer(self, prompt: Any, response: str) -> list[int]:
        """Tokens of a prompt with a response. Raises TooLong beyond the context, ModelError for what is unreadable."""
        ids = self._within(self.unbounded(prompt, response))
        return [*ids[:-1], self.tokenizer.eos_token_id] if self.ends else ids

    def prompt(self, prompt: Any) -> list[int]:
        """Tokens of a prompt alone, as generation is given it. Raises as `answer`."""
        if isinstance(prompt, str):
            ids = self.tokenizer(prompt, verbose=False).input_ids
        else:
            ids = self._chat(prompt, list(prompt), add_generation_prompt=self.opens)
        return self._within(self._known(ids))

    def pair(self, prompt: Any, first: str, second: str) -> list[int]:
        """Tokens of a prompt with two responses: "[CONTEXT] x [A] y1 [B] y2 [BETTER]".

        A mark that stands in a text is broken up, so that no response can pose as the other one. Raises as `answer`.
        """
        return self._within(self._unbounded_pair(prompt, first, second))

    def _unbounded_pair(self, prompt: Any, first: str, second: str) -> list[int]:
        if self.pairing is not None:
            return self._known(self.pairing(self.tokenizer, prompt, first, second))
        parts = zip(MARKS, (transcript(prompt), first, second, ""), strict=True)
        text = "\n".join(f"{mark} {unmarked(said)}".rstrip() for mark, said in parts)
        return self._known(self.tokenizer(text, verbose=False).input_ids)

    def room(self, prompts: Sequence[Any], *, both: bool = False) -> tuple[int, int] | None:
        """(tokens of the longest prompt with an empty response, or two, context length); None if it is not bounded."""
        empty = [self._unbounded_pair(p, "", "") if both else self.unbounded(p, "") for p in prompts]
        longest = max(map(len, empty))
        return None if self.limit is None else (longest, self.limit)

    def unbounded(self, prompt: Any, response: str) -> list[int]:
        """Tokens of a prompt with a response, however many."""
        if self.question is not None:
            asked = self.question(prompt, response)
            if not self.tokenizer.chat_template:
                return self._known(self.tokenizer(asked, verbose=False).input_ids)
            return self._known(
                self._chat((), [{"role": "user", "content": asked}], add_generation_prompt=True)
            )
        if isinstance(prompt, str):
            return self._known(self._joined(prompt, response))
        return self._known(self._chat(prompt, [*prompt, {"role": "assistant", "content": response}]))

    def _joined(self, prompt: str, response: str) -> list[int]:
        """Tokens of a text with its continuation. A tokenizer of words knows no word across the seam, such as
        "tea.Gladly,"; where a space between the two leaves fewer unknown tokens, there is one."""
        ids = list(self.tokenizer(prompt + response, verbose=False).input_ids)
        unknown = self.tokenizer.unk_token_id
        if unknown is None or unknown not in ids:
            return ids
        apart = list(self.tokenizer(f"{prompt} {response}", verbose=False).input_ids)
        return apart if apart.count(unknown) < ids.count(unknown) else ids

    def _chat(self, prompt: Any, turns: Sequence[Any], **how: Any) -> list[int]:
        if not self.tokenizer.chat_template:
            raise ModelError(f"{self.name} has no chat template, but the prompts are chat messages")
        about = {"tools": list(tools_of(prompt)) or None, **template_kwargs_of(prompt), **how}
        return self._templated(turns, tokenize=True, return_dict=True, **about)["input_ids"]

    def _within(self, ids: list[int]) -> list[int]:
        if self.limit and len(ids) > self.limit:
            raise TooLong(
                f"{self.name} accepts {self.limit} tokens; a prompt with its response has {len(ids)}; "
                "leave it out, or take a model with a longer context"
            )
        return ids

    def _known(self, ids: Sequence[int]) -> list[int]:
        if not ids:
            raise ModelError(f"{self.name}: a prompt with its response has no tokens")
        if max(ids) >= self.rows:
            raise ModelError(
                f"{self.name} has no row for token {max(ids)} of its tokenizer, which a text contains "
                f"({self.rows:,} rows)"
            )
        return list(ids)

    def _templated(self, messages: Sequence[Any], **how: Any) -> Any:
        try:
            return self.tokenizer.apply_chat_template(list(messages), **how)
        except Exception as error:  # a template is a program, and raises what it likes
            roles = ", ".join(str(message["role"]) for message in messages)
            raise ModelError(
                f"{self.name}: its chat template refuses the turns {roles}: {first_line(error)}; leave such "
                "prompts out, or take a reward model that reads them"
            ) from error

    def _probe_template(self) -> None:
        """Check that the template takes a plain exchange and keeps its words; a system turn that it loses is said."""
        user, answer = {"role": "user", "content": "lantern"}, {"role": "assistant", "content": "harbour"}
        text = str(self._templated([user, answer], tokenize=False))
        lost = [turn["role"] for turn in (user, answer) if turn["content"] not in text]
        if lost:
            raise ModelError(
                f"{self.name}: its chat template loses what the {lost[0]} says, so that it cannot judge it"
            )
        try:
            text = str(
                self._templated([{"role": "system", "content": "meadow"}, user, answer], tokenize=False)
            )
        except ModelError as error:
            log.info("%s", error)  # a prompt with a system turn is refused when it comes
            return
        if "meadow" not in text:
            log.warning("%s: its chat template leaves system turns out; it judges without them", self.name)


def transcript(prompt: Any) -> str:
    """A prompt as plain text: of a conversation, a line "role: content" for each turn, tool calls as JSON."""
    if isinstance(prompt, str):
        return prompt
    return "\n".join(_turn(turn) for turn in prompt)


def _turn(turn: Any) -> str:
    calls = turn.get("tool_calls")
    said = [str(turn["content"] or ""), *([json.dumps(calls, sort_keys=True, default=str)] if calls else [])]
    return f"{turn['role']}: {' '.join(filter(None, said))}"


def unmarked(text: str, marks: Sequence[str] = MARKS) -> str:
    """The text with marks broken up: "[B]" becomes "[ B]"."""
    for mark in marks:
        text = text.replace(mark, f"{mark[0]} {mark[1:]}")
    return text
