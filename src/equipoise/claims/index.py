"""The table of claims."""

from __future__ import annotations

from difflib import get_close_matches

from equipoise.claims.apo import ACCELERATION
from equipoise.claims.asft import RAISES
from equipoise.claims.bco import MISMATCHED
from equipoise.claims.claim import Claim
from equipoise.claims.classes import CLASSES
from equipoise.claims.copg import OFF_POLICY_CLAIM
from equipoise.claims.d2o import NEGATIVES_ONLY
from equipoise.claims.dno import MONOTONE
from equipoise.claims.egpo import BASELINES
from equipoise.claims.f_dpo import DIVERGENCES
from equipoise.claims.forgetting import FORGETTING
from equipoise.claims.gpm import CYCLES
from equipoise.claims.hypo import PARTIAL_COVERAGE
from equipoise.claims.inpo import FIXED_POINT, LAST_ITERATE
from equipoise.claims.kto import CARD
from equipoise.claims.label_flips import LABEL_FLIPS
from equipoise.claims.mpo import PLAIN_NASH
from equipoise.claims.npo import SLOW_COLLAPSE
from equipoise.claims.onpo import LAST_ITERATE as ONPO_LAST_ITERATE
from equipoise.claims.osp import STRENGTHS_CLAIM
from equipoise.claims.p3o import SHIFT_INVARIANCE
from equipoise.claims.rationale import DATA_EFFICIENCY
from equipoise.claims.regret import SELF_PLAY
from equipoise.claims.regret_loss import REGRET_LOSS
from equipoise.claims.rlp import ON_DISTRIBUTION
from equipoise.claims.rpo import OVER_OPTIMISATION
from equipoise.claims.rso import ACCEPTED
from equipoise.claims.rto import CREDIT
from equipoise.claims.sapo import AGAINST_SPIN
from equipoise.claims.spac import LUCKY_ARM, SADDLE
from equipoise.claims.spac_coverage import COVERAGE
from equipoise.claims.sparse_po import MASKS
from equipoise.claims.spo_degree import DEGREE
from equipoise.claims.sppo import RAISES_CHOSEN
from equipoise.claims.srpo import ROBUSTNESS
from equipoise.claims.three_d import PROPERTIES
from equipoise.claims.tpo import STEP_TREES
from equipoise.claims.vpo import SIGNS_MATTER
from equipoise.claims.xpo import EXPLORES

OFFLINE = (COVERAGE, LUCKY_ARM, SADDLE, PARTIAL_COVERAGE, ROBUSTNESS, FORGETTING, AGAINST_SPIN, SLOW_COLLAPSE)
PAIR_LOSSES = (LABEL_FLIPS, DIVERGENCES, OVER_OPTIMISATION, RAISES, PROPERTIES)
LISTS_AND_TOKENS = (STEP_TREES, MASKS, DATA_EFFICIENCY, DEGREE)
UNARY = (CARD, MISMATCHED, NEGATIVES_ONLY)
EQUILIBRIA = (
    CLASSES,
    LAST_ITERATE,
    FIXED_POINT,
    BASELINES,
    ONPO_LAST_ITERATE,
    PLAIN_NASH,
    ACCELERATION,
    MONOTONE,
    RAISES_CHOSEN,
    SELF_PLAY,
    REGRET_LOSS,
)
REWARDS = (
    STRENGTHS_CLAIM,
    ACCEPTED,
    EXPLORES,
    SIGNS_MATTER,
    SHIFT_INVARIANCE,
    OFF_POLICY_CLAIM,
    CYCLES,
    CREDIT,
    ON_DISTRIBUTION,
)

CLAIMS: dict[str, Claim] = {
    claim.name: claim for claim in (*OFFLINE, *PAIR_LOSSES, *LISTS_AND_TOKENS, *UNARY, *EQUILIBRIA, *REWARDS)
}


def get(name: str) -> Claim:
    """The named claim. Raises KeyError naming the nearest for one that is not listed."""
    if name not in CLAIMS:
        near = get_close_matches(name, CLAIMS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise KeyError(f"no claim {name!r}{hint} (known: {', '.join(CLAIMS)})")
    return CLAIMS[name]
