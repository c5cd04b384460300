"""Where a recorded label is certain, DPO's optimum has an infinite margin and its KL regularisation loses
effect. IPO, identity preference optimization (2310.12036), regresses the margin on a finite target, 1/(2 tau);
`ipo` sums log-probs over tokens, `ipo_mean` averages them.
"""

from dataclasses import replace

from equipoise.core.objectives import Ipo, IpoMean
from equipoise.games.closed_form import best_response
from equipoise.methods.dpo import DPO
from equipoise.methods.tiny import TINY

IPO = replace(
    DPO,
    name="ipo",
    title="Identity Preference Optimization",
    paper="2310.12036",
    objective=Ipo(tau=0.1),
    playground={**TINY, "objective.tau": 0.5, "train.epochs": 4},
    closed_form=lambda game, _, m: best_response(game, game.initial(), m.parameters()["tau"]),
    kl_weight="tau",
    by_size={"tau": lambda size, known: size.tokens and 0.1 / size.tokens},
    sources={
        **DPO.sources,
        "tau": "ours: 0.1/L for recorded responses of L tokens, a target margin of 5 nats per token, as HALOs' 0.1 is "
        "for means over tokens. A sum's 0.1 asks for 5 nats of a whole response, less than many a reference's own "
        "preference between two of them, so that no ranking changes; FSPO's authors' code sums and takes 0.01",
    },
)

IPO_MEAN = replace(
    IPO,
    name="ipo_mean",
    title="Identity Preference Optimization, per token",
    objective=IpoMean(tau=0.1),
    playground={**TINY, "objective.tau": 2.0, "train.epochs": 4},
    closed_form=None,
    by_size={},
    sources={
        **IPO.sources,
        "tau": "a library's (HALOs)",
    },
)
