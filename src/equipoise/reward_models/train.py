"""Training of a reward model from preference data to a folder: `equipoise oracle train`."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from equipoise.data.evaluation_files import check_evaluation
from equipoise.data.reading.read import Dataset
from equipoise.data.split import split
from equipoise.policy.files import whole, write_json
from equipoise.policy.loading import Lora
from equipoise.reward_models.fit import Fitting, Remedies, fit
from equipoise.reward_models.folder import check_new, save
from equipoise.reward_models.head import Head
from equipoise.reward_models.measure import held_out
from equipoise.reward_models.pairs import LabelledPair, Labels, known_attributes, labelled
from equipoise.reward_models.start import Beginning, begin

log = logging.getLogger(__name__)

# (model before training, training pairs, settings of the optimizer, folder that is written) -> what is done about noise
Treat = Callable[[Beginning, Sequence[LabelledPair], Fitting, Path], Remedies]


@dataclass(frozen=True, kw_only=True)
class Result:
    """A reward model that was trained, and what is known of it."""

    folder: Path
    steps: int
    trained: int
    figures: dict[str, Any]
    ledger: dict[str, Any] = field(repr=False)

    def as_json(self) -> dict[str, Any]:
        return {
            "folder": str(self.folder),
            "steps": self.steps,
            "trained_pairs": self.trained,
            "held_out": self.figures,
            "ledger": self.ledger,
        }


def train(
    path: str | Path,
    dataset: Dataset,
    out: Path,
    *,
    head: Head,
    fitting: Fitting | None = None,
    labels: Labels | None = None,
    lora: Lora | None = None,
    held_out_share: float = 0.1,
    evaluation: Dataset | None = None,
    allow_overlap: bool = False,
    max_length: int | None = None,
    seed: int = 0,
    device: str | torch.device | None = None,
    remedies: Remedies | Treat | None = None,
    about: dict[str, Any] | None = None,
    report: Callable[[dict[str, Any]], None] = lambda line: None,
) -> Result:
    """Train a reward model on preference data and write it to a folder, whole or not at all.

    path            the model to begin from: a decoder, an encoder, or a reward model of this kind
    held_out_share  of the prompts, for the figures; `evaluation` is a data set in its place
    max_length      most tokens of a text; None: the model's context length
    seed            of the new head, the split and the order
    remedies        what is done about noisy labels, on the training pairs alone; or what decides it when they are
                    known, and may write into the folder
    about           settings to be written with the model

    The folder holds the model (`folder.save`), metrics.jsonl with a line for each step and the held-out figures before
    and after, ledger.json, and training.json. Raises ModelError or DataError before any training for what cannot be
    used, and ModelError if the folder exists.
    """
    check_new(out)
    beginning = begin(path, head, lora=lora, seed=seed, max_length=max_length)
    fitting = fitting or Fitting()
    if fitting.lr is None:
        fitting = replace(fitting, lr=automatic_rate(beginning))
    train_pairs, held = parts(
        beginning,
        dataset,
        labels=labels,
        share=held_out_share,
        evaluation=evaluation,
        allow_overlap=allow_overlap,
        seed=seed,
    )
    beginning.model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    with whole(out) as draft:
        draft.mkdir()
        treated = remedies(beginning, train_pairs, fitting, draft) if callable(remedies) else remedies
        with (draft / "metrics.jsonl").open("w", encoding="utf-8") as metrics:

            def write(line: dict[str, Any]) -> None:
                metrics.write(json.dumps(line) + "\n")
                metrics.flush()
                report(line)

            write({"step": 0, "held_out": held_out(beginning.model, held, fitting.tokens)})
            steps = 0

            def stepped(line: dict[str, Any]) -> None:
                nonlocal steps
                steps = line["step"]
                write(line)

            fit(beginning.model, train_pairs, fitting=fitting, seed=seed, remedies=treated, report=stepped)
            model = beginning.finish().eval()
            figures = held_out(model, held, fitting.tokens)
            write({"step": steps, "held_out": figures})
        ledger = dataset.ledger.as_json()
        write_json(draft / "ledger.json", ledger)
        settings = {"model": str(path), "seed": seed, "head": head.as_json(), "fitting": asdict(fitting)}
        write_json(
            draft / "training.json",
            settings | {"lora": asdict(lora) if lora else None, "held_out": figures, **(about or {})},
        )
        save(model, beginning.texts, draft)
    return Result(folder=out, steps=steps, trained=len(train_pairs), figures=figures, ledger=ledger)


def parts(
    beginning: Beginning,
    dataset: Dataset,
    *,
    labels: Labels | None = None,
    share: float = 0.1,
    evaluation: Dataset | None = None,
    allow_overlap: bool = False,
    seed: int = 0,
) -> tuple[list[LabelledPair], list[LabelledPair]]:
    """(training pairs, held-out pairs), tokenised for this model; the two share no prompt.

    Raises DataError for data that cannot be used, an attribute without labels, or a prompt in both data sets.
    """
    head = beginning.model.head
    labels = replace(labels or Labels(), attributes=head.attributes)
    if evaluation is not None:
        check_evaluation(dataset, evaluation, allow_overlap=allow_overlap)
        train_pairs = labelled(dataset, beginning.texts, head, labels)
        held = labelled(evaluation, beginning.texts, head, labels)
    else:
        pairs = labelled(dataset, beginning.texts, head, labels)
        used = {pair.group for pair in pairs}
        _, second = split([record for record in dataset.records if record.group in used], share, seed)
        groups = {record.group for record in second}
        held = [pair for pair in pairs if pair.group in groups]
        train_pairs = [pair for pair in pairs if pair.group not in groups]
    known_attributes(train_pairs, head.attributes)
    return train_pairs, held


def automatic_rate(beginning: Beginning) -> float:
    """Default peak learning rate by model size N (parameters): 5e-6 (7e9 / N)^0.5, at most 1e-3; ten times for LoRA.

    A power law through the papers' 5e-6 at 7B and what the tiny models of our benchmarks learn with; a start.
    """
    size = sum(parameter.numel() for parameter in beginning.model.parameters())
    return float(f"{min(1e-3, 5e-6 * (7e9 / size) ** 0.5) * (10 if beginning.wrapped else 1):.2g}")
