"""Data requirements of a method: the kind of recorded feedback, and whether an oracle is needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Records = Literal["pairs", "unpaired", "lists", "scores", "demonstrations"]


@dataclass(frozen=True, kw_only=True)
class Needs:
    """Inputs that a run must be given; the default is prompts only.

    records      "pairs"           a chosen and a rejected response to one prompt
                 "unpaired"        single responses labelled desirable or undesirable; pairs are split
                 "lists"           ranked or scored lists of responses
                 "scores"          lists of responses, each with a numeric reward
                 "demonstrations"  responses to imitate; the chosen one of a pair, the best of a list
    margins      the pairs say by how much the chosen response is better.
    rationales   the pairs come with a text that explains the preference.
    goals        the pairs' responses have scores, and each pair is read at the goals of both (`data.goals`).
    oracle       an oracle is needed to compare two responses.
    votes        the oracle must say how uncertain it is: several members, or passes with dropout.
    scores       the oracle must give a single response a scalar reward.
    named_scores   the oracle must give a response several named scores, such as rewards of groups of users.

    Raises ValueError for margins, rationales or goals without pairs, and for votes or scores without an oracle.
    """

    records: Records | None = None
    margins: bool = False
    rationales: bool = False
    goals: bool = False
    oracle: bool = False
    votes: bool = False
    scores: bool = False
    named_scores: bool = False

    def __post_init__(self) -> None:
        if (self.margins or self.rationales or self.goals) and self.records != "pairs":
            raise ValueError(
                f"margins, rationales and goals need pairs, got {self.records or 'prompts only'}"
            )
        if (self.votes or self.scores or self.named_scores) and not self.oracle:
            raise ValueError("votes and scores need an oracle")

    def __or__(self, other: Needs) -> Needs:
        """Combined needs of two components. Raises ValueError if they read different kinds of records."""
        if self.records and other.records and self.records != other.records:
            raise ValueError(f"its components read different records: {self.records} and {other.records}")
        return Needs(
            records=self.records or other.records,
            margins=self.margins or other.margins,
            rationales=self.rationales or other.rationales,
            goals=self.goals or other.goals,
            oracle=self.oracle or other.oracle,
            votes=self.votes or other.votes,
            scores=self.scores or other.scores,
            named_scores=self.named_scores or other.named_scores,
        )

    @property
    def lists(self) -> bool:
        """Whether the recorded data are lists of responses, ranked or scored."""
        return self.records in ("lists", "scores")

    @property
    def data(self) -> str:
        """The recorded data in words."""
        words = {
            None: "prompts",
            "pairs": "preference pairs",
            "unpaired": "unpaired responses (each desirable or undesirable), or pairs",
            "lists": "ranked lists",
            "scores": "lists of responses with numeric rewards",
            "demonstrations": "demonstrations, pairs or ranked lists",
        }[self.records]
        more = [name for name in ("margins", "rationales", "goals") if getattr(self, name)]
        return f"{words} with {' and '.join(more)}" if more else words

    def __str__(self) -> str:
        more = [name for name in ("margins", "rationales", "goals") if getattr(self, name)]
        records = [f"{self.records} with {' and '.join(more)}" if more else self.records] * bool(self.records)
        return " and ".join([*map(str, records), *self._oracle()]) or "prompts"

    def _oracle(self) -> list[str]:
        asked = {"votes": self.votes, "scores": self.scores, "gives named scores": self.named_scores}
        can = [what for what, needed in asked.items() if needed]
        return [f"an oracle that {' and '.join(can)}" if can else "oracle"] * self.oracle


NOTHING = Needs()
ORACLE = Needs(oracle=True)
ORACLE_WITH_SCORES = Needs(oracle=True, scores=True)
ORACLE_WITH_NAMED_SCORES = Needs(oracle=True, named_scores=True)
ORACLE_WITH_VOTES = Needs(oracle=True, votes=True)
PAIRS = Needs(records="pairs")
PAIRS_WITH_MARGINS = Needs(records="pairs", margins=True)
PAIRS_WITH_RATIONALES = Needs(records="pairs", rationales=True)
PAIRS_WITH_GOALS = Needs(records="pairs", goals=True)
UNPAIRED = Needs(records="unpaired")
LISTS = Needs(records="lists")
SCORED_LISTS = Needs(records="scores")
DEMONSTRATIONS = Needs(records="demonstrations")
