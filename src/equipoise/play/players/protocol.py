"""The players protocol: who writes the responses of a round.

Players are the first phase of a round (`play.round`), the stage "sampling", with the verbs `prompts`, `recorded` and
`sample`. They promise the width of a row, so that a pairing can refuse it before anything is sampled.

    sampled      one policy, a mixture, several policies
    recorded     the data's responses, with samples in further columns or in later rounds
    unpaired     single labelled responses
    by_domain    recorded pairs, one domain after another
    rejection    rejection sampling among many candidates
    perturbed    the policy and a random perturbation of it
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from equipoise.play.component import Component
from equipoise.play.rows import Rows
from equipoise.play.state import AVERAGE, BEFORE, INITIAL, START, UNIFORM, Geometric, Past, State, Who
from equipoise.play.world import World


class Players(Component, Protocol):
    """Who writes the responses of a round, and how many."""

    @property
    def width(self) -> int | None:
        """Number of responses per row that `write` gives; None if the recorded data decide."""
        ...

    @property
    def exchangeable(self) -> bool:
        """Whether a row's responses are samples of one policy, so that they may be paired in any way."""
        return False

    @property
    def sampled(self) -> bool:
        """Whether a policy writes any of the responses; the others are recorded."""
        return True

    @property
    def parts(self) -> int:
        """Rounds per pass over the recorded data; each takes every parts-th comparison."""
        return 1

    def write(self, world: World, state: State) -> Rows:
        """The round's rows with their responses."""
        ...

    def writing(self, samples: int) -> Players:
        """The same players with `samples` responses per prompt. Raises ValueError if they do not sample."""
        ...

    def taught(self) -> Players:
        """The same players with a teacher's responses (`play.teacher`) in the place of recorded ones. Raises ValueError
        if they have no such place."""
        raise ValueError(f"play.teacher does not apply: the players are {self.describe()}")

    def tellings(self, names: Sequence[str]) -> Sequence[tuple[dict[str, float], str]]:
        """(direction among named scores, template that tells it) to evaluate; () where prompts tell none."""
        return ()

    def account(self, recorded: Rows) -> str:
        """How the recorded rows are used, in a sentence for the ledger; "" if there is nothing to say."""
        return ""


def nothing_is_sampled() -> ValueError:
    """Error for setting a number of samples of players that only read recorded data."""
    return ValueError(
        "play.samples does not apply: this method trains on recorded responses and samples none"
    )


def name_of(who: Who) -> str:
    """A policy's name as it appears in a sentence."""
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
