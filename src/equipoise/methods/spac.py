"""Offline pairs cover some responses badly, and a policy that trusts its reward there exploits errors. SPAC,
self-play with an adversarial critic (2406.04274), adds pessimism on one own response per prompt: an adversarial
critic, expressed by the policy itself, undervalues what the data do not support.

Structure from the abstract and a public summary; the explicit loss is DERIVED (see the docs page). The paper's
hyperparameters were not recovered: b and w_pess follow its theory (DERIVED), T is ours.
"""

from equipoise.core.objectives import Spac
from equipoise.games.offline import population
from equipoise.games.preference import PreferenceGame
from equipoise.games.spac_t import spac_step_exact
from equipoise.games.tabular import TabularPolicy
from equipoise.methods.sources import NOT_RECOVERED, OURS, of
from equipoise.methods.tiny import TINY
from equipoise.play.method import Method
from equipoise.play.pairings.recorded import AsRecorded
from equipoise.play.players.recorded import Recorded
from equipoise.play.state import START, State
from equipoise.play.updates.basic import Refit


def exact_step(game: PreferenceGame, state: State, method: Method) -> TabularPolicy:
    """Critic with |f| <= b clip on the population of pairs from the reference, then the mirror step (mode "linear").

    Where the box does not bind, the argmin of the practical linear objective without clip is exactly this. A response
    that wins or loses with certainty has a critic without bound, and the box is what gives it a value. Raises
    ValueError in mode "smooth", which has no closed form, and NotConverged without a box where there is no minimiser.
    """
    objective = method.objective
    assert isinstance(objective, Spac)
    if objective.mode != "linear":
        raise ValueError("SPAC's closed form is that of mode=linear; run mode=smooth with --gradient")
    data = population(game, game.initial())
    return spac_step_exact(
        data,
        state.policies[START],
        lam=objective.w_pref / objective.w_pess,
        eta=1 / objective.b,
        bound=objective.b * objective.clip,
    )


SPAC = Method(
    name="spac",
    title="Self-Play with Adversarial Critic",
    paper="2406.04274",
    confidence="derived",
    players=Recorded(own=1),
    pairing=AsRecorded(),
    objective=Spac(),
    anchors={"previous": START},
    update=Refit(),
    rounds=3,
    train={"batch": 64, "schedule": "cosine", "warmup": 0.1},
    playground={**TINY, "train.epochs": 3, "train.eps": 1e-2, "train.lr": 2e-3},
    by_size={
        # sqrt(T B^2/(2 KL)) at B = 1 and KL(pi*||pi_1) = 1.5 nats
        "b": lambda size, known: (size.rounds / 3) ** 0.5,
        # lambda = w_pref/w_pess of order C sqrt(n), at C = 1
        "w_pess": lambda size, known: size.comparisons and size.comparisons**-0.5,
    },
    exact={"b": 1.0, "w_pref": 10.0, "w_pess": 1.0, "mode": "linear", "clip": 10.0},
    closed_form=exact_step,
    sources={
        **of(OURS, "batch schedule warmup parts"),
        **of(NOT_RECOVERED, "w_pref rounds"),
        "b": "DERIVED: sqrt(T B^2/(2 KL)), the inverse step of the regret bound; B = 1 and KL = 1.5 nats are ours",
        "w_pess": "paper's text: lambda = w_pref/w_pess of order C sqrt(n); C = 1 is ours",
        "mode": "log-sigmoid smoothing is the paper's, its form derived",
        "clip": "ours; the critic's box on exact games, no part of the smooth form",
        "samples": "paper's text: one own response to a prompt",
    },
)
