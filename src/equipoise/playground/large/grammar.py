"""Grammar of the large tea house: 128 requests (prompts) and 972 answers (responses) of 4 to 30 words.

As in the first tea house a sentence is words between single spaces, and a word-level tokenizer knows each. Different
from there: answers have different lengths, words agree with each other over a distance (an article with the next word,
a reason with the temperature that follows), and some answers are nearly the same ("hot", "very hot").

    On a snowy day a tired farmer asks for tea.
    Gladly, because cold days call for warmth, an enormous very hot black tea with honey. Please rest here a while.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from itertools import product
from typing import Literal, get_args

from equipoise.playground.grammar import canonical

# what each word of a request asks for: a temperature, something with the tea, a size
WEATHERS = {"sunny": "iced", "sultry": "iced", "rainy": "hot", "snowy": "hot"}
MOODS = {"tired": "wild honey", "merry": "", "restless": "honey", "anxious": "wild honey"}
GUESTS = {
    "farmer": "enormous",
    "sailor": "enormous",
    "poet": "small",
    "child": "small",
    "baker": "enormous",
    "weaver": "small",
    "pilgrim": "enormous",
    "miner": "small",
}
NEW_GUESTS = ("pilgrim", "miner")  # in no training request

Opening = Literal["", "Gladly,", "With the greatest pleasure, my dear guest,"]
Size = Literal["", "small", "enormous"]
Temperature = Literal["iced", "hot", "very hot"]
Style = Literal["black", "green", "mint"]
Extra = Literal["", "honey", "wild honey"]
OPENINGS, SIZES, TEMPERATURES, STYLES, EXTRAS = map(get_args, (Opening, Size, Temperature, Style, Extra))

REASONS = {"iced": "because warm days call for shade,", "hot": "because cold days call for warmth,"}
ADDED = {"": "tea.", "honey": "tea with honey.", "wild honey": "tea with a spoon of wild honey."}
CLOSING = "Please rest here a while."


def article(word: str) -> str:
    """The article that agrees with the word after it."""
    return "an" if word[0] in "aeiou" else "a"


@dataclass(frozen=True)
class Request:
    """A prompt by its attributes."""

    weather: str
    mood: str
    guest: str

    @property
    def text(self) -> str:
        return f"On a {self.weather} day {article(self.mood)} {self.mood} {self.guest} asks for tea."


@dataclass(frozen=True)
class Answer:
    """A response by its attributes; `reason` says whether it gives the reason that agrees with its temperature."""

    opening: Opening
    reason: bool
    size: Size
    temperature: Temperature
    style: Style
    extra: Extra
    closing: bool

    @property
    def kind(self) -> str:
        """The temperature's kind: a very hot tea is a hot one."""
        return self.temperature.removeprefix("very ")

    @property
    def text(self) -> str:
        served = [*filter(None, [self.size]), self.temperature, self.style]
        words = [
            self.opening,
            REASONS[self.kind] if self.reason else "",
            article(served[0]),
            *served,
            ADDED[self.extra],
            CLOSING if self.closing else "",
        ]
        text = " ".join(filter(None, words))
        return text[0].upper() + text[1:]


REQUESTS = tuple(Request(*words) for words in product(WEATHERS, MOODS, GUESTS))
ANSWERS = tuple(
    Answer(*parts)
    for parts in product(OPENINGS, (False, True), SIZES, TEMPERATURES, STYLES, EXTRAS, (False, True))
)

_REQUEST_INDEX = {request.text: index for index, request in enumerate(REQUESTS)}
_ANSWER_INDEX = {answer.text: index for index, answer in enumerate(ANSWERS)}

Split = Literal["train", "combinations", "words"]


def request_index(text: str) -> int | None:
    """Index in REQUESTS of a request's text (whitespace normalised), None for any other text."""
    return _REQUEST_INDEX.get(canonical(text))


def answer_index(text: str) -> int | None:
    """Index in ANSWERS of an answer's text (whitespace normalised), None for any other text."""
    return _ANSWER_INDEX.get(canonical(text))


def split_of(request: Request) -> Split:
    """Where a request belongs: "train" (64), "combinations" (32) of words that are trained on, or "words" (32).

    A request is a new combination if the indices of its words sum to a multiple of three, so that every pair of words
    occurs in training requests; it has new words if its guest is met in no training request.
    """
    if request.guest in NEW_GUESTS:
        return "words"
    kinds = (tuple(WEATHERS), tuple(MOODS), tuple(GUESTS))
    places = (kind.index(word) for kind, word in zip(kinds, astuple(request), strict=True))
    return "combinations" if sum(places) % 3 == 0 else "train"
