"""Conversion of rendered records to rows: the one place where recorded feedback of every kind becomes comparisons.

A file becomes rows in four steps: `data.read` makes records, `data.render` token ids, `data.split` training and
held-out parts, and `Recording` rows of the kind that a method needs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from equipoise.data.collate import Prompt, Response
from equipoise.data.errors import DataError
from equipoise.data.ranked_lists import spread, usual_size
from equipoise.data.rationale_prompt import RationalePrompt
from equipoise.data.records import oracle_context
from equipoise.data.rendering.render import Rendered, Renderer
from equipoise.play.needs import Needs
from equipoise.play.rows import Rows, objects


class Feedback(NamedTuple):
    """Rows of recorded feedback, and notes on the records that were left out."""

    rows: Rows
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Recording:
    """Converter of records to rows.

    renderer   rendered the records.
    needs      data requirements of the method.
    list_size  answers per ranked list; None: the most frequent number.
    domains    gives the domain index of each record.
    words      whether rationale prompts use natural language; False for the playground's model, which has none.
    """

    renderer: Renderer
    needs: Needs
    list_size: int | None = None
    domains: Callable[[Sequence[Rendered]], np.ndarray] | None = None
    words: bool = True

    def accepts(self, kind: str) -> bool:
        """Whether records of this kind satisfy the method's needs."""
        return kind in READABLE[self.needs.records]

    def training(self, kind: str, items: Sequence[Rendered]) -> Feedback:
        """Training rows. Raises DataError if no record has what the method reads."""
        if self.needs.lists:
            rows, short = list_rows(items, prompts_of(items, self.renderer), self.list_size)
            return Feedback(
                rows, (f"lists of {rows.responses.shape[1]} answers; {short:,} shorter ones left out",)
            )
        rows = self._plain(kind, items)
        if self.domains:
            rows = replace(rows, domain=self.domains(items))
        if self.needs.margins:
            rows = with_margins(rows, items)
            return Feedback(rows, (f"{len(items) - len(rows):,} pairs have no margin above 0",))
        if self.needs.rationales:
            rows = with_rationales(rows, items, self._reasons(items), self.renderer.max_length)
            return Feedback(
                rows,
                (
                    f"{len(items) - len(rows):,} pairs have no rationale that fits and spells no special token",
                ),
            )
        return Feedback(rows)

    def held_out(self, kind: str, items: Sequence[Rendered], most: int) -> Rows:
        """Held-out rows for ranking accuracy, at most `most`; of a list the best and the worst answer."""
        if self.needs.lists:
            return best_and_worst(list_rows(items, prompts_of(items, self.renderer), 2)[0])
        return self._plain(kind, items[:most])

    def _plain(self, kind: str, items: Sequence[Rendered]) -> Rows:
        prompts = prompts_of(items, self.renderer)
        return ROWS[kind](items, prompts)

    def _reasons(self, items: Sequence[Rendered]) -> list[RationalePrompt]:
        """The rationale prompt of each pair, in its prompt's space (chat or plain)."""
        kinds = {
            space: RationalePrompt(self.renderer, chat=space == "chat", words=self.words)
            for space in {item.record.space for item in items}
        }
        return [kinds[item.record.space] for item in items]


# a method's needs -> kinds of records that satisfy them; without needs, pairs still measure ranking accuracy
READABLE: Mapping[str | None, tuple[str, ...]] = {
    None: ("pair",),
    "pairs": ("pair",),
    "unpaired": ("unpaired", "pair"),
    "lists": ("rank", "scores"),
    "scores": ("scores",),
    "demonstrations": ("demonstration",),
}


def without_weightless(rows: Rows, items: Sequence[Rendered]) -> Feedback:
    """The rows with a weight above 0: the others train nothing, and a step of them alone has no mean.

    Raises DataError, naming the first row, if there is none.
    """
    weighty = rows.weight > 0
    if weighty.all():
        return Feedback(rows)
    if not weighty.any():
        raise DataError(
            f"{items[0].record.place.short}: every row has weight 0: there is nothing to train on",
            hint="give at least one row a weight above 0, or leave the column out",
        )
    return Feedback(rows.take(weighty), (f"{int((~weighty).sum()):,} rows of weight 0 left out of training",))


def prompts_of(items: Sequence[Rendered], renderer: Renderer) -> list[Prompt]:
    """Each record's prompt, in the forms read by the policy and by an oracle."""
    return [
        Prompt(
            item.prompt_ids,
            oracle_context(item.record.context, item.record.tools, item.record.template_kwargs),
            renderer.text(item.prompt_ids),
        )
        for item in items
    ]


def distinct_prompts(items: Sequence[Rendered], renderer: Renderer) -> list[Prompt]:
    """Distinct prompts, in the data's order."""
    return list({prompt.ids: prompt for prompt in prompts_of(items, renderer)}.values())


def domains_by_file(items: Sequence[Rendered]) -> np.ndarray:
    """Domain index of each record: the index of its file (as it was listed), in order of first occurrence."""
    listed = [item.record.place.source.listed for item in items]
    numbers = {name: n for n, name in enumerate(dict.fromkeys(listed))}
    return np.array([numbers[name] for name in listed], dtype=np.intp)


def responses_of(item: Rendered) -> list[Response]:
    """A record's candidates as scored responses."""
    return list(item.responses)


def annotated(rows: Rows, items: Sequence[Rendered], chosen: Sequence[Sequence[int]] | None = None) -> Rows:
    """The rows with annotators and attributes of their records, where there are any.

    chosen    of each record the candidates that the row's columns hold; None: the first ones.

    A record's own attribute holds for each of its responses that has none of that name. An attribute is a number only
    if all of its values are; otherwise its numbers become categories.
    """
    records, width = [item.record for item in items], rows.responses.shape[1]
    places = chosen or [range(width)] * len(records)
    found = [
        [{**record.attributes, **record.candidates[k].attributes} for k in held]
        for record, held in zip(records, places, strict=True)
    ]
    names = dict.fromkeys(name for row in found for response in row for name in response)
    users = [record.user for record in records]
    return replace(
        rows,
        user=np.array(users, dtype=object) if any(users) else None,
        attributes={name: _values([[r.get(name) for r in row] for row in found], width) for name in names},
    )


def _values(found: Sequence[Sequence[float | str | None]], width: int) -> np.ndarray:
    """[N, width] of float64, or of objects where a value is text."""
    if any(isinstance(value, str) for row in found for value in row):
        said = ["" if v is None else v if isinstance(v, str) else f"{v:g}" for row in found for v in row]
        return np.array(said, dtype=object).reshape(-1, width)
    numbers = [np.nan if value is None else value for row in found for value in row]
    return np.array(numbers, dtype=np.float64).reshape(-1, width)


def pair_rows(items: Sequence[Rendered], prompts: Sequence[Prompt]) -> Rows:
    """Recorded pairs with their labels."""
    rows = Rows(
        prompts=objects(list(prompts)),
        responses=objects([responses_of(item) for item in items], width=2),
        weight=np.array([item.record.weight for item in items], dtype=np.float64),
        writers=("recorded", "recorded"),
        prob=np.array([item.record.prob for item in items], dtype=np.float64),
    )
    return annotated(rows, items)


def unpaired_rows(items: Sequence[Rendered], prompts: Sequence[Prompt]) -> Rows:
    """Unpaired responses, each with its label as the reward: 1 desirable, 0 undesirable."""
    rows = Rows(
        prompts=objects(list(prompts)),
        responses=objects([responses_of(item)[:1] for item in items], width=1),
        weight=np.array([item.record.weight for item in items], dtype=np.float64),
        writers=("recorded",),
        reward=np.array([[float(bool(item.record.desirable))] for item in items]),
    )
    return annotated(rows, items)


def demonstration_rows(items: Sequence[Rendered], prompts: Sequence[Prompt]) -> Rows:
    """Responses to imitate, labelled desirable and weighted by their numbers of tokens: a weighted mean over rows is
    one over tokens."""
    rows = unpaired_rows(items, prompts)
    tokens = np.array([len(item.response_ids[0]) for item in items], dtype=np.float64)
    return replace(rows, weight=rows.weight * tokens, reward=np.ones((len(items), 1)))


# kind of records -> their rows; lists have a length of their own
ROWS = {"pair": pair_rows, "unpaired": unpaired_rows, "demonstration": demonstration_rows}


def list_rows(
    items: Sequence[Rendered], prompts: Sequence[Prompt], size: int | None = None
) -> tuple[Rows, int]:
    """Ranked lists of one length, best answer first, scores as rewards; and the number of shorter lists left out.

    size    None: the most frequent length. A longer list is thinned to the best, the worst and evenly spaced answers.
    """
    size = size or usual_size([len(item.response_ids) for item in items])
    kept = [i for i, item in enumerate(items) if len(item.response_ids) >= size]
    groups, rewards, held = [], [], []
    for i in kept:
        answers, scores = responses_of(items[i]), [c.score or 0.0 for c in items[i].record.candidates]
        order = sorted(range(len(answers)), key=lambda k: -scores[k])
        chosen = [order[place] for place in spread(len(order), size)]
        held.append(chosen)
        groups.append([answers[k] for k in chosen])
        rewards.append([scores[k] for k in chosen])
    rows = Rows(
        prompts=objects([prompts[i] for i in kept]),
        responses=objects(groups, width=size),
        weight=np.array([items[i].record.weight for i in kept], dtype=np.float64),
        writers=("recorded",) * size,
        reward=np.array(rewards, dtype=np.float64).reshape(len(kept), size),
    )
    return annotated(rows, [items[i] for i in kept], held), len(items) - len(kept)


def best_and_worst(lists: Rows) -> Rows:
    """Best-against-worst pair of each list with a hard label; ties are left out."""
    assert lists.reward is not None
    untied = lists.take(lists.reward[:, 0] > lists.reward[:, -1])
    first, last = (np.full(len(untied), k) for k in (0, untied.responses.shape[1] - 1))
    return replace(untied.pair(first, last, np.ones(len(untied))), reward=None)


def with_margins(rows: Rows, items: Sequence[Rendered]) -> Rows:
    """Pairs with a recorded margin, the lead of the chosen answer: rewards (margin, 0), and no label.

    Raises DataError if no pair has a margin above 0.
    """
    margin = np.array([item.record.margin or 0.0 for item in items], dtype=np.float64)
    if not (margin > 0).any():
        raise DataError(
            "no pair has a margin above 0 (by how much the chosen answer is better)",
            hint="give a column `margin`, or scored lists",
        )
    scored = replace(rows, prob=None, reward=np.stack([margin, np.zeros_like(margin)], axis=1))
    return scored.take(margin > 0)


def with_rationales(
    rows: Rows, items: Sequence[Rendered], reasons: Sequence[RationalePrompt], longest: int
) -> Rows:
    """Pairs, preferred answer first, each with its rationale after a lead that states the preference.

    reasons    rationale prompt of each pair, which makes the lead.
    longest    maximal number of tokens of a row; longer ones are left out.

    Raises DataError if no pair has a rationale that fits.
    """
    pairs = rows.preferred_first()
    third, kept = [], []
    for i, (item, by) in enumerate(zip(items, reasons, strict=True)):
        text = item.record.rationale
        if not text:
            continue
        prompt, (better, worse) = pairs.prompts[i], pairs.responses[i]
        ids = by.rationale(text)
        if set(ids[:-1]) & set(by.codec.special_texts.values()):
            continue  # what is spelled there would end or open a turn
        reason = Response(ids, text, lead=by(prompt, better, worse))
        if len(prompt.ids) + len(reason.lead) + len(reason.ids) <= longest:
            kept.append(i)
            third.append([reason])
    if not kept:
        raise DataError(
            "no pair has a rationale within data.max_length",
            hint="give a column `rationale`, or a larger data.max_length",
        )
    chosen = pairs.take(np.array(kept))
    return replace(chosen.append(objects(third, width=1), "rationale"), prob=chosen.prob)
