"""Words of a run's progress: paces, times, a phase, an optimizer step, a round."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from equipoise.report.numbers import percent, plain
from equipoise.run.planning.costs import gib
from equipoise.safe_text import printable
from equipoise.worlds.text.progress import Line, Phase

GAP = "  "


def pace(rate: float) -> str:
    """Units per second, or seconds per unit where that says more."""
    return f"{1 / rate:.1f} s each" if 0 < rate < 0.5 else f"{rate:.1f}/s"


def left(count: float, rate: float) -> str:
    """Time that `count` units take, as h:mm:ss."""
    return clock(count / rate) if rate > 0 else "?"


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def part_words(about: Line) -> str:
    """The name of a phase that is a run of its own, as it stands before what it does; "" for the run itself."""
    return f"{printable(str(about['phase']), most=20)}:" if about.get("phase") else ""


def phase_words(phase: Phase) -> str:
    """`training 9/20 steps`, `judging 64 questions`, `loading the model`."""
    name = printable(phase.name, most=40)
    if not phase.unit:
        return name
    of = "" if phase.total is None else f"/{phase.total:,}"
    return f"{name} {phase.done:,}{of} {phase.unit}"


def step_words(line: Line, evaluated: Line) -> Iterator[str]:
    """What an optimizer step and the last held-out evaluation of its fit know, the most important first."""
    loss, margin = _number(line, "loss"), _number(line, "margin")
    chosen, rejected = _number(line, "chosen_log_ratio"), _number(line, "rejected_log_ratio")
    if margin is None and chosen is not None and rejected is not None:
        margin = chosen - rejected
    if loss is not None:
        yield f"loss {plain(loss)}"
    if margin is not None:
        yield f"margin {plain(margin)}"
    accuracy = _number(evaluated, "accuracy")
    if accuracy is not None:
        yield f"accuracy {percent(accuracy)}"
    kl = _number(line, "kl")
    if kl is not None:
        yield f"KL {plain(kl)}"


def ratio_words(line: Line) -> Iterator[str]:
    """The log-ratios of chosen and rejected responses, of a step without a KL."""
    chosen, rejected = _number(line, "chosen_log_ratio"), _number(line, "rejected_log_ratio")
    if chosen is not None and "kl" not in line:
        yield f"chosen {_signed(chosen)}" + ("" if rejected is None else f" rejected {_signed(rejected)}")


def cost_words(phase: Phase, peak: float) -> Iterator[str]:
    """Tokens per second, and the peak of memory, given in bytes."""
    if phase.token_rate >= 1:
        yield f"{phase.token_rate:,.0f} tokens/s"
    if peak:
        yield f"peak {gib(peak)}"


def round_words(line: Line) -> str:
    """One line for a finished round: only what was measured."""
    return GAP.join(round_parts(line))


def round_parts(line: Line) -> list[str]:
    """The parts of that line, the most important first."""
    said = list(_round_figures(line)) or ["done, not evaluated"]
    return [f"round {line['round']}", *said]


def _round_figures(line: Line) -> Iterator[str]:
    before = line["round"] == 0  # against itself a policy wins one half, and its KL is 0
    if before:
        yield "before training"
    for name, title in (("win_rate", "win rate"), ("accuracy", "accuracy")):
        found = line.get(name)
        if isinstance(found, Mapping) and found.get("value") is not None and not before:
            yield f"{title} {percent(found['value'])}" + interval(found)
    kl, length = line.get("kl"), line.get("length")
    if isinstance(kl, Mapping) and not before:
        yield f"KL {plain(kl['value'])}"
    exact, gap = _number(line, "exact_win_rate"), _number(line, "exploitability")
    if gap is not None:
        yield f"exploitability {plain(gap)}"
    if exact is not None and not before:
        yield f"exact win rate {percent(exact)}"
    if isinstance(length, Mapping):
        yield f"length {plain(length['value'])}"


def interval(found: Mapping[str, Any]) -> str:
    """A share's 95 % interval in brackets, if it has one."""
    low, high = found.get("low"), found.get("high")
    return "" if low is None or high is None else f" ({100 * low:.0f}–{100 * high:.0f})"


def fitting(parts: list[str], width: int) -> str:
    """The first parts, and of the rest those that still fit into a line."""
    line = parts[0] if parts else ""
    for part in parts[1:]:
        if len(line) + len(GAP) + len(part) <= width:
            line += GAP + part
    return line[:width]


def _signed(value: float) -> str:
    return ("+" if value > 0 else "") + plain(value)


def _number(line: Line, name: str) -> float | None:
    value = line.get(name)
    return float(value) if isinstance(value, int | float) else None
