"""The table of claims."""

from __future__ import annotations

from difflib import get_close_matches

from equipoise.claims.claim import Claim
from equipoise.claims.convergence.apo import ACCELERATION
from equipoise.claims.convergence.classes import CLASSES
from equipoise.claims.convergence.dno import MONOTONE
from equipoise.claims.convergence.egpo import BASELINES
from equipoise.claims.convergence.inpo import FIXED_POINT, LAST_ITERATE
from equipoise.claims.convergence.mpo import PLAIN_NASH
from equipoise.claims.convergence.onpo import LAST_ITERATE as ONPO_LAST_ITERATE
from equipoise.claims.convergence.regret import SELF_PLAY
from equipoise.claims.convergence.regret_loss import REGRET_LOSS
from equipoise.claims.coverage.hypo import PARTIAL_COVERAGE
from equipoise.claims.coverage.rpo import OVER_OPTIMISATION
from equipoise.claims.coverage.spac import LUCKY_ARM, SADDLE
from equipoise.claims.coverage.spac_coverage import COVERAGE
from equipoise.claims.coverage.srpo import ROBUSTNESS
from equipoise.claims.coverage.vpo import SIGNS_MATTER
from equipoise.claims.exploration.xpo import EXPLORES
from equipoise.claims.likelihood.asft import RAISES
from equipoise.claims.likelihood.f_dpo import DIVERGENCES
from equipoise.claims.likelihood.npo import SLOW_COLLAPSE
from equipoise.claims.likelihood.sppo import RAISES_CHOSEN
from equipoise.claims.likelihood.three_d import PROPERTIES
from equipoise.claims.rewards.copg import OFF_POLICY_CLAIM
from equipoise.claims.rewards.gpm import CYCLES
from equipoise.claims.rewards.label_flips import LABEL_FLIPS
from equipoise.claims.rewards.osp import STRENGTHS_CLAIM
from equipoise.claims.rewards.p3o import SHIFT_INVARIANCE
from equipoise.claims.rewards.rlp import ON_DISTRIBUTION
from equipoise.claims.rewards.rso import ACCEPTED
from equipoise.claims.shared_parameters.forgetting import FORGETTING
from equipoise.claims.shared_parameters.sapo import AGAINST_SPIN
from equipoise.claims.tokens.rationale import DATA_EFFICIENCY
from equipoise.claims.tokens.rto import CREDIT
from equipoise.claims.tokens.sparse_po import MASKS
from equipoise.claims.tokens.spo_degree import DEGREE
from equipoise.claims.tokens.tpo import STEP_TREES
from equipoise.claims.unpaired.bco import MISMATCHED
from equipoise.claims.unpaired.d2o import NEGATIVES_ONLY
from equipoise.claims.unpaired.kto import CARD

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
