"""Recorded verdicts from a file, each with the order in which the responses were shown."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from equipoise.data.files.object_rows import Row, read_rows, shown
from equipoise.oracles.file import OracleFile, data_errors, settings_of
from equipoise.oracles.protocol import OraclePrompt
from equipoise.oracles.questions.questioner import Ask, Failure, Policy
from equipoise.oracles.questions.verdicts import Verdict

COLUMNS = ("prompt", "response_a", "response_b", "prob")


class RecordedFile(OracleFile):
    """The settings of a recorded oracle's YAML file.

    verdicts     file of rows {prompt, response_a, response_b, prob}, in any container that data may have, relative to
                 the YAML file: P(a beats b) when a was shown first; null: the judge gave no verdict
    both_orders  whether a verdict counts for its own order only; False: also for the other order, as 1 - prob
    name         as the verdicts are called; none: the file's name
    """

    verdicts: str
    both_orders: bool = True
    name: str | None = None


class RecordedVerdicts:
    """Verdicts that were given before, by any judge: P(a beats b) for a prompt and two responses in their order.

    Repeated verdicts on one question are averaged. A question that has none, or only null, fails: it is never guessed.
    """

    scores = False

    def __init__(self, file: Path, settings: RecordedFile) -> None:
        path = file.parent / settings.verdicts
        self.name = settings.name or str(file)
        self.both_orders = settings.both_orders
        found: dict[bytes, list[float]] = {}
        digest = hashlib.sha256()
        with data_errors(str(file)):
            for row in read_rows(path):
                key, prob = _verdict(row)
                found.setdefault(key, []).append(prob)
                digest.update(key + repr(prob).encode())
        self._prob = {key: _mean(probs) for key, probs in found.items()}
        self.fingerprint = f"recorded {digest.hexdigest()[:16]} both_orders={self.both_orders}"

    @classmethod
    def of(cls, settings: Mapping[str, Any], file: Path) -> RecordedVerdicts:
        """The oracle of a YAML file's settings. Raises OracleError that names the file and the setting or row."""
        return cls(file, settings_of(RecordedFile, settings, file))

    @asynccontextmanager
    async def open(self, policy: Policy) -> AsyncIterator[Ask]:
        yield self._ask

    async def _ask(self, prompt: OraclePrompt, a: str, b: str) -> Verdict:
        prob = self._prob.get(_key(prompt, a, b))
        if prob is None and not self.both_orders:
            back = self._prob.get(_key(prompt, b, a))
            prob = None if back is None else 1 - back
        if prob is None:
            raise Failure(f"{self.name} has no recorded verdict on this question", transient=False)
        if math.isnan(prob):
            raise Failure(f"{self.name} recorded that there was no verdict", transient=False)
        return Verdict(prob)


def _mean(probs: list[float]) -> float:
    given = [prob for prob in probs if not math.isnan(prob)]
    return sum(given) / len(given) if given else math.nan


def _verdict(row: Row) -> tuple[bytes, float]:
    """(key, P(a beats b) or nan) of one row. Raises DataError."""
    if not set(COLUMNS) <= row.values.keys():
        raise row.error(f"a recorded verdict needs {', '.join(COLUMNS)}")
    prompt, prob = row.values["prompt"], row.values["prob"]
    if not isinstance(prompt, str | list):
        raise row.error("the prompt must be text or a list of messages")
    key = _key(prompt, row.text("response_a"), row.text("response_b"))
    if prob is None:
        return key, math.nan
    if not isinstance(prob, int | float) or isinstance(prob, bool) or not 0 <= prob <= 1:
        raise row.error(f"prob is {shown(prob)}; it must be a probability in [0, 1], or null")
    return key, float(prob)


def _key(prompt: Any, a: str, b: str) -> bytes:
    asked = prompt if isinstance(prompt, str) else list(prompt)
    return hashlib.sha256(json.dumps([asked, a, b], sort_keys=True, default=str).encode()).digest()
