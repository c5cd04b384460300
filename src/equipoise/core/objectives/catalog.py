"""The table of objectives: name -> callable, data need, claims that the contract suite checks, source.

Explicit on purpose: one row per objective, no registration by import.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from equipoise.core.objectives.base import Objective
from equipoise.core.objectives.logistic import Cdpo, Dpo
from equipoise.core.objectives.spac import Spac
from equipoise.core.objectives.squared import Inpo, Ipo, IpoMean

Confidence = Literal["verified in code", "paper's text", "recalled", "derived"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One objective and what is claimed of it.

    build           makes the objective; its keywords are the paper's parameters.
    variants        further legal settings, beside the defaults, under which every claim must hold too.
    at_anchor       loss of one comparison where the policy equals all its anchors.
    antisymmetric   the margin changes sign when the pair is swapped.
    shift_invariant adding c(x) to all scores of a prompt (policy or anchor) changes nothing.
    first_order     the sign of the gradient at the anchors is (<= 0 on chosen, >= 0 on rejected).
    """

    build: Callable[..., Objective]
    title: str
    paper: str
    confidence: Confidence
    at_anchor: Callable[[Objective], float]
    variants: tuple[Mapping[str, object], ...] = ()
    antisymmetric: bool = True
    shift_invariant: bool = True
    first_order: bool = True


def _log2(_: Objective) -> float:
    return 0.6931471805599453


def _spac_at_anchor(objective: Objective) -> float:
    assert isinstance(objective, Spac)
    smooth = objective.mode == "smooth"
    return 0.6931471805599453 * (objective.w_pref + (2 * objective.w_pess if smooth else 0.0))


CATALOG: dict[str, Row] = {
    "dpo": Row(
        build=Dpo,
        title="Direct preference optimisation",
        paper="2305.18290",
        confidence="verified in code",
        at_anchor=_log2,
    ),
    "cdpo": Row(
        build=Cdpo,
        title="Conservative DPO (label smoothing)",
        paper="",
        confidence="verified in code",
        at_anchor=_log2,
    ),
    "ipo": Row(
        build=Ipo,
        title="Identity preference optimisation",
        paper="2310.12036",
        confidence="verified in code",
        at_anchor=lambda o: 0.25 / o.tau**2,  # type: ignore[attr-defined]
    ),
    "ipo_mean": Row(
        build=IpoMean,
        title="Identity preference optimisation, per token",
        paper="2310.12036",
        confidence="verified in code",
        at_anchor=lambda o: 0.25 / o.tau**2,  # type: ignore[attr-defined]
        shift_invariant=False,  # a shift is divided by two different lengths
    ),
    "inpo": Row(
        build=Inpo,
        title="Iterative Nash policy optimisation",
        paper="2407.00617",
        confidence="paper's text",
        at_anchor=lambda o: 0.25 / o.eta**2,  # type: ignore[attr-defined]
    ),
    "spac": Row(
        build=Spac,
        title="Self-play with an adversarial critic",
        paper="2406.04274",
        confidence="derived",
        at_anchor=_spac_at_anchor,
        variants=({"mode": "linear"},),
    ),
}
