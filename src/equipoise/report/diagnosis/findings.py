"""What the figures of a diagnosis say, in plain words. Every rule names the fewest pairs that it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from equipoise.report.estimates import number, share
from equipoise.report.findings import Finding, ordered

FEWEST_PAIRS = 20  # of which a share or a mean is judged
FEWEST_GRADIENTS = 10  # pairs whose gradients are judged
MOVED = 0.1  # nats: exp(-0.1) is a tenth less likely; smaller falls are within what any fine-tuning does
MANY = 0.25  # of the pairs
OUT_OF_REACH = 0.05  # of the pairs
OVERCONFIDENT = 0.05  # calibration error beyond that of noise
EFFECTIVE = 0.1  # of the samples

Figures = Mapping[str, Any]


def findings(figures: Figures) -> list[Finding]:
    """All findings, the most serious first."""
    return ordered(found for rule in RULES for found in rule(figures))


def displacement(figures: Figures) -> Iterator[Finding]:
    """Likelihood displacement: the interval of the preferred responses' change lies below -MOVED, the margin rose."""
    moved = figures.get("displacement")
    if moved is None:
        return
    if figures["pairs"] < FEWEST_PAIRS:
        yield _too_few(figures, "likelihood displacement")
        return
    better, margin = moved["chosen"], moved["margin"]
    fell = better["high"] is not None and better["high"] < -MOVED
    if fell and margin["value"] > 0:
        gained = ", ".join(repr(one["token"]) for one in figures["tokens"]["gained"][:4])
        yield Finding(
            "warning",
            "Likelihood displacement",
            f"The log-probability of preferred responses fell by {number(_negative(better), 2)} nats while the margin "
            f"rose by {number(margin, 2)}; in {share(moved['displaced'])} of the pairs both happened. At the preferred "
            f"responses these tokens gained most: {gained or 'none'}.",
        )
    elif better["low"] is not None and better["low"] > -MOVED:
        yield Finding(
            "good",
            "No likelihood displacement",
            f"The log-probability of preferred responses moved by {number(better, 2)} nats.",
        )
    else:
        yield Finding(
            "note",
            "Likelihood displacement is undecided",
            f"The log-probability of preferred responses moved by {number(better, 2)} nats; the interval includes "
            f"-{MOVED:g}.",
        )


def similarity(figures: Figures) -> Iterator[Finding]:
    """CHES and what it foretold: the rank correlation of a pair's score with the change of its preferred response."""
    moved = figures.get("displacement")
    if moved is None or figures["pairs"] < FEWEST_PAIRS:
        return
    found = moved["rank_correlation"]
    if found is not None and found["high"] is not None and found["high"] < 0:
        yield Finding(
            "note",
            "Similar pairs lost more",
            f"The higher a pair's hidden similarity (CHES) before training, the more its preferred response lost: rank "
            f"correlation {number(found, 2)}. Training without the most similar pairs (--keep) displaces less.",
        )


def entanglement(figures: Figures) -> Iterator[Finding]:
    """Both log-probs fall under one step: the lower end of their share is above MANY."""
    found = figures.get("entanglement")
    if found is None or found["pairs"] < FEWEST_GRADIENTS:
        return
    both = found["both_fall"]
    if both["low"] is not None and both["low"] > MANY:
        yield Finding(
            "warning",
            "One step lowers both responses",
            f"In {share(both)} of {found['pairs']} pairs the gradients of both log-probabilities share so much that a "
            "step on a margin loss such as DPO's lowers the preferred response too. A term on the preferred response "
            "(rpo, sft weight), or pairs that differ more, keep it up.",
        )
    elif found["apart"]["low"] is not None and found["apart"]["low"] > 1 - MANY:
        yield Finding(
            "good",
            "One step moves the responses apart",
            f"In {share(found['apart'])} of {found['pairs']} pairs a step on a margin loss raises the preferred "
            "response and lowers the other.",
        )


def reach(figures: Figures) -> Iterator[Finding]:
    """Pairs that training will leave in the wrong order at this beta."""
    if figures["pairs"] < FEWEST_PAIRS:
        return
    out = figures["ranking"]["out_of_reach"]
    if out["value"] > OUT_OF_REACH:
        yield Finding(
            "note",
            "Some pairs will stay in the wrong order",
            f"Of {share(out)} of the pairs the model prefers the other response by so much that DPO with beta = "
            f"{figures['beta']:g} ranks them right only at a loss below 0.01. A smaller beta, or more training on the "
            "preferred responses first, brings them within reach.",
        )


def ranking(figures: Figures) -> Iterator[Finding]:
    """The gap between what exact training would reach and what was reached."""
    found = figures["ranking"]
    trained = found.get("trained")
    if trained is None or figures["pairs"] < FEWEST_PAIRS:
        return
    gap = found["ideal_at_beta"]["value"] - trained["value"]
    short = trained["high"] is not None and found["ideal_at_beta"]["value"] > trained["high"]
    yield Finding(
        "note" if short else "good",
        "Ranking accuracy and what is possible",
        f"The trained model makes the preferred response the likelier one in {share(trained)} of the pairs, the model "
        f"before in {share(found['reference'])}. The exact optimum at beta = {figures['beta']:g} would in "
        f"{share(found['ideal_at_beta'])}: a gap of {100 * gap:.1f} points.",
    )


def calibration(figures: Figures) -> Iterator[Finding]:
    """Calibration of the implicit reward beyond what noise explains."""
    found = figures.get("calibration")
    if found is None or figures["pairs"] < FEWEST_PAIRS:
        return
    if found["ece"] > found["ece_of_noise"] + OVERCONFIDENT:
        yield Finding(
            "note",
            "The implicit reward is not calibrated",
            f"Its probabilities differ from how often they are right by {found['ece']:.3f} on average (noise alone: "
            f"{found['ece_of_noise']:.3f}), at an accuracy of {share(found['accuracy'])}.",
        )


def coverage(figures: Figures) -> Iterator[Finding]:
    """The reference hardly writes what the trained policy writes."""
    found = figures.get("samples")
    if found is None or found["answers"] < FEWEST_PAIRS:
        return
    part = found["effective"] / found["answers"]
    if part < EFFECTIVE:
        yield Finding(
            "warning",
            "The model before training hardly covers the trained one",
            f"Of {found['answers']:,} answers of the model before training {found['effective']:.1f} count as samples "
            f"of the trained one; one of its own answers is {found['coverage']['largest']:.1f} nats likelier "
            "than it was. What data or a judge said about the earlier answers says little about these.",
        )


RULES: tuple[Callable[[Figures], Iterator[Finding]], ...] = (
    displacement,
    similarity,
    entanglement,
    reach,
    ranking,
    calibration,
    coverage,
)


def _negative(found: Mapping[str, Any]) -> dict[str, Any]:
    low, high = found["low"], found["high"]
    return {
        "value": -found["value"],
        "low": None if high is None else -high,
        "high": None if low is None else -low,
    }


def _too_few(figures: Figures, what: str) -> Finding:
    return Finding(
        "note",
        "Too few pairs",
        f"{figures['pairs']} pairs are too few to judge {what}; give at least {FEWEST_PAIRS}.",
    )
