"""Answers of a model to prompts, as training samples them: in memory, and in a file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from equipoise.api.comparison import named
from equipoise.api.data import read
from equipoise.api.options import check_count, placed, wrapped
from equipoise.data.ledger import Ledger
from equipoise.data.plain_strings import note_plain_strings
from equipoise.data.reading.given_rows import DataLike
from equipoise.evaluate.answers import Answer, Answers, alpaca_rows, shown, write_answers
from equipoise.evaluate.examples import prompted, shown_from
from equipoise.evaluate.located import locate
from equipoise.evaluate.principle import principled
from equipoise.evaluate.writer import Writer, sampled
from equipoise.html_text import html_table
from equipoise.policy.generation.contrast import Contrast
from equipoise.policy.protocol import Decoding
from equipoise.run.config import ConfigError
from equipoise.run.finished import Run

SHOWN = 8  # prompts whose answers a notebook shows
FORMATS = ("jsonl", "alpaca_eval")


@dataclass(frozen=True)
class Samples:
    """Answers of one model.

    name      the model.      ledger  what became of every row of the prompts
    answers   by prompt; iterating gives (prompt as text, answer)
    """

    name: str
    answers: Answers
    ledger: Ledger

    def __len__(self) -> int:
        return len(self.answers)

    def __iter__(self) -> Iterator[tuple[str, Answer]]:
        for key, written in self.answers.by.items():
            for answer in written:
                yield shown(self.answers.contexts[key]), answer

    @property
    def texts(self) -> list[str]:
        """The answers as texts, in order."""
        return self.answers.texts

    def save(self, out: str | Path, format: str = "jsonl") -> Path:
        """Write the answers: rows of prompt and completion ("jsonl"), or AlpacaEval's outputs ("alpaca_eval")."""
        return write_answers(Path(out), self.answers, format)

    def _repr_html_(self) -> str:
        rows = [(str(n), prompt, a.text) for n, (prompt, a) in enumerate(islice(self, SHOWN), 1)]
        return html_table(rows, ("", "prompt", "answer"), f"{len(self):,} answers of {self.name}")


def sample(
    model: Run | str | Path,
    data: DataLike | None = None,
    *,
    prompts: Iterable[Any] | None = None,
    out: str | Path | None = None,
    count: int = 1,
    temperature: float = 1.0,
    top_p: float = 1.0,
    top_k: int = 0,
    max_new_tokens: int = 256,
    seed: int = 0,
    format: str = "jsonl",
    round: str = "final",
    wrap: str = "none",
    system: str | None = None,
    principle: str | None = None,
    strength: float = 3.0,
    divergence: float | None = None,
    examples: Sequence[str] | str | None = None,
    shots: int = 2,
    embedding: str | None = None,
    limit: int | None = None,
    precision: str = "fp32",
    batch: int = 32,
    name: str | None = None,
    revise: int = 0,
    begun: Callable[[Ledger], None] = lambda ledger: None,
    tick: Callable[[int, int], None] = lambda done, total: None,
) -> Samples:
    """Sample answers of a model, an adapter or a run's policy to prompts, as training samples them.

    model    result of `align`, a run, model or adapter folder, or a hub name
    data     files or rows of any kind, for their prompts; or `prompts`: texts, or lists of chat turns
    out      file of answers; it appears when it is complete, and the same call goes on where one was stopped
    begun    called with the ledger of the prompts before the first answer; `tick` with the prompts done and in all

    The other arguments are those of `equipoise sample`. Raises ConfigError, DataError or ModelError.
    """
    if format not in FORMATS:
        raise ConfigError(f"--format must be jsonl or alpaca_eval, got {format!r}")
    if principle is None and divergence is not None:
        raise ConfigError("--divergence bounds the step of --principle, which is not given")
    if principle is not None and revise:
        raise ConfigError(
            "--principle and --revise do not go together: revisions are written without the contrast"
        )
    check_count(count)
    where = locate(named(model), round)
    decoding = Decoding(
        temperature=temperature, top_p=top_p, top_k=top_k, max_new_tokens=max_new_tokens, batch=batch
    )
    rows = _rows(data, prompts)
    dataset = read(rows, wrap=wrapped(wrap), system=system, limit=limit, seed=seed)
    writer = Writer.load(where, **placed(precision))
    writer = replace(writer, name=name or writer.name)
    note_plain_strings(dataset, template=writer.renderer.template is not None)
    asked = writer.prompts(dataset)
    begun(dataset.ledger)
    examples_shown = shown_from(examples, shots, embedding)
    contrast = None
    if principle is not None:
        aligned = principled(writer, asked, principle)
        aligned = prompted(writer, aligned, examples_shown) if examples_shown else aligned
        contrast = Contrast(prompts=aligned, strength=strength, divergence=divergence)
    asked = prompted(writer, asked, examples_shown) if examples_shown else asked
    file = None if out is None else Path(out)
    kept = None if file is None else file.with_name(f"{file.name}.unfinished")
    done = 0

    def told(more: int) -> None:
        nonlocal done
        done += more
        if more:
            tick(done, len(asked))

    answers = sampled(
        writer, asked, count, decoding, seed=seed, revisions=revise, store=kept, tick=told, contrast=contrast
    )
    if file is not None and kept is not None:
        if format == "alpaca_eval":
            alpaca_rows(answers, file)  # refuses before anything is written
        write_answers(file, answers, format)
        kept.unlink(missing_ok=True)
    return Samples(writer.name, answers, dataset.ledger)


def _rows(data: DataLike | None, prompts: Iterable[Any] | None) -> DataLike:
    if (data is None) == (prompts is None):
        raise ConfigError(
            "which prompts? give data (files or rows) or prompts (texts or chats), one of the two"
        )
    if prompts is None:
        assert data is not None
        return data
    if isinstance(prompts, str) or not isinstance(prompts, Iterable):
        raise ConfigError("prompts is a list of texts; for one prompt write prompts=[TEXT]")
    return [{"prompt": prompt} for prompt in prompts]
