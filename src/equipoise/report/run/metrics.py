"""Table of all metrics: name, formula, unit, direction. docs/metrics.md is printed from it.

python -m equipoise.report.run.metrics > docs/metrics.md
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from equipoise.report.numbers import percent, plain
from equipoise.report.run.records import Estimate

__all__ = ("BY_NAME", "METRICS", "ROUND_METRICS", "Metric", "markdown")

Better = Literal["higher", "lower", "neutral"]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric. `per` says what one number belongs to: a round, a named score of the oracle in a round, an optimizer
    step or a phase of a round."""

    name: str
    title: str
    formula: str
    unit: str
    better: Better
    per: Literal["round", "score", "step", "phase"]

    def show(self, value: float | None) -> str:
        """The value for a reader: shares in per cent, everything else with three significant digits."""
        if value is None:
            return "–"
        return percent(value) if self.unit == "share" else plain(value)

    def show_interval(self, estimate: Estimate | None) -> str:
        if estimate is None or estimate.low is None or estimate.high is None:
            return ""
        low, high = self.show(estimate.low), self.show(estimate.high)
        return f"{low.removesuffix(' %')}–{high}" if self.unit == "share" else f"{low} to {high}"


def _round(name: str, title: str, formula: str, unit: str, better: Better) -> Metric:
    return Metric(name=name, title=title, formula=formula, unit=unit, better=better, per="round")


def _score(name: str, title: str, formula: str) -> Metric:
    return Metric(name=name, title=title, formula=formula, unit="the score's", better="neutral", per="score")


def _step(name: str, title: str, formula: str, unit: str, better: Better) -> Metric:
    return Metric(name=name, title=title, formula=formula, unit=unit, better=better, per="step")


METRICS: tuple[Metric, ...] = (
    _round(
        "win_rate",
        "Win rate against the reference",
        "mean over sampled pairs of P(y > y' | x), y ~ π(·|x), y' ~ π_ref(·|x); a tie counts 1/2; "
        "95 % interval clustered by prompt",
        "share",
        "higher",
    ),
    _round(
        "exact_win_rate",
        "Exact win rate against the reference",
        "J(π, π_ref) = E_x Σ_y Σ_y' π(y|x) π_ref(y'|x) P(y > y' | x), by enumeration; 1/2 is equality",
        "share",
        "higher",
    ),
    _round(
        "exploitability",
        "Exploitability",
        "gap_0(π) = E_x [ 2 max_y P(y > π | x) - 1 ], by enumeration: the duality gap of the unregularised game at "
        "(π, π), in [0, 1]; 0 if and only if no policy beats π",
        "probability",
        "lower",
    ),
    _round(
        "gap_tau",
        "Gap of the regularised game",
        "gap_τ(π) = E_x { 2 [ τ log Σ_y π_ref(y|x) exp(P(y > π | x)/τ) + τ KL(π ‖ π_ref) ] - 1 }, by "
        "enumeration; 0 if and only if π is the regularised Nash policy",
        "probability",
        "lower",
    ),
    _round(
        "kl",
        "KL to the reference",
        "KL(π ‖ π_ref) = E_x E_{y ~ π(·|x)} [ log π(y|x) - log π_ref(y|x) ]",
        "nats per response",
        "neutral",
    ),
    _round(
        "accuracy",
        "Held-out preference accuracy",
        "share of held-out pairs with [log π(y_w) - log π_ref(y_w)] - [log π(y_l) - log π_ref(y_l)] > 0, "
        "the implicit-reward margin (a margin of 0 counts half); not the share with π(y_w) > π(y_l). "
        "At π = π_ref every margin is 0 and it is not given",
        "share",
        "higher",
    ),
    _round(
        "ranking",
        "Held-out ranking accuracy",
        "share of held-out pairs with log π(y_w|x) > log π(y_l|x), summed over tokens (equal ones count half); in "
        "round 0 the reference's",
        "share",
        "higher",
    ),
    _round(
        "ranking_gain",
        "Gain in ranking accuracy",
        "ranking accuracy of π minus that of π_ref on the same held-out pairs, with the interval of the paired "
        "differences",
        "share",
        "higher",
    ),
    _round(
        "chosen_log_ratio",
        "Log-ratio of chosen responses",
        "held-out mean of log π(y_w|x) - log π_ref(y_w|x), summed over tokens",
        "nats per response",
        "higher",
    ),
    _round(
        "rejected_log_ratio",
        "Log-ratio of rejected responses",
        "held-out mean of log π(y_l|x) - log π_ref(y_l|x), summed over tokens",
        "nats per response",
        "neutral",
    ),
    _round(
        "chosen_probability",
        "Probability of chosen responses",
        "held-out mean of exp(log π(y_w|x)/|y_w|), the geometric mean over tokens: what a model keeps of a retain set",
        "probability per token",
        "higher",
    ),
    _round(
        "rejected_probability",
        "Probability of rejected responses",
        "held-out mean of exp(log π(y_l|x)/|y_l|), the geometric mean over tokens: what a model still knows of a set "
        "to be forgotten",
        "probability per token",
        "neutral",
    ),
    _round(
        "likelihood_ece",
        "Calibration error of the likelihood",
        "Σ_b n_b/n |share with lp_w > lp_l - mean exp(lp_w)| over ten bins of exp(lp_w), lp = log π(y|x)/|y|, held-out "
        "pairs (f-DPO's diagnostic)",
        "probability",
        "lower",
    ),
    _round(
        "length", "Length", "mean number of tokens of a sampled response", "tokens per response", "neutral"
    ),
    _round(
        "finished",
        "Finished responses",
        "share of sampled responses that end with the end-of-sequence token within the length limit",
        "share",
        "higher",
    ),
    _round(
        "entropy",
        "Entropy",
        "mean over sampled responses of −log π(y|x)/|y|: how varied the policy's responses are; near 0 it writes one "
        "response to each prompt",
        "nats per token",
        "neutral",
    ),
    _round(
        "surprisal",
        "Surprisal of the reference",
        "mean over sampled responses of −log π_ref(y|x)/|y|: how little the reference expects the policy's responses",
        "nats per token",
        "neutral",
    ),
    _round(
        "recorded_surprisal",
        "Surprisal of the reference at recorded responses",
        "the same over held-out recorded responses",
        "nats per token",
        "neutral",
    ),
    _round(
        "recorded_length",
        "Length of recorded responses",
        "mean number of tokens of a held-out recorded response",
        "tokens per response",
        "neutral",
    ),
    _round(
        "outside",
        "Mass outside the grammar",
        "E_x [ 1 - Σ_{y in the game} π(y|x) ], by enumeration: probability of texts outside the game's list",
        "share",
        "lower",
    ),
    _round(
        "exploitability_combinations",
        "Exploitability on new combinations",
        "the same as exploitability, over the held-out prompts whose words are all trained on (large tea house)",
        "probability",
        "lower",
    ),
    _round(
        "exploitability_words",
        "Exploitability on new words",
        "the same, over the held-out prompts with words that no training prompt has (large tea house)",
        "probability",
        "lower",
    ),
    _round(
        "gold_win_rate",
        "Win rate by the gold judge",
        "exact_win_rate by the reward that measures, where the panel judges by another one (large tea house)",
        "share",
        "higher",
    ),
    _round(
        "gold_exploitability",
        "Exploitability by the gold judge",
        "exploitability in the game of the reward that measures",
        "probability",
        "lower",
    ),
    _round(
        "judge_calls",
        "Judge calls",
        "comparisons, or responses to be scored, that training has put to the oracle up to this round; those of "
        "evaluations are not counted",
        "questions",
        "neutral",
    ),
    _score(
        "scores",
        "Named scores",
        "mean of each of the oracle's named scores over sampled responses; by name",
    ),
    _score(
        "told",
        "Named scores by direction",
        "the same over responses to prompts that tell a direction among the scores; a list of directions",
    ),
    _step(
        "loss",
        "Loss",
        "the objective's weighted mean over the comparisons of one optimizer step",
        "loss",
        "lower",
    ),
    _step(
        "margin",
        "Margin",
        "mean of the objective's own margin, the quantity its loss reads (for DPO β times the difference of "
        "log-ratios)",
        "objective's unit",
        "neutral",
    ),
    _step(
        "accuracy",
        "Training accuracy",
        "share of the step's pairs whose preferred response has the larger log π(y|x) - log π_a(y|x); ties count half; "
        "π_a as below",
        "share",
        "higher",
    ),
    _step(
        "chosen_log_ratio",
        "Log-ratio of chosen responses",
        "batch mean of log π(y_w|x) - log π_a(y_w|x), summed over tokens; π_a is the objective's first "
        "anchor: the reference, or the policy before the round",
        "nats per response",
        "higher",
    ),
    _step(
        "rejected_log_ratio",
        "Log-ratio of rejected responses",
        "batch mean of log π(y_l|x) - log π_a(y_l|x), summed over tokens",
        "nats per response",
        "neutral",
    ),
    _step(
        "grad_norm",
        "Gradient norm",
        "Euclidean norm of the gradient of all trained parameters before clipping",
        "loss per parameter unit",
        "neutral",
    ),
    _step("lr", "Learning rate", "step size of the optimizer at this step", "parameter units", "neutral"),
    _step(
        "baseline",
        "Reference point",
        "reference point of an unpaired loss: KTO's z0 = max(0, mean over the step's mismatched responses "
        "y' of log π(y'|x) - log π_ref(y'|x)), in nats, 0 where KTO is APO-zero; BCO's shift δ of the reward",
        "objective's unit",
        "neutral",
    ),
    _step("pessimism", "Pessimism", "batch mean of the objective's pessimism term", "loss", "neutral"),
    _step(
        "saturated",
        "Saturated pairs",
        "share of comparisons with a gradient below 1 % of its size at the anchors, so "
        "that they no longer teach",
        "share",
        "lower",
    ),
    _step(
        "clipped",
        "Clipped tokens",
        "share of the tokens whose ratio has left the clip range in the direction of their advantage: no gradient",
        "share",
        "neutral",
    ),
    Metric(
        name="reward",
        title="Reward",
        formula="mean over the responses of a group of the reward that the loss reads, such as a win rate",
        unit="share",
        better="neutral",
        per="step",
    ),
    Metric(
        name="seconds",
        title="Time",
        formula="wall-clock seconds of one phase of one round",
        unit="seconds",
        better="lower",
        per="phase",
    ),
    Metric(
        name="tokens",
        title="Tokens",
        formula="tokens that one phase of one round generated, scored or trained on",
        unit="tokens",
        better="neutral",
        per="phase",
    ),
)

ROUND_METRICS: tuple[Metric, ...] = tuple(metric for metric in METRICS if metric.per == "round")
BY_NAME: dict[str, Metric] = {metric.name: metric for metric in reversed(METRICS)}

_HEADINGS = {
    "round": "Per round, evaluated on held-out prompts (evaluation.jsonl)",
    "score": "Per named score of an oracle that has some, where the method reads them (evaluation.jsonl)",
    "step": "Per optimizer step (metrics.jsonl)",
    "phase": "Per phase of a round (timings.jsonl)",
}


def markdown() -> str:
    """The whole of docs/metrics.md."""
    lines = [
        "# Metrics",
        "",
        "Generated from `src/equipoise/report/run/metrics.py`; do not edit. Print it with"
        " `python -m equipoise.report.run.metrics > docs/metrics.md`.",
        "",
        "Symbols: x prompt, y response, y_w and y_l the preferred and the other response of a pair, π the"
        " trained policy, π_ref the reference (round 0), P(y > y' | x) the oracle's probability that y beats"
        " y', P(y > π | x) its mean over y' ~ π(·|x), τ the KL weight of the game. Logarithms are natural.",
    ]
    for per, heading in _HEADINGS.items():
        lines += [
            "",
            f"## {heading}",
            "",
            "| name | metric | formula | unit | better |",
            "|---|---|---|---|---|",
        ]
        lines += [
            f"| `{m.name}` | {m.title} | {m.formula.replace('|', chr(92) + '|')} | {m.unit} | {m.better} |"
            for m in METRICS
            if m.per == per
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(markdown(), end="")
