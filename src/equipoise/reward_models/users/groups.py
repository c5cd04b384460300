"""Mixtures of Bradley-Terry rewards over users, fitted by expectation-maximisation (EM): the groups of MaxMin-RLHF."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import logsigmoid, one_hot

PerPair: TypeAlias = Float[Tensor, "N"]
UserOf: TypeAlias = Int[Tensor, "N"]  # each pair's user, by number
PerGroup: TypeAlias = Float[Tensor, "N K"]
Shares: TypeAlias = Float[Tensor, "U K"]
Vector: TypeAlias = Float[Tensor, " F"]
Differences: TypeAlias = Float[Tensor, "N F"]
# the M step: weight of each pair in each group [N, K] -> log-likelihood of each pair's label in each group [N, K]
Maximise: TypeAlias = Callable[[PerGroup], PerGroup]
NEWTON_STEPS = 50


@dataclass(frozen=True)
class Mixture:
    """Users in groups.

    shares    [U, K] posterior probability that a user belongs to a group; one-hot after hard EM
    history   log-likelihood of all labels after each M step, in nats; it does not fall while M steps maximise
    """

    shares: Tensor
    history: tuple[float, ...]


def first_shares(users: int, groups: int, seed: int | None = None) -> Shares:
    """Start of EM: user u in group u mod K, as the authors' code has it; with a seed in random groups of equal size."""
    order = torch.arange(users)
    if seed is not None:
        order = order[torch.randperm(users, generator=torch.Generator().manual_seed(seed))]
    shares = torch.zeros(users, groups, dtype=torch.float64)
    shares[order, torch.arange(users) % groups] = 1.0
    return shares


def posterior(logp: PerGroup, user: UserOf, prior: Vector, *, hard: bool) -> tuple[Shares, float]:
    """The E step: (shares of each user, log-likelihood of all labels).

        hard    group(u) = argmax_k sum_i log p_k(label i);    sum_u max_k sum_i log p_k
        soft    share(u, k) ~ prior_k prod_i p_k(label i);     sum_u log sum_k prior_k prod_i p_k

    i runs over the user's pairs.
    """
    users = int(user.max()) + 1
    total = torch.zeros(users, logp.shape[1], dtype=logp.dtype).index_add_(0, user, logp)
    if hard:
        best = total.argmax(dim=1)
        return one_hot(best, logp.shape[1]).to(logp.dtype), float(total.max(dim=1).values.sum())
    joint = total + prior.log()
    return joint.softmax(dim=1), float(joint.logsumexp(dim=1).sum())


def expectation_maximisation(
    maximise: Maximise, user: UserOf, start: Shares, *, iterations: int = 10, hard: bool = True
) -> Mixture:
    """Alternates M steps (fit each group's reward on its users) and E steps (assign users to groups).

    Ends early where no user changes its group by more than 1e-6. Raises ValueError for fewer than one iteration.
    Source: Chakraborty et al. 2024 (2402.08925), algorithm 1; hard assignment and its start as in the authors' code,
    soft assignment is the textbook's.
    """
    if iterations < 1:
        raise ValueError(f"EM needs at least one iteration, got {iterations}")
    shares, history = start, []
    for _ in range(iterations):
        logp = maximise(shares[user])
        prior = shares.mean(dim=0).clamp(min=1e-12)
        moved, found = posterior(logp, user, prior / prior.sum(), hard=hard)
        history.append(found)
        settled = float((moved - shares).abs().max()) < 1e-6
        shares = moved
        if settled:
            break
    return Mixture(shares, tuple(history))


def linear_reward(difference: Differences, prob: PerPair, weight: PerPair, ridge: float) -> Vector:
    """Linear Bradley-Terry reward r = v . phi by ridge-penalised maximum likelihood, with Newton's method.

        min_v  sum_i weight_i [ -p_i log s(v . d_i) - (1 - p_i) log s(-v . d_i) ] + ridge/2 sum_f (spread_f v_f)^2

    d = phi(first) - phi(second); s the logistic function; spread the root mean square of each feature's difference, so
    that the penalty does not depend on a feature's unit. The objective is convex, so there is one minimum.
    """
    spread = difference.square().mean(dim=0).sqrt().clamp(min=1e-8)
    x = difference / spread
    v = torch.zeros(x.shape[1], dtype=x.dtype)

    def objective(v: Tensor) -> float:
        z = x @ v
        loss = -prob * logsigmoid(z) - (1 - prob) * logsigmoid(-z)
        return float((weight * loss).sum() + ridge / 2 * v.square().sum())

    value = objective(v)
    for _ in range(NEWTON_STEPS):
        wins = torch.sigmoid(x @ v)
        slope = x.T @ (weight * (wins - prob)) + ridge * v
        curve = (x * (weight * wins * (1 - wins))[:, None]).T @ x + ridge * torch.eye(len(v), dtype=x.dtype)
        step, size = torch.linalg.solve(curve, slope), 1.0
        while objective(v - size * step) > value and size > 1e-6:
            size /= 2
        v = v - size * step
        before, value = value, objective(v)
        if before - value < 1e-10 * (1 + abs(value)):
            break
    return v / spread


def label_likelihood(logits: PerGroup, prob: Tensor) -> PerGroup:
    """Log-likelihood of labels: p log s(z) + (1 - p) log s(-z), prob [N] or [N, 1] against logits [N, K]."""
    p = prob.reshape(-1, 1)
    return p * logsigmoid(logits) + (1 - p) * logsigmoid(-logits)


@dataclass(frozen=True)
class LinearGroups:
    """K linear rewards on frozen features, and which users hold them.

    weights   [K, F]
    """

    weights: Tensor
    mixture: Mixture

    def logits(self, difference: Differences) -> PerGroup:
        """Logit of P(first beats second) in each group, [N, K]."""
        return difference @ self.weights.T


def fit_linear_groups(
    difference: Differences,
    prob: PerPair,
    weight: PerPair,
    user: UserOf,
    groups: int,
    *,
    starts: int = 5,
    iterations: int = 10,
    hard: bool = True,
    ridge: float = 1.0,
    seed: int = 0,
) -> LinearGroups:
    """EM with linear rewards from several starts; the one with the highest training log-likelihood.

    The first start is the authors' (user modulo K), the others are random by seed. EM finds local maxima only. Raises
    ValueError for fewer users than groups.
    """
    users = int(user.max()) + 1
    if not 1 <= groups <= users:
        raise ValueError(f"{users} users cannot form {groups} groups")
    found: list[LinearGroups] = []
    for start in range(starts if groups > 1 else 1):
        fitted = torch.zeros(groups, difference.shape[1], dtype=difference.dtype)

        def maximise(shares: PerGroup, fitted: Tensor = fitted) -> PerGroup:
            for k in range(groups):
                fitted[k] = linear_reward(difference, prob, weight * shares[:, k], ridge)
            return weight[:, None] * label_likelihood(difference @ fitted.T, prob)

        begun = first_shares(users, groups, seed + start if start else None)
        mixture = expectation_maximisation(maximise, user, begun, iterations=iterations, hard=hard)
        maximise(mixture.shares[user])  # the rewards of the final groups
        found.append(LinearGroups(fitted.clone(), mixture))
    return max(found, key=lambda groups: groups.mixture.history[-1])


def held_out_log_loss(logits: PerGroup, prob: PerPair, user: UserOf, shares: Shares) -> PerPair:
    """Log-loss of held-out labels of known users, each pair by its user's mixture: -log sum_k share p_k."""
    logp = label_likelihood(logits, prob) + shares[user].clamp(min=1e-12).log()
    return -logp.logsumexp(dim=1)


def numbered(names: Sequence[str]) -> tuple[dict[str, int], Tensor]:
    """(name -> number in order of first occurrence, number of each)."""
    numbers = {name: n for n, name in enumerate(dict.fromkeys(names))}
    return numbers, torch.tensor([numbers[name] for name in names], dtype=torch.long)
