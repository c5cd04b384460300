"""Oracles given as Python objects: a function as a rule, an oracle, or one of single questions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from equipoise.oracles.checked import Checked, unwrapped
from equipoise.oracles.protocol import Oracle, OracleError, parts_that
from equipoise.oracles.questioner import Batched, Questioner
from equipoise.oracles.rules import RuleOracle, check_arity

PREFIX = "python:"

# a specification, a rule (prompt, response) or (prompt, a, b), or an oracle with a fingerprint
OracleLike: TypeAlias = "str | Path | Oracle | Questioner | Batched | Callable[..., Any]"

PROTOCOLS = {  # a member that only this protocol has -> all that it asks for
    "compare": ("name", "fingerprint", "compare", "score"),
    "open": ("name", "fingerprint", "scores", "both_orders", "open"),
    "answer": ("name", "fingerprint", "scores", "both_orders", "batches", "answer"),
}


@dataclass(frozen=True)
class Given:
    """An oracle that the caller holds in memory.

    spec   stands for it in a configuration: python:MODULE.NAME; nothing but the object itself can be asked
    made   the oracle
    """

    spec: str
    made: Oracle | Questioner | Batched


def is_given(spec: str) -> bool:
    """Whether an oracle's name in a configuration stands for a Python object."""
    return spec.startswith(PREFIX) and "." in spec  # module:function of a module `python` has no dot


def again(spec: str) -> str:
    """The sentence that refuses the name of an object without the object."""
    return (
        f"the oracle {spec} is a Python object, which its name alone does not bring back: give the object again, with "
        "equipoise.align(..., oracle=OBJECT)"
    )


def given(oracle: Any) -> Given:
    """The oracle that an object is: a function becomes a rule.

    Raises OracleError for an object that is no oracle, and for one without a fingerprint: resuming could not tell
    whether it is the same.
    """
    if isinstance(oracle, Given):
        return oracle
    spec = f"{PREFIX}{_name(oracle)}"
    if isinstance(oracle, type):
        raise OracleError(f"{spec} is a class; give an object of it")
    for member, needed in PROTOCOLS.items():
        if hasattr(oracle, member):
            return _checked(Given(spec, oracle), needed)
    if not callable(oracle):
        raise OracleError(
            f"a {type(oracle).__name__} is no oracle: give a function (prompt, response) -> score or (prompt, a, b) -> "
            "probability, an object with name, fingerprint, compare and score, or the name of a file or folder"
        )
    check_arity(oracle, spec)
    return _checked(Given(spec, RuleOracle(oracle, spec)), ())


def _checked(found: Given, needed: tuple[str, ...]) -> Given:
    """The oracle, if it has all that is needed and its fingerprint says what its verdicts depend on."""
    bare = unwrapped(found.made) if isinstance(found.made, Checked) else found.made
    missing = [name for name in needed if not hasattr(bare, name)]
    if missing:
        what = (
            "fingerprint, a text that changes whenever its verdicts would" if "fingerprint" in missing else ""
        )
        names = ", ".join([name for name in missing if name != "fingerprint"] + [what] * bool(what))
        raise OracleError(f"the oracle {found.spec} lacks {names}; add it to {type(bare).__name__}")
    for rule in parts_that(found.made, RuleOracle):
        if rule.unhashed:
            raise OracleError(
                f"the oracle {found.spec} cannot be told from another: {rule.unhashed}; say what its verdicts depend "
                "on in a text: set the attribute `fingerprint` of the function, or give RuleOracle(function, name, "
                "fingerprint=TEXT)"
            )
    own = getattr(bare, "fingerprint", None)
    if not isinstance(own, str) or not own:
        raise OracleError(
            f"the oracle {found.spec} has the fingerprint {own!r}; it must be a text that changes whenever its "
            "verdicts would"
        )
    return found


def _name(oracle: Any) -> str:
    """MODULE.NAME of a function, or of the class of an object."""
    inner = unwrapped(oracle) if isinstance(oracle, Checked) else oracle
    if isinstance(inner, partial):
        return _name(inner.func)
    named: Any = inner if hasattr(inner, "__qualname__") else type(inner)
    return f"{getattr(named, '__module__', None) or 'builtins'}.{named.__qualname__}"
