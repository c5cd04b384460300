"""Self-play regularised towards a fixed reference converges in its last iterate, but not to the Nash policy of
the game itself. MPO, magnetic preference optimization (2410.16714), regularises towards a magnet, a copy of the
policy that is renewed every so many rounds, so that the sequence of regularised equilibria leads to the plain
Nash policy.
"""

from equipoise.core.objectives import Mpo
from equipoise.games.closed_form import mirror_step, mmd_step
from equipoise.games.preference import PreferenceGame
from equipoise.games.tabular import TabularPolicy
from equipoise.methods.sources import OURS, SHORT_ROUNDS
from equipoise.methods.tiny import MANY_STEPS
from equipoise.play.method import Method
from equipoise.play.pairings.sampled import Scored
from equipoise.play.players.sampled import Self
from equipoise.play.state import MAGNET, START, State
from equipoise.play.updates.basic import Descend, Magnetic


def magnetic_step(game: PreferenceGame, state: State, method: Method) -> TabularPolicy:
    """The round's maximiser; with the magnet's term charged as sampled, a mirror step from pi_t^(1 - eta alpha)."""
    eta, alpha, real_time = (method.parameters()[name] for name in ("eta", "alpha", "real_time"))
    policy, magnet = state.policies[START], state.policies[MAGNET]
    if real_time:
        return mmd_step(game, policy, magnet, eta=eta, alpha=alpha)
    return mirror_step(policy, game.win(policy), step=eta, magnet=magnet, pull=eta * alpha)


MPO = Method(
    name="mpo",
    title="Magnetic Preference Optimization",
    paper="2410.16714",
    confidence="derived",
    players=Self(samples=4),
    pairing=Scored(),
    objective=Mpo(alpha=0.1, eta=1.0),
    anchors={"magnet": MAGNET, "previous": START},
    update=Magnetic(base=Descend(rate=0.1), every=50),
    rounds=150,
    train={"batch": 64, "schedule": "constant", "warmup": 0.0},
    playground={**MANY_STEPS, "objective.alpha": 0.05, "objective.every": 10, "play.samples": 8},
    exact={"alpha": 0.1, "eta": 1.0},
    closed_form=magnetic_step,
    in_theory=(Self(samples=1), Scored(opponents=1)),
    sources={
        **SHORT_ROUNDS,
        "alpha": "ours; the exact game converges with it",
        "eta": "ours; the exact game converges with it",
        "every": "ours; the exact game converges with it",
        "samples": OURS,
        "real_time": "ours; which of the two the paper calls MPO-RT is recalled",
    },
    evidence=("tests/play/test_updates.py",),
    notes="The step is DERIVED from magnetic mirror descent; the language-model loss is RECALLED. "
    "real_time=false charges the magnet's term as it was when the responses were sampled; the two differ where a "
    "round has several optimizer steps, and in the closed form.",
)
