"""Human preference labels are scarce. After a seed of recorded pairs these methods sample pairs and label them
by the policy's own implicit reward, and guard against its errors: SPA, spread preference annotation
(2406.04412), smooths doubtful labels; CREAM, consistency-regularised self-rewarding (2410.12735), trusts labels
as far as two successive policies agree in their ranking.
"""

from dataclasses import replace

from equipoise.core.objectives import Dpo, Spa
from equipoise.methods.dpo import DPO
from equipoise.methods.sources import CODE, OURS, of
from equipoise.methods.tiny import TINY
from equipoise.play.pairings.self_labelled import ImplicitRewardLabels
from equipoise.play.players.recorded import RecordedThenSampled
from equipoise.play.state import START

SPA = replace(
    DPO,
    name="spa",
    title="Spread Preference Annotation",
    paper="2406.04412",
    players=RecordedThenSampled(samples=2),
    pairing=ImplicitRewardLabels(),
    objective=Spa(beta=0.1, smoothing=0.1, threshold=0.0),
    anchors={"reference": START},
    rounds=3,
    playground={**TINY, "objective.beta": 0.5, "train.epochs": 2},
    exact={"beta": 0.5},
    sources={
        **DPO.sources,
        **of(CODE, "beta smoothing samples"),
        "threshold": "ours; the authors' code moves it with the margins, to their 10th percentile",
        "rounds": "paper, at second hand: a seed and two rounds",
        "batch": OURS,
    },
    evidence=("tests/play/test_self_labelled.py",),
    notes="Round 1 is the refined loss on the recorded seed, where the paper runs DPO for 3 epochs. Smoothing is "
    "constant, where the paper starts it after a fifth of the steps; margins are the policy's own and not those of "
    "extrapolated logits.",
)

CREAM = replace(
    SPA,
    name="cream",
    title="Consistency-Regularized Self-Rewarding",
    paper="2410.12735",
    players=RecordedThenSampled(samples=4),
    pairing=ImplicitRewardLabels(consistency=True),
    objective=Dpo(beta=0.1),
    sources={
        **DPO.sources,
        "beta": CODE,
        "smoothing": "0: the consistency takes its place",
        **of(OURS, "samples rounds batch"),
    },
    notes="The loss is DPO's in expectation over a label that is right with probability C, the mean consistency. "
    "Round 1 is DPO on recorded pairs, in place of the paper's fine-tuned first model.",
)
