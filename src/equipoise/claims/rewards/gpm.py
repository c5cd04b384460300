"""GPM (2410.02197): cycles that a reward cannot express, and how many planes a game needs."""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch

from equipoise.claims.claim import Claim, Evidence, Line, Panel, Scale, Table, verdict
from equipoise.claims.draws import numpy_draws
from equipoise.core.links import skew_score
from equipoise.games import zoo
from equipoise.games.analyse import Fit, beats, fit_of
from equipoise.games.preference import PreferenceGame
from equipoise.games.skew import fit_bradley_terry, fit_general_preference, schur_embedding

EXACT = 1e-5  # probabilities, after a fit
REPRESENTED = 1e-10  # scores, by the Schur form
WIN = 0.8
SIZE = 8  # responses of the random games

Row = tuple[str, Fit, Fit]


def cycles(scale: Scale) -> Evidence:
    seeds = {"quick": 2, "full": 20}[scale]
    games = {"three unit vectors": three_vectors()}
    games |= {f"cyclic:{size}:{WIN:g}": zoo.cyclic(size, WIN) for size in (3, 5, 7)}
    rows = [(name, *fits(game, 1)) for name, game in games.items()]
    random = {
        (rank, planes): [random_fit(rank, planes, seed) for seed in range(seeds)]
        for rank in (1, 2, 3)
        for planes in range(4)
    }
    schur = max(schur_error(rank, seed) for rank in (1, 2, 3, 4) for seed in range(seeds))
    return judge(rows, best_order(three_vectors()), random, schur)


def three_vectors() -> PreferenceGame:
    """P = sigma(s) of unit vectors at 0, 120 and 240 degrees: s = sin of the angle between them."""
    angle = torch.arange(3, dtype=torch.float64) * 2 * math.pi / 3
    v = torch.stack([angle.cos(), angle.sin()], dim=1)
    return PreferenceGame(torch.sigmoid(skew_score(v.unsqueeze(1), v.unsqueeze(0))), names=("a", "b", "c"))


def fits(game: PreferenceGame, planes: int) -> tuple[Fit, Fit]:
    """Bradley-Terry and the general preference model, both by maximum likelihood, against P."""
    prob = game.preference
    general = fit_general_preference(prob[0], planes).prob().unsqueeze(0)
    return fit_of(0, fit_bradley_terry(prob).prob(), prob), fit_of(planes, general, prob)


def best_order(game: PreferenceGame) -> float:
    """The largest share of pairs that any order of the responses gets right: what any reward can reach."""
    wins = beats(game.preference)[0]
    pairs = game.actions * (game.actions - 1) / 2
    return max(
        sum(bool(wins[i, j]) for i, j in itertools.combinations(order, 2)) / pairs
        for order in itertools.permutations(range(game.actions))
    )


def random_scores(planes: int, seed: int) -> torch.Tensor:
    """Scores of rank 2 planes: s(y, y') of embeddings with independent standard normal coordinates."""
    v = torch.as_tensor(numpy_draws(1000 * planes + seed).normal(size=(SIZE, 2 * planes)))
    return skew_score(v.unsqueeze(1), v.unsqueeze(0))


def schur_error(planes: int, seed: int) -> float:
    scores = random_scores(planes, seed)
    v, strength = schur_embedding(scores)
    found = skew_score(v.unsqueeze(1), v.unsqueeze(0))
    return float((found - scores).abs().max()) if len(strength) == planes else math.inf


def random_fit(rank: int, planes: int, seed: int) -> float:
    """Mean |P - model| of a game of that many planes; zero planes stand for Bradley-Terry."""
    prob = torch.sigmoid(random_scores(rank, seed)).unsqueeze(0)
    if planes == 0:
        return fit_of(0, fit_bradley_terry(prob).prob(), prob).mean
    return fit_of(planes, fit_general_preference(prob[0], planes).prob().unsqueeze(0), prob).mean


def judge(
    rows: list[Row], order: float, random: dict[tuple[int, int], list[float]], schur: float
) -> Evidence:
    """The verdict on figures.

    rows      (game, Bradley-Terry, one plane), the three vectors first
    random    (planes of the game, planes of the model) -> mean errors
    """
    triangle = rows[0]
    chance = all(reward.accuracy == 0.5 for _, reward, _ in rows)
    named = all(plane.accuracy == 1 for _, _, plane in rows)
    heart = triangle[2].worst < EXACT and chance and named
    enough = max(max(errors) for (rank, planes), errors in random.items() if planes >= rank)
    short = min(min(errors) for (rank, planes), errors in random.items() if planes < rank)
    ranks = sorted({rank for rank, _ in random})
    widths = sorted({planes for _, planes in random})
    spoken = " or ".join(sorted({f"{bt.accuracy:.3g}" for _, bt, _ in rows}))
    means = {key: float(np.mean(errors)) for key, errors in random.items()}
    return Evidence(
        verdict=verdict(
            heart, (math.isclose(order, 2 / 3), schur < REPRESENTED, enough < EXACT, short > 100 * EXACT)
        ),
        summary=f"On the three vectors one plane meets every probability to {triangle[2].worst:.1g}; Bradley-Terry "
        f"names {spoken} of the winners of the cyclic games, and no order of the three more than {order:.3f}. Fits of "
        f"random games of rank 2k with k planes or more leave a mean error of at most {enough:.1g} (Schur form: "
        f"{schur:.1g}), with fewer at least {short:.1g}.",
        tables=(
            Table(
                "cycles: share of winners named, and mean |P - model|",
                ("game", "Bradley-Terry", "one plane", "error, Bradley-Terry", "error, one plane"),
                tuple((name, bt.accuracy, one.accuracy, bt.mean, one.mean) for name, bt, one in rows),
            ),
            Table(
                f"random games of {SIZE} responses: mean |P - model|",
                ("planes of the game", "Bradley-Terry", *(f"{k} fitted" for k in widths if k)),
                tuple((rank, *(means[rank, k] for k in widths)) for rank in ranks),
            ),
        ),
        panels=(
            Panel(
                f"random games of {SIZE} responses",
                "planes of the model (0: Bradley-Terry)",
                "mean |P - model|",
                tuple(
                    Line(f"rank {2 * rank}", tuple(map(float, widths)), tuple(means[rank, k] for k in widths))
                    for rank in ranks
                ),
                log_x=False,
                log_y=False,
            ),
        ),
    )


CYCLES = Claim(
    name="gpm_cycles",
    sentence="The general preference model expresses cycles on which Bradley-Terry is at chance; k planes express any "
    "antisymmetric score of rank 2k.",
    paper="2410.02197",
    rule="Heart: fitted by maximum likelihood, one plane meets every probability of the three unit vectors at 0, 120 "
    "and 240 degrees to 1e-5 and names every winner there and in cyclic games of 3, 5 and 7 responses, where "
    "Bradley-Terry names half. Also: the best order of the three vectors gets 2/3 of the pairs; the Schur form gives "
    "back random scores of rank 2k to 1e-10 with k planes; fits of random games with at least k planes leave a mean "
    "error below 1e-5, with fewer above 1e-3.",
    program=cycles,
)
