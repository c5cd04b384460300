"""Oracle check: everything to know of an oracle before it is trained against, as plain data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from equipoise.evaluate.oracle_check.accuracy import accuracy
from equipoise.evaluate.oracle_check.agreement import agreement, self_agreement
from equipoise.evaluate.oracle_check.asked import Verdicts, ask, recorded, to_ask
from equipoise.evaluate.oracle_check.calibration import calibration
from equipoise.evaluate.oracle_check.comparisons import Comparisons
from equipoise.evaluate.oracle_check.cycles import cycles
from equipoise.evaluate.oracle_check.dissection import dissection
from equipoise.evaluate.oracle_check.length import length_bias
from equipoise.evaluate.oracle_check.order import order_bias
from equipoise.evaluate.oracle_check.transitivity import transitivity
from equipoise.oracles.checked import Checked, unwrapped
from equipoise.oracles.protocol import Counting
from equipoise.safe_text import printable
from equipoise.worlds.text.progress import Progress

LABELS = "labels"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a check asks and fits beyond the comparisons.

    again       comparisons that are asked a second time, for self-agreement
    annotated   properties that the data hold in columns, see `properties.difference`
    fits        fit Bradley-Terry, the general model and the weights of properties: seconds to a minute
    seed        of folds, resamples and Monte Carlo
    """

    again: int = 0
    annotated: Sequence[str] = ()
    fits: bool = True
    seed: int = 0


def check(
    oracles: Sequence[Checked],
    comparisons: Comparisons,
    wanted: Wanted | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Ask every oracle in both orders and measure it: {"data", "oracles", "labels", "agreement", "dissection"}.

    The first oracle is the one that is checked, the others are compared with it; each section is what the function of
    its name returns. `progress` shows how far the questions are.

    Raises OracleError as `asked.ask` does, and DataError for an annotation without columns.
    """
    wanted = wanted or Wanted()
    again = min(wanted.again, len(comparisons))
    asked = (_watched(oracle, comparisons, again, progress) for oracle in oracles)
    return measured(comparisons, named(asked), wanted)


def _watched(oracle: Checked, comparisons: Comparisons, again: int, progress: Progress | None) -> Verdicts:
    """`ask`, with a progress line for an oracle that says how far it is."""
    inner = unwrapped(oracle)
    if progress is None or not isinstance(inner, Counting):
        return ask(oracle, comparisons, again)
    name, count = printable(oracle.name, most=40), to_ask(inner, comparisons)
    with progress.phase(0, name, count, "questions") as phase:
        inner.answered = phase.tick
        try:
            return ask(oracle, comparisons, again)
        finally:
            inner.answered = None


def measured(comparisons: Comparisons, asked: Sequence[Verdicts], wanted: Wanted) -> dict[str, Any]:
    """The figures of verdicts that were given already; names must differ."""
    labels = recorded(comparisons, comparisons.label.tolist(), LABELS)
    raters = [labels, *asked]
    return {
        "data": _data(comparisons),
        "oracles": [one_oracle(comparisons, verdicts, wanted) for verdicts in asked],
        "labels": {
            "cycles": cycles(comparisons, labels.prob),
            "transitivity": transitivity(comparisons, labels.prob, wanted.seed) if wanted.fits else None,
        },
        "agreement": agreement(comparisons, raters),
        "dissection": dissection(
            comparisons, {rater.name: rater.prob for rater in raters}, wanted.annotated, wanted.seed
        )
        if wanted.fits
        else None,
    }


def one_oracle(comparisons: Comparisons, verdicts: Verdicts, wanted: Wanted) -> dict[str, Any]:
    """The sections of one oracle."""
    order = order_bias(comparisons, verdicts)
    twice = self_agreement(comparisons, verdicts)
    return {
        "name": verdicts.name,
        "fingerprint": verdicts.fingerprint,
        "asked": verdicts.asked,
        "accuracy": accuracy(comparisons, verdicts),
        "order": order,
        "length": length_bias(comparisons, verdicts),
        "calibration": calibration(comparisons, verdicts, wanted.seed),
        "cycles": cycles(comparisons, verdicts.prob),
        "cycles_in_one_order": cycles(comparisons, verdicts.as_asked, order["position"]["value"]),
        "transitivity": transitivity(comparisons, verdicts.prob, wanted.seed) if wanted.fits else None,
        "self_agreement": twice,
    }


def named(asked: Iterable[Verdicts]) -> list[Verdicts]:
    """Verdicts with a name each: of several oracles of one name the later ones get a number."""
    found: list[Verdicts] = []
    taken = {LABELS}
    for verdicts in asked:
        name, number = verdicts.name, 2
        while name in taken:
            name, number = f"{verdicts.name} ({number})", number + 1
        taken.add(name)
        found.append(replace(verdicts, name=name))
    return found


def _data(comparisons: Comparisons) -> dict[str, Any]:
    label = comparisons.label
    per_prompt = Counter(comparisons.groups)
    return {
        "comparisons": len(comparisons),
        "prompts": len(per_prompt),
        "most_of_one_prompt": max(per_prompt.values()),
        "label_ties": int((label == 0.5).sum()),
        "soft_labels": int(((label > 0) & (label < 1) & (label != 0.5)).sum()),
        "one_orientation": bool((label >= 0.5).all() or (label <= 0.5).all()),
        "median_characters": float(
            np.median([len(text) for row in comparisons.rows for text in (row.a, row.b)])
        ),
        "left_out": comparisons.left_out,
    }
