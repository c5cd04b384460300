"""Adversarial linear MDP with unknown transitions: what a learner knows from its own paths (2301.12942).

The policy of FTRL stays for an epoch of W episodes. With a small probability an episode explores: it follows a policy
cover, which seeks the features that are least known. One half of the epoch gives the covariance, the other one Q^, and
all transitions seen so far give the bonus of the next state, by least squares: in a linear MDP its mean is linear in
phi. The steps are those of Luo et al. 2021 (2107.08346), RECALLED, and the covariance's inverse is taken of the mean
with a ridge, in place of matrix geometric resampling. DERIVED where this module says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from equipoise.games.repeated.adversarial_mdp import (
    EXPLORATION,
    Paths,
    PolicyOptimiser,
    Reading,
    Tuning,
    covariance_inverse,
    times,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Schedule:
    """Tuning of FTRL over epochs, with their width W and the share of the episodes that explore.

    The terms of the regret over K/W epochs of W/2 estimates each, with x = H eta, for finitely many states (DERIVED;
    logarithms and powers of H dropped):

        W cost/x + K x + d K beta/H + gamma K H/beta + share K

    cost as in `Tuning.of`. The penalty counts each epoch W times. A mean of W/2 estimates has the variance of Q, and
    d/W of it. A covariance of W/2 episodes is as good as a ridge gamma = d/W, and the beta of `Tuning.of` balances the
    third term with the fourth, K d/sqrt(W). So x = sqrt(W cost/K), and W = (d/2) sqrt(K/cost) balances the two groups:
    every term is K^(3/4), with share = c sqrt(gamma), c = EXPLORATION. The error of the least squares adds the range of
    the bonus, at most beta/gamma ~ K^(1/4), times sqrt(K). Magnitude-reduced estimates need x <= sqrt(gamma).

    The paper's K^(8/9) holds for any number of states, where values that depend on all earlier paths have no small
    cover; the tuning that it uses was not found. Exponential weights with plain estimates have no tuning here.
    """

    tuning: Tuning
    width: int
    share: float

    @classmethod
    def of(cls, learner: PolicyOptimiser, features: Float[Tensor, "R H S A d"], episodes: int) -> Schedule:
        """The tuning for a known number of episodes K, the same for every run.

        Raises ValueError for exponential weights with plain estimates, and for fewer than two episodes.
        """
        if not learner.refined:
            raise ValueError("plain estimates have no tuning without a simulator: take barrier or reduced")
        if episodes < 2:
            raise ValueError(f"an epoch needs two episodes, got {episodes}")
        runs, steps, _, actions, dimension = features.shape
        cost = learner.cost(actions, torch.tensor(float(episodes), dtype=torch.float64))
        width = 2 * max(1, min(episodes // 2, round(float(dimension * (episodes / cost).sqrt()) / 4)))
        gamma = torch.tensor(dimension / width, dtype=torch.float64)
        x = (width * cost / episodes).sqrt().clamp(max=1 if learner.barrier else float(gamma.sqrt()))
        every = Tuning.with_bonus(x.expand(runs), gamma.expand(runs), steps=steps, dimension=dimension)
        return cls(tuning=every, width=width, share=min(1.0, EXPLORATION * float(gamma.sqrt())))


@dataclass(frozen=True, eq=False)
class FittedModel:
    """Transitions by ridge regression on one-hot next states, and how well each feature is known.

        mu^_h = Lambda_h^-1 sum phi_h e_{s'}^T,    Lambda_h = I + sum phi_h phi_h^T

    features     phi
    transitions  counts [R, H - 1, S, A, S] of state, action and next state
    visits       counts [R, H, S, A] of state and action
    """

    features: Float[Tensor, "R H S A d"]
    latent: Float[Tensor, "R G d S"]
    unknown: Float[Tensor, "R H S A"]

    @classmethod
    def of(
        cls,
        features: Float[Tensor, "R H S A d"],
        transitions: Float[Tensor, "R G S A S"],
        visits: Float[Tensor, "R H S A"],
    ) -> FittedModel:
        inverse = covariance_inverse(features, visits, features.new_ones(len(features)))
        joint = torch.einsum("rhsad,rhsat->rhdt", features[:, :-1], transitions)
        unknown = (times(features, inverse) * features).sum(dim=4).sqrt()
        return cls(features, inverse[:, :-1] @ joint, unknown)

    def ahead(self, h: int, value: Float[Tensor, "R S"]) -> Float[Tensor, "R S A"]:
        """Optimistic mean of a value of the next state, within the value's range.

        min V + phi^T mu^ (V - min V) + c sqrt(d) (max V - min V) |phi| in the norm of Lambda^-1. The last term bounds
        the error of the regression up to logarithms, with c = EXPLORATION. DERIVED.
        """
        low = value.amin(dim=1)[:, None, None]
        span = value.amax(dim=1)[:, None, None] - low
        mean = self.features[:, h] @ (self.latent[:, h] @ (value[..., None] - low))[:, None]
        slack = EXPLORATION * self.features.shape[4] ** 0.5 * self.unknown[:, h]
        return low + (mean.squeeze(3) + slack * span).clamp(min=0).minimum(span)

    def curious(self) -> Float[Tensor, "R H S A"]:
        """The policy that is greedy for |phi| in the norm of Lambda^-1 along its path, at optimistic transitions."""
        layers: list[Tensor] = []
        value = self.unknown.new_zeros(self.unknown[:, 0, :, 0].shape)
        for h in range(self.features.shape[1] - 1, -1, -1):
            gain = self.unknown[:, h] + (self.ahead(h, value) if layers else 0)
            value = gain.amax(dim=2)
            layers.append(torch.nn.functional.one_hot(gain.argmax(dim=2), gain.shape[2]).to(gain.dtype))
        return torch.stack(layers[::-1], dim=1)


@dataclass(eq=False)
class OwnPaths:
    """Knowledge from the learner's own paths: it holds the features, and sees states, actions and losses that it met.

    features  phi, of R runs side by side
    width     W, episodes of an epoch
    share     probability that an episode explores
    seeds     [R], of the exploration

    The policy cover is the mixture of the uniform policy and, of each epoch so far, the policy `curious` of what was
    known after it (Luo et al. 2021 build theirs in episodes before the first epoch). An exploring episode follows one
    of its policies, in the half for the covariance throughout, in the half for Q^ up to and with a random step; from
    there on it follows FTRL's, so that L of that step is a sample of Q. That step counts H times, its others 0 times:
    both halves then have the covariance (1 - share) E_pi phi phi^T + share E_cover phi phi^T.
    """

    features: Float[Tensor, "R H S A d"]
    width: int
    share: float
    seeds: Sequence[int]
    transitions: Float[Tensor, "R G S A S"] = field(init=False)
    visits: Float[Tensor, "R H S A"] = field(init=False)
    cover: list[Float[Tensor, "R H S A"]] = field(init=False)

    def __post_init__(self) -> None:
        runs, steps, states, actions, _ = self.features.shape
        self._generators = [np.random.default_rng([seed, 4]) for seed in self.seeds]
        self._weights = self.features.new_ones(runs, self.width, steps)
        self.transitions = self.features.new_zeros(runs, steps - 1, states, actions, states)
        self.visits = self.features.new_zeros(runs, steps, states, actions)
        self.cover = [torch.full_like(self.visits, 1 / actions)]

    def plays(self, policy: Float[Tensor, "R H S A"], episodes: int) -> Float[Tensor, "N H S A"]:
        """The policy, and in episodes that explore a policy of the cover in its place up to the last step it holds."""
        steps = policy.shape[1]
        drawn = torch.from_numpy(np.stack([g.random((episodes, 3)) for g in self._generators]))
        explores = drawn[..., 0:1] < self.share
        last = (drawn[..., 1:2] * steps).long()
        last[:, : episodes // 2] = steps - 1
        counted = steps * (torch.arange(steps) == last)
        self._weights = torch.where(explores, counted, 1).to(policy.dtype)
        member = (drawn[..., 2] * len(self.cover)).long()
        played = policy.unsqueeze(1).repeat(1, episodes, 1, 1, 1)
        for run, k in explores.squeeze(2).nonzero().tolist():
            until = int(last[run, k]) + 1
            played[run, k, :until] = self.cover[int(member[run, k])][run, :until]
        return played.flatten(0, 1)

    def read(self, policy: Float[Tensor, "R H S A"], paths: Paths) -> Reading:
        """Visits of the first half, weighted paths of the second, and the fit to all transitions so far."""
        half = paths.states.shape[1] // 2
        first = self._counts(paths, slice(0, half))
        self.visits += first + self._counts(paths, slice(half, None))
        self._count_transitions(paths)
        model = FittedModel.of(self.features, self.transitions, self.visits)
        self.cover.append(model.curious())
        met = paths.met(self.features)[:, half:] * self._weights[:, half:, :, None]
        return Reading(first / max(half, 1), met, paths.ahead()[:, half:], model)

    def _counts(self, paths: Paths, some: slice) -> Float[Tensor, "R H S A"]:
        """How often each state and action was met at each step."""
        states, actions = self.features.shape[2:4]
        place = paths.states[:, some] * actions + paths.actions[:, some]
        return _histogram(place, states * actions).view_as(self.visits)

    def _count_transitions(self, paths: Paths) -> None:
        states, actions = self.features.shape[2:4]
        place = (paths.states * actions + paths.actions)[..., :-1] * states + paths.states[..., 1:]
        self.transitions += _histogram(place, states * actions * states).view_as(self.transitions)


def _histogram(place: Int[Tensor, "R N H"], bins: int) -> Float[Tensor, "R H B"]:
    """Counts of whole numbers over N."""
    at = place.transpose(1, 2)
    counts = torch.zeros(*at.shape[:2], bins, dtype=torch.float64)
    return counts.scatter_add_(2, at, torch.ones(at.shape, dtype=torch.float64))
