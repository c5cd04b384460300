"""Recorded pairs against a reference: losses of each response's implicit reward separately."""

from __future__ import annotations

from equipoise.core.objectives.catalog.row import LOG2, Row, always, never
from equipoise.core.objectives.odds import AsftAligned
from equipoise.core.objectives.pointwise import ApoDown, ApoZero, BcoPair, NcaPair

ROWS: dict[str, Row] = {
    "nca_pair": Row(
        build=NcaPair,
        title="Noise-contrastive alignment, on pairs",
        paper="2402.05369",
        confidence="verified in code",
        at_anchor=lambda _: 2 * LOG2,
        shift_invariant=never,  # depends on each response separately
        bounded="loss >= 1.5 H(1/3); chosen reward at log 2",
        evidence=("tests/core/test_pointwise.py", "tests/agree/test_trl_losses.py"),
    ),
    "bco_pair": Row(
        build=BcoPair,
        title="Binary classifier optimisation, on pairs",
        paper="2404.04656",
        confidence="verified in code",
        at_anchor=lambda _: 2 * LOG2,
        shift_invariant=never,  # depends on each response separately
        bounded="loss >= 0; rewards without bound",
        evidence=("tests/core/test_pointwise.py", "tests/agree/test_trl_losses.py"),
    ),
    "apo_zero": Row(
        build=ApoZero,
        title="Anchored preference optimisation, zero",
        paper="2408.06266",
        confidence="verified in code",
        at_anchor=lambda _: 1.0,
        shift_invariant=never,  # depends on each response separately
        bounded="loss in (0, 2); pull at most beta/4",
        evidence=("tests/core/test_pointwise.py", "tests/agree/test_trl_losses.py"),
    ),
    "apo_down": Row(
        build=ApoDown,
        title="Anchored preference optimisation, down",
        paper="2408.06266",
        confidence="verified in code",
        at_anchor=lambda _: 1.0,
        exempt={"first_order": "both terms pull on the chosen response and cancel at the reference"},
        shift_invariant=never,  # depends on the chosen response separately
        bounded="loss in (0, 2); pull at most beta/2",
        evidence=("tests/core/test_pointwise.py", "tests/agree/test_trl_losses.py"),
    ),
    "asft_aligned": Row(
        build=AsftAligned,
        title="ASFT with a temperature and a reference",
        paper="2502.01237",
        confidence="paper's text",
        at_anchor=lambda _: 2 * LOG2,
        shift_invariant=never,  # separate odds of each response
        length_invariant=always,
        bounded="loss >= 0; odds without bound",
        evidence=("tests/core/test_odds.py",),
    ),
}
