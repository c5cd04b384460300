"""The votes file: append-only JSON lines that hold the pairs, then every press of a key, also those taken back.

Line 1 says what was begun (seed, share of repeats, question), a line follows for each pair, then one for each press.
The file needs nothing else: reports and exports read it alone.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal, get_args

from equipoise.file_lock import Taken, take
from equipoise.label.errors import LabelError
from equipoise.label.pairs import Pair
from equipoise.policy.files import write_text
from equipoise.worlds.folder.manifest import append_line, complete_lines

Choice = Literal["a", "b", "tie", "bad", "skip"]
CHOICES: tuple[Choice, ...] = get_args(Choice)
VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Vote:
    """One answer of a rater.

    item    which question of the rater's plan, from 0
    pair    the pair's key
    left    the answer (0 or 1) that stood on the left
    choice  what was pressed: "a" the left, "b" the right, "tie", "bad" (both), "skip"
    """

    rater: str
    item: int
    pair: str
    left: int
    choice: Choice
    note: str = ""
    at: str = ""

    @property
    def value(self) -> float | None:
        """P(first beats second): 1, 0, or 1/2 for a tie; None for both bad and a skip, which say nothing of that."""
        if self.choice == "tie":
            return 0.5
        if self.choice not in ("a", "b"):
            return None
        return float((self.choice == "a") == (self.left == 0))


@dataclass
class Votes:
    """What a votes file says: how it was begun, the pairs by key, and each rater's votes in order."""

    path: Path
    begun: dict[str, Any] = field(default_factory=dict)
    pairs: dict[str, Pair] = field(default_factory=dict)
    cast: dict[str, list[Vote]] = field(default_factory=lambda: defaultdict(list))

    @property
    def total(self) -> int:
        """How many questions a rater is asked: the pairs, and those that come again."""
        return len(self.pairs) + round(self.begun.get("repeats", 0.0) * len(self.pairs))

    @classmethod
    def read(cls, path: Path) -> Votes:
        """Raises LabelError for a file that is no votes file, or that is damaged before its last line.

        A last line that was cut short (a crash, a power loss) counts as not written.
        """
        votes = cls(path)
        if not path.is_file():
            raise LabelError(f"there is no votes file {path}; `equipoise label FILE --out {path}` makes one")
        try:
            lines = list(complete_lines(path))
        except ValueError as error:
            raise LabelError(f"{error}") from error
        for number, (_, line) in enumerate(lines, start=1):
            try:
                votes._enter(line)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise LabelError(
                    f"{path}, line {number}: not a line of a votes file; restore it from a copy, or choose another "
                    "file with --out"
                ) from error
        if votes.begun.get("version") != VERSION:
            raise LabelError(f"{path} is not a votes file of this version; name another file")
        return votes

    @classmethod
    def begin(cls, path: Path, pairs: Sequence[Pair] | None, **begun: Any) -> Votes:
        """Open the file to go on, or make it. Raises LabelError if it was begun with other pairs or settings.

        pairs   None: they come later
        """
        begun = {"event": "begin", "version": VERSION, **begun}
        if path.exists() and path.stat().st_size:
            votes = cls.read(path)
            for name, value in begun.items():
                if votes.begun.get(name) != value:
                    raise LabelError(
                        f"{path} was begun with {name} {votes.begun.get(name)!r}, not {value!r}; repeat the command "
                        "that began it, or choose another file with --out"
                    )
            if pairs is not None and [*votes.pairs] != [pair.key for pair in pairs]:
                raise LabelError(f"{path} was begun with other pairs; choose another file with --out")
            return votes
        lines = [begun, *({"event": "pair", **pair.as_line()} for pair in pairs or ())]
        write_text(path, "".join(json.dumps(line, default=str) + "\n" for line in lines))
        return cls.read(path)

    def cast_vote(self, vote: Vote) -> None:
        """Write one vote, on the disk when this returns. Raises OSError if it cannot be written: it is not counted."""
        self._append({"event": "vote", **asdict(vote), "value": vote.value})

    def undo(self, rater: str) -> Vote:
        """Take the rater's last vote back: a line of its own."""
        last = self.cast[rater][-1]
        self._append({"event": "undo", "rater": rater, "item": last.item, "at": now()})
        return last

    def add(self, pair: Pair) -> None:
        """Write a pair that comes later."""
        if pair.key not in self.pairs:
            self._append({"event": "pair", **pair.as_line()})

    def _append(self, line: dict[str, Any]) -> None:
        text = json.dumps(line, default=str, ensure_ascii=False)
        append_line(
            self.path, json.loads(text.encode("utf-8", "replace")), durable=True
        )  # no lone surrogates
        self._enter(line)

    def _enter(self, line: Mapping[str, Any]) -> None:
        enter: dict[str, Callable[[Mapping[str, Any]], None]] = {
            "begin": self.begun.update,
            "pair": self._enter_pair,
            "vote": self._enter_vote,
            "undo": self._enter_undo,
        }
        enter[line["event"]](line)

    def _enter_pair(self, line: Mapping[str, Any]) -> None:
        pair = Pair.of_line(line)
        self.pairs[pair.key] = pair

    def _enter_vote(self, line: Mapping[str, Any]) -> None:
        vote = Vote(**{name: line[name] for name in Vote.__dataclass_fields__})
        if vote.choice not in CHOICES or vote.left not in (0, 1) or vote.pair not in self.pairs:
            raise ValueError(f"no vote: {line}")
        self.cast[vote.rater].append(vote)

    def _enter_undo(self, line: Mapping[str, Any]) -> None:
        cast = self.cast[line["rater"]]
        if not cast or cast[-1].item != line["item"]:
            raise ValueError("nothing to take back")
        cast.pop()


def now() -> str:
    """The time, as it is written into a vote."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def claim(path: Path) -> ExitStack:
    """Lock a votes file until what is returned is closed. Raises LabelError if another page writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock = take(path.with_name(f".{path.name}.lock"))
    except Taken as error:
        raise LabelError(
            f"another page writes {path}: close it, or choose another file with --out"
        ) from error
    held = ExitStack()
    held.callback(lock.release)
    return held
