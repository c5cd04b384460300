"""DPO treats all pairs equally, whether the chosen response is slightly or far better. ODPO, DPO with an offset
(2402.10571), requires the margin to exceed an offset that grows with the difference of the two responses'
scores.
"""

from dataclasses import replace

from equipoise.core.objectives import Odpo
from equipoise.methods.dpo import DPO
from equipoise.methods.sources import CODE
from equipoise.play.needs import PAIRS_WITH_MARGINS
from equipoise.play.pairings.sampled import Scored
from equipoise.play.players.recorded import Recorded
from equipoise.play.players.sampled import Written
from equipoise.play.state import INITIAL

ODPO = replace(
    DPO,
    players=Recorded(needs=PAIRS_WITH_MARGINS),
    name="odpo",
    title="DPO with an offset from scores",
    paper="2402.10571",
    objective=Odpo(beta=0.1, alpha=1.0),
    exact={"beta": 0.5},
    in_theory=(Written(by=INITIAL, samples=2), Scored(against=INITIAL)),
    sources={**DPO.sources, "beta": "DPO's; the authors try several", "alpha": CODE},
    notes="The score difference is the column `margin` of a pair, or the difference of two answers' scores in a list; "
    "pairs without one above 0 are left out. Differences below 1 have a negative offset: scale alpha to the scores. A "
    "finite game's pairs are two responses of the initial policy, their scores win rates against it.",
)
