"""Tables of an oracle check, shared by the terminal and the page: plain strings, not yet escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from equipoise.report.estimates import NOTHING, number, share
from equipoise.report.oracle_check.run import Report
from equipoise.report.sheet import Sheet


def sheets(report: Report) -> list[Sheet]:
    """The tables that have something to say."""
    found = [_oracles(report.figures["oracles"])]
    found += [_cycles(report.figures), _models(report.figures), _agreement(report.figures["agreement"])]
    found.append(_dissection(report.figures["dissection"]))
    return [sheet for sheet in found if sheet.rows]


def _oracles(oracles: Sequence[Mapping[str, Any]]) -> Sheet:
    lines: list[tuple[str, Any]] = [
        ("accuracy (ties half, no verdict wrong)", lambda o: share(o["accuracy"]["accuracy"])),
        ("accuracy where it answered", lambda o: share(o["accuracy"]["answered"])),
        ("accuracy, its ties wrong", lambda o: share(o["accuracy"]["strict"])),
        ("agrees with one more annotator", lambda o: share(o["accuracy"]["expected"])),
        ("without a verdict", lambda o: f"{o['accuracy']['failed']:,} of {o['accuracy']['comparisons']:,}"),
        (
            "ties where the label decides",
            lambda o: share(o["accuracy"]["ties"]["oracle_where_label_decides"]),
        ),
        ("order bias E[P(1,2) + P(2,1) - 1]", lambda o: number(o["order"]["bias"], 3)),
        ("the place decides", lambda o: share(o["order"]["position"])),
        ("… the first place, the second", lambda o: f"{o['order']['first']:,}, {o['order']['second']:,}"),
        ("both orders agree", lambda o: share(o["order"]["consistent"])),
        ("length weight (logits)", lambda o: number(o["length"]["oracle"], 2)),
        ("… of the labels", lambda o: number(o["length"]["label"], 2)),
        ("… difference", lambda o: number(o["length"]["excess"], 2)),
        ("prefers the longer answer", lambda o: share(o["length"]["longer_wins"])),
        ("… the labels", lambda o: share(o["length"]["longer_wins_label"])),
        (
            "ECE (of noise alone)",
            lambda o: f"{o['calibration']['ece']:.3f} ({o['calibration']['ece_of_noise']:.3f})",
        ),
        ("Brier score", lambda o: number(o["calibration"]["brier"], 3)),
        ("log-loss, nats", lambda o: number(o["calibration"]["log_loss"], 3)),
        ("… at a fitted temperature, held out", lambda o: number(o["calibration"]["log_loss_cooled"], 3)),
        ("temperature", lambda o: number(o["calibration"]["temperature"], 2)),
        ("same answer when asked twice", lambda o: share((o["self_agreement"] or {}).get("same"))),
    ]
    rows = [(name, *(of(oracle) for oracle in oracles)) for name, of in lines]
    said = [row for row in rows if set(row[1:]) != {NOTHING}]
    return Sheet("Oracles", ("", *(oracle["name"] for oracle in oracles)), said)


def _cycles(figures: Mapping[str, Any]) -> Sheet:
    named = [("labels", figures["labels"]["cycles"])]
    for oracle in figures["oracles"]:
        named.append((oracle["name"], oracle["cycles"]))
        if not oracle["order"]["symmetric"]:
            named.append((f"{oracle['name']}, asked in one order", oracle["cycles_in_one_order"]))
    rows = [
        (
            name,
            f"{c['cycles']:,} of {c['triples']:,}",
            share(c["cyclic"]),
            *(
                NOTHING if c["expected"][key] is None else f"{100 * c['expected'][key]:.1f} %"
                for key in ("own", "flips", "coin")
            ),
            f"{c['tied']:,}, {c['failed']:,}",
        )
        for name, c in named
        if c
    ]
    columns = (
        "",
        "cycles",
        "share",
        "by its own probabilities",
        "by flipped verdicts",
        "by coins",
        "left out: ties, failed",
    )
    return Sheet("Cyclic triples among three answers to a prompt", columns, rows)


def _models(figures: Mapping[str, Any]) -> Sheet:
    named = [("labels", figures["labels"]["transitivity"])]
    named += [(oracle["name"], oracle["transitivity"]) for oracle in figures["oracles"]]
    rows = [
        (
            name,
            f"{t['n']:,} ({t['left_out']:,} left out)",
            number(t["log_loss"]["bradley_terry"], 3),
            number(t["gain"]["general"], 4),
            number(t["gain"].get("table"), 4),
        )
        for name, t in named
        if t
    ]
    players = next((t["players"] for _, t in named if t), "")
    columns = ("", "held out", "log-loss, Bradley-Terry", "gain: general model", "gain: table of pairs")
    return Sheet(f"One score per player, or not ({players})", columns, rows)


def _agreement(agreement: Mapping[str, Any]) -> Sheet:
    rows = [
        (
            f"{p['one']} – {p['two']}",
            f"{p['n']:,}",
            share(p["same"]),
            number(p["kappa"], 2),
            number(p["correlation"], 2),
        )
        for p in agreement["pairs"]
    ]
    if agreement["alpha"]:
        rows.append(("all: Krippendorff's alpha", "", "", number(agreement["alpha"], 2), ""))
    return Sheet("Agreement", ("", "comparisons", "same side", "Cohen's kappa", "correlation"), rows)


def _dissection(found: Mapping[str, Any] | None) -> Sheet:
    if not found:
        return Sheet("", (), [])
    raters = found["raters"]
    order = sorted(
        range(len(found["properties"])),
        key=lambda f: -max(abs(rater["mean"][f]) for rater in raters.values()),
    )
    rows = [
        (
            found["properties"][f],
            f"{100 * found['differs'][f]:.0f} %",
            *(
                f"{r['mean'][f]:+.2f} ({r['low'][f]:+.2f} to {r['high'][f]:+.2f}), MAP {r['map'][f]:+.2f}"
                for r in raters.values()
            ),
        )
        for f in order
    ]
    rows.append(("predicts on new prompts", "", *(share(rater["held_out"]) for rater in raters.values())))
    return Sheet(
        "Weights of properties in the verdicts, in logits: posterior mean, 95 % credible interval, MAP short-cut",
        ("property", "differs", *raters),
        rows,
    )
