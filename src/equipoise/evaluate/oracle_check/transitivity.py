"""Bradley-Terry against a general preference model on held-out comparisons: does one score per answer suffice?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from equipoise.core.calibration import side
from equipoise.core.folds import folds_of
from equipoise.core.intervals import clustered_mean, clustered_share
from equipoise.core.logistic import LARGEST_LOSS, log_loss, logit
from equipoise.evaluate.oracle_check.calibration import FOLDS
from equipoise.evaluate.oracle_check.comparisons import Comparisons, Floats
from equipoise.games.fit import NotConverged
from equipoise.games.skew import GeneralPreference, fit_bradley_terry, fit_general_preference

PSEUDO = 0.5  # verdicts that every compared pair gets in each direction, so that every fit is finite
RIDGE, TOLERANCE = 1e-4, 1e-5
MOST_PROMPTS = 16  # whose comparisons are fitted one prompt at a time
LEAST_ANSWERS = 4  # with three, two comparisons say nothing about the third unless there is one score

Players = Sequence[tuple[Hashable, Hashable]]  # of each comparison, who meets


@dataclass(frozen=True)
class _Part:
    """One table to fit and what it is tested on: row numbers of comparisons."""

    train: Any
    test: Any


def transitivity(comparisons: Comparisons, prob: Floats, seed: int = 0) -> dict[str, Any] | None:
    """Held-out log-loss and accuracy of three models of the same verdicts, with intervals clustered by prompt.

        bradley_terry  P = sigma(r_i - r_j)                     one score for each player
        general        P = sigma(s(v_i, v_j)), one plane        cycles are possible (2410.02197)
        table          P_ij = (wins + PSEUDO)/(all + 2 PSEUDO)  each pair its own probability

    Players are the writers, on prompts that the fit has not seen, if the data name at least three writers. Otherwise
    they are the responses of one prompt, on comparisons that the fit has not seen, for at most MOST_PROMPTS prompts
    (drawn at random) with at least LEAST_ANSWERS responses; a table then says nothing about them and is left out.

    gain           mean over held-out comparisons of log-loss(bradley_terry) - log-loss(model): above 0, with its
                   interval, a score per player is not enough
    left_out       held-out comparisons of players whom the training part does not connect
    None without data for either.
    """
    known = [int(n) for n in np.flatnonzero(np.isfinite(prob))]
    by_writers = _writers(comparisons, known)
    players, parts = by_writers or _responses(comparisons, known, seed)
    if by_writers:
        folds = folds_of([comparisons.rows[n].group for n in known], FOLDS, seed)
        rows = np.array(known)
        parts = [_Part(rows[folds != fold], rows[folds == fold]) for fold in range(FOLDS)]
    losses: dict[str, list[float]] = defaultdict(list)
    right: dict[str, list[float]] = defaultdict(list)
    groups: list[Hashable] = []
    left_out = 0
    for part in parts:
        predicted, tested = _predictions(players, prob, part, tables=bool(by_writers))
        left_out += len(part.test) - len(tested)
        groups += [comparisons.rows[n].group for n in tested]
        for name, p in predicted.items():
            losses[name] += log_loss(logit(p), prob[tested]).tolist()
            right[name] += ((side(p) * side(prob[tested]) + 1) / 2).tolist()
    if not groups:
        return None
    base = np.array(losses["bradley_terry"])
    return {
        "players": "writers, held-out prompts" if by_writers else "responses, held-out comparisons",
        "count": len({name for n in known for name in players[n]}) if by_writers else None,
        "prompts": len(set(groups)),
        "n": len(groups),
        "left_out": left_out,
        "log_loss": {
            name: clustered_mean(values, groups, bounds=(0.0, LARGEST_LOSS))
            for name, values in losses.items()
        },
        "accuracy": {name: clustered_share(values, groups) for name, values in right.items()},
        "gain": {
            name: clustered_mean(base - np.array(values), groups)
            for name, values in losses.items()
            if name != "bradley_terry"
        },
    }


def _writers(comparisons: Comparisons, known: Sequence[int]) -> tuple[Players, list[_Part]] | None:
    pairs = [row.writers or ("", "") for row in comparisons.rows]
    named = {name for n in known for name in pairs[n]}
    enough = len(named) >= 3 and "" not in named and all(pairs[n][0] != pairs[n][1] for n in known)
    return (pairs, []) if enough else None


def _responses(comparisons: Comparisons, known: Sequence[int], seed: int) -> tuple[Players, list[_Part]]:
    """Responses of one prompt as players: of each prompt's comparisons a fifth is held out at a time."""
    of_prompt: dict[Hashable, list[int]] = defaultdict(list)
    for n in known:
        of_prompt[comparisons.rows[n].group].append(n)
    large = [
        rows
        for rows in of_prompt.values()
        if len({text for n in rows for text in (comparisons.rows[n].a, comparisons.rows[n].b)})
        >= LEAST_ANSWERS
    ]
    drawn = np.random.default_rng(seed).permutation(len(large))[:MOST_PROMPTS]
    pairs = [(row.a, row.b) for row in comparisons.rows]
    return pairs, [part for index in sorted(drawn) for part in _held_out(np.array(large[index]), pairs, seed)]


def _held_out(rows: Any, pairs: Players, seed: int) -> Iterator[_Part]:
    """Folds of one prompt's comparisons; repeated comparisons of two responses are in one fold."""
    folds = folds_of([frozenset(pairs[n]) for n in rows], FOLDS, seed)
    for fold in range(FOLDS):
        if (folds == fold).any():
            yield _Part(rows[folds != fold], rows[folds == fold])


def _predictions(
    players: Players, prob: Floats, part: _Part, *, tables: bool
) -> tuple[dict[str, Floats], Any]:
    """(model -> P of each tested comparison, the tested ones): those whose players the training part connects."""
    index: dict[Hashable, int] = {}
    for n in part.train:
        for name in players[n]:
            index.setdefault(name, len(index))
    wins = torch.zeros(len(index), len(index), dtype=torch.float64)
    for n in part.train:
        i, j = (index[name] for name in players[n])
        wins[i, j] += prob[n]
        wins[j, i] += 1 - prob[n]
    met = (wins + wins.mT) > 0
    smooth = torch.where(met, wins + PSEUDO, torch.zeros_like(wins))
    component = _components(met)
    tested = [
        n
        for n in part.test
        if all(name in index for name in players[n])
        and component[index[players[n][0]]] == component[index[players[n][1]]]
        and (not tables or met[index[players[n][0]], index[players[n][1]]])
    ]
    if not tested:
        return {}, np.empty(0, int)
    where = [[index[name] for name in players[n]] for n in tested]
    fitted = {"bradley_terry": _connected(smooth, component), "general": _general(smooth)}
    if tables:
        fitted["table"] = smooth / (smooth + smooth.mT).clamp(min=1e-300)
    i, j = np.array(where).T
    return {name: table[i, j].numpy() for name, table in fitted.items()}, np.array(tested)


def _connected(wins: Tensor, component: Sequence[int]) -> Tensor:
    """Bradley-Terry probabilities within each connected component; 1/2 elsewhere, where nothing is tested."""
    table = torch.full_like(wins, 0.5)
    for name in set(component):
        inside = torch.tensor([i for i, c in enumerate(component) if c == name])
        if len(inside) > 1:
            rows = inside.unsqueeze(1)
            table[rows, inside] = fit_bradley_terry(wins[rows, inside].unsqueeze(0)).prob()[0]
    return table


def _general(wins: Tensor) -> Tensor:
    """General preference model with one plane; where the likelihood is too flat, its last iterate."""
    try:
        return fit_general_preference(wins, 1, ridge=RIDGE, tolerance=TOLERANCE).prob()
    except NotConverged as end:
        return GeneralPreference(end.best).prob()


def _components(met: Tensor) -> list[int]:
    """The number of each player's connected component."""
    reach = met | torch.eye(len(met), dtype=torch.bool)
    for _ in range(len(met).bit_length()):
        reach = (reach.double() @ reach.double()) > 0
    return [int(row.nonzero()[0]) for row in reach]
