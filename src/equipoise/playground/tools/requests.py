"""Requests to a handful of tools and the calls that answer them, from one parameter to three calls of several.

    Set a timer for 5 minutes and order 3 large teas .
    [ set_timer( minutes= 5 ) , order( item= 'tea' , count= 3 , size= 'large' ) ]

Words are separated by single spaces, so that a word-level tokenizer writes calls in Python's syntax.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

DRINKS = ("tea", "coffee", "cocoa", "juice")
DRINK_SIZES = ("small", "large")
NAMES = ("Ann", "Bo", "Cy", "Di")
MESSAGES = ("hello", "later", "yes", "no")
DAYS = ("monday", "friday", "sunday")
UNITS = ("km", "miles", "metres")
NUMBERS = tuple(range(1, 10))
MOST_CALLS = 3


def _integer(about: str, **more: Any) -> dict[str, Any]:
    return {"type": "integer", "description": about, **more}


def _one_of(about: str, values: tuple[str, ...], **more: Any) -> dict[str, Any]:
    return {"type": "string", "description": about, "enum": list(values), **more}


def _tool(
    name: str, about: str, required: tuple[str, ...], /, **properties: dict[str, Any]
) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": list(required)}
    return {"name": name, "description": about, "parameters": parameters}


TOOLS: tuple[dict[str, Any], ...] = (
    _tool("set_timer", "Start a timer.", ("minutes",), minutes=_integer("its length")),
    _tool(
        "send",
        "Send a message.",
        ("to", "text"),
        to=_one_of("who gets it", NAMES),
        text=_one_of("what it says", MESSAGES),
    ),
    _tool(
        "order",
        "Order drinks.",
        ("item", "count"),
        item=_one_of("which drink", DRINKS),
        count=_integer("how many"),
        size=_one_of("of each", DRINK_SIZES, default="small"),
    ),
    _tool(
        "convert",
        "Convert a length.",
        ("amount", "unit", "to"),
        amount=_integer("how much"),
        unit=_one_of("its unit", UNITS),
        to=_one_of("the unit wanted", UNITS),
    ),
    _tool(
        "book",
        "Book a table.",
        ("guests", "day", "hour"),
        guests=_integer("how many come"),
        day=_one_of("which day", DAYS),
        hour=_integer("when"),
        name=_one_of("whose table", NAMES, default="Ann"),
    ),
)


@dataclass(frozen=True)
class Request:
    """A request in words, and the calls that answer it: (tool, arguments) in order."""

    text: str
    calls: tuple[tuple[str, Mapping[str, Any]], ...]

    @property
    def answer(self) -> str:
        return written(self.calls)

    @property
    def difficulty(self) -> int:
        """Number of arguments of all calls."""
        return sum(len(arguments) for _, arguments in self.calls)


def written(calls: tuple[tuple[str, Mapping[str, Any]], ...]) -> str:
    """Calls as the model writes them."""
    one = (
        f"{name}( {' , '.join(f'{key}= {value!r}' for key, value in given.items())} )"
        for name, given in calls
    )
    return f"[ {' , '.join(one)} ]"


def _timer(draw: random.Random) -> tuple[str, dict[str, Any]]:
    minutes = draw.choice(NUMBERS)
    return f"set a timer for {minutes} minutes", {"minutes": minutes}


def _send(draw: random.Random) -> tuple[str, dict[str, Any]]:
    to, text = draw.choice(NAMES), draw.choice(MESSAGES)
    return f"tell {to} {text}", {"to": to, "text": text}


def _order(draw: random.Random) -> tuple[str, dict[str, Any]]:
    item, count, large = draw.choice(DRINKS), draw.choice(NUMBERS), draw.random() < 0.5
    size = {"size": "large"} if large else {}
    return f"order {count} {'large ' if large else ''}{item}", {"item": item, "count": count, **size}


def _convert(draw: random.Random) -> tuple[str, dict[str, Any]]:
    unit, to = draw.sample(UNITS, 2)
    amount = draw.choice(NUMBERS)
    return f"convert {amount} {unit} to {to}", {"amount": amount, "unit": unit, "to": to}


def _book(draw: random.Random) -> tuple[str, dict[str, Any]]:
    guests, day, hour = draw.choice(NUMBERS), draw.choice(DAYS), draw.choice(NUMBERS)
    given = {"guests": guests, "day": day, "hour": hour}
    if draw.random() < 0.5:
        return f"book a table for {guests} on {day} at {hour}", given
    name = draw.choice(NAMES[1:])
    return f"book a table for {guests} on {day} at {hour} for {name}", {**given, "name": name}


WRITERS = {"set_timer": _timer, "send": _send, "order": _order, "convert": _convert, "book": _book}


def request(draw: random.Random, calls: int) -> Request:
    """A request of so many different tools, joined by `and`."""
    parts = [(tool, *WRITERS[tool](draw)) for tool in draw.sample(list(WRITERS), calls)]
    text = " and ".join(said for _, said, _ in parts)
    return Request(f"Please {text} .", tuple((tool, given) for tool, _, given in parts))


def requests(count: int, seed: int) -> list[Request]:
    """Different requests, a third each of one, two and three calls."""
    draw, known = random.Random(seed), dict[str, Request]()
    while len(known) < count:
        made = request(draw, 1 + len(known) % MOST_CALLS)
        known.setdefault(made.text, made)
    return list(known.values())


def vocabulary() -> tuple[str, ...]:
    """Every word that a request or its calls may use."""
    texts = [f"Please . and [ ] , ) {' '.join(f'{name}(' for name in WRITERS)}"]
    texts += [f"{key}=" for tool in TOOLS for key in tool["parameters"]["properties"]]
    texts += [
        f"{word} {word!r}" for words in (DRINKS, DRINK_SIZES, NAMES, MESSAGES, DAYS, UNITS) for word in words
    ]
    texts += [str(number) for number in NUMBERS]
    texts += ["set a timer for minutes tell order convert to book table on at"]
    return tuple(dict.fromkeys(word for text in texts for word in text.split()))
