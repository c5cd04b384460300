"""What players are: who writes the responses of a round."""

from __future__ import annotations

from typing import Protocol

from equipoise.play.component import Component
from equipoise.play.rows import Rows
from equipoise.play.state import AVERAGE, BEFORE, INITIAL, START, UNIFORM, Geometric, Past, State, Who
from equipoise.play.world import World


class Players(Component, Protocol):
    """Who writes the responses of a round, and how many."""

    @property
    def width(self) -> int | None:
        """Responses of each row that `write` gives; None where the recorded data decide."""
        ...

    @property
    def exchangeable(self) -> bool:
        """Whether a row's responses are samples of one policy, so that they may be paired in any way."""
        return False

    def write(self, world: World, state: State) -> Rows:
        """The round's rows with their responses."""
        ...

    def writing(self, samples: int) -> Players:
        """The same players, sampling so many responses per prompt. Raises ValueError where they sample none."""
        ...

    def account(self, recorded: Rows) -> str:
        """What becomes of the recorded rows, in a sentence for the ledger; "" where there is nothing to say."""
        return ""


def nothing_is_sampled() -> ValueError:
    """The error of players that only read recorded data, asked for a number of samples."""
    return ValueError(
        "play.samples does not apply: this method trains on recorded responses and samples none"
    )


def name_of(who: Who) -> str:
    """A policy's name in a sentence."""
    if isinstance(who, Geometric):
        return "a mixture of two policies"
    if isinstance(who, Past):
        return "a past iterate, drawn for each prompt"
    names = {
        START: "the policy itself",
        BEFORE: "the previous iterate",
        INITIAL: "the reference",
        AVERAGE: "the moving average",
        UNIFORM: "the uniform distribution over responses",
    }
    return names.get(who, who) if isinstance(who, str) else str(who)
