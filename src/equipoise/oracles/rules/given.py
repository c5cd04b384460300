"""Oracles given as Python objects: a function as a rule, an oracle, or one of single questions."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

from equipoise.oracles.checked import Checked, unwrapped
from equipoise.oracles.protocol import Oracle, OracleError, parts_that
from equipoise.oracles.questions.questioner import Batched, Questioner
from equipoise.oracles.rules.code_hash import Unhashable, code_hash
from equipoise.oracles.rules.rule_oracle import RuleOracle, check_arity

PREFIX = "python:"
SETTLED: WeakKeyDictionary[Any, tuple[str, str]] = (
    WeakKeyDictionary()
)  # rule -> (hash after a run, its fingerprint)

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
    rule   the function, if it was one
    """

    spec: str
    made: Oracle | Questioner | Batched
    rule: Callable[..., Any] | None = None

    def asked(self) -> None:
        """Called after a run: what a rule changed in itself while it was asked, such as a counter, is no other rule."""
        if self.rule is not None and isinstance(self.made, RuleOracle):
            with suppress(TypeError, Unhashable):  # an object that has no weak references, or no hash now
                SETTLED[self.rule] = (
                    code_hash(self.rule),
                    self.made.fingerprint.removeprefix(f"{self.spec} "),
                )


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
            f"an object of type {type(oracle).__name__} is no oracle: give a function (prompt, response) -> score or "
            "(prompt, a, b) -> probability, an object with name, fingerprint, compare and score, or the name of a "
            "file or folder"
        )
    check_arity(oracle, spec)
    return _of_rule(oracle, spec)


def _of_rule(rule: Callable[..., Any], spec: str) -> Given:
    """A function as an oracle; its fingerprint is its attribute of this name, or a hash of all that it reads."""
    own = getattr(rule, "fingerprint", None)
    if own is not None and (not isinstance(own, str) or not own):
        raise OracleError(f"the attribute fingerprint of {spec} is {own!r}; it must be a text")
    if own is None:
        try:
            own = code_hash(rule)
        except Unhashable as error:
            raise OracleError(_indistinct(spec, str(error))) from error
        with suppress(TypeError):
            left, before = SETTLED.get(rule, (None, None))
            own = before if left == own and before else own
    return Given(spec, RuleOracle(rule, spec, fingerprint=own), rule)


def _indistinct(spec: str, why: str) -> str:
    return (
        f"the oracle {spec} cannot be told from another: {why}; say what its verdicts depend on in a text: set the "
        "attribute `fingerprint` of the function, or give oracles.RuleOracle(function, name, fingerprint=TEXT)"
    )


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
            raise OracleError(_indistinct(found.spec, rule.unhashed))
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
