"""Human preference labels are scarce. These methods sample pairs and label them by the policy's own implicit
reward, and guard against its errors: SPA, spread preference annotation (2406.04412), begins with a small labelled
seed and smooths doubtful labels; CREAM, consistency-regularised self-rewarding (2410.12735), begins with supervised
fine-tuning and trusts labels as far as two successive policies agree in their ranking.
"""

from dataclasses import replace

from equipoise.core.objectives import Dpo, Spa
from equipoise.methods.dpo import DPO
from equipoise.methods.sources import CODE, OURS, of
from equipoise.methods.tiny import TINY
from equipoise.play.method import Phase
from equipoise.play.pairings.self_labelled import ImplicitRewardLabels
from equipoise.play.players.recorded import RecordedThenSampled
from equipoise.play.players.sampled import Self
from equipoise.play.schedules import ByRound, Ramp
from equipoise.play.state import BASE, START
from equipoise.play.updates.live_reference import ExtrapolatedLogitsRefit

SPA = replace(
    DPO,
    name="spa",
    title="Spread Preference Annotation",
    paper="2406.04412",
    players=RecordedThenSampled(samples=2, labelled=0.033, temperature=0.7),
    pairing=ImplicitRewardLabels(),
    objective=Spa(beta=0.1, smoothing=0.0, share=0.0, mix=1.0),
    anchors={"reference": START},
    update=ExtrapolatedLogitsRefit(),
    rounds=3,
    schedules={
        "smoothing": Ramp(start=0.0, end=0.1, over="steps", shape="step", share=0.2),
        "share": ByRound((0.0, 0.1)),
        "mix": ByRound((1.0, 1.5, 1.25, 1.125)),
    },
    playground={
        **TINY,
        "objective.beta": 0.5,
        "objective.labelled": 0.1,
        "objective.temperature": 1.0,
        "train.epochs": 2,
        "train.batch": 64,
    },
    exact={"beta": 0.5, "labelled": 1.0, "temperature": 1.0},
    sources={
        **DPO.sources,
        **of(CODE, "beta smoothing samples temperature"),
        "share": "authors' code; 0 in round 1, which is DPO on the seed",
        "labelled": "paper: 3.3 % of the labels",
        "mix": "paper, at second hand: 1 + 1/2, 1/4, 1/8 over the rounds; the authors' code leaves it at 1, off",
        "rounds": "paper, at second hand: a seed and two rounds",
        "batch": OURS,
    },
    evidence=("tests/play/test_self_labelled.py", "spa_few_labels"),
    notes="Round 1 is DPO on the labelled share of the recorded pairs, which the paper repeats for 3 epochs; here all "
    "rounds have the run's epochs. As in the authors' code smoothing begins after a fifth of a round's steps, and "
    "doubtful are the pairs below the 10th percentile of margins from extrapolated logits; theirs is over the last "
    "50 pairs, ours over the step's own. A reference model stays in memory for the extrapolation; mix=1 needs none.",
)

CREAM = replace(
    DPO,
    name="cream",
    title="Consistency-Regularized Self-Rewarding",
    paper="2410.12735",
    confidence="verified in code",
    players=Self(samples=5, temperature=0.8, top_p=0.95),
    pairing=ImplicitRewardLabels(reference=BASE, seeded=False, consistency="corpus"),
    objective=Dpo(beta=0.1),
    anchors={"reference": START},
    rounds=2,
    phases=(Phase(name="sft", method="sft", settings={"train.epochs": 5}),),
    train={"batch": 32, "schedule": "cosine", "warmup": 0.1, "weight_decay": 0.01},
    playground={
        **TINY,
        "objective.beta": 0.5,
        "objective.temperature": 1.0,
        "objective.top_p": 1.0,
        "objective.floor": 0.5,
        "data.pairs": 500,
        "play.phases": {"sft": {"train.epochs": 12, "train.batch": 64}},
        "train.epochs": 4,
        "train.batch": 32,
        "train.micro_batch": 32,
        "train.weight_decay": 0.0,
    },
    exact={"beta": 0.5, "temperature": 1.0, "top_p": 1.0},
    in_theory=(RecordedThenSampled(samples=4), ImplicitRewardLabels(consistency="corpus")),
    sources={
        **of(CODE, "beta samples temperature top_p consistency schedule warmup weight_decay batch"),
        "smoothing": "0: the consistency takes its place",
        "floor": "0: the authors' consistency is not bounded",
        "rounds": "paper: M2 and M3",
        "phases": "authors' code: supervised fine-tuning makes M1, 5 epochs",
    },
    evidence=("tests/play/test_self_labelled.py", "cream_noise"),
    notes="The loss is DPO's in expectation over a label that is right with probability C. The first model M1 is "
    "fine-tuned on demonstrations (of pairs the chosen responses), the reward is measured against the model before "
    "that, and the previous policy of round 1 is that model. consistency=prompt takes each prompt's own C. A C below "
    "1/2 turns every label round, which floor=0.5 forbids: in round 1 the reward log M1 - log M0 meets the ranking by "
    "log M0 itself, and where demonstrations make M1 flatter than M0 the two disagree although the reward is right "
    "(playground, 2,000 recorded pairs: C 0.33, while the labels of 88 % of the pairs are right). Exact games, which "
    "have no phases, begin with a round on recorded pairs.",
)
