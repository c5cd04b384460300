"""NPO (2404.05868): how fast a forgotten response's likelihood runs away, compared with gradient ascent."""

from __future__ import annotations

from dataclasses import dataclass
from math import log

import numpy as np
import torch
from torch import Tensor

from equipoise.claims.claim import Array, Claim, Evidence, Line, Panel, Scale, Table, verdict
from equipoise.claims.draws import torch_draws
from equipoise.core.objectives import GradientAscent, Npo, Objective
from equipoise.core.scores import Scores

PROMPTS, ARMS, RATE = 32, 8, 0.5
BETAS = (0.5, 1.0, 2.0)


@dataclass(frozen=True)
class Path:
    """What gradient descent did to one loss: fall of the forgotten log-prob and KL(ref||pi), means over prompts."""

    name: str
    beta: float | None
    fall: Array
    moved: Array


def descend(objective: Objective, reference: Tensor, points: list[int]) -> tuple[Array, Array]:
    """Plain gradient steps on each prompt's logits, from the reference; the first arm is to be forgotten."""
    logits, anchor = reference.clone(), reference[:, :1]
    label, fall, moved = torch.zeros_like(anchor), [], []
    for step in range(1, points[-1] + 1):
        logits.requires_grad_(True)
        logp = logits.log_softmax(dim=1)
        scores = Scores(logp=logp[:, :1], anchors={"reference": anchor}, reward=label)
        (slope,) = torch.autograd.grad(objective(scores).value.sum(), logits)
        logits = (logits - RATE * slope).detach()
        if step in points:
            now = logits.log_softmax(dim=1)
            fall.append(float((anchor - now[:, :1]).mean()))
            moved.append(float((reference.exp() * (reference - now)).sum(dim=1).mean()))
    return np.array(fall), np.array(moved)


def run(scale: Scale) -> Evidence:
    steps = {"quick": 1000, "full": 20_000}[scale]
    points = sorted({round(t) for t in np.geomspace(1, steps, 30)} | {steps // 10})
    draw = torch.randn(PROMPTS, ARMS, generator=torch_draws(0), dtype=torch.float64)
    reference = draw.log_softmax(dim=1)
    paths = [Path("gradient ascent", None, *descend(GradientAscent(), reference, points))]
    paths += [Path(f"NPO, beta {b:g}", b, *descend(Npo(beta=b), reference, points)) for b in BETAS]
    return judge(paths, points)


def judge(paths: list[Path], points: list[int]) -> Evidence:
    ascent, *npo = paths
    tenth = points.index(points[-1] // 10)
    power = log(ascent.fall[-1] / ascent.fall[tenth]) / log(10)
    decade = {p.beta: float(p.fall[-1] - p.fall[tenth]) for p in npo}
    theory = {b: log(10) / b for b in BETAS}
    heart = 0.9 <= power <= 1.1 and all(abs(decade[b] / theory[b] - 1) < 0.1 for b in BETAS)
    slower = all(p.moved[-1] < ascent.moved[-1] / 10 for p in npo)
    told = ", ".join(f"{decade[b]:.2f} (theory {theory[b]:.2f}) for beta {b:g}" for b in BETAS)
    kl = ", ".join(f"{p.name} {p.moved[-1]:.3g}" for p in paths)
    rows = tuple((p.name, float(p.fall[tenth]), float(p.fall[-1]), float(p.moved[-1])) for p in paths)
    lines = tuple(Line(p.name, tuple(map(float, points)), tuple(p.fall.tolist())) for p in paths)
    return Evidence(
        verdict=verdict(heart, (slower,)),
        summary=f"Over the last factor of ten in time the forgotten log-prob's fall grows like t^{power:.3f} under "
        f"gradient ascent, and by {told} nats under NPO. KL from the reference at the end: {kl}.",
        tables=(
            Table(
                f"fall of the forgotten log-prob, nats, and KL(ref||pi) after {points[-1]:,} steps",
                ("loss", f"fall at {points[tenth]:,}", f"fall at {points[-1]:,}", "KL"),
                rows,
            ),
        ),
        panels=(Panel("unlearning", "gradient steps", "fall of the forgotten log-prob, nats", lines),),
    )


SLOW_COLLAPSE = Claim(
    name="npo_slow_collapse",
    sentence="NPO's divergence from the initial model grows with the logarithm of the number of steps, that of "
    "gradient ascent linearly: collapse is exponentially slower.",
    paper="2404.05868",
    rule="Heart: over the last factor of ten in steps the fall of the forgotten log-prob is a power of t between 0.9 "
    "and 1.1 for gradient ascent, and for NPO an increment within 10 % of log(10)/beta, at every beta (the fall solves "
    "dx/dt ~ e^(-beta x); derived here). Also: NPO's KL(ref||pi) at the end is below a tenth of gradient ascent's.",
    program=run,
)
