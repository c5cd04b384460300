"""Directional preference alignment (2402.18571): one policy that trades two rewards along a direction that it is told.

Responses have features; two rewards are linear in them and partly opposed. The policy is log-linear,
pi(y | x, v) ~ exp( phi(x, y) . (theta_0 + v_1 theta_1 + v_2 theta_2) ), and learns by DPA's rounds: directions drawn
for each prompt, N samples, the best along the direction imitated. Figures are means on prompts that it has not seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from equipoise.claims.claim import Array, Cell, Claim, Evidence, Scale, Table, interval, verdict
from equipoise.claims.draws import numpy_draws
from equipoise.play.directions import directions

PROMPTS, ACTIONS, FEATURES = 60, 24, 8  # prompts of each set
COSINE, SAMPLES, DRAWS, ROUNDS, RIDGE = -0.3, 8, 4, 4, 1e-3
ANGLES = (0.0, 22.5, 45.0, 67.5, 90.0)


@dataclass(frozen=True)
class Told:
    """A log-linear policy that is told a direction; theta [3, F]. `deaf`: the direction does not reach it."""

    theta: Tensor
    deaf: bool = False

    def logp(self, features: Tensor, v: Tensor) -> Tensor:
        """[N, A] of features [N, A, F] and directions [N, 2]."""
        read = torch.cat([torch.ones(len(v), 1, dtype=v.dtype), 0.0 * v if self.deaf else v], dim=1)
        return torch.einsum("naf,nf->na", features, read @ self.theta).log_softmax(dim=1)

    def imitating(self, features: Tensor, v: Tensor, chosen: Tensor) -> Told:
        """SFT from here: the maximum of the mean log-probability of the chosen responses, less a ridge."""
        theta = self.theta.clone().requires_grad_()
        fit = torch.optim.LBFGS([theta], max_iter=60, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            fit.zero_grad()
            picked = Told(theta, self.deaf).logp(features, v).gather(1, chosen[:, None])
            loss = RIDGE * (theta**2).sum() - picked.mean()
            loss.backward()
            return loss

        fit.step(closure)
        return Told(theta.detach(), self.deaf)


def learned(
    features: Tensor,
    rewards: Tensor,
    rng: np.random.Generator,
    low: float,
    high: float,
    *,
    deaf: bool = False,
) -> Told:
    """The policy after all rounds, with directions between two angles."""
    policy = Told(torch.zeros(3, FEATURES, dtype=torch.float64), deaf)
    x = np.repeat(np.arange(PROMPTS), DRAWS)
    for _ in range(ROUNDS):
        v = torch.from_numpy(directions(rng.random((len(x), 2)), low, high))
        probs = policy.logp(features[x], v).exp().numpy().cumsum(axis=1)
        draws = rng.random((len(x), SAMPLES))
        tried = torch.from_numpy((probs[:, None, :] < draws[:, :, None] * probs[:, None, -1:]).sum(axis=2))
        along = torch.einsum("ng,nag->na", v, rewards[x]).gather(1, tried)
        best = tried.gather(1, along.argmax(dim=1, keepdim=True))[:, 0]
        policy = policy.imitating(features[x], v, best)
    return policy


def run_of(seed: int) -> Array:
    """[angles, 5]: both rewards of the policy that is told the angle, and the reward along it of that policy, of one
    trained for this angle alone, and of one that hears no direction."""
    rng = numpy_draws([seed, 2402])
    first, other = np.linalg.qr(rng.normal(size=(FEATURES, 2)))[0].T
    axes = torch.from_numpy(np.stack([first, COSINE * first + (1 - COSINE**2) ** 0.5 * other], axis=1))
    sets = [torch.from_numpy(rng.normal(size=(PROMPTS, ACTIONS, FEATURES))) for _ in range(2)]
    train, new = ((features, features @ axes) for features in sets)
    one = learned(*train, rng, 0, 90)
    deaf = learned(*train, rng, 0, 90, deaf=True)
    rows = []
    for angle in ANGLES:
        v = torch.from_numpy(directions(np.zeros((1, 2)), angle, angle)).expand(PROMPTS, 2)
        alone = learned(*train, rng, angle, angle)

        def reached(policy: Told, v: Tensor = v) -> Array:
            means = torch.einsum("na,nag->ng", policy.logp(new[0], v).exp(), new[1]).mean(dim=0)
            return np.asarray(means.numpy(), dtype=np.float64)

        along = [float(reached(policy) @ v[0].numpy()) for policy in (one, alone, deaf)]
        rows.append([*reached(one).tolist(), *along])
    return np.array(rows)


def front(scale: Scale) -> Evidence:
    return judge(np.array([run_of(seed) for seed in range({"quick": 6, "full": 40}[scale])]))


def judge(figures: Array) -> Evidence:
    """The verdict on figures [seeds, angles, 5] of `run_of`."""
    first, second, told, alone, deaf = np.moveaxis(figures, 2, 0)
    falls, rises = interval(first[:, :-1] - first[:, 1:]), interval(second[:, 1:] - second[:, :-1])
    ends = interval((told - deaf)[:, [0, -1]])
    lost = interval(alone - told)
    share = told.mean(axis=0) / alone.mean(axis=0)
    heart = bool((falls[1] > 0).all() and (rises[1] > 0).all())
    others = (bool((ends[1] > 0).all()), bool((share > 0.95).all()))
    rows: list[tuple[Cell, ...]] = [
        (
            angle,
            *(float(values[:, k].mean()) for values in (first, second, told, alone, deaf)),
            f"{lost[0][k]:.2f} [{lost[1][k]:.2f}, {lost[2][k]:.2f}]",
        )
        for k, angle in enumerate(ANGLES)
    ]
    return Evidence(
        verdict=verdict(heart, others),
        summary=f"From 0 to 90 degrees the first reward of the one policy falls from {first[:, 0].mean():.2f} to "
        f"{first[:, -1].mean():.2f} and the second rises from {second[:, 0].mean():.2f} to {second[:, -1].mean():.2f}; "
        f"along the direction it reaches {share.min():.0%} or more of a policy trained for that direction alone.",
        tables=(
            Table(
                f"{len(figures)} games: mean rewards on new prompts, by the angle that the policy is told",
                (
                    "angle",
                    "first reward",
                    "second reward",
                    "along the direction",
                    "trained for it alone",
                    "told nothing",
                    "lost to the one trained for it",
                ),
                tuple(rows),
            ),
        ),
    )


FRONT = Claim(
    name="dpa_front",
    sentence="A single policy trained by rejection-sampling fine-tuning on prompts that tell a direction among rewards "
    "gives users arithmetic control: the rewards trade along the direction.",
    paper="2402.18571",
    rule="Two rewards of cosine -0.3, a log-linear policy, four rounds of best-of-8, 95 % intervals over games. Heart:"
    " from each of five angles to the next the first reward falls and the second rises. Also: at 0 and at 90 "
    "degrees the reward along the direction exceeds that of the same policy trained without hearing directions; "
    "at every angle it is more than 95 % of that of a policy trained for this angle alone.",
    program=front,
)
