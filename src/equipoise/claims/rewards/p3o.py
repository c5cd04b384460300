"""P3O (2310.00212): what a reward adds to every response of a prompt changes nothing, where pairs are compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from equipoise.claims.claim import Array, Cell, Claim, Evidence, Panel, Scale, Table, interval, verdict
from equipoise.claims.draws import numpy_draws
from equipoise.claims.small_models import LinearSoftmax, choose, descend, line
from equipoise.core.dims import Strategy
from equipoise.core.objectives import Copg, P3o, Reinforce, Rloo
from equipoise.core.objectives.base import Objective
from equipoise.games.expectation import Comparisons

PROMPTS, ARMS, FEATURES, SAMPLES = 6, 5, 12, 2
SHIFTS = (
    0.0,
    1.0,
    10.0,
)  # sizes of delta(x), which is that times an integer from -2 to 2; rewards lie in [0, 1]
TAU = 0.05
SAME, MOVED = 1e-9, 1e-2  # parameters, of size about 1
PACE = 0.05  # of the critics
Rows: TypeAlias = tuple[tuple[Cell, ...], ...]
Critic: TypeAlias = Callable[
    [Tensor], Tensor
]  # rewards [seeds, shifts, X, K] -> baseline that broadcasts to them


@dataclass(frozen=True, kw_only=True)
class Learner:
    """An objective for a given KL weight, and the critic that serves it, if any."""

    objective: Callable[[float], Objective]
    critic: str = ""
    pairwise: bool = True


LEARNERS: Mapping[str, Learner] = {
    "P3O, joint ratio": Learner(objective=lambda tau: P3o(tau=tau)),
    "P3O, separate ratios": Learner(objective=lambda tau: P3o(tau=tau, joint=False)),
    "CoPG": Learner(objective=lambda tau: Copg(beta=tau)),
    "RLOO": Learner(objective=lambda tau: Rloo(tau=tau)),
    "constant baseline": Learner(objective=lambda tau: Reinforce(tau=tau), pairwise=False),
    "critic of all prompts": Learner(objective=lambda tau: Reinforce(tau=tau), critic="all", pairwise=False),
    "critic of each prompt": Learner(objective=lambda tau: Reinforce(tau=tau), critic="each", pairwise=False),
}
COUNTED = ("constant baseline", "critic of all prompts")


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """moved [shifts] largest difference of a parameter from the run without a shift; curve [shifts, seeds, steps]."""

    moved: Array
    curve: Array


def invariance(scale: Scale) -> Evidence:
    seeds, steps = {"quick": (10, 150), "full": (40, 1000)}[scale]
    found = {
        (name, tau): run(learner, tau, seeds, steps)
        for name, learner in LEARNERS.items()
        for tau in (0.0, TAU)
    }
    return judge(found)


def run(learner: Learner, tau: float, seeds: int, steps: int) -> Run:
    """Train on fresh samples; the copies of one seed differ in delta(x) only and meet the same uniform numbers."""
    rng = numpy_draws(7)
    sizes = (len(SHIFTS), seeds, PROMPTS)
    # dyadic rewards and shifts: (R + delta) - (R' + delta) is R - R' to the last bit
    reward = torch.as_tensor(rng.integers(0, 9, size=(1, seeds, PROMPTS, ARMS)) / 8.0)
    delta = torch.as_tensor(rng.integers(-2, 3, size=(1, seeds, PROMPTS)) * np.array(SHIFTS)[:, None, None])
    offset = torch.as_tensor(rng.normal(size=(1, seeds, PROMPTS, ARMS))).log_softmax(dim=3)
    features = torch.as_tensor(rng.normal(size=(1, seeds, PROMPTS, ARMS, FEATURES)) / FEATURES**0.5)
    model = LinearSoftmax(
        reference=offset.expand(*sizes, ARMS).flatten(0, 1),
        features=features.expand(*sizes, ARMS, FEATURES).flatten(0, 1),
    )
    reference, critic = model.log_probs(model.start()), critics(learner.critic, sizes)
    every = torch.arange(len(reference))
    curve: list[Tensor] = []

    def feed(table: Strategy) -> tuple[Comparisons, Mapping[str, Strategy]]:
        probs = table.exp().view(*sizes, ARMS)
        curve.append((probs * reward).sum(dim=3).mean(dim=2))
        uniforms = np.tile(rng.random((seeds * PROMPTS, SAMPLES)), (len(SHIFTS), 1))
        written = torch.from_numpy(choose(probs.flatten(0, 2), uniforms))
        given = reward.expand(*sizes, ARMS).gather(3, written.view(*sizes, SAMPLES)) + delta.unsqueeze(3)
        given = given - critic(given)
        rows = Comparisons(
            every, written, torch.ones(len(every), dtype=torch.float64), None, given.flatten(0, 2)
        )
        return rows, {"reference": reference, "previous": table}

    theta = descend(learner.objective(tau), model, model.start(), feed, steps=steps, rate=0.02)
    theta = theta.view(len(SHIFTS), -1)
    return Run(moved=(theta - theta[0]).abs().amax(dim=1).numpy(), curve=torch.stack(curve, dim=2).numpy())


def critics(kind: str, sizes: tuple[int, int, int]) -> Critic:
    """Running means of the rewards seen, less the 1/2 that `Reinforce` takes off itself; "" is no critic."""
    value = torch.zeros(*sizes, 1, dtype=torch.float64)

    def running(rewards: Tensor) -> Tensor:
        nonlocal value
        now, mean = value, rewards.mean(dim=3, keepdim=True)
        if kind == "all":
            mean = mean.mean(dim=2, keepdim=True).expand_as(mean)
        value = value + PACE * (mean - value)
        return now - 0.5

    return running if kind else lambda _: value


def judge(found: Mapping[tuple[str, float], Run]) -> Evidence:
    exact = max(r.moved.max() for (name, tau), r in found.items() if LEARNERS[name].pairwise and tau == 0)
    rounded = max(r.moved.max() for (name, tau), r in found.items() if LEARNERS[name].pairwise and tau > 0)
    least = min(r.moved[1:].min() for (name, _), r in found.items() if name in COUNTED)
    lost = {name: cost(found[name, TAU]) for name in LEARNERS}
    others = tuple(lost[name][2] < 0 for name in COUNTED)
    plain = {name: found[name, TAU].curve[0, :, -1].mean() for name in LEARNERS}
    spoken = ", ".join(
        f"{name} {lost[name][0]:+.3f} [{lost[name][1]:+.3f}, {lost[name][2]:+.3f}]" for name in COUNTED
    )
    return Evidence(
        verdict=verdict(exact <= SAME and rounded <= SAME and least > MOVED, others),
        summary="Adding delta(x) moves no parameter of P3O, CoPG and RLOO by "
        f"more than {exact:.1g} without a KL term and {rounded:.1g} with one; with a constant baseline or a "
        f"critic that does not know the prompt it moves some by {least:.2g} or more, and costs, at size "
        f"{SHIFTS[-1]:g}, in true reward: {spoken}. Without a shift the constant baseline earns "
        f"{plain['constant baseline']:.3f}, P3O {plain['P3O, joint ratio']:.3f}.",
        tables=(moved_table(found), reward_table(found)),
        panels=tuple(
            panel(shift, i, found) for i, shift in enumerate(SHIFTS) if shift in (SHIFTS[0], SHIFTS[-1])
        ),
    )


def cost(run: Run) -> tuple[float, float, float]:
    """True reward at the end under the largest shift less that without: mean over seeds and its 95 % interval."""
    mean, low, high = interval((run.curve[-1] - run.curve[0])[:, -1])
    return float(mean), float(low), float(high)


def moved_table(found: Mapping[tuple[str, float], Run]) -> Table:
    rows: Rows = tuple((name, tau, *map(float, run.moved[1:])) for (name, tau), run in found.items())
    return Table(
        "largest difference of a parameter from the run without a shift",
        ("learner", "KL weight", *(f"delta of size {shift:g}" for shift in SHIFTS[1:])),
        rows,
    )


def reward_table(found: Mapping[tuple[str, float], Run]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for (name, tau), run in found.items():
        if tau:
            means = run.curve[:, :, -1].mean(axis=1)
            rows.append((name, *map(float, means), *cost(run)[1:]))
    steps = next(iter(found.values())).curve.shape[2]
    return Table(
        f"true reward E_pi R before the last of {steps} steps, KL weight {TAU:g}, and the interval of last less "
        "first",
        ("learner", *(f"delta of size {shift:g}" for shift in SHIFTS), "low", "high"),
        tuple(rows),
    )


def panel(shift: float, index: int, found: Mapping[tuple[str, float], Run]) -> Panel:
    shown = ("P3O, joint ratio", "constant baseline", "critic of all prompts", "critic of each prompt")
    steps = found["RLOO", TAU].curve.shape[2]
    at = sorted({round(t) for t in np.linspace(0, steps - 1, 26)})
    return Panel(
        f"delta(x) of size {shift:g}" if shift else "without a shift",
        "step",
        "true reward",
        tuple(line(name, at, found[name, TAU].curve[index][:, at]) for name in shown),
        log_x=False,
        log_y=False,
    )


SHIFT_INVARIANCE = Claim(
    name="p3o_shift_invariance",
    sentence="P3O's update does not change when delta(x) is added to the rewards of a prompt, nor do those of "
    "CoPG and RLOO; a policy gradient with a constant baseline, or with a critic that is imperfect, changes and "
    "learns worse.",
    paper="2310.00212",
    rule="Heart: after training on the same random numbers no parameter of the pairwise learners differs by "
    f"more than {SAME:g} from the run without a shift, with and without a KL term, and with a constant baseline "
    f"and with one critic for all prompts some parameter differs by more than {MOVED:g}. Also: at the largest "
    "shift both of these end with less true reward, the 95 % interval of the difference below 0. A critic of "
    "each prompt, which learns the shift in time, is shown beside them and does not count.",
    program=invariance,
)
