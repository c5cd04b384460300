"""Grammar of the tea house: every request (prompt) of a guest and every answer (response) of the house.

Both are plain sentences whose words are separated by single spaces (punctuation belongs to its word), so a word-level
tokenizer has no boundary effects. Each sentence has attributes: the words that the judges score.

    On a rainy morning a tired farmer asks for tea.      Gladly, a large hot black tea.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from itertools import product

# The attribute that each word of a request asks for. The time of day asks for none: it reverses the style orders.
WEATHERS = {"sunny": "iced", "sultry": "iced", "rainy": "hot", "snowy": "hot"}
TIMES = ("morning", "evening")
MOODS = {"tired": "black", "merry": "green", "restless": "mint"}
GUESTS = {"farmer": "large", "sailor": "large", "poet": "small", "child": "small"}

COURTESIES = ("Gladly,", "Fine,")
SIZES = ("small", "large")
TEMPERATURES = ("iced", "hot")
STYLES = ("black", "green", "mint")


@dataclass(frozen=True)
class Request:
    """A prompt by its attributes."""

    weather: str
    time: str
    mood: str
    guest: str

    @property
    def text(self) -> str:
        return f"On a {self.weather} {self.time} a {self.mood} {self.guest} asks for tea."


@dataclass(frozen=True)
class Answer:
    """A response by its attributes."""

    courtesy: str
    size: str
    temperature: str
    style: str

    @property
    def text(self) -> str:
        return f"{self.courtesy} a {self.size} {self.temperature} {self.style} tea."


REQUESTS = tuple(Request(*words) for words in product(WEATHERS, TIMES, MOODS, GUESTS))
ANSWERS = tuple(Answer(*words) for words in product(COURTESIES, SIZES, TEMPERATURES, STYLES))

_REQUEST_INDEX = {request.text: index for index, request in enumerate(REQUESTS)}
_ANSWER_INDEX = {answer.text: index for index, answer in enumerate(ANSWERS)}


def canonical(text: str) -> str:
    """The text with normalised whitespace: none outside, single spaces inside."""
    return " ".join(text.split())


def request_index(text: str) -> int | None:
    """Index in REQUESTS of a request's text (whitespace normalised), None for any other text."""
    return _REQUEST_INDEX.get(canonical(text))


def answer_index(text: str) -> int | None:
    """Index in ANSWERS of an answer's text (whitespace normalised), None for any other text."""
    return _ANSWER_INDEX.get(canonical(text))


def vocabulary() -> tuple[str, ...]:
    """Every word of the grammar, once, in order of first appearance."""
    sentences = [request.text for request in REQUESTS] + [answer.text for answer in ANSWERS]
    return tuple(dict.fromkeys(word for sentence in sentences for word in sentence.split()))


def is_held_out(request: Request) -> bool:
    """Whether a request is held out: one in three, a new combination of words from the training requests.

    The indices of its four words sum to a multiple of three: a Latin design, so that every pair of words of
    different kinds occurs in the training requests.
    """
    kinds = (tuple(WEATHERS), TIMES, tuple(MOODS), tuple(GUESTS))
    places = (kind.index(word) for kind, word in zip(kinds, astuple(request), strict=True))
    return sum(places) % 3 == 0


def rationale(prompt: int, chosen: int, rejected: int) -> str:
    """Rationale in words of the grammar: what fits the request in the chosen answer and not in the rejected one.

    If nothing does (the judges' style orders decided) it names the chosen style.
    """
    request, better, worse = REQUESTS[prompt], ANSWERS[chosen], ANSWERS[rejected]
    fits = (
        ("courtesy", "Gladly,", ""),
        ("temperature", WEATHERS[request.weather], request.weather),
        ("size", GUESTS[request.guest], request.guest),
        ("style", MOODS[request.mood], request.mood),
    )
    reasons = [
        f"{fit} for {why}" if why else fit
        for name, fit, why in fits
        if getattr(better, name) == fit != getattr(worse, name)
    ]
    return " ".join(reasons) or f"{better.style} tea."
