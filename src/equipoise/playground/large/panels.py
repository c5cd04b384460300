r"""Panels of the large tea house: who judges, over one grammar.

Judge g gives answer y to request x a reward r_g(x, y), a sum of tastes times features (fits the weather, is courteous,
...). The probabilities that y beats y' are

    skewed          1/2 + u(y) - u(y') + m_x[style y, style y'], m_x the drawn cycle (`draws`), u in [0, QUALITY]
    bradley_terry   sigma(r(y) - r(y')), one judge, with an order of styles
    length          the same with PER_WORD for every word of y; gold: without it
    noisy           as bradley_terry, but told by votes of noisy judges (`votes`)
    gold_proxy      sigma(r'(y) - r'(y')), r' a reward learned from few pairs (`proxy`); gold: bradley_terry
    users           sum_g share_g sigma(r_g(y) - r_g(y')), three groups of users
    rare            as bradley_terry, but an answer of reference share 1e-4 is the best

Every text outside the grammar counts as one that loses to the worst answer with probability 0.99.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields
from functools import cache
from itertools import combinations_with_replacement
from math import log
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from equipoise.playground.language import INSIDE_WINS
from equipoise.playground.large.draws import cycles
from equipoise.playground.large.grammar import (
    ANSWERS,
    GUESTS,
    MOODS,
    OPENINGS,
    REQUESTS,
    STYLES,
    WEATHERS,
    Answer,
    Request,
)
from equipoise.playground.large.habits import habits
from equipoise.playground.large.proxy import learned_reward

PanelName = Literal["skewed", "bradley_terry", "length", "noisy", "gold_proxy", "users", "rare"]
PANELS: tuple[PanelName, ...] = get_args(PanelName)
PER_WORD = 0.12  # of the panel "length", for every word
RARE, BEST = 1e-4, 4.0  # reference share of the rare answer, and what it earns above the best other one
QUALITY = 0.06  # what all but the style decides in the panel "skewed", in probability
SHARES = {"regulars": 0.6, "visitors": 0.3, "critics": 0.1}  # of the panel "users"


@dataclass(frozen=True, kw_only=True)
class Taste:
    """What a judge pays for each feature of an answer; `styles` from the worst to the best, as the mood turns them."""

    courtesy: float = 1.2
    effusion: float = -0.6
    size: float = 0.8
    temperature: float = 1.2
    very: float = 0.1
    extra: float = 0.5
    reason: float = -0.2
    closing: float = -0.3
    style: float = 1.3
    turn: int = 0

    @classmethod
    def names(cls) -> list[str]:
        """Names of the features."""
        return [field.name for field in fields(cls) if field.name != "turn"]

    def weights(self) -> list[float]:
        return [getattr(self, name) for name in self.names()]


HOST = Taste()
TASTES = {
    "regulars": HOST,
    "visitors": Taste(courtesy=0.6, effusion=0.6, closing=0.6, size=0.3, extra=1.2, turn=1),
    "critics": Taste(courtesy=-0.4, effusion=-0.8, reason=-0.6, closing=-0.8, extra=-0.3, turn=2),
}


def features(request: Request, answer: Answer, turn: int = 0) -> list[float]:
    """The features of an answer in `Taste`'s order. The mood, and the judge's turn, say which style is liked."""
    size, kind = GUESTS[request.guest], WEATHERS[request.weather]
    place = STYLES.index(answer.style) - list(MOODS).index(request.mood) - turn
    honeyed = bool(answer.extra) and bool(MOODS[request.mood])
    return [
        float(bool(answer.opening)),
        float(answer.opening == OPENINGS[-1]),
        1.0 if answer.size == size else 0.0 if answer.size else 0.5,
        float(answer.kind == kind),
        float(answer.temperature == "very hot") * (1 if request.weather == "snowy" else -1),
        1.0 if answer.extra == MOODS[request.mood] else 0.5 * honeyed,
        float(answer.reason),
        float(answer.closing),
        float(place % len(STYLES) - 1),
    ]


@cache
def rewards(taste: Taste) -> Float[Tensor, "X A"]:
    """A judge's reward of every answer to every request, float64."""
    return _features(taste.turn) @ torch.tensor(taste.weights(), dtype=torch.float64)


def lengths() -> Tensor:
    """Words of each answer."""
    return torch.tensor([len(answer.text.split()) for answer in ANSWERS], dtype=torch.float64)


def rare_answers() -> list[int]:
    """For each request the answer whose share in the habits is nearest to `RARE`."""
    return list(map(int, (habits().log() - log(RARE)).abs().argmin(1)))


@dataclass(frozen=True, eq=False)
class Panel:
    """The preference of one panel, made a request at a time: the whole table would take a gigabyte.

    rewards   [G, X, A + 1] of each judge, the last answer standing for all other text
    shares    [G] of the judges
    cycles    [X, 3, 3] margins between the styles. The link is then linear, P = 1/2 + r - r' + margin, so that no
              style gains or loses by the quality of its answers; None: there is no cycle, and the link is logistic
    gold      [X, A + 1] the reward that measures, where the panel judges by another; None: it is the panel's own
    """

    name: PanelName
    rewards: Float[Tensor, "G X A1"]
    shares: Tensor
    cycles: Float[Tensor, "X S S"] | None = None
    gold: Float[Tensor, "X A1"] | None = None

    def table(self, prompt: int) -> Float[Tensor, "A1 A1"]:
        """P[a, b] for one request, float64, P + P^T = 1; the last row and column stand for text outside the grammar."""
        every = torch.arange(len(ANSWERS) + 1)
        return self.compare(torch.tensor(prompt), every[:, None], every[None, :])

    def compare(self, prompt: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """P(a beats b) of single comparisons, by index; the arguments broadcast."""
        gap = self.rewards[:, prompt, a] - self.rewards[:, prompt, b]
        if self.cycles is None:
            return torch.einsum("g,g...->...", self.shares, torch.sigmoid(gap))
        styles, outside = _styles(), len(ANSWERS)
        margin = self.cycles[prompt, styles[a], styles[b]]
        inside = torch.where(b == outside, torch.full_like(margin, INSIDE_WINS), 0.5 + gap[0] + margin)
        alone = torch.where(b == outside, torch.full_like(margin, 0.5), 1 - INSIDE_WINS)
        return torch.where(a == outside, alone, inside)

    def gold_table(self, prompt: int) -> Float[Tensor, "A1 A1"]:
        """`table` of the reward that measures."""
        if self.gold is None:
            return self.table(prompt)
        reward = self.gold[prompt]
        return torch.sigmoid(reward[:, None] - reward[None, :])


@cache
def panel(name: PanelName) -> Panel:
    """The panel of this name. Raises ValueError for a name that is none."""
    if name not in PANELS:
        raise ValueError(f"the large tea house has the panels {', '.join(PANELS)}, got {name!r}")
    one, host = torch.ones(1, dtype=torch.float64), rewards(HOST)
    if name == "skewed":
        plain, drawn = rewards(Taste(style=0.0)), cycles()
        worst, best = plain.min(1, keepdim=True).values, plain.max(1, keepdim=True).values
        quality = QUALITY * (plain - worst) / (best - worst)
        margins = torch.stack([torch.from_numpy(drawn[x.weather, x.mood].margins) for x in REQUESTS])
        return Panel(name, with_outside(quality)[None], one, cycles=margins)
    if name == "users":
        each = torch.stack([with_outside(rewards(TASTES[group])) for group in SHARES])
        return Panel(name, each, torch.tensor(list(SHARES.values()), dtype=torch.float64))
    if name == "length":
        return Panel(name, with_outside(host + PER_WORD * lengths())[None], one, gold=with_outside(host))
    if name == "gold_proxy":
        return Panel(
            name, with_outside(learned_reward(_seen(), host, habits()))[None], one, gold=with_outside(host)
        )
    if name == "rare":
        at = torch.tensor(rare_answers())[:, None]
        host = host.scatter(1, at, host.max(1, keepdim=True).values + BEST)
    return Panel(name, with_outside(host)[None], one)


def with_outside(reward: Float[Tensor, "X A"]) -> Float[Tensor, "X A1"]:
    """The rewards, and one below all of them for every text outside the grammar."""
    floor = reward.min(1, keepdim=True).values - log(INSIDE_WINS / (1 - INSIDE_WINS))
    return torch.cat([reward, floor], dim=1)


@cache
def _features(turn: int) -> Float[Tensor, "X A F"]:
    return torch.tensor([[features(x, y, turn) for y in ANSWERS] for x in REQUESTS], dtype=torch.float64)


def _seen() -> Float[Tensor, "X A F"]:
    """What the learned reward sees: the judge's features, and every pair of an answer's parts."""
    parts = [[str(part) for part in astuple(answer)] for answer in ANSWERS]
    names = range(len(parts[0]))
    columns = []
    for i, j in combinations_with_replacement(names, 2):
        values = sorted({(answer[i], answer[j]) for answer in parts})
        columns += [[float((answer[i], answer[j]) == value) for answer in parts] for value in values[1:]]
    paired = torch.tensor(columns, dtype=torch.float64).T
    return torch.cat([_features(0), paired.expand(len(REQUESTS), -1, -1)], dim=2)


@cache
def _styles() -> Tensor:
    """[A + 1] the style's number of each answer; the last is of no answer, and counts for nothing."""
    return torch.tensor([*(STYLES.index(answer.style) for answer in ANSWERS), 0])
