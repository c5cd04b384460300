"""Likelihood of demonstrated responses."""

from __future__ import annotations

from equipoise.core.objectives.catalog.row import Row, never
from equipoise.core.objectives.catalog.unpaired import ONE_RESPONSE
from equipoise.core.objectives.likelihood import Sft

ROWS: dict[str, Row] = {
    "sft": Row(
        build=Sft,
        title="Supervised fine-tuning",
        paper="2203.02155",
        confidence="verified in code",
        at_equal=lambda o, a, n: (0.0, -a),
        exempt={**ONE_RESPONSE, "first_order": "an undesirable response is left out and not lowered"},
        shift_invariant=never,  # reads log-probs themselves
        length_invariant=lambda o: True,
        data="unpaired",
        bounded="loss >= 0",
        evidence=("tests/core/test_likelihood.py", "tests/run/test_sft.py"),
    ),
}
