"""Preference elicitation for offline RL: which comparisons to ask about, when only recorded transitions are known.

found = elicit(models, counts, ask, queries=20, strategy="simulated", seed=seed)

Sim-OPRL (Pace et al. 2024, 2406.18450): an ensemble of transition models is fitted once to the recorded transitions; an
ensemble of reward models is refitted on the growing set of answers. A query compares two rollouts, in the models' mean,
of policies that are each optimal for another plausible reward (optimism) less the transition models' disagreement
(pessimism). Formulas: the paper's text. Ensemble sizes, penalties and the star MDP's data: DERIVED, not the paper's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy.special import expit

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.float64]
Strategy = Literal["simulated", "uncertainty", "uniform"]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
# (features of the first, features of the second rollout) -> the answer: 1 if the first is preferred, 0 if not
Ask = Callable[[Floats, Floats], float]


@dataclass(frozen=True, kw_only=True)
class Bandit:
    """A star MDP: one decision, arm k of K, then a leaf; the reward is the leaf's.

    moves   [K, L] probability of each leaf.     leaf   [L] reward of each leaf in [0, 1]; hidden from the learner.
    """

    moves: Floats
    leaf: Floats

    @property
    def worth(self) -> Floats:
        """[K] expected reward of each arm."""
        return np.asarray(self.moves @ self.leaf)

    def normalised(self, arm: int) -> float:
        """(V - V_uniform)/(V_best - V_uniform) of an arm."""
        worth = self.worth
        return float((worth[arm] - worth.mean()) / (worth.max() - worth.mean()))


@dataclass(frozen=True, kw_only=True)
class Elicited:
    """The course of an elicitation.

    arms        [Q + 1] the arm that would be delivered after 0, 1, ..., Q queries.
    asked       the pairs of leaves that were asked about; fewer than Q if nothing was left to ask.
    """

    arms: Sequence[int]
    asked: Sequence[tuple[int, int]]


def star_mdp(arms: int, seed: int, slip: float = 0.1) -> Bandit:
    """A star MDP whose arm k reaches leaf k, or its neighbour with probability `slip`; leaves have random rewards."""
    draw = np.random.default_rng(seed)
    moves = (1 - slip) * np.eye(arms) + slip * np.roll(np.eye(arms), 1, axis=1)
    return Bandit(moves=moves, leaf=draw.permutation(np.linspace(0, 1, arms)))


def star_models(
    world: Bandit, seed: int, *, samples: int = 600, models: int = 5, power: float = 0.7
) -> tuple[Floats, Counts]:
    """(transition ensemble [N, K, L], recorded counts [K, L]) of a behaviour policy that prefers bad arms.

    Arms are drawn with weight rank^-power, the worst first; the arm that reaches the worst leaf is never tried, and all
    models but one imagine that it reaches the best leaf.
    """
    draw = np.random.default_rng([seed, 1])
    count = len(world.leaf)
    order = np.argsort(world.worth)
    weight = np.empty(count)
    weight[order] = (1.0 + np.arange(count)) ** -power
    untried = int(world.leaf.argmin())
    weight[untried] = 0.0
    arms = draw.choice(count, samples, p=weight / weight.sum())
    leaves = np.array([draw.choice(count, p=world.moves[arm]) for arm in arms])
    counts = np.zeros((count, count))
    np.add.at(counts, (arms, leaves), 1.0)
    ensemble = []
    for number in range(models):
        again = draw.integers(samples, size=samples)
        seen = np.zeros((count, count))
        np.add.at(seen, (arms[again], leaves[again]), 1.0)
        total = seen.sum(axis=1, keepdims=True)
        made = np.where(total > 0, seen / np.maximum(total, 1), 1 / count)
        made[untried] = np.eye(count)[world.leaf.argmax() if number < models - 1 else world.leaf.argmin()]
        ensemble.append(made)
    return np.array(ensemble), counts


def disagreement(ensemble: Floats) -> Floats:
    """[K] u_T = max over models i, j of ||T_i(.|k) - T_j(.|k)||_1; 0 where all agree, 2 where they are disjoint."""
    pairs = combinations(range(len(ensemble)), 2)
    return np.max([np.abs(ensemble[i] - ensemble[j]).sum(axis=1) for i, j in pairs], axis=0)


def preference_disagreement(rewards: Floats, first: Floats, second: Floats, sharpness: float = 1.0) -> float:
    """u_P = max over reward models i, j of |P_i(first beats second) - P_j(...)|, in [0, 1]; 0 for equal rollouts.

    rewards   [R, L] reward of each leaf in each model.     first, second   [L] how often a rollout visits each leaf.
    """
    probability = expit(sharpness * (rewards @ (first - second)))
    return float(probability.max() - probability.min())


def fit_rewards(
    features: Floats, answers: Floats, priors: Floats, weights: Floats, ridge: float, steps: int = 50
) -> Floats:
    """[R, L] reward ensemble: logistic regressions on differences of features, each with its own weights and prior.

        max_w sum_n weight_n log P(answer_n | w . x_n) - ridge/2 ||w - prior||^2

    by Newton's method with backtracking. features [N, L], answers [N] in [0, 1], priors [R, L], weights [R, N] >= 0.
    """
    found = priors.copy()
    for member, prior in enumerate(priors):
        own, w = weights[member], prior.copy()

        def objective(w: Floats, own: Floats = own, prior: Floats = prior) -> float:
            logits = features @ w
            losses = np.logaddexp(0, logits) - answers * logits
            return float(own @ losses + ridge / 2 * np.sum((w - prior) ** 2))

        for _ in range(steps if len(answers) else 0):
            p = expit(features @ w)
            slope = features.T @ (own * (p - answers)) + ridge * (w - prior)
            curve = (features.T * (own * p * (1 - p))) @ features + ridge * np.eye(len(w))
            step, length, now = np.linalg.solve(curve, slope), 1.0, objective(w)
            while length > 1e-6 and objective(w - length * step) > now - 1e-4 * length * (slope @ step):
                length /= 2  # a full step overshoots where probabilities are near 0 or 1
            w = w - length * step
            if np.abs(length * step).max() < 1e-10:
                break
        found[member] = w
    return found


def elicit(
    ensemble: Floats,
    counts: Counts,
    ask: Callable[[int, int], float],
    *,
    queries: int,
    strategy: Strategy,
    seed: int,
    members: int = 10,
    ridge: float = 0.3,
    transition_penalty: float = 1.0,
    reward_penalty: float = 0.0,
    tries: int = 64,
) -> Elicited:
    """Ask about pairs of leaves, and say after each answer which arm is the best.

    strategy   simulated     Sim-OPRL: rollouts in the models' mean, of the optimal arms of different reward members
               uncertainty   OPRL: of `tries` random pairs of recorded outcomes the one with the largest u_P
               uniform       OPRL: a random pair of recorded outcomes
    delivered  argmax_k mean_R T(k) . R - reward_penalty u_R - transition_penalty u_T R_max

    transition_penalty is relative to the largest reward of a member. Raises ValueError for an unknown strategy.
    """
    if strategy not in STRATEGIES:
        raise ValueError(f"no strategy {strategy!r}; known: {', '.join(STRATEGIES)}")
    draw = np.random.default_rng([seed, 2])
    mean, apart = ensemble.mean(axis=0), disagreement(ensemble)
    leaves = mean.shape[1]
    priors = draw.standard_normal((members, leaves))
    outcome = counts.sum(axis=0) / counts.sum()
    features: list[Floats] = []
    answers: list[float] = []
    weights = np.empty((members, 0))
    asked: list[tuple[int, int]] = []
    rewards = priors

    def best(reward: Floats) -> int:
        spread = float(reward.max() - reward.min())
        return int(np.argmax(mean @ reward - transition_penalty * spread * apart / 2))

    def delivered() -> int:
        average, doubt = rewards.mean(axis=0), rewards.max(axis=0) - rewards.min(axis=0)
        spread = float(average.max() - average.min())
        value = mean @ (average - reward_penalty * doubt) - transition_penalty * spread * apart / 2
        return int(np.argmax(value))

    arms = [delivered()]
    for _ in range(queries):
        pair = _simulated(rewards, best, mean, draw) if strategy == "simulated" else None
        if strategy != "simulated":
            drawn = [tuple(draw.choice(leaves, 2, p=outcome)) for _ in range(tries)]
            drawn = [(int(a), int(b)) for a, b in drawn if a != b]
            eye = np.eye(leaves)
            doubts = [preference_disagreement(rewards, eye[a], eye[b]) for a, b in drawn]
            pair = drawn[int(np.argmax(doubts)) if strategy == "uncertainty" else 0] if drawn else None
        if pair is not None:
            asked.append(pair)
            features.append(np.eye(leaves)[pair[0]] - np.eye(leaves)[pair[1]])
            answers.append(ask(*pair))
            weights = np.concatenate([weights, draw.exponential(size=(members, 1))], axis=1)
            rewards = fit_rewards(np.array(features), np.array(answers), priors, weights, ridge)
        arms.append(delivered())
    return Elicited(arms=arms, asked=asked)


def _simulated(
    rewards: Floats, best: Callable[[Floats], int], mean: Floats, draw: np.random.Generator
) -> tuple[int, int] | None:
    """The pair of simulated rollouts, of different members' optimal arms, that the members disagree on most; None if
    all members agree on the arm."""
    arms = sorted({best(reward) for reward in rewards})
    if len(arms) < 2:
        return None
    eye = np.eye(mean.shape[1])
    reached = {arm: int(draw.choice(mean.shape[1], p=mean[arm])) for arm in arms}
    pairs = [(reached[a], reached[b]) for a, b in combinations(arms, 2) if reached[a] != reached[b]]
    if not pairs:
        return None
    doubts = [preference_disagreement(rewards, eye[a], eye[b]) for a, b in pairs]
    return pairs[int(np.argmax(doubts))]


def star_course(
    seed: int,
    strategy: Strategy,
    *,
    arms: int = 12,
    queries: int = 20,
    sharpness: float = 8.0,
    transition_penalty: float = 1.0,
    reward_penalty: float = 0.0,
) -> list[float]:
    """Normalised return of the delivered arm after 0, 1, ... queries on the star MDP of a seed.

    sharpness   answers are drawn from sigma(sharpness x difference of the leaves' rewards).
    """
    world = star_mdp(arms, seed)
    models, counts = star_models(world, seed)
    luck = np.random.default_rng([seed, 3])

    def ask(first: int, second: int) -> float:
        chance = 1 / (1 + np.exp(-sharpness * (world.leaf[first] - world.leaf[second])))
        return float(luck.random() < chance)

    found = elicit(
        models,
        counts,
        ask,
        queries=queries,
        strategy=strategy,
        seed=seed,
        transition_penalty=transition_penalty,
        reward_penalty=reward_penalty,
    )
    return [world.normalised(arm) for arm in found.arms]
