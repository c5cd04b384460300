"""Formats of comparisons: two answers, A and B, and a verdict that says which is better, or that they tie.

To add one, write a reader of its verdict, P(A beats B), and one entry of COMPARISONS. Two further columns that hold
answers are one line of ANSWER_PAIRS.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from equipoise.data.errors import OffScale, Refusal
from equipoise.data.formats.annotations import answer_attributes, scalar, with_attributes
from equipoise.data.formats.asked import checked, compared_turns, is_texts
from equipoise.data.formats.columns import shapes
from equipoise.data.formats.format import Fields, Format, RawRow, peeked
from equipoise.data.formats.parse_values import Reading, label_of, number_of, text_of
from equipoise.data.records import Attributes, Candidate, Context

Verdict = Callable[[RawRow, Reading], float]

_STEMS = (
    "response",
    "answer",
    "output",
    "completion",
    "conversation",
    "human_ref",
    "generation",
    "summary",
    "text",
)
_MARKS = (("_a", "_b"), ("_A", "_B"), ("_0", "_1"), ("_1", "_2"), ("1", "2"), ("0", "1"), ("A", "B"))
ANSWER_PAIRS = tuple((stem + a, stem + b) for stem in _STEMS for a, b in _MARKS)
FIRST, SECOND = ("|".join(dict.fromkeys(names)) for names in zip(*ANSWER_PAIRS, strict=True))

SCORES = tuple((stem + a, stem + b) for stem in ("score", "reward", "rating") for a, b in _MARKS)

MODELS = ("model_a", "model_b")  # who wrote which answer
TIES = ("tie", "ties", "both", "draw", "equal", "same", "bothgood", "tiebothgood")
_WINS = (("a", "left", "first"), ("b", "right", "second"))
_STEM = re.compile(r"^(model|assistant|response|answer|option|output|completion)[ _]?")
BOTH_BAD = ("tiebothbad", "bothbad", "neither")
_BREAKS = re.compile(r"[\s()_-]+")


def answer_names(row: RawRow) -> tuple[str, str] | None:
    """The two columns that hold the answers: the first of ANSWER_PAIRS that is there."""
    return next((names for names in ANSWER_PAIRS if set(names) <= set(row)), None)


def compared(
    context: Context, answers: tuple[Context, Context], prob: float, reading: Reading, *scores: float | None
) -> Fields:
    """Record fields of a comparison: the preferred answer first, `prob` that it beats the other, 0.5 for a tie.

    prob     P(first answer beats second)
    scores   of both answers, if the data have them
    """
    if answers[0] == answers[1]:
        raise Refusal("both answers are equal")
    if prob == 0.5:
        reading.notes["ties: kept as pairs with probability 0.5"] += 1
    candidates = [
        Candidate(content=content, score=score)
        for content, score in zip(answers, scores or (None, None), strict=True)
    ]
    first = prob >= 0.5
    ordered = candidates if first else candidates[::-1]
    return {"context": context, "candidates": tuple(ordered), "prob": prob if first else 1 - prob}


def _comparison(verdict: Verdict) -> Callable[[RawRow, Reading], Fields]:
    """The parser of a row with two answers in columns of their own, and this verdict."""

    def parse(row: RawRow, reading: Reading) -> Fields:
        names = answer_names(row)
        if names is None:
            raise Refusal("no two columns of answers", "their names differ in more than their mark")
        prob = verdict(row, reading)
        context, *sides = compared_turns(row, names, reading)
        a, b = (checked(side, name, reading) for side, name in zip(sides, names, strict=True))
        fields = compared(context, (a, b), prob, reading, *_scores(row, reading)) | _margin(row, reading)
        in_order = slice(None) if fields["candidates"][0].content == a else slice(None, None, -1)
        fields["candidates"] = with_attributes(fields["candidates"], _measured(row, names, reading)[in_order])
        wrote = [peeked(row, name) for name in MODELS]
        if all(isinstance(name, str) for name in wrote):
            ordered = wrote if fields["candidates"][0].content == a else wrote[::-1]
            fields["candidates"] = tuple(
                replace(candidate, source=name)
                for candidate, name in zip(fields["candidates"], ordered, strict=True)
            )
        return fields

    return parse


def _measured(row: RawRow, names: tuple[str, str], reading: Reading) -> tuple[Attributes, ...]:
    """Attributes of the two answers, in the order of their columns: see `answer_attributes`; PKU-SafeRLHF's safety."""
    found = answer_attributes(row, 2, [(f"attributes{a}", f"attributes{b}") for a, b in _MARKS], reading)
    about = [
        {
            aspect: value
            for aspect, column in (("safe", f"is_{name}_safe"), ("severity_level", f"{name}_severity_level"))
            if (value := scalar(peeked(row, column))) is not None
        }
        for name in names
    ]
    return tuple({**safety, **attributes} for safety, attributes in zip(about, found, strict=True))


def _margin(row: RawRow, reading: Reading) -> Fields:
    """The strength of a graded preference, as the margin."""
    name = next((name for name in _STRENGTH if name in row), None)
    strength = None if name is None else number_of(row, name, reading)
    return {} if strength is None else {"margin": abs(strength)}


def _scores(row: RawRow, reading: Reading) -> tuple[float | None, float | None]:
    names = next((names for names in SCORES if set(names) <= set(row)), None)
    if names is None:
        return None, None
    a, b = (number_of(row, name, reading) for name in names)
    return (None, None) if a is None or b is None else (a, b)


# -- verdicts: P(A beats B) -----------------------------------------------------------------------------------------


def by_winner(row: RawRow, reading: Reading) -> float:
    """`winner`: model_a, model_b, tie, tie (bothbad), or the name of the column or model that won (Chatbot Arena).

    A number is that of the answer's column: 0 or 1 with `response_0` and `response_1`, 1 or 2 with `response1` and
    `response2`.
    """
    value = row.get("winner")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    said = str(value).strip().lower()
    names = answer_names(row) or ("", "")
    models = [str(row.get(name, "")).strip().lower() for name in MODELS]
    for side, prob in enumerate((1.0, 0.0)):
        if (
            said in (names[side].lower(), names[side][-1:].lower(), *_WINS[side])
            or _STEM.sub("", said) in _WINS[side]
        ):
            return prob
        if said and said == models[side] and models[0] != models[1]:
            return prob
    if _BREAKS.sub("", said) in BOTH_BAD:
        reading.notes["both answers called bad: read as a tie"] += 1
        return 0.5
    if _BREAKS.sub("", said) in TIES:
        return 0.5
    if said.isdigit():
        raise OffScale("winner is not the number of an answer's column", repr(value))
    raise Refusal("winner names neither answer nor a tie", repr(value))


def by_flags(row: RawRow, reading: Reading) -> float:
    """`winner_model_a`, `winner_model_b`, `winner_tie`: exactly one is 1."""
    flags = [label_of(row.get(name)) for name in _FLAGS]
    if sum(flags) != 1:
        raise Refusal("not exactly one of winner_model_a, winner_model_b and winner_tie is 1", repr(flags))
    return (1.0, 0.0, 0.5)[flags.index(True)]


def by_strength(row: RawRow, reading: Reading) -> float:
    """`overall_preference` or `preference_strength`, -3 to 3: negative, the first is better; 0, a tie (HelpSteer)."""
    name = next(name for name in _STRENGTH if name in row)
    strength = number_of(row, name, reading)
    if strength is None or abs(strength) > 3:
        raise _off_scale(strength, f"{name} is outside -3 to 3")
    return 0.5 if strength == 0 else float(strength < 0)


def by_label(name: str) -> Verdict:
    """A label that is 1 where the first answer is better (SHP's `labels`, HALOs' `label`)."""

    def verdict(row: RawRow, reading: Reading) -> float:
        label = row.get(name)
        if isinstance(label, int | float) and label not in (0, 1):
            raise OffScale(f"{name} is neither 0 nor 1", repr(label))
        return float(label_of(label))

    return verdict


def by_index(name: str) -> Verdict:
    """The number, 0 or 1, of the better answer (PKU-SafeRLHF)."""

    def verdict(row: RawRow, reading: Reading) -> float:
        index = number_of(row, name, reading)
        if index not in (0.0, 1.0):
            raise _off_scale(index, f"{name} is neither 0 nor 1")
        return 1.0 - index

    return verdict


def by_score(row: RawRow, reading: Reading) -> float:
    """Two scores, high is best; equal ones are a tie (WebGPT)."""
    a, b = _scores(row, reading)
    if a is None or b is None:
        raise Refusal("an answer has no score")
    return 0.5 if a == b else float(a > b)


def by_soft_preference(row: RawRow, reading: Reading) -> float:
    """`preference` between 1 and 2, which is 1 + P(the second is better) (AlpacaEval)."""
    value = number_of(row, "preference", reading)
    if value is None or not 1 <= value <= 2:
        raise _off_scale(value, "preference is outside 1 to 2")
    return 2 - value


def _off_scale(number: float | None, reason: str) -> Refusal:
    """The refusal of a number that the scale does not have, or of a missing one."""
    return Refusal(reason, repr(number)) if number is None else OffScale(reason, repr(number))


# -- comparisons whose answers do not stand in two columns ----------------------------------------------------------


def summaries(row: RawRow, reading: Reading) -> Fields:
    """`info` {post or article, title, subreddit}, `summaries` [{text}, {text}], `choice`: OpenAI's TL;DR comparisons.

    The prompt is the post with its subreddit and title, and ends with "TL;DR:".
    """
    info, items = row["info"], row["summaries"]
    post = info.get("post") or info.get("article")
    parts = [
        f"{name.upper()}: {'r/' if name == 'subreddit' else ''}{info[name]}"
        for name in ("subreddit", "title")
        if info.get(name)
    ]
    prompt = "\n\n".join([*parts, f"POST: {text_of(post, 'info.post')}", "TL;DR:"])
    texts = [text_of(item.get("text"), f"summaries[{i}]") for i, item in enumerate(items)]
    a, b = (text if text[0].isspace() else f" {text}" for text in texts)
    return compared(prompt, (a, b), by_index("choice")(row, reading), reading)


def _is_summaries(row: RawRow) -> bool:
    items = row.get("summaries")
    two = isinstance(items, list) and len(items) == 2 and all(isinstance(item, Mapping) for item in items)
    return two and isinstance(row.get("info"), Mapping)


def _has_answers(row: RawRow) -> bool:
    names = answer_names(row)
    return names is not None and all(is_texts(row[n]) or shapes(row, n) != ("none",) for n in names)


def _is_soft(row: RawRow) -> bool:
    return _has_answers(row) and isinstance(row.get("preference"), int | float)


def _pairwise(row: RawRow) -> bool:
    return _has_answers(row) and row.get("type") == "pairwise_feedback"


def _entry(name: str, verdict: Verdict, *columns: str, **more: Any) -> Format:
    fits = more.pop("fits", _has_answers)
    return Format(name, "pair", "chat", (FIRST, SECOND, *columns), _comparison(verdict), fits, **more)


_FLAGS = ("winner_model_a", "winner_model_b", "winner_tie")
_STRENGTH = ("overall_preference", "preference_strength")
_PKU = ("better_response_id", "safer_response_id")
_VERDICTS = frozenset((*_FLAGS, *_STRENGTH, *_PKU, "winner", "label", "labels", "preference"))
_SCORE_A, _SCORE_B = ("|".join(dict.fromkeys(names)) for names in zip(*SCORES, strict=True))

COMPARISONS = (
    _entry("compare-winner", by_winner, "winner"),
    _entry("compare-winner-flags", by_flags, *_FLAGS),
    _entry("compare-strength", by_strength, "|".join(_STRENGTH)),
    _entry("compare-shp", by_label("labels"), "labels"),
    _entry("compare-halos", by_label("label"), "type", "label", fits=_pairwise),
    _entry(
        "pku-better",
        by_index("better_response_id"),
        _PKU[0],
        note="the better answer is that of `better_response_id` (helpfulness); for the safer one: `format: pku-safer`",
    ),
    _entry("pku-safer", by_index("safer_response_id"), _PKU[1], by_name=True),
    _entry("compare-scores", by_score, _SCORE_A, _SCORE_B, without=_VERDICTS),
    _entry("compare-soft", by_soft_preference, "preference", fits=_is_soft),
    Format("compare-summaries", "pair", "text", ("info", "summaries", "choice"), summaries, _is_summaries),
)
