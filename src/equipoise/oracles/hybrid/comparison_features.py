"""Features of a comparison that say who should label it: lengths, their difference, overlaps and tags, in bins.

Nothing here reads a label, and turning the pair round changes nothing.
Source: Hybrid Preferences (2410.19133): lexical features and binning as in its code; the choice of them is ours.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Numbers: TypeAlias = npt.NDArray[np.float64]
WORD = re.compile(r"\w+", re.UNICODE)
BINS = ("low", "middle", "high")


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A pair of responses to a prompt, to be labelled; tags are what else is known of it, such as its subject."""

    id: str
    prompt: str
    first: str
    second: str
    tags: Mapping[str, str] = field(default_factory=dict)


def lexical(comparison: Comparison) -> dict[str, float]:
    """Lexical features of one comparison, each the same for (first, second) and (second, first).

    prompt_length, response_length, length_difference   in words: of the prompt, the mean of both, |difference|
    length_ratio           shorter / longer, in [0, 1]; 1 for two empty responses
    overlap, pair_overlap  F-measure of common words and of common pairs of neighbouring words (ROUGE-1 and -2)
    prompt_overlap         share of the responses' words that stand in the prompt, mean of both
    name_overlap           Jaccard overlap of what looks like names and numbers; 1 where neither has any
    """
    words = [[w.lower() for w in WORD.findall(text)] for text in (comparison.first, comparison.second)]
    asked = [w.lower() for w in WORD.findall(comparison.prompt)]
    short, long = sorted(map(len, words))
    known = set(asked)
    said = [sum(w in known for w in own) / len(own) if own else 0.0 for own in words]
    names = [_names(text) for text in (comparison.first, comparison.second)]
    either = names[0] | names[1]
    return {
        "prompt_length": float(len(asked)),
        "response_length": (short + long) / 2,
        "length_difference": float(long - short),
        "length_ratio": short / long if long else 1.0,
        "overlap": _f_measure(words[0], words[1]),
        "pair_overlap": _f_measure(*(list(pairwise(own)) for own in words)),
        "prompt_overlap": (said[0] + said[1]) / 2,
        "name_overlap": len(names[0] & names[1]) / len(either) if either else 1.0,
    }


UNIT = ("length_ratio", "overlap", "pair_overlap", "prompt_overlap", "name_overlap")  # in [0, 1]


def _names(text: str) -> set[str]:
    return {w for w in WORD.findall(text) if w[0].isdigit() or (w[0].isupper() and len(w) > 1)}


def _f_measure(first: Sequence[object], second: Sequence[object]) -> float:
    if not first or not second:
        return float(not first and not second)
    common = sum((Counter(first) & Counter(second)).values())
    return 2 * common / (len(first) + len(second))


@dataclass(frozen=True, eq=False)
class Binning:
    """Three bins for each lexical feature, and one column for each value of each tag: comparisons -> [N, F] of 0 and 1.

    edges   feature -> the two edges: thirds of [0, 1] for features that lie there, else the percentiles 33 and 67 of
            the pool it was made on. A value on an edge belongs to the lower bin.
    tags    (name, value) that the pool has; a value that it has not is in no column.
    """

    edges: Mapping[str, tuple[float, float]]
    tags: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, pool: Sequence[Comparison]) -> Binning:
        """The bins of a pool. Raises ValueError for an empty one."""
        if not pool:
            raise ValueError("features are binned on a pool of comparisons, and there is none")
        table = _table(pool)
        edges = {
            name: (1 / 3, 2 / 3) if name in UNIT else _percentiles(values) for name, values in table.items()
        }
        tags = sorted({(name, value) for comparison in pool for name, value in comparison.tags.items()})
        return cls(edges, tuple(tags))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the F columns."""
        lexical_names = [f"{name}: {size}" for name in self.edges for size in BINS]
        return (*lexical_names, *(f"{name} = {value}" for name, value in self.tags))

    def apply(self, comparisons: Sequence[Comparison]) -> Numbers:
        """phi, [N, F]."""
        table = _table(comparisons)
        columns = []
        for name, (low, high) in self.edges.items():
            place = (table[name] > low).astype(int) + (table[name] > high)
            columns += [place == size for size in range(len(BINS))]
        columns += [
            np.array([c.tags.get(name) == value for c in comparisons], dtype=bool)
            for name, value in self.tags
        ]
        return np.stack(columns, axis=1).astype(np.float64)


def _table(comparisons: Sequence[Comparison]) -> dict[str, Numbers]:
    found = [lexical(comparison) for comparison in comparisons]
    names = lexical(Comparison(id="", prompt="", first="", second=""))
    return {name: np.array([row[name] for row in found], dtype=np.float64) for name in names}


def _percentiles(values: Numbers) -> tuple[float, float]:
    low, high = np.percentile(values, [100 / 3, 200 / 3])
    return float(low), float(high)
