"""Statistics of preference data in one pass: prompts, lengths, length bias, labels, turns and roles."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from equipoise.core.intervals import clustered_share
from equipoise.data.records import Context, Record
from equipoise.data.rendering.render import sides_of

SHOWN_SYSTEMS = 3  # system prompts that are quoted
SHOWN_COUNTS = 12  # rows of a table of counts


def distribution(values: Sequence[float]) -> dict[str, float] | None:
    """Smallest, quartiles, 95th percentile, largest and mean of some numbers; None of no numbers."""
    if not len(values):
        return None
    found = np.asarray(values, dtype=np.float64)
    low, first, median, third, high, largest = np.percentile(found, [0, 25, 50, 75, 95, 100])
    named = {"min": low, "p25": first, "median": median, "p75": third, "p95": high, "max": largest}
    return {name: round(float(value), 4) for name, value in (named | {"mean": found.mean()}).items()}


class Lengths:
    """Lengths by part: the prompt, and each side of the answers; all answers of a list are one part."""

    def __init__(self) -> None:
        self.parts: dict[str, array[int]] = {}

    def add(self, record: Record, lengths: Sequence[int]) -> None:
        """lengths  [1 + K]: of the prompt and of the K answers, in one unit."""
        for part, length in zip(("prompt", *parts_of(record)), lengths, strict=True):
            self.parts.setdefault(part, array("l")).append(length)

    def as_json(self) -> dict[str, Any]:
        return {part: distribution(values) for part, values in self.parts.items()}


def parts_of(record: Record) -> tuple[str, ...]:
    """The name of each answer in the tables: its side, and of unpaired feedback its label."""
    if record.kind == "unpaired":
        return ("desirable" if record.desirable else "undesirable",)
    return tuple(sides_of(record))


class LengthBias:
    """Length bias: how often, and by how much, the better answer is the longer one.

    pairs      preferred against other; ties of the label (prob 0.5) are left out
    lists      best against worst score; lists without a difference are left out
    unpaired   every desirable answer against every undesirable one (the Mann-Whitney share)

        longer_wins = P(length(better) > length(worse)) + P(equal) / 2

    with an interval clustered by prompt for pairs and lists; of unpaired feedback there is none.
    """

    OF: ClassVar = {
        "pair": "preferred against other answer",
        "rank": "best against worst answer of each list",
        "scores": "best against worst answer of each list",
        "unpaired": "desirable against undesirable answers",
    }

    def __init__(self) -> None:
        self.gaps, self.groups = array("l"), array("l")
        self.labelled: dict[bool, array[int]] = {True: array("l"), False: array("l")}
        self.index: dict[str, int] = {}
        self.kind = ""

    def add(self, record: Record, answers: Sequence[int]) -> None:
        """answers  [K]: length of each answer, in the unit of the whole table."""
        self.kind = record.kind
        if record.kind == "unpaired":
            self.labelled[bool(record.desirable)].append(answers[0])
        elif (sides := better_and_worse(record)) is not None:
            better, worse = sides
            self.gaps.append(answers[better] - answers[worse])
            self.groups.append(self.index.setdefault(record.group, len(self.index)))

    def as_json(self) -> dict[str, Any] | None:
        if self.gaps:
            wins = (np.sign(np.asarray(self.gaps)) + 1) / 2
            return {
                "of": self.OF[self.kind],
                "median_gap": float(np.median(self.gaps)),
                "longer_wins": clustered_share(wins, np.asarray(self.groups)),
            }
        up, down = (np.sort(np.asarray(self.labelled[side])) for side in (True, False))
        if not len(up) or not len(down):
            return None
        below = np.searchsorted(down, up, "left") + np.searchsorted(down, up, "right")
        share_up = float(below.sum()) / (2 * len(up) * len(down))
        return {
            "of": self.OF["unpaired"],
            "median_gap": float(np.median(up) - np.median(down)),
            "longer_wins": {
                "value": round(share_up, 4),
                "low": None,
                "high": None,
                "n": len(up) + len(down),
            },
        }


def better_and_worse(record: Record) -> tuple[int, int] | None:
    """(index of the better answer, index of the worse) by the row's label; None where it says neither."""
    if record.kind == "pair":
        return None if record.prob == 0.5 else (0, 1) if record.prob > 0.5 else (1, 0)
    scores = [c.score for c in record.candidates if c.score is not None]
    if record.kind not in ("rank", "scores") or len(scores) < len(record.candidates):
        return None
    best, worst = int(np.argmax(scores)), int(np.argmin(scores))
    return None if scores[best] == scores[worst] else (best, worst)


class Labels:
    """Label statistics of any kind of record: what the data say about which answer is better."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.probs, self.margins, self.weights, self.scores = (array("d") for _ in range(4))
        self.judgement = "score"

    def add(self, record: Record) -> None:
        self._weigh(record)
        if record.kind == "pair":
            self._pair(record)
        elif record.kind == "unpaired":
            self.counts["desirable" if record.desirable else "undesirable"] += 1
        elif record.kind in ("rank", "scores"):
            self._list(record)

    def _weigh(self, record: Record) -> None:
        if record.weight != 1.0:
            self.weights.append(record.weight)
            self.counts["of weight zero"] += record.weight == 0
        if record.margin is not None:
            self.margins.append(record.margin)
            self.counts["with a margin that is not positive"] += record.margin <= 0

    def _pair(self, record: Record) -> None:
        soft = 0 < record.prob < 1
        self.counts["ties" if record.prob == 0.5 else "soft labels" if soft else "hard labels"] += 1
        self.counts["whose `rejected` is preferred"] += record.prob < 0.5
        if soft:
            self.probs.append(record.prob)

    def _list(self, record: Record) -> None:
        scores = [candidate.score for candidate in record.candidates if candidate.score is not None]
        self.judgement = "rank" if record.kind == "rank" else "score"
        self.scores.extend(-score if record.kind == "rank" else score for score in scores)
        top = scores.count(max(scores)) if scores else 0
        self.counts["lists with one best answer"] += top == 1
        self.counts["lists with several best answers"] += 1 < top < len(scores)
        self.counts["lists of equal scores"] += 1 < top == len(scores)

    def as_json(self) -> dict[str, Any]:
        return {
            "counts": {name: count for name, count in self.counts.items() if count},
            "prob": distribution(self.probs),
            "margin": distribution(self.margins),
            "weight": distribution(self.weights),
            self.judgement: distribution(self.scores),
        }


class Conversations:
    """Shape of the prompts: turns, roles, system prompts, tools, answers of several turns."""

    def __init__(self) -> None:
        self.turns: Counter[int] = Counter()
        self.roles: Counter[str] = Counter()
        self.systems: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()

    def add(self, record: Record) -> None:
        answers = [candidate.messages for candidate in record.candidates]
        if not isinstance(record.context, str):
            self.turns[len(record.context)] += 1
            self.roles.update(turn.role for turn in record.context)
            self.systems.update(turn.content for turn in record.context if turn.role == "system")
            self.counts["whose prompt ends with the assistant"] += record.context[-1].role == "assistant"
        self.roles.update(turn.role for answer in answers for turn in answer)
        self.counts["with an answer of several turns"] += any(len(answer) > 1 for answer in answers)
        self.counts["with tools"] += bool(record.tools)
        self.counts["with tool calls"] += any(_calls(record.context) or _calls(a) for a in answers)
        self.counts["with template arguments"] += bool(record.template_kwargs)

    def as_json(self) -> dict[str, Any]:
        return {
            "turns": {str(count): rows for count, rows in sorted(self.turns.items())},
            "roles": dict(self.roles.most_common()),
            "rows": {name: count for name, count in self.counts.items() if count},
            "with_system": sum(self.systems.values()),
            "distinct_systems": len(self.systems),
            "systems": dict(self.systems.most_common(SHOWN_SYSTEMS)),
        }


def _calls(turns: Context) -> bool:
    return not isinstance(turns, str) and any("tool_calls" in turn.extra for turn in turns)


class Statistics:
    """Every figure of a data check, gathered row by row; memory grows by a few numbers a row, not by its text."""

    def __init__(self) -> None:
        self.rows = 0
        self.groups: Counter[str] = Counter()
        self.answers: Counter[int] = Counter()
        self.characters, self.tokens = Lengths(), Lengths()
        self.bias, self.labels, self.conversations = LengthBias(), Labels(), Conversations()

    def add(self, record: Record, tokens: Sequence[int] | None = None) -> None:
        """tokens  [1 + K]: length of the prompt and of each answer as the model reads them; None: no model."""
        characters = characters_of(record)
        self.rows += 1
        self.groups[record.group] += 1
        self.answers[len(record.candidates)] += 1
        self.characters.add(record, characters)
        if tokens is not None:
            self.tokens.add(record, tokens)
        if record.candidates:
            self.bias.add(record, (characters if tokens is None else tokens)[1:])
        self.labels.add(record)
        self.conversations.add(record)

    def as_json(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "prompts": len(self.groups),
            "rows_per_prompt": distribution(list(self.groups.values())),
            "answers_per_row": {str(count): rows for count, rows in sorted(self.answers.items())},
            "characters": self.characters.as_json(),
            "tokens": self.tokens.as_json() or None,
            "length_bias": self.bias.as_json(),
            "labels": self.labels.as_json(),
            "conversations": self.conversations.as_json(),
        }


def characters_of(record: Record) -> list[int]:
    """[1 + K]: characters of the prompt and of each answer's text."""
    turns = [record.context] if isinstance(record.context, str) else [t.content for t in record.context]
    return [sum(map(len, turns)), *(len(candidate.text) for candidate in record.candidates)]
