"""Views of single rows: the prompt as read, each answer with its scored tokens, and the token that closes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath

from equipoise.data.errors import DataError
from equipoise.data.records import Candidate, Context, Record
from equipoise.data.rendering.render import Rendered, Renderer, sides_of


@dataclass(frozen=True, slots=True)
class Piece:
    """Some text of a row: read only, scored, or the scored token that closes an answer."""

    text: str
    scored: bool = False
    closing: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """A prompt or an answer: its name ("chosen", ...), what is said about it (its score, "cut"), its pieces."""

    name: str
    about: str
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class View:
    """One row: where it stands (file:line), its label in words, its parts."""

    at: str
    label: str
    parts: tuple[Part, ...]


def at(record: Record) -> str:
    """Where a row stands, as messages name it."""
    return str(record.place)


def named(record: Record, name: str) -> bool:
    """Whether `FILE:LINE` names this row; the file may be given by its last part, and left out."""
    place, (file, _, number) = record.place, name.rpartition(":")
    known = (place.source.file, place.source.label, PurePath(place.source.file).name)
    return number.strip() in (str(place.line or place.row), f"row {place.row}") and file in ("", *known)


class Wanted:
    """Which rows are shown, asked of one row after the other: the first few, and those that are named."""

    def __init__(self, first: int, names: Sequence[str]) -> None:
        self.left = first
        self.names = list(names)
        self.missing = set(names)

    def take(self, record: Record) -> bool:
        """Whether this row is to be shown; call it once for each row, in order."""
        asked = {name for name in self.names if named(record, name)}
        self.missing -= asked
        self.left -= 1
        return self.left >= 0 or bool(asked)

    def check(self) -> None:
        """Raises DataError for a name that no row had."""
        if self.missing:
            raise DataError(
                f"no used row is {min(self.missing)!r}",
                hint="rows are named FILE:LINE; a refused row or a duplicate has none to show, see the ledger",
            )


def text_view(record: Record) -> View:
    """A row as text, without a tokenizer: a whole answer counts as scored."""
    answers = [
        Part(side, _about(record, candidate), (Piece(spoken(candidate.content), scored=True),))
        for side, candidate in zip(sides_of(record), record.candidates, strict=True)
    ]
    prompt = Part("prompt", "", (Piece(spoken(record.context)),))
    return View(at(record), label_of(record), (prompt, *answers))


def token_view(row: Rendered, renderer: Renderer) -> View:
    """A row as a model reads it: special tokens included, exactly the scored tokens marked."""
    (_, prompt), *answers = renderer.pieces(row)
    parts = [Part("prompt", "", tuple(Piece(text) for text, _ in prompt))]
    sides = zip(sides_of(row.record), row.record.candidates, row.responses, answers, strict=True)
    for side, candidate, response, (_, texts) in sides:
        pieces = [Piece(text, scored) for text, scored in texts]
        if response.finished and response.ids[-1] in renderer.codec.specials:
            pieces[-1] = replace(pieces[-1], closing=True)
        parts.append(Part(side, _about(row.record, candidate, cut=not response.finished), tuple(pieces)))
    return View(at(row.record), label_of(row.record), tuple(parts))


def _about(record: Record, candidate: Candidate, *, cut: bool = False) -> str:
    score = candidate.score
    judged = "" if score is None else f"rank {-score:g}" if record.kind == "rank" else f"score {score:g}"
    return ", ".join(filter(None, [judged, "cut at max_length" if cut else ""]))


def label_of(record: Record) -> str:
    """A row's label in words."""
    said = {
        "pair": f"P(chosen beats rejected) = {record.prob:g}",
        "unpaired": "desirable" if record.desirable else "undesirable",
        "demonstration": "to imitate",
        "prompt": "to answer",
        "rank": "ranked; the lowest rank is the best",
        "scores": "scored; the highest score is the best",
    }[record.kind]
    said += "" if record.margin is None else f", margin {record.margin:g}"
    return said + ("" if record.weight == 1.0 else f", weight {record.weight:g}")


def spoken(content: Context) -> str:
    """A text as it is; turns with their roles, one below the other, and one assistant's turn without it."""
    if isinstance(content, str):
        return content
    if len(content) == 1 and content[0].role == "assistant" and not content[0].extra:
        return content[0].content
    lines = []
    for turn in content:
        extra = "".join(f" {name}={value!r}" for name, value in turn.extra.items())
        lines.append(f"[{turn.role}]{extra} {turn.content}")
    return "\n".join(lines)
