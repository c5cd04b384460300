"""A claim, and the evidence that a run of it gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from equipoise.claims import draws

Scale: TypeAlias = Literal["quick", "full"]
Verdict: TypeAlias = Literal["holds", "fails", "mixed"]
Array: TypeAlias = npt.NDArray[np.float64]
Cell: TypeAlias = str | int | float | None


# what is known of rules that were not set before everything else
LATER = (
    "parts of the rule or of the settings were settled after a first run of the program; which ones, and what it had "
    "shown, was not recorded."
)


@dataclass(frozen=True)
class Table:
    """Figures under one title; a row has one cell per column."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"{self.title!r}: {len(row)} cells for {len(self.columns)} columns: {row}")


@dataclass(frozen=True)
class Line:
    """One curve; `low` and `high` bound its 95 % interval. A `guide` is theory, drawn faint and dashed."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None
    guide: bool = False


@dataclass(frozen=True)
class Panel:
    """Curves over one pair of axes."""

    title: str
    xlabel: str
    ylabel: str
    lines: tuple[Line, ...]
    log_x: bool = True
    log_y: bool = True
    bottom: float | None = None


@dataclass(frozen=True)
class Evidence:
    """What a run found. The verdict follows from the figures by the claim's rule, never by hand.

    verdict    holds: every condition of the rule is met; fails: its first, the heart of the claim, is not;
               mixed: only others are not. `verdict` computes it.
    summary    one or two sentences with the deciding numbers.
    """

    verdict: Verdict
    summary: str
    tables: tuple[Table, ...]
    panels: tuple[Panel, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Evidence:
        """The inverse of `as_json`; other entries of `stored` are left alone."""
        tables = tuple(
            Table(t["title"], tuple(t["columns"]), tuple(tuple(row) for row in t["rows"]))
            for t in stored["tables"]
        )
        panels = tuple(Panel(**p | {"lines": tuple(map(_line, p["lines"]))}) for p in stored["panels"])
        return cls(stored["verdict"], stored["summary"], tables, panels)


def _line(stored: Mapping[str, Any]) -> Line:
    values: dict[str, Any] = {name: tuple(x) if isinstance(x, list) else x for name, x in stored.items()}
    return Line(**values)


@dataclass(frozen=True)
class Claim:
    """A sentence of a paper and the program that reproduces it, or fails to.

    rule       how the verdict follows from the figures, in words.
    program    scale -> evidence; "quick" takes seconds, "full" minutes. It takes its random numbers from `draws` alone.
    set        when the rule and the settings were set, where that was after figures had been seen: such a verdict says
               what the program shows, and is no test of the sentence. Empty: nothing of the kind is recorded.
    """

    name: str
    sentence: str
    paper: str
    rule: str
    program: Callable[[Scale], Evidence]
    set: str = ""

    def run(self, scale: Scale, seed_offset: int = 0) -> Evidence:
        """The evidence at that scale, every seed moved by the offset: the same two give the same figures.

        Raises ValueError for a negative offset.
        """
        with draws.offset(seed_offset):
            return self.program(scale)

    def fresh(self, scale: Scale, count: int) -> Fresh:
        """The run as shipped, and with the offsets 1 to count; a program that draws nothing is run once.

        Raises ValueError for a count below 1.
        """
        if count < 1:
            raise ValueError(f"at least one fresh offset is needed, not {count}")
        with draws.offset(0) as drawn:
            runs = {0: self.program(scale)}
        if drawn.asked:
            runs |= {k: self.run(scale, k) for k in range(1, count + 1)}
        return Fresh(runs, exact=not drawn.asked)


@dataclass(frozen=True)
class Fresh:
    """One claim under several offsets of its seeds.

    runs     offset -> evidence; 0 is the run as shipped.
    exact    the program draws nothing, so that one run is all there is.
    """

    runs: Mapping[int, Evidence]
    exact: bool

    @property
    def verdict(self) -> Verdict | Literal["undecided"]:
        """The verdict that all offsets agree on; "undecided" where it turns with the seeds."""
        found = {evidence.verdict for evidence in self.runs.values()}
        return found.pop() if len(found) == 1 else "undecided"


def verdict(heart: bool, others: Sequence[bool] = ()) -> Verdict:
    """ "fails" unless the heart of the claim stands; then "holds" if all the others do, else "mixed"."""
    if not heart:
        return "fails"
    return "holds" if all(others) else "mixed"


@dataclass(frozen=True)
class Slope:
    """A fitted power of x with its standard error."""

    value: float
    error: float

    def __str__(self) -> str:
        return f"{self.value:.2f} ± {self.error:.2f}"


def log_slope(x: Sequence[float], values: Array) -> Slope:
    """Least-squares slope of log mean(values) on log x, with the standard error of a jackknife over seeds.

    values    [seeds, len(x)], non-negative, with positive means. Raises ValueError otherwise.

    The error says how much other data sets would move the slope; it does not say whether a power law fits.
    """
    seeds = len(values)
    if seeds < 2 or values.shape[1] != len(x) or len(x) < 2:
        raise ValueError(f"need two seeds and two points: values {values.shape}, {len(x)} points")
    centred = np.log(x) - np.mean(np.log(x))

    def fit(mean: Array) -> Array:
        if not (mean > 0).all():
            raise ValueError("a power law needs positive means, and one mean is not")
        return np.log(mean) @ centred / (centred @ centred)

    left_out = fit((values.sum(axis=0) - values) / (seeds - 1))
    error = float(np.sqrt((seeds - 1) * left_out.var()))
    return Slope(float(fit(values.mean(axis=0))), error)


def interval(values: Array) -> tuple[Array, Array, Array]:
    """Mean over axis 0 (independent seeds) with its 95 % t-interval: (mean, low, high)."""
    from scipy.stats import t as student  # a second of imports, which the lists of claims do without

    mean = values.mean(axis=0)
    half = student.ppf(0.975, len(values) - 1) * values.std(axis=0, ddof=1) / np.sqrt(len(values))
    return mean, mean - half, mean + half
