"""Habits of the large tea house: how often it gives each answer, before anyone aligned it.

A guest meets a terse waiter (seven times in ten) or a chatty one, so the parts of an answer depend on each other: who
opens with courtesy also gives reasons. The waiter hears weather and guest only faintly, and pours the styles by the
shares of the drawn cycles (`draws`), against which the panel `skewed` is skewed. Answers have shares from a tenth down
to 1e-6.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from equipoise.playground.large.draws import cycles
from equipoise.playground.large.grammar import (
    ANSWERS,
    EXTRAS,
    GUESTS,
    OPENINGS,
    REQUESTS,
    STYLES,
    WEATHERS,
    Answer,
    Request,
)

FITS = 0.6  # how often a temperature, or a size that is named, is the one that is asked for
VERY = 0.25  # share of very hot teas among the hot ones
OF_HOT = {"iced": 1.0, "hot": 1 - VERY, "very hot": VERY}  # share of each temperature in its kind


@dataclass(frozen=True, kw_only=True)
class Waiter:
    """How often each part is written: openings and extras in the grammar's order, the others as probabilities."""

    share: float
    openings: tuple[float, float, float]
    reason: float
    sized: float
    extras: tuple[float, float, float]
    closing: float

    def writes(self, request: Request, answer: Answer) -> float:
        """Probability of the answer's parts but its style; sums to 1 over them."""
        size = GUESTS[request.guest]
        named = self.sized * (FITS if answer.size == size else 1 - FITS)
        kind = FITS if answer.kind == WEATHERS[request.weather] else 1 - FITS
        return (
            self.openings[OPENINGS.index(answer.opening)]
            * (self.reason if answer.reason else 1 - self.reason)
            * (named if answer.size else 1 - self.sized)
            * kind
            * OF_HOT[answer.temperature]
            * self.extras[EXTRAS.index(answer.extra)]
            * (self.closing if answer.closing else 1 - self.closing)
        )


WAITERS = (
    Waiter(
        share=0.7, openings=(0.6, 0.32, 0.08), reason=0.12, sized=0.4, extras=(0.7, 0.2, 0.1), closing=0.08
    ),
    Waiter(
        share=0.3, openings=(0.2, 0.35, 0.45), reason=0.6, sized=0.75, extras=(0.25, 0.4, 0.35), closing=0.5
    ),
)


@cache
def habits() -> Float[Tensor, "X A"]:
    """Probability of every answer to every request, float64; rows sum to 1."""
    return torch.tensor(
        [[habit(x, y, pours) for y in ANSWERS] for x, pours in zip(REQUESTS, poured(), strict=True)],
        dtype=torch.float64,
    )


def habit(request: Request, answer: Answer, pours: Mapping[str, float]) -> float:
    """Probability that the house gives this answer to this request."""
    return pours[answer.style] * sum(waiter.share * waiter.writes(request, answer) for waiter in WAITERS)


def poured() -> list[dict[str, float]]:
    """The share of each style, for each request."""
    drawn = cycles()
    return [
        dict(zip(STYLES, drawn[request.weather, request.mood].pours.tolist(), strict=True))
        for request in REQUESTS
    ]
