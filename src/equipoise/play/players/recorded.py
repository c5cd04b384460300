"""Recorded responses as players, optionally with a policy's samples in further columns or later rounds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil
from typing import ClassVar

import numpy as np

from equipoise.play.capabilities import SegmentRewriting, TeacherResponses, needing
from equipoise.play.decoding import Decode
from equipoise.play.needs import DEMONSTRATIONS, NOTHING, PAIRS, Needs
from equipoise.play.players.protocol import Players, name_of, nothing_is_sampled
from equipoise.play.rows import Rows
from equipoise.play.state import AVERAGE, START, State, Who
from equipoise.play.world import World


@dataclass(frozen=True, kw_only=True)
class Recorded(Players):
    """Recorded comparisons, each followed by `own` responses of a policy to the same prompt (SPAC: one of its own).

    parts   rounds per pass over the data; each takes every parts-th comparison.
    needs   kind of the records: pairs, pairs with margins or rationales, lists.
    """

    own: int = 0
    by: Who = START
    parts: int = 1
    needs: Needs = PAIRS
    parameters: ClassVar[tuple[str, ...]] = ("parts",)

    @property
    def width(self) -> int | None:
        # a rationale is a third column
        return None if self.needs.lists else 2 + self.needs.rationales + self.own

    def write(self, world: World, state: State) -> Rows:
        rows = world.recorded(state).part(state.round - 1, self.parts)
        return world.sample(state, rows, self.by, self.own) if self.own else rows

    @property
    def sampled(self) -> bool:
        return self.own > 0

    def writing(self, samples: int) -> Recorded:
        if not self.own:
            raise nothing_is_sampled()
        return replace(self, own=samples)

    def describe(self) -> str:
        own = f" and {self.own} response{'s' if self.own > 1 else ''} by {name_of(self.by)}"
        return f"recorded {self.needs}" + (own if self.own else "")


@dataclass(frozen=True, kw_only=True)
class Demonstrations(Players):
    """Responses to imitate, each labelled desirable; of a pair the preferred one."""

    needs: ClassVar[Needs] = DEMONSTRATIONS
    width: ClassVar[int] = 1

    def write(self, world: World, state: State) -> Rows:
        rows = world.recorded(state)
        if rows.responses.shape[1] == 1:
            return rows
        chosen = rows.preferred_first().columns([np.zeros(len(rows), int)])
        return replace(chosen, reward=np.ones((len(rows), 1)))

    @property
    def sampled(self) -> bool:
        return False

    def writing(self, samples: int) -> Demonstrations:
        raise nothing_is_sampled()

    def describe(self) -> str:
        return "recorded responses to imitate"


@dataclass(frozen=True, kw_only=True)
class Targets(Players):
    """Preferred responses of the data, or a teacher's, each followed by `own` samples of a policy (SPIN).

    parts    rounds per pass over the data, or over the prompts; each takes every parts-th.
    teacher  a model behind a server writes the first response to each prompt, and nothing recorded is read.
    temperature, top_p   decoding that belongs to the method, see `play.decoding`; None: the run's.
    """

    own: int
    by: Who = START
    parts: int = 1
    teacher: bool = False
    temperature: float | None = None
    top_p: float | None = None

    @property
    def decode(self) -> Decode:
        """The method's own decoding."""
        return Decode(temperature=self.temperature, top_p=self.top_p)

    @property
    def parameters(self) -> tuple[str, ...]:
        return ("parts", *self.decode.given())

    @property
    def needs(self) -> Needs:
        return NOTHING if self.teacher else PAIRS

    @property
    def capabilities(self) -> tuple[type, ...]:
        return (TeacherResponses,) if self.teacher else ()

    @property
    def width(self) -> int:
        return 1 + self.own

    def write(self, world: World, state: State) -> Rows:
        if self.teacher:
            prompts = world.prompts(state).part(state.round - 1, self.parts)
            first = needing(world, TeacherResponses).taught(state, prompts)
        else:
            first = _preferred(world.recorded(state), state, self.parts)
        return world.sample(state, first, self.by, self.own, self.decode)

    def writing(self, samples: int) -> Targets:
        return replace(self, own=samples)

    def taught(self) -> Targets:
        return replace(self, teacher=True)

    def describe(self) -> str:
        first = "a teacher's response" if self.teacher else "recorded preferred responses"
        return f"{first} and {self.own} by {name_of(self.by)}"


@dataclass(frozen=True, kw_only=True)
class Segments(Players):
    """Recorded preferred responses, each followed by a copy with one segment resampled from a policy (SAPO).

    longest   maximal segment length in tokens; a response no longer than that is resampled as a whole.
    pairs     at most so many of the data's pairs in a round, one part of them after another; 0: all in every round.
    """

    longest: int = 256
    by: Who = AVERAGE
    pairs: int = 0
    parameters: ClassVar[tuple[str, ...]] = ("longest", "pairs")
    needs: ClassVar[Needs] = PAIRS
    capabilities: ClassVar[tuple[type, ...]] = (SegmentRewriting,)
    width: ClassVar[int] = 2

    def __post_init__(self) -> None:
        if self.longest < 1:
            raise ValueError(f"longest must be at least 1 token, got {self.longest!r}")
        if self.pairs < 0:
            raise ValueError(f"pairs must be at least 0, got {self.pairs!r}")

    def write(self, world: World, state: State) -> Rows:
        recorded = world.recorded(state)
        parts = ceil(len(recorded) / self.pairs) if self.pairs else 1
        rows = _preferred(recorded, state, max(1, parts))
        return needing(world, SegmentRewriting).rewrite(state, rows, self.by, self.longest)

    def writing(self, samples: int) -> Segments:
        if samples != 1:
            raise ValueError(
                f"play.samples must be 1 here: one segment is resampled per response; got {samples}"
            )
        return self

    def describe(self) -> str:
        return f"recorded preferred responses, each also with one segment resampled from {name_of(self.by)}"


def _preferred(recorded: Rows, state: State, parts: int) -> Rows:
    """One column: the preferred response of each recorded pair in the round's part of the data."""
    rows = recorded.part(state.round - 1, parts)
    return rows.preferred_first().columns([np.zeros(len(rows), int)])


@dataclass(frozen=True, kw_only=True)
class RecordedThenSampled(Players):
    """A labelled seed in round 1, a share of the recorded pairs; from round 2 on, `samples` responses per prompt by the
    policy.

    labelled      of the recorded pairs whose labels are read, in (0, 1]; evenly spaced rows, at least one.
    temperature   decoding that belongs to the method, see `play.decoding`; None: the run's.

    Exact games, which hold the population of pairs, read all of it.
    """

    samples: int = 2
    labelled: float = 1.0
    temperature: float | None = None
    needs: ClassVar[Needs] = PAIRS

    def __post_init__(self) -> None:
        if not 0 < self.labelled <= 1:
            raise ValueError(f"labelled must be a share in (0, 1], got {self.labelled!r}")
        _ = self.decode  # refuses what is out of range

    @property
    def decode(self) -> Decode:
        """The method's own decoding."""
        return Decode(temperature=self.temperature)

    @property
    def parameters(self) -> tuple[str, ...]:
        return ("labelled", *self.decode.given())

    @property
    def width(self) -> int:
        """Responses per row from round 2 on; the recorded pairs of round 1 are used as they are."""
        return self.samples

    def write(self, world: World, state: State) -> Rows:
        if state.round == 1:
            recorded = world.recorded(state)
            return recorded.take(self._seed(len(recorded)))
        return world.sample(state, world.prompts(state), START, self.samples, self.decode)

    def _seed(self, total: int) -> np.ndarray:
        """The seed's rows among `total`."""
        count = min(total, max(1, round(self.labelled * total)))
        return np.arange(count) * total // max(1, count)

    def writing(self, samples: int) -> RecordedThenSampled:
        return replace(self, samples=samples)

    def account(self, recorded: Rows) -> str:
        if self.labelled == 1:
            return ""
        seed = len(self._seed(len(recorded)))
        return (
            f"the labels of {seed:,} of {len(recorded):,} recorded pairs are read, in round 1 (labelled = "
            f"{self.labelled:g}); the others give their prompts alone"
        )

    def describe(self) -> str:
        share = "recorded pairs" if self.labelled == 1 else f"{100 * self.labelled:g} % of the recorded pairs"
        return f"{share} in round 1, then {self.samples} responses by the policy itself"
