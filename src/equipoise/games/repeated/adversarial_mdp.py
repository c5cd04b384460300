"""Adversarial linear MDP with bandit feedback: policy optimisation by FTRL in every state, and its regret (2301.12942).

An episode has H steps. Dynamics are known and fixed, losses are chosen by an adversary before each of K episodes:

    P_h(s'|s, a) = phi_h(s, a)^T mu_h(s'),    l_kh(s, a) = phi_h(s, a)^T v_kh,    phi_h(s, a) in the d-simplex,

so that Q of every policy under every loss is linear in phi. The learner sees the losses on its own path and no others.
What it knows of the dynamics is a `Knowledge`: all of them here, its own paths in `simulator_free`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from equipoise.games.repeated.regret import ENTROPY, LOG_BARRIER, Regulariser, magnitude_reduced

EXPLORATION = (
    0.1  # of the bonus that the analysis asks for: its constants are worst cases, its rate in K is kept
)
CHUNK = 256  # episodes whose random numbers are drawn together


@dataclass(frozen=True, eq=False)
class LinearMdp:
    """R linear MDPs of one size side by side.

    features  phi [R, H, S, A, d], each row in the d-simplex
    latent    mu [R, H - 1, d, S], the next state's distribution of each latent feature
    start     [R, S], distribution of the first state

    Raises ValueError for tensors that do not fit together or are no distributions.
    """

    features: Float[Tensor, "R H S A d"]
    latent: Float[Tensor, "R G d S"]
    start: Float[Tensor, "R S"]

    def __post_init__(self) -> None:
        runs, steps, states, _, dimension = self.features.shape
        if self.latent.shape != (runs, steps - 1, dimension, states) or self.start.shape != (runs, states):
            raise ValueError(
                f"features {tuple(self.features.shape)}, latent {tuple(self.latent.shape)} and start "
                f"{tuple(self.start.shape)} do not fit together"
            )
        for name, rows in (("features", self.features), ("latent", self.latent), ("start", self.start)):
            if not bool((rows >= 0).all()) or not torch.allclose(rows.sum(dim=-1), rows.new_ones(())):
                raise ValueError(f"{name} must be distributions over their last axis")

    @property
    def steps(self) -> int:
        return self.features.shape[1]

    @cached_property
    def transitions(self) -> Float[Tensor, "R G S A S"]:
        """P_h(s'|s, a) of the first H - 1 steps."""
        return torch.einsum("rhsad,rhdt->rhsat", self.features[:, :-1], self.latent)

    def losses(self, weights: Float[Tensor, "R H d"]) -> Float[Tensor, "R H S A"]:
        """l_h(s, a) = phi_h(s, a)^T v_h."""
        return (self.features * weights[:, :, None, None]).sum(dim=4)

    def ahead(self, h: int, value: Float[Tensor, "R S"]) -> Float[Tensor, "R S A"]:
        """E of a value of the next state, for every state and action of step h."""
        return (self.transitions[:, h] * value[:, None, None]).sum(dim=3)

    def repeated(self, episodes: int) -> LinearMdp:
        """[R * episodes]: each run as often as it has episodes to play side by side."""
        if episodes == 1:
            return self
        return LinearMdp(
            *(x.repeat_interleave(episodes, dim=0) for x in (self.features, self.latent, self.start))
        )


def random_mdp(seed: int, *, steps: int, states: int, actions: int, dimension: int) -> LinearMdp:
    """One random linear MDP: features and next states from Dirichlet distributions, a uniform first state."""
    draw = np.random.default_rng([seed, 0])
    features = draw.dirichlet(np.full(dimension, 0.1), size=(1, steps, states, actions))
    latent = draw.dirichlet(np.full(states, 0.5), size=(1, steps - 1, dimension))
    start = torch.full((1, states), 1 / states, dtype=torch.float64)
    return LinearMdp(torch.from_numpy(features), torch.from_numpy(latent), start)


def together(mdps: Sequence[LinearMdp]) -> LinearMdp:
    """Several MDPs of one size side by side."""
    return LinearMdp(
        *(torch.cat([getattr(m, name) for m in mdps]) for name in ("features", "latent", "start"))
    )


def occupancy(mdp: LinearMdp, policy: Float[Tensor, "R H S A"]) -> Float[Tensor, "R H S A"]:
    """Probability of state and action at each step under a policy."""
    at, layers = mdp.start, []
    for h in range(mdp.steps):
        layers.append(at.unsqueeze(-1) * policy[:, h])
        if h + 1 < mdp.steps:
            at = (layers[-1].unsqueeze(-1) * mdp.transitions[:, h]).sum(dim=(1, 2))
    return torch.stack(layers, dim=1)


def best_value(mdp: LinearMdp, losses: Float[Tensor, "R H S A"]) -> Float[Tensor, R]:
    """Least expected loss of an episode over all policies, by backward induction."""
    value = losses[:, -1].amin(dim=2)
    for h in range(mdp.steps - 2, -1, -1):
        value = (losses[:, h] + mdp.ahead(h, value)).amin(dim=2)
    return (mdp.start * value).sum(dim=1)


class Model(Protocol):
    """What the bonus needs of the dynamics: the features, and the mean of a value of the next state.

    The dynamics themselves (`LinearMdp`) or an estimate of them.
    """

    @property
    def features(self) -> Float[Tensor, "R H S A d"]: ...

    def ahead(self, h: int, value: Float[Tensor, "R S"]) -> Float[Tensor, "R S A"]:
        """E of a value of the next state, for every state and action of step h."""
        ...


@dataclass(frozen=True, eq=False)
class Paths:
    """States, actions and losses of N episodes of each run."""

    states: Int[Tensor, "R N H"]
    actions: Int[Tensor, "R N H"]
    losses: Float[Tensor, "R N H"]

    def ahead(self) -> Float[Tensor, "R N H"]:
        """L, the losses from each step on."""
        return self.losses.flip(2).cumsum(dim=2).flip(2)

    def met(self, features: Float[Tensor, "R H S A d"]) -> Float[Tensor, "R N H d"]:
        """The features of what was visited."""
        runs, steps = torch.arange(len(features))[:, None, None], torch.arange(features.shape[1])
        return features[runs, steps, self.states, self.actions]


@dataclass(frozen=True, eq=False)
class Reading:
    """What one epoch teaches: visits of the policy, N paths (features and losses from each step on), the dynamics.

    A path that was not drawn from the policy has its features times its importance weight.
    """

    visits: Float[Tensor, "R H S A"]
    path: Float[Tensor, "R N H d"]
    ahead: Float[Tensor, "R N H"]
    model: Model


class Knowledge(Protocol):
    """What a learner knows of the dynamics, all of them or its own paths, and so for how long its policy must stay.

    width  episodes of an epoch, in which the policy of FTRL does not change
    """

    @property
    def width(self) -> int: ...

    def plays(self, policy: Float[Tensor, "R H S A"], episodes: int) -> Float[Tensor, "N H S A"]:
        """What is played in each episode of an epoch, [R * episodes]: the policy, or exploration."""
        ...

    def read(self, policy: Float[Tensor, "R H S A"], paths: Paths) -> Reading:
        """Learn from what these episodes met."""
        ...


@dataclass(frozen=True, eq=False)
class Simulator:
    """Known dynamics, as of a simulator asked infinitely often: exact visits, and every episode is an estimate."""

    mdp: LinearMdp
    width: int = 1

    def plays(self, policy: Float[Tensor, "R H S A"], episodes: int) -> Float[Tensor, "N H S A"]:
        return policy.repeat_interleave(episodes, dim=0)

    def read(self, policy: Float[Tensor, "R H S A"], paths: Paths) -> Reading:
        return Reading(occupancy(self.mdp, policy), paths.met(self.mdp.features), paths.ahead(), self.mdp)


@dataclass(frozen=True, kw_only=True, eq=False)
class Tuning:
    """Of each run [R]: step eta of FTRL, ridge gamma of the covariance, weight beta of the exploration bonus."""

    eta: Float[Tensor, R]
    gamma: Float[Tensor, R]
    beta: Float[Tensor, R]

    @classmethod
    def of(
        cls, cost: Float[Tensor, R], episodes: Float[Tensor, R], *, steps: int, dimension: int, refined: bool
    ) -> Tuning:
        """The tuning that balances the terms of the regret bound, with x = H eta.

            cost/x + d x K + d K beta/H + gamma K H/beta,    beta = c (H^2 eta + H sqrt(gamma/d))

        cost     log A of exponential weights, A log K of the log barrier;  episodes  K of each run
        refined  nothing bounds a single estimate from below by 1/gamma: gamma = x^2 and x = sqrt(cost/(d K)), regret
                 K^(1/2). Otherwise eta Q^ >= -1 is needed, where Q^ may be as low as -H/gamma: gamma = x, and
                 x = (cost^2/(d K^2))^(1/3) balances cost/x with K sqrt(d gamma), regret K^(2/3).

        The rates are the paper's; the constants are derived here, and c = EXPLORATION.
        """
        if refined:
            x = (cost / (dimension * episodes)).sqrt()
            gamma = x.square()
        else:
            x = gamma = (cost.square() / (dimension * episodes.square())).pow(1 / 3)
        return cls.with_bonus(x, gamma, steps=steps, dimension=dimension)

    @classmethod
    def with_bonus(
        cls, x: Float[Tensor, R], gamma: Float[Tensor, R], *, steps: int, dimension: int
    ) -> Tuning:
        """eta = x/H, and the weight beta of the bonus that goes with x and gamma."""
        return cls(eta=x / steps, gamma=gamma, beta=EXPLORATION * steps * (x + (gamma / dimension).sqrt()))


@dataclass(frozen=True, kw_only=True)
class PolicyOptimiser:
    """Policy optimisation with dilated bonuses: FTRL in every state on optimistic estimates of Q.

        pi_k(.|s) = argmin_p  < p, sum_{j<k} Q^_j(s, .) - B_j(s, .) > + Psi(p)/eta
        Q^ = g L,    g(s, a) = phi(s, a)^T (gamma I + E_pi phi phi^T)^-1 phi(s_h, a_h),    L the losses from step h on
        b(s, a) = beta ( |phi(s, a)|^2 + E_{a'~pi} |phi(s, a')|^2 ) in the norm of that inverse
        B(s, a) = b(s, a) + (1 + 1/H) E_{s', a'~pi} B(s', a')

    barrier   Psi is the log barrier (the paper's first algorithm); otherwise negative entropy, exponential weights.
    reduced   the magnitude-reduced estimate in place of g L (its second algorithm, with exponential weights):
              g L - H min(g, 0) + H E[min(g, 0)], of the same mean, and at least H E[min(g, 0)] >= -H/sqrt(gamma).

    Expectations are those of what it knows (`Knowledge`); the estimates of the N episodes of an epoch are averaged.
    Source: Dai et al. 2023 (2301.12942), RECALLED.
    """

    barrier: bool
    reduced: bool

    @property
    def refined(self) -> bool:
        """Whether the regret analysis does without a lower bound of 1/gamma on the estimates."""
        return self.barrier or self.reduced

    @property
    def regulariser(self) -> Regulariser:
        return LOG_BARRIER if self.barrier else ENTROPY

    def tuning(self, mdp: LinearMdp, episodes: Sequence[int]) -> Tuning:
        """The tuning for a known number of episodes of each run."""
        actions, dimension = mdp.features.shape[3:]
        known = torch.tensor(episodes, dtype=torch.float64)
        cost = self.cost(actions, known)
        return Tuning.of(cost, known, steps=mdp.steps, dimension=dimension, refined=self.refined)

    def cost(self, actions: int, episodes: Tensor) -> Tensor:
        """Psi of the best policy less its least value: A log K of the log barrier, log A of exponential weights."""
        return actions * episodes.log() if self.barrier else torch.full_like(episodes, math.log(actions))

    def policy(self, total: Float[Tensor, "R H S A"], tuning: Tuning) -> Float[Tensor, "R H S A"]:
        """pi of every state, from the sum of Q^ - B."""
        return self.regulariser.respond(tuning.eta[:, None, None, None] * total)

    def estimate(
        self,
        features: Float[Tensor, "R H S A d"],
        inverse: Float[Tensor, "R H d d"],
        visits: Float[Tensor, "R H S A"],
        path: Float[Tensor, "R N H d"],
        ahead: Float[Tensor, "R N H"],
    ) -> Float[Tensor, "R H S A"]:
        """Q^, the mean of the estimates of N episodes.

        inverse  of the covariance; visits  the policy's occupancy; path  features met; ahead  losses from each step on
        """
        steps, whitened = features.shape[1], times(features, inverse)
        g = (whitened.unsqueeze(1) * path[..., None, None, :]).sum(dim=5)
        if not self.reduced:
            return (g * ahead[..., None, None]).mean(dim=1)
        kernel = whitened.flatten(2, 3) @ features.flatten(2, 3).mT
        mean = (kernel.clamp(max=0) @ visits.flatten(2).unsqueeze(-1)).view_as(visits).unsqueeze(1)
        # the reduced estimate of H g has the part H g too much: g L = H g + (L - H) g
        reduced = magnitude_reduced(steps * g, steps * mean) + (ahead - steps)[..., None, None] * g
        return reduced.mean(dim=1)


def times(
    features: Float[Tensor, "R H S A d"], matrix: Float[Tensor, "R H d d"]
) -> Float[Tensor, "R H S A d"]:
    """phi^T M for a matrix M of each step."""
    return (features.flatten(2, 3) @ matrix).view_as(features)


def covariance_inverse(
    features: Float[Tensor, "R H S A d"], visits: Float[Tensor, "R H S A"], gamma: Float[Tensor, R]
) -> Float[Tensor, "R H d d"]:
    """(gamma I + sum of phi phi^T over the visits)^-1 of each step."""
    rows = features.flatten(2, 3)
    second = (rows * visits.flatten(2).unsqueeze(-1)).mT @ rows
    return torch.linalg.inv(second + gamma[:, None, None, None] * torch.eye(rows.shape[-1], dtype=rows.dtype))


def dilated_bonus(
    model: Model,
    inverse: Float[Tensor, "R H d d"],
    policy: Float[Tensor, "R H S A"],
    beta: Float[Tensor, R],
) -> Float[Tensor, "R H S A"]:
    """B of one epoch."""
    steps = policy.shape[1]
    norm = (times(model.features, inverse) * model.features).sum(dim=4)
    bonus = beta[:, None, None, None] * (norm + (policy * norm).sum(dim=3, keepdim=True))
    layers = [bonus[:, -1]]
    for h in range(steps - 2, -1, -1):
        after = (policy[:, h + 1] * layers[-1]).sum(dim=2)
        layers.append(bonus[:, h] + (1 + 1 / steps) * model.ahead(h, after))
    return torch.stack(layers[::-1], dim=1)


@dataclass(frozen=True)
class Run:
    """Regret [R] of K episodes against the best fixed policy, and [R] the share of estimates with eta Q^ < -1."""

    regret: Float[Tensor, R]
    below: Float[Tensor, R]


def play_episodes(
    mdp: LinearMdp,
    weights: Float[Tensor, "R K H d"],
    learner: PolicyOptimiser,
    tuning: Tuning,
    seeds: Sequence[int],
    knowledge: Knowledge | None = None,
) -> Run:
    """Expected regret sum_k V_k(pi_k) - min_pi sum_k V_k(pi) of K episodes, in R MDPs at once.

    weights    v_kh in [0, 1], the adversary's losses; a run of fewer episodes than others ends in zeros
    seeds      [R], of the paths: a run depends on its own seed alone
    knowledge  what the learner knows of the dynamics; all, unless given. pi_k is what is played, exploration included

    Raises ValueError for losses outside [0, 1].
    """
    if not bool(((weights >= 0) & (weights <= 1)).all()):
        raise ValueError("the weights of the losses must lie in [0, 1]")
    known: Knowledge = Simulator(mdp) if knowledge is None else knowledge
    runs, episodes = weights.shape[:2]
    total = mdp.features.new_zeros(mdp.features.shape[:4])
    paid, below = total.new_zeros(runs), total.new_zeros(runs)
    epochs = [weights[:, k : k + known.width] for k in range(0, episodes, known.width)]
    each = mdp.repeated(known.width)
    for epoch, uniform in zip(epochs, _uniforms(seeds, known.width, mdp.steps), strict=False):
        count = epoch.shape[1]
        if count < known.width:
            each = mdp.repeated(count)
        policy = learner.policy(total, tuning)
        played = known.plays(policy, count)
        losses = each.losses(epoch.flatten(0, 1))
        paid += (occupancy(each, played) * losses).sum(dim=(1, 2, 3)).view(runs, count).sum(dim=1)
        walked = _walk(each, played, losses, uniform[:, :count].flatten(0, 1))
        paths = Paths(*(x.view(runs, count, -1) for x in walked))
        reading = known.read(policy, paths)
        inverse = covariance_inverse(mdp.features, reading.visits, tuning.gamma)
        estimate = learner.estimate(mdp.features, inverse, reading.visits, reading.path, reading.ahead)
        below += (tuning.eta[:, None, None, None] * estimate < -1).double().mean(dim=(1, 2, 3))
        total += estimate - dilated_bonus(reading.model, inverse, policy, tuning.beta)
    return Run(paid - best_value(mdp, mdp.losses(weights.sum(dim=1))), below / len(epochs))


def _uniforms(seeds: Sequence[int], width: int, steps: int) -> Iterator[Float[Tensor, "R W H"]]:
    """Uniform numbers of one epoch after another, each run's from its own seed."""
    generators = [np.random.default_rng([seed, 1]) for seed in seeds]
    epochs = max(1, CHUNK // width)
    while True:
        yield from torch.from_numpy(np.stack([g.random((epochs, width, steps)) for g in generators], axis=1))


def _walk(
    mdp: LinearMdp,
    policy: Float[Tensor, "N H S A"],
    losses: Float[Tensor, "N H S A"],
    uniform: Float[Tensor, "N H"],
) -> tuple[Int[Tensor, "N H"], Int[Tensor, "N H"], Float[Tensor, "N H"]]:
    """One path of each episode: states, actions and losses; one uniform number draws state and action."""
    every, at = torch.arange(len(policy)), mdp.start
    states, chosen, met = [], [], []
    actions = policy.shape[3]
    for h in range(mdp.steps):
        joint = (at.unsqueeze(-1) * policy[:, h]).flatten(1).cumsum(dim=1)
        # the last entry may be a rounding below 1
        place = (joint < uniform[:, h : h + 1] * joint[:, -1:]).sum(dim=1)
        state, action = place // actions, place % actions
        states.append(state)
        chosen.append(action)
        met.append(losses[every, h, state, action])
        if h + 1 < mdp.steps:
            at = mdp.transitions[every, h, state, action]
    return torch.stack(states, dim=1), torch.stack(chosen, dim=1), torch.stack(met, dim=1)
