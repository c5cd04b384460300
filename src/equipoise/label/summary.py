"""Win rates of systems; agreement of raters (Cohen's kappa), of one with themselves, with recorded labels, a judge."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from equipoise.evaluate import Interval, clustered_share, wilson
from equipoise.evaluate.oracle_check.agreement import cohen_kappa
from equipoise.label.errors import LabelError
from equipoise.label.pairs import Pair
from equipoise.label.votes import CHOICES, Vote, Votes
from equipoise.oracles.protocol import Oracle


@dataclass
class Joined(Votes):
    """The votes of one or several files. totals: rater -> how many questions they are asked."""

    totals: dict[str, int] = field(default_factory=dict)


def joined(files: Sequence[Path]) -> Joined:
    """The votes of several files as one; equal pairs are one pair, whichever of their answers a file has first.

    A rater of whom two files speak is two raters. Raises LabelError as `Votes.read` does, and without any vote.
    """
    whole = Joined(files[0])
    for path in files:
        votes = Votes.read(path)
        for key, pair in votes.pairs.items():
            whole.pairs.setdefault(key, pair)
        for rater, cast in votes.cast.items():
            name = f"{rater} ({path})" if rater in whole.cast else rater
            whole.totals[name] = votes.total
            for vote in cast:
                turned = votes.pairs[vote.pair].answers != whole.pairs[vote.pair].answers
                whole.cast[name].append(replace(vote, rater=name, left=vote.left ^ turned))
    if not any(whole.cast.values()):
        raise LabelError(f"{', '.join(map(str, files))}: there are no answers yet")
    return whole


def label_of(cast: Sequence[Vote]) -> float | None:
    """One rater's P(first beats second) of a pair: the mean of their answers that say it; None if none does."""
    values = [vote.value for vote in cast if vote.value is not None]
    return sum(values) / len(values) if values else None


def labels(votes: Votes) -> dict[str, list[float]]:
    """pair -> each rater's label; pairs without any verdict are left out."""
    found: dict[str, list[float]] = defaultdict(list)
    for cast in votes.cast.values():
        for key, own in _by_pair(cast).items():
            label = label_of(own)
            if label is not None:
                found[key].append(label)
    return {key: found[key] for key in votes.pairs if key in found}


def means(votes: Votes) -> dict[str, float]:
    """pair -> mean of the raters' labels."""
    return {key: sum(values) / len(values) for key, values in labels(votes).items()}


def summary(votes: Joined, oracle: Oracle | None = None) -> dict[str, Any]:
    """All figures as plain data. oracle: it is asked about the labelled pairs."""
    label = means(votes)
    figures: dict[str, Any] = {
        "pairs": len(votes.pairs),
        "labelled": len(label),
        "raters": [_rater(votes, name) for name, cast in votes.cast.items() if cast],
        "between_raters": between_raters(votes),
        "systems": win_rates(votes),
    }
    recorded = {key: pair.recorded for key, pair in votes.pairs.items() if pair.recorded is not None}
    if recorded:
        figures["recorded"] = agreement(votes.pairs, label, recorded)
    if oracle is not None:
        pairs = [votes.pairs[key] for key in label]
        first, second = ([pair.texts[side] for pair in pairs] for side in (0, 1))
        answers = oracle.compare([pair.prompt for pair in pairs], first, second).tolist()
        verdicts = {key: p for key, p in zip(label, answers, strict=True) if not math.isnan(p)}
        figures["oracle"] = {"name": oracle.name, **agreement(votes.pairs, label, verdicts)}
    return figures


def win_rates(votes: Votes) -> list[dict[str, Any]]:
    """How often one system's answer is preferred to another's, ties counted half: a mean over pairs.

    The interval treats each prompt as one draw (`clustered_share`). Pairs without two named systems are left out.
    """
    label = means(votes)
    met: dict[tuple[str, str], list[tuple[float, str]]] = defaultdict(list)
    for key, prob in label.items():
        pair = votes.pairs[key]
        first, second = pair.systems
        if first is None or second is None or first == second:
            continue
        if (second, first) in met:
            met[second, first].append((1 - prob, pair.group))
        else:
            met[first, second].append((prob, pair.group))
    return [
        {"first": first, "second": second, "win_rate": _share(values)}
        for (first, second), values in met.items()
    ]


def between_raters(votes: Votes) -> list[dict[str, Any]]:
    """Cohen's kappa of every two raters over the pairs that both answered.

    Answers are first, second, tie or both bad, a rater's first one to a pair (`oracle_check.agreement.cohen_kappa`).
    None where chance alone agrees always, or without common pairs. Skipped pairs are not answered.
    """
    said = {name: _first_said(cast) for name, cast in votes.cast.items() if cast}
    found = []
    for one, other in combinations(said, 2):
        both = [(said[one][key], said[other][key]) for key in said[one] if key in said[other]]
        found.append({"raters": [one, other], "pairs": len(both), **cohen(both)})
    return found


def cohen(both: Sequence[tuple[Hashable, Hashable]]) -> dict[str, float | None]:
    """{"agree", "kappa"} of two raters' answers to the same questions; None where they are not defined."""
    if not both:
        return {"agree": None, "kappa": None}
    code: dict[Hashable, int] = {}
    one, other = np.array([[code.setdefault(said, len(code)) for said in pair] for pair in both], float).T
    kappa = cohen_kappa(one, other)
    return {"agree": float((one == other).mean()), "kappa": None if math.isnan(kappa) else kappa}


def agreement(
    pairs: Mapping[str, Pair], label: Mapping[str, float], other: Mapping[str, float]
) -> dict[str, Any]:
    """Share of pairs on which people and another source prefer the same answer, of those on which both prefer one.

    label, other   pair -> P(first beats second)
    """
    both = [key for key in label if key in other]
    decided = [key for key in both if 0.5 not in (label[key], other[key])]
    same = [(float((label[key] > 0.5) == (other[key] > 0.5)), pairs[key].group) for key in decided]
    return {"agree": _share(same), "ties": len(both) - len(decided), "without": len(label) - len(both)}


def _rater(votes: Joined, name: str) -> dict[str, Any]:
    cast = votes.cast[name]
    pressed = Counter(vote.choice for vote in cast)
    sides = pressed["a"] + pressed["b"]
    return {
        "name": name,
        "answered": len(cast),
        "of": votes.totals[name],
        **{choice: pressed[choice] for choice in CHOICES},
        "left": wilson(pressed["a"], sides) if sides else None,
        "self_agreement": _self_agreement(votes, cast),
    }


def _self_agreement(votes: Votes, cast: Sequence[Vote]) -> Interval | None:
    """Share of repeated pairs that got the same answer twice, of those that were answered twice."""
    same = []
    for key, own in _by_pair(cast).items():
        said = [_said(vote) for vote in own if vote.choice != "skip"]
        same += [(float(again == said[0]), votes.pairs[key].group) for again in said[1:]]
    return _share(same)


def _share(values: Sequence[tuple[float, str]]) -> Interval | None:
    return clustered_share([v for v, _ in values], [group for _, group in values]) if values else None


def _by_pair(cast: Sequence[Vote]) -> dict[str, list[Vote]]:
    found: dict[str, list[Vote]] = defaultdict(list)
    for vote in cast:
        found[vote.pair].append(vote)
    return found


def _first_said(cast: Sequence[Vote]) -> dict[str, Hashable]:
    said: dict[str, Hashable] = {}
    for vote in cast:
        if vote.choice != "skip":
            said.setdefault(vote.pair, _said(vote))
    return said


def _said(vote: Vote) -> Hashable:
    """What was said of the pair, whichever side its answers stood on."""
    return vote.choice if vote.value is None else vote.value
