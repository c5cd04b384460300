"""The table of claims."""

from __future__ import annotations

from difflib import get_close_matches

from equipoise.claims.claim import Claim
from equipoise.claims.gpm import CYCLES
from equipoise.claims.inpo import FIXED_POINT, LAST_ITERATE
from equipoise.claims.spac import LUCKY_ARM, SADDLE
from equipoise.claims.spac_coverage import COVERAGE

CLAIMS: dict[str, Claim] = {
    claim.name: claim for claim in (COVERAGE, LUCKY_ARM, SADDLE, LAST_ITERATE, FIXED_POINT, CYCLES)
}


def get(name: str) -> Claim:
    """The named claim. Raises KeyError naming the nearest for one that is not listed."""
    if name not in CLAIMS:
        near = get_close_matches(name, CLAIMS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise KeyError(f"no claim {name!r}{hint} (known: {', '.join(CLAIMS)})")
    return CLAIMS[name]
