"""The judges of the tea house: a panel whose majority has Condorcet cycles, and a single transitive judge.

Judge j gives answer y to request x the score

    s_j(x, y) = c_j [y is courteous] + z_j [size fits the guest] + t_j [temperature fits the weather]
              + MOOD_BONUS [y has the style that fits the mood] + STYLE_STEP * place_j(x, style of y)

with place in {-1, 0, +1}: each judge ranks the three styles in a different order, and the evening reverses every
order. With independent noise judge j prefers y to y' with probability p_j = sigma(s_j(y) - s_j(y')), and the
panel's preference is the probability that a majority does; for three judges
p1 p2 + p1 p3 + p2 p3 - 2 p1 p2 p3. The judges agree on everything but the style, and their style orders are
rotations of one another, so the majority is cyclic: black beats green beats mint beats black in the
morning, the reverse in the evening. An answer that fits in everything but style strictly dominates
the others of its style, so the Nash equilibrium mixes exactly the three fitting answers; with edge margins m
it is (m_green_mint, m_mint_black, m_black_green) / sum (DERIVED; the tests confirm it by a linear program).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from equipoise.playground.grammar import ANSWERS, GUESTS, MOODS, REQUESTS, TIMES, WEATHERS, Answer, Request

MOOD_BONUS = 0.12
STYLE_STEP = 1.3


@dataclass(frozen=True, kw_only=True)
class Judge:
    """A Bradley-Terry judge: `styles` from best to worst in the morning, and the score of each fitting attribute.

    reverses    whether the evening reverses the order of styles
    """

    name: str
    styles: tuple[str, str, str]
    courtesy: float
    size: float
    temperature: float
    reverses: bool = True

    def score(self, request: Request, answer: Answer) -> float:
        """Score s_j(x, y) of the module's formula; unbounded, higher is better."""
        place = 1 - self.styles.index(answer.style)
        direction = -1 if self.reverses and request.time != TIMES[0] else 1
        return (
            self.courtesy * (answer.courtesy == "Gladly,")
            + self.size * (answer.size == GUESTS[request.guest])
            + self.temperature * (answer.temperature == WEATHERS[request.weather])
            + MOOD_BONUS * (answer.style == MOODS[request.mood])
            + STYLE_STEP * direction * place
        )


HOST = Judge(name="host", styles=("black", "green", "mint"), courtesy=1.0, size=0.8, temperature=1.3)
DOCTOR = Judge(name="doctor", styles=("green", "mint", "black"), courtesy=0.8, size=1.1, temperature=1.0)
TRAVELLER = Judge(
    name="traveller", styles=("mint", "black", "green"), courtesy=1.1, size=1.0, temperature=1.1
)
# two groups of users that like the styles in opposite orders at all hours, and the share of each among the users
REGULAR = Judge(
    name="regular",
    styles=("black", "green", "mint"),
    courtesy=1.0,
    size=0.8,
    temperature=1.3,
    reverses=False,
)
VISITOR = replace(REGULAR, name="visitor", styles=("mint", "green", "black"))
GROUPS = (REGULAR, VISITOR)
SHARES = (0.75, 0.25)
PANEL = (HOST, DOCTOR, TRAVELLER)


def scores(judges: Sequence[Judge]) -> Float[Tensor, "J X A"]:
    """Every judge's score of every answer to every request, float64."""
    table = [[[judge.score(x, y) for y in ANSWERS] for x in REQUESTS] for judge in judges]
    return torch.tensor(table, dtype=torch.float64)


def majority(votes: Float[Tensor, "J ..."]) -> Tensor:
    """Probability that more than half of J independent judges vote yes; judge j does so with probability votes[j].

    The distribution of the number of yes votes is built one judge at a time. Raises ValueError for an even number
    of judges, where a majority need not exist.
    """
    judges = len(votes)
    if judges % 2 == 0:
        raise ValueError(f"a majority needs an odd number of judges, got {judges}")
    count = [torch.ones_like(votes[0])]
    for yes in votes:
        none, zero = 1 - yes, torch.zeros_like(yes)
        stay, rise = [*count, zero], [zero, *count]
        count = [none * a + yes * b for a, b in zip(stay, rise, strict=True)]
    return torch.stack(count[judges // 2 + 1 :]).sum(0)


def population(judges: Sequence[Judge], shares: Sequence[float]) -> Float[Tensor, "X A A"]:
    """P(a beats b) for a user drawn from groups with these shares: sum_g share_g sigma(s_g(a) - s_g(b)); as above."""
    s = scores(judges)
    each = torch.sigmoid(s[..., :, None] - s[..., None, :])
    return torch.einsum("j,jxab->xab", torch.tensor(shares, dtype=torch.float64), each)


def preference(judges: Sequence[Judge]) -> Float[Tensor, "X A A"]:
    """P(a beats b) by the majority of the judges; [x, a, b], float64, P + P^T = 1."""
    s = scores(judges)
    return majority(torch.sigmoid(s[..., :, None] - s[..., None, :]))
