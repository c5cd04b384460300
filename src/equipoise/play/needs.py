"""Data requirements of a method: the kind of recorded feedback, and whether an oracle is needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Records = Literal["pairs", "unpaired", "lists", "demonstrations"]


@dataclass(frozen=True, kw_only=True)
class Needs:
    """Inputs that a run must be given; the default is prompts only.

    records      "pairs"           a chosen and a rejected response to one prompt
                 "unpaired"        single responses labelled desirable or undesirable; pairs are split
                 "lists"           ranked or scored lists of responses
                 "demonstrations"  responses to imitate; the chosen one of a pair, the best of a list
    margins      the pairs say by how much the chosen response is better.
    rationales   the pairs come with a text that explains the preference.
    oracle       an oracle is needed to compare two responses.
    votes        the oracle must say how uncertain it is: several members, or passes with dropout.

    Raises ValueError for margins or rationales without pairs, and for votes without an oracle.
    """

    records: Records | None = None
    margins: bool = False
    rationales: bool = False
    oracle: bool = False
    votes: bool = False

    def __post_init__(self) -> None:
        if (self.margins or self.rationales) and self.records != "pairs":
            raise ValueError(f"margins and rationales need pairs, got {self.records or 'prompts only'}")
        if self.votes and not self.oracle:
            raise ValueError("votes need an oracle")

    def __or__(self, other: Needs) -> Needs:
        """Combined needs of two components. Raises ValueError if they read different kinds of records."""
        if self.records and other.records and self.records != other.records:
            raise ValueError(f"its components read different records: {self.records} and {other.records}")
        return Needs(
            records=self.records or other.records,
            margins=self.margins or other.margins,
            rationales=self.rationales or other.rationales,
            oracle=self.oracle or other.oracle,
            votes=self.votes or other.votes,
        )

    @property
    def data(self) -> str:
        """The recorded data in words."""
        words = {
            None: "prompts",
            "pairs": "preference pairs",
            "unpaired": "unpaired responses (each desirable or undesirable), or pairs",
            "lists": "ranked lists",
            "demonstrations": "demonstrations, pairs or ranked lists",
        }[self.records]
        more = [name for name in ("margins", "rationales") if getattr(self, name)]
        return f"{words} with {' and '.join(more)}" if more else words

    def __str__(self) -> str:
        more = [name for name in ("margins", "rationales") if getattr(self, name)]
        records = [f"{self.records} with {' and '.join(more)}" if more else self.records] * bool(self.records)
        return " and ".join([*map(str, records), *self._oracle()]) or "prompts"

    def _oracle(self) -> list[str]:
        return ["an oracle that votes" if self.votes else "oracle"] * self.oracle


NOTHING = Needs()
ORACLE = Needs(oracle=True)
ORACLE_WITH_VOTES = Needs(oracle=True, votes=True)
PAIRS = Needs(records="pairs")
PAIRS_WITH_MARGINS = Needs(records="pairs", margins=True)
PAIRS_WITH_RATIONALES = Needs(records="pairs", rationales=True)
UNPAIRED = Needs(records="unpaired")
LISTS = Needs(records="lists")
DEMONSTRATIONS = Needs(records="demonstrations")
