"""Prompts cut to their limit inside the turns: system turn, headers and the last turn stay.

Oldest turns go first, up to the next question; then the beginning of the longest content that is left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from equipoise.data.collate import Ids
from equipoise.data.errors import Refusal
from equipoise.data.records import Message

LONGEST_WORD = 40  # characters; a cut inside a shorter word leaves it out
Render = Callable[[Sequence[Message]], Ids]


def keep_end(turns: Sequence[Message], limit: int, render: Render) -> tuple[tuple[Message, ...], Ids]:
    """(turns that are left, their prompt's ids, at most `limit`).

    render   the prompt's ids of turns, not cut; raises Refusal where the template takes no such conversation.

    Raises Refusal if no cut of this kind fits.
    """
    head = [turn for turn in turns[:1] if turn.role == "system"]
    rest = list(turns[len(head) :])
    asked = [k for k, turn in enumerate(rest) if k and turn.role == "user"]
    left = rest
    for begin in asked:
        left = rest[begin:]
        ids = _tried((*head, *left), render)
        if ids is not None and len(ids) <= limit:
            return (*head, *left), ids
    shorter = _shortened((*head, *left), len(head), limit, render)
    if shorter is None:
        raise Refusal(
            "prompt too long", f"no cut inside its turns leaves {limit} tokens with system turn and headers"
        )
    return shorter


def _tried(turns: Sequence[Message], render: Render) -> Ids | None:
    try:
        return render(turns)
    except Refusal:
        return None


def _shortened(
    turns: tuple[Message, ...], first: int, limit: int, render: Render
) -> tuple[tuple[Message, ...], Ids] | None:
    """The longest content behind the system turn, without as much of its beginning as is needed."""
    place = max(range(first, len(turns)), key=lambda k: len(turns[k].content), default=None)
    if place is None:
        return None
    content = turns[place].content

    def kept(characters: int) -> tuple[tuple[Message, ...], Ids | None]:
        cut = replace(turns[place], content=content[len(content) - characters :])
        made = (*turns[:place], cut, *turns[place + 1 :])
        return made, _tried(made, render)

    low, high = 0, len(content)  # characters kept: `low` fits (or nothing does), `high` does not
    while high - low > 1:
        middle = (low + high) // 2
        ids = kept(middle)[1]
        low, high = (middle, high) if ids is not None and len(ids) <= limit else (low, middle)
    space = next((k for k, sign in enumerate(content[len(content) - low :]) if sign.isspace()), 0)
    made, ids = kept(low - space - 1 if 0 < space < LONGEST_WORD else low)
    whole = ids is not None and len(ids) <= limit and bool(made[place].content.strip())
    return (made, ids) if whole and ids is not None else None
