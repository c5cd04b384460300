"""Comparison of tool calls with the right ones: exact, or graded by name, parameters, values and wording."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from equipoise.oracles.tools.calls import Call, NoCalls, check_value


class BadTools(ValueError):
    """Signatures that cannot be used; the message says why."""


@dataclass(frozen=True)
class Signatures:
    """What is known of the tools: the parameters that a call may leave out, with their values.

    defaults    tool -> parameter -> value where it is not given.
    """

    defaults: Mapping[str, Mapping[str, Any]]

    @classmethod
    def of(cls, tools: Any) -> Signatures:
        """Of JSON schemas, {"name", "parameters": {"type": "object", "properties": ...}} or the same in "function".

        Raises BadTools.
        """
        if not isinstance(tools, list):
            raise BadTools("tools are a list of signatures, {name, parameters}")
        known: dict[str, dict[str, Any]] = {}
        for tool in tools:
            about = tool.get("function", tool) if isinstance(tool, dict) else None
            if not isinstance(about, dict) or not isinstance(about.get("name"), str):
                raise BadTools("a tool is an object with a name and parameters")
            schema = about.get("parameters") or {}
            properties = schema.get("properties", {}) if isinstance(schema, dict) else None
            if not isinstance(properties, dict) or not all(isinstance(p, dict) for p in properties.values()):
                raise BadTools(f"the parameters of {about['name']} are no JSON schema of an object")
            defaults = {n: p["default"] for n, p in properties.items() if "default" in p}
            try:
                check_value(defaults)
            except NoCalls as error:
                raise BadTools(f"a default value of {about['name']} is {error}") from None
            known[about["name"]] = defaults
        return cls(known)

    def complete(self, call: Call) -> Call:
        """The call with the values of the parameters that it leaves out."""
        return Call(call.name, {**self.defaults.get(call.name, {}), **call.arguments})


NO_SIGNATURES = Signatures({})


def exact(
    calls: Sequence[Call], right: Sequence[Call], tools: Signatures = NO_SIGNATURES, *, ordered: bool = False
) -> bool:
    """Whether the calls are the right ones: names and values are equal once what is left out is filled in.

    The order of parameters never matters, that of calls if `ordered`; 7 equals 7.0, and true is no 1.
    """
    given, wanted = ([canonical(tools.complete(call)) for call in those] for those in (calls, right))
    return given == wanted if ordered else sorted(given) == sorted(wanted)


def graded(calls: Sequence[Call], right: Sequence[Call], tools: Signatures = NO_SIGNATURES) -> float:
    """The mean over calls of their agreement in [0, 1], each with the right call that it is matched with best; a call
    too many or too few counts 0. Two empty lists agree."""
    if not calls or not right:
        return float(not calls and not right)
    table = np.array([[agreement(tools.complete(a), tools.complete(b)) for b in right] for a in calls])
    rows, columns = linear_sum_assignment(-table)
    return float(table[rows, columns].sum() / max(len(calls), len(right)))


def agreement(call: Call, right: Call) -> float:
    """How far one call agrees with another, in [0, 1]: the mean of five parts.

        the same name; |n - m|/max(n, m) of their numbers of parameters, from 1; the shared share of parameter names;
        the share of parameters with equal values; the similarity of both calls as texts

    1 exactly where both are equal. DERIVED: the parts are iTool's criteria for its judge, the formula is ours.
    """
    own, other = call.arguments, right.arguments
    either = own.keys() | other.keys()
    if not either:
        parts = [1.0, 1.0, 1.0]
    else:
        shared = own.keys() & other.keys()
        equal = sum(canonical(own[name]) == canonical(other[name]) for name in shared)
        sizes = sorted((len(own), len(other)))
        parts = [sizes[0] / sizes[1], len(shared) / len(either), equal / len(either)]
    texts = canonical(call), canonical(right)
    similar = 1.0 if texts[0] == texts[1] else SequenceMatcher(None, *texts, autojunk=False).ratio()
    return (float(call.name == right.name) + sum(parts) + similar) / 5


def canonical(value: Any) -> str:
    """A call or a value as text that is equal where it is: names sorted, whole numbers without a fraction."""
    if isinstance(value, Call):
        return f"{value.name}({canonical(value.arguments)})"
    return json.dumps(_plain(value), sort_keys=True, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
