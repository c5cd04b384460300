"""Reward-augmented data (2410.08067): is a policy that is trained at the goals of both responses better at the best?

Small policies with few features, on pairs of two draws from the reference whose scores are the true rewards. DPO learns
from the pairs as they are; on the augmented data each goal is a context of its own, whose features are the response's
and their product with the goal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from equipoise.claims.claim import Array, Claim, Evidence, Scale, Table, interval, verdict
from equipoise.claims.draws import numpy_draws
from equipoise.claims.small_models import LinearSoftmax, always, descend, draw
from equipoise.core.objectives import Dpo
from equipoise.games.expectation import Comparisons

PROMPTS, ARMS, FEATURES, LEVELS = 4, 24, 6, 4
PAIRS, BETA, RATE = 32, 0.1, 0.02  # pairs of each prompt
GOOD = ARMS // 4  # the responses of the highest reward
PLANS: Mapping[Scale, tuple[int, int]] = {"quick": (12, 300), "full": (60, 1000)}  # copies, steps


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """[copies] figures of both policies; the reference's expected reward is 0 at every prompt.

    plain, best    expected true reward of DPO, and of the augmented policy at the best goal.
    levels         [copies, LEVELS] the augmented policy's at every goal, the lowest first.
    forgot         mean log-ratio, DPO's and then the augmented policy's at the best goal, of the good responses that
                   some pair rejects: [copies, 2].
    """

    plain: Array
    best: Array
    levels: Array
    forgot: Array


def trained(copies: int, steps: int) -> Found:
    rng = numpy_draws(3)
    reference = torch.from_numpy(rng.normal(size=(copies, PROMPTS, ARMS))).log_softmax(dim=2)
    features = torch.from_numpy(rng.normal(size=(copies, PROMPTS, ARMS, FEATURES)))
    weights = torch.from_numpy(rng.normal(size=(copies, FEATURES)) / FEATURES**0.5)
    reward = torch.einsum("sxaf,sf->sxa", features, weights)
    reward = reward - (reference.exp() * reward).sum(dim=2, keepdim=True)
    score = reward.flatten(0, 1)
    drawn = torch.from_numpy(draw(reference.exp().flatten(0, 1), 2 * PAIRS, rng)).view(-1, PAIRS, 2)
    order = score.gather(1, drawn.flatten(1)).view_as(drawn).argsort(dim=2, descending=True)
    pairs = drawn.gather(2, order)  # [S X, PAIRS, 2] the better first
    distinct = pairs[..., 0] != pairs[..., 1]
    x = torch.arange(len(pairs))[:, None].expand(-1, PAIRS)
    plain = rows_of(x[distinct], pairs[distinct])
    level = levels_of(score, drawn).gather(1, pairs.flatten(1)).view_as(pairs)
    apart = level[..., 0] != level[..., 1]
    high, low = pairs + ARMS * level[..., :1], pairs.flip(2) + ARMS * level[..., 1:]
    both = rows_of(torch.cat([x[apart], x[apart]]), torch.cat([high[apart], low[apart]]))
    own = LinearSoftmax(reference=reference, features=features)
    goal = torch.linspace(-1, 1, LEVELS, dtype=torch.float64)
    wide = torch.cat([torch.cat([features, g * features], dim=3) for g in goal], dim=2)
    asked = LinearSoftmax(reference=reference.repeat(1, 1, LEVELS), features=wide, contexts=LEVELS)
    first = fitted(own, plain, steps).view(copies, PROMPTS, ARMS)
    second = fitted(asked, both, steps).view(copies, PROMPTS, LEVELS, ARMS)
    rejected = torch.zeros_like(score).index_put(
        (x[distinct], pairs[distinct][:, 1]), torch.ones(()).double()
    )
    good = score >= score.sort(dim=1, descending=True).values[:, GOOD - 1 : GOOD]
    lost = (rejected.bool() & good).view(copies, PROMPTS, ARMS)
    top = second[:, :, -1]
    ratios = [
        ((p - reference) * lost).sum(dim=(1, 2)) / lost.sum(dim=(1, 2)).clamp(min=1) for p in (first, top)
    ]
    of_level = (second.exp() * reward[:, :, None]).sum(dim=3).mean(dim=1).numpy()
    return Found(
        plain=(first.exp() * reward).sum(dim=2).mean(dim=1).numpy(),
        best=of_level[:, -1],
        levels=of_level,
        forgot=torch.stack(ratios, dim=1).numpy(),
    )


def rows_of(x: Tensor, pairs: Tensor) -> Comparisons:
    return Comparisons(x, pairs, torch.ones(len(x), dtype=torch.float64))


def levels_of(score: Tensor, drawn: Tensor) -> Tensor:
    """[S X, A] level of each response: parts of equal size of the scores that a prompt's data have."""
    seen = score.gather(1, drawn.flatten(1))
    edges = seen.quantile(torch.arange(1, LEVELS, dtype=torch.float64) / LEVELS, dim=1).T.contiguous()
    return torch.searchsorted(edges, score.contiguous(), right=True)


def fitted(model: LinearSoftmax, rows: Comparisons, steps: int) -> Tensor:
    reference = model.reference.flatten(0, 1)
    logs = reference.unflatten(1, (model.contexts, -1)).log_softmax(dim=2).flatten(1)
    theta = descend(
        Dpo(beta=BETA), model, model.start(), always(rows, reference=logs), steps=steps, rate=RATE
    )
    return model.log_probs(theta)


def judge(found: Found) -> Evidence:
    gain = interval((found.best - found.plain)[:, None])
    kept = interval((found.forgot[:, 1] - found.forgot[:, 0])[:, None])
    rise = interval(found.levels[:, 1:] - found.levels[:, :-1])
    told = ", ".join(f"{value:.2f}" for value in found.levels.mean(axis=0))
    return Evidence(
        verdict=verdict(bool(gain[1][0] > 0), [bool((rise[1] > 0).all()), bool(kept[1][0] > 0)]),
        summary=f"At the best goal the expected reward is {found.best.mean():.2f} over the reference's, "
        f"{gain[0][0]:+.2f} ({gain[1][0]:+.2f} to {gain[2][0]:+.2f}) from DPO's on the same pairs; by goal, the lowest "
        f"first, it is {told}. Good responses that some pair rejects have a log-ratio "
        f"{kept[0][0]:+.2f} ({kept[1][0]:+.2f} to {kept[2][0]:+.2f}) from DPO's.",
        tables=(
            Table(
                f"expected reward over the reference's and log-ratios, means over {len(found.best)} copies",
                ("policy", "reward", "log-ratio of good rejected responses"),
                (
                    ("DPO", float(found.plain.mean()), float(found.forgot[:, 0].mean())),
                    ("augmented, best goal", float(found.best.mean()), float(found.forgot[:, 1].mean())),
                    *(
                        (f"augmented, goal {k + 1} of {LEVELS}", float(found.levels[:, k].mean()), None)
                        for k in range(LEVELS - 1)
                    ),
                ),
            ),
        ),
    )


def run(scale: Scale) -> Evidence:
    return judge(trained(*PLANS[scale]))


GOALS = Claim(
    name="reward_augmented_goals",
    sentence="Training on pairs relabelled for the scores of both responses tells levels of quality apart, forgets "
    "less of good rejected responses, and at the best goal improves on DPO on the same pairs.",
    paper="2410.08067",
    rule=f"Policies of {FEATURES} features, {PAIRS} pairs of reference draws for each of {PROMPTS} prompts of "
    f"{ARMS} responses, true rewards as scores, {LEVELS} levels, DPO at beta {BETA:g} for both; 95 % paired intervals "
    "over copies. Heart: the expected reward at the best goal is above DPO's. Also: it rises from each goal to the "
    "next; and the mean log-ratio of responses in the best quarter that some pair rejects is above DPO's.",
    program=run,
)
