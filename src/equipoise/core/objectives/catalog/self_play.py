"""Self-play: objectives of methods that write their own responses, or meet an opponent."""

from __future__ import annotations

from equipoise.core.objectives import estimates
from equipoise.core.objectives.catalog.row import LOG2, NO_LABEL, Row, never
from equipoise.core.objectives.chasing import Ofs
from equipoise.core.objectives.hybrid import Hypo, Sail
from equipoise.core.objectives.optimism import Vpo, Xpo
from equipoise.core.objectives.regression import Copg, Dno, Egpo, Gpo, Sppo, SppoHard
from equipoise.core.objectives.spac import Spac
from equipoise.core.objectives.squared import Inpo, NashMd, Onpo
from equipoise.core.objectives.srpo import Srpo

ROWS: dict[str, Row] = {
    "inpo": Row(
        build=Inpo,
        title="Iterative Nash policy optimisation",
        paper="2407.00617",
        confidence="paper's text",
        at_anchor=lambda o: 0.25 / o.eta**2,
    ),
    "nash_md": Row(
        build=NashMd,
        title="Nash mirror descent, as a regression",
        paper="2312.00886",
        confidence="derived",
        at_anchor=lambda o: 0.25 * o.eta**2,
    ),
    "onpo": Row(
        build=Onpo,
        title="Optimistic Nash policy optimisation",
        paper="2502.16852",
        confidence="paper's text",
        at_anchor=lambda o: 0.25 * o.eta**2,
    ),
    "srpo": Row(
        build=Srpo,
        title="Self-improving robust preference optimisation",
        paper="2406.01660",
        confidence="derived",
        at_anchor=lambda o: 1 - 0.5 * o.alpha,
        variants=({"alpha": 0.25},),
    ),
    "spac": Row(
        build=Spac,
        title="Self-play with an adversarial critic",
        paper="2406.04274",
        confidence="derived",
        at_anchor=lambda o: LOG2 * (o.w_pref + (2 * o.w_pess if o.mode == "smooth" else 0.0)),
        variants=({"mode": "linear"},),
    ),
    "xpo": Row(
        build=Xpo,
        title="Exploratory preference optimisation",
        paper="2405.21046",
        confidence="verified in code",
        at_anchor=lambda _: LOG2,
        shift_invariant=never,  # one response stands alone
    ),
    "vpo": Row(
        build=Vpo,
        title="Value-incentivised preference optimisation",
        paper="2405.19320",
        confidence="derived",
        at_anchor=lambda _: LOG2,
        variants=({"optimistic": False},),
        shift_invariant=never,  # one response stands alone
    ),
    "ofs": Row(
        build=Ofs,
        title="Online fast-slow chasing DPO",
        paper="2406.05534",
        confidence="verified in code",
        at_anchor=lambda o: LOG2 * (1 + (-o.chase if o.slow else o.chase)),
        variants=({"slow": True},),
    ),
    "hypo": Row(
        build=Hypo,
        title="Hybrid preference optimisation",
        paper="2406.01462",
        confidence="derived",
        at_anchor=lambda _: LOG2,
        estimates=estimates.hybrid_loss,
        own=2,
    ),
    "sail": Row(
        build=Sail,
        title="Self-improving alignment",
        paper="2406.15567",
        confidence="derived",
        variants=(
            {"generation": 0.0, "preference": 1.0},
            {"generation": 1.0, "preference": 1.0},
            {"generation": 0.3, "preference": 0.6},
        ),
        exempt={
            "at_anchor": "the surrogate holds log-probs themselves, not only ratios",
            "first_order": "the score-function term moves both responses alike",
        },
        estimates=estimates.self_made_loss,
    ),
    "sppo_hard": Row(
        build=SppoHard,
        title="Self-play preference optimisation, hard labels",
        paper="2405.00675",
        confidence="verified in code",
        at_anchor=lambda o: 0.5 * o.eta**2,
        shift_invariant=never,  # each response has a target of its own
    ),
    "sppo": Row(
        build=Sppo,
        title="Self-play preference optimisation",
        paper="2405.00675",
        confidence="verified in code",
        exempt=NO_LABEL,
        shift_invariant=never,  # each response has a target of its own
        reward_shift_invariant=False,
    ),
    "gpo": Row(
        build=Gpo,
        title="General preference optimisation",
        paper="2410.02197",
        confidence="recalled",
        exempt=NO_LABEL,
        shift_invariant=never,  # each response has a target of its own
        reward_shift_invariant=False,
    ),
    "dno": Row(
        build=Dno,
        title="Direct Nash optimisation",
        paper="2404.03715",
        confidence="paper's text",
        exempt=NO_LABEL,
        reward_shift_invariant=True,
    ),
    "egpo": Row(
        build=Egpo,
        title="Extragradient preference optimisation",
        paper="2503.08942",
        confidence="verified in code",
        exempt=NO_LABEL,
        reward_shift_invariant=True,
    ),
    "copg": Row(
        build=Copg,
        title="Contrastive policy gradient",
        paper="2406.19185",
        confidence="derived",
        variants=({"beta": 0.0},),
        exempt=NO_LABEL,
        reward_shift_invariant=True,
    ),
}
