"""APO (2410.06293): extrapolation makes iterative DPO faster by 1/(1 - alpha), and a cycle grow faster too."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from equipoise.claims.claim import Array, Claim, Evidence, Line, Panel, Scale, Table, verdict
from equipoise.claims.convergence.cycles import ROUNDING
from equipoise.claims.draws import numpy_draws
from equipoise.core.dims import Strategy
from equipoise.games import PreferenceGame, zoo
from equipoise.methods.index import get
from equipoise.play.updates.basic import Extrapolated
from equipoise.worlds.table.play_game import play_game

BETA, ARMS, ROUNDS = 2.0, 4, 40
ALPHAS = (0.0, 0.3, 0.6)
CLOSED = 1e-9  # largest difference of a probability between played rounds and the formula
SPEED = 0.2  # relative distance of the measured speed-up from 1/(1 - alpha)
MARGIN = 1e-4  # share of the first regret at which rounds are compared


def run(scale: Scale) -> Evidence:
    games = {"quick": 100, "full": 5000}[scale]
    played_seeds = {"quick": 2, "full": 10}[scale]
    agreement = max(difference(seed, alpha) for seed in range(played_seeds) for alpha in ALPHAS)
    regret = {alpha: regrets(alpha, games) for alpha in ALPHAS}
    cycle = {alpha: spiral(alpha, {"quick": 2000, "full": 5000}[scale]) for alpha in ALPHAS[:2]}
    return judge(agreement, regret, cycle)


def drawn(seed: int) -> PreferenceGame:
    """Four arms with normal Bradley-Terry rewards (of prompt 0), the reference uniform on the simplex."""
    rng = numpy_draws(seed)
    return zoo.bradley_terry(
        torch.from_numpy(rng.normal(size=ARMS)), torch.from_numpy(rng.dirichlet(np.ones(ARMS)))
    )


def fit(start: Strategy, rewards: Strategy, alpha: float, rounds: int) -> Strategy:
    """The fit of that round, ref exp( (r/beta) sum_{k=1..t} (1 - alpha^k)/(1 - alpha) )/Z; DERIVED."""
    total = sum((1 - alpha**k) / (1 - alpha) for k in range(1, rounds + 1))
    return (start.log() + total * rewards / BETA).softmax(dim=1)


def rewards(game: PreferenceGame) -> Strategy:
    """Bradley-Terry rewards up to a constant."""
    return torch.logit(game.preference)[:, :, 0]


def difference(seed: int, alpha: float, rounds: int = 8) -> float:
    """Extrapolated rounds, played by fits of the loss, against the formula: pi_t is fit_{t+1} less one step."""
    game = drawn(seed)
    found = play_game(game, get("apo").with_parameters({"beta": BETA, "alpha": alpha}), rounds=rounds)[
        "policy"
    ]
    ahead = fit(game.reference, rewards(game), alpha, rounds + 1)
    expected = (ahead.log() - rewards(game) / BETA).softmax(dim=1)
    return float((torch.tensor(found, dtype=torch.float64) - expected).abs().max())


def regrets(alpha: float, games: int) -> Array:
    """[games, ROUNDS + 1] best reward less expected reward of the fits."""
    batch = [drawn(seed) for seed in range(games)]
    start, reward = torch.cat([g.reference for g in batch]), torch.cat([rewards(g) for g in batch])
    best = reward.amax(dim=1)
    lost = [best - (fit(start, reward, alpha, t) * reward).sum(dim=1) for t in range(ROUNDS + 1)]
    return torch.stack(lost, dim=1).numpy()


def spiral(alpha: float, rounds: int) -> tuple[list[int], list[float]]:
    """(rounds, KL from the Nash policy) of multiplicative weights with step 0.1 on rps, extrapolated."""
    method = replace(get("sppo"), update=Extrapolated(alpha=alpha)).with_parameters(
        {"eta": 0.1, "alpha": alpha}
    )
    trace = play_game(zoo.rps(), method, rounds=rounds)
    return trace["round"], trace["kl_to_nash"]


def speed_up(plain: Array, fast: Array) -> float:
    """Median over games of (rounds that plain needs)/(rounds that fast needs) to lose MARGIN of the first regret.

    Games in which the plain method does not get there are left out.
    """
    ratios = []
    for slow, quick in zip(plain, fast, strict=True):
        goal = MARGIN * slow[0]
        if slow[-1] < goal:
            ratios.append(crossing(slow, goal) / crossing(quick, goal))
    return float(np.median(ratios)) if ratios else float("nan")


def crossing(lost: Array, goal: float) -> float:
    """Round at which a falling curve meets the goal, log-linear between rounds."""
    after = int(np.argmax(lost < goal))
    high, low = np.log(lost[after - 1]), np.log(max(lost[after], ROUNDING))
    return float(after - 1 + (high - np.log(goal)) / (high - low))


def judge(
    agreement: float, regret: dict[float, Array], cycle: dict[float, tuple[list[int], list[float]]]
) -> Evidence:
    plain = regret[0.0]
    lower = all(bool((regret[a][:, 2:] <= plain[:, 2:] + 1e-15).all()) for a in ALPHAS[1:])
    first = all(bool(np.allclose(regret[a][:, 1], plain[:, 1])) for a in ALPHAS[1:])
    speeds = {a: speed_up(plain, regret[a]) for a in ALPHAS[1:]}
    as_said = all(abs(speed * (1 - a) - 1) <= SPEED for a, speed in speeds.items())
    ends = {a: kls[-1] for a, (_, kls) in cycle.items()}

    def cell(a: float, t: int) -> float:
        return float(regret[a][:, t].mean())

    told = ", ".join(f"{speed:.2f} (alpha = {a:g}; theory {1 / (1 - a):.2f})" for a, speed in speeds.items())
    return Evidence(
        verdict=verdict(agreement < CLOSED and lower and first, (as_said,)),
        summary=f"Played rounds meet the closed form to {agreement:.1g}; from the second fit on the regret is "
        f"{'lower in every game' if lower else 'not lower in every game'}. Speed-up: {told}. On the cycle rps the same "
        f"extrapolation ends at KL {ends[0.3]:.3g} from the Nash policy, {ends[0.0]:.3g} without.",
        tables=(
            Table(
                f"mean regret of the fit over {len(plain)} games of {ARMS} random arms, beta = {BETA:g}",
                ("alpha", "round 1", "round 5", "round 10", "round 20", "speed-up", "theory"),
                tuple(
                    (a, cell(a, 1), cell(a, 5), cell(a, 10), cell(a, 20), speeds.get(a, 1.0), 1 / (1 - a))
                    for a in ALPHAS
                ),
            ),
        ),
        panels=(
            Panel(
                "random arms: regret",
                "round",
                "mean regret",
                tuple(
                    Line(
                        f"alpha {a:g}",
                        tuple(map(float, range(ROUNDS + 1))),
                        tuple(max(cell(a, t), ROUNDING) for t in range(ROUNDS + 1)),
                    )
                    for a in ALPHAS
                ),
                log_x=False,
            ),
            Panel(
                "rps: multiplicative weights, step 0.1",
                "round",
                "KL(pi* || pi_t), nats",
                tuple(
                    Line(f"alpha {a:g}", tuple(map(float, t)), tuple(kls)) for a, (t, kls) in cycle.items()
                ),
                log_x=False,
                log_y=False,
            ),
        ),
    )


ACCELERATION = Claim(
    name="apo_acceleration",
    sentence="Nesterov's extrapolation of the parameters accelerates iterative preference optimisation by "
    "1/(1 - alpha).",
    paper="2410.06293",
    rule=f"Heart: on random Bradley-Terry arms extrapolated rounds of the DPO loss meet the closed form to {CLOSED:g}, "
    "the first fit is the plain one, and from the second on the regret is no higher in any game. Also: the median "
    f"ratio of the rounds needed to lose all but {MARGIN:g} of the first regret is within {SPEED:.0%} of "
    "1/(1 - alpha). The cycle, where acceleration makes the spiral grow faster, is shown and does not count.",
    program=run,
)
