"""Length-controlled win rate: what the win rate would be if all answers were as long as the baseline's.

AlpacaEval 2's generalised linear model (Dubois et al. 2024, 2404.04475), `length_controlled_v1` and its minimal form.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from equipoise.core.intervals import Interval, bootstrap
from equipoise.core.logistic import Floats, sigmoid
from equipoise.evaluate import l1_logistic

GAMED_WEIGHT = 0.2 / 2  # of a gamed row: the regularisation 0.2, shared by two gamed baselines
LEAST_PROMPTS = 200  # below which the penalty shrinks the estimate noticeably


@dataclass(frozen=True, kw_only=True)
class Gamed:
    """Rows of the baseline's gamed versions (concise, verbose) against itself, which pin the effect of length.

    prob [G] preference for the gamed answer.   delta [G] standardised length difference.   difficulty [G].
    """

    prob: Floats
    delta: Floats
    difficulty: Floats


@dataclass(frozen=True, kw_only=True)
class LengthControlled:
    """A length-controlled win rate in [0, 1], with the model behind it.

    value            mean_i s(theta + psi gamma_i)
    standard_error   as AlpacaEval reports it: between prompts alone, without the fit's own uncertainty
    interval         percentile bootstrap over prompts with the fit repeated at the chosen strength; None if not asked
    theta, phi, psi  quality, effect of length, effect of the prompt's difficulty (None in the minimal form)
    c                inverse strength of the L1 penalty, chosen by cross-validation; None for the baseline itself
    form             "full", "without gamed rows" or "minimal": what was known
    warning          why the figure should be read with care; "" if nothing speaks against it
    """

    value: float
    standard_error: float
    interval: Interval | None
    theta: float
    phi: float
    psi: float | None
    c: float | None
    form: str
    warning: str

    def plain(self) -> dict[str, Any]:
        return dict(vars(self))


def length_controlled(
    prob: Floats,
    baseline_length: Floats,
    candidate_length: Floats,
    *,
    difficulty: Floats | None = None,
    gamed: Gamed | None = None,
    clusters: Sequence[Hashable] | None = None,
    draws: int = 0,
    seed: int = 0,
) -> LengthControlled:
    """Length-controlled win rate of a candidate against a baseline.

        logit P(candidate wins on prompt i) = theta + phi tanh(d_i) + psi gamma_i,
        d_i = (baseline_length_i - candidate_length_i) / sd,      value = mean_i s(theta + psi gamma_i)

    prob              [N] preference for the candidate; nan: no verdict, the row is left out of the fit
    *_length          [N] characters of the answers; sd is theirs over all N (ddof 1), and d = 0 where it is 0
    difficulty        [N] gamma, a property of the benchmark's prompts; None: the minimal form without it
    gamed             further rows of the baseline's gamed versions, with weight 0.1 and without theta
    clusters          [N] the prompt of each row; default: each its own
    draws             bootstrap resamples of the prompts, for the interval; 0: none

    phi < 0 says that the judge prefers longer answers. Fitted as AlpacaEval does: L1 penalty, no intercept, strength
    by 5-fold cross-validation. Raises ValueError for lengths that do not fit together, gamed rows without
    difficulties, fewer than 5 prompts, or no verdict.
    """
    prob, delta = np.asarray(prob, float), standardised(baseline_length, candidate_length)
    names = list(range(len(prob))) if clusters is None else list(clusters)
    if not len(prob) == len(delta) == len(names) or (difficulty is not None and len(difficulty) != len(prob)):
        raise ValueError("need one preference, two lengths, one prompt and one difficulty for each row")
    if gamed is not None and difficulty is None:
        raise ValueError("rows of gamed baselines need the difficulties of the prompts")
    judged = ~np.isnan(prob)
    if not judged.any():
        raise ValueError("no comparison has a verdict")
    number: dict[Hashable, int] = {}
    member = np.array([number.setdefault(name, len(number)) for name in names])
    gamma = np.zeros((len(prob), 0)) if difficulty is None else np.asarray(difficulty, float)[:, None]
    own = np.hstack([np.ones((len(prob), 1)), np.tanh(delta)[:, None], gamma])
    extra = _extra(gamed, own.shape[1])
    x = np.vstack([extra[0], own[judged]])
    p, weight = np.concatenate([extra[1], prob[judged]]), np.ones(len(x))
    weight[: len(extra[0])] = GAMED_WEIGHT
    groups = np.concatenate([np.arange(len(extra[0])), len(extra[0]) + member[judged]])
    fitted = l1_logistic.fit_cv(x, p, weight, groups=groups.tolist())
    neutral = own.copy()
    neutral[:, 1] = 0.0
    predicted = sigmoid(neutral @ fitted.weights)
    raw = float(prob[judged].mean())

    def again(rows: np.ndarray) -> float:
        kept = rows[judged[rows]]
        if not len(kept):
            return float("nan")
        w = l1_logistic.fit(
            np.vstack([extra[0], own[kept]]),
            np.concatenate([extra[1], prob[kept]]),
            np.concatenate([np.full(len(extra[0]), GAMED_WEIGHT), np.ones(len(kept))]),
            fitted.c,
        )
        return float(sigmoid(neutral[rows] @ w).mean())

    value = float(predicted.mean())
    return LengthControlled(
        value=value,
        standard_error=float(predicted.std(ddof=1) / np.sqrt(len(predicted))),
        interval=bootstrap(value, again, names, draws=draws, seed=seed) if draws else None,
        theta=float(fitted.weights[0]),
        phi=float(fitted.weights[1]),
        psi=None if difficulty is None else float(fitted.weights[2]),
        c=fitted.c,
        form="minimal" if difficulty is None else "without gamed rows" if gamed is None else "full",
        warning=_warning(raw, value, len(number)),
    )


def of_the_baseline(count: int) -> LengthControlled:
    """The baseline against itself: one half by construction."""
    return LengthControlled(
        value=0.5,
        standard_error=0.0,
        interval=Interval(value=0.5, low=0.5, high=0.5, n=count),
        theta=0.0,
        phi=0.0,
        psi=0.0,
        c=None,
        form="by construction",
        warning="",
    )


def predicted_win_rate(
    theta: float, psi: float, other_theta: float, other_psi: float, difficulty: Floats
) -> float:
    """Length-controlled P(A beats B) of two models fitted against one baseline: mean_i s(dtheta + dpsi gamma_i)."""
    z = (theta - other_theta) + (psi - other_psi) * np.asarray(difficulty, float)
    return float(sigmoid(z).mean())


def standardised(baseline_length: Floats, candidate_length: Floats) -> Floats:
    """[N] differences of length, baseline minus candidate, over their standard deviation (ddof 1); 0 where it is 0."""
    first, second = np.asarray(baseline_length, float), np.asarray(candidate_length, float)
    if first.shape != second.shape:
        raise ValueError(f"{len(first)} lengths of the baseline and {len(second)} of the candidate")
    difference = first - second
    sd = float(difference.std(ddof=1)) if len(difference) > 1 else 0.0
    return difference / sd if sd > 0 else np.zeros_like(difference)


def extreme(raw: float, controlled: float) -> bool:
    """Whether length control changed a win rate by more than 10 points and a quarter of the way to the scale's end."""
    low = min(raw - raw / 4, raw - 0.1)
    high = max(raw + (1 - raw) / 4, raw + 0.1)
    return controlled < low or controlled > high


def _warning(raw: float, value: float, prompts: int) -> str:
    said = []
    if extreme(raw, value):
        said.append(f"very different from the win rate {raw:.1%}: the model may not fit")
    if prompts < LEAST_PROMPTS:
        said.append(f"{prompts} prompts: the penalty pulls the estimate towards one half")
    return "; ".join(said)


def _extra(gamed: Gamed | None, width: int) -> tuple[Floats, Floats]:
    if gamed is None:
        return np.zeros((0, width)), np.zeros(0)
    rows = np.column_stack([np.zeros(len(gamed.prob)), np.tanh(gamed.delta), gamed.difficulty])
    return rows, np.asarray(gamed.prob, float)
