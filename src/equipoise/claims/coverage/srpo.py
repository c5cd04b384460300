"""SRPO (2406.01660): a solution that does not depend on who wrote the data, and answers that improve when revised."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np

from equipoise.claims.claim import Array, Cell, Claim, Evidence, Panel, Scale, Table, interval, verdict
from equipoise.claims.coverage import srpo_games as games
from equipoise.claims.small_models import line

BETAS: Mapping[Scale, tuple[float, ...]] = {"quick": (0.1, 0.3), "full": (0.03, 0.1, 0.3, 1.0)}
COUNTS: Mapping[Scale, tuple[int, int]] = {"quick": (20, 8), "full": (200, 30)}  # games; copies of prompts
STEPS: Mapping[Scale, int] = {"quick": 150, "full": 1000}
SAME_BETA = 0.3  # of the population fits, and of one comparison at equal beta
PAIRS, PROMPT_PAIRS = 100, 6  # recorded pairs of each game; of each training prompt
TRAIN, TEST = 30, 60  # prompts of a copy
SHIFT = 2.0
SAME, MOVED = 1e-6, 1e-2  # total variation
KINDS = ("general", "Bradley-Terry")

Moved: TypeAlias = Mapping[
    tuple[str, str], Array
]  # (games, method) -> [X] total variation between two writers' fits
Wins: TypeAlias = Mapping[
    tuple[str, str, float, str], Array
]  # (setting, method, beta, where) -> [X, revisions + 1]


def robustness(scale: Scale) -> Evidence:
    count, copies = COUNTS[scale]
    moved = {(kind, method): dependence(kind, method, count) for kind in KINDS for method in games.METHODS}
    wins: dict[tuple[str, str, float, str], Array] = {}
    for beta in BETAS[scale]:
        for kind in KINDS:
            game = games.random_games(kind, count)
            for where, writer in games.writers(game).items():
                rows = games.recorded(game, writer, PAIRS)
                for method in games.METHODS:
                    wins[kind, method, beta, where] = games.win_rates(
                        game, games.fitted(method, beta, game, rows)
                    )
        train = games.make_prompts(copies, TRAIN, 0.0, stream=1)
        tests = {
            "usual": games.make_prompts(copies, TEST, 0.0, stream=2),
            "shifted": games.make_prompts(copies, TEST, SHIFT, stream=3),
        }
        for method in games.METHODS:
            found = games.trained(method, beta, train, tests, PROMPT_PAIRS, STEPS[scale])
            wins |= {("prompts", method, beta, where): values for where, values in found.items()}
    return judge(moved, wins)


def dependence(kind: str, method: str, count: int) -> Array:
    """Total variation between the exact fits to the populations of two writers; SRPO's after all revisions or none."""
    game = games.random_games(kind, count)
    fits = [
        games.fitted(method, SAME_BETA, game, games.population(game, w)) for w in games.writers(game).values()
    ]
    return np.max([(a - b).abs().sum(dim=1).numpy() / 2 for a, b in zip(*fits, strict=True)], axis=0)


def judge(moved: Moved, wins: Wins) -> Evidence:
    """Every method at the beta of most wins under usual data or prompts, SRPO after its last revision."""
    settings = tuple(dict.fromkeys(key[0] for key in wins))
    chosen = {(s, m): best(wins, s, m) for s in settings for m in games.METHODS}

    def last(setting: str, method: str, where: str) -> Array:
        return wins[setting, method, chosen[setting, method], where][:, -1]

    def ahead(setting: str, where: str) -> bool:
        ours = last(setting, games.SRPO, where)
        return all(interval(ours - last(setting, rival, where))[1] > 0 for rival in ("DPO", "IPO"))

    def climbs(setting: str) -> bool:
        found = wins[setting, games.SRPO, chosen[setting, games.SRPO], "shifted"]
        return bool(interval(found[:, -1] - found[:, 0])[1] > 0)

    independent = max(float(moved[kind, m].max()) for kind in KINDS for m in (games.SRPO, games.AFRESH))
    others = {m: interval(moved["general", m]) for m in ("DPO", "IPO")}
    depend = all(low > MOVED for _, low, _ in others.values())
    shares = {
        setting: ", ".join(f"{m} {last(setting, m, 'shifted').mean():.3f}" for m in games.METHODS)
        for setting in settings
    }
    same = {
        setting: float(
            np.subtract(*(wins[setting, m, SAME_BETA, "shifted"][:, -1] for m in (games.SRPO, "IPO"))).mean()
        )
        for setting in settings
    }
    return Evidence(
        verdict=verdict(
            independent < SAME and depend,
            (*(climbs(s) for s in settings), *(ahead(s, "shifted") for s in settings)),
        ),
        summary=f"Another writer of the data moves SRPO's exact solution by {independent:.1g} of probability at "
        f"most, DPO's by {others['DPO'][0]:.2f} and IPO's by {others['IPO'][0]:.2f} in the mean on general "
        "games; on Bradley-Terry games DPO's, too, does not depend on it "
        f"({moved['Bradley-Terry', 'DPO'].max():.1g}). True win rates under shift, each at its best beta without: "
        + "; ".join(f"{setting}: {text}" for setting, text in shares.items())
        + f". At the same beta, {SAME_BETA:g}, SRPO less IPO: "
        + ", ".join(f"{setting} {gain:+.3f}" for setting, gain in same.items())
        + ".",
        tables=(moved_table(moved), wins_table(wins, chosen), revisions_table(wins, chosen)),
        panels=tuple(panel(setting, wins, chosen) for setting in ("general", "prompts")),
    )


def best(wins: Wins, setting: str, method: str) -> float:
    betas = {key[2] for key in wins if key[:2] == (setting, method)}
    return max(betas, key=lambda beta: float(wins[setting, method, beta, "usual"][:, -1].mean()))


def moved_table(moved: Moved) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for (kind, method), values in moved.items():
        mean, low, _ = interval(values)
        rows.append((kind, method, float(mean), float(mean - low), float(values.max())))
    return Table(
        f"total variation between exact fits to two writers' pairs, beta = {SAME_BETA:g}",
        ("games", "method", "mean", "±", "largest"),
        tuple(rows),
    )


def wins_table(wins: Wins, chosen: Mapping[tuple[str, str], float]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for setting, method, beta, where in wins:
        if where == "usual":
            pair = [wins[setting, method, beta, w][:, -1] for w in ("usual", "shifted")]
            spread = [float(interval(v)[0] - interval(v)[1]) for v in pair]
            mark = "yes" if chosen[setting, method] == beta else ""
            rows.append(
                (
                    setting,
                    method,
                    beta,
                    float(pair[0].mean()),
                    spread[0],
                    float(pair[1].mean()),
                    spread[1],
                    mark,
                )
            )
    return Table(
        f"true win rate against the reference, SRPO's after {games.REVISIONS} revisions",
        ("setting", "method", "beta", "usual", "±", "shifted", "±", "chosen"),
        tuple(sorted(rows, key=lambda row: row[:3])),
    )


def revisions_table(wins: Wins, chosen: Mapping[tuple[str, str], float]) -> Table:
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (setting, method, where, *map(float, values.mean(axis=0)))
        for (setting, method, beta, where), values in wins.items()
        if games.has_improver(method) and beta == chosen[setting, method]
    )
    return Table(
        "SRPO's true win rate by revisions, at its chosen beta",
        ("setting", "method", "where", *map(str, range(games.REVISIONS + 1))),
        rows,
    )


def panel(setting: str, wins: Wins, chosen: Mapping[tuple[str, str], float]) -> Panel:
    lines = []
    for method in games.METHODS:
        values = wins[setting, method, chosen[setting, method], "shifted"]
        values = values if values.shape[1] > 1 else np.repeat(values, games.REVISIONS + 1, axis=1)
        lines.append(line(method, range(games.REVISIONS + 1), values))
    title = (
        "prompts that training never saw"
        if setting == "prompts"
        else f"{setting} games, a shifted writer of the data"
    )
    return Panel(
        title, "revisions", "true win rate against the reference", tuple(lines), log_x=False, log_y=False
    )


ROBUSTNESS = Claim(
    name="srpo_robustness",
    sentence="SRPO's solution does not depend on the distribution of the data, that of DPO and IPO does; under a "
    "shift of the data or of the prompts its answers, after a few revisions of its own, win more often than theirs.",
    paper="2406.01660",
    rule=f"Heart: the exact fits to two writers' pairs differ by less than {SAME:g} of probability for SRPO in "
    f"every game, after each number of revisions, and by more than {MOVED:g} in the mean for DPO and for IPO on "
    "general games (95 % interval). Also, on general games, on Bradley-Terry games (both with recorded pairs of "
    "a writer who prefers losing responses) and on prompts with features that training never saw: "
    f"{games.REVISIONS} revisions raise SRPO's true win rate, and it is then above those of DPO and of IPO, with "
    "95 % intervals of the differences on the same games. Every method has the beta of most wins without the "
    f"shift. SRPO's reference keeps an answer that it is asked to improve with probability {games.KEEPS:g}; one "
    "that writes afresh is shown beside it and counts in the heart only.",
    program=robustness,
    set="that SRPO's reference keeps an answer which it is asked to improve was added to a version of the program in "
    "which it wrote afresh; both are shown.",
)
