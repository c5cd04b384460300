"""Charts of an oracle's named scores: by round against their thresholds, and by the direction that a prompt tells."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from equipoise.report.charts.chart import Chart, Line
from equipoise.report.run.records import Estimate, Run
from equipoise.report.run.round_charts import ROUND, centre, spoken

MOST = 4  # scores that one chart can tell apart, each with its threshold


def scores(run: Run) -> Chart | None:
    """Mean of each named score on held-out prompts against the round, with its threshold if it has one."""
    lines: list[Line] = []
    limits = thresholds(run)
    for colour, name in enumerate(names(run)):
        rounds = [(float(one.round), one.scores.get(name)) for one in run.rounds]
        measured = _line(name, rounds, colour)
        if measured is None:
            continue
        lines.append(measured)
        if name in limits:
            ends = [measured.x[0], measured.x[-1]]
            level = [limits[name]] * 2
            lines.append(Line(name=f"{name}: threshold", x=ends, y=level, colour=colour, marked=False))
    if not lines:
        return None
    return Chart(
        name="scores",
        title="Named scores of the oracle",
        caption="Mean over responses to held-out prompts; band: 95 % interval, clustered by prompt.",
        alt=spoken("Mean named scores", lines),
        x_label=ROUND,
        y_label="mean score",
        lines=lines,
    )


def directions(run: Run) -> Chart | None:
    """Mean of the first two scores against the angle told: after the last round, and the reference's."""
    told = run.final.told if run.final else ()
    both = list(told[0].direction)[:2] if told else []
    if len(both) < 2:
        return None
    lines = []
    before = run.reference.told if run.reference else ()
    for colour, name in enumerate(both):
        for said, text in ((told, name), (before, f"{name}: reference")):
            points = [(angle(one.direction, both), one.scores.get(name)) for one in said]
            drawn = _line(text, points, colour if said is told else colour + 2)
            lines += [drawn] if drawn else []
    parts = [
        f"told {', '.join(f'{name} {value:.2f}' for name, value in one.direction.items())}: "
        + ", ".join(
            f"{name} {value:.3g}" for name, s in one.scores.items() if (value := centre(s)) is not None
        )
        for one in told
    ]
    return Chart(
        name="directions",
        title="Scores by the direction that the prompt tells",
        caption="Mean over responses to held-out prompts after the last round, and of the reference.",
        alt="; ".join(parts),
        x_label=f"told angle in degrees: 0 is {both[0]} alone, 90 {both[1]}",
        y_label="mean score",
        lines=lines,
        whole=False,
    )


def thresholds(run: Run) -> dict[str, float]:
    """Score -> its threshold in the run's configuration, where it has one."""
    given = run.setting("objective", "thresholds")
    limits = given.items() if isinstance(given, Mapping) else ()
    return {str(name): float(v) for name, v in limits if isinstance(v, int | float) and math.isfinite(v)}


def names(run: Run) -> list[str]:
    """The scores that were measured, in the oracle's order."""
    return list(dict.fromkeys(name for one in run.rounds for name in one.scores))[:MOST]


def angle(direction: Mapping[str, float], both: Sequence[str]) -> float:
    """Degrees of a direction from the first of two scores."""
    return math.degrees(math.atan2(direction.get(both[1], 0.0), direction.get(both[0], 0.0)))


def _line(name: str, points: Sequence[tuple[float, Estimate | None]], colour: int) -> Line | None:
    known = [(x, one, value) for x, one in points if one is not None and (value := one.value) is not None]
    if not known:
        return None
    return Line(
        name=name,
        x=[x for x, _, _ in known],
        y=[value for _, _, value in known],
        low=[one.low for _, one, _ in known],
        high=[one.high for _, one, _ in known],
        colour=colour,
    )
