"""Prompts with a true reward, and what RLP (2403.19279) does there, whatever learns the reward."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from equipoise.oracles.learned.agreement import confident_pair

OWN, TAU, CONFIDENCE, BOTTLENECK = 10, 0.5, 0.5, 0.5


@dataclass(frozen=True)
class Bandit:
    """reward, reference [X, A]: true rewards in logits, log-probs of the policy that wrote the data; recorded pairs."""

    reward: Tensor
    reference: Tensor
    pairs: int


class Labelled(NamedTuple):
    """Pairs of responses [N, 2] to prompts [N], the first preferred, with weights [N]."""

    prompts: Tensor
    responses: Tensor
    weight: Tensor


# (pairs, responses [X, n] as views of the bottleneck or None) -> rewards [X, A]
Learner = Callable[[Labelled, Tensor | None], Tensor]


def recorded(bandit: Bandit, draw: torch.Generator) -> Labelled:
    """Pairs of the reference's responses, labelled once by the true reward."""
    x = torch.randint(len(bandit.reward), (bandit.pairs,), generator=draw)
    y = torch.multinomial(bandit.reference.exp()[x], 2, generator=draw)
    r = bandit.reward[x[:, None], y]
    wins = torch.rand(len(x), generator=draw, dtype=torch.float64) < torch.sigmoid(r[:, 0] - r[:, 1])
    return Labelled(x, torch.where(wins[:, None], y, y.flip(1)), torch.ones(len(x), dtype=torch.float64))


def synthetic(own: Tensor, reward: Tensor) -> Labelled:
    """RLP-SPG's pairs of responses own [X, n]: the most frequent one against the others of its prompt."""
    said = []
    for x, responses in enumerate(own.tolist()):
        found = confident_pair([str(a) for a in responses], reward[x, responses].tolist(), CONFIDENCE)
        if found:
            said += [(x, responses[found[0]], responses[loser], 1 / len(found[1])) for loser in found[1]]
    at = torch.tensor([s[:3] for s in said], dtype=torch.long).reshape(-1, 3)
    return Labelled(at[:, 0], at[:, 1:], torch.tensor([s[3] for s in said], dtype=torch.float64))


def optimum(bandit: Bandit, reward: Tensor) -> Tensor:
    """The policy that policy optimisation seeks: probabilities ~ reference exp(reward / TAU), [X, A]."""
    return (bandit.reference + reward / TAU).softmax(dim=1)


def accuracy(bandit: Bandit, reward: Tensor, policy: Tensor) -> float:
    """How often the reward ranks two different responses of the policy as the true reward does."""
    apart = 1 - torch.eye(policy.shape[1], dtype=torch.float64)
    pair = torch.einsum("xa,xb->xab", policy, policy) * apart
    right = (
        (reward[:, :, None] > reward[:, None]) == (bandit.reward[:, :, None] > bandit.reward[:, None])
    ).double()
    return float((pair * right).sum() / pair.sum())


def relearned(
    bandit: Bandit, draw: torch.Generator, learner: Learner
) -> dict[str, tuple[float, float, float]]:
    """name -> (accuracy on the first policy's pairs, true value of the policy made with this reward, its KL from the
    reference).

    "reference" and "recorded" are of the first reward, which saw recorded pairs only: its accuracy on the
    reference's pairs, and on those of the policy made with it. "uml" and "spg" are learned again.
    """
    pairs = recorded(bandit, draw)
    first = learner(pairs, None)
    policy = optimum(bandit, first)
    own = torch.multinomial(policy, OWN, replacement=True, generator=draw)  # [X, n]
    both = Labelled(*map(torch.cat, zip(pairs, synthetic(own, first), strict=True)))
    learnt = {"recorded": first, "uml": learner(pairs, own), "spg": learner(both, None)}

    def worth(policy: Tensor) -> tuple[float, float]:
        """(true value, KL from the reference), means over prompts."""
        kl = policy * (policy.clamp(min=1e-300).log() - bandit.reference)
        return float((policy * bandit.reward).sum(dim=1).mean()), float(kl.sum(dim=1).mean())

    figures = {name: (accuracy(bandit, r, policy), *worth(optimum(bandit, r))) for name, r in learnt.items()}
    reference = bandit.reference.exp()
    return {"reference": (accuracy(bandit, first, reference), *worth(reference)), **figures}
