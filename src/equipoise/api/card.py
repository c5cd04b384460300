"""Model card written from the facts of a run: what it was made from and how, what was measured, how it is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from equipoise.models.adapters import HUB_NAME
from equipoise.report.run.load import Estimate, Round
from equipoise.report.run.metrics import ROUND_METRICS
from equipoise.run.finished import Run
from equipoise.safe_text import printable

SETTINGS = ("epochs", "batch", "lr", "schedule", "warmup", "clip")  # of training, that a reader asks for
LOADERS = {
    "model": ("transformers", "AutoModelForCausalLM"),
    "adapter": ("peft", "AutoPeftModelForCausalLM"),
}


def card_of(run: Run, round: int, kind: str, name: str = "folder") -> str:
    """The card's text. Of files and folders only their names are told, and nothing of the machine or its environment.

    kind   "model" or "adapter".      name  what is loaded: a folder, or a repository's name.
    """
    library, loader = LOADERS[kind]
    summary, config = run.summary, run.record.config
    base = str(summary.get("model") or "")
    hub = HUB_NAME.fullmatch(base) and "/" in base and not Path(base).exists()
    data = ModelCardData(
        library_name=library,
        pipeline_tag="text-generation",
        base_model=base if hub else None,
        tags=["equipoise", "preference-alignment", str(summary.get("method"))],
        datasets=[d for d in map(_dataset, _listed(summary.get("data"))) if d] or None,
    )
    title = printable(str(summary.get("title") or summary.get("method") or "a policy"))
    parts = [
        f"# A policy aligned with {title}",
        f"This {kind} was trained with Equipoise {version('equipoise')}.",
        "## How it was made",
        _table(("", ""), _facts(run, round, config)),
        "## What was measured",
        _table(("", "at the start", f"after round {round}"), _measured(run, round))
        + "\n\nOn held-out prompts of the training run; intervals are 95 %, clustered by prompt.",
        "## How to use it",
        f'```python\nfrom {library} import {loader}\n\nmodel = {loader}.from_pretrained("{name}")\n```',
    ]
    card = ModelCard(f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(parts) + "\n")
    return str(card)


def _facts(run: Run, round: int, config: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    summary = run.summary
    yield (
        "method",
        f"{summary.get('method')}" + (f" (arXiv {summary['paper']})" if summary.get("paper") else ""),
    )
    yield "rounds", f"{round} of {summary.get('rounds')}"
    yield "started from", _name(summary.get("model"))
    yield "data", ", ".join(map(_name, _listed(summary.get("data"))))
    if summary.get("oracle"):
        yield "judged by", _name(summary.get("oracle"))
    if run.record.ledger is not None:
        ledger = run.record.ledger
        yield "rows", f"{ledger.used:,} used of {ledger.read:,} read"
    model, train = config.get("model") or {}, config.get("train") or {}
    if model.get("lora_rank"):
        yield "LoRA rank", str(model["lora_rank"])
    for setting in SETTINGS:
        if train.get(setting) is not None:
            yield setting, str(train[setting])
    for setting, value in (config.get("objective") or {}).items():
        yield f"objective.{setting}", str(value)
    yield "optimizer steps", f"{len(run.steps):,}"
    yield "seed", str(summary.get("seed"))
    yield "settings", str(summary.get("hash"))


def _measured(run: Run, round: int) -> Iterator[tuple[str, ...]]:
    lines = {line.round: line for line in run.rounds}
    first, last = lines.get(0), lines.get(round)
    for metric in ROUND_METRICS:
        shown = [_figure(metric, line) for line in (first, last)]
        if shown[1] != "–":
            yield metric.title, *shown


def _figure(metric: Any, line: Round | None) -> str:
    value = getattr(line, metric.name, None) if line else None
    if isinstance(value, Estimate):
        interval = metric.show_interval(value)
        return str(metric.show(value.value)) + (f" ({interval})" if interval else "")
    return str(metric.show(value))


def _table(headings: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    lines = [headings, tuple("---" for _ in headings), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(text: str) -> str:
    """One line of a table, with nothing in it that Markdown or HTML would read."""
    escaped = printable(str(text), most=300)
    for sign in "\\`|<>[]":
        escaped = escaped.replace(sign, "\\" + sign if sign != "<" else "&lt;")
    return escaped


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _name(value: Any) -> str:
    """A file or folder by its own name; a name on the hub and anything else as it is."""
    text = str(value.get("path") if isinstance(value, Mapping) else value)
    if text.startswith("hf://") or (HUB_NAME.fullmatch(text) and not Path(text).exists()):
        return text
    path, _, function = text.partition(":")
    return Path(path).name + (f":{function}" if function else "") if "/" in path else text


def _dataset(value: Any) -> str | None:
    text = str(value.get("path") if isinstance(value, Mapping) else value)
    if not text.startswith("hf://"):
        return None
    return "/".join(text.removeprefix("hf://").removeprefix("datasets/").partition(":")[0].split("/")[:2])
