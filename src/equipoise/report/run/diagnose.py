"""Plain-language diagnosis: each rule reads a run and returns one finding with its numbers, or None."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal, TypeVar

from equipoise.report.numbers import percent, plain
from equipoise.report.run.explain import BY_ANCHOR, Explanation
from equipoise.report.run.readings import (
    FEWEST_PAIRS,
    FEWEST_PROMPTS,
    FEWEST_ROWS,
    FEWEST_STEPS,
    are,
    beyond_noise,
    counted,
    ends_of,
    overlap,
    prompts_met,
    range_of,
    too_few,
)
from equipoise.report.run.records import Run, Step
from equipoise.report.run.round_charts import centre

Level = Literal["good", "note", "warning"]
T = TypeVar("T")

# A gap within 5 % of the reference's is called unchanged: sampling noise of training moves it that much.
GAP_CHANGE = 0.05
# exp(-0.1) is a tenth less likely; smaller falls are within what any fine-tuning does.
DISPLACEMENT_NATS = 0.1
# Length-controlled win rates exist because judges reward drifts of this size.
LENGTH_DRIFT = 0.15
# With more than half the pairs flat, the effective batch is less than half the batch.
SATURATED_SHARE = 0.5
# Best of n moves log n - (n-1)/n nats: 10 nats is beyond best of 60,000.
KL_NATS = 10.0
# Half a nat per token multiplies every token's probability by 1.6 on average: a different model.
KL_NATS_PER_TOKEN = 0.5
# Five points more unfinished responses than the reference: beyond sampling noise for some hundred samples.
UNFINISHED_RISE = 0.05
# One row in twenty lost is more than stray broken lines explain.
REFUSED_SHARE = 0.05
# Two points between the sides is enough for the missing end to predict the label in a visible share of pairs.
TRUNCATION_DIFFERENCE = 0.02
# A point of mass is of the order of the differences between good methods' gaps.
OUTSIDE_RISE = 0.01
# Fewer steps than this in a round say nothing about a trend.
TREND_STEPS = 8
# "Most" steps or rounds.
MOST = 0.5


@dataclass(frozen=True)
class Finding:
    """One sentence for the reader. `anchor` names the section of docs/diagnosis.md that explains it."""

    level: Level
    title: str
    sentence: str
    anchor: str

    @property
    def explanation(self) -> Explanation:
        return BY_ANCHOR[self.anchor]


def diagnose(run: Run) -> list[Finding]:
    """Every rule that fires: warnings first, then notes, then what went well."""
    found = [finding for rule in RULES if (finding := rule(run)) is not None]
    return sorted(found, key=lambda finding: ("warning", "note", "good").index(finding.level))


def unfinished_run(run: Run) -> Finding | None:
    status = run.summary.status
    if status == "finished":
        return None
    said = f"Its status is “{status[:40]}”" if status else "No summary says that it finished"
    return Finding(
        "warning", "The run is not finished", f"{said}; figures cover what was completed.", "run-incomplete"
    )


def not_finite(run: Run) -> Finding | None:
    bad = [
        (i, name)
        for i, step in enumerate(run.steps, start=1)
        for name in ("loss", "grad_norm")
        if (value := getattr(step, name)) is not None and not math.isfinite(value)
    ]
    if not bad:
        return None
    (first, name), count = bad[0], len({i for i, _ in bad})
    what = {"loss": "loss", "grad_norm": "gradient norm"}[name]
    text = f"{count:,} of {len(run.steps):,} steps are affected; the first is step {first}, by its {what}."
    return Finding("warning", "A loss or gradient is not finite", text, "not-finite")


def win_rate(run: Run) -> Finding | None:
    rate = run.final.win_rate if run.final else None
    if rate is None or rate.value is None:
        return _exact_win_rate(run)
    if rate.low is None or rate.high is None:
        text = f"The win rate is {percent(rate.value)}, from too few prompts for an interval."
        return Finding("note", "Win rate without an interval", text, "win-rate")
    text = f"The win rate against the reference is {percent(rate.value)}, 95 % interval {range_of(rate)}"
    prompts = prompts_met(run, run.final) if run.final else None
    if too_few(prompts, FEWEST_PROMPTS):
        few = f"{counted(prompts or 0, 'prompt')} {are(prompts or 0)} too few to say which is better"
        return Finding("note", "Too few prompts for a win rate", f"{few}. {text}.", "win-rate")
    if rate.low > 0.5:
        return Finding("good", "Beats its reference", f"{text}, which lies above one half.", "win-rate")
    if rate.high < 0.5:
        return Finding("warning", "Loses to its reference", f"{text}, which lies below one half.", "win-rate")
    return Finding(
        "note", "Not told apart from its reference", f"{text}, which includes one half.", "win-rate"
    )


def _exact_win_rate(run: Run) -> Finding | None:
    rate = run.final.exact_win_rate if run.final else None
    if rate is None:
        return None
    text = f"The exact win rate against the reference is {percent(rate)}."
    if rate > 0.5:
        return Finding("good", "Beats its reference", text, "win-rate")
    return Finding("warning" if rate < 0.5 else "note", "Does not beat its reference", text, "win-rate")


def exploitability(run: Run) -> Finding | None:
    before, after = ends_of(run, "exploitability")
    if before is None or after is None:
        return None
    text = f"from {plain(before)} to {plain(after)}"
    if after < (1 - GAP_CHANGE) * before:
        fold = f", {before / after:.1f}-fold" if after > 0 else " exactly"
        return Finding("good", "Less exploitable", f"Exploitability fell {text}{fold}.", "exploitability")
    if after > (1 + GAP_CHANGE) * before:
        return Finding("warning", "More exploitable", f"Exploitability rose {text}.", "exploitability")
    return Finding(
        "note", "As exploitable as before", f"Exploitability hardly moved: {text}.", "exploitability"
    )


def displacement(run: Run) -> Finding | None:
    chosen, rejected, where = _log_ratio_moves(run)
    if chosen is None or rejected is None or chosen > -DISPLACEMENT_NATS or chosen <= rejected:
        return None
    text = f"Chosen responses lost {plain(-chosen)} nats of log-probability ({where}),"
    text += f" while the margin over rejected ones rose by {plain(chosen - rejected)} nats."
    return Finding("warning", "Likelihood displacement", text, "likelihood-displacement")


def length_drift(run: Run) -> Finding | None:
    before, after = ends_of(run, "length")
    if before is None or after is None or before <= 0 or abs(after / before - 1) <= LENGTH_DRIFT:
        return None
    if run.reference and run.final and overlap(run.reference.length, run.final.length):
        return None
    word, change = "longer" if after > before else "shorter", percent(abs(after / before - 1))
    text = f"Responses became {change} {word}: {plain(before)} → {plain(after)} tokens."
    return Finding("warning", f"Responses became {word}", text, "length-drift")


def saturated_pairs(run: Run) -> Finding | None:
    steps = _last_round(run.steps)
    share = _mean(_tail(steps), "saturated")
    if len(steps) < FEWEST_STEPS or share is None or share <= SATURATED_SHARE:
        return None
    text = f"At the end of training {percent(share)} of pairs lie where the loss is flat."
    return Finding("note", "Most pairs are saturated", text, "saturated-pairs")


def large_kl(run: Run) -> Finding | None:
    distance = centre(run.final.kl) if run.final else None
    if distance is None or run.final is None:
        return None
    length = centre(run.final.length)
    per_token = distance / length if length else 0.0
    if distance <= KL_NATS and per_token <= KL_NATS_PER_TOKEN:
        return None
    text = f"The policy is {plain(distance)} nats per response from its reference"
    text += f" ({plain(per_token)} per token)." if length else "."
    level: Level = "warning" if per_token > KL_NATS_PER_TOKEN else "note"
    return Finding(level, "Far from the reference", text, "large-kl")


def accuracy(run: Run) -> Finding | None:
    share = run.final.accuracy if run.final else None
    if share is None or share.value is None or share.low is None or share.high is None:
        return None
    anchor = "held-out-accuracy"
    text = f"Held-out preference accuracy is {percent(share.value)}, 95 % interval {range_of(share)}"
    if too_few(share.n, FEWEST_PAIRS):
        few = f"{counted(share.n or 0, 'held-out pair')} {are(share.n or 0)} too few to say whether it learnt"
        return Finding("note", "Too few held-out pairs", f"{few}. {text}.", anchor)
    if share.low > 0.5:
        return Finding("good", "Learnt preferences carry over", f"{text}.", anchor)
    if share.high < 0.5:
        return Finding("warning", "Held-out accuracy below one half", f"{text}: worse than chance.", anchor)
    return Finding("note", "Held-out accuracy not above chance", f"{text}, which includes one half.", anchor)


def ranking(run: Run) -> Finding | None:
    gain, own = (run.final.ranking_gain, run.final.ranking) if run.final else (None, None)
    first = run.reference.ranking if run.reference else None
    if gain is None or gain.low is None or gain.high is None or own is None or first is None:
        return None
    if gain.value is None or own.value is None or first.value is None:
        return None
    points = ", ".join(f"{100 * end:+.1f}".replace("-", "−") for end in (gain.low, gain.high))
    text = (
        f"Of held-out pairs {percent(own.value)} have the preferred response as the more likely one, "
        f"{percent(first.value)} under the reference; 95 % interval of the difference: {points} points"
    )
    anchor = "held-out-ranking"
    if too_few(own.n, FEWEST_PAIRS):
        return None  # `accuracy` says so of the same pairs
    if gain.low > 0:
        return Finding("good", "It ranks more pairs as preferred", f"{text}.", anchor)
    if gain.high < 0:
        return Finding("warning", "It ranks fewer pairs as preferred", f"{text}.", anchor)
    return Finding("note", "Ranking accuracy has not changed", f"{text}, which includes 0.", anchor)


def unfinished_responses(run: Run) -> Finding | None:
    before, after = ends_of(run, "finished")
    if before is None or after is None or before - after <= UNFINISHED_RISE:
        return None
    number = run.final.length.n if run.final and run.final.length else None
    if number is not None and not beyond_noise(1 - before, 1 - after, number):
        return None
    text = f"Responses without an end rose from {percent(1 - before)} to {percent(1 - after)}"
    text += f" of {number:,} samples." if number else "."
    return Finding("warning", "More responses without an end", text, "unfinished-responses")


def refused_rows(run: Run) -> Finding | None:
    if run.ledger is None or run.ledger.read <= 0:
        return None
    read, refused = run.ledger.read, sum(run.ledger.refused.values())
    if read < FEWEST_ROWS or refused <= REFUSED_SHARE * read:
        return None
    reason = max(run.ledger.refused, key=run.ledger.refused.__getitem__)[:80]
    text = f"{refused:,} of {read:,} rows ({percent(refused / read)}) were refused, most for “{reason}”."
    return Finding("warning", "Many rows refused", text, "refused-rows")


def truncation_by_side(run: Run) -> Finding | None:
    if run.ledger is None or run.ledger.used < FEWEST_ROWS or not run.ledger.truncated_by_side:
        return None
    cut, used = run.ledger.truncated_by_side, run.ledger.used
    chosen, rejected = cut.get("chosen", 0) / used, cut.get("rejected", 0) / used
    if abs(chosen - rejected) <= TRUNCATION_DIFFERENCE:
        return None
    text = f"{percent(chosen)} of chosen but {percent(rejected)} of rejected responses were cut."
    return Finding("warning", "Truncation differs by side", text, "truncation-by-side")


def outside(run: Run) -> Finding | None:
    before, after = ends_of(run, "outside")
    if before is None or after is None or after - before <= OUTSIDE_RISE:
        return None
    text = f"Probability of texts the game does not list rose from {percent(before)} to {percent(after)}."
    return Finding("warning", "Mass left the grammar", text, "outside-the-game")


def left_support(run: Run) -> Finding | None:
    what, delivered = run.summary.left_support, run.summary.delivered
    if what is None:
        return None
    text = f"{what[:1].upper()}{what[1:200]}. The run ended there, and delivers round {delivered}."
    return Finding("warning", "The policy left the reference's support", text, "left-the-support")


def loss_trend(run: Run) -> Finding | None:
    numbers = sorted({step.round for step in run.steps})
    losses = [_known(_in_round(run.steps, number), "loss") for number in numbers]
    losses = [values for values in losses if len(values) >= TREND_STEPS and all(map(math.isfinite, values))]
    ends = [(fmean(values[: len(values) // 4]), fmean(_tail(values))) for values in losses]
    stuck = [(first, last) for first, last in ends if last >= first]
    if not ends or len(stuck) <= MOST * len(ends):
        return None
    first, last = (plain(value) for value in stuck[-1])
    text = f"In {len(stuck)} of {len(ends)} rounds it did not; in the last of these it went {first} → {last}."
    return Finding("warning", "The loss did not fall", text, "loss-did-not-fall")


def clipping(run: Run) -> Finding | None:
    limit = run.setting("train", "clip")
    norms = _known(run.steps, "grad_norm")
    if not isinstance(limit, int | float) or limit <= 0 or len(norms) < FEWEST_STEPS:
        return None
    share = sum(norm > limit for norm in norms) / len(norms)
    if share <= MOST:
        return None
    text = f"The gradient norm exceeded {plain(limit)} on {percent(share)} of {len(norms):,} steps."
    return Finding("note", "Gradients clipped on most steps", text, "gradient-clipping")


def closed_gates(run: Run) -> Finding | None:
    closed = [gate for gate in run.gates if not gate.passed]
    if not closed:
        return None
    text = "; ".join(f"{gate.name}{' (allowed)' * gate.allowed}: {gate.sentence}" for gate in closed[:5])
    more = f"; and {len(closed) - 5} more" if len(closed) > 5 else ""
    return Finding("warning", "A check did not pass", f"{text}{more}.", "closed-gates")


RULES: tuple[Callable[[Run], Finding | None], ...] = (
    unfinished_run,
    closed_gates,
    not_finite,
    win_rate,
    exploitability,
    displacement,
    accuracy,
    ranking,
    length_drift,
    large_kl,
    saturated_pairs,
    unfinished_responses,
    outside,
    left_support,
    loss_trend,
    clipping,
    refused_rows,
    truncation_by_side,
)


def _log_ratio_moves(run: Run) -> tuple[float | None, float | None, str]:
    """Final log-ratios held out (they are 0 at the reference), where the pairs are enough; or else of the last training
    steps."""
    final = run.final
    if final and final.chosen_log_ratio is not None and final.rejected_log_ratio is not None:
        pairs = final.accuracy.n if final.accuracy else None
        if not too_few(pairs, FEWEST_PAIRS):
            return final.chosen_log_ratio, final.rejected_log_ratio, "held out"
    tail = _tail(_last_round(run.steps))
    return _mean(tail, "chosen_log_ratio"), _mean(tail, "rejected_log_ratio"), "on training pairs"


def _in_round(steps: Sequence[Step], number: int) -> list[Step]:
    return [step for step in steps if step.round == number]


def _last_round(steps: Sequence[Step]) -> list[Step]:
    return _in_round(steps, steps[-1].round) if steps else []


def _tail(values: Sequence[T]) -> Sequence[T]:
    """The last quarter, at least one."""
    return values[-max(1, len(values) // 4) :]


def _mean(steps: Sequence[Step], name: str) -> float | None:
    """None where nothing is known, or some value is not finite, which is a finding of its own."""
    values = _known(steps, name)
    return fmean(values) if values and all(map(math.isfinite, values)) else None


def _known(steps: Sequence[Step], name: str) -> list[float]:
    return [value for step in steps if (value := getattr(step, name)) is not None]
