"""Explanations of a report's findings: meaning and remedy. docs/diagnosis.md is printed from this table.

python -m equipoise.report.run.explain > docs/diagnosis.md
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Explanation:
    """One section of the docs page: its anchor, its heading, and two paragraphs."""

    anchor: str
    heading: str
    meaning: str
    action: str


EXPLANATIONS: tuple[Explanation, ...] = (
    Explanation(
        "run-incomplete",
        "The run is not finished",
        "The run was interrupted or is still going. Every figure describes the rounds that were completed.",
        "Run the same command on the same folder: it resumes where it stopped.",
    ),
    Explanation(
        "closed-gates",
        "A check did not pass",
        "Before and during a run, named checks measure something against a limit: that the anchors are the"
        " policy's own, that few answers are cut, that what the run depends on is what it began with. One of"
        " them did not pass; it was allowed, or it only warns.",
        "docs/gates.md says what each measures and why. Mend the cause and repeat the run, unless you know why it is"
        " harmless here.",
    ),
    Explanation(
        "not-finite",
        "A loss or gradient is not finite",
        "NaN or infinity reached the loss or the gradient norm. Later steps are meaningless,"
        " and the weights may already be corrupted.",
        "Look at the first such step. Lower the learning rate, train in fp32 instead of bf16,"
        " and look at that step's comparisons. Start again from the last checkpoint before it.",
    ),
    Explanation(
        "win-rate",
        "Win rate against the reference",
        "The share of comparisons the trained policy wins against the model it started from, on held-out"
        " prompts. The interval is clustered by prompt, because several samples of one prompt are not"
        " independent. If it includes one half, this evaluation cannot tell the two models apart. Of fewer than 10"
        " prompts nothing is said.",
        "If the interval includes one half, evaluate on more prompts (more samples of the same prompts"
        " help less). If it lies below, look at the held-out accuracy and the samples first: flipped"
        " labels, or a policy that moved much too far, are the usual causes.",
    ),
    Explanation(
        "exploitability",
        "Exploitability",
        "Twice the win rate of a best response against the policy, minus one. It is zero"
        " only if no policy beats it."
        " It may rise while the win rate against the reference rises"
        " too: beating one opponent is not the same as being beaten by none.",
        "If it rose, compare with a self-play method, use the averaged policy, strengthen the KL weight of"
        " the game, or take smaller steps. A method that plays the regularised game settles at the gap its"
        " tau implies, not at zero.",
    ),
    Explanation(
        "likelihood-displacement",
        "Likelihood displacement",
        "The margin between chosen and rejected responses grew although the chosen responses became less"
        " likely: both fell, the rejected ones further. The probability went to responses outside the data,"
        " which may be better, or the opposite of what was wanted (Razin et al. 2024).",
        "Read the samples. Add a likelihood term on chosen responses, raise beta, train for fewer epochs,"
        " or drop pairs whose two responses are almost the same. On-policy responses suffer less.",
    ),
    Explanation(
        "length-drift",
        "Length drift",
        "Sampled responses became clearly longer or shorter than those of the reference. Many judges"
        " favour length, so part of a win rate may be length and not quality.",
        "Compare win rates at equal length, check whether chosen responses in the data are longer than"
        " rejected ones, or use an objective on mean token log-probs.",
    ),
    Explanation(
        "saturated-pairs",
        "Saturated pairs",
        "Most pairs have a margin so large that the loss is flat there. They give almost no gradient any"
        " more, so further epochs mainly move the few others, or noise.",
        "Stop earlier, lower beta, or write fresh pairs with the current policy.",
    ),
    Explanation(
        "large-kl",
        "Large KL to the reference",
        "The policy is far from the model it started from. At 10 nats per response no selection among"
        " 60,000 samples of the reference would reach as far, and oracles are least reliable there. For"
        " long responses look at nats per token.",
        "Check that samples are still good by a measure the training did not use. Raise beta (or tau),"
        " lower the learning rate, or stop at an earlier round.",
    ),
    Explanation(
        "held-out-accuracy",
        "Held-out preference accuracy",
        "The share of held-out pairs on which the policy moved towards the preferred response. If its"
        " interval includes one half, training did not generalise to these pairs. The number"
        " is measured against the reference; it is not the share of pairs the policy ranks correctly. Of fewer than"
        " 20 pairs nothing is said: their interval is wider than 40 points.",
        "Check the order of chosen and rejected, use more or cleaner pairs, or train longer if the"
        " training margin has hardly moved. High training margins with accuracy near one half mean"
        " memorisation.",
    ),
    Explanation(
        "held-out-ranking",
        "Held-out ranking accuracy",
        "The share of held-out pairs whose preferred response is the more likely one, under the policy and under"
        " the model it started from, pair by pair. A policy can move towards preferred responses (held-out preference"
        " accuracy) and still rank most pairs as before, above all if it has hardly been trained.",
        "Look at the number of optimizer steps first: with fewer than a hundred lower the batch or add epochs, or raise"
        " the learning rate. Long responses of different lengths are ranked by length as much as by preference.",
    ),
    Explanation(
        "unfinished-responses",
        "More unfinished responses",
        "More sampled responses than before reach the length limit without an end-of-sequence token."
        " Either they became longer, or the model no longer stops. Judges then see truncated text.",
        "Check that the end-of-sequence token is part of every training response and not masked, and keep"
        " data.max_length above the longest answer. Raise the sampling limit if the responses are simply long.",
    ),
    Explanation(
        "refused-rows",
        "Many rows refused",
        "A noticeable share of the data was refused before training, for the reasons in the ledger. The"
        " rest may no longer be representative of it.",
        "Read the reasons in the ledger; most are a wrong column name, a wrong format or empty responses,"
        " and are fixed at the source.",
    ),
    Explanation(
        "truncation-by-side",
        "Truncation differs by side",
        "One side of the pairs (chosen or rejected) was truncated to the length limit more often than the other."
        " The policy can then learn from the missing end instead of the content.",
        "Raise the length limit, or drop every pair in which either response would be cut.",
    ),
    Explanation(
        "outside-the-game",
        "Mass outside the grammar",
        "The policy puts more probability than before on texts outside the game's list. Those texts have no"
        " defined preference, so exact win rates and gaps describe only the rest.",
        "Compare with the pessimism weight and the KL weight: an objective without either has no reason to"
        " stay inside the data. Take smaller steps.",
    ),
    Explanation(
        "left-the-support",
        "The policy left the reference's support",
        "After a round the policy wrote what the reference would hardly ever write: texts outside the game, tokens that"
        " it finds several times less likely than its own and the recorded ones, or responses that do not end or have"
        " another length altogether. Preference losses say nothing about such texts, so a run does not come back from"
        " there. It ended, and delivers the last evaluated round before.",
        "Raise the objective's KL weight or pessimism, lower the learning rate, or train fewer epochs a round. To play"
        " on regardless, repeat the command with --allow support.",
    ),
    Explanation(
        "loss-did-not-fall",
        "The loss did not fall",
        "In most rounds the loss at the end of training was not below the loss at the start.",
        "Raise the learning rate or train longer; check that the policy's parameters require gradients. If"
        " the loss is noisy, larger batches show whether there is a trend. Some objectives start at their"
        " minimum on the policy's own samples; then the win rate is the better guide.",
    ),
    Explanation(
        "gradient-clipping",
        "Gradient clipping on most steps",
        "Most steps hit the clipping threshold, so their length is set by the threshold and the learning"
        " rate, not by the loss.",
        "If training is stable, raise the threshold; if not, lower the learning rate or lengthen the"
        " warm-up. Sums over long responses give large gradients by themselves.",
    ),
)

BY_ANCHOR: dict[str, Explanation] = {one.anchor: one for one in EXPLANATIONS}


def markdown() -> str:
    """The whole of docs/diagnosis.md."""
    lines = [
        "# Diagnosis",
        "",
        "What the findings of a report mean, and what to do. The rules and their thresholds, each with its"
        " reason, are in `src/equipoise/report/run/diagnose.py`.",
        "",
        "Generated from `src/equipoise/report/run/explain.py`; do not edit. Print it with"
        " `python -m equipoise.report.run.explain > docs/diagnosis.md`.",
    ]
    for one in EXPLANATIONS:
        lines += [
            "",
            f'<a id="{one.anchor}"></a>',
            "",
            f"## {one.heading}",
            "",
            f"**What it means.** {one.meaning}",
            "",
            f"**What to do.** {one.action}",
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(markdown(), end="")
