"""The list of methods, in the order in which they are shown."""

from __future__ import annotations

from dataclasses import fields
from difflib import get_close_matches
from typing import Any

from equipoise.methods.cdpo import CDPO
from equipoise.methods.dpo import DPO
from equipoise.methods.inpo import INPO
from equipoise.methods.ipo import IPO, IPO_MEAN
from equipoise.methods.spac import SPAC
from equipoise.play.method import Method

METHODS: dict[str, Method] = {m.name: m for m in (SPAC, INPO, DPO, CDPO, IPO, IPO_MEAN)}


def get(name: str) -> Method:
    """The method of that name. Raises KeyError naming the nearest one."""
    if name not in METHODS:
        near = get_close_matches(name, METHODS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise KeyError(f"no method {name!r}{hint} (known: {', '.join(METHODS)})")
    return METHODS[name]


def describe(method: Method) -> dict[str, Any]:
    """A method as plain data: what `equipoise methods --json` lists."""
    return {
        "name": method.name,
        "title": method.title,
        "paper": method.paper,
        "needs": method.needs,
        "players": method.players.describe(),
        "pairing": method.pairing.describe(),
        "oracle": "recorded labels" if method.needs == "pairs" else "preference oracle",
        "objective": type(method.objective).__name__,
        "anchors": dict(method.anchors),
        "update": method.update.describe(),
        "rounds": method.rounds,
        "defaults": {f.name: getattr(method.objective, f.name) for f in fields(method.objective)}  # type: ignore[arg-type]
        | dict(method.train),
        "status": method.status,
        "confidence": method.confidence,
    }
