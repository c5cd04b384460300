"""The reference entry of each method, as plain data: the source of its page, its line in the list and `--json`.

The entries are worked out here, from the live methods, objectives and claims; `stored` keeps them in a file, from
which the commands print.
"""

from __future__ import annotations

import inspect
from typing import Any

from equipoise.claims.index import CLAIMS
from equipoise.core.objectives import CATALOG, Objective
from equipoise.core.objectives.catalog import Row
from equipoise.methods.index import TO_PLAIN_NASH, TO_REGULARISED_NASH, describe
from equipoise.play.method import Method
from equipoise.report.methods.taxonomy import axes_of
from equipoise.report.methods.text import Need

CONTRACT = "tests/contract/test_objectives.py"
NO_SOURCE = "no source recorded"


def row_of(objective: Objective | None) -> tuple[str, Row] | None:
    """The objective's name and row in the catalogue: the most special one that builds it."""
    matches = []
    for name, row in CATALOG.items():
        parameters = inspect.signature(row.build).parameters
        values = {p: _held(objective, p) for p in parameters}
        if None not in values.values() and type(row.build()) is type(objective):
            same = row.build(**values) == objective
            matches += [(len(parameters), name, row)] if same else []
    return min(matches, key=lambda f: f[0])[1:] if matches else None


def _held(objective: Any, name: str) -> Any:
    """An objective's parameter, or that of the loss to which it adds a term; None where neither has it."""
    own = getattr(objective, name, None)
    base = getattr(objective, "base", None)
    return _held(base, name) if own is None and base is not None else own


def need_of(method: Method) -> Need:
    """What a run must be given, at the most."""
    if method.needs.oracle or method.needs.records is None:
        return "online"
    return method.needs.records


def aim_of(method: Method) -> str:
    """The policy that a method of self-play converges to; empty for every other method."""
    if method in TO_REGULARISED_NASH:
        return "the KL-regularised Nash policy"
    return "the plain Nash policy" if method in TO_PLAIN_NASH else ""


def entry(method: Method) -> dict[str, Any]:
    """The reference entry of one method."""
    name, row = row_of(method.objective) or ("", None)
    build = row.build if row else type(method.objective or method.update)
    proofs = [*(row.evidence if row else ()), *method.evidence]
    claims = [p for p in proofs if "/" not in p]
    claims += [c.name for c in CLAIMS.values() if method.paper and c.paper == method.paper]
    tests = [p for p in proofs if "/" in p] + ([CONTRACT] if row else [])
    about = describe(method)
    defaults = about["defaults"] | {"rounds": method.rounds}
    return about | {
        "defaults": defaults,
        "need": need_of(method),
        "aim": aim_of(method),
        "axes": axes_of(method, aim_of(method), row),
        "reference_free": not method.anchors,
        "catalogued": name,
        "formula": inspect.getdoc(build) or "",
        "sources": {key: method.sources.get(key, NO_SOURCE) for key in defaults},
        "players_source": method.sources.get("samples", NO_SOURCE),
        "pairing_source": method.sources.get("pairing", ""),
        "bounded": row.bounded if row else "",
        "limits": list(map(str, row.limits)) if row else [],
        "deviations": list(row.deviations) if row else [],
        "tests": list(dict.fromkeys(tests)),
        "claims": list(dict.fromkeys(claims)),
    }
