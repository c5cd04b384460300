"""Recursive-descent parser of formulas; its errors point at the character that it cannot read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from equipoise.semantics.formula import ATOMS, FALSE, OPERATORS, TRUE, Atom, Binary, Formula, Not

LONGEST, DEEPEST = 1000, 20  # characters, and parentheses or negations inside each other

SPELLINGS: dict[str, tuple[str, ...]] = {
    "<->": ("<->", "<=>", "↔", "⇔", "iff"),
    "->": ("->", "=>", "→", "⇒", "implies"),
    "xor": ("xor", "^", "⊕", "⊻"),
    "or": ("or", "||", "|", "∨", "\\/"),
    "and": ("and", "&&", "&", "∧", "/\\"),
    "not": ("not", "!", "~", "¬"),
    "true": ("true", "⊤"),
    "false": ("false", "⊥"),
    "(": ("(",),
    ")": (")",),
}
MEANING = {spelling: kind for kind, spellings in SPELLINGS.items() for spelling in spellings}
ATOM = re.compile(r"(M|Ref)\s*\(\s*([wl])\s*\)", re.IGNORECASE)
WORD = re.compile(r"[A-Za-z]+")
SIGN = re.compile("|".join(re.escape(s) for s in sorted(MEANING, key=len, reverse=True) if not s.isalpha()))

BY_STRENGTH = sorted(OPERATORS, key=lambda name: OPERATORS[name].binds)


class FormulaError(ValueError):
    """A formula that cannot be read; the message shows where."""


@dataclass(frozen=True)
class Token:
    kind: str
    at: int
    atom: int = -1


def parse(text: str) -> Formula:
    """The formula that a text says.

    Atoms M(w), M(l), Ref(w), Ref(l); true, false; from tight to loose: not, and, or, xor, -> (to the right), <->.
    Each in words, in ASCII or as a mathematical sign. Raises FormulaError with a caret under the place it stopped at.
    """
    if len(text) > LONGEST:
        raise FormulaError(f"the formula has {len(text)} characters; at most {LONGEST} are read")
    return _Parser(text).whole()


def _tokens(text: str) -> Iterator[Token]:
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        if atom := ATOM.match(text, at):
            name, which = atom.groups()
            spelt = f"{'Ref' if name.lower() == 'ref' else 'M'}({which.lower()})"
            yield Token("atom", at, ATOMS.index(spelt))
            at = atom.end()
            continue
        found = WORD.match(text, at) or SIGN.match(text, at)
        kind = MEANING.get(found.group().lower()) if found else None
        if found is None or kind is None:
            raise _error(text, at, f"unknown here; atoms are {', '.join(ATOMS)}")
        yield Token(kind, at)
        at = found.end()
    yield Token("end", len(text))


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = list(_tokens(text))
        self.next, self.depth = 0, 0

    def whole(self) -> Formula:
        formula = self.joined(0)
        if self.kind != "end":
            raise self.error("expected a connective or the end")
        return formula

    @property
    def kind(self) -> str:
        return self.tokens[self.next].kind

    def error(self, reason: str) -> FormulaError:
        return _error(self.text, self.tokens[self.next].at, reason)

    def joined(self, level: int) -> Formula:
        """Formulas joined by the connective of this level, from the loosest on."""
        if level == len(BY_STRENGTH):
            return self.single()
        name = BY_STRENGTH[level]
        left = self.joined(level + 1)
        while self.kind == name:
            self.next += 1
            if OPERATORS[name].to_the_right:
                with self:
                    return Binary(name, left, self.joined(level))
            left = Binary(name, left, self.joined(level + 1))
        return left

    def single(self) -> Formula:
        token = self.tokens[self.next]
        if token.kind not in ("atom", "true", "false", "not", "("):
            raise self.error("expected a formula")
        self.next += 1
        if token.kind == "atom":
            return Atom(token.atom)
        if token.kind in ("true", "false"):
            return TRUE if token.kind == "true" else FALSE
        with self:
            if token.kind == "not":
                return Not(self.single())
            inner = self.joined(0)
        if self.kind != ")":
            raise self.error(f"expected ')' for the '(' at character {token.at + 1}")
        self.next += 1
        return inner

    def __enter__(self) -> None:
        self.depth += 1
        if self.depth > DEEPEST:
            raise self.error(f"nested more than {DEEPEST} deep")

    def __exit__(self, *_: object) -> None:
        self.depth -= 1


def _error(text: str, at: int, reason: str) -> FormulaError:
    shown = "".join(c if c.isprintable() else " " for c in text)
    return FormulaError(f"cannot read the formula: {reason}\n  {shown}\n  {' ' * at}^")
