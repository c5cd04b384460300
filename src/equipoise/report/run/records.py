"""Records of a run folder's files, as a report reads them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

# Beyond it lies no measurement, and within it sums, differences and squares stay finite.
LARGEST = 1e100


def _measured(value: float) -> float:
    return math.copysign(math.inf, value) if abs(value) > LARGEST else value


Count = Annotated[int, Field(ge=0, lt=2**53)]
Number = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]
Share = Annotated[float, Field(ge=0, le=1)]
Measured = Annotated[float, AfterValidator(_measured)]  # infinite instead of beyond LARGEST


class Record(BaseModel):
    """Fields of the wrong type are refused, unknown ones ignored, missing ones null."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", allow_inf_nan=False)


class Estimate(Record):
    """A value with its interval; `low` and `high` are null where there is none."""

    value: Number | None = None
    low: Number | None = None
    high: Number | None = None
    n: Count | None = None


class Told(Record):
    """Mean named scores of responses to prompts that told a direction, score -> coordinate."""

    direction: dict[str, Number]
    scores: dict[str, Estimate | None] = {}


class Round(Record):
    """One line of evaluation.jsonl; round 0 is the reference. Formulas and units: report/run/metrics.py."""

    round: Count
    win_rate: Estimate | None = None
    exact_win_rate: Number | None = None
    exploitability: Number | None = None
    gap_tau: Number | None = None
    kl: Estimate | None = None
    accuracy: Estimate | None = None
    ranking: Estimate | None = None
    ranking_gain: Estimate | None = None
    chosen_log_ratio: Number | None = None
    rejected_log_ratio: Number | None = None
    chosen_probability: Number | None = None
    rejected_probability: Number | None = None
    likelihood_ece: Number | None = None
    length: Estimate | None = None
    finished: Number | None = None
    entropy: Estimate | None = None
    surprisal: Number | None = None
    recorded_surprisal: Number | None = None
    recorded_length: Number | None = None
    outside: Number | None = None
    exploitability_combinations: Number | None = None
    exploitability_words: Number | None = None
    gold_win_rate: Number | None = None
    gold_exploitability: Number | None = None
    judge_calls: Count | None = None
    scores: dict[str, Estimate | None] = {}
    told: list[Told] = []

    @field_validator("judge_calls", mode="before")
    @classmethod
    def _none_asked(cls, calls: Any) -> Any:
        """Training on recorded responses asks no judge, and its reports have no row for it."""
        return calls or None


class Step(Record):
    """One line of metrics.jsonl: one optimizer step. Here a number may be NaN: that is a finding."""

    model_config = ConfigDict(allow_inf_nan=True)

    round: Count
    step: Count
    epoch: Measured | None = None
    loss: Measured | None = None
    margin: Measured | None = None
    accuracy: Measured | None = None
    chosen_log_ratio: Measured | None = None
    rejected_log_ratio: Measured | None = None
    grad_norm: Measured | None = None
    lr: Measured | None = None
    pessimism: Measured | None = None
    baseline: Measured | None = None
    saturated: Measured | None = None
    clipped: Measured | None = None
    reward: Measured | None = None


class Within(Record):
    """One line of within_fits.jsonl: the policy inside a fit on held-out rows, after a step of a round."""

    round: Count
    step: Count
    loss: Number | None = None
    accuracy: Number | None = None
    margin: Number | None = None
    chosen_log_ratio: Number | None = None
    rejected_log_ratio: Number | None = None


class Chosen(Record):
    """The best checkpoint of summary.json; step None: measured after a round."""

    metric: str
    value: Number
    better: str
    round: Count
    step: Count | None = None
    folder: str


class Timing(Record):
    """One line of timings.jsonl: seconds and tokens that one phase of one round took."""

    round: Count
    phase: str
    seconds: Number
    tokens: Number | None = None


class Sample(Record):
    """One line of samples.jsonl: what the policy of one round wrote for one prompt.

    against, win   the reference's response that it met, and P(it beats that one).
    """

    round: Count
    prompt_index: Count
    prompt: str
    response: str
    finished: bool | None = None
    against: str | None = None
    win: Share | None = None


class Verdict(Record):
    """One line of verdicts.jsonl: P(a sample of the policy beats one of the reference), and their tokens."""

    round: Count
    prompt_index: Count
    sample: Count
    win: Share | None = None
    length: Count | None = None
    reference_length: Count | None = None


class HeldPair(Record):
    """One line of held_out.jsonl: log-ratios of a held-out pair in nats, and whether it is ranked as preferred."""

    round: Count
    pair: Count
    prompt: Count
    chosen: Number | None = None
    rejected: Number | None = None
    ranked: Share | None = None

    @property
    def margin(self) -> float | None:
        """Chosen less rejected log-ratio in nats; None for unpaired feedback."""
        return None if self.chosen is None or self.rejected is None else self.chosen - self.rejected


class MatrixCell(Record):
    """One line of win_matrix.jsonl: the win rate of a round's policy against an earlier round's."""

    round: Count
    against: Count
    win_rate: Estimate


class Ledger(Record):
    """ledger.json: a row that was read is used, refused for a reason, or a duplicate.

    truncated   used rows with an answer cut; truncated_by_side counts the chosen and the rejected ones.
    """

    read: Count
    used: Count
    refused: dict[str, Count] = {}
    truncated: Count = 0
    truncated_by_side: dict[str, Count] = {}
    duplicate: Count = 0
    repaired: dict[str, Count] = {}
    first_lines: dict[str, list[str]] = {}
    notes: list[str] = []

    @property
    def unaccounted(self) -> int:
        return self.read - self.used - self.duplicate - sum(self.refused.values())


class GateLine(Record):
    """One gate of gates.json: what was measured in a round, its limit, and whether it was passed or allowed."""

    name: str
    round: Count
    measured: Number | None = None
    limit: Number | None = None
    passed: bool
    allowed: bool = False
    sentence: str = ""


class Summary(Record):
    """summary.json: who was trained on what, and what it cost."""

    method: str | None = None
    title: str | None = None
    paper: str | None = None
    confidence: str | None = None
    rounds: Count | None = None
    delivered: Count | None = None
    left_support: str | None = None
    automatic: Any = None
    seed: int | None = None
    model: Any = None
    data: Any = None
    oracle: Any = None
    status: str | None = None
    best: Chosen | None = None
    seconds: dict[str, Number] = {}
    tokens: dict[str, Number] = {}


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run folder as read. Sequences are in file order, rounds and samples sorted by round.

    notes       what was missing, half-written or repeated, in sentences for the reader of the report.
    processes   the environments of the processes that worked on the run, oldest first; `environment` is the last.
    inputs      kind of input -> name -> hash, from inputs.json.
    diagnosis   figures of the run's held-out pairs, if `equipoise diagnose RUN --report` wrote them.
    """

    folder: Path
    summary: Summary = field(default_factory=Summary)
    rounds: tuple[Round, ...] = ()
    steps: tuple[Step, ...] = ()
    within: tuple[Within, ...] = ()
    timings: tuple[Timing, ...] = ()
    samples: tuple[Sample, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    held_out: tuple[HeldPair, ...] = ()
    matrix: tuple[MatrixCell, ...] = ()
    ledger: Ledger | None = None
    config_text: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    processes: tuple[dict[str, Any], ...] = ()
    gates: tuple[GateLine, ...] = ()
    inputs: dict[str, dict[str, str]] = field(default_factory=dict)
    diagnosis: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.summary.method or self.folder.resolve().name

    @property
    def reference(self) -> Round | None:
        """Round 0, if it was evaluated."""
        return self.rounds[0] if self.rounds and self.rounds[0].round == 0 else None

    @property
    def final(self) -> Round | None:
        """The delivered round: the last evaluated one after the reference, unless the run fell back on an earlier."""
        most = (
            self.rounds[-1].round
            if self.summary.delivered is None and self.rounds
            else self.summary.delivered
        )
        return next((one for one in self.rounds if one.round == most and one.round > 0), None)

    def setting(self, section: str, name: str) -> Any:
        """A setting of the configuration; None where there is none."""
        within = self.config.get(section)
        return within.get(name) if isinstance(within, dict) else None

    def by_phase(self, what: str) -> dict[str, float]:
        """Total "seconds" or "tokens" per phase, from timings.jsonl or else from the summary."""
        if not self.timings:
            return dict(getattr(self.summary, what))
        total: dict[str, float] = {}
        for timing in self.timings:
            total[timing.phase] = total.get(timing.phase, 0.0) + (getattr(timing, what) or 0.0)
        return total
