"""Finite games with single-policy coverage, and what each method makes of many data sets of one at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from equipoise.claims.claim import Array
from equipoise.claims.draws import numpy_draws
from equipoise.core.dims import Strategy
from equipoise.core.objectives import Spac
from equipoise.games import PairData, TabularPolicy, enumerate_data, minimise, offline, zoo
from equipoise.games.spac_t import SpacRun, actor_step, critic, spac_t

COVERED, RARE = 3, 3  # arms
ARMS = COVERED + RARE
BOUND = 1.5  # the box |f| <= B of every reward and critic; contains the truth
COVERAGE = float(COVERED)  # C = 1/mu(best arm), up to the rare arms' share


@dataclass(frozen=True)
class Family:
    """One game per n: one best arm and two mediocre ones, well covered, and three bad arms, seldom seen.

    rewards    n -> [A] Bradley-Terry rewards, the best arm first.
    share      n -> probability with which the data policy writes each bad arm.
    """

    name: str
    text: str
    rewards: Callable[[int], tuple[float, ...]]
    share: Callable[[int], float]


BAD = (-0.5,) * RARE
FIXED_GAP = (1.0, 0.5, 0.0, *BAD)
LUCKY = Family(
    "lucky", "each bad arm in about three of n pairs", lambda n: FIXED_GAP, lambda n: min(1 / n, 0.1)
)
RARELY = Family("rare", "each bad arm in about 6 % of pairs", lambda n: FIXED_GAP, lambda n: 0.02)
SHRINKING = Family(
    "shrinking",
    "as lucky, but the mediocre arms are only 5/sqrt(n) worse: the hard case of each n",
    lambda n: (1.0, 1 - 5 / n**0.5, 1 - 5 / n**0.5, *BAD),
    lambda n: min(1 / n, 0.1),
)
FAMILIES = (LUCKY, RARELY, SHRINKING)


@dataclass(frozen=True)
class Batch:
    """`seeds` data sets for each n of a family, side by side: row n_index * seeds + seed.

    data         n distinct pairs each, both responses from the data policy, labelled by Bradley-Terry.
    rewards      [X, A] true rewards; behaviour [X, A] the data policy.
    """

    ns: tuple[int, ...]
    seeds: int
    data: PairData
    rewards: Strategy
    behaviour: Strategy

    @property
    def pairs(self) -> torch.Tensor:
        """[X] n of each row."""
        return torch.tensor(self.ns, dtype=torch.float64).repeat_interleave(self.seeds)

    def start(self) -> TabularPolicy:
        """The uniform policy, pi_1 of every method: unlike the data it writes bad arms freely."""
        return TabularPolicy(torch.zeros(len(self.rewards), ARMS, dtype=torch.float64))

    def suboptimality(self, policy: Strategy) -> Array:
        """J(pi*) - J(pi) = max r - E_pi r, [seeds, n]."""
        lost = self.rewards.amax(dim=1) - (policy * self.rewards).sum(dim=1)
        return lost.reshape(len(self.ns), self.seeds).numpy().T

    def win_rate(self, policy: Strategy) -> Array:
        """P(pi > best arm), [seeds, n]; 1/2 for the best arm itself."""
        wins = torch.sigmoid(self.rewards - self.rewards.amax(dim=1, keepdim=True))
        return (policy * wins).sum(dim=1).reshape(len(self.ns), self.seeds).numpy().T


def draw(family: Family, ns: tuple[int, ...], seeds: int) -> Batch:
    """The same family, n and seed give the same data, whatever else is drawn."""
    counts, rewards, behaviours = [], [], []
    for n in ns:
        share = family.share(n)
        behaviour = torch.tensor(
            [(1 - RARE * share) / COVERED] * COVERED + [share] * RARE, dtype=torch.float64
        )
        reward = torch.tensor(family.rewards(n), dtype=torch.float64)
        pair_probs = offline.population(zoo.bradley_terry(reward), TabularPolicy.from_probs(behaviour)).share[
            0
        ]
        for seed in range(seeds):
            rng = numpy_draws([n, seed])
            counts.append(rng.multinomial(n, pair_probs.flatten().numpy()).reshape(ARMS, ARMS))
        rewards.append(reward.expand(seeds, ARMS))
        behaviours.append(behaviour.expand(seeds, ARMS))
    data = PairData(torch.as_tensor(np.stack(counts), dtype=torch.float64))
    return Batch(ns, seeds, data, torch.cat(rewards), torch.cat(behaviours))


def fitted_reward(batch: Batch) -> Strategy:
    """Maximum-likelihood reward in the box, of mean 0 over the arms seen, 0 for an arm never seen."""
    data = batch.data
    f = critic(data, TabularPolicy.from_probs(data.mu), lam=1.0, bound=BOUND)  # rel(mu; f) = 0: plain MLE
    seen = data.support.to(f.dtype)
    return (f - (f * seen).sum(dim=1, keepdim=True) / seen.sum(dim=1, keepdim=True)) * seen


def greedy(batch: Batch) -> Strategy:
    """All mass on the largest fitted reward among arms seen, shared equally by ties."""
    f = fitted_reward(batch).masked_fill(~batch.data.support, -torch.inf)
    top = (f >= f.amax(dim=1, keepdim=True) - 1e-6).to(f.dtype)
    return top / top.sum(dim=1, keepdim=True)


def dpo(batch: Batch, beta: float, reference: Strategy) -> Strategy:
    """Minimiser of the empirical DPO loss with the implicit reward beta log(pi/ref) held in the box.

    Over such policies the loss is the likelihood of f, so the minimiser is ref exp(f/beta)/Z at the fitted
    reward. Without the box an arm that won every pair has no minimiser (its log-ratio grows without end): the box
    stands for the early stop of practice. An arm never seen keeps its logit, as under gradient descent.
    """
    return (reference.log() + fitted_reward(batch) / beta).softmax(dim=1)


def weight(batch: Batch, c: float) -> torch.Tensor:
    """lambda = c C sqrt(n), [X]."""
    return c * COVERAGE * batch.pairs.sqrt()


def explicit(batch: Batch, c: float, rounds: int) -> SpacRun:
    """SPAC-T with the box as the critic's class and eta from the regret bound."""
    eta = actor_step(np.log(ARMS), rounds, BOUND)
    return spac_t(batch.data, batch.start(), lam=weight(batch, c), bound=BOUND, eta=eta, rounds=rounds)


def settled(batch: Batch, c: float, rounds: int, eta: float = 0.3) -> TabularPolicy:
    """The saddle point, to which SPAC-T tends as T -> infinity: the last iterate at a step that does not fade.

    The mixture at any affordable T still holds much of its first rounds. `saddle_residual` says how near it is.
    """
    return spac_t(batch.data, batch.start(), lam=weight(batch, c), bound=BOUND, eta=eta, rounds=rounds).last


def saddle_residual(batch: Batch, c: float, policy: TabularPolicy) -> Array:
    """max_y f(y) - E_pi f at the critic's answer f to pi, [seeds, n]: 0 exactly at the saddle.

    It bounds what any comparator would gain by further rounds, in the critic's reward.
    """
    f = critic(batch.data, policy, lam=weight(batch, c), bound=BOUND)
    residual = f.amax(dim=1) - (policy.probs() * f).sum(dim=1)
    return residual.reshape(len(batch.ns), batch.seeds).numpy().T


def practical(batch: Batch, c: float, rounds: int) -> Strategy:
    """Last iterate of `rounds` exact minimisations of core's `Spac`, mode "smooth", on the recorded pairs.

    Own responses are enumerated, b = 1/eta with the eta of `explicit`, w_pref/w_pess = lambda.
    """
    per_n = []
    for index, n in enumerate(batch.ns):
        share = batch.data.share[index * batch.seeds : (index + 1) * batch.seeds]
        objective = Spac(
            b=1 / actor_step(np.log(ARMS), rounds, BOUND), w_pref=1.0, w_pess=1 / (c * COVERAGE * n**0.5)
        )
        log_pi = torch.full((batch.seeds, ARMS), -np.log(ARMS), dtype=torch.float64)
        for _ in range(rounds):
            rows = enumerate_data(share, log_pi.exp())
            log_pi = minimise(objective, *rows, start=log_pi, anchors={"previous": log_pi})
        per_n.append(log_pi.exp())
    return torch.cat(per_n)
