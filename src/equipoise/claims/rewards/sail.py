"""SAIL (2406.15567): does the gradient through a policy's own sampling improve online DPO, and online DPO offline DPO?

Policies are log-linear in features that all prompts share, and the rewards are not: what a fit gets right depends on
where its pairs come from, which is the distribution shift that the paper is about.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from equipoise.claims.claim import Array, Cell, Claim, Evidence, Scale, Table, interval, verdict
from equipoise.claims.draws import numpy_draws, torch_draws
from equipoise.claims.small_models import LinearSoftmax, Parameters, by_copy, choose, kl_rows
from equipoise.core import reduce
from equipoise.core.objectives import Dpo, Objective, Sail
from equipoise.games.expectation import Comparisons, scores

PROMPTS, ARMS, FEATURES = 20, 8, 6
BETA, SIZE, BEYOND = 0.5, 1.5, 0.75  # deviations of the rewards: within the features' span, and beyond it
RATE, BOUND = 0.05, 8.0
RECORDED, ASKED = 60, 4  # recorded pairs, and prompts whose two new responses are compared at a step
WEIGHT = 0.1  # the weight of the gradient through the responses that decides; the package's default
OFFLINE, MORE, ONLINE = "offline DPO", "offline DPO, as many labels", "online DPO"
DPR, DPP, DDP = "SAIL-DPR", "SAIL-DPP", "SAIL-DDP"
OTHER_WEIGHTS = (0.01, 0.03, 0.3, 1.0)


@dataclass(frozen=True, eq=False)
class World:
    """S copies of prompts with features and rewards [S, X, A]."""

    model: LinearSoftmax
    reward: Tensor

    @classmethod
    def drawn(cls, seeds: int) -> World:
        generator = torch_draws(0)

        def normal(*shape: int) -> Tensor:
            return torch.randn(seeds, *shape, generator=generator, dtype=torch.float64)

        features, truth = normal(PROMPTS, ARMS, FEATURES), normal(FEATURES)
        truth = SIZE * truth / truth.norm(dim=1, keepdim=True)
        reward = torch.einsum("sxad,sd->sxa", features, truth) + BEYOND * normal(PROMPTS, ARMS)
        reference = normal(PROMPTS, ARMS).log_softmax(dim=2)
        return cls(LinearSoftmax(reference=reference, features=features), reward)

    @property
    def reference(self) -> Tensor:
        return self.model.reference.flatten(0, 1)

    def compared(
        self, log_probs: Tensor, prompts: np.ndarray, uniforms: Array, judge: Tensor | None = None
    ) -> Comparisons:
        """Two responses of a policy to each prompt, the better one first.

        uniforms   [N, 3], of both responses and of the label.    judge   rewards [S X, A]; None: the true ones.
        """
        drawn = torch.from_numpy(choose(log_probs.exp()[prompts], uniforms[:, :2]))
        at = torch.from_numpy(prompts)
        reward = (self.reward.flatten(0, 1) if judge is None else judge)[at[:, None], drawn]
        wins = torch.from_numpy(uniforms[:, 2]) < torch.sigmoid(reward[:, 0] - reward[:, 1])
        ones = torch.ones(len(at), dtype=torch.float64)
        return Comparisons(at, torch.where(wins[:, None], drawn, drawn.flip(1)), ones, ones)

    def value(self, log_probs: Tensor) -> Array:
        """[S, 2] E_pi r - beta KL(pi||ref) and E_pi r, means over prompts."""
        reward = (log_probs.exp() * self.reward.flatten(0, 1)).sum(dim=1)
        charged = reward - BETA * kl_rows(log_probs, self.reference)
        return np.stack([by_copy(charged, len(self.reward)), by_copy(reward, len(self.reward))], axis=1)


def designs() -> Mapping[str, Objective | None]:
    """Objective on the policy's own responses by design; None: there are none."""
    weighted = {f"{DPR}, weight {w:g}": Sail(beta=BETA, generation=w) for w in OTHER_WEIGHTS}
    return {
        OFFLINE: None,
        MORE: None,
        ONLINE: Sail(beta=BETA, generation=0.0),
        DPR: Sail(beta=BETA, generation=WEIGHT),
        DPP: Sail(beta=BETA, generation=WEIGHT, preference=1.0),
        DDP: Sail(beta=BETA, generation=0.0, preference=1.0),
        **weighted,
    }


def recorded(world: World, pairs: int) -> Comparisons:
    """`pairs` of the reference's own responses for each copy, prompts drawn evenly."""
    rng = numpy_draws([1, pairs])
    copies = len(world.reward)
    prompts = rng.integers(PROMPTS, size=(copies, pairs)) + PROMPTS * np.arange(copies)[:, None]
    return world.compared(world.reference, prompts.ravel(), rng.random((copies * pairs, 3)))


def trained(world: World, name: str, steps: int) -> Parameters:
    """Adam on the recorded pairs' DPO loss plus the design's loss on fresh comparisons; each is a mean over a copy's.

    The fresh responses of a step are drawn from the policy as it is then; designs meet the same uniform numbers.
    """
    own, dpo = designs()[name], Dpo(beta=BETA)
    anchors = {"reference": world.reference}
    pairs = recorded(world, RECORDED + (ASKED * steps if name == MORE else 0))
    rng = numpy_draws(2)
    theta = world.model.start().requires_grad_(True)
    optimizer = torch.optim.Adam([theta], lr=RATE)
    copies = len(world.reward)
    for _ in range(steps):
        table = world.model.log_probs(theta)
        loss = _mean(dpo, table, anchors, pairs)
        asked = np.concatenate([PROMPTS * s + rng.permutation(PROMPTS)[:ASKED] for s in range(copies)])
        uniforms = rng.random((len(asked), 3))
        if own is not None:
            fresh = pairs if name == DDP else world.compared(table.detach(), asked, uniforms)
            loss = loss + _mean(own, table, anchors, fresh)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            theta.clamp_(-BOUND, BOUND)
    return theta.detach()


def _mean(objective: Objective, table: Tensor, anchors: Mapping[str, Tensor], rows: Comparisons) -> Tensor:
    found = scores(table, anchors, rows.prompts, rows.responses, rows.prob)
    return reduce.mean(reduce.expected(objective, found).value, rows.weight)


def run(scale: Scale) -> Evidence:
    seeds, steps = {"quick": (12, 100), "full": (60, 300)}[scale]
    world = World.drawn(seeds)
    figures = {name: world.value(world.model.log_probs(trained(world, name, steps))) for name in designs()}
    return judge(figures, world.value(world.reference), ASKED * steps)


def judge(figures: Mapping[str, Array], reference: Array, labels: int) -> Evidence:
    """figures   name -> [S, 2], the regularised value and the reward; labels: of the oracle, beyond the recorded."""
    more = {
        (first, second): _interval(figures[first][:, 0] - figures[second][:, 0])
        for first, second in ((DPR, OFFLINE), (DPR, ONLINE), (DPP, OFFLINE), (ONLINE, OFFLINE))
    }
    rows: list[tuple[Cell, ...]] = [("reference", *_interval(reference[:, 0]), float(reference[:, 1].mean()))]
    rows += [(name, *_interval(found[:, 0]), float(found[:, 1].mean())) for name, found in figures.items()]
    return Evidence(
        verdict=verdict(more[DPR, OFFLINE][1] > 0 and more[DPR, ONLINE][1] > 0, (more[DPP, OFFLINE][1] > 0,)),
        summary=f"From {RECORDED} recorded pairs and {labels} further labels, {DPR}'s regularised value is above that "
        f"of offline DPO by {_said(more[DPR, OFFLINE])} and above that of online DPO by {_said(more[DPR, ONLINE])}; "
        f"online DPO's is above that of offline DPO by {_said(more[ONLINE, OFFLINE])}. {DPP}, which asks for no "
        f"further label, is above offline DPO by {_said(more[DPP, OFFLINE])}.",
        tables=(
            Table(
                f"regularised value E r - beta KL and reward, means over {len(reference)} worlds",
                ("trained by", "value", "from", "to", "reward"),
                tuple(rows),
            ),
        ),
    )


def _interval(values: Array) -> tuple[float, float, float]:
    mean, low, high = interval(values[:, None])
    return float(mean[0]), float(low[0]), float(high[0])


def _said(found: tuple[float, float, float]) -> str:
    return f"{found[0]:.3f} ({found[1]:.3f} to {found[2]:.3f})"


BILEVEL = Claim(
    name="sail_bilevel",
    sentence="Offline DPO suffers from its fixed pairs, and online DPO from leaving the distribution of its own "
    "samples out of the gradient; SAIL, the bilevel problem in one level mixed with offline pairs, reaches a better "
    "policy than both, and with labels of its own improves on offline DPO without an oracle.",
    paper="2406.15567",
    rule=f"Heart: SAIL-DPR with the gradient through its responses at the package's weight of {WEIGHT:g} ends with a "
    "higher regularised value E r - beta KL(pi||ref) than offline DPO on the recorded pairs, and than online DPO, "
    "which is the same with a weight of 0 and as many labels: both paired 95 % intervals over worlds lie above 0. "
    "Also: so does that of SAIL-DPP, which labels its responses itself, against offline DPO. Other weights, SAIL-DDP "
    "and offline DPO on as many labels are shown and do not count.",
    program=run,
)
