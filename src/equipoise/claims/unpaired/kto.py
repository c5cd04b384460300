"""KTO (2402.01306): its value saturates, point by point; and what `kto_thumbs` trains with it.

The loss by itself, point by point; then log-linear policies pi ~ ref exp(theta . phi) whose features all prompts
share, trained on single labelled responses. Judged is how a policy's log-ratios order two responses to a prompt:
the share of pairs ordered as by the true reward, theta* . phi, which does not depend on how far training went.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from equipoise.claims.claim import Array, Claim, Evidence, Panel, Scale, Table, verdict
from equipoise.claims.claim import Line as Curve
from equipoise.claims.draws import numpy_draws, torch_draws
from equipoise.claims.small_models import LinearSoftmax, choose
from equipoise.core import reduce
from equipoise.core.objectives import Bco, Kto, Objective
from equipoise.core.objectives.base import batch_statistic_of
from equipoise.core.scores import Scores
from equipoise.games.expectation import scores
from equipoise.worlds.derangement import derangement

Indices = npt.NDArray[np.int64]

PROMPTS, ARMS, FEATURES, SIZE = 40, 6, 6, 2.0  # SIZE: |theta*|
BETA, RATE = 0.5, 0.05
ROWS, FLIPPED = 220, 0.1
UP, DOWN = 1.5, 0.5  # weights at which the loss is looked at
FAR = 20.0  # beta times the distance from the reference point where tails are looked at
EXACT, FADED = 1e-12, 1e-6
KTO, ZERO, BCO, PLAIN = "KTO", "KTO, reference point 0", "BCO", "logistic, no shift"
LOSSES: dict[str, Callable[[float], Objective]] = {
    KTO: lambda beta: Kto(beta=beta),
    ZERO: lambda beta: Kto(beta=beta, baseline="zero"),
    BCO: lambda beta: Bco(beta=beta),
    PLAIN: lambda beta: Bco(beta=beta, shift="none"),
}
CLEAN, FARTHEST, NEAREST = "none", "farthest from the reference point", "nearest to it"
WRONG = (CLEAN, FARTHEST, NEAREST)
MIXES = ((200, 20), (20, 200))
RATIOS = (0.1, 1.0, 4 / 3, 10.0)  # desirable n_D / (undesirable n_U)


@dataclass(frozen=True)
class Shape:
    """The loss at points within FAR of the reference point, both labels.

    inside     every loss lies strictly between 0 and its weight.
    half       largest distance of a loss from half its weight where policy and reference agree.
    slope      largest distance of a gradient from weight beta s(a)(1 - s(a)).
    tails      largest gradient at FAR on either side, relative to the largest of all.
    logistic   BCO's gradient at FAR on the mislabelled side, relative to beta.
    pull       gradient that the unrelated responses feel.
    """

    inside: bool
    half: float
    slope: float
    tails: float
    logistic: float
    pull: float


def look() -> Shape:
    """The loss itself, with a reference point of its batch."""
    objective = Kto(beta=BETA, desirable=UP, undesirable=DOWN)
    a = torch.linspace(-FAR, FAR, 801, dtype=torch.float64).repeat(2)
    label = torch.tensor([1.0, 0.0], dtype=torch.float64).repeat_interleave(len(a) // 2)
    z0 = 0.7

    def at(above: Tensor, unrelated: float) -> tuple[Tensor, Tensor]:
        logp = torch.stack(
            [above / BETA + unrelated, torch.full_like(above, unrelated)], dim=1
        ).requires_grad_(True)
        batch = Scores(
            logp=logp,
            anchors={"reference": torch.zeros_like(logp, requires_grad=False)},
            reward=torch.stack([label, label], dim=1),
        )
        value = objective(batch).value
        return value.detach(), torch.autograd.grad(value.sum(), logp)[0]

    value, slope = at(a, z0)
    half = at(torch.zeros_like(a), 0.0)[0]
    weight = torch.where(label == 1, UP, DOWN).double()
    expected = weight * BETA * torch.sigmoid(a) * torch.sigmoid(-a)
    size = slope[:, 0].abs()
    wrong = torch.tensor([[-FAR / BETA]], dtype=torch.float64, requires_grad=True)  # labelled desirable
    one = torch.ones(1, 1, dtype=torch.float64)
    far = Scores(logp=wrong, anchors={"reference": 0 * one}, reward=one)
    (logistic,) = torch.autograd.grad(Bco(beta=BETA, shift="none")(far).value.sum(), wrong)
    return Shape(
        inside=bool(((value > 0) & (value < weight)).all()),
        half=float((half - weight / 2).abs().max()),
        slope=float((size - expected).abs().max()),
        tails=float(size[a.abs() == FAR].max() / size.max()),
        logistic=float(logistic.abs() / BETA),
        pull=float(slope[:, 1].abs().max()),
    )


@dataclass(frozen=True, eq=False)
class World:
    """S copies: a policy class each and its true rewards [S, X, A]."""

    model: LinearSoftmax
    reward: Tensor


@dataclass(frozen=True, eq=False)
class Labels:
    """N labelled responses of each copy, each with an unrelated one: prompts, label [S, N], responses [S, N, 2]."""

    prompts: Indices
    responses: Indices
    label: Array


def draw(copies: int) -> World:
    generator = torch_draws(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(copies, *shape, generator=generator, dtype=torch.float64)

    features, truth = normal(PROMPTS, ARMS, FEATURES), normal(FEATURES)
    truth = SIZE * truth / truth.norm(dim=1, keepdim=True)
    reference = (0.5 * normal(PROMPTS, ARMS)).log_softmax(dim=2)
    return World(
        LinearSoftmax(reference=reference, features=features), torch.einsum("sxad,sd->sxa", features, truth)
    )


def _written(world: World, count: int, seed: int) -> tuple[Indices, Indices, Array]:
    """(prompts, responses, rewards), [S, count] each; prompts evenly, responses by the reference."""
    rng, copies = numpy_draws(seed), len(world.reward)
    prompts = rng.integers(PROMPTS, size=(copies, count))
    distribution = world.model.reference.exp()[
        torch.arange(copies)[:, None], torch.from_numpy(prompts)
    ].flatten(0, 1)
    responses = choose(distribution, rng.random((len(distribution), 1))).reshape(copies, count)
    return prompts, responses, world.reward.numpy()[np.arange(copies)[:, None], prompts, responses]


def _beside_unrelated(prompts: Indices, responses: Indices, label: Array) -> Labels:
    """Each response with that of another prompt; the second column's prompt is the first's, as in `TableWorld`."""
    rng = numpy_draws(7)
    met = np.stack([derangement(row, rng.random(len(row))) for row in prompts])
    other = np.take_along_axis(responses, met, axis=1)
    return Labels(prompts, np.stack([responses, other], axis=2), label)


def mislabelled(world: World, which: str) -> Labels:
    """Labels by the reward's sign, a tenth of them wrong: those with the largest or the smallest |reward|, or none."""
    prompts, responses, reward = _written(world, ROWS, 1)
    order = np.abs(reward).argsort(axis=1)
    count = round(FLIPPED * ROWS)
    wrong = {CLEAN: order[:, :0], FARTHEST: order[:, -count:], NEAREST: order[:, :count]}[which]
    label = (reward > 0).astype(float)
    np.put_along_axis(label, wrong, 1 - np.take_along_axis(label, wrong, axis=1), axis=1)
    return _beside_unrelated(prompts, responses, label)


def imbalanced(world: World, up: int, down: int) -> Labels:
    """`up` desirable and `down` undesirable labels, drawn: desirable with probability sigma(reward)."""
    prompts, responses, reward = _written(world, 8 * (up + down), 2)
    label = numpy_draws(3).random(reward.shape) < 1 / (1 + np.exp(-reward))
    kept = np.stack([np.r_[np.flatnonzero(row)[:up], np.flatnonzero(~row)[:down]] for row in label])
    return _beside_unrelated(
        *(np.take_along_axis(v, kept, axis=1) for v in (prompts, responses, label.astype(float)))
    )


def train(world: World, thumbs: Labels, objective: Objective, steps: int) -> tuple[Array, float]:
    """Adam on each data set's mean loss from the reference.

    Returns the share of pairs it orders as the truth does, [S], and the largest number that the loss read of any
    batch.
    """
    model, reference = world.model, world.model.reference.flatten(0, 1)
    copies, count = thumbs.label.shape
    prompts = torch.from_numpy((thumbs.prompts + PROMPTS * np.arange(copies)[:, None]).ravel())
    responses = torch.from_numpy(thumbs.responses.reshape(-1, 2))[:, : objective.candidates]
    reward = torch.from_numpy(thumbs.label.reshape(-1, 1)).expand(responses.shape)
    theta = model.start().requires_grad_(True)
    optimizer, largest = torch.optim.Adam([theta], lr=RATE), 0.0
    for _ in range(steps):
        batch = scores(model.log_probs(theta), {"reference": reference}, prompts, responses, reward=reward)
        if objective.reads.batch_statistic:  # of each data set alone
            parts = [batch.take(torch.arange(s * count, (s + 1) * count)) for s in range(copies)]
            statistic = torch.cat([batch_statistic_of(objective, part) for part in parts])
            batch = replace(batch, batch_statistic=statistic)
            largest = max(largest, float(statistic.max()))
        optimizer.zero_grad()
        reduce.mean(objective(batch).value, total=float(count)).backward()
        optimizer.step()
    return ordered(model.log_probs(theta.detach()) - reference, world.reward), largest


def ordered(ratio: Tensor, reward: Tensor) -> Array:
    """Share of all pairs of responses to one prompt that log-ratios [S X, A] order as rewards [S, X, A] do, [S]."""
    first, second = torch.triu_indices(ARMS, ARMS, offset=1)
    found = ratio.view(reward.shape)
    agree = (found[..., first] > found[..., second]) == (reward[..., first] > reward[..., second])
    return agree.double().mean(dim=(1, 2)).numpy()


def weighed(up: int, down: int, ratio: float) -> Objective:
    """KTO whose weights' ratio times that of the counts is this; the larger weight is 1."""
    lam = ratio * down / up
    return Kto(beta=BETA, desirable=min(lam, 1.0), undesirable=min(1 / lam, 1.0))


def run(scale: Scale) -> Evidence:
    return judge(look())


def judge(shape: Shape) -> Evidence:
    inside = shape.inside and max(shape.half, shape.slope) <= EXACT and shape.pull == 0
    fades = shape.tails <= FADED and shape.logistic >= 1 - FADED
    return Evidence(
        verdict=verdict(inside and fades),
        summary=f"The loss {'is' if inside and fades else 'is not'} as it is said to be, point by point: its "
        f"gradient at {FAR:g} from the reference point is {shape.tails:.1g} of its peak, where the logistic "
        f"loss keeps {shape.logistic:.4f} of beta on the mislabelled side.",
        tables=(
            Table(
                f"the loss within {FAR:g} of the reference point, in units of 1/beta",
                ("what", "found"),
                (
                    ("losses strictly between 0 and their weights", str(shape.inside)),
                    ("at the reference, off half the weight by", shape.half),
                    ("gradient, off weight beta s(a)(1 - s(a)) by", shape.slope),
                    ("gradient at both ends, relative to its peak", shape.tails),
                    ("logistic gradient at the mislabelled end, relative to beta", shape.logistic),
                    ("gradient on unrelated responses", shape.pull),
                ),
            ),
        ),
        panels=(_slopes(),),
    )


def _slopes() -> Panel:
    a = np.linspace(-8, 8, 81)
    s = 1 / (1 + np.exp(-a))
    curves = (("KTO", s * (1 - s)), ("logistic", 1 - s))
    lines = tuple(Curve(name, tuple(a.tolist()), tuple(y.tolist())) for name, y in curves)
    return Panel(
        "pull of a response labelled desirable",
        "beta (log-ratio - reference point)",
        "gradient / beta",
        lines,
        False,
        False,
    )


CARD = Claim(
    name="kto_card",
    sentence="KTO's loss lies between 0 and its weight, and its gradient vanishes on both tails, where a "
    "logistic loss keeps pulling at a response whose label is wrong.",
    paper="2402.01306",
    rule="Heart: every loss is strictly inside, half its weight at the reference and its gradient weight beta "
    f"s(a)(1 - s(a)), both to {EXACT:g}; at {FAR:g} from the reference point the gradient is below {FADED:g} "
    "of its peak on both sides, where the logistic loss keeps all of beta on the mislabelled one; unrelated "
    "responses feel none.",
    program=run,
)
