"""Evaluation of language models against each other: is it better, by how much, and how sure is that?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from equipoise.core.intervals import POSITIVE, clustered_mean, clustered_share
from equipoise.data.reading.read import Dataset
from equipoise.data.records import oracle_context
from equipoise.evaluate import diversity
from equipoise.evaluate.answers import Answers, instruction_of
from equipoise.evaluate.arena.bradley_terry import rated
from equipoise.evaluate.collect import Request, collect
from equipoise.evaluate.contest import Contest, contest, rewards
from equipoise.evaluate.length_control import Gamed, LengthControlled, length_controlled
from equipoise.evaluate.located import Located
from equipoise.evaluate.population import battles_of, population
from equipoise.evaluate.suites.alpaca_eval import Annotations
from equipoise.oracles.account import Account, Accounted
from equipoise.oracles.protocol import Oracle, parts_that
from equipoise.oracles.questions.asking import Asking

DRAWS = 200  # bootstrap resamples
FEWEST = 5  # prompts, for length control


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
    answers, own = collect(asked, everyone)
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
    if (
        asked.oracle is not None and len(answers) == 1
    ):  # a verdict on equal answers says nothing, and may cost money
        result["notes"].append(
            f"{base.name} meets nobody: name a second participant, or --baseline, for a win rate"
        )
    elif asked.oracle is not None:
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
    if len(set(made.prompts)) < FEWEST or np.isnan(made.prob).all():
        return None
    gamma: Any = None
    gamed: Gamed | None = None
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


def _finished(found: Answers) -> dict[str, Any]:
    known = [(key, a.finished) for key, group in found.by.items() for a in group if a.finished is not None]
    tokens = [
        (key, float(a.tokens)) for key, group in found.by.items() for a in group if a.tokens is not None
    ]
    return {
        "finished": clustered_share([float(f) for _, f in known], [k for k, _ in known]) if known else None,
        "tokens": clustered_mean([t for _, t in tokens], [k for k, _ in tokens], bounds=POSITIVE)
        if tokens
        else None,
    }


def _judge_figures(oracle: Oracle) -> dict[str, Any]:
    """What the oracle was asked, how often its two orders prefer the same answer, and why verdicts are missing."""
    account = Account.total(part.account for part in parts_that(oracle, Accounted))
    reasons = {"reasons": account.reasons} if account.reasons else {}
    if not any(parts_that(oracle, Asking)):
        return {"failed": account.failed} | reasons if account.failed else {}
    both = account.compared
    votes = [1.0] * (both - account.disagreed) + [0.0] * account.disagreed
    agree = clustered_share(votes, range(both)) if both else None
    return {
        "answered": account.answered,
        "stored": account.stored,
        "failed": account.failed,
        "cost": account.cost,
        "orders_agree": agree,
    } | reasons


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
