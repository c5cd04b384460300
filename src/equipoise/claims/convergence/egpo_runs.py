"""The simulations of EGPO (2503.08942): plain gradient descent on ten random games at once, exact or from samples.

A policy is a table of logits or a small network; a method is the gradient of its loss in the logits, which the
policy carries back to its parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from equipoise.claims.draws import moved_seed, torch_draws
from equipoise.core.dims import Payoff, PerPrompt, Strategy
from equipoise.games import PreferenceGame, TabularPolicy, gap_tau, zoo

EGPO, OMD, ONLINE_IPO, NASH_MD, NASH_MD_PG = "EGPO", "OMD", "online IPO 2", "Nash-MD", "Nash-MD-PG"
METHODS = (EGPO, OMD, ONLINE_IPO, NASH_MD, NASH_MD_PG)
GAMES, WIDTH = 10, 10


@dataclass(frozen=True)
class Setting:
    """One row of the paper's simulations. samples per step: 0 for exact gradients; neural: a three-layer network."""

    name: str
    beta: float
    rounds: int
    lr: float
    samples: int = 0
    neural: bool = False

    @property
    def actions(self) -> int:
        return 100 if self.neural else 10

    @property
    def eta(self) -> float:
        """Step of the game update that the rate makes in a table: eta beta = 4 lr/N."""
        return 4 * self.lr / (self.beta * self.actions)


@dataclass(frozen=True)
class Round:
    """What a gradient reads: the game, the current policy and the opponent, [G, N]; draws if it samples."""

    preference: Payoff
    reference: Strategy  # log-probs
    policy: Strategy  # log-probs
    opponent: Strategy  # probabilities
    beta: float
    samples: int
    generator: torch.Generator

    def draw(self, probs: Strategy) -> Tensor:
        return torch.multinomial(probs, self.samples, replacement=True, generator=self.generator)

    @property
    def ratio(self) -> Strategy:
        return self.policy - self.reference

    def wins(self, first: Tensor, second: Tensor) -> Tensor:
        flat = first * self.preference.shape[1] + second
        return self.preference.flatten(1).gather(1, flat)


Gradient = Callable[[Round], Strategy]


def regression(now: Round) -> Strategy:
    """Of E( lr(y) - lr(y') - (P(y > q) - P(y' > q))/beta )^2, y and y' uniform: (4/N)(d - mean d)."""
    size = now.policy.shape[1]
    if not now.samples:
        d = now.ratio - torch.einsum("xab,xb->xa", now.preference, now.opponent) / now.beta
        return 4 / size * (d - d.mean(dim=1, keepdim=True))
    even = torch.full_like(now.opponent, 1 / size)
    y, z, third = now.draw(even), now.draw(even), now.draw(now.opponent)
    target = (now.wins(y, third) - now.wins(z, third)) / now.beta
    return pair_gradient(now, y, z, target)


def own_pairs(now: Round) -> Strategy:
    """Of E( lr(y) - lr(y') - (P(y > y') - 1/2)/beta )^2, y and y' by the policy itself: 4 pi (d - E_pi d)."""
    probs = now.policy.exp()
    if not now.samples:
        d = now.ratio - torch.einsum("xab,xb->xa", now.preference, probs) / now.beta
        return 4 * probs * (d - (probs * d).sum(dim=1, keepdim=True))
    y, z = now.draw(probs), now.draw(probs)
    return pair_gradient(now, y, z, (now.wins(y, z) - 0.5) / now.beta)


def policy_gradient(now: Round) -> Strategy:
    """Of -E sg[ P(y > q) - beta lr(y) ] log pi(y), y by the policy itself: -pi (A - E_pi A)."""
    probs = now.policy.exp()
    if not now.samples:
        gain = torch.einsum("xab,xb->xa", now.preference, now.opponent) - now.beta * now.ratio
        return -probs * (gain - (probs * gain).sum(dim=1, keepdim=True))
    y, z = now.draw(probs), now.draw(now.opponent)
    gain = (now.wins(y, z) - now.beta * now.ratio.gather(1, y)) / now.samples
    return probs * gain.sum(dim=1, keepdim=True) - torch.zeros_like(probs).scatter_add(1, y, gain)


def pair_gradient(now: Round, y: Tensor, z: Tensor, target: Tensor) -> Strategy:
    """Gradient of the mean over sampled pairs of (lr(y) - lr(z) - target)^2 in the logits."""
    off = 2 * (now.ratio.gather(1, y) - now.ratio.gather(1, z) - target) / now.samples
    return torch.zeros_like(now.policy).scatter_add(1, y, off).scatter_add(1, z, -off)


GRADIENTS: dict[str, Gradient] = {
    EGPO: regression,
    OMD: regression,
    ONLINE_IPO: own_pairs,
    NASH_MD: regression,
    NASH_MD_PG: policy_gradient,
}


def table(parameters: list[Tensor]) -> Strategy:
    return parameters[0]


def network(parameters: list[Tensor]) -> Strategy:
    """Three layers of width WIDTH on a constant input, one network per game."""
    w1, b1, w2, b2, w3, b3 = parameters
    hidden = torch.tanh(w1.sum(dim=2) + b1)
    hidden = torch.tanh((w2 * hidden.unsqueeze(1)).sum(dim=2) + b2)
    return (w3 * hidden.unsqueeze(1)).sum(dim=2) + b3


def start(setting: Setting, games: PreferenceGame) -> list[Tensor]:
    """The table of the games' own reference, or random networks, whose policy at the start is the reference."""
    if not setting.neural:
        return [games.reference.log()]
    generator = torch_draws(0)
    shapes = [
        (WIDTH, WIDTH),
        (WIDTH,),
        (WIDTH, WIDTH),
        (WIDTH,),
        (setting.actions, WIDTH),
        (setting.actions,),
    ]
    return [
        torch.randn(GAMES, *shape, generator=generator, dtype=torch.float64) / WIDTH**0.5 for shape in shapes
    ]


def play(setting: Setting, method: str, at: Collection[int]) -> dict[int, PerPrompt]:
    """Regularised gap [GAMES] after the listed rounds. EGPO takes two gradients a round, the others one."""
    drawn = [zoo.random(setting.actions, moved_seed(seed)) for seed in range(GAMES)]
    preference = torch.cat([game.preference for game in drawn])
    games = PreferenceGame(preference, torch.cat([game.reference for game in drawn]))
    parameters = start(setting, games)
    logits_of = network if setting.neural else table
    reference = logits_of(parameters).log_softmax(dim=1)
    games = PreferenceGame(preference, reference.exp())
    generator = torch_draws(1)
    mixing = setting.eta * setting.beta

    def moved(opponent: Strategy | None) -> list[Tensor]:
        """One gradient step from `parameters` against the given opponent; None: the policy, or its mixture."""
        held = [part.detach().requires_grad_(setting.neural) for part in parameters]
        logits = logits_of(held)
        policy = logits.detach().log_softmax(dim=1)
        if opponent is None and method in (NASH_MD, NASH_MD_PG):
            opponent = ((1 - mixing) * policy + mixing * reference).softmax(dim=1)
        if opponent is None:
            opponent = policy.exp()
        now = Round(preference, reference, policy, opponent, setting.beta, setting.samples, generator)
        step = GRADIENTS[method](now)
        # in a table the logits are the parameters
        parts = torch.autograd.grad(logits, held, step) if setting.neural else (step,)
        return [part.detach() - setting.lr * g for part, g in zip(held, parts, strict=True)]

    found = {}
    for t in range(1, setting.rounds + 1):
        ahead = moved(None)
        if method == EGPO:
            ahead = moved(logits_of(ahead).softmax(dim=1))
        parameters = ahead
        if t in at:
            found[t] = gap_tau(games, TabularPolicy(logits_of(parameters)), setting.beta)
    return found
