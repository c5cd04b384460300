"""What every choice on an axis says of itself: a line, its parameters, what it needs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from math import isinf
from typing import Any, ClassVar

import pytest

from contract.axes import COMPONENTS, PAIRINGS, PLAYERS, UPDATES, Row, missing, named
from contract.scenes import CAPABILITIES, declared
from equipoise.play import pairings, players, updates
from equipoise.play.capabilities import RandomDraws
from equipoise.play.component import parts
from equipoise.play.method import Method
from equipoise.play.needs import ORACLE, Needs
from equipoise.play.pairings.protocol import Pairing
from equipoise.play.pairings.recorded import AsRecorded
from equipoise.play.players.protocol import Players
from equipoise.play.players.sampled import Written
from equipoise.play.state import START
from equipoise.play.updates.basic import Refit
from equipoise.play.updates.protocol import Update

CASES = named(COMPONENTS)
each_component = pytest.mark.parametrize("row", CASES.values(), ids=CASES.keys())


@pytest.mark.parametrize(
    "package, base, listed",
    [(players, Players, PLAYERS), (pairings, Pairing, PAIRINGS), (updates, Update, UPDATES)],
    ids=["players", "pairings", "updates"],
)
def test_every_component_is_listed(package: Any, base: type, listed: list[Row]):
    assert missing(package, base, listed) == []
    last = type(listed[-1].example)
    assert missing(package, base, [row for row in listed if type(row.example) is not last]) == [last.__name__]


def other(value: Any) -> Any:
    """A legal value near this one that is another."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return 1.0 if isinf(value) else value / 3 + 0.01
    named = {"bradley_terry": "thurstone", "thurstone": "bradley_terry", "learned": "oracle"}
    named |= {"network": "regression", "regression": "network", "features": "model", "text": "states"}
    named |= {"win rates": "oracle", "corpus": "prompt", "prompt": "corpus"}
    named |= {"step": "response", "response": "step", "win_rate": "score", "": "\n", "difference": "release"}
    named |= {
        "initial": "start",
        "start": "initial",
        "length": "perplexity",
        "at_least": "equal",
        "equal": "at_least",
    }
    if isinstance(value, str) and "{" in value:  # a template
        return f"{value}!"
    if isinstance(value, tuple):
        return (*value, *value[:1])
    if isinstance(value, Mapping):
        return {name: number + 1 for name, number in value.items()}
    return {None: 0.5, **named}[value]


def method_with(component: Any) -> Method:
    """A method with this choice on its axis, and on the others what fits any."""
    choices: dict[str, Any] = {
        "players": Written(by=START, samples=2),
        "pairing": AsRecorded(),
        "update": Refit(),
    }
    axis = {Players: "players", Pairing: "pairing", Update: "update"}
    (base,) = (base for base in axis if base in type(component).__mro__)
    if base is Pairing:
        for width in range(1, 9):
            try:
                component.check(width)
            except ValueError:
                continue
            choices["players"] = Written(
                by=START, samples=width + 1 if _takes(component, width + 1) else width
            )
            break
    choices[axis[base]] = component
    return Method(
        name="contract",
        title="",
        paper="",
        confidence="derived",
        objective=None,
        anchors={},
        rounds=2,
        **choices,
    )


def _takes(pairing: Pairing, width: int) -> bool:
    try:
        pairing.check(width)
    except ValueError:
        return False
    return True


def check_description(component: Any) -> None:
    said = component.describe()
    assert said and said.strip() == said
    assert "\n" not in said and not said.endswith(".")
    assert said[0].islower() or said[0].isdigit(), "it goes on a sentence"
    assert "<" not in said and "object at" not in said


def check_declarations(component: Any) -> None:
    assert isinstance(component.needs, Needs)
    for capability in component.capabilities:
        assert CAPABILITIES.get(capability.__name__) is capability
        isinstance(object(), capability)  # TypeError where it is not runtime_checkable
    assert len(set(component.parameters)) == len(component.parameters)


def check_parameters(component: Any) -> None:
    """Each is a field; a method's setting of that name reaches every part that declares it."""
    for part in parts(component):
        known = {f.name for f in fields(part)}
        for name in part.parameters:
            assert name in known, f"{type(part).__name__}.{name} is no field"
            value = other(getattr(part, name))
            changed = replace(part, **{name: value})
            assert getattr(changed, name) == value and changed != part
            method = method_with(component).with_parameters({name: value})
            assert method.parameters()[name] == value
            choice = next(
                c for c in (method.players, method.pairing, method.update) if type(c) is type(component)
            )
            reached = [getattr(p, name) for p in parts(choice) if name in p.parameters]
            assert reached and all(v == value for v in reached)


def check_record(component: Any) -> None:
    assert is_dataclass(component)
    assert type(component).__dataclass_params__.frozen  # type: ignore[attr-defined]
    with pytest.raises(dataclasses.FrozenInstanceError):
        component.anything = 1
    same = replace(component)
    assert same == component and hash(same) == hash(component)
    assert repr(same) == repr(component) and repr(component).startswith(f"{type(component).__name__}(")


CHECKS = [check_description, check_declarations, check_parameters, check_record]


@each_component
@pytest.mark.parametrize("check", CHECKS)
def test_says_what_it_is(check: Any, row: Row):
    check(row.example)


WRAPPERS = {name: row for name, row in CASES.items() if hasattr(row.example, "base")}


@pytest.mark.parametrize("row", WRAPPERS.values(), ids=WRAPPERS.keys())
def test_a_wrapper_speaks_for_what_it_is_built_on(row: Row):
    base = row.example.base
    method = method_with(row.example)
    for part in parts(row.example):
        assert method.needs | part.needs == method.needs
        assert {c.__name__ for c in part.capabilities} <= {c.__name__ for c in method.capabilities}
    assert declared(base) <= declared(row.example)
    if Update in type(row.example).__mro__:
        assert set(base.memory) <= set(row.example.memory)


# each check refuses a component that is wrong in this one way ---------------------------------------


@dataclass(frozen=True, kw_only=True)
class Wrong(Players):
    said: str = "nothing"
    parameters: ClassVar[tuple[str, ...]] = ("absent",)
    capabilities: ClassVar[tuple[type, ...]] = (Needs,)

    def describe(self) -> str:
        return self.said


@dataclass(kw_only=True)
class Mutable(Players):
    needs: ClassVar[Needs] = ORACLE
    capabilities: ClassVar[tuple[type, ...]] = (RandomDraws,)


@pytest.mark.parametrize("said", ["", "Ends with a stop.", "two\nlines", "of <object object at 0x1>"])
def test_a_wrong_description_is_seen(said: str):
    with pytest.raises((AssertionError, IndexError)):
        check_description(Wrong(said=said))


@pytest.mark.parametrize("check", [check_declarations, check_parameters])
def test_a_wrong_declaration_is_seen(check: Any):
    with pytest.raises(AssertionError):
        check(Wrong())


def test_a_component_that_can_change_is_seen():
    with pytest.raises(AssertionError):
        check_record(Mutable())
