"""Every oracle, listed once with an example: a row buys the whole of tests/contract/test_oracles.py.

To list one, write a module in this folder with one line for each example:

    ORACLES = {"what it is": Listed(build=lambda folder: ..., ...)}

Modules are found by their place, so that nothing else needs to change.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from equipoise.oracles.protocol import Oracle
from equipoise.playground import LanguageGame

GAME = LanguageGame()
PROMPTS: tuple[Any, ...] = tuple(GAME.prompts[:5])
FIRST = tuple(GAME.responses[:5])
SECOND = (*GAME.responses[5:9], GAME.responses[4])
QUESTIONS = list(zip(PROMPTS, FIRST, SECOND, strict=True))


@dataclass(frozen=True, kw_only=True)
class Listed:
    """One oracle.

    build     the oracle, made in a folder: from an empty folder it may write what it needs there, and in a folder
              where it was built before it must use what it finds there, as a second process would.
    kind      `kind:` of the YAML file that makes such an oracle; "" where none does.
    prompts, first, second   five questions that it answers; the last one is of two equal responses.
    chat      whether it also answers prompts that are chat messages; otherwise it must refuse them.
    plain     whether it answers prompts that are plain text; otherwise it must refuse them.
    unknown   a prompt with two responses that it must refuse; None where it answers every text.
    unjudged  a prompt with two responses on which it gives no verdict; None where there is no such question.
    called    the word by which the error, or the reason in its account, names `unknown` or `unjudged`.
    scores    whether it has a scalar score.
    within    how far a verdict may move with the batch that it is asked in, and with the order of the two responses.
    depends   what its verdicts depend on -> an edit of the folder that changes it: the fingerprint must change.
    exempt    name of a check without `check_` -> why it is not promised; the suite sees to it that it fails there.
    """

    build: Callable[[Path], Oracle]
    kind: str = ""
    prompts: Sequence[Any] = PROMPTS
    first: Sequence[str] = FIRST
    second: Sequence[str] = SECOND
    chat: bool = False
    plain: bool = True
    unknown: tuple[Any, str, str] | None = None
    unjudged: tuple[Any, str, str] | None = None
    called: str = ""
    scores: bool = False
    within: float = 0.0
    depends: Mapping[str, Callable[[Path], Any]] = field(default_factory=dict)
    exempt: Mapping[str, str] = field(default_factory=dict)


def every() -> dict[str, Listed]:
    """All rows of this folder's modules, by name. Raises ValueError for a name given twice."""
    rows: dict[str, Listed] = {}
    for info in pkgutil.iter_modules(__path__):
        found = importlib.import_module(f"{__name__}.{info.name}").ORACLES
        twice = rows.keys() & found.keys()
        if twice:
            raise ValueError(f"oracles listed twice: {', '.join(sorted(twice))}")
        rows |= found
    return rows


def replaced(file: str, old: str, new: str) -> Callable[[Path], None]:
    """An edit of a row's folder: the text of a file changed in one place."""

    def edit(folder: Path) -> None:
        text = (folder / file).read_text(encoding="utf-8")
        assert old in text, f"{file} does not hold {old!r}"
        (folder / file).write_text(text.replace(old, new), encoding="utf-8")

    return edit
