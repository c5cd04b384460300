"""The methods of the labels world by name, and their settings by dotted name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from difflib import get_close_matches
from typing import Any, Literal

from equipoise.core.margins.similarities import OwnTemperatures
from equipoise.worlds.labels.adversarial import Adversarial
from equipoise.worlds.labels.classify import Classify
from equipoise.worlds.labels.continual import Ibcl
from equipoise.worlds.labels.contrast import Contrast
from equipoise.worlds.labels.distil import DualHead
from equipoise.worlds.labels.label_losses import CompSum, Ldr, OwnLdr
from equipoise.worlds.labels.outcome import Recipe
from equipoise.worlds.labels.p2c import P2c


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A method of the labels world.

    recipe      with its defaults.
    main        its most important figure; larger is better.
    data        the set on which it is run where none is named.
    confidence  how sure its formulas are.
    """

    title: str
    paper: str
    recipe: Recipe
    main: str = "accuracy"
    data: Literal["digits", "diabetes"] = "digits"
    confidence: str = "verified in code"


ENTRIES: Mapping[str, Entry] = {
    "cross_entropy": Entry(title="Cross-entropy", paper="2304.07288", recipe=Classify()),
    "comp_sum": Entry(
        title="Comp-sum loss, generalised cross-entropy at tau 1.5",
        paper="2304.07288",
        recipe=Classify(loss=CompSum(tau=1.5)),
        confidence="recalled, checked numerically",
    ),
    "ldr": Entry(
        title="LDR: label-distributionally robust loss", paper="2112.14869", recipe=Classify(loss=Ldr())
    ),
    "aldr": Entry(
        title="ALDR: a temperature for each example", paper="2112.14869", recipe=Classify(loss=OwnLdr())
    ),
    "smooth_adversarial": Entry(
        title="Smooth adversarial comp-sum loss",
        paper="2304.07288",
        recipe=Adversarial(),
        main="robust",
        confidence="recalled",
    ),
    "contrastive": Entry(
        title="Contrastive loss with one temperature",
        paper="2012.09740",
        recipe=Contrast(),
        main="probe",
        confidence="a detailed summary",
    ),
    "isogclr": Entry(
        title="iSogCLR: contrastive loss with a temperature for each image",
        paper="2305.11965",
        recipe=Contrast(own=OwnTemperatures()),
        main="probe",
    ),
    "p2c": Entry(title="P2C: prefer to classify", paper="2306.04925", recipe=P2c(), data="diabetes"),
    "dual_head": Entry(title="Dual-head knowledge distillation", paper="2411.08937", recipe=DualHead()),
    "ibcl": Entry(
        title="IBCL: imprecise Bayesian continual learning",
        paper="2305.14782",
        recipe=Ibcl(),
        main="weighted",
    ),
}


def settings_of(recipe: Any, prefix: str = "") -> dict[str, Any]:
    """All settings of a recipe by dotted name, with their values."""
    found: dict[str, Any] = {}
    for field in fields(recipe):
        value = getattr(recipe, field.name)
        if is_dataclass(value) and not isinstance(value, type):
            found |= settings_of(value, f"{prefix}{field.name}.")
        else:
            found[prefix + field.name] = value
    return found


def with_settings(recipe: Any, settings: Mapping[str, Any]) -> Any:
    """A recipe with some settings changed, by dotted name or by its last part where that is unique.

    Raises ValueError for an unknown or ambiguous name, or a value of another kind or out of range.
    """
    known = settings_of(recipe)
    for given, value in settings.items():
        name = _full(given, known)
        recipe = _replaced(recipe, name.split("."), _like(name, known[name], value))
    return recipe


def _full(name: str, known: Mapping[str, Any]) -> str:
    if name in known:
        return name
    ends = [full for full in known if full.rpartition(".")[2] == name]
    if len(ends) == 1:
        return ends[0]
    if ends:
        raise ValueError(f"{name!r} may be {' or '.join(ends)}: say which")
    near = get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"no setting {name!r}{hint} (there are: {', '.join(known)})")


def _like(name: str, default: Any, value: Any) -> Any:
    """A value of the kind that the default has: numbers may be written as text, as YAML leaves 1e-4."""
    try:
        if isinstance(default, bool):
            if str(value).lower() not in ("true", "false"):
                raise ValueError
            return str(value).lower() == "true"
        if isinstance(default, int):
            if float(value) != int(float(value)):
                raise ValueError
            return int(float(value))
        if isinstance(default, float):
            return float(value)
        if isinstance(default, tuple):
            return tuple(float(v) for v in value)
    except (TypeError, ValueError):
        kinds = {bool: "true or false", int: "a whole number", float: "a number", tuple: "a list of numbers"}
        raise ValueError(f"{name} must be {kinds[type(default)]}, got {value!r}") from None
    if default is None:
        raise ValueError(f"{name} is a part of its own and cannot be set here")
    return str(value)


def _replaced(recipe: Any, path: list[str], value: Any) -> Any:
    head, *rest = path
    inner = value if not rest else _replaced(getattr(recipe, head), rest, value)
    return replace(recipe, **{head: inner})
