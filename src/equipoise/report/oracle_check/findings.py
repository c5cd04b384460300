"""What the figures of an oracle check say, in plain words, each with how serious it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from equipoise.report.estimates import number, share
from equipoise.report.findings import Finding, Level, ordered
from equipoise.report.oracle_check.run import Report

MANY_FAILURES = 0.05
MUCH_POSITION = 0.10  # share of comparisons that the place decides
SMALL = 0.01  # of a temperature
SHOWN = 4  # properties named in a sentence


def findings(report: Report) -> list[Finding]:
    """The findings on the checked oracle, the most serious first."""
    oracle = report.first
    found = [
        *_accuracy(oracle["accuracy"], oracle["asked"]),
        *_order(oracle["order"]),
        *_length(oracle["length"]),
        *_calibration(oracle["calibration"]),
        *_cycles(oracle["cycles"]),
        *_models(oracle["transitivity"]),
        *_twice(oracle["self_agreement"]),
        *_properties(report.figures["dissection"], oracle["name"]),
        *_data(report.figures["data"]),
    ]
    return ordered(found)


def _accuracy(a: Mapping[str, Any], asked: Mapping[str, Any]) -> Iterator[Finding]:
    if a["failed"]:
        reasons: Mapping[str, int] = asked.get("reasons", {})
        why = f" Most often: {max(reasons, key=lambda reason: reasons[reason])}." if reasons else ""
        part = a["failed"] / a["comparisons"]
        level: Level = "warning" if part > MANY_FAILURES else "note"
        yield Finding(
            level,
            "Questions without a verdict",
            f"{a['failed']:,} of {a['comparisons']:,} comparisons have none; accuracy counts them as wrong "
            f"({share(a['answered'])} where it answered).{why}",
        )
    found = a["accuracy"]
    if found is None:
        yield Finding("note", "No accuracy", "Every label is a tie.")
    elif found["low"] is None:
        yield Finding("note", "Accuracy", f"{share(found)}; one prompt gives no interval.")
    elif found["high"] < 0.5:
        yield Finding(
            "warning",
            "Worse than a coin",
            f"Accuracy {share(found)}: it prefers the side that labels reject.",
        )
    elif found["low"] <= 0.5:
        yield Finding(
            "warning", "No better than a coin, as far as these data tell", f"Accuracy {share(found)}."
        )
    else:
        yield Finding("good", "Better than a coin", f"Accuracy {share(found)}.")


def _order(o: Mapping[str, Any]) -> Iterator[Finding]:
    if o["symmetric"]:
        yield Finding(
            "good", "The order of the answers does not matter", "P(1,2) + P(2,1) = 1 on every comparison."
        )
        return
    bias = o["bias"]
    favoured = bias["low"] is not None and (bias["low"] > 0 or bias["high"] < 0)
    place = (
        f"the {'first' if bias['value'] > 0 else 'second'} place is"
        if favoured
        else "neither place is clearly"
    )
    low = o["position"]["low"]
    much = (o["position"]["value"] if low is None else low) > MUCH_POSITION
    yield Finding(
        "warning" if much else "note",
        f"The order matters: {place} favoured",
        f"In {share(o['position'])} of the comparisons each order prefers the answer in the same place; order bias "
        f"{number(o['bias'], 3)}. Ask in both orders and average.",
    )


def _length(w: Mapping[str, Any]) -> Iterator[Finding]:
    excess = w["excess"]
    if excess is None or excess["low"] is None:
        if w["longer_wins"] is not None:
            yield Finding(
                "note",
                "Length decides without exception, or cannot be told",
                f"The longer answer wins {share(w['longer_wins'])}; in the labels {share(w['longer_wins_label'])}.",
            )
        return
    weights = f"{number(w['oracle'], 2)} logits, the labels {number(w['label'], 2)}"
    beside = f"Length weight {weights}; difference {number(excess, 2)}."
    if excess["low"] > 0:
        yield Finding("warning", "Rewards length more than the labels do", beside)
    elif excess["high"] < 0:
        yield Finding("note", "Rewards length less than the labels do", beside)
    else:
        yield Finding("good", "Treats length as the labels do, as far as these data tell", beside)


def _calibration(c: Mapping[str, Any]) -> Iterator[Finding]:
    noise = f"noise alone gives {c['ece_of_noise']:.3f}"
    figures = f"ECE {c['ece']:.3f} ({noise}), log-loss {number(c['log_loss'], 3)} nats"
    sharpness, temperature = c["sharpness"], c["temperature"]
    if sharpness is None or sharpness["low"] is None:
        yield Finding("note", "Calibration", f"{figures}; no temperature fits.")
    elif temperature is None:
        yield Finding(
            "warning", "Its confidence misleads", f"{figures}; the surer it is, the less the labels agree."
        )
    elif sharpness["high"] < 1 - SMALL:
        cooled = c["log_loss_cooled"]
        mended = f"; held-out log-loss at that temperature {number(cooled, 3)}" if cooled else ""
        yield Finding(
            "note", "Too sure of itself", f"{figures}; divide its logits by {number(temperature, 2)}{mended}."
        )
    elif sharpness["low"] > 1 + SMALL:
        yield Finding(
            "note", "Less sure than it could be", f"{figures}; temperature {number(temperature, 2)}."
        )
    else:
        yield Finding(
            "good",
            "Calibrated, as far as these data tell",
            f"{figures}; temperature {number(temperature, 2)}.",
        )


def _cycles(c: Mapping[str, Any] | None) -> Iterator[Finding]:
    if c is None or c["cyclic"] is None:
        return
    own = c["expected"]["own"]
    yield Finding(
        "note" if c["cycles"] else "good",
        "Cycles" if c["cycles"] else "No cycles",
        f"{c['cycles']:,} of {c['triples']:,} decided triples are cyclic ({share(c['cyclic'])}); verdicts drawn by "
        f"its own probabilities would give {100 * own:.1f} %, coins 25 %.",
    )


def _models(t: Mapping[str, Any] | None) -> Iterator[Finding]:
    if t is None:
        return
    gain = t["gain"]["general"]
    loss = number(t["log_loss"]["bradley_terry"], 3)
    told = f"held-out log-loss {loss}; gain of the general model {number(gain, 4)} ({t['players']})."
    if gain["low"] is not None and gain["low"] > 0:
        yield Finding("note", "One score per answer is not enough", f"Bradley-Terry's {told}")
    else:
        yield Finding("good", "One score per answer does as well", f"Bradley-Terry's {told}")


def _twice(s: Mapping[str, Any] | None) -> Iterator[Finding]:
    if s:
        level: Level = "good" if s["same"]["value"] == 1 else "note"
        yield Finding(
            level,
            "Asked twice",
            f"The same side in {share(s['same'])} of {s['asked'] - s['failed']:,} questions.",
        )


def _properties(found: Mapping[str, Any] | None, name: str) -> Iterator[Finding]:
    rater = (found or {"raters": {}})["raters"].get(name)
    if not found or not rater:
        return
    sure = [f for f in range(len(rater["mean"])) if rater["low"][f] > 0 or rater["high"][f] < 0]
    first = sorted(sure, key=lambda f: -abs(rater["mean"][f]))[:SHOWN]
    said = ", ".join(f"{found['properties'][f]} {rater['mean'][f]:+.2f}" for f in first)
    held = share(rater["held_out"])
    text = f"{said} (logits)." if said else "No property has a weight that is surely above or below 0."
    yield Finding(
        "note", "What it rewards", f"{text} Properties alone predict {held} of its verdicts on new prompts."
    )


def _data(d: Mapping[str, Any]) -> Iterator[Finding]:
    if d["left_out"]:
        listed = "; ".join(f"{count:,}: {why}" for why, count in d["left_out"].items())
        yield Finding("note", "Comparisons left out", f"{listed}.")
