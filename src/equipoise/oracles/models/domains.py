"""Instructions by domain: what an oracle's models read before a prompt, chosen by its tag or by its words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, TypeAdapter, ValidationError, field_validator

from equipoise.data.records import Conversation, template_kwargs_of, tools_of
from equipoise.oracles.file import OracleFile
from equipoise.oracles.protocol import OracleError, OraclePrompt
from equipoise.oracles.questions.questioner import Failure
from equipoise.safe_yaml import load as load_yaml

TAG = "domain"  # the template setting of a row that names its domain


class Exemplar(OracleFile):
    """A prompt with a good response, shown before the prompt that is judged."""

    prompt: str
    response: str


class Domain(OracleFile):
    """What is read before the prompts of one domain.

    name          as a row's tag names it
    words         a prompt belongs here if the user says one of them, in capitals or not; None: every prompt does
    instruction   put before the system turn, or before a plain prompt
    exemplars     put before the conversation, as turns
    """

    name: str
    words: tuple[str, ...] | None = None
    instruction: str = ""
    exemplars: tuple[Exemplar, ...] = ()

    @field_validator("words")
    @classmethod
    def _said(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None and not all(word.strip() for word in value):
            raise ValueError("an empty word is in every prompt; leave `words` out for a domain of all others")
        return value

    def takes(self, text: str) -> bool:
        """Whether the words of the user belong here."""
        if self.words is None:
            return True
        any_word = "|".join(re.escape(word.strip()) for word in self.words)
        return (
            bool(self.words) and re.search(rf"(?<!\w)(?:{any_word})(?!\w)", text, re.IGNORECASE) is not None
        )


class Domains(OracleFile):
    """A router over domains: a row's tag, else the first domain whose words the user says; else nothing is added.

    The tag is the row's template setting `domain` (`chat_template_kwargs: {"domain": "safety"}`).
    """

    domains: tuple[Domain, ...] = Field(default=())

    @classmethod
    def of(cls, given: str | Sequence[Any], file: Path) -> Domains:
        """The domains that stand in an oracle's file, or in a file of its folder. Raises OracleError."""
        where = file.parent / given if isinstance(given, str) else file
        try:
            listed = load_yaml(where.read_text(encoding="utf-8")) if isinstance(given, str) else given
            found = TypeAdapter(tuple[Domain, ...]).validate_python(listed)
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise OracleError(f"{where}: the domains cannot be read: {problems}") from None
        except (OSError, ValueError) as error:
            raise OracleError(f"{where}: the domains cannot be read: {error}") from None
        names = [domain.name for domain in found]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise OracleError(f"{where}: two domains are called {twice[0]!r}")
        return cls(domains=found)

    def route(self, prompt: OraclePrompt) -> Domain | None:
        """The domain of a prompt. Raises Failure for a tag that names none."""
        tag = template_kwargs_of(prompt).get(TAG)
        if tag is None:
            return next((domain for domain in self.domains if domain.takes(said_by_user(prompt))), None)
        named = {domain.name: domain for domain in self.domains}
        if tag not in named:
            raise Failure(f"the prompt's domain {tag!r} is none of {', '.join(named)}", transient=False)
        return named[tag]

    def before(self, prompt: OraclePrompt) -> OraclePrompt:
        """The prompt with its domain's instruction and exemplars before it. Raises Failure as `route`."""
        domain = self.route(prompt) if self.domains else None
        if domain is None:
            return prompt
        if isinstance(prompt, str):
            shown = [domain.instruction] * bool(domain.instruction)
            shown += [exemplar.prompt + exemplar.response for exemplar in domain.exemplars]
            return "\n\n".join([*shown, prompt])
        turns = [dict(turn) for turn in prompt]
        opening = turns.pop(0)["content"] if turns and turns[0]["role"] == "system" else ""
        system = "\n\n".join(text for text in (domain.instruction, opening) if text)
        shots = [
            {"role": role, "content": text}
            for exemplar in domain.exemplars
            for role, text in (("user", exemplar.prompt), ("assistant", exemplar.response))
        ]
        first = [{"role": "system", "content": system}] if system else []
        kwargs = {name: value for name, value in template_kwargs_of(prompt).items() if name != TAG}
        return Conversation([*first, *shots, *turns], tools_of(prompt), kwargs)


def said_by_user(prompt: OraclePrompt) -> str:
    """What the user says: a plain prompt, or the user's turns."""
    if isinstance(prompt, str):
        return prompt
    return "\n".join(_text(turn) for turn in prompt if turn.get("role") == "user")


def _text(turn: Mapping[str, Any]) -> str:
    return str(turn.get("content") or "")
