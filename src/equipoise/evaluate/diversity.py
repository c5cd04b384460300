"""Diversity of answers: distinct n-grams, and how much a model's answers to one prompt repeat each other."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from equipoise.core.intervals import POSITIVE, Interval, clustered_mean

ORDER = 4
MOST = 16  # answers to one prompt that are compared with each other


def words(text: str) -> list[str]:
    """A text's words, as they stand between white space."""
    return text.split()


def distinct(texts: Sequence[str], n: int) -> float | None:
    """Distinct-n (Li et al. 2016): different n-grams of words over all n-grams; None where there is none.

    Falls with the amount of text: compare samples of equal size.
    """
    every = [gram for text in texts for gram in _grams(words(text), n)]
    return len(set(every)) / len(every) if every else None


def self_bleu(answers: Sequence[Sequence[str]]) -> Interval | None:
    """Self-BLEU (Zhu et al. 2018): mean BLEU-4 of each answer against the others to its prompt, clustered by prompt.

    answers   texts by prompt; prompts with one answer say nothing. 1: they are all alike. None without two answers to
              any prompt. Of more than 16 answers to a prompt the first 16 are compared.
    """
    values, prompts = [], []
    for number, group in enumerate(answers):
        split = [words(text) for text in group[:MOST]]
        if len(split) < 2:
            continue
        for i, own in enumerate(split):
            values.append(bleu(own, split[:i] + split[i + 1 :]))
            prompts.append(number)
    return clustered_mean(values, prompts, bounds=(0.0, 1.0)) if values else None


def bleu(candidate: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Sentence BLEU-4 in [0, 1]: geometric mean of clipped n-gram precisions times the brevity penalty.

    Precisions of orders above 1 have 1 added to both counts (Lin & Och 2004), so that one missing order does not make
    the whole 0. An empty candidate scores 1 against an empty reference, else 0.
    """
    if not candidate:
        return float(any(not reference for reference in references))
    logs = 0.0
    for n in range(1, ORDER + 1):
        own = Counter(_grams(candidate, n))
        most: Counter[tuple[str, ...]] = Counter()
        for reference in references:
            most |= Counter(_grams(reference, n))
        hits, every, extra = sum((own & most).values()), sum(own.values()), n > 1
        if not hits + extra:
            return 0.0
        logs += math.log((hits + extra) / (every + extra)) / ORDER
    length = len(candidate)
    closest = min((abs(len(r) - length), len(r)) for r in references)[1]
    return math.exp(logs + min(0.0, 1 - closest / length))


def figures(by: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Distinct-1, -2, -3, self-BLEU and the mean length in characters of answers by prompt."""
    texts = [text for group in by.values() for text in group]
    prompts = np.repeat(np.arange(len(by)), [len(group) for group in by.values()])
    return {f"distinct_{n}": distinct(texts, n) for n in (1, 2, 3)} | {
        "self_bleu": self_bleu(list(by.values())),
        "characters": clustered_mean([float(len(text)) for text in texts], prompts, bounds=POSITIVE),
    }


def _grams(tokens: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    return (tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))
