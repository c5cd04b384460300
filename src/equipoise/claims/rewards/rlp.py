"""RLP (2403.19279): is a reward that is learned again on the policy's samples more accurate where the policy is?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from equipoise.claims.claim import Array, Cell, Claim, Evidence, Scale, Table, interval, verdict
from equipoise.oracles.learned import feature_reward
from equipoise.oracles.learned.agreement import confident_pair
from equipoise.oracles.learned.feature_reward import Fitting, LearnedReward, Views

PROMPTS, RESPONSES = 40, 12
SHARED, OWNED = 4, 8  # features of the prompt, which its responses share, and of the response
PAIRS, OWN, TAU = 200, 10, 0.5
FITTING = Fitting(steps=500, batch=64, rate=1e-3, width=32, code=8)
VARIANTS = ("uml", "spg")


@dataclass(frozen=True)
class Bandit:
    """Prompts with responses known by features. The true reward is not linear in them, and the reference leans to it.

    features [X, A, F]   reward, reference [X, A]: rewards in logits, log-probs
    """

    features: Tensor
    reward: Tensor
    reference: Tensor


def draw_bandit(seed: int) -> Bandit:
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    shared = normal(PROMPTS, 1, SHARED).expand(-1, RESPONSES, -1)
    features = torch.cat([shared, normal(PROMPTS, RESPONSES, OWNED)], dim=2)
    width = SHARED + OWNED
    reward = torch.tanh(features @ normal(width, 16) / width**0.5 * 2) @ normal(16) / 2
    reference = (0.5 * reward + normal(PROMPTS, RESPONSES)).log_softmax(dim=1)
    return Bandit(features, reward, reference)


def recorded(bandit: Bandit, draw: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """PAIRS pairs of the reference's responses, the first preferred: (features, probability, weight)."""
    x = torch.randint(PROMPTS, (PAIRS,), generator=draw)
    y = torch.multinomial(bandit.reference.exp()[x], 2, generator=draw)
    r = bandit.reward[x[:, None], y]
    wins = torch.rand(PAIRS, generator=draw, dtype=torch.float64) < torch.sigmoid(r[:, 0] - r[:, 1])
    y = torch.where(wins[:, None], y, y.flip(1))
    ones = torch.ones(PAIRS, dtype=torch.float64)
    return bandit.features[x[:, None], y], ones, ones


def optimum(bandit: Bandit, reward: Tensor) -> Tensor:
    """The policy that policy optimisation seeks: probabilities ~ reference exp(reward / TAU), [X, A]."""
    return (bandit.reference + reward / TAU).softmax(dim=1)


def accuracy(bandit: Bandit, reward: Tensor, policy: Tensor) -> float:
    """How often the reward ranks two different responses of the policy as the true reward does."""
    pair = torch.einsum("xa,xb->xab", policy, policy) * (1 - torch.eye(RESPONSES, dtype=torch.float64))
    right = (
        (reward[:, :, None] > reward[:, None]) == (bandit.reward[:, :, None] > bandit.reward[:, None])
    ).double()
    return float((pair * right).sum() / pair.sum())


def learn(bandit: Bandit, seed: int) -> dict[str, tuple[float, float, float]]:
    """name -> (accuracy on the first policy's pairs, true value of the policy made with this reward, its KL from the
    reference).

    "reference" and "recorded" are of the first reward, which saw recorded pairs only: its accuracy on the
    reference's pairs, and on those of the policy made with it. "uml" and "spg" are learned again.
    """
    draw = torch.Generator().manual_seed(seed)
    pairs, prob, weight = recorded(bandit, draw)

    def table(tensors: Mapping[str, Tensor]) -> Tensor:
        return LearnedReward.of(tensors).rewards(bandit.features)

    def worth(policy: Tensor) -> tuple[float, float]:
        """(true value, KL from the reference), means over prompts."""
        kl = policy * (policy.clamp(min=1e-300).log() - bandit.reference)
        return float((policy * bandit.reward).sum(dim=1).mean()), float(kl.sum(dim=1).mean())

    first = table(feature_reward.fit(pairs, prob, weight, seed=seed, fitting=FITTING))
    policy = optimum(bandit, first)
    own = torch.multinomial(policy, OWN, replacement=True, generator=draw)  # [X, n]

    views = bandit.features[torch.arange(PROMPTS)[:, None], own].unflatten(1, (-1, 2)).flatten(0, 1)
    alike = Views(views, torch.ones(len(views), dtype=torch.float64))
    uml = feature_reward.fit(pairs, prob, weight, seed=seed, views=alike, bottleneck=0.5, fitting=FITTING)

    said = []
    for x, responses in enumerate(own.tolist()):
        found = confident_pair([str(a) for a in responses], first[x, responses].tolist(), 0.5)
        if found:
            said += [(x, responses[found[0]], responses[loser], 1 / len(found[1])) for loser in found[1]]
    at, best, other = torch.tensor([s[:3] for s in said], dtype=torch.long).reshape(-1, 3).unbind(dim=1)
    made = torch.stack([bandit.features[at, best], bandit.features[at, other]], dim=1)
    share = torch.tensor([s[3] for s in said], dtype=torch.float64)
    both = torch.cat([pairs, made]), torch.ones(PAIRS + len(made)), torch.cat([weight, share])
    spg = feature_reward.fit(*both, seed=seed, fitting=FITTING)

    learnt = {"recorded": first, "uml": table(uml), "spg": table(spg)}
    figures = {name: (accuracy(bandit, r, policy), *worth(optimum(bandit, r))) for name, r in learnt.items()}
    reference = bandit.reference.exp()
    return {"reference": (accuracy(bandit, first, reference), *worth(reference)), **figures}


def on_distribution(scale: Scale) -> Evidence:
    seeds = {"quick": 5, "full": 40}[scale]
    runs = [learn(draw_bandit(seed), seed) for seed in range(seeds)]
    return judge({name: np.array([run[name] for run in runs]) for name in runs[0]})


def judge(figures: Mapping[str, Array]) -> Evidence:
    """figures: name -> [seeds, 3], accuracy, value and KL as in `learn`."""
    rows: list[tuple[Cell, ...]] = []
    for name, values in figures.items():
        mean, low, high = (bound.round(3).tolist() for bound in interval(values))
        rows.append((name, mean[0], low[0], high[0], mean[1], low[1], high[1], mean[2]))
    gains = {name: interval(figures[name] - figures["recorded"]) for name in VARIANTS}
    lost = interval(figures["recorded"][:, :1] - figures["reference"][:, :1])
    better = all(low[0] > 0 for _, low, _ in gains.values())
    valued = all(low[1] > 0 for _, low, _ in gains.values())
    said = "; ".join(
        f"{name}: accuracy {mean[0]:+.3f} [{low[0]:+.3f}, {high[0]:+.3f}], value {mean[1]:+.3f} "
        f"[{low[1]:+.3f}, {high[1]:+.3f}]"
        for name, (mean, low, high) in gains.items()
    )
    return Evidence(
        verdict=verdict(better, (valued, float(lost[2][0]) < 0)),
        summary=f"From the reference's pairs to its own policy's the first reward's accuracy changes by "
        f"{lost[0][0]:+.3f} [{lost[1][0]:+.3f}, {lost[2][0]:+.3f}]. Learned again without labels: {said}.",
        tables=(
            Table(
                f"{len(figures['recorded'])} bandits, means with 95 % intervals",
                ("reward", "accuracy", "low", "high", "true value", "low", "high", "KL from the reference"),
                tuple(rows),
            ),
        ),
    )


ON_DISTRIBUTION = Claim(
    name="rlp_on_distribution",
    sentence="Learned again on unlabelled samples of the policy, the reward is more accurate on the policy's own "
    "distribution, where a reward learned from recorded pairs alone is over-optimised.",
    paper="2403.19279",
    rule="Heart: on pairs of the first policy's responses both RLP-UML and RLP-SPG rank more pairs as the true reward "
    "does than the first reward; the 95 % interval of the paired difference over seeds lies above 0. Also: so does "
    "that of the true value of the policy made with the new reward, and the first reward is less accurate on its own "
    "policy's pairs than on the reference's. How far each policy moved, its KL, is shown beside.",
    run=on_distribution,
)
