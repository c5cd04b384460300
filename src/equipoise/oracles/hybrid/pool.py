"""Hybrid preferences from files: a pool with labels of people and of a judge, mixes of them, and pairs to be routed."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from equipoise.data.errors import DataError
from equipoise.data.files.object_rows import read_rows, shown
from equipoise.data.reading.read import Dataset
from equipoise.data.records import Record
from equipoise.oracles.hybrid.comparison_features import WORD, Binning, Comparison, Numbers
from equipoise.oracles.hybrid.routing import Chosen, Mixes, Predictor, fit_predictor, simulate

Measure: TypeAlias = Literal["reward", "labels"]
BUCKETS, RIDGE, HELD_OUT = 256, 1.0, 0.3


@dataclass(frozen=True, eq=False)
class Pool:
    """Comparisons with people's labels, all of them won by the first response, and a judge's P(first wins), [N]."""

    comparisons: Sequence[Comparison]
    groups: Sequence[str]
    judged: Numbers


def pairs_of(dataset: Dataset, tags: Collection[str] = ()) -> list[Record]:
    """The pairs of a data set; their labels are not looked at. Raises DataError for other records, or a missing tag."""
    if dataset.kind != "pair":
        raise DataError(f"routing needs pairs; the data contain records of kind {dataset.kind!r}")
    for record in dataset.records:
        missing = next((tag for tag in tags if tag not in record.extra), None)
        if missing is not None:
            raise DataError(f"{record.place}: the row has no column {missing!r}, which --tags names")
    return list(dataset.records)


def comparison_of(record: Record, tags: Collection[str] = ()) -> Comparison:
    """A record as a comparison: the prompt's turns are joined, the columns named by `tags` become its tags."""
    context = record.context
    prompt = context if isinstance(context, str) else "\n".join(turn.content for turn in context)
    first, second = (candidate.text for candidate in record.candidates[:2])
    own = {tag: str(record.extra[tag]) for tag in tags}
    return Comparison(id=record.id, prompt=prompt, first=first, second=second, tags=own)


def pool_of(dataset: Dataset, label: str, tags: Collection[str] = ()) -> Pool:
    """The pool whose rows people labelled, with the judge's P(chosen beats rejected) in a column. Raises DataError."""
    records = pairs_of(dataset, tags)
    judged = []
    for record in records:
        value = record.extra.get(label)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise DataError(
                f"{record.place}: the column {label!r} must hold the judge's probability that the chosen answer is "
                f"better, in [0, 1]; it holds {value!r}"
            )
        judged.append(float(value))
    comparisons = [comparison_of(record, tags) for record in records]
    return Pool(comparisons, [record.group for record in records], np.array(judged))


def measure_of(pool: Pool, kind: Measure, seed: int) -> Callable[[Chosen], float]:
    """How good a mix of labels is, by its training: [N], True where people labelled -> performance.

    "labels"   share of labels that are people's: 1 for theirs, the judge's P(first wins) for the others.
    "reward"   a small reward model is trained on the mix, linear in hashed words (`word_differences`), and measured by
               the mean log-likelihood in nats of people's labels on held-out prompts (three tenths). It is a stand-in
               that takes milliseconds; performance of reward models proper comes from a file (`read_mixes`).

    Raises DataError for a pool of fewer than two prompts.
    """
    if kind == "labels":
        return lambda people: float(np.where(people, 1.0, pool.judged).mean())
    names, member = np.unique(pool.groups, return_inverse=True)
    if len(names) < 2:
        raise DataError("a reward model needs two prompts: one to train on, and one to be measured on")
    place = np.random.default_rng(seed).permutation(len(names))[member]
    held = place < max(1, round(HELD_OUT * len(names)))
    words = word_differences(pool.comparisons)

    def measure(people: Chosen) -> float:
        prob = np.where(people, 1.0, pool.judged)[~held]
        weights = fit_linear_reward(words[~held], prob)
        return float(-np.logaddexp(0, -words[held] @ weights).mean())

    return measure


def word_differences(comparisons: Sequence[Comparison]) -> Numbers:
    """Hashed words of the first response less those of the second, [N, 257]: logs of counts, and of lengths."""
    found = np.zeros((len(comparisons), BUCKETS + 1))
    for row, comparison in zip(found, comparisons, strict=True):
        for sign, text in ((1, comparison.first), (-1, comparison.second)):
            words = WORD.findall(text.lower())
            buckets = [zlib.crc32(word.encode()) % BUCKETS for word in words]
            row[:BUCKETS] += sign * np.log1p(np.bincount(buckets, minlength=BUCKETS))
            row[BUCKETS] += sign * math.log1p(len(words))
    return found


def fit_linear_reward(differences: Numbers, prob: Numbers) -> Numbers:
    """Weights of a linear Bradley-Terry reward from P(first wins) [N]: ridge logistic regression without intercept.

    minimise   sum -p log sigma(w . d) - (1 - p) log sigma(-w . d) + |w|^2/2
    """

    def loss(w: Numbers) -> tuple[float, Numbers]:
        z = differences @ w
        value = (np.logaddexp(0, z) - prob * z).sum() + RIDGE / 2 * (w @ w)
        return float(value), differences.T @ (expit(z) - prob) + RIDGE * w

    found = minimize(loss, np.zeros(differences.shape[1]), jac=True, method="L-BFGS-B")
    return np.asarray(found.x)


def read_mixes(path: Path, pool: Pool, phi: Numbers) -> Mixes:
    """Mixes measured elsewhere: lines {"people": [ids of pairs that people labelled], "performance": number}.

    Raises DataError, with the line, for what is broken, or an id that the pool has not.
    """
    place = {comparison.id: i for i, comparison in enumerate(pool.comparisons)}
    counts, performance = [], []
    for row in read_rows(path):
        people = row.values.get("people")
        if not isinstance(people, list):
            raise row.error("a mix needs `people`, a list of ids, and `performance`, a number")
        strange = next((name for name in people if not isinstance(name, str) or name not in place), None)
        if strange is not None:
            raise row.error(f"no pair of the pool has the id {shown(strange)}")
        counts.append(phi[sorted({place[name] for name in people})].sum(axis=0))
        performance.append(row.number("performance"))
    if len(counts) < 2:
        raise DataError(f"a predictor needs at least two mixes, and there are {len(counts)}", file=str(path))
    return Mixes(np.stack(counts), np.array(performance))


@dataclass(frozen=True, eq=False)
class Routed:
    """Which pairs people label, and what the predictor says of that."""

    records: Sequence[Record]
    chosen: Chosen
    gains: Numbers
    weights: dict[str, float]
    predictor: Predictor
    mixes: int

    def as_json(self) -> dict[str, Any]:
        return {
            "pairs": len(self.records),
            "people": int(self.chosen.sum()),
            "mixes": self.mixes,
            "quadratic": self.predictor.quadratic,
            "r_squared": self.predictor.r_squared,
            "gain_of_feature": self.weights,
            "ids": [record.id for record, own in zip(self.records, self.chosen, strict=True) if own],
        }


def route(
    records: Sequence[Record],
    pool: Pool,
    budget: int,
    *,
    tags: Collection[str] = (),
    measure: Measure = "reward",
    mixes: int | Path = 200,
    quadratic: bool = False,
    seed: int = 0,
) -> Routed:
    """Choose the pairs that people should label within a budget: mixes on the pool, predictor, the best route.

    mixes    how many to simulate, or the file of those that were measured.

    Features are binned on the pool. Raises DataError or ValueError for what cannot be used.
    """
    if not 0 <= budget <= len(records):
        raise ValueError(f"people can label between 0 and {len(records)} of these pairs, not {budget}")
    binning = Binning.of(pool.comparisons)
    phi = binning.apply(pool.comparisons)
    if isinstance(mixes, Path):
        tried = read_mixes(mixes, pool, phi)
    else:
        tried = simulate(phi, measure_of(pool, measure, seed), count=mixes, seed=seed)
    predictor = fit_predictor(tried, quadratic=quadratic, seed=seed)
    mine = binning.apply([comparison_of(record, tags) for record in records])
    chosen = predictor.route(mine, budget, [record.id for record in records], seed=seed)
    each = predictor.gains(np.eye(len(binning.names))).tolist()
    weights = dict(zip(binning.names, each, strict=True))
    return Routed(records, chosen, predictor.gains(mine), weights, predictor, len(tried.performance))
