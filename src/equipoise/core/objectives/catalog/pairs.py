"""Recorded pairs against a reference: margins of two log-ratios."""

from __future__ import annotations

from equipoise.core.objectives.catalog import given
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
        bounded="loss >= 0; margin without bound",
        evidence=("tests/core/test_logistic.py", "tests/games/test_expectation.py", "spac_coverage"),
    ),
    "cdpo": Row(
        build=Cdpo,
        title="Conservative DPO (label smoothing)",
        paper="",
        confidence="verified in code",
        at_anchor=lambda _: LOG2,
        limits=(Limit(parameters={"smoothing": 0.0}, is_="dpo"),),
        bounded="loss >= H(smoothing); margin at log((1 - e)/e)",
        deviations=(
            "TRL ignores label_smoothing in its plain sigmoid loss and reads it in others only",
            "HALOs take 0.2 for the smoothing",
        ),
        evidence=("tests/core/test_logistic.py",),
    ),
    "ipo": Row(
        build=Ipo,
        title="Identity preference optimisation",
        paper="2310.12036",
        confidence="verified in code",
        at_anchor=lambda o: 0.25 / o.tau**2,
        bounded="loss >= 0; margin at 1/(2 tau)",
        deviations=("TRL and HALOs divide each log-ratio by its length under this name: ipo_mean here",),
        evidence=("tests/core/test_squared.py", "tests/games/test_expectation.py"),
    ),
    "ipo_mean": Row(
        build=IpoMean,
        title="Identity preference optimisation, per token",
        paper="2310.12036",
        confidence="verified in code",
        at_anchor=lambda o: 0.25 / o.tau**2,
        shift_invariant=never,  # a shift is divided by two different lengths
        bounded="loss >= 0; margin at 1/(2 tau) per token",
        limits=(
            Limit(parameters={}, is_="ipo", where="every response one token long", given=given.one_token),
        ),
        deviations=("the paper and OpenRLHF sum over tokens under the same name: ipo here",),
        evidence=("tests/core/test_squared.py",),
    ),
}
