"""SPPO (2405.00675): what its pointwise loss does to the log-prob of the chosen response, compared with DPO and IPO.

A log-linear policy pi ~ ref exp(theta . phi(x, y)) whose parameters all prompts share, trained on one pair for each
prompt, the best against the worst of five samples; and a table, where no two responses share a parameter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from equipoise.claims.claim import Array, Claim, Evidence, Line, Panel, Scale, Table, interval, verdict
from equipoise.claims.draws import torch_draws
from equipoise.claims.intervals import mean_of
from equipoise.core.objectives import Dpo, Ipo, Objective, Sppo
from equipoise.core.scores import Scores

PROMPTS, ARMS, FEATURES, SAMPLES = 64, 20, 64, 5
LOSSES = ("SPPO", "IPO", "DPO")
LEVEL = 1.0  # nats of margin at which the losses are compared
JUDGED, HIGH = 4.0, 16.0  # target between chosen and rejected, nats; SPPO's on average
DPO_BETA = 0.5
RATES = {"SPPO": 2.0, "IPO": 1.0, "DPO": 20.0}
SHARED, TABLE = "shared features", "table"


@dataclass(frozen=True)
class World:
    """S data sets at once. phi [S, X, A, D], reference log-probs and the judge's rewards [S, X, A], pairs and win
    rates [S, X, 2].

    use [S, X] is 0 for a prompt whose samples were all one response.
    """

    phi: Tensor
    reference: Tensor
    judged: Tensor
    pairs: Tensor
    rates: Tensor
    use: Tensor


@dataclass(frozen=True)
class Path:
    """[S, points] mean log-ratio of chosen and rejected responses along one training run."""

    policy: str
    loss: str
    target: float
    chosen: Array
    rejected: Array


def draw(seeds: int) -> World:
    """Five samples of the reference per prompt, labelled by a Bradley-Terry judge; best and worst of them."""
    generator = torch_draws(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(seeds, PROMPTS, *shape, generator=generator, dtype=torch.float64)

    phi = normal(ARMS, FEATURES) / FEATURES**0.5
    reference, judged = normal(ARMS).log_softmax(dim=2), normal(ARMS)
    drawn = torch.multinomial(reference.exp().flatten(0, 1), SAMPLES, replacement=True, generator=generator)
    drawn = drawn.view(seeds, PROMPTS, SAMPLES)
    reward = judged.gather(2, drawn)
    rates = torch.sigmoid(reward.unsqueeze(3) - reward.unsqueeze(2)).mean(dim=3)
    ends = torch.stack([rates.argmax(dim=2), rates.argmin(dim=2)], dim=2)
    pairs = drawn.gather(2, ends)
    use = (pairs[..., 0] != pairs[..., 1]).double()
    return World(phi, reference, judged, pairs, rates.gather(2, ends), use)


def objective(loss: str, target: float, world: World) -> Objective:
    """The loss whose minimiser puts `target` nats between chosen and rejected; DPO has no such number."""
    if loss == "IPO":
        return Ipo(tau=0.5 / target)
    if loss == "DPO":
        return Dpo(beta=DPO_BETA)
    apart = (world.rates[..., 0] - world.rates[..., 1])[world.use > 0].mean()
    return Sppo(eta=target / float(apart))


def train(world: World, policy: str, loss: str, target: float, steps: int) -> Path:
    """Gradient descent on the mean loss of each data set, from the reference."""
    seeds = len(world.phi)
    shape = (seeds, PROMPTS, ARMS) if policy == TABLE else (seeds, FEATURES)
    # a table's logits are moved by one pair each, not by all of them
    rate = RATES[loss] * (PROMPTS / 8 if policy == TABLE else 1)
    theta = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
    form, anchor = objective(loss, target, world), world.reference.gather(2, world.pairs).flatten(0, 1)
    count = world.use.sum(dim=1, keepdim=True)
    points = sorted({round(t) for t in np.geomspace(1, steps, 40)})
    chosen, rejected = [], []
    for t in range(1, steps + 1):
        ratio, losses = forward(world, theta, form, anchor)
        (step,) = torch.autograd.grad((world.use / count * losses).sum(), theta)
        theta = (theta - rate * step).detach().requires_grad_(True)
        if t in points:
            ratio = forward(world, theta, form, anchor)[0].detach()
            mean = (world.use.unsqueeze(2) * ratio).sum(dim=1) / count
            chosen.append(mean[:, 0].numpy())
            rejected.append(mean[:, 1].numpy())
    return Path(policy, loss, target, np.stack(chosen, axis=1), np.stack(rejected, axis=1))


def forward(world: World, theta: Tensor, form: Objective, anchor: Tensor) -> tuple[Tensor, Tensor]:
    """(log-ratios of the pairs [S, X, 2], losses [S, X])."""
    moved = theta if theta.ndim == 3 else torch.einsum("sxad,sd->sxa", world.phi, theta)
    logp = (world.reference + moved).log_softmax(dim=2).gather(2, world.pairs).flatten(0, 1)
    anchors = dict.fromkeys(form.anchors, anchor)
    losses = form(Scores(logp=logp, anchors=anchors, reward=world.rates.flatten(0, 1))).value
    seeds = len(world.phi)
    return (logp - anchor).view(seeds, PROMPTS, 2), losses.view(seeds, PROMPTS)


def run(scale: Scale) -> Evidence:
    seeds, steps = {"quick": (5, 300), "full": (20, 2000)}[scale]
    targets = {"quick": (JUDGED, HIGH), "full": (1.0, 2.0, JUDGED, 8.0, HIGH)}[scale]
    world = draw(seeds)
    paths = [train(world, SHARED, loss, target, steps) for target in targets for loss in ("SPPO", "IPO")]
    paths += [train(world, TABLE, loss, JUDGED, steps) for loss in ("SPPO", "IPO")]
    return judge([*paths, *(train(world, policy, "DPO", JUDGED, steps) for policy in (SHARED, TABLE))])


def judge(paths: list[Path]) -> Evidence:
    at = {(p.policy, p.loss): p for p in paths if p.target == JUDGED}
    sppo, *others = (at[SHARED, loss] for loss in LOSSES)
    there = mean_of(reached(sppo))
    more = {p.loss: mean_of(reached(sppo) - reached(p)) for p in others}
    below = all(mean_of(reached(p)).high < 0 for p in others)
    raised = end(sppo.chosen)[1] > 0
    lowered = all(end(side)[2] < 0 for p in others for side in (p.chosen, p.rejected))
    high = [p for p in paths if (p.policy, p.loss, p.target) == (SHARED, "SPPO", HIGH)]
    told = ", ".join(f"{p.loss} {end(p.chosen)[0]:+.2f} / {end(p.rejected)[0]:+.2f}" for p in (sppo, *others))
    summary = (
        f"Where the margin reaches {LEVEL:g} nat SPPO's chosen log-prob stands at {there}, "
        + ", ".join(f"less {loss}'s {gain}" for loss, gain in more.items())
        + f". At the end of training chosen / rejected: {told}"
    )
    if high:
        summary += f"; with a target of {HIGH:g} nats SPPO too ends at {end(high[0].chosen)[0]:+.2f}"
    return Evidence(
        verdict=verdict(
            there.low > 0 and all(gain.low > 0 for gain in more.values()) and below, (raised and lowered,)
        ),
        summary=summary + ".",
        tables=(
            Table(
                f"after training, means over {len(sppo.chosen)} data sets",
                (
                    "policy",
                    "loss",
                    "target, nats",
                    "chosen",
                    "95 % from",
                    "to",
                    "rejected",
                    f"chosen at {LEVEL:g} nat",
                ),
                tuple(
                    (
                        p.policy,
                        p.loss,
                        None if p.loss == "DPO" else p.target,
                        *end(p.chosen),
                        end(p.rejected)[0],
                        float(reached(p).mean()),
                    )
                    for p in paths
                ),
            ),
        ),
        panels=tuple(panel(policy, paths) for policy in (SHARED, TABLE)),
    )


def end(side: Array) -> tuple[float, float, float]:
    """Mean over data sets at the end of training, with its 95 % interval."""
    mean, low, high = interval(side[:, -1:])
    return float(mean[0]), float(low[0]), float(high[0])


def reached(path: Path, margin: float = LEVEL) -> Array:
    """[S] chosen log-ratio of each data set where its margin first reaches this one; its end where it never does."""
    margins = np.maximum.accumulate(path.chosen - path.rejected, axis=1)
    return np.array([np.interp(margin, m, c) for m, c in zip(margins, path.chosen, strict=True)])


def panel(policy: str, paths: list[Path]) -> Panel:
    lines = []
    for p in paths:
        if p.policy == policy and (p.target == JUDGED or (p.loss == "SPPO" and p.target == HIGH)):
            margin, chosen = (p.chosen - p.rejected).mean(axis=0), p.chosen.mean(axis=0)
            name = p.loss if p.target == JUDGED else f"{p.loss} at {p.target:g} nats"
            lines.append(Line(name, tuple(margin.tolist()), tuple(chosen.tolist())))
    return Panel(
        policy,
        "margin: chosen less rejected, nats",
        "change of the chosen log-prob, nats",
        tuple(lines),
        log_x=False,
        log_y=False,
    )


RAISES_CHOSEN = Claim(
    name="sppo_raises_chosen",
    sentence="SPPO raises the log-prob of chosen responses where losses of the margin alone, DPO and IPO, "
    "lower both chosen and rejected ones.",
    paper="2405.00675",
    rule=f"A log-linear policy whose {FEATURES} parameters {PROMPTS} prompts share, SPPO and IPO with a target "
    f"of {JUDGED:g} nats between chosen and rejected. Heart: where the margin first reaches {LEVEL:g} nat the "
    "mean chosen log-prob is above the reference under SPPO, below it under IPO and under DPO, and higher "
    "under SPPO on the same data sets, beyond the 95 % intervals. Also: at the end of training it is above "
    "the reference under SPPO, and both are below it under IPO and DPO. A table, and SPPO with a higher "
    "target, are shown and do not count.",
    set="the ends were the heart at first, where IPO's and DPO's margins are several times SPPO's; that all "
    "three stand alike at equal margins was known when the halves were exchanged.",
    program=run,
)
