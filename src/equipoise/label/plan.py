"""A rater's plan: the order of the pairs, who stands on which side, and which pairs come again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from equipoise.label.pairs import Pair
from equipoise.play.seeds import Seeds

APART = 10  # questions between a pair and its repeat, at least, where there are so many


@dataclass(frozen=True)
class Item:
    """One question: a pair, the answer (0 or 1) that stands on the left, and whether the pair was shown before."""

    pair: Pair
    left: int
    again: bool = False

    @property
    def sides(self) -> tuple[str, str]:
        """The texts on the left and on the right."""
        texts = self.pair.texts
        return texts[self.left], texts[1 - self.left]


def plan(pairs: Sequence[Pair], seed: int, rater: str, repeats: float = 0.0) -> list[Item]:
    """The questions of one rater: all pairs in random order, and a share `repeats` of them once more, later.

    Sides are drawn for each showing. Everything depends on seed, rater and pairs alone, so that a resumed session goes
    on with the same question.
    """
    draw = Seeds(seed).generator("labelling", rater)
    order = draw.permutation(len(pairs)).tolist()
    apart = min(APART, len(pairs) // 2)
    placed = [(float(place), False, i) for place, i in enumerate(order)]
    early = len(pairs) - apart  # places with so many questions after them; they are the first to come again
    again = [*draw.permutation(early).tolist(), *(early + draw.permutation(apart)).tolist()]
    for place in sorted(again[: round(repeats * len(pairs))]):
        earliest = place + apart + 0.5
        latest = max(earliest, float(len(pairs))) + 1
        placed.append((float(draw.uniform(earliest, latest)), True, order[place]))
    placed.sort(key=lambda item: item[0])
    sides = draw.integers(0, 2, len(placed)).tolist()
    return [Item(pairs[i], left, again) for (_, again, i), left in zip(placed, sides, strict=True)]
