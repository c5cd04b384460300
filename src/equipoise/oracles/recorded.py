"""Recorded verdicts from a file, each with the order in which the responses were shown."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from equipoise.data.errors import DataError, Refusal
from equipoise.data.reading.read_files import rows_of
from equipoise.oracles.protocol import OracleError, OraclePrompt, shortened
from equipoise.oracles.questioner import Ask, Failure, Policy
from equipoise.oracles.verdicts import Verdict

COLUMNS = ("prompt", "response_a", "response_b", "prob")


class RecordedFile(BaseModel):
    """The settings of a recorded oracle's YAML file.

    verdicts     file of rows {prompt, response_a, response_b, prob}, in any container that data may have, beside the
                 YAML file: P(a beats b) when a was shown first; null: the judge gave no verdict
    both_orders  whether a verdict counts for its own order only; False: also for the other order, as 1 - prob
    name         as the verdicts are called; none: the file's name
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    verdicts: str
    both_orders: bool = True
    name: str | None = None


class RecordedVerdicts:
    """Verdicts that were given before, by whoever: P(a beats b) for a prompt and two responses in their order.

    Repeated verdicts on one question are averaged. A question that has none, or only null, fails: it is never guessed.
    """

    scores = False

    def __init__(self, file: Path, settings: RecordedFile) -> None:
        path = file.parent / settings.verdicts
        self.name = settings.name or str(file)
        self.both_orders = settings.both_orders
        found: dict[bytes, list[float]] = {}
        digest = hashlib.sha256()
        try:
            for line, row in rows_of(path):
                if isinstance(row, Refusal):
                    raise OracleError(f"{path}, line {line}: {row}")
                key, prob = _verdict(path, line, row)
                found.setdefault(key, []).append(prob)
                digest.update(key + repr(prob).encode())
        except DataError as error:
            raise OracleError(f"oracle {self.name}: {error}") from None
        self._prob = {key: _mean(probs) for key, probs in found.items()}
        self.fingerprint = f"recorded {digest.hexdigest()[:16]} both_orders={self.both_orders}"

    @classmethod
    def of(cls, settings: Mapping[str, Any], file: Path) -> RecordedVerdicts:
        """The oracle of a YAML file's settings. Raises OracleError that names the file and the setting or row."""
        try:
            return cls(file, RecordedFile.model_validate(dict(settings)))
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors()
            )
            raise OracleError(f"{file}: {problems}") from None

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


def _verdict(path: Path, line: int, row: Any) -> tuple[bytes, float]:
    """(key, P(a beats b) or nan) of one row."""
    at = f"{path}, line {line}"
    if not isinstance(row, dict) or not set(COLUMNS) <= set(row):
        raise OracleError(f"{at}: a recorded verdict needs {', '.join(COLUMNS)}")
    prompt, a, b, prob = (row[name] for name in COLUMNS)
    if not isinstance(prompt, str | list) or not isinstance(a, str) or not isinstance(b, str):
        raise OracleError(f"{at}: the prompt must be text or a list of messages, and both responses text")
    if prob is None:
        return _key(prompt, a, b), math.nan
    if not isinstance(prob, int | float) or isinstance(prob, bool) or not 0 <= prob <= 1:
        raise OracleError(f"{at}: prob is {shortened(prob)}; it must be a probability in [0, 1], or null")
    return _key(prompt, a, b), float(prob)


def _key(prompt: Any, a: str, b: str) -> bytes:
    asked = prompt if isinstance(prompt, str) else list(prompt)
    return hashlib.sha256(json.dumps([asked, a, b], sort_keys=True, default=str).encode()).digest()
