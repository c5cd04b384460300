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
    for place in sorted(draw.permutation(len(pairs))[: round(repeats * len(pairs))].tolist()):
        earliest = place + apart + 0.5
        latest = max(earliest, float(len(pairs)))
        placed.append((float(draw.uniform(earliest, latest + 1)), True, order[place]))
    placed.sort(key=lambda item: item[0])
    sides = draw.integers(0, 2, len(placed)).tolist()
    return [Item(pairs[i], left, again) for (_, again, i), left in zip(placed, sides, strict=True)]
