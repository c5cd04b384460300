"""Implicit prompts: where the prompt ends in two whole texts or conversations that share it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from equipoise.data.errors import Refusal
from equipoise.data.records import Message

TURN_MARKERS = ("\n\nAssistant:", "### Response:", "<|assistant|>", "[/INST]", "<|im_start|>assistant\n")
SENTENCE_MARKS = "\n。！？；：.!?;:"
# Scripts written without spaces: Thai to Khmer, kana and Han with their extensions and full-width forms.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3000-\u9fff\uf900-\ufaff\uff00-\uffef]")
_HH_TURN = re.compile(r"\n\n(Human|Assistant):")


def common_prefix(a: Sequence[object], b: Sequence[object]) -> int:
    """Length of the longest common prefix of two sequences."""
    pairs = enumerate(zip(a, b, strict=False))
    return next((i for i, (x, y) in pairs if x != y), min(len(a), len(b)))


def cut_texts(chosen: str, rejected: str) -> tuple[str, str, str]:
    """(prompt, chosen answer, rejected answer) of two whole texts.

    The prompt is the longest common prefix, shortened to end at its last turn marker if it has one, else before
    its last whitespace, never inside a word or number; that whitespace belongs to the answers. In scripts
    without spaces it may end at a newline or sentence mark. Refuses an empty prompt or answer.
    """
    head = chosen[: common_prefix(chosen, rejected)]
    cut = _after_marker(head)
    if cut is None:
        cut = _word_boundary(head, chosen, rejected)
    prompt = head[:cut]
    if not prompt.strip():
        raise Refusal("no common prompt; give `prompt`")
    for name, text in (("chosen", chosen), ("rejected", rejected)):
        if not text[cut:].strip():
            raise Refusal(f"{name} adds nothing after the prompt")
    return prompt, chosen[cut:], rejected[cut:]


def _after_marker(head: str) -> int | None:
    ends = [head.rfind(marker) + len(marker) for marker in TURN_MARKERS if marker in head]
    return max(ends, default=None)


def _word_boundary(head: str, chosen: str, rejected: str) -> int:
    """Length of the prompt: the last position before a whitespace run that both texts share, or 0."""
    end = len(head)
    following = [text[end : end + 1] for text in (chosen, rejected)]
    unspaced = any(_UNSPACED.match(char) for char in [*head[-1:], *following] if char)
    for cut in range(end, 0, -1):
        nexts = following if cut == end else [head[cut]]
        if all(char.isspace() for char in nexts) and not head[cut - 1].isspace():
            return cut
        if unspaced and head[cut - 1] in SENTENCE_MARKS and all(nexts):
            return cut
    return 0


def cut_conversations(
    chosen: tuple[Message, ...], rejected: tuple[Message, ...]
) -> tuple[tuple[Message, ...], tuple[Message, ...], tuple[Message, ...]]:
    """(context, chosen turns, rejected turns): split at the first differing message.

    Refuses unless both sides then begin with an assistant turn, naming the index and the two roles.
    """
    index = common_prefix(chosen, rejected)
    sides = chosen[index:], rejected[index:]
    if not sides[0] and not sides[1]:
        raise Refusal("chosen equals rejected")
    roles = [side[0].role if side else "nothing" for side in sides]
    where = f"message {index}: {roles[0]} in chosen, {roles[1]} in rejected"
    if "nothing" in roles:
        raise Refusal("one side adds nothing after the shared turns", where)
    if roles != ["assistant", "assistant"]:
        raise Refusal("the two sides answer different questions", where)
    if index == 0:
        raise Refusal("no common prompt; give `prompt`", where)
    return chosen[:index], *sides


def is_transcript(text: str) -> bool:
    r"""Whether a text is written with the turn markers "\n\nHuman:" and "\n\nAssistant:"."""
    return text.startswith("\n\nHuman:") and "\n\nAssistant:" in text


def transcript(text: str, name: str, *, answered: bool = True) -> tuple[Message, ...]:
    """A transcript as chat turns, stripped. Refuses empty turns and turns that do not alternate.

    answered   whether it ends with the assistant's turn; False: with the user's, as a prompt does.
    """
    before, *parts = _HH_TURN.split(text)
    turns = [
        Message(role="user" if who == "Human" else "assistant", content=said.strip())
        for who, said in zip(parts[::2], parts[1::2], strict=True)
    ]
    if before.strip() or not turns:
        raise Refusal("transcript does not begin with a turn", name)
    wrong = next((i for i, turn in enumerate(turns) if (turn.role == "user") != (i % 2 == 0)), None)
    if wrong is not None:
        raise Refusal("turns do not alternate", f"{name}, turn {wrong} is {turns[wrong].role}")
    empty = next((i for i, turn in enumerate(turns) if not turn.content), None)
    if empty is not None:
        raise Refusal("empty turn", f"{name}, turn {empty}")
    if answered and turns[-1].role != "assistant":
        raise Refusal("last turn is not the assistant's", f"{name} ends with {turns[-1].role}")
    return tuple(turns)
