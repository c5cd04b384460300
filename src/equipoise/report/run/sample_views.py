"""Samples for a reader: the last round's response first, what it met, and the judge's verdict."""

from __future__ import annotations

from dataclasses import dataclass, field

from equipoise.report.numbers import percent
from equipoise.report.page import cut
from equipoise.report.run.records import Run, Sample

# A report is for reading: beyond these sizes the files themselves are the better place.
MAX_PROMPTS = 12
MAX_TEXT = 4_000


@dataclass(frozen=True)
class Shown:
    """One response. `said` is the verdict on it in words, `level` its colour: good, warning or soft."""

    who: str
    text: str
    ended: bool = True
    said: str = ""
    level: str = "soft"


@dataclass(frozen=True)
class View:
    """One prompt: the last response and the reference's that it met, then those of earlier rounds, newest first."""

    number: int
    prompt: str
    last: tuple[Shown, ...]
    earlier: tuple[Shown, ...] = field(default=())


def sample_views(run: Run) -> list[View]:
    """The first prompts of samples.jsonl."""
    shown = sorted({sample.prompt_index for sample in run.samples})[:MAX_PROMPTS]
    return [_view(index, [s for s in reversed(run.samples) if s.prompt_index == index]) for index in shown]


def response(sample: Sample, who: str = "") -> Shown:
    """A response with the verdict against the reference's."""
    said, level = "", "soft"
    if sample.win is not None and sample.round:
        outcome = "wins" if sample.win > 0.5 else "loses" if sample.win < 0.5 else "ties"
        said = f"{outcome} against the reference's: {percent(sample.win)}"
        level = {"wins": "good", "loses": "warning"}.get(outcome, "soft")
    name = who or ("Before training" if sample.round == 0 else f"Round {sample.round}")
    return Shown(name, _text(sample.response), sample.finished is not False, said, level)


def _view(index: int, newest_first: list[Sample]) -> View:
    last, *earlier = newest_first
    first = [response(last)]
    if last.against is not None and last.round:
        first.append(Shown("Reference", _text(last.against)))
    return View(
        index + 1, cut(last.prompt.strip(), MAX_TEXT), tuple(first), tuple(response(one) for one in earlier)
    )


def _text(text: str) -> str:
    return cut(text.strip(), MAX_TEXT) or "(empty)"
