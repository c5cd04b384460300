"""Labelled pairs for reward models: records of preference data with their labels, attributes and tokens."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from equipoise.data.errors import DataError, Refusal
from equipoise.data.ranked_lists import as_pairs
from equipoise.data.reading.read import Dataset
from equipoise.data.records import Record, oracle_context
from equipoise.models.errors import ModelError
from equipoise.reward_models.head import Head
from equipoise.reward_models.texts import Texts


@dataclass(frozen=True, kw_only=True)
class LabelledPair:
    """One comparison: two responses to a prompt, and who won.

    prob     P(first beats second), for each attribute of the head; nan: not labelled
    margin   by how much the first should win, in nats of the model's logit; negative for one that should lose
    weight   of its loss
    id       no other pair has it        group   the prompt: splits and intervals are by group
    tokens   of the prompt with each response; of a pairwise model, of both orders, (first, second) first
    opening  of the prompt alone, for a head that reads it
    """

    id: str
    group: str
    prompt: Any
    first: str
    second: str
    prob: tuple[float, ...] = (1.0,)
    margin: float = 0.0
    weight: float = 1.0
    tokens: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())
    opening: tuple[int, ...] = ()

    def flipped(self) -> LabelledPair:
        """The same responses with the label turned round, and the label's margin with it; twice is the identity."""
        return replace(
            self, prob=tuple(1 - p for p in self.prob), margin=-self.margin if self.margin else 0.0
        )


@dataclass(frozen=True, kw_only=True)
class Labels:
    """How the rows of data become labels.

    margins     "none"; "data": the column margin (of lists: the difference of scores), times `scale`
    attributes  for each attribute of the head its columns: NAME (P that the first is better), or NAME_chosen and
                NAME_rejected (numbers, the larger is better); "reward" is the row's own label
    """

    margins: str = "none"
    scale: float = 1.0
    attributes: Sequence[str] = field(default=("reward",))


def labelled(dataset: Dataset, texts: Texts, head: Head, labels: Labels | None = None) -> list[LabelledPair]:
    """The pairs of a data set, tokenised as the model reads them; rows that cannot be read are refused in its ledger.

    Lists give all their pairs, each of equal weight. Raises DataError for data of another kind, and if no pair is left.
    """
    labels = labels or Labels(attributes=head.attributes)
    if dataset.kind in ("rank", "scores"):
        dataset = as_pairs(dataset, "all")
    if dataset.kind != "pair":
        raise DataError(
            f"a reward model is trained on pairs or lists; the data contain records of kind {dataset.kind!r}"
        )
    found: list[LabelledPair] = []
    refused: set[Any] = set()
    for record in dataset.records:
        try:
            found.append(_pair(record, texts, head, labels))
        except (Refusal, ModelError) as error:
            why = error if isinstance(error, Refusal) else Refusal("the model cannot read it", str(error))
            dataset.ledger.refuse(record.place, why)
            refused.add(record.place)
    # of a list one of whose answers cannot be read, no pair is used: its row counts once
    places = {record.id: record.place for record in dataset.records}
    found = [pair for pair in found if places[pair.id] not in refused] if refused else found
    dataset.ledger.balance()
    if not found:
        raise DataError(f"no pair is left that the model can read\n{dataset.ledger}")
    return found


def _pair(record: Record, texts: Texts, head: Head, labels: Labels) -> LabelledPair:
    prompt = oracle_context(record.context, record.tools, record.template_kwargs)
    first, second = (candidate.text for candidate in record.candidates[:2])
    pair = LabelledPair(
        id=record.id,
        group=record.group,
        prompt=prompt,
        first=first,
        second=second,
        prob=tuple(_label(record, name) for name in labels.attributes),
        margin=labels.scale * _margin(record) if labels.margins == "data" else 0.0,
        weight=record.weight,
    )
    if all(math.isnan(p) for p in pair.prob):
        raise Refusal("no label of any attribute")
    return tokenised(pair, texts, head)


def tokenised(pair: LabelledPair, texts: Texts, head: Head) -> LabelledPair:
    """The pair with the tokens that a model of this head reads. Raises ModelError for a text that it cannot read."""
    if head.kind == "pair":
        orders = ((pair.first, pair.second), (pair.second, pair.first))
        first, second = (tuple(texts.pair(pair.prompt, *order)) for order in orders)
    else:
        first, second = (tuple(texts.answer(pair.prompt, text)) for text in (pair.first, pair.second))
    opening = tuple(texts.prompt(pair.prompt)) if head.scaled else ()
    return replace(pair, tokens=(first, second), opening=opening)


def _margin(record: Record) -> float:
    """The row's margin in favour of its first answer."""
    return (record.margin or 0.0) * (1.0 if record.prob >= 0.5 else -1.0)


def _label(record: Record, name: str) -> float:
    if name == "reward":
        return record.prob
    extra: Mapping[str, Any] = record.extra
    if name in extra:
        prob = _number(extra, name)
        if not math.isnan(prob) and not 0 <= prob <= 1:
            raise Refusal("a label is no probability", f"{name} is {prob!r}")
        return prob
    sides = [f"{name}_chosen", f"{name}_rejected"]
    if not all(side in extra for side in sides):
        return math.nan
    better, worse = (_number(extra, side) for side in sides)
    if math.isnan(better) or math.isnan(worse):
        return math.nan
    return 0.5 + 0.5 * (better > worse) - 0.5 * (better < worse)


def _number(extra: Mapping[str, Any], name: str) -> float:
    value = extra[name]
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise Refusal("a label is no number", f"{name} is {value!r}")
    return float(value)


def known_attributes(pairs: Sequence[LabelledPair], names: Sequence[str]) -> None:
    """Raises DataError for an attribute that no pair has a label of: its output would never be trained."""
    for index, name in enumerate(names):
        if all(math.isnan(pair.prob[index]) for pair in pairs):
            raise DataError(
                f"no pair has a label of the attribute {name!r}",
                hint=f"the data need a column {name}, or {name}_chosen and {name}_rejected",
            )
