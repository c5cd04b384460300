"""Self-play for a regularised Nash policy either solves an inner problem in every round or does not converge in
its last iterate. EGPO, extragradient preference optimization (2503.08942), takes two gradient steps from the
same policy, the second against where the first one led; OMD, online mirror descent, is the same with one
gradient ("online IPO 1").
"""

from dataclasses import replace

from equipoise.core.objectives import Egpo
from equipoise.games.closed_form import mirror_step
from equipoise.games.preference import PreferenceGame
from equipoise.games.tabular import TabularPolicy
from equipoise.methods.sources import CODE, OURS, of
from equipoise.methods.tiny import MANY_STEPS
from equipoise.play.decoding import PLAIN
from equipoise.play.method import Method
from equipoise.play.pairings.sampled import Scored
from equipoise.play.players.sampled import Self, Written
from equipoise.play.state import INITIAL, OPPONENT, START, UNIFORM, State
from equipoise.play.updates.basic import Extragradient, MirrorStep


def gradient_step(game: PreferenceGame, state: State, method: Method) -> TabularPolicy:
    """pi ~ pi_t^(1 - eta beta) pi_ref^(eta beta) exp(eta P(y > opponent)), from pi_t whatever the opponent."""
    eta, beta = (method.parameters()[name] for name in ("eta", "beta"))
    win = game.win(state.policies[OPPONENT])
    return mirror_step(state.policies[START], win, step=eta, magnet=game.initial(), pull=eta * beta)


EGPO = Method(
    name="egpo",
    title="Extragradient Preference Optimization",
    paper="2503.08942",
    confidence="verified in code",
    players=Self(samples=2, temperature=2.0, top_k=10),
    pairing=Scored(against=OPPONENT, opponents=1, decode=PLAIN),
    objective=Egpo(beta=0.1),
    anchors={"reference": INITIAL},
    update=Extragradient(eta=0.5),
    rounds=100,
    train={"batch": 64, "schedule": "constant", "warmup": 0.1, "weight_decay": 0.01},
    playground={
        **MANY_STEPS,
        "train.eps": 1e-2,
        "objective.beta": 0.05,
        "objective.temperature": 1.0,
        "objective.top_k": 0,
        "play.samples": 8,
        "train.weight_decay": 0.0,
    },
    exact={"beta": 0.1, "eta": 0.5},
    closed_form=gradient_step,
    in_theory=(Written(by=UNIFORM, samples=2), Scored(against=OPPONENT)),
    kl_weight="beta",
    sources={
        **of(OURS, "rounds schedule"),
        **of(CODE, "beta samples temperature top_k batch weight_decay"),
        "eta": "ours; exact games only",
        "warmup": "authors' code: 1000 steps; here the first tenth of the run",
    },
    evidence=("tests/play/test_updates.py",),
    notes="As in the authors' code the second gradient is taken on prompts and responses of its own, which the "
    "half-step policy writes. y and y' are sampled at temperature 2 from the 10 likeliest tokens, the opponent at "
    "temperature 1. Log-probs are sums over tokens, as in the paper; the authors' code divides them by length by "
    "default. Exact games enumerate uniform pairs, the paper's tabular sampler.",
)

OMD = replace(EGPO, name="omd", title="Online mirror descent", update=MirrorStep(eta=0.5))
