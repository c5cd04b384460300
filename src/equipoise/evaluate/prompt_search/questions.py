"""Dynamic rewards in four forms of question: aspects of a query, scores of an answer, a better prompt or answer."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from equipoise.data.errors import DataError
from equipoise.oracles.judges.chat_client import closed_object, score_within
from equipoise.oracles.judges.judge_prompt import FencedTemplate, conversation_text, disarmed
from equipoise.oracles.protocol import OraclePrompt
from equipoise.oracles.questions.verdicts import Verdict
from equipoise.safe_yaml import load

PROMPTS = Path(__file__).with_name("prompts")
SCALE = (1.0, 5.0)
MOST_CHARACTERS = 20_000  # of a proposed system prompt
SHOWN_PROMPTS = 5  # the authors': how many of the prompts so far the optimiser is shown
TEMPERATURE = 0.7  # of proposals: the authors' default
NAMED = {"type": "string"}

ASPECTS: Mapping[str, str] = MappingProxyType(
    {
        "Helpfulness": "the answer does what the query asks for and solves its problem",
        "Clarity": "it is well ordered and easy to follow",
        "Factuality": "what it states is true and can be checked",
        "Depth": "it goes as far into the subject as the query calls for",
        "Engagement": "it reads as a natural part of a conversation",
        "Conciseness": "it says what is needed without repetition or padding",
        "Safety": "it does no harm, and declines what would",
        "Compliance": "it keeps to every instruction and format in the query",
        "Limitations": "it admits what an assistant cannot know or do",
        "Critical-Thinking": "it examines the assumptions of the query instead of taking them over",
        "Creativity": "it has ideas of its own where the query wants them",
        "Interactivity": "it asks back or offers next steps where that helps",
        "Empathy": "it recognises how the writer feels and responds to it",
        "Sensitivity": "it respects persons and cultures and does not generalise about them",
    }
)


def read_aspects(path: Path) -> dict[str, str]:
    """Aspects of a YAML file, NAME: MEANING in each line. Raises DataError for anything else."""
    try:
        found = load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read the aspects: {error}", file=str(path)) from None
    if not isinstance(found, Mapping) or not found:
        raise DataError("aspects must be NAME: MEANING in each line", file=str(path))
    for name, meaning in found.items():
        if not (
            isinstance(name, str) and name.isprintable() and '"' not in name and isinstance(meaning, str)
        ):
            raise DataError(f"the aspect {name!r} must be a name with its meaning as text", file=str(path))
    return dict(found)


class _Fenced:
    """What the forms share: their template, and what their verdicts depend on."""

    name: str
    temperature: float | None = None

    def __init__(self, name: str, *about: Any) -> None:
        self.name = name
        text = (PROMPTS / f"{name}.jinja").read_text(encoding="utf-8")
        self.template = FencedTemplate(text, name)
        self.fingerprint = repr((text, *about))


class AspectChoice(_Fenced):
    """Which aspects apply to a query: (conversation, "aspects"). The verdict's `about` has their names, `aspects`."""

    def __init__(self, aspects: Mapping[str, str]) -> None:
        super().__init__("aspects", dict(aspects))
        self.aspects = aspects

    def messages(self, conversation: OraclePrompt) -> list[dict[str, str]]:
        return self.template.messages({"conversation": conversation_text(conversation)}, aspects=self.aspects)

    def properties(self) -> Mapping[str, Any]:
        return {"reason": NAMED, "aspects": {"type": "array", "items": {**NAMED, "enum": list(self.aspects)}}}

    def read(self, answer: Any) -> Verdict:
        said = answer["aspects"]
        if not isinstance(said, list):
            raise TypeError("aspects must be a list of names")
        chosen = [name for name in self.aspects if name in said]
        if not chosen:
            raise ValueError("none of the aspects is chosen")
        return Verdict(float(len(chosen)), about={"aspects": chosen})


class AspectScores(_Fenced):
    """Scores from 1 to 5: (conversation, "scores", response, names of aspects). The verdict's value is their mean."""

    def __init__(self, aspects: Mapping[str, str]) -> None:
        super().__init__("scores", dict(aspects))
        self.aspects = aspects

    def messages(
        self, conversation: OraclePrompt, response: str, chosen: Sequence[str]
    ) -> list[dict[str, str]]:
        texts = {"conversation": conversation_text(conversation), "response": response}
        return self.template.messages(texts, aspects={name: self.aspects[name] for name in chosen})

    def properties(self, response: str, chosen: Sequence[str]) -> Mapping[str, Any]:
        one = closed_object({"reason": NAMED, "score": {"type": "integer"}})
        return dict.fromkeys(chosen, one)

    def read(self, answer: Any, response: str, chosen: Sequence[str]) -> Verdict:
        scores = {name: score_within(answer[name]["score"], *SCALE) for name in chosen}
        reasons = {name: _writable(str(answer[name].get("reason", ""))) for name in chosen}
        return Verdict(math.fsum(scores.values()) / len(scores), about={"reasons": reasons}, scores=scores)


class Proposal(_Fenced):
    """A new system prompt: (conversation, "proposal", response, judgement, prompts so far with rewards, draw's number).

    The verdict's `about` has it, `system_prompt`; its value is 1. The draw's number is not shown.
    """

    def __init__(self, temperature: float = TEMPERATURE) -> None:
        super().__init__("proposal", temperature)
        self.temperature = temperature

    def messages(
        self,
        conversation: OraclePrompt,
        response: str,
        judgement: str,
        prompts: Sequence[Sequence[Any]],
        *draw: Any,
    ) -> list[dict[str, str]]:
        last = prompts[-SHOWN_PROMPTS:]
        shown = "\n\n".join(
            f"Prompt {i} (mean score {reward:.2f}):\n{text}" for i, (text, reward) in enumerate(last, 1)
        )
        texts = {"conversation": conversation_text(conversation), "response": response}
        return self.template.messages(texts | {"judgement": judgement, "prompts": shown})

    def properties(self, *about: Any) -> Mapping[str, Any]:
        return {"analysis": NAMED, "system_prompt": NAMED}

    def read(self, answer: Any, *about: Any) -> Verdict:
        return Verdict(1.0, about={"system_prompt": usable_prompt(answer["system_prompt"])})


class Rewrite(_Fenced):
    """A better answer: (conversation, "rewrite", response, judgement, draw's number).

    The verdict's `about` has it, `answer`; its value is 1. The draw's number is not shown.
    """

    def __init__(self, temperature: float = TEMPERATURE) -> None:
        super().__init__("rewrite", temperature)
        self.temperature = temperature

    def messages(
        self, conversation: OraclePrompt, response: str, judgement: str, *draw: Any
    ) -> list[dict[str, str]]:
        texts = {"conversation": conversation_text(conversation), "response": response}
        return self.template.messages(texts | {"judgement": judgement})

    def properties(self, *about: Any) -> Mapping[str, Any]:
        return {"analysis": NAMED, "answer": NAMED}

    def read(self, answer: Any, *about: Any) -> Verdict:
        return Verdict(1.0, about={"answer": usable_prompt(answer["answer"], "an answer")})


def usable_prompt(said: Any, what: str = "a system prompt") -> str:
    """A proposed system prompt, or answer, as it is used. Raises ValueError for one that is empty, too long or no text.

    Marks that servers and templates read as the frame of a chat are disarmed.
    """
    if not isinstance(said, str) or not said.strip():
        raise ValueError(f"{what} that is empty")
    text = disarmed(said.strip().replace("\r\n", "\n"))
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"{what} of {len(text):,} characters")
    if any(unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t" for c in text):
        raise ValueError(f"{what} with control characters")
    return text


def _writable(text: str) -> str:
    """A text without halves of characters, which no file can hold."""
    return text.encode("utf-8", "replace").decode()
