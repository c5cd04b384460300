"""Data requirements of a method: which recorded feedback a run must be given, and whether an oracle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Records = Literal["pairs", "unpaired", "lists", "demonstrations"]


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a run must be given; nothing at all means prompts alone.

    records      "pairs"           a chosen and a rejected response to one prompt
                 "unpaired"        single responses, desirable or undesirable; pairs are taken apart
                 "lists"           ranked or scored lists of responses
                 "demonstrations"  responses to imitate; of pairs the chosen one, of lists the best
    margins      the pairs say by how much the chosen response is better.
    rationales   the pairs come with a text that says why.
    oracle       an oracle must answer which of two responses is better.

    Raises ValueError for margins or rationales of anything but pairs.
    """

    records: Records | None = None
    margins: bool = False
    rationales: bool = False
    oracle: bool = False

    def __post_init__(self) -> None:
        if (self.margins or self.rationales) and self.records != "pairs":
            raise ValueError(f"margins and rationales are those of pairs, not of {self.records or 'prompts'}")

    def __or__(self, other: Needs) -> Needs:
        """What two choices of one method need together. Raises ValueError where they read different records."""
        if self.records and other.records and self.records != other.records:
            raise ValueError(f"one choice reads {self.records}, another {other.records}")
        return Needs(
            records=self.records or other.records,
            margins=self.margins or other.margins,
            rationales=self.rationales or other.rationales,
            oracle=self.oracle or other.oracle,
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
        return " and ".join([*map(str, records), *["oracle"] * self.oracle]) or "prompts"


NOTHING = Needs()
ORACLE = Needs(oracle=True)
PAIRS = Needs(records="pairs")
PAIRS_WITH_MARGINS = Needs(records="pairs", margins=True)
PAIRS_WITH_RATIONALES = Needs(records="pairs", rationales=True)
UNPAIRED = Needs(records="unpaired")
LISTS = Needs(records="lists")
DEMONSTRATIONS = Needs(records="demonstrations")
