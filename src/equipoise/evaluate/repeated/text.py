"""The prompt of a repeated game, and the action that an answer names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from equipoise.oracles.judges.judge_prompt import disarmed
from equipoise.safe_text import printable

LONGEST_NAME = 40  # characters of an action's name that the prompt uses
REASONING = re.compile(r"^.*</think>", re.DOTALL)  # what a reasoning model writes before its answer

TEMPLATE = """\
{% macro listed(losses) %}
{% for name, loss in losses %}{{ name }} {{ "%.2f" | format(loss) }}{{ ", " if not loop.last }}{% endfor %}
{% endmacro %}
You play a game of many rounds. In each round you choose one of these actions: {{ actions | join(", ") }}.
After each round you are told the loss of every action in it, from 0 (best) to 1 (worst). \
Keep the sum of your losses low.
{% if number > 1 %}

{% if before %}
Earlier rounds that are not listed: {{ before }}.
{% endif %}
{% for round in shown %}
Round {{ round.number }}: you chose {{ round.chosen }}. Losses: {{ listed(round.losses) | trim }}.
{% endfor %}
Sum of the losses of each action so far: {{ listed(totals) | trim }}.
{% endif %}

Round {{ number }}: answer with one action, by its name, and nothing else.
"""


class RepeatedGameError(ValueError):
    """A repeated game that cannot be played, with the reason."""


def read_template(path: Path) -> str:
    """The text of a template's file. Raises RepeatedGameError for one that cannot be read as UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise RepeatedGameError(f"cannot read the prompt {path}: {error}") from None


class Played(NamedTuple):
    """One round as its player saw it: the action, None where the answer named none, and the losses of all actions."""

    action: int | None
    losses: Sequence[float]


def names_of(actions: Sequence[str]) -> tuple[str, ...]:
    """Names of the actions for the prompt: their own if they are short, distinct lines of text, else numbered ones.

    Names come from outside: one with control characters or marks of a chat's frame is not shown to a model.
    """
    own = tuple(str(name).strip() for name in actions)
    fit = all(
        name
        and len(name) <= LONGEST_NAME
        and printable(name) == name
        and disarmed(name) == name
        and name != "-"
        for name in own
    )
    if fit and len({name.casefold() for name in own}) == len(own):
        return own
    return tuple(f"action {i}" for i in range(1, len(own) + 1))


@dataclass(frozen=True)
class GameText:
    """The text of a repeated game.

    names   of the actions, distinct whatever their case
    memory  rounds that the prompt lists, the last ones; sums are always over all rounds. None: all
    template  a Jinja template with `actions`, `number` of the round, `shown` rounds (`number`, `chosen`, `losses` as
              pairs of name and loss), `before`, how many are not shown, and `totals`, pairs of name and sum

    Raises RepeatedGameError for a template that cannot be written, or that does not show an action's name.
    """

    names: tuple[str, ...]
    memory: int | None = None
    template: str = TEMPLATE

    def __post_init__(self) -> None:
        try:
            first, later = self.prompt([]), self.prompt([Played(0, [0.5] * len(self.names))])
        except TemplateError as error:
            raise RepeatedGameError(f"the prompt is no Jinja template of a repeated game: {error}") from error
        except Exception as error:
            raise RepeatedGameError(f"the prompt cannot be written: {error}") from error
        missing = [name for name in self.names if name not in first or name not in later]
        if missing:
            raise RepeatedGameError(f"the prompt does not show the action {missing[0]!r}")

    def prompt(self, history: Sequence[Played]) -> str:
        """What the player reads before the next round."""
        first = 0 if self.memory is None else max(0, len(history) - self.memory)
        shown = [
            {
                "number": first + i + 1,
                "chosen": "none (the answer named no single action)"
                if one.action is None
                else self.names[one.action],
                "losses": list(zip(self.names, one.losses, strict=True)),
            }
            for i, one in enumerate(history[first:])
        ]
        sums = [sum(column) for column in zip(*(one.losses for one in history), strict=True)]
        environment = ImmutableSandboxedEnvironment(
            autoescape=False, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        return environment.from_string(self.template).render(
            actions=self.names,
            shown=shown,
            before=first,
            totals=list(zip(self.names, sums, strict=False)),
            number=len(history) + 1,
        )

    def action(self, answer: str) -> int | None:
        """The one action that an answer names as whole words, in any case; None if it names none or several.

        What stands before a closing </think> is not part of the answer.
        """
        said = REASONING.sub("", answer)
        order = sorted(self.names, key=len, reverse=True)  # of names within each other the longest
        pattern = "|".join(rf"(?<!\w){re.escape(name)}(?!\w)" for name in order)
        found = {match.casefold() for match in re.findall(pattern, said, re.IGNORECASE)}
        if len(found) != 1:
            return None
        (name,) = found
        return next((i for i, one in enumerate(self.names) if one.casefold() == name), None)
