"""Any runs side by side: figures of the same evaluation in one table, what cannot be compared in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from equipoise.report.comparison import paired
from equipoise.report.comparison.comparable import FAMILIES, differences, partition, settings
from equipoise.report.numbers import duration
from equipoise.report.run.load import load_run
from equipoise.report.run.metrics import BY_NAME
from equipoise.report.run.records import Estimate, Round, Run
from equipoise.report.run.round_charts import centre

HEADINGS = {
    "exact_win_rate": "exact\nwin rate",
    "exploitability": "exploit-\nability",
    "kl": "KL\n(nats)",
    "win_rate": "win rate",
    "accuracy": "held-out\naccuracy",
    "ranking": "ranks as\npreferred",
    "length": "length\n(tokens)",
    "entropy": "entropy\n(nats/token)",
    "finished": "finished",
    "seconds": "time",
}
# what a figure says, for a reader who has not met it
WORDS = {
    "exact_win_rate": "How often the judge prefers the model's answer to that of the model it started from, computed "
    "over all possible answers. 50 % is no progress.",
    "exploitability": "How far the best opponent could still beat the model: 0 if none can, 1 if one always does.",
    "kl": "How far the model has moved from where it started, in nats per answer. Of two that win equally often, the "
    "one that moved less has changed less of everything else.",
    "win_rate": "How often the judge prefers the model's answer to that of the model it started from, on a sample of "
    "answers. 50 % is no progress.",
    "accuracy": "In how many of the pairs kept out of training the model moved towards the better answer.",
    "ranking": "In how many of these pairs the model finds the better answer more likely than the worse one.",
    "length": "Tokens of an answer in the mean; a judge may prefer long answers for their length.",
    "entropy": "How varied the answers are; 0 is always the same one.",
    "finished": "How many answers end by themselves and are not cut off.",
    "seconds": "Time of the whole run on this machine.",
}
ON_A_PAGE = ("ranking", "entropy", "finished")  # further columns, for which a terminal is too narrow
NOTHING = "–"
MAX_SETTINGS = 60  # rows of differing settings that are shown
SAID = ("win_rate", "accuracy")  # figures whose paired differences are told in a sentence

Figure = Estimate | float | None


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One row: the reference of a table's runs, or the last round of a run. Units as in report/run/metrics.py.

    index  the run's place among the compared ones; None for a reference.
    """

    name: str
    index: int | None
    rounds: int
    figures: Mapping[str, Figure]

    def text(self, figure: str) -> str:
        """A cell: the value, and its interval in brackets."""
        value, interval = self.parts(figure)
        return f"{value} ({interval})" if interval else value

    def parts(self, figure: str) -> tuple[str, str]:
        """The value and its interval as texts; "" for no interval."""
        value = self.figures.get(figure)
        if figure == "seconds":
            return (duration(value) if isinstance(value, float) else NOTHING), ""
        metric = BY_NAME[figure]
        if figure == "kl" and self.index is None and centre(value) is not None:
            return "0", ""  # of the reference to itself
        if not isinstance(value, Estimate):
            return metric.show(value), ""
        return metric.show(value.value), metric.show_interval(value)


@dataclass(frozen=True, kw_only=True)
class Group:
    """Figures of runs that share the evaluation these rest on.

    moved  for each run after the group's first: figure -> its paired difference to the first.
    """

    figures: tuple[str, ...]
    rows: tuple[Compared, ...]
    moved: Mapping[str, Mapping[str, Estimate]] = field(default_factory=dict)

    @property
    def members(self) -> tuple[Compared, ...]:
        """The rows of runs."""
        return tuple(row for row in self.rows if row.index is not None)

    def filled(self, page: bool = False) -> tuple[str, ...]:
        """The figures that a row has, and that fit."""
        kept = [name for name in HEADINGS if name in self.figures and (page or name not in ON_A_PAGE)]
        return tuple(name for name in kept if any(row.text(name) != NOTHING for row in self.rows))


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Runs with the names they are told apart by, tables of comparable figures, and sentences on the rest.

    said       what paired differences say.
    apart      what the runs do not share, and what that does.
    settings   dotted name -> its value in each run, where they differ.
    """

    runs: tuple[Run, ...]
    names: tuple[str, ...]
    groups: tuple[Group, ...]
    said: tuple[str, ...]
    apart: tuple[str, ...]
    settings: tuple[tuple[str, tuple[str, ...]], ...]

    def plain(self) -> dict[str, Any]:
        """The comparison as JSON."""
        return {
            "runs": [
                {
                    "name": name,
                    "folder": str(run.folder),
                    "round": run.final.round if run.final else None,
                    "seconds": _seconds(run),
                }
                for name, run in zip(self.names, self.runs, strict=True)
            ],
            "evaluations": [
                {
                    "figures": list(group.filled(page=True)),
                    "rows": [
                        {"name": row.name, "reference": row.index is None, "round": row.rounds}
                        | {name: _plain(row.figures.get(name)) for name in group.filled(page=True)}
                        for row in group.rows
                    ],
                    "paired_differences": {
                        name: {figure: _plain(one) for figure, one in moved.items()}
                        for name, moved in group.moved.items()
                    },
                }
                for group in self.groups
            ],
            "said": list(self.said),
            "not_comparable": list(self.apart),
            "settings": {name: dict(zip(self.names, values, strict=True)) for name, values in self.settings},
        }


def compare(run_dirs: Sequence[str | Path]) -> Comparison:
    """Compare the last rounds of any runs, in the order given.

    Figures stand in one table only if they are of one evaluation: the same model to start from, prompts or held-out
    pairs, oracle and decoding (`comparable.FAMILIES`); what differs is said in words. Names are the methods'; runs of
    one method are told apart by their folders. Raises ValueError for no run, RunFolderError for a folder without one.
    """
    if not run_dirs:
        raise ValueError("no run to compare: give at least one run folder")
    runs = tuple(load_run(folder) for folder in run_dirs)
    names = _names(runs)
    groups = _groups(runs, names)
    said = [
        paired.in_words(figure, group.members[0].name, other, moved[figure])
        for group in groups
        for other, moved in group.moved.items()
        for figure in SAID
        if figure in moved and figure in group.figures
    ]
    return Comparison(
        runs=runs,
        names=names,
        groups=groups,
        said=tuple(said),
        apart=tuple(differences(runs, names)),
        settings=tuple(settings(runs)),
    )


def _groups(runs: Sequence[Run], names: Sequence[str]) -> tuple[Group, ...]:
    """One group for each set of runs and the figures that these share; time belongs to the first."""
    figures: dict[tuple[int, ...], list[str]] = {}
    for family in FAMILIES:
        for members in partition(runs, family):
            if any(_measured(runs[k], name) for k in members for name in family.figures):
                figures.setdefault(members, []).extend(family.figures)
    groups = []
    timed: set[int] = set()
    for members, own in (figures or {tuple(range(len(runs))): []}).items():
        timing = () if timed & set(members) else ("seconds",)
        timed |= set(members)
        groups.append(_group(runs, names, members, (*own, *timing)))
    return tuple(groups)


def _group(
    runs: Sequence[Run], names: Sequence[str], members: Sequence[int], figures: tuple[str, ...]
) -> Group:
    references = [one for k in members if (one := runs[k].reference)]
    rows = [_row("reference", None, references[0], figures, None)] if references else []
    rows += [_row(names[k], k, runs[k].final, figures, _seconds(runs[k])) for k in members]
    first = runs[members[0]]
    moved = {
        names[k]: {name: one for name, one in paired.differences(first, runs[k]).items() if name in figures}
        for k in members[1:]
    }
    return Group(figures=figures, rows=tuple(rows), moved=moved)


def _row(
    name: str, index: int | None, record: Round | None, figures: Sequence[str], seconds: float | None
) -> Compared:
    values: dict[str, Figure] = {
        figure: getattr(record, figure) if record else None for figure in figures if figure != "seconds"
    }
    return Compared(
        name=name, index=index, rounds=record.round if record else 0, figures=values | {"seconds": seconds}
    )


def _names(runs: Sequence[Run]) -> tuple[str, ...]:
    names = [run.name for run in runs]
    named = [
        name if names.count(name) == 1 else f"{name} ({run.folder.resolve().name})"
        for name, run in zip(names, runs, strict=True)
    ]
    return tuple(
        name if named.count(name) == 1 else f"{run.name} ({run.folder.resolve()})"
        for name, run in zip(named, runs, strict=True)
    )


def _measured(run: Run, figure: str) -> bool:
    return any(centre(getattr(one, figure)) is not None for one in run.rounds)


def _seconds(run: Run) -> float | None:
    seconds = run.by_phase("seconds")
    return float(sum(seconds.values())) if seconds else None


def _plain(value: Figure) -> Any:
    return value.model_dump() if isinstance(value, Estimate) else value
