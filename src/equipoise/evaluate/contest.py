"""Answers of two writers, judged by an oracle: win rate with an interval clustered by prompt, failures counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from equipoise.core.intervals import Interval, clustered_mean, clustered_share
from equipoise.data.errors import DataError
from equipoise.evaluate.answers import Answers
from equipoise.oracles.protocol import Oracle, OracleError
from equipoise.play.state import Floats

BATCH = 256


@dataclass(frozen=True)
class Contest:
    """Judged comparisons of a candidate with another writer, on the prompts of both.

    prompts [N]   prompt's key of each comparison.     prob [N]   P(candidate wins); nan: no verdict
    lengths       characters of the other's and of the candidate's answers
    unanswered    prompts that one of the two has no answer to
    """

    candidate: str
    against: str
    prompts: tuple[str, ...]
    prob: Floats
    lengths: tuple[Floats, Floats]
    texts: tuple[tuple[str, str], ...]
    unanswered: int

    @property
    def failed(self) -> int:
        """Comparisons without a verdict."""
        return int(np.isnan(self.prob).sum())

    def win_rate(self) -> Interval | None:
        """Win rate over the comparisons with a verdict, ties half; None without any."""
        judged = ~np.isnan(self.prob)
        if not judged.any():
            return None
        names = [name for name, keep in zip(self.prompts, judged, strict=True) if keep]
        return clustered_share(self.prob[judged], names)

    def bounds(self) -> tuple[float, float]:
        """Win rates over all comparisons, those that failed or were not answered all lost, and all won."""
        per_prompt = len(self.prob) / max(len(set(self.prompts)), 1)
        without = self.failed + self.unanswered * per_prompt
        won, every = float(np.nansum(self.prob)), len(self.prob) + self.unanswered * per_prompt
        return won / every, (won + without) / every

    def plain(self) -> dict[str, Any]:
        low, high = self.bounds()
        return {
            "candidate": self.candidate,
            "against": self.against,
            "win_rate": self.win_rate(),
            "comparisons": len(self.prob),
            "prompts": len(set(self.prompts)),
            "failed": self.failed,
            "unanswered": self.unanswered,
            "if_all_failures_lost": low,
            "if_all_failures_won": high,
        }


def contest(
    oracle: Oracle, candidate: Answers, other: Answers, tick: Callable[[int], None] = lambda done: None
) -> Contest:
    """Ask the oracle for every prompt of both; answer k of one meets answer k of the other, and where their numbers
    differ, those of the shorter list meet again.

    The oracle sees the other's form of the prompt. Raises DataError if they share no prompt, OracleError as it does.
    """
    shared = [key for key in other.by if key in candidate.by]
    if not shared:
        raise DataError(
            f"{candidate.name} and {other.name} have no prompt in common: they answered other questions"
        )
    keys, contexts, first, second = [], [], [], []
    for key in shared:
        own, theirs = candidate.by[key], other.by[key]
        for k in range(max(len(own), len(theirs))):
            keys.append(key)
            contexts.append(other.contexts[key])
            first.append(own[k % len(own)].text)
            second.append(theirs[k % len(theirs)].text)
    prob = compared(oracle, contexts, first, second, tick)
    return Contest(
        candidate.name,
        other.name,
        tuple(keys),
        prob,
        (np.array([len(t) for t in second], float), np.array([len(t) for t in first], float)),
        tuple(zip(first, second, strict=True)),
        len(set(candidate.by) ^ set(other.by)),
    )


def compared(
    oracle: Oracle,
    contexts: Sequence[Any],
    first: Sequence[str],
    second: Sequence[str],
    tick: Callable[[int], None] = lambda done: None,
) -> Floats:
    """P(first beats second) [N] in batches, nan without a verdict."""
    parts = []
    for begin in range(0, len(contexts), BATCH):
        part = slice(begin, begin + BATCH)
        parts.append(oracle.compare(contexts[part], first[part], second[part]).double().numpy())
        tick(len(parts[-1]))
    return np.concatenate(parts) if parts else np.empty(0)


def rewards(oracle: Oracle, answers: Answers) -> Interval | None:
    """Mean scalar reward of all answers, clustered by prompt; None for an oracle that only compares, or no verdict."""
    keys = [key for key, own in answers.by.items() for _ in own]
    contexts, texts = [answers.contexts[key] for key in keys], answers.texts
    if not keys or no_scalar(oracle, contexts[0], texts[0]):
        return None
    values = np.concatenate(
        [
            oracle.score(contexts[b : b + BATCH], texts[b : b + BATCH]).double().numpy()
            for b in range(0, len(keys), BATCH)
        ]
    )
    fine = ~np.isnan(values)
    if not fine.any():
        return None
    return clustered_mean(values[fine], [key for key, keep in zip(keys, fine, strict=True) if keep])


def no_scalar(oracle: Oracle, context: Any, text: str) -> str:
    """Why the oracle gives no scalar score, asked with one answer; "" if it gives one."""
    try:
        oracle.score([context], [text])
    except OracleError as error:
        return str(error)
    return ""
