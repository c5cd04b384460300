"""Charts of what single verdicts and held-out pairs say: wins, ties and losses, margins, length against win."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from equipoise.core.intervals import clustered_share
from equipoise.report.charts.chart import Boxes, Chart, Line
from equipoise.report.numbers import percent, plain
from equipoise.report.run.records import HeldPair, Run, Verdict

BINS = 24
FEW = 5  # verdicts in a bin of lengths, below which its win rate says nothing
LENGTHS = (-np.inf, -0.5, -0.25, -0.1, 0.1, 0.25, 0.5, np.inf)  # log of the ratio of lengths
LENGTH_NAMES = (
    "under 0.6",
    "0.6 to 0.8",
    "0.8 to 0.9",
    "about equal",
    "1.1 to 1.3",
    "1.3 to 1.6",
    "over 1.6",
)


def last_round(lines: Sequence[Verdict] | Sequence[HeldPair], run: Run) -> int | None:
    """The delivered round if there are lines of it, else the last that has any; None before training."""
    rounds = {line.round for line in lines} - {0}
    if not rounds:
        return None
    return run.final.round if run.final and run.final.round in rounds else max(rounds)


def outcomes(run: Run) -> Chart | None:
    """Wins, ties and losses of every round, stacked."""
    rounds = sorted({one.round for one in run.verdicts if one.win is not None})
    if not rounds:
        return None
    shares = {round: _shares([v.win for v in run.verdicts if v.round == round]) for round in rounds}
    boxes, below = [], dict.fromkeys(rounds, 0.0)
    for name, colour in (("win", 2), ("tie", 4), ("loss", 1)):
        top = {round: below[round] + shares[round][name][0] for round in rounds}
        boxes.append(
            Boxes(
                name=name,
                left=[k - 0.4 for k in range(len(rounds))],
                right=[k + 0.4 for k in range(len(rounds))],
                bottom=[below[round] for round in rounds],
                top=[top[round] for round in rounds],
                said=[
                    f"{percent(shares[round][name][0])} ({shares[round][name][1]:,} of {shares[round][name][2]:,})"
                    for round in rounds
                ],
                colour=colour,
            )
        )
        below = top
    last = shares[rounds[-1]]
    said = ", ".join(f"{name} {percent(last[name][0])}" for name in ("win", "tie", "loss"))
    return Chart(
        name="outcomes",
        title="Wins, ties and losses",
        caption="Comparisons with the reference on held-out prompts: a win has a verdict above one half for the "
        "policy's response, a tie one half.",
        alt=f"Wins, ties and losses against the reference; after round {rounds[-1]}: {said}",
        x_label="round",
        y_label="share of comparisons",
        boxes=boxes,
        share=True,
        places=[str(round) for round in rounds],
        from_zero=True,
    )


def _shares(wins: Sequence[float | None]) -> dict[str, tuple[float, int, int]]:
    """Outcome -> (share, count, of how many)."""
    known = [win for win in wins if win is not None]
    counts = Counter("win" if win > 0.5 else "loss" if win < 0.5 else "tie" for win in known)
    return {name: (counts[name] / len(known), counts[name], len(known)) for name in ("win", "tie", "loss")}


def margins(run: Run) -> Chart | None:
    """Histogram of held-out margins after the last round."""
    round = last_round(run.held_out, run)
    values = np.array([m for h in run.held_out if h.round == round and (m := h.margin) is not None])
    if round is None or len(values) < 2:
        return None
    low, high = np.quantile(values, [0.005, 0.995])
    low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        return None
    width = (high - low) / BINS
    # 0 is an edge, so that no bar mixes pairs that moved towards and away from the preferred response
    edges = np.arange(np.floor(low / width), np.ceil(high / width) + 1) * width
    counts = np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0]
    right = edges[:-1] >= -1e-9 * width
    wins = float((values > 0).mean() + 0.5 * (values == 0).mean())

    def boxes(name: str, which: np.ndarray, colour: int) -> Boxes:
        return Boxes(
            name=name,
            left=edges[:-1][which].tolist(),
            right=edges[1:][which].tolist(),
            bottom=[0.0] * int(which.sum()),
            top=counts[which].astype(float).tolist(),
            said=[
                f"{n:,} pairs, {plain(a)} to {plain(b)} nats"
                for n, a, b in zip(counts[which], edges[:-1][which], edges[1:][which], strict=True)
            ],
            colour=colour,
        )

    return Chart(
        name="margins",
        title="Margins of held-out pairs",
        caption=f"After round {round}: how much more log-probability the preferred response gained than the other. "
        "Right of 0 the policy moved towards the preference. The outermost bars hold what lies beyond them.",
        alt=f"Histogram of the margins of {len(values):,} held-out pairs after round {round}: median "
        f"{plain(float(np.median(values)))} nats, {percent(wins)} above 0",
        x_label="margin (nats)",
        y_label="pairs",
        boxes=[boxes("away from the preference", ~right, 1), boxes("towards the preference", right, 0)],
        whole=False,
        from_zero=True,
    )


def length_and_win(run: Run) -> Chart | None:
    """Win rate by the ratio of lengths: a rise to the right says that length wins."""
    round = last_round([v for v in run.verdicts if v.win is not None], run)
    known = [
        (v.win, np.log(v.length / v.reference_length), v.prompt_index)
        for v in run.verdicts
        if v.round == round and v.win is not None and v.length and v.reference_length
    ]
    if round is None or not known:
        return None
    wins, ratio, prompts = (np.array(values) for values in zip(*known, strict=True))
    place = np.digitize(ratio, LENGTHS[1:-1])
    bins = [k for k in range(len(LENGTH_NAMES)) if (place == k).sum() >= FEW]
    if len(bins) < 2:  # responses of one length: nothing to be told apart
        return None
    rates = [clustered_share(wins[place == k], prompts[place == k]) for k in bins]
    names = [f"{LENGTH_NAMES[k]} (n = {int((place == k).sum())})" for k in bins]
    line = Line(
        name="win rate",
        x=[float(i) for i in range(len(bins))],
        y=[rate["value"] for rate in rates],
        low=[rate["low"] for rate in rates],
        high=[rate["high"] for rate in rates],
        colour=3,
    )
    said = ", ".join(f"{name}: {percent(rate['value'])}" for name, rate in zip(names, rates, strict=True))
    return Chart(
        name="length_and_win",
        title="Length against win",
        caption=f"Win rate after round {round} by the length of the policy's response relative to the reference's. A "
        "rise to the right says that longer responses win; lengths with fewer than "
        f"{FEW} comparisons are left out.",
        alt=f"Win rate by relative length of the response: {said}",
        x_label="relative length",
        y_label="win rate",
        lines=[line],
        places=names,
        level=(0.5, "equality"),
        share=True,
    )
