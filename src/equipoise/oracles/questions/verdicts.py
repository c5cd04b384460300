"""Verdict store: answers of an oracle in one SQLite file, which several runs and processes may share.

Every verdict is written when it comes, so that an interrupted run asks nothing twice. A question that is being asked is
claimed by a lock of the operating system on a file next to the store, which ends with the process, however it ends.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equipoise.data.records import template_kwargs_of, tools_of
from equipoise.oracles.protocol import OracleError
from equipoise.oracles.questions.byte_lock import try_lock, unlock

BUSY_SECONDS = 60.0  # how long one process waits for another that is writing
KEYS_AT_A_TIME = 500  # SQLite's limit on the values of one query is 999 in old builds
SCHEMA = """
CREATE TABLE IF NOT EXISTS verdict (
    key BLOB PRIMARY KEY,
    oracle TEXT NOT NULL,
    value REAL NOT NULL,
    cost REAL NOT NULL DEFAULT 0,
    about TEXT NOT NULL DEFAULT '{}',
    asked_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
) WITHOUT ROWID
"""
LOST = """
CREATE TABLE IF NOT EXISTS lost (
    oracle TEXT NOT NULL,
    cost REAL NOT NULL,
    why TEXT NOT NULL,
    asked_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
)
"""
ASKING = "-asking"  # ending of the file whose bytes are locked, one for each question
MEMORY = Path(":memory:")
SCORES = "scores"  # in `about`, as stored


@dataclass(frozen=True)
class Verdict:
    """One answer of an oracle.

    value  P(a beats b) in [0, 1] of a comparison, or a score: a finite number
    cost   what the answer cost, in the units of the oracle's price
    about  what else the oracle said (its words, tokens), JSON-serialisable
    scores  named scores of one response, of an oracle with attributes
    """

    value: float
    cost: float = 0.0
    about: Mapping[str, Any] | None = None
    scores: Mapping[str, float] | None = None

    def _said(self) -> str:
        named = {SCORES: dict(self.scores)} if self.scores else {}
        return json.dumps({**(self.about or {}), **named})

    @classmethod
    def _stored(cls, value: Any, cost: Any, said: str) -> Verdict:
        about = json.loads(said)
        scores = about.pop(SCORES, None)
        named = {str(name): float(score) for name, score in scores.items()} if scores else None
        return cls(float(value), float(cost), about or None, named)


def key_of(oracle: str, question: Sequence[Any]) -> bytes:
    """Key of a question: SHA-256 of the oracle's fingerprint, the prompt and the responses in their order."""
    prompt = [question[0], tools_of(question[0]), template_kwargs_of(question[0])]
    canonical = json.dumps([oracle, prompt, *question[1:]], sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(canonical.encode()).digest()


class VerdictStore:
    """Verdicts by key, in a SQLite file in WAL mode.

    Threads and processes may read and write at once. A verdict is committed when `put` returns; a second one under
    the same key is ignored, so that every reader sees the same value. What was paid for an answer that is no verdict
    is kept too (`lose`). Raises OracleError for a file that is not a verdict store, or that cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
            asking = None if path == MEMORY else os.open(path.with_name(path.name + ASKING), flags, 0o644)
        except OSError as error:
            raise self._refusal(error) from error
        self._asking = asking
        self._closing = weakref.finalize(self, lambda: None if asking is None else os.close(asking))
        try:
            self._connection = sqlite3.connect(path, timeout=BUSY_SECONDS, check_same_thread=False)
            with closing(self._connection.cursor()) as cursor:
                cursor.execute("PRAGMA journal_mode=WAL")
                cursor.execute("PRAGMA synchronous=NORMAL")
                cursor.execute(SCHEMA)
                cursor.execute(LOST)
            self._connection.commit()
        except sqlite3.Error as error:
            raise self._refusal(error) from error

    @classmethod
    def in_memory(cls) -> VerdictStore:
        """A store that ends with the process."""
        return cls(MEMORY)

    def get(self, keys: Iterable[bytes]) -> dict[bytes, Verdict]:
        """The stored verdicts among these keys."""
        wanted, found = list(dict.fromkeys(keys)), {}
        for begin in range(0, len(wanted), KEYS_AT_A_TIME):
            part = wanted[begin : begin + KEYS_AT_A_TIME]
            marks = ",".join("?" * len(part))
            query = f"SELECT key, value, cost, about FROM verdict WHERE key IN ({marks})"
            for key, value, cost, about in self._run(query, part):
                try:
                    found[bytes(key)] = Verdict._stored(value, cost, about)
                except (TypeError, ValueError, AttributeError) as error:
                    raise self._refusal(error) from error
        return found

    def put(self, key: bytes, oracle: str, verdict: Verdict) -> Verdict:
        """Write one verdict. Returns the one that is stored: that of the process that came first."""
        row = (key, oracle, verdict.value, verdict.cost, verdict._said())
        query = "INSERT OR IGNORE INTO verdict (key, oracle, value, cost, about) VALUES (?, ?, ?, ?, ?)"
        if self._run(query, row, changes=True):
            return verdict
        self.lose(oracle, verdict.cost, "answered twice")
        return self.get([key])[key]

    def lose(self, oracle: str, cost: float, why: str) -> None:
        """Write what an answer cost that is no verdict."""
        self._run("INSERT INTO lost (oracle, cost, why) VALUES (?, ?, ?)", [oracle, cost, why])

    def spent(self, oracle: str) -> tuple[int, float]:
        """(number of verdicts, cost of all answers) that are stored of an oracle."""
        ((count, cost),) = self._run(
            "SELECT COUNT(*), COALESCE(SUM(cost), 0) FROM verdict WHERE oracle = ?", [oracle]
        )
        ((lost,),) = self._run("SELECT COALESCE(SUM(cost), 0) FROM lost WHERE oracle = ?", [oracle])
        return count, cost + lost

    @contextmanager
    def claimed(self, key: bytes) -> Iterator[bool]:
        """Context manager: whether this process may ask the question now; False while another process asks it.

        The claim is a lock on one byte, at a place made from the key. Two keys of one place (one in 2^62, on Windows in
        2^31) would wait for each other, no more. Within one process POSIX excludes nothing. Where the system has no
        such locks, every process may ask.
        """
        if self._asking is None:
            yield True
            return
        place = int.from_bytes(key[:8], "big") >> 2
        if not try_lock(self._asking, place):
            yield False
            return
        try:
            yield True
        finally:
            with suppress(OSError):  # a system without such locks
                unlock(self._asking, place)

    def close(self) -> None:
        self._connection.close()
        self._closing()

    def _run(self, query: str, values: Sequence[Any], *, changes: bool = False) -> list[Any]:
        """The rows of a query, or with `changes` one empty row for each that it changed."""
        try:
            with self._lock, self._connection:
                done = self._connection.execute(query, values)
                return [()] * done.rowcount if changes else done.fetchall()
        except sqlite3.Error as error:
            raise self._refusal(error) from error

    def _refusal(self, error: Exception) -> OracleError:
        return OracleError(
            f"cannot use the verdict store {self.path}: {error}; choose another file, or delete this one if its "
            "verdicts may be asked again"
        )
