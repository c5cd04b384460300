"""Tables of a diagnosis, shared by the terminal and the page: plain strings, not yet escaped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from equipoise.report.estimates import number, share
from equipoise.report.sheet import Sheet

Figures = Mapping[str, Any]


def sheets(figures: Figures) -> list[Sheet]:
    """The tables that have something to say."""
    found = [_ranking(figures), _similarity(figures)]
    for name, table in (
        ("entanglement", _entanglement),
        ("displacement", _displacement),
        ("tokens", _tokens),
        ("samples", _samples),
    ):
        if name in figures:
            found.append(table(figures[name]))
    return [sheet for sheet in found if sheet.rows]


def _ranking(figures: Figures) -> Sheet:
    found, ideal = figures["ranking"], figures["ranking"]["ideal"]
    rows = [("model before training", share(found["reference"]))]
    if "trained" in found:
        rows.append(("trained model", share(found["trained"])))
    rows += [(f"exact optimum, beta = {beta}", share(one)) for beta, one in ideal.items()]
    rows.append((f"out of reach, beta = {figures['beta']:g}", share(found["out_of_reach"])))
    return Sheet("Ranking accuracy", ("preferred response is the likelier one", "pairs"), rows)


def _similarity(figures: Figures) -> Sheet:
    found = figures["similarity"]
    columns = ("hidden similarity (CHES) before training", "5 %", "25 %", "median", "75 %", "95 %")
    rows = [
        (name, *(f"{x:.3g}" for x in found[key]))
        for name, key in (("per token", "normalised"), ("summed", "summed"))
    ]
    note = "Quantiles over pairs. The larger, the likelier a pair's preferred response loses probability."
    return Sheet("Likely to be displaced", columns, rows, note)


def _entanglement(found: Figures) -> Sheet:
    rows = [
        ("cosine of both gradients", number(found["cosine"], 2)),
        ("a step raises the preferred, lowers the other", share(found["apart"])),
        ("a step lowers both", share(found["both_fall"])),
        ("a step raises both", share(found["both_rise"])),
    ]
    return Sheet("Gradient entanglement before training", ("", f"{found['pairs']} pairs"), rows)


def _displacement(found: Figures) -> Sheet:
    rows = [
        ("change of the preferred response, nats", number(found["chosen"], 2)),
        ("change of the other response, nats", number(found["rejected"], 2)),
        ("change of the margin, nats", number(found["margin"], 2)),
        ("preferred response fell", share(found["chosen_fell"])),
        ("… while the margin rose", share(found["displaced"])),
        ("rank correlation with CHES", number(found["rank_correlation"], 2)),
    ]
    return Sheet("What training moved", ("", "pairs"), rows)


def _tokens(found: Figures) -> Sheet:
    gained, lost = found["gained"], found["lost"]
    rows = []
    for place in range(max(len(gained), len(lost))):
        cells = []
        for side in (gained, lost):
            one = side[place] if place < len(side) else None
            cells += ["", ""] if one is None else [repr(one["token"]), f"{100 * one['change']:+.2f} %"]
        rows.append(tuple(cells))
    return Sheet(
        "Tokens that gained and lost at the preferred responses",
        ("gained", "", "lost", ""),
        rows,
        "Mean change of the next-token probability over the places of preferred responses.",
    )


def _samples(found: Figures) -> Sheet:
    kl, coverage = found["kl"], found["coverage"]
    rows = [
        ("KL, unbiased (k1), nats", number(kl["k1"], 3)),
        ("KL, unbiased and never negative (k3), nats", number(kl["k3"], 3)),
        ("KL, biased (k2), nats", number(kl["k2"], 3)),
        ("largest log-ratio of an answer, nats", f"{coverage['largest']:.2f}"),
        ("99 % quantile, nats", f"{coverage['high']:.2f}"),
        ("earlier model's answers: change, nats", number(found["unseen"], 2)),
        ("earlier model's answers: effective number", f"{found['effective']:.1f} of {found['answers']:,}"),
    ]
    return Sheet("Answers of both models", ("", f"{found['answers']:,} answers each"), rows)
