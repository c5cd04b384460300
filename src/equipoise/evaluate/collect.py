"""Everybody's answers: sampled, read from files or kept by a run; and what is measured while a model is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from equipoise.core.intervals import Interval, clustered_mean, clustered_share
from equipoise.data.errors import DataError
from equipoise.data.reading.read import Dataset
from equipoise.data.records import oracle_context
from equipoise.evaluate.answers import Answers, key_of, questions_of, read_answers
from equipoise.evaluate.located import Located
from equipoise.evaluate.suites.alpaca_eval import Difficulty
from equipoise.evaluate.writer import Writer, divergence, inspected, of_rows, ranking_accuracy, sampled
from equipoise.models.errors import ModelError
from equipoise.oracles.protocol import Oracle
from equipoise.policy.protocol import Decoding
from equipoise.worlds.text.folder import row_files

Tell = Callable[[str], None]


@dataclass(kw_only=True)
class Request:
    """What an evaluation is asked for.

    participants  models, run folders or files of answers.     baseline  the one that the others are compared with
    data          prompts to answer; None: those of the files, or of the run
    oracle        None: figures that need no judge
    pairs         recorded pairs, for ranking accuracy.         reference  a policy, for KL divergences
    difficulty    AlpacaEval's difficulties by the number of the prompt
    everybody     all pairs of participants meet, and not only each the baseline
    store         folder where sampled answers are kept
    load          settings of `Writer.load`
    """

    participants: Sequence[Located]
    baseline: Located
    data: Dataset | None = None
    questions: Path | None = None
    oracle: Oracle | None = None
    pairs: Dataset | None = None
    reference: Located | None = None
    difficulty: Difficulty | None = None
    everybody: bool = False
    store: Path | None = None
    count: int = 1
    decoding: Decoding = field(default_factory=Decoding)
    seed: int = 0
    load: Mapping[str, Any] = field(default_factory=dict)
    tell: Tell = lambda line: None


def collect(asked: Request, everyone: Sequence[Located]) -> tuple[list[Answers], dict[str, dict[str, Any]]]:
    """Everybody's answers; then figures that need the models again: KL divergences, ranking accuracies."""
    questions = questions_of(asked.questions) if asked.questions else {}
    files = {one.name: _of_file(one.file, questions, asked.data) for one in everyone if one.file}
    for one in everyone if asked.reference is None else [*everyone, asked.reference]:
        inspected(one)  # a model that cannot be loaded is refused before another has answered
    answers: list[Answers] = []
    figures: dict[str, dict[str, Any]] = {}
    words: dict[str, str] = {}
    margins: dict[str, Any] = {}
    for one in everyone:
        if one.file:
            answers.append(files[one.name])
            continue
        recorded = None if asked.data is not None else _of_run(one)
        writer = None
        if recorded is None or asked.pairs is not None or asked.reference is not None:
            asked.tell(f"loading {one.name}")
            writer = Writer.load(one, **asked.load)
            words[one.name] = writer.words()
        if recorded is None:
            assert writer is not None
            recorded = _sampled(asked, writer, files)
        answers.append(recorded)
        if asked.pairs is not None and writer is not None:
            margins[one.name] = writer.pairs(asked.pairs)
            figures.setdefault(one.name, {})["ranking"] = _ranking(margins[one.name])
    if asked.reference is not None:
        _against_reference(asked, everyone, answers, figures, words, margins)
    names = [a.name for a in answers]
    for k, name in enumerate(names):
        if name in names[:k]:
            answers[k] = replace(answers[k], name=f"{name} ({everyone[k].name})")
    return answers, figures


def _of_file(path: Path, questions: Mapping[str, Any], data: Dataset | None) -> Answers:
    """The answers of a file; with data, those to their prompts. Raises DataError if it answers none of them."""
    read = read_answers(path, questions)
    if data is None:
        return read
    asked = {key_of(oracle_context(r.context, r.tools, r.template_kwargs)) for r in data.records}
    kept = {key: group for key, group in read.by.items() if key in asked}
    if not kept:
        raise DataError("it answers none of the prompts of --data", file=str(path))
    left = len(read.by) - len(kept)
    notes = (f"{read.name}: answers to {left:,} prompts that are not in --data are left out",) if left else ()
    return Answers(read.name, read.contexts, kept, notes)


def _of_run(one: Located) -> Answers | None:
    """The answers that a run sampled when it evaluated this policy; None if it did not, or for a model."""
    if one.run is None:
        return None
    name = "evaluation-reference" if one.round == 0 else "evaluation-policy"
    path = one.journal.stage(one.round, name)
    if not path.exists():
        return None
    found = of_rows(one.name, row_files.load(one.journal, path))
    return Answers(found.name, found.contexts, found.by, (f"{one.name}: the answers that the run sampled",))


def _sampled(asked: Request, writer: Writer, files: Mapping[str, Answers]) -> Answers:
    if asked.data is None:
        if not files:
            raise DataError(f"{writer.name} needs prompts to answer; give --data")
        contexts = next(iter(files.values())).contexts
        prompts = [writer.prompt(context) for context in contexts.values()]
    else:
        prompts = writer.prompts(asked.data)
    asked.tell(f"{writer.name} answers {len(prompts)} prompts")
    store = asked.store / f"{file_name(writer.name)}.sampled.jsonl" if asked.store else None
    return sampled(writer, prompts, asked.count, asked.decoding, seed=asked.seed, store=store)


def file_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in name)


def _ranking(scored: Any) -> dict[str, Any]:
    rendered, logp, length = scored
    prompts = [item.record.group for item in rendered]
    summed, mean = ranking_accuracy(logp, length)
    return {
        "accuracy": clustered_share(summed, prompts),
        "per_token": clustered_share(mean, prompts),
        "pairs": len(rendered),
    }


def _against_reference(
    asked: Request,
    everyone: Sequence[Located],
    answers: Sequence[Answers],
    figures: dict[str, dict[str, Any]],
    words: Mapping[str, str],
    margins: Mapping[str, Any],
) -> None:
    """KL divergences from the reference, of answers sampled at temperature 1, and accuracies of implicit rewards."""
    assert asked.reference is not None
    asked.tell(f"loading {asked.reference.name}, the reference")
    reference = Writer.load(asked.reference, **asked.load)
    theirs = reference.pairs(asked.pairs) if asked.pairs is not None else None
    for one, found in zip(everyone, answers, strict=True):
        if one.file:
            continue
        if words.get(one.name) != reference.words():
            raise ModelError(
                f"{one.name} and the reference {asked.reference.name} have different vocabularies: their log-probs "
                "are of different tokens; leave --reference out"
            )
        flat = [(key, a) for key, group in found.by.items() for a in group]
        own = figures.setdefault(one.name, {})
        decoding = asked.decoding
        exact = (decoding.temperature, decoding.top_k, decoding.top_p) == (1.0, 0, 1.0) or one.run is not None
        if exact and all(a.ids and a.logp is not None for _, a in flat):
            ratio = divergence([a for _, a in flat], reference.logps([a for _, a in flat]))
            own["kl"] = clustered_mean(ratio, [key for key, _ in flat])
        if theirs is not None and one.name in margins:
            own["ranking"]["implicit_reward"] = _implicit(margins[one.name], theirs)


def _implicit(own: Any, reference: Any) -> Interval | None:
    """Accuracy of the implicit reward log pi - log pi_ref; ties count half. None if the two refuse different rows."""
    rendered, logp, _ = own
    if [item.record.id for item in rendered] != [item.record.id for item in reference[0]]:
        return None
    ratio = logp - reference[1]
    margin = ratio[:, 0] - ratio[:, 1]
    return clustered_share((margin > 0) + 0.5 * (margin == 0), [item.record.group for item in rendered])
