"""Recorded pairs of five bandits, and what SPAC's shipped defaults and other offline learners make of them, exactly.

`uniform`, `lucky` and `narrow` have one best arm and two mediocre ones, which the data cover well, and three bad arms,
which they cover as well as the others, in about three of n pairs, or not at all; labels are Bradley-Terry. `hasty`:
pairs with one of five bad arms (one pair in ten) are labelled by a coin. `chain`: ten arms compared with their
neighbours only, ever more seldom away from the third best, so that errors of a reward add up along the chain. The
reference is nine parts the data's policy and one part the uniform one: an SFT policy that also writes what the data do
not hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.special import wrightomega
from torch import Tensor

from equipoise.claims.claim import Array
from equipoise.claims.draws import numpy_draws
from equipoise.core.objectives import Rpo, Spac
from equipoise.core.objectives.base import Objective
from equipoise.games import NotConverged, PairData, TabularPolicy, enumerate_data, minimise
from equipoise.games.spac_t import critic
from equipoise.methods.index import get
from equipoise.play.method import Size

NS = (100, 400, 1600)
MORE_ROUNDS = 12
BOUND = 1.5
BETAS = (0.03, 0.1, 0.3, 1.0, 3.0)
ETAS = (0.005, 0.05, 0.5)


@dataclass(frozen=True)
class Family:
    """A bandit and how its pairs are recorded.

    rewards    [A].
    pairs      n -> [A, A] symmetric probabilities of an unordered pair.
    wins       [A, A] P(first preferred to second) in the labels.
    """

    name: str
    rewards: Tensor
    pairs: Callable[[int], Tensor]
    wins: Tensor


def bradley_terry(rewards: Tensor) -> Tensor:
    return torch.sigmoid(rewards[:, None] - rewards[None, :])


def independent(policy: Tensor) -> Tensor:
    """Two draws from a policy, given that they differ."""
    joint = torch.outer(policy, policy).fill_diagonal_(0)
    return joint / joint.sum()


def three_and_three(name: str, bad: Callable[[int], float]) -> Family:
    """The best arm, two mediocre and three bad ones; bad: n -> share of the data's policy on each bad arm."""
    rewards = torch.tensor([1.0, 0.5, 0.0, -0.5, -0.5, -0.5], dtype=torch.float64)

    def pairs(n: int) -> Tensor:
        share = bad(n)
        return independent(torch.tensor([(1 - 3 * share) / 3] * 3 + [share] * 3, dtype=torch.float64))

    return Family(name, rewards, pairs, bradley_terry(rewards))


def hasty() -> Family:
    rewards = torch.tensor([1.0, 0.6, 0.3, 0.0] + [-1.0] * 5, dtype=torch.float64)
    good = torch.arange(9) < 4
    careful = good[:, None] & good[None, :]
    pairs = (
        0.9 * independent(good / 4.0)
        + 0.1 * independent(torch.ones(9) / 9) * ~careful / (independent(torch.ones(9) / 9) * ~careful).sum()
    )
    return Family(
        "hasty", rewards, lambda n: pairs.double(), torch.where(careful, bradley_terry(rewards), 0.5)
    )


def chain() -> Family:
    rewards = torch.linspace(1.2, -1.2, 10, dtype=torch.float64)
    weight = 0.5 ** (torch.arange(9, dtype=torch.float64) - 1.5).abs()  # of the pair (k, k + 1)
    pairs = torch.zeros(10, 10, dtype=torch.float64)
    at = torch.arange(9)
    pairs[at, at + 1] = pairs[at + 1, at] = weight / weight.sum() / 2
    return Family("chain", rewards, lambda n: pairs, bradley_terry(rewards))


FAMILIES = (
    three_and_three("uniform", lambda n: 1 / 6),
    three_and_three("lucky", lambda n: min(1 / n, 0.1)),
    three_and_three("narrow", lambda n: 0.0),
    hasty(),
    chain(),
)


@dataclass(frozen=True)
class Drawn:
    """Data sets of one family and n: pairs, the reference [S, A], the true rewards [A]."""

    data: PairData
    reference: Tensor
    rewards: Tensor
    n: int

    def lost(self, policy: Tensor) -> Array:
        """[S] max r - E_pi r."""
        return (self.rewards.max() - policy @ self.rewards).numpy()


def draw(family: Family, n: int, seeds: int) -> Drawn:
    """The same family, n and seed give the same data."""
    pairs = family.pairs(n)
    labelled = (pairs * family.wins * 2).flatten()
    shares = (labelled / labelled.sum()).numpy()
    arms = len(family.rewards)
    name = sum(family.name.encode())
    counts = [
        numpy_draws([name, n, seed]).multinomial(n, shares).reshape(arms, arms) for seed in range(seeds)
    ]
    writer = pairs.sum(dim=1)
    reference = (0.9 * writer + 0.1 / arms).expand(seeds, arms)
    return Drawn(PairData(torch.as_tensor(np.stack(counts))), reference, family.rewards, n)


def fitted(drawn: Drawn) -> Tensor:
    """[S, A] maximum-likelihood reward in the box, of mean 0 over the arms seen, 0 for an arm never seen."""
    f = critic(drawn.data, TabularPolicy.from_probs(drawn.data.mu), lam=1.0, bound=BOUND)
    seen = drawn.data.support.double()
    return (f - (f * seen).sum(dim=1, keepdim=True) / seen.sum(dim=1, keepdim=True)) * seen


def best_of(drawn: Drawn, score: Tensor) -> Tensor:
    """All mass on the largest score among arms seen, shared by ties."""
    score = score.masked_fill(~drawn.data.support, -torch.inf)
    top = (score >= score.amax(dim=1, keepdim=True) - 1e-6).double()
    return top / top.sum(dim=1, keepdim=True)


def lower_bound(drawn: Drawn, f: Tensor, width: float = 2.0) -> Tensor:
    """r(y) - E_mu r - width s(y), with s by the Fisher information of n pairs."""
    pairs = drawn.data.counts + drawn.data.counts.mT
    win = torch.sigmoid(f[:, :, None] - f[:, None, :])
    edge = pairs * win * (1 - win)
    information = torch.diag_embed(edge.sum(dim=2)) - edge
    inverse = torch.linalg.inv(information + 1e-3 * torch.eye(f.shape[1]))
    mu = drawn.data.mu
    contrast = torch.eye(f.shape[1], dtype=f.dtype) - mu[:, None, :]
    error = torch.einsum("sya,sab,syb->sy", contrast, inverse, contrast).clamp(min=0).sqrt()
    return f - (f * mu).sum(dim=1, keepdim=True) - width * error


def chi_po(reference: Tensor, f: Tensor, beta: float) -> Tensor:
    """The policy with beta (z + log z) = f + c, z = pi/pi_ref, c so that it sums to 1 (by bisection)."""
    low, high = f.new_full((len(f), 1), -60.0), f.new_full((len(f), 1), 60.0)
    policy = reference
    for _ in range(100):
        middle = (low + high) / 2
        policy = reference * torch.from_numpy(wrightomega(((f + middle) / beta).numpy()))
        over = policy.sum(dim=1, keepdim=True) > 1
        low, high = torch.where(over, low, middle), torch.where(over, middle, high)
    return policy / policy.sum(dim=1, keepdim=True)


def minimised(objective: Objective, drawn: Drawn, start: Tensor, *, own: bool, anchor: str) -> Tensor:
    """Probabilities of the exact minimiser, from `start` as the anchor."""
    rows = enumerate_data(drawn.data.share, start if own else None)
    return minimise(objective, *rows, start=start.log(), anchors={anchor: start.log()}, tolerance=1e-7).exp()


def fitted_rpo(beta: float, eta: float, drawn: Drawn) -> Tensor:
    """RPO's minimiser, or where Newton's steps end: an arm that only won is all but unbounded where eta is tiny."""
    try:
        return minimised(Rpo(beta=beta, eta=eta), drawn, drawn.reference, own=False, anchor="reference")
    except NotConverged as end:
        return end.best.exp()


def spac(drawn: Drawn, rounds: int) -> list[Tensor]:
    """The policy after each round, with the shipped defaults."""
    method = replace(get("spac"), rounds=rounds).with_parameters(get("spac").defaults())
    objective = method.for_size(Size(comparisons=drawn.n, rounds=rounds)).objective
    assert isinstance(objective, Spac)
    policies = [drawn.reference]
    for _ in range(rounds):
        policies.append(minimised(objective, drawn, policies[-1], own=True, anchor="previous"))
    return policies[1:]


def tuned(drawn: Drawn, policies: Iterator[Tensor]) -> Array:
    """Losses of the policy with the least mean loss."""
    return min((drawn.lost(policy) for policy in policies), key=lambda lost: lost.mean())


def losses(drawn: Drawn) -> tuple[dict[str, Array], float]:
    """Losses [S] of every method, and the most that SPAC writes unseen arms above the reference."""
    f, reference = fitted(drawn), drawn.reference
    played = spac(drawn, get("spac").rounds)
    more = spac(drawn, MORE_ROUNDS)
    unseen = ~drawn.data.support
    left = max(float(((policy - reference) * unseen).sum(dim=1).max()) for policy in (*played, *more))
    rpo = (fitted_rpo(beta, eta, drawn) for beta in BETAS for eta in ETAS)
    found = {f"SPAC, round {t}": drawn.lost(policy) for t, policy in enumerate(played, 1)}
    found[f"SPAC, T = {MORE_ROUNDS}"] = drawn.lost(more[-1])
    found["reference"] = drawn.lost(reference)
    found["greedy"] = drawn.lost(best_of(drawn, f))
    found["DPO, tuned"] = tuned(drawn, ((reference.log() + f / b).softmax(dim=1) for b in BETAS))
    found["chi-PO, tuned"] = tuned(drawn, (chi_po(reference, f, b) for b in BETAS))
    found["RPO, tuned"] = tuned(drawn, rpo)
    found["LCB"] = drawn.lost(best_of(drawn, lower_bound(drawn, f)))
    return found, left
