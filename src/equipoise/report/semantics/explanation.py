"""`equipoise explain`: what a loss says, as one object that is printed, drawn or written as JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from difflib import get_close_matches
from typing import Any

from equipoise.core.objectives import CATALOG
from equipoise.methods.index import METHODS
from equipoise.semantics import algebra
from equipoise.semantics.count import coefficients
from equipoise.semantics.formula import ATOMS, FALSE, TRUE
from equipoise.semantics.losses import LINKS, READINGS, STRUCTURES, UNREAD, Reading
from equipoise.semantics.parse import parse
from equipoise.semantics.relate import census, direction, hasse, relation
from equipoise.semantics.structure import Structure, in_words, of_rows

Report = dict[str, Any]

EVERY = "all"
YOURS = "your formula"
PAPER = "2412.17696"
A_NAME = re.compile(r"[A-Za-z][\w+-]*")


def named() -> dict[str, Structure]:
    """The named structures."""
    return {name: entry.structure for name, entry in STRUCTURES.items()}


def explain(
    asked: str, given: str | None = None, also: str | None = None, against: Sequence[str] = ()
) -> Report:
    """The explanation of a loss by name, or of a formula P with its P_C (given) and P_A (also).

    against   compare with the structures of these alone; by default with every structure that has a name.

    Raises ValueError for an unknown name (with the nearest), an objective without a known structure, a formula that
    cannot be read or that no row satisfies, and for given or also together with a name.
    """
    others = {name: STRUCTURES[name].structure for name in map(structure_of, against)} or named()
    if not A_NAME.fullmatch(asked) or asked.lower() in ("true", "false"):
        structure = Structure(parse(asked), parse(given) if given else TRUE, parse(also) if also else FALSE)
        section = _section(YOURS, structure, others)
        return {"asked": asked, "kind": "formula", "structures": [section], "reading": None, "reason": None}
    if given is not None or also is not None:
        raise ValueError(
            f"--given and --also apply to formulas only: {asked!r} is a named loss and has its own"
        )
    name = known(asked)
    if name in UNREAD:
        return {"asked": asked, "kind": "unread", "structures": [], "reading": None, "reason": UNREAD[name]}
    reading = READINGS.get(name)
    parts = [part for _, part in reading.parts] if reading else [name]
    return {
        "asked": asked,
        "kind": "name",
        "structures": [_section(part, STRUCTURES[part].structure, others) for part in dict.fromkeys(parts)],
        "reading": _reading(name, reading) if reading else None,
        "reason": None,
    }


def known(asked: str) -> str:
    """The name under which a loss is in the tables; a method stands for its objective.

    Raises ValueError for an unknown name, with the nearest, and for an objective without a known structure.
    """
    if asked in READINGS or asked in STRUCTURES or asked in UNREAD:
        return asked
    if asked in METHODS and METHODS[asked].objective is not None:
        name = _objective(asked)
        if name in READINGS or name in UNREAD:
            return name
    if asked in METHODS or asked in CATALOG:
        raise ValueError(f"no logical structure is known for {asked!r}; a formula can be explained instead")
    names = [*READINGS, *STRUCTURES, *UNREAD, *METHODS, *CATALOG]
    near = get_close_matches(asked, names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"unknown loss {asked!r}{hint} (`equipoise explain all` lists them)")


def structure_of(asked: str) -> str:
    """The structure to compare with: the first part of what a name says. Raises ValueError if it has none."""
    name = known(asked)
    if name in UNREAD:
        raise ValueError(f"{asked!r} has no structure to compare with: {UNREAD[name]}")
    return READINGS[name].parts[0][1] if name in READINGS else name


def _objective(method: str) -> str:
    """The catalogue row closest to the method's objective: of the same type, with the most parameters in common."""
    objective = METHODS[method].objective
    rows: dict[str, Any] = {
        name: built for name, row in CATALOG.items() if type(built := row.build()) is type(objective)
    }

    def shared_values(name: str) -> int:
        shared = fields(rows[name])
        return sum(getattr(rows[name], f.name) == getattr(objective, f.name) for f in shared)

    return max(rows, key=shared_values, default="")


def _reading(name: str, reading: Reading) -> Report:
    return {
        "name": name,
        "parts": [{"weight": weight, "structure": part} for weight, part in reading.parts],
        "link": reading.link,
        "formula": LINKS[reading.link],
        "note": reading.note,
        "confidence": reading.confidence,
    }


def _section(name: str, structure: Structure, others: Mapping[str, Structure]) -> Report:
    """Everything about one structure."""
    entry, short = STRUCTURES.get(name), of_rows(structure.win, structure.lose)
    above, below = algebra.ratio(structure)
    return {
        "name": name,
        "title": entry.title if entry else "",
        "note": entry.note if entry else "",
        "confidence": entry.confidence if entry else None,
        "core": str(structure.core),
        "given": str(structure.given),
        "also": str(structure.also),
        "shortest": {"core": str(short.core), "given": str(short.given), "also": str(short.also)},
        "words": in_words(structure),
        "atoms": [ATOMS[i] for i in structure.atoms],
        "rows": rows_of(structure),
        "ratio": algebra.closed_form(structure),
        "win": algebra.times(above),
        "lose": algebra.times(below),
        "symmetric": structure.symmetric,
        "pulls": [
            {
                "atom": ATOMS[i],
                "coefficient": algebra.coefficient(structure, i),
                "sign": direction(structure, i),
                "at_half": _at_half(structure)[i],
            }
            for i in structure.atoms
        ],
        "relations": [
            {"to": other, **asdict(relation(structure, theirs))}
            for other, theirs in others.items()
            if other != name
        ],
    }


def rows_of(structure: Structure) -> list[Report]:
    """The truth table, true first, with marks."""
    return [
        {"values": [row >> i & 1 for i in structure.atoms], "mark": mark}
        for row, mark in sorted(
            structure.marks().items(), key=lambda item: [-(item[0] >> i & 1) for i in structure.atoms]
        )
    ]


def _at_half(structure: Structure) -> dict[int, float]:
    """d log R / d log p of every atom where all probabilities are one half."""
    import torch

    half = torch.tensor([0.5], dtype=torch.float64).log()
    found = coefficients(structure, dict.fromkeys(range(len(ATOMS)), half))
    return {i: float(value) for i, value in found.items()}


def landscape(asked: Report | None = None) -> Report:
    """All structures with a name, and the formula asked about: names that say the same are one node.

    edges    (stronger, weaker) nodes by position, without those that follow from others.
    """
    structures = named()
    if asked and asked["kind"] == "formula":
        section = asked["structures"][0]
        structures[YOURS] = Structure(*(parse(section[part]) for part in ("core", "given", "also")))
    nodes: list[Report] = []
    for name, structure in structures.items():
        same = next((node for node in nodes if structure.same_rows(node["structure"])), None)
        if same:
            same["names"].append(name)
            continue
        said_by = [other for other, r in READINGS.items() if r.parts[0][1] == name and other != name]
        nodes.append({"names": [name], "objectives": said_by, "structure": structure})
    edges = hasse({str(i): node["structure"] for i, node in enumerate(nodes)})
    return {
        "nodes": [node | {"rows": rows_of(node["structure"])} for node in nodes],
        "edges": [(int(a), int(b)) for a, b in edges],
    }


def everything() -> Report:
    """What `equipoise explain all` prints: structures, objectives, and how many structures there could be."""
    found = landscape()
    names = [node["names"][0] for node in found["nodes"]]
    return {
        "structures": [_section(name, structure, named()) for name, structure in named().items()],
        "readings": [_reading(name, reading) for name, reading in READINGS.items()],
        "unread": dict(UNREAD),
        "edges": [{"stronger": names[a], "weaker": names[b]} for a, b in found["edges"]],
        "census": asdict(census()),
    }
