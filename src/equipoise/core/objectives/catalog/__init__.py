"""The table of objectives: name -> callable, data need, claims that the contract suite checks, source.

Explicit on purpose: one row per objective, one file of rows per family, no registration by import.
"""

from __future__ import annotations

from equipoise.core.objectives.catalog import (
    divergences,
    likelihood,
    lists,
    pairs,
    pointwise,
    policy_gradients,
    reference_free,
    self_play,
    token_pairs,
    unpaired,
)
from equipoise.core.objectives.catalog.row import Claim, Confidence, Data, Limit, Row

__all__ = ["CATALOG", "Claim", "Confidence", "Data", "Limit", "Row"]

FAMILIES = (
    pairs,
    divergences,
    pointwise,
    reference_free,
    token_pairs,
    lists,
    unpaired,
    likelihood,
    self_play,
    policy_gradients,
)

CATALOG: dict[str, Row] = {name: row for family in FAMILIES for name, row in family.ROWS.items()}
