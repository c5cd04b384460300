"""Evaluation of language models against each other: is it better, by how much, and how sure is that?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from equipoise.data.errors import DataError
from equipoise.data.reading.read import Dataset
from equipoise.data.records import oracle_context
from equipoise.evaluate import diversity
from equipoise.evaluate.answers import Answers, instruction_of, questions_of, read_answers
from equipoise.evaluate.arena.bradley_terry import Battles, rated
from equipoise.evaluate.arena.exploitability import cycles, exploitability, nash
from equipoise.evaluate.contest import Contest, contest, rewards
from equipoise.evaluate.intervals import Interval, clustered_mean, clustered_share
from equipoise.evaluate.length_control import LengthControlled, length_controlled, of_the_baseline
from equipoise.evaluate.located import Located
from equipoise.evaluate.suites.alpaca_eval import Annotations, Difficulty
from equipoise.evaluate.writer import Writer, divergence, of_rows, ranking_accuracy, sampled
from equipoise.models.errors import ModelError
from equipoise.oracles.asking import Asking
from equipoise.oracles.checked import unwrapped
from equipoise.oracles.protocol import Oracle
from equipoise.policy.protocol import Decoding

DRAWS = 200  # bootstrap resamples
FEWEST = 5  # prompts, for length control

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


@dataclass
class Evaluated:
    """Results of an evaluation, and the answers and comparisons behind them.

    results   plain data, as results.json holds them
    """

    results: dict[str, Any]
    answers: list[Answers]
    contests: list[Contest]


def evaluate(asked: Request) -> Evaluated:
    """Collect everybody's answers, ask the oracle, and measure.

    Raises DataError, ModelError or OracleError, in one sentence, for what cannot be evaluated.
    """
    everyone = _distinct([*asked.participants, asked.baseline])
    answers, own = _collect(asked, everyone)
    base = answers[_index(everyone, asked.baseline)]
    candidates = [a for a in answers if a is not base] or [base]
    result: dict[str, Any] = {
        "models": [a.name for a in candidates],
        "baseline": base.name,
        "oracle": asked.oracle.name if asked.oracle else None,
        "answers": {a.name: len(a) for a in answers},
        "prompts": len(base.by),
        "seed": asked.seed,
        "notes": [note for a in answers for note in a.notes],
    }
    contests: list[Contest] = []
    if asked.oracle is not None:
        contests = _contests(asked, candidates, base)
        result |= _judged(asked, answers, base, contests)
    result["own"] = {
        a.name: diversity.figures({key: [one.text for one in group] for key, group in a.by.items()})
        | _finished(a)
        | {"reward": rewards(asked.oracle, a) if asked.oracle else None}
        | own.get(a.name, {})
        for a in answers
    }
    if asked.oracle is not None:
        result["judge"] = _judge_figures(asked.oracle)
        if asked.pairs is not None:
            result["judge"]["accuracy"] = oracle_accuracy(asked.oracle, asked.pairs)
    return Evaluated(result, answers, contests)


def _distinct(located: Sequence[Located]) -> list[Located]:
    """Each participant once, with a name that no other has."""
    found: list[Located] = []
    for one in located:
        if one in found:
            continue
        names = [other.name for other in found]
        name, number = one.name, 2
        while name in names:
            name, number = f"{one.name} ({number})", number + 1
        found.append(Located(name, one.model, one.file, one.run, one.round, one.rendering))
    return found


def _index(everyone: Sequence[Located], wanted: Located) -> int:
    where = [(o.model, o.file, o.run, o.round) for o in everyone]
    return where.index((wanted.model, wanted.file, wanted.run, wanted.round))


def _collect(asked: Request, everyone: Sequence[Located]) -> tuple[list[Answers], dict[str, dict[str, Any]]]:
    """Everybody's answers; then figures that need the models again: KL divergences, ranking accuracies."""
    questions = questions_of(asked.questions) if asked.questions else {}
    files = {one.name: read_answers(one.file, questions) for one in everyone if one.file}
    answers: list[Answers] = []
    figures: dict[str, dict[str, Any]] = {}
    words: dict[str, str] = {}
    margins: dict[str, Any] = {}
    for one in everyone:
        if one.file:
            read = files[one.name]
            answers.append(
                Answers(one.name if read.name == one.file.stem else read.name, read.contexts, read.by)
            )
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
            answers[k] = Answers(f"{name} ({everyone[k].name})", answers[k].contexts, answers[k].by)
    return answers, figures


def _of_run(one: Located) -> Answers | None:
    """The answers that a run sampled when it evaluated this policy; None if it did not, or for a model."""
    if one.run is None:
        return None
    name = "evaluation-reference" if one.round == 0 else "evaluation-policy"
    path = one.journal.stage(one.round, name)
    if not path.exists():
        return None
    found = of_rows(one.name, one.journal.load(path))
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
    store = asked.store / f"{_file_name(writer.name)}.sampled.jsonl" if asked.store else None
    return sampled(writer, prompts, asked.count, asked.decoding, seed=asked.seed, store=store)


def _file_name(name: str) -> str:
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


def _contests(asked: Request, candidates: Sequence[Answers], base: Answers) -> list[Contest]:
    assert asked.oracle is not None
    made = []
    others = list(combinations(candidates, 2)) if asked.everybody else []
    for candidate, other in [*((c, base) for c in candidates), *others]:
        asked.tell(f"{asked.oracle.name} compares {candidate.name} with {other.name}")
        made.append(contest(asked.oracle, candidate, other))
    return made


def _judged(
    asked: Request, answers: Sequence[Answers], base: Answers, contests: Sequence[Contest]
) -> dict[str, Any]:
    with_base = [c for c in contests if c.against == base.name]
    found: dict[str, Any] = {
        "win_rates": [c.plain() | {"length_controlled": _controlled(asked, c, base)} for c in with_base]
    }
    battles = battles_of(contests)
    if len(battles) and len(battles.models) > 1:
        found["ratings"] = [r.plain() for r in rated(battles, base.name, draws=DRAWS, seed=asked.seed)]
    if asked.everybody and len(answers) > 1:
        found["population"] = population([a.name for a in answers], contests, seed=asked.seed)
    return found


def _controlled(asked: Request, made: Contest, base: Answers) -> dict[str, Any] | None:
    """Length-controlled win rate of a contest; difficulties by the number of the baseline's prompt, if they are given
    for all."""
    if made.candidate == made.against:
        return of_the_baseline(len(made.prob)).plain()
    if len(set(made.prompts)) < FEWEST or np.isnan(made.prob).all():
        return None
    gamma, gamed = None, None  # type: tuple[Any, Gamed | None]
    if asked.difficulty is not None:
        number = {key: k for k, key in enumerate(base.by)}
        values = [asked.difficulty.gamma.get(number[key]) for key in made.prompts]
        if None not in values:
            gamma, gamed = np.array(values, float), asked.difficulty.gamed
    got: LengthControlled = length_controlled(
        made.prob,
        *made.lengths,
        difficulty=gamma,
        gamed=gamed,
        clusters=made.prompts,
        draws=DRAWS,
        seed=asked.seed,
    )
    return got.plain()


def battles_of(contests: Sequence[Contest]) -> Battles:
    """All judged comparisons as battles; what failed is left out."""
    meetings = [c for c in contests if c.candidate != c.against]
    models = tuple(dict.fromkeys(name for c in meetings for name in (c.against, c.candidate)))
    rows = [
        (models.index(c.candidate), models.index(c.against), p, key)
        for c in meetings
        for p, key in zip(c.prob, c.prompts, strict=True)
        if not np.isnan(p)
    ]
    return Battles(
        models,
        np.array([row[0] for row in rows], dtype=np.intp),
        np.array([row[1] for row in rows], dtype=np.intp),
        np.array([row[2] for row in rows], float),
        np.ones(len(rows)),
        [row[3] for row in rows],
    )


def population(names: Sequence[str], contests: Sequence[Contest], *, seed: int = 0) -> dict[str, Any] | None:
    """The game of all participants: mean win rates, von Neumann winner, exploitability of each and of the uniform
    mixture. None without a prompt on which everybody met everybody, or with fewer than 4."""
    shared = set.intersection(*(set(c.prompts) for c in contests))
    order = [key for key in dict.fromkeys(contests[0].prompts) if key in shared]
    number = {key: k for k, key in enumerate(order)}
    count = len(names)
    wins = np.full((len(order), count, count), np.nan)
    wins[:, np.arange(count), np.arange(count)] = 0.5
    for c in contests:
        a, b = names.index(c.candidate), names.index(c.against)
        total, seen = np.zeros(len(order)), np.zeros(len(order))
        for p, key in zip(c.prob, c.prompts, strict=True):
            if key in number:
                total[number[key]] += p
                seen[number[key]] += 1
        wins[:, a, b] = total / seen
        wins[:, b, a] = 1 - wins[:, a, b]
    whole = wins[~np.isnan(wins).any(axis=(1, 2))]
    if len(whole) < 4:
        return None
    mean = whole.mean(axis=0)
    winner, circles = cycles(mean)
    mixtures = {name: np.eye(count)[k] for k, name in enumerate(names)} | {
        "uniform mixture": np.full(count, 1 / count)
    }
    return {
        "models": list(names),
        "win_rates": mean.tolist(),
        "prompts": len(whole),
        "nash": dict(zip(names, nash(mean).tolist(), strict=True)),
        "condorcet_winner": winner,
        "cyclic_triples": circles,
        "exploitability": {
            name: (found := exploitability(whole, mixture, seed=seed)).plain()
            | {"exploiter": names[found.exploiter]}
            for name, mixture in mixtures.items()
        },
    }


def _finished(found: Answers) -> dict[str, Any]:
    known = [(key, a.finished) for key, group in found.by.items() for a in group if a.finished is not None]
    tokens = [
        (key, float(a.tokens)) for key, group in found.by.items() for a in group if a.tokens is not None
    ]
    return {
        "finished": clustered_share([float(f) for _, f in known], [k for k, _ in known]) if known else None,
        "tokens": clustered_mean([t for _, t in tokens], [k for k, _ in tokens]) if tokens else None,
    }


def _judge_figures(oracle: Oracle) -> dict[str, Any]:
    """What the oracle was asked, and how often its two orders prefer the same answer."""
    inner = unwrapped(oracle)
    if not isinstance(inner, Asking):
        return {}
    account = inner.account
    both = account.compared
    agree = (
        clustered_share([1.0] * (both - account.disagreed) + [0.0] * account.disagreed, range(both))
        if both
        else None
    )
    return {
        "answered": account.answered,
        "stored": account.stored,
        "failed": account.failed,
        "cost": account.cost,
        "orders_agree": agree,
    }


def oracle_accuracy(oracle: Oracle, pairs: Dataset) -> dict[str, Any]:
    """Accuracy of an oracle on recorded pairs: share in which it gives the preferred answer more than one half."""
    contexts = [oracle_context(r.context, r.tools, r.template_kwargs) for r in pairs.records]
    first, second = ([r.candidates[k].text for r in pairs.records] for k in (0, 1))
    prob = oracle.compare(contexts, first, second).double().numpy()
    fine = ~np.isnan(prob)
    right = (prob > 0.5) + 0.5 * (prob == 0.5)
    groups = [r.group for r, keep in zip(pairs.records, fine, strict=True) if keep]
    return {
        "accuracy": clustered_share(right[fine], groups) if fine.any() else None,
        "failed": int((~fine).sum()),
        "pairs": len(prob),
    }


def annotations_of(made: Contest, base: Answers, annotator: str) -> Annotations | None:
    """A contest as AlpacaEval annotations; None for prompts of several turns or several answers to one."""
    tasks = [instruction_of(base.contexts[key]) for key in made.prompts]
    if None in tasks or len(set(made.prompts)) < len(made.prompts):
        return None
    return Annotations(
        made.candidate,
        made.against,
        annotator,
        tuple(map(str, tasks)),
        tuple(theirs for _, theirs in made.texts),
        tuple(own for own, _ in made.texts),
        made.prob,
    )
