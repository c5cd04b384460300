"""The head of a report: method, model, learning rate, batch, steps, pairs, LoRA, seed, time."""

from __future__ import annotations

import json
from typing import Any

from equipoise.report.numbers import duration, plain
from equipoise.report.page import cut
from equipoise.report.run.records import Run


def facts(run: Run) -> list[tuple[str, str]]:
    """(name, value) of what a reader asks first; what the run did not record is left out."""
    summary, seconds = run.summary, run.by_phase("seconds")
    pairs = [
        ("Method", run.name),
        ("Model", summary.model),
        ("Data", summary.data),
        ("Oracle", summary.oracle),
        ("Rounds", _rounds(run)),
        ("Learning rate", _rate(run)),
        ("Batch", run.setting("train", "batch")),
        ("Epochs", run.setting("train", "epochs")),
        ("Optimizer steps", f"{len(run.steps):,}" if run.steps else None),
        ("Recorded rows used", f"{run.ledger.used:,}" if run.ledger else None),
        ("Held-out pairs", _count(len({pair.pair for pair in run.held_out}))),
        ("Evaluation prompts", _count(len({verdict.prompt_index for verdict in run.verdicts}))),
        ("Trained weights", _adapter(run)),
        ("Seed", summary.seed),
        ("Time", duration(sum(seconds.values())) if seconds else None),
        ("Best checkpoint", chosen(run) or None),
        ("Automatic settings", _named(summary.automatic) or None),
        ("Paper", summary.paper),
        ("Source of the method", summary.confidence),
        ("Configuration", run.config.get("hash")),
    ]
    return [(name, cut(_text(value), 200)) for name, value in pairs if value is not None]


def chosen(run: Run) -> str:
    """The best checkpoint in words, with its metric, value and place; "" if none was chosen."""
    best = run.summary.best
    if best is None:
        return ""
    at = f"round {best.round}" + ("" if best.step is None else f", step {best.step}")
    return f"{best.folder}: {best.metric} {plain(best.value)} ({best.better} is better), {at}"


def _rounds(run: Run) -> str | None:
    played, delivered = run.summary.rounds, run.summary.delivered
    if played is None:
        return None
    return f"{played}" if delivered in (None, played) else f"{played} (delivered: {delivered})"


def _rate(run: Run) -> str | None:
    rate, schedule = run.setting("train", "lr"), run.setting("train", "schedule")
    if rate is None:
        return None
    return f"{_short(rate)}, {_text(schedule)}" if schedule else _short(rate)


def _adapter(run: Run) -> str | None:
    """What is trained: a LoRA adapter, the adapter that the model came with, or every weight."""
    rank = run.setting("model", "lora_rank")
    if not isinstance(rank, int):
        return None
    if not rank:
        return "all, or the given adapter's" if run.inputs.get("adapter") else "all"
    alpha = run.setting("model", "lora_alpha") or 2 * rank
    return f"LoRA, rank {rank}, alpha {_short(alpha)}"


def _named(value: Any) -> str:
    if not isinstance(value, dict):
        return _text(value) if value else ""
    return ", ".join(f"{name} = {_text(one)}" for name, one in value.items())


def _count(number: int) -> str | None:
    return f"{number:,}" if number else None


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else _text(value)


def _text(value: Any) -> str:
    """A value for a reader: a list by its entries, a number or a text as it is."""
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
