"""Properties of a response that its text shows, and which of two responses has more of each: -1, 0 or 1."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from equipoise.data.errors import DataError
from equipoise.evaluate.oracle_check.comparisons import Comparisons, Floats

# Longer than the other: least words of the longer response, by the words of the shorter, up to 11 words.
LONGER_THAN = (1, 3, 5, 7, 8, 10, 11, 13, 14, 16, 17, 19)
# Beyond: the shorter has at most this share of the longer's words, and at least so many fewer.
LONGER_BY = ((0.7, 10), (0.8, 20), (0.9, 40))

WORD = re.compile(r"\w+(?:['’]\w+)*")


def words(text: str) -> list[str]:
    """The words of a text in lower case."""
    return WORD.findall(text.casefold())


def longer(a: int, b: int) -> int:
    """1 if a response of a words is clearly longer than one of b, -1 if clearly shorter, else 0.

    Source: the length label of Li et al. 2024 (2402.11296), as their code has it (VERIFIED-CODE).
    """
    if a < b:
        return -longer(b, a)
    if b < len(LONGER_THAN):
        return int(a >= LONGER_THAN[b])
    return int(any(b <= share * a and a - b >= more for share, more in LONGER_BY))


@dataclass(frozen=True)
class Property:
    """One property: how much of it a response has, and by how much two must differ to count as different."""

    amount: Callable[[str], float]
    about: str
    band: float = 0.0


def _count(pattern: str, flags: int = re.IGNORECASE) -> Callable[[str], float]:
    compiled = re.compile(pattern, flags)
    return lambda text: float(sum(1 for _ in compiled.finditer(text)))


def _has(pattern: str, flags: int = re.IGNORECASE) -> Callable[[str], float]:
    compiled = re.compile(pattern, flags)
    return lambda text: float(compiled.search(text) is not None)


def _per_100_words(pattern: str) -> Callable[[str], float]:
    count = _count(pattern)
    return lambda text: 100 * count(text) / max(len(words(text)), 1)


def repeated(text: str) -> float:
    """Share of a text's three-word sequences that have occurred before."""
    said = words(text)
    triples = Counter(zip(said, said[1:], said[2:], strict=False))
    total = sum(triples.values())
    return (total - len(triples)) / total if total else 0.0


LINES = re.IGNORECASE | re.MULTILINE
PROPERTIES: Mapping[str, Property] = {
    "repetitive": Property(repeated, "share of three-word sequences that occur again", 0.02),
    "lists": Property(_count(r"^\s*(?:[-*•]|\d+[.)])\s+\S", LINES), "lines that are items of a list", 1),
    "headings": Property(_count(r"^\s*#{1,6}\s+\S", LINES), "Markdown headings"),
    "bold": Property(_count(r"\*\*[^*\n]+\*\*"), "bold spans"),
    "code": Property(_has(r"```|^(?: {4}|\t)\S+.*[;{}()=]", LINES), "blocks of code"),
    "paragraphs": Property(_count(r"\n\s*\n"), "breaks between paragraphs", 1),
    "numbers": Property(_per_100_words(r"(?<!\w)\d[\d.,:/]*"), "numbers, per 100 words", 1),
    "question asked": Property(_has(r"\?\s*$", re.IGNORECASE), "ends with a question"),
    "exclamation": Property(_count(r"!(?!=)"), "exclamation marks"),
    "first person": Property(
        _per_100_words(r"\b(?:i|i'm|i've|i'd|i’m|me|my|mine)\b"), "I, me, my: per 100 words", 1
    ),
    "second person": Property(
        _per_100_words(r"\b(?:you|your|yours|you're|you’re)\b"), "you, your: per 100 words", 1
    ),
    "hedging": Property(
        _per_100_words(
            r"\b(?:may|might|perhaps|possibly|probably|likely|seems?|appears?|could be|generally|usually|it depends"
            r"|not sure)\b"
        ),
        "may, might, perhaps ...: per 100 words",
        0.5,
    ),
    "apology": Property(_has(r"\b(?:sorry|apologi[sz]e|my apologies)\b"), "an apology"),
    "refusal": Property(
        _has(
            r"\b(?:i (?:can(?:no|['’])t|am unable to|am not able to|won['’]t|do not have (?:the ability|access))"
            r"|as an ai\b|i['’]m (?:unable|not able) to|cannot (?:assist|help|provide))"
        ),
        "declines, or speaks of itself as an AI",
    ),
    "link": Property(_has(r"https?://|www\."), "a web address"),
    "quotation": Property(_count(r"[\"“”]"), "quotation marks", 1),
    "ends cut": Property(
        lambda text: float(bool(re.search(r"\w\s*$", text))), "does not end with punctuation"
    ),
    "empty": Property(lambda text: float(not text.strip()), "says nothing"),
}
LENGTH = "length"
OVERLAP = "prompt words"
BAND_OF_OVERLAP = 0.1


def difference(comparisons: Comparisons, annotated: Sequence[str] = ()) -> tuple[list[str], Floats]:
    """(names, x [N, F]): 1 where a has more of a property than b, -1 where less, 0 where they hardly differ.

    annotated  names of properties that the data hold: NAME stands for the columns chosen_NAME and rejected_NAME of a
               pair (or NAME_chosen and NAME_rejected), two numbers or truth values; a is the chosen answer

    Properties in which no two answers differ are left out. Raises DataError for an annotated name without columns.
    """
    features: dict[str, list[float]] = {name: [] for name in (LENGTH, OVERLAP, *PROPERTIES, *annotated)}
    texts = {text for row in comparisons.rows for text in (row.a, row.b)}
    known = {text: _amounts(text) for text in texts}
    for row in comparisons.rows:
        asked = set(words(last_turn(row.prompt)))
        a, b = known[row.a], known[row.b]
        features[LENGTH].append(longer(int(a[LENGTH]), int(b[LENGTH])))
        features[OVERLAP].append(_more(_overlap(row.a, asked) - _overlap(row.b, asked), BAND_OF_OVERLAP))
        for name, kind in PROPERTIES.items():
            features[name].append(_more(a[name] - b[name], kind.band))
        for name in annotated:
            features[name].append(_annotated(row.columns, name))
    for name in annotated:
        if np.isnan(features[name]).all():
            raise DataError(
                f"annotation {name}: no pair has numbers in the columns chosen_{name} and rejected_{name}"
            )
    table = {name: np.nan_to_num(np.array(values)) for name, values in features.items()}
    names = [name for name, values in table.items() if values.any()]
    return names, np.stack([table[name] for name in names], axis=1) if names else np.zeros(
        (len(comparisons), 0)
    )


def last_turn(prompt: Any) -> str:
    """What the prompt asks last."""
    return prompt if isinstance(prompt, str) else str(prompt[-1].get("content") or "") if prompt else ""


def _amounts(text: str) -> dict[str, float]:
    return {LENGTH: len(words(text))} | {name: kind.amount(text) for name, kind in PROPERTIES.items()}


def _overlap(text: str, asked: set[str]) -> float:
    """Share of a text's words that the prompt has."""
    said = words(text)
    return sum(word in asked for word in said) / len(said) if said else 0.0


def _more(difference: float, band: float) -> int:
    """The sign of a difference above `band`."""
    return (difference > band) - (difference < -band)


def _annotated(columns: Mapping[str, Any], name: str) -> float:
    for one, two in ((f"chosen_{name}", f"rejected_{name}"), (f"{name}_chosen", f"{name}_rejected")):
        if one in columns and two in columns:
            try:
                return float(np.sign(float(columns[one]) - float(columns[two])))
            except (TypeError, ValueError):
                return float("nan")
    return float("nan")
