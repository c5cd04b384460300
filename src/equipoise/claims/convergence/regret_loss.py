"""The regret-loss (2403.16843): a layer trained to have no regret, and how near it comes to FTRL."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from equipoise.claims.claim import (
    Array,
    Claim,
    Evidence,
    Line,
    Panel,
    Scale,
    Slope,
    Table,
    log_slope,
    verdict,
)
from equipoise.claims.convergence.regret import below, games, one_thread
from equipoise.claims.draws import moved_seed, numpy_draws, torch_draws
from equipoise.games.repeated.no_regret import (
    SIMPLEX,
    LinearAttention,
    Transformer,
    best_step,
    clipped_normal,
    learner,
    nearest_ftrl,
    train,
)
from equipoise.games.repeated.regret import (
    L2,
    Ftrl,
    Learner,
    Losses,
    Regrets,
    alternating,
    external_regret,
    follow_the_leader,
    self_play,
    trend_p_value,
)

ACTIONS = 3
ALTERNATING, WALK = "alternating", "random walk"
DRAWN = (ALTERNATING, WALK, "self-play on rps")
TRAINED, FTRL, LEADER, UNTRAINED = "trained layer", "FTRL with L2", "follow the leader", "untrained layer"
NEAR, SAME_PLAYS = 0.1, 0.03
SHORT = 16  # horizon of what is trained at one horizon only


@dataclass(frozen=True)
class Plan:
    """What one scale runs. layers: trained at each horizon; starts: plain starts; transformers: trained."""

    horizons: tuple[int, ...]
    layers: int
    steps: int
    sequences: int
    starts: int
    transformers: int


PLANS: Mapping[Scale, Plan] = {
    "quick": Plan((8, 16, 32), 2, 200, 50, 3, 0),
    "full": Plan((8, 16, 32, 64, 128), 3, 600, 500, 20, 2),
}


@dataclass(frozen=True)
class Layer:
    """One trained layer.

    step, distance    the nearest FTRL with L2, and the relative distance of the layer's linear part from it.
    apart             mean total variation of its plays from that FTRL's, on the worst of the unseen losses.
    regret            (losses, learner) -> Reg_T, mean over sequences.
    falling           losses -> share of sequences on which the layer's Reg_t/t falls (p < 0.05).
    """

    rounds: int
    seed: int
    step: float
    distance: float
    apart: float
    regret: Mapping[tuple[str, str], float]
    falling: Mapping[str, float]


def regret_loss(scale: Scale) -> Evidence:
    plan = PLANS[scale]
    with one_thread():
        layers = [trained(t, seed, plan) for t in plan.horizons for seed in range(plan.layers)]
        draw = clipped_normal(SHORT, ACTIONS)
        best = best_step(draw(50_000, torch_draws(1)), SIMPLEX)
        near = [started(seed, plan.steps, counting=True) for seed in range(plan.layers)]
        plain = [started(seed, plan.steps, counting=False) for seed in range(plan.starts)]
        others = [transformer(seed, plan) for seed in range(plan.transformers)]
    return judge_regret_loss(layers, best, near, plain, others)


# --- what is trained


def trained(rounds: int, seed: int, plan: Plan) -> Layer:
    """One layer trained on normal losses of a horizon, then met by losses that it has never seen."""
    layer = LinearAttention(ACTIONS, seed=moved_seed(seed))
    untrained = LinearAttention(ACTIONS, seed=moved_seed(seed))
    train(layer, clipped_normal(rounds, ACTIONS), steps=plan.steps, seed=moved_seed(seed))
    step, distance = nearest_ftrl(layer.linear())
    learners: dict[str, Callable[[Tensor | None], Learner]] = {
        TRAINED: lambda start: learner(layer, start=start),
        FTRL: lambda start: Ftrl(regulariser=L2, eta=step, start=start),
        LEADER: lambda start: follow_the_leader,
        UNTRAINED: lambda start: learner(untrained, start=start),
    }
    curves = {name: met(make, rounds, plan.sequences) for name, make in learners.items()}
    ours, theirs = learners[TRAINED](None), learners[FTRL](None)
    apart = [
        float((ours(losses) - theirs(losses)).abs().sum(dim=2).mean() / 2)
        for losses in unseen(rounds, plan.sequences).values()
    ]
    return Layer(
        rounds,
        seed,
        step,
        distance,
        max(apart),
        {(against, name): mean_last(curves[name][against]) for against in curves[TRAINED] for name in curves},
        {against: float((trend_p_value(c) < 0.05).double().mean()) for against, c in curves[TRAINED].items()},
    )


def started(seed: int, steps: int, *, counting: bool) -> tuple[float, float]:
    """(step, distance) in the theorem's problem: groups of one sequence, squared regret, plays not projected."""
    layer = LinearAttention(ACTIONS, seed=moved_seed(seed), counting=counting)
    draw = clipped_normal(SHORT, ACTIONS)
    train(layer, draw, projected=False, groups=256, size=1, steps=steps, seed=moved_seed(seed))
    return nearest_ftrl(layer.linear())


def transformer(seed: int, plan: Plan) -> dict[str, tuple[float, float]]:
    """Losses -> Reg_T of a transformer before and after the same training."""
    model = Transformer(ACTIONS, seed=moved_seed(seed))
    before = met(lambda start: learner(model, start=start), SHORT, plan.sequences)
    train(model, clipped_normal(SHORT, ACTIONS), steps=plan.steps, seed=moved_seed(seed))
    after = met(lambda start: learner(model, start=start), SHORT, plan.sequences)
    return {against: (mean_last(before[against]), mean_last(after[against])) for against in after}


# --- what it meets


def unseen(rounds: int, sequences: int) -> dict[str, Losses]:
    """Losses between 0 and 1 that are neither normal nor, but for the coins, independent."""
    rng, shape = numpy_draws(rounds), (sequences, rounds, ACTIONS)
    walk = rng.uniform(size=(sequences, 1, ACTIONS)) + rng.normal(0, 0.3, shape).cumsum(axis=1)
    switch = rng.uniform(size=shape)
    switch[:, : rounds // 2, 0] /= 2
    switch[:, rounds // 2 :, 1] /= 2
    return {
        ALTERNATING: alternating(rounds, ACTIONS),
        "coin flips": torch.from_numpy(rng.integers(0, 2, shape).astype(float)),
        WALK: torch.from_numpy(1 - np.abs(1 - walk % 2)),  # reflected at 0 and 1
        "best action switches": torch.from_numpy(switch),
    }


def met(make: Callable[[Tensor | None], Learner], rounds: int, sequences: int) -> dict[str, Regrets]:
    """Losses -> Reg_t; in self-play, where Reg_T = T gap0(mean)/2, from a random first play."""
    play = make(None)
    found = {name: external_regret(l, play(l)) for name, l in unseen(rounds, sequences).items()}
    for name, game in games(32).items():
        if game.actions == ACTIONS:
            found[f"self-play on {name}"] = external_regret(*self_play(game, make(game.reference), rounds))
    return found


def mean_last(curves: Regrets) -> float:
    return float(curves[:, -1].mean())


# --- what it says


def judge_regret_loss(
    layers: Sequence[Layer],
    best: float,
    near: Sequence[tuple[float, float]],
    plain: Sequence[tuple[float, float]],
    transformers: Sequence[Mapping[str, tuple[float, float]]] = (),
) -> Evidence:
    """layers: as many at each horizon, horizons ascending. best: the theorem's step; near, plain: by start."""
    slopes = {key: power(layers, [one.regret[key] for one in layers]) for key in layers[0].regret}
    ours = {against: slope for (against, name), slope in slopes.items() if name == TRAINED}
    worst = max(ours, key=lambda against: ours[against].value)
    leader = slopes[ALTERNATING, LEADER]
    far, apart = max(one.distance for one in layers), max(one.apart for one in layers)
    off = max(abs(step / best - 1) for step, _ in near)
    reached = sum(distance <= NEAR for _, distance in plain)
    steps = power(layers, [one.step for one in layers])
    return Evidence(
        verdict=verdict(
            all(below(slope, 1.0) for slope in ours.values()),
            (
                far <= NEAR and apart <= SAME_PLAYS,
                off <= NEAR and all(distance <= NEAR for _, distance in near),
                leader.value >= 1 - NEAR,
            ),
        ),
        summary=f"On unseen losses the trained layer's regret grows at most as T to the power {ours[worst]} "
        f"({worst}), follow the leader's against alternating losses as {leader}. The layer is within {far:.1%} of FTRL "
        f"with L2, its plays within {apart:.3f} in total variation; its step falls as T to the power {steps}. In the "
        f"theorem's problem it finds the best step to {off:.1%}, but from plain random starts only {reached} of "
        f"{len(plain)} layers come within {NEAR:.0%} of FTRL.",
        tables=(
            regret_table(layers, slopes),
            Table(
                "the trained layer against the nearest FTRL with L2",
                ("T", "seed", "step", "distance of the linear part", "worst total variation of plays"),
                tuple((one.rounds, one.seed, one.step, one.distance, one.apart) for one in layers),
            ),
            start_table(best, {"keys and query near a unit vector": near, "plain": plain}),
            *((transformer_table(transformers),) if transformers else ()),
        ),
        panels=tuple(panel(layers, against) for against in ours if against in DRAWN),
    )


def by_horizon(layers: Sequence[Layer], values: Sequence[float]) -> tuple[tuple[int, ...], Array]:
    """(horizons, values [layers, horizons]); a mean regret below 0.001 counts as 0.001."""
    horizons = tuple(dict.fromkeys(one.rounds for one in layers))
    return horizons, np.maximum(np.reshape(values, (len(horizons), -1)).T, 1e-3)


def power(layers: Sequence[Layer], values: Sequence[float]) -> Slope:
    return log_slope(*by_horizon(layers, values))


def regret_table(layers: Sequence[Layer], slopes: Mapping[tuple[str, str], Slope]) -> Table:
    longest = [one for one in layers if one.rounds == layers[-1].rounds]
    rows = []
    for (against, name), slope in slopes.items():
        regret = float(np.mean([one.regret[against, name] for one in longest]))
        falling = float(np.mean([one.falling[against] for one in longest])) if name == TRAINED else None
        rows.append((against, name, regret, slope.value, slope.error, falling))
    return Table(
        f"unseen losses: mean regret at T = {layers[-1].rounds}, and its power of the horizon trained for",
        ("losses", "learner", "regret", "power of T", "standard error", "share of falling Reg_t/t"),
        tuple(rows),
    )


def start_table(best: float, starts: Mapping[str, Sequence[tuple[float, float]]]) -> Table:
    rows = []
    for start, found in starts.items():
        for outcome, arrived in ((f"within {NEAR:.0%}", True), ("elsewhere", False)):
            kept = np.array([one for one in found if (one[1] <= NEAR) == arrived])
            means = map(float, kept.mean(axis=0)) if len(kept) else (None, None)
            rows.append((start, outcome, len(kept), *means))
    return Table(
        f"the theorem's problem at T = {SHORT}: where training ends; the best step is {best:.4f}",
        ("start", "of FTRL", "layers", "mean step", "mean distance of the linear part"),
        tuple(rows),
    )


def transformer_table(transformers: Sequence[Mapping[str, tuple[float, float]]]) -> Table:
    rows = []
    for against in transformers[0]:
        before, after = np.mean([one[against] for one in transformers], axis=0).tolist()
        rows.append((against, before, after))
    return Table(
        f"a transformer at T = {SHORT}: mean regret of {len(transformers)}",
        ("losses", "before training", "after training"),
        tuple(rows),
    )


def panel(layers: Sequence[Layer], against: str) -> Panel:
    lines = []
    for name in (TRAINED, FTRL, LEADER, UNTRAINED):
        t, values = by_horizon(layers, [one.regret[against, name] for one in layers])
        lines.append(Line(name, tuple(map(float, t)), tuple(values.mean(axis=0).tolist())))
    x = lines[0].x
    root = Line("slope 1/2", x, tuple((one / x[0]) ** 0.5 for one in x), guide=True)
    return Panel(against, "horizon T", "regret", (*lines, root))


REGRET_LOSS = Claim(
    name="regret_loss",
    sentence="A model trained with the regret-loss, without labels of good plays, has sublinear regret on losses it "
    "has never seen; a single layer of linear self-attention so trained implements FTRL with an L2 regulariser.",
    paper="2403.16843",
    rule="Heart: on every family of unseen losses, alternating ones, random walks and self-play among them, the fitted "
    "power of T of the trained layer's mean regret, plus two standard errors over layers, is below 1; each T has its "
    "own layers. Also: the linear part of every layer is within 10 % of that of FTRL with L2 and its plays within 0.03 "
    "in mean total variation; in the theorem's problem the learned step is within 10 % of the best; and the power of "
    "follow the leader against alternating losses is at least 0.9. Layers start with keys and query near a unit "
    "vector; plain random starts and a transformer are shown beside them and do not count.",
    program=regret_loss,
)
