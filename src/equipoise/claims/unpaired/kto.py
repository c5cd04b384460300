"""KTO (2402.01306): its value saturates. What that does to mislabelled responses, and weights against imbalance.

The loss by itself, point by point; then log-linear policies pi ~ ref exp(theta . phi) whose features all prompts
share, trained on single labelled responses. Judged is how a policy's log-ratios order two responses to a prompt:
the share of pairs ordered as by the true reward, theta* . phi, which does not depend on how far training went.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from equipoise.claims.claim import Array, Claim, Evidence, Panel, Scale, Table, interval, verdict
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
LOSSES: dict[str, Objective] = {
    KTO: Kto(beta=BETA),
    ZERO: Kto(beta=BETA, baseline="zero"),
    BCO: Bco(beta=BETA),
    PLAIN: Bco(beta=BETA, shift="none"),
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

    Returns the share of pairs it orders as the truth does, [S], and the largest number that the loss read of any batch.
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
    copies, steps = {"quick": (8, 100), "full": (40, 400)}[scale]
    world = draw(copies)
    thumbs_of = {which: mislabelled(world, which) for which in WRONG}
    trained = {
        (which, loss): train(world, thumbs, objective, steps)
        for which, thumbs in thumbs_of.items()
        for loss, objective in LOSSES.items()
    }
    wrong = {key: found for key, (found, _) in trained.items()}
    highest = max(trained[which, KTO][1] for which in WRONG)
    mixed = {
        (mix, ratio): train(world, thumbs, weighed(*mix, ratio), steps)[0]
        for mix in MIXES
        for thumbs in [imbalanced(world, *mix)]
        for ratio in RATIOS
    }
    return judge(look(), wrong, mixed, highest)


def judge(
    shape: Shape,
    wrong: dict[tuple[str, str], Array],
    mixed: dict[tuple[tuple[int, int], float], Array],
    highest: float,
) -> Evidence:
    card = shape.inside and max(shape.half, shape.slope) <= EXACT and shape.tails <= FADED and shape.pull == 0
    card = card and shape.logistic >= 1 - FADED
    robust = {
        (which, other): _gain(wrong[which, KTO], wrong[which, other])
        for which in WRONG
        for other in (BCO, PLAIN)
    }
    same_tails = _gain(wrong[FARTHEST, ZERO], wrong[FARTHEST, PLAIN])
    rule = {
        (mix, ratio): _gain(mixed[mix, ratio], mixed[mix, mix[0] / mix[1]])
        for mix in MIXES
        for ratio in RATIOS[1:3]
    }
    heart = card and all(robust[FARTHEST, other][1] > 0 for other in (BCO, PLAIN))
    told = ", ".join(
        f"{loss} {wrong[CLEAN, loss].mean():.3f} -> {wrong[FARTHEST, loss].mean():.3f}" for loss in LOSSES
    )
    gains = ", ".join(f"{up}:{down} at {ratio:.3g} {g[0]:+.3f}" for ((up, down), ratio), g in rule.items())
    return Evidence(
        verdict=verdict(heart, (same_tails[1] > 0, *(gain[1] > 0 for gain in rule.values()))),
        summary=f"The loss {'is' if card else 'is not'} as it is said to be, point by point. Pairs ordered rightly "
        f"before and after the farthest tenth of the labels is turned round: {told}. Weights by the rule of thumb, "
        f"less equal ones: {gains}. KTO's reference point, a mean over recorded responses, rose to at most "
        f"{highest:.3g}.",
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
            Table(
                f"pairs ordered rightly, {FLIPPED:.0%} of the thumbs wrong",
                ("wrong thumbs", *LOSSES, "KTO less BCO", "from", "to", "KTO less logistic", "from", "to"),
                tuple(
                    (
                        which,
                        *(float(wrong[which, loss].mean()) for loss in LOSSES),
                        *robust[which, BCO],
                        *robust[which, PLAIN],
                    )
                    for which in WRONG
                ),
            ),
            Table(
                "pairs ordered rightly by KTO, by desirable n_D / (undesirable n_U)",
                ("thumbs up", "down", *(f"{ratio:.3g}" for ratio in RATIOS)),
                tuple((*mix, *(float(mixed[mix, ratio].mean()) for ratio in RATIOS)) for mix in MIXES),
            ),
        ),
        panels=(
            _slopes(),
            Panel(
                "thumbs of unequal numbers",
                "desirable n_D / (undesirable n_U)",
                "pairs ordered rightly",
                tuple(
                    _curve(f"{up} up, {down} down", np.stack([mixed[(up, down), r] for r in RATIOS], axis=1))
                    for up, down in MIXES
                ),
                log_y=False,
            ),
        ),
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


def _curve(name: str, values: Array) -> Curve:
    mean, low, high = interval(values)
    return Curve(name, RATIOS, tuple(mean.tolist()), tuple(low.tolist()), tuple(high.tolist()))


def _gain(ours: Array, theirs: Array) -> tuple[float, float, float]:
    """Mean difference on the same data sets with its 95 % interval."""
    mean, low, high = interval((ours - theirs)[:, None])
    return float(mean[0]), float(low[0]), float(high[0])


CARD = Claim(
    name="kto_card",
    sentence="KTO's loss lies between 0 and its weight and its gradient vanishes on both tails, so that responses "
    "whose label is wrong do not pull where a logistic loss is pulled; weights with desirable n_D / (undesirable n_U) "
    "between 1 and 4/3 make up for unequal numbers.",
    paper="2402.01306",
    rule="Heart: every loss is strictly inside, half its weight at the reference and its gradient weight beta s(a)"
    f"(1 - s(a)), both to {EXACT:g}; at {FAR:g} from the reference point the gradient is below {FADED:g} of its peak "
    "on both sides where the logistic loss keeps all of beta on the mislabelled one; unrelated responses feel none; "
    "and with the tenth of thumbs farthest from the reference point wrong, KTO orders more pairs rightly than BCO and "
    "than the logistic loss without a shift, on the same data sets and beyond the 95 % interval. Also: so does KTO "
    "with its reference point at 0 against the logistic loss without a shift, which differs in the curve alone; and "
    "with 200 thumbs of one kind and 20 of the other, ratios 1 and 4/3 order more than equal weights, beyond the "
    "interval, both ways. Wrong thumbs nearest to the reference point are shown and do not count.",
    program=run,
)
