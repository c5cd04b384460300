"""Ensemble of reward models: preference strengths of training pairs, and the file that keeps them.

A strengths file has a JSON object in each line: {"pair": digest of prompt, first and second response, "mean", "std",
"models"}. It belongs to pairs, not to rows: a pair that another file holds the other way round finds its strength,
negated.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from equipoise.core.folds import folds_of
from equipoise.data.errors import DataError
from equipoise.data.files.object_rows import Row, read_rows
from equipoise.data.records import digest
from equipoise.models.errors import ModelError
from equipoise.reward_models.fit import Fitting, fit
from equipoise.reward_models.model import RewardModel
from equipoise.reward_models.noise import Strength, preference_strength
from equipoise.reward_models.pairs import LabelledPair
from equipoise.reward_models.read import pair_logits

Make = Callable[[int], RewardModel]


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """How an ensemble of reward models is trained.

    models   M, each with a head and an order of its own; 10 in the paper.
    folds    1: every model judges the pairs that it was trained on, as in the paper. More: the prompts are divided, and
             each model is trained once without each fold, which it then judges. Models that learn labels by heart
             deny none of those they saw.

    Raises ModelError unless both are at least 1.
    """

    models: int = 10
    folds: int = 1

    def __post_init__(self) -> None:
        if self.models < 1 or self.folds < 1:
            raise ModelError(
                f"an ensemble needs a model and a fold at least, got {self.models} and {self.folds}"
            )

    def logits(
        self,
        make: Make,
        pairs: Sequence[LabelledPair],
        *,
        fitting: Fitting,
        seed: int,
        report: Callable[[dict[str, Any]], None] = lambda line: None,
    ) -> Float[Tensor, "M N"]:
        """Logits of every model on every pair, [M, N] in nats.

        make     seed -> a reward model before its training, with one output for a pair
        report   called with {"model", "models", "fold", "folds"} before each training

        Raises ModelError for more folds than prompts.
        """
        place = _folds([pair.group for pair in pairs], self.folds, seed)
        found = torch.full((self.models, len(pairs)), math.nan, dtype=torch.float64)
        for model in range(self.models):
            for fold in range(self.folds):
                report({"model": model + 1, "models": self.models, "fold": fold + 1, "folds": self.folds})
                judged = [i for i, own in enumerate(place) if own == fold]
                seen = [p for p, own in zip(pairs, place, strict=True) if own != fold or self.folds == 1]
                own_seed = seed + 1 + model
                reward = make(own_seed)
                fit(reward, seen, fitting=fitting, seed=own_seed)
                found[model, judged] = pair_logits(reward, [pairs[i] for i in judged], fitting.tokens)[:, 0]
        return found

    def strength(
        self,
        make: Make,
        pairs: Sequence[LabelledPair],
        *,
        fitting: Fitting,
        seed: int,
        report: Callable[[dict[str, Any]], None] = lambda line: None,
    ) -> Strength:
        """Preference strength of every pair, by the ensemble that is trained for it."""
        return preference_strength(self.logits(make, pairs, fitting=fitting, seed=seed, report=report))


def _folds(groups: Sequence[str], folds: int, seed: int) -> list[int]:
    """The fold of each pair, whatever the order of the pairs."""
    names = sorted(set(groups))
    if folds > len(names):
        raise ModelError(f"{len(names)} prompts cannot be divided into {folds} folds")
    of = dict(zip(names, folds_of(names, folds, [seed, folds]).tolist(), strict=True))
    return [of[group] for group in groups]


def _keys(pair: LabelledPair) -> tuple[str, str]:
    """Digests of the pair as it stands and turned round."""
    both = ((pair.first, pair.second), (pair.second, pair.first))
    first, second = (digest([pair.prompt, *order]) for order in both)
    return first, second


def write_strengths(path: Path, pairs: Sequence[LabelledPair], strength: Strength) -> None:
    """Write the strengths of these pairs, a line each."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for pair, mean, std in zip(pairs, strength.mean.tolist(), strength.std.tolist(), strict=True):
            row = {"pair": _keys(pair)[0], "mean": mean, "std": std, "models": strength.models}
            file.write(json.dumps(row) + "\n")


def read_strengths(path: str | Path, pairs: Sequence[LabelledPair]) -> Strength:
    """The strengths of these pairs from a file. Raises ModelError, with the line, for what is broken or missing."""
    rows: dict[str, tuple[float, float]] = {}
    models = 0
    try:
        for row in read_rows(path):
            name, own = row.text("pair"), _of_row(row)
            if rows.setdefault(name, own) != own:
                raise row.error("this pair has another strength in an earlier line")
            count = row.number("models")
            if count < 1 or models not in (0, count):
                raise row.error(f"a strength of {count:g} models among those of {models:g}")
            models = int(count)
    except DataError as error:
        raise ModelError(f"cannot read strengths: {error}") from None
    found = []
    for pair in pairs:
        straight, turned = _keys(pair)
        if straight in rows:
            found.append(rows[straight])
        elif turned in rows:
            mean, std = rows[turned]
            found.append((-mean, std))
        else:
            raise ModelError(
                f"{path} has no strength of the pair {pair.id!r}; it was made from other pairs: leave noise.strength "
                "out, and an ensemble is trained on these"
            )
    means, stds = torch.tensor(found, dtype=torch.float64).unbind(dim=1)
    return Strength(means, stds, models)


def _of_row(row: Row) -> tuple[float, float]:
    mean, std = row.number("mean"), row.number("std")
    if std < 0:
        raise row.error(f"`std` is negative: {std:g}")
    return mean, std
