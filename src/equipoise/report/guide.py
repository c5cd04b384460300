"""What the guide says of a method, as plain data: its page, its line in the list and `--json` are made of this."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from equipoise.claims.index import CLAIMS
from equipoise.core.objectives import CATALOG, Objective
from equipoise.core.objectives.catalog import Confidence, Row
from equipoise.methods.index import METHODS, TO_PLAIN_NASH, TO_REGULARISED_NASH, describe
from equipoise.play.method import Method

Need = Literal["pairs", "unary", "lists", "scores", "online"]
NEEDS: Mapping[Need, str] = {
    "pairs": "Recorded pairs: a chosen and a rejected response",
    "unary": "Recorded single responses, with a thumb up or down",
    "lists": "Recorded lists or trees of responses, in an order",
    "scores": "Recorded responses with scores",
    "online": "Prompts, and somebody who judges what the policy writes",
}

CONFIDENCE: Mapping[Confidence, str] = {
    "verified in code": "read in the authors' code or in a major library's",
    "paper's text": "read in the paper or in a detailed account of it",
    "recalled": "from general knowledge of the paper, not read again",
    "derived": "worked out here from stated definitions, the paper's own not being to be had; tested against them",
}

CONTRACT = "tests/contract/test_objectives.py"
NO_SOURCE = "no source recorded"


def row_of(objective: Objective | None) -> tuple[str, Row] | None:
    """The objective's name and row in the catalogue: the most special one that builds it."""
    found = []
    for name, row in CATALOG.items():
        parameters = inspect.signature(row.build).parameters
        values = {p: _held(objective, p) for p in parameters}
        if None not in values.values() and type(row.build()) is type(objective):
            same = row.build(**values) == objective
            found += [(len(parameters), name, row)] if same else []
    return min(found, key=lambda f: f[0])[1:] if found else None


def _held(objective: Any, name: str) -> Any:
    """An objective's parameter, or that of the loss to which it adds a term; None where neither has it."""
    own = getattr(objective, name, None)
    base = getattr(objective, "base", None)
    return _held(base, name) if own is None and base is not None else own


def need_of(method: Method) -> Need:
    """What a run must be given, at the most."""
    if method.needs.oracle or method.needs.records is None:
        return "online"
    found = row_of(method.objective)
    if found and found[1].data in ("unary", "lists"):
        return found[1].data
    return (
        "lists"
        if method.needs.records == "lists"
        else "unary"
        if method.needs.records == "unpaired"
        else "pairs"
    )


def aim_of(method: Method) -> str:
    """Which policy a method of self-play goes to, where it is one."""
    if method in TO_REGULARISED_NASH:
        return "the KL-regularised Nash policy"
    return "the plain Nash policy" if method in TO_PLAIN_NASH else ""


def entry(method: Method) -> dict[str, Any]:
    """Everything the guide says of one method."""
    found = row_of(method.objective)
    name, row = found if found else ("", None)
    build = row.build if row else type(method.objective or method.update)
    proofs = [*(row.evidence if row else ()), *method.evidence]
    claims = [p for p in proofs if "/" not in p]
    claims += [c.name for c in CLAIMS.values() if method.paper and c.paper == method.paper]
    tests = [p for p in proofs if "/" in p] + ([CONTRACT] if row else [])
    defaults = describe(method)["defaults"] | {"rounds": method.rounds}
    return describe(method) | {
        "defaults": defaults,
        "need": need_of(method),
        "aim": aim_of(method),
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


def chosen(need: str | None = None, reference_free: bool = False) -> list[Method]:
    """The methods of a data need, all or those that read no frozen policy. Raises ValueError for another need."""
    if need is not None and need not in NEEDS:
        raise ValueError(f"no data need {need!r} (known: {', '.join(NEEDS)})")
    return [
        m
        for m in METHODS.values()
        if (need is None or need_of(m) == need) and not (reference_free and m.anchors)
    ]


def grouped(methods: Iterable[Method]) -> dict[str, list[Method]]:
    """The methods under their headings: by data need, those online also by where they go."""
    found: dict[str, list[Method]] = {}
    for need, title in NEEDS.items():
        mine = [m for m in methods if need_of(m) == need]
        for aim in dict.fromkeys(aim_of(m) for m in mine):
            heading = f"{title}, towards {aim}" if aim else title
            found[heading] = [m for m in mine if aim_of(m) == aim]
    return found
