"""Recorded pairs against a reference: margins of two log-ratios."""

from __future__ import annotations

from equipoise.core.objectives.catalog.row import LOG2, Limit, Row, never
from equipoise.core.objectives.logistic import Cdpo, Dpo
from equipoise.core.objectives.squared import Ipo, IpoMean

ROWS: dict[str, Row] = {
    "dpo": Row(
        build=Dpo,
        title="Direct preference optimisation",
        paper="2305.18290",
        confidence="verified in code",
        at_anchor=lambda _: LOG2,
    ),
    "cdpo": Row(
        build=Cdpo,
        title="Conservative DPO (label smoothing)",
        paper="",
        confidence="verified in code",
        at_anchor=lambda _: LOG2,
        limits=(Limit(parameters={"smoothing": 0.0}, is_="dpo"),),
    ),
    "ipo": Row(
        build=Ipo,
        title="Identity preference optimisation",
        paper="2310.12036",
        confidence="verified in code",
        at_anchor=lambda o: 0.25 / o.tau**2,
    ),
    "ipo_mean": Row(
        build=IpoMean,
        title="Identity preference optimisation, per token",
        paper="2310.12036",
        confidence="verified in code",
        at_anchor=lambda o: 0.25 / o.tau**2,
        shift_invariant=never,  # a shift is divided by two different lengths
    ),
}
