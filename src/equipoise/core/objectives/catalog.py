"""The table of objectives: name -> callable, data need, claims that the contract suite checks, source.

Explicit on purpose: one row per objective, no registration by import.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from equipoise.core.objectives import estimates
from equipoise.core.objectives.base import Objective
from equipoise.core.objectives.chasing import Ofs
from equipoise.core.objectives.hybrid import Hypo, Sail
from equipoise.core.objectives.logistic import Cdpo, Dpo
from equipoise.core.objectives.optimism import Vpo, Xpo
from equipoise.core.objectives.policy_gradient import Mpo, P3o, Reinforce, Rloo
from equipoise.core.objectives.regression import Copg, Dno, Egpo, Gpo, Sppo, SppoHard
from equipoise.core.objectives.spac import Spac
from equipoise.core.objectives.squared import Inpo, Ipo, IpoMean, NashMd, Onpo
from equipoise.core.objectives.srpo import Srpo
from equipoise.core.objectives.token_level import Ppo

Confidence = Literal["verified in code", "paper's text", "recalled", "derived"]
Claim = Literal["at_anchor", "margin", "first_order"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One objective and what is claimed of it.

    build       makes the objective; its keywords are the paper's parameters.
    variants    further legal settings, beside the defaults, under which every claim must hold too.
    at_anchor   loss of one comparison where the policy equals all its anchors.
    exempt      claim -> why it is not made. The claims: "at_anchor"; "margin", the metric of that name changes sign
                when the pair is swapped; "first_order", the gradient at the anchors raises the chosen response and
                lowers the rejected one.
    shift_invariant          whether adding c(x) to all scores of a prompt (policy or any anchor) changes nothing.
    reward_shift_invariant   the same for adding c(x) to the rewards; for objectives that read them.
    estimates   for surrogates: the function whose gradient the expected gradient is.
    own         for surrogates: the first candidate that is a sample of the policy itself; those before are data.
    """

    build: Callable[..., Objective]
    title: str
    paper: str
    confidence: Confidence
    variants: tuple[Mapping[str, object], ...] = ()
    at_anchor: Callable[[Any], float] | None = None
    exempt: Mapping[Claim, str] = field(default_factory=dict)
    shift_invariant: Callable[[Any], bool] = lambda _: True
    reward_shift_invariant: bool | None = None
    estimates: Callable[[Any, estimates.Arms], Tensor] | None = None
    own: int = 0


LOG2 = 0.6931471805599453

NO_LABEL: Mapping[Claim, str] = {
    "at_anchor": "the value there depends on the rewards",
    "margin": "reads rewards: no pair has a label",
    "first_order": "reads rewards: no response is the preferred one",
}


def _never(_: Objective) -> bool:
    return False


CATALOG: dict[str, Row] = {
    "dpo": Row(
        build=Dpo,
        title="Direct preference optimisation",
        paper="2305.18290",
        confidence="verified in code",
        at_anchor=lambda _: LOG2,
    ),
    "cdpo": Row(
        build=Cdpo,
        title="Conservative DPO (label smoothing)",
        paper="",
        confidence="verified in code",
        at_anchor=lambda _: LOG2,
    ),
    "ipo": Row(
        build=Ipo,
        title="Identity preference optimisation",
        paper="2310.12036",
        confidence="verified in code",
        at_anchor=lambda o: 0.25 / o.tau**2,
    ),
    "ipo_mean": Row(
        build=IpoMean,
        title="Identity preference optimisation, per token",
        paper="2310.12036",
        confidence="verified in code",
        at_anchor=lambda o: 0.25 / o.tau**2,
        shift_invariant=_never,  # a shift is divided by two different lengths
    ),
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
        shift_invariant=_never,  # one response stands alone
    ),
    "vpo": Row(
        build=Vpo,
        title="Value-incentivised preference optimisation",
        paper="2405.19320",
        confidence="derived",
        at_anchor=lambda _: LOG2,
        variants=({"optimistic": False},),
        shift_invariant=_never,  # one response stands alone
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
        shift_invariant=_never,  # each response has a target of its own
    ),
    "sppo": Row(
        build=Sppo,
        title="Self-play preference optimisation",
        paper="2405.00675",
        confidence="verified in code",
        exempt=NO_LABEL,
        shift_invariant=_never,  # each response has a target of its own
        reward_shift_invariant=False,
    ),
    "gpo": Row(
        build=Gpo,
        title="General preference optimisation",
        paper="2410.02197",
        confidence="recalled",
        exempt=NO_LABEL,
        shift_invariant=_never,  # each response has a target of its own
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
    "reinforce": Row(
        build=Reinforce,
        title="Nash-MD policy gradient",
        paper="2312.00886",
        confidence="paper's text",
        exempt=NO_LABEL,
        shift_invariant=_never,  # a constant baseline
        reward_shift_invariant=False,
        estimates=estimates.regularised_value,
    ),
    "rloo": Row(
        build=Rloo,
        title="REINFORCE leave-one-out",
        paper="2402.14740",
        confidence="recalled",
        exempt=NO_LABEL,
        reward_shift_invariant=True,
        estimates=estimates.regularised_value,
    ),
    "mpo": Row(
        build=Mpo,
        title="Magnetic preference optimisation",
        paper="2410.16714",
        confidence="derived",
        exempt=NO_LABEL,
        shift_invariant=_never,  # a constant baseline
        reward_shift_invariant=False,
        estimates=estimates.magnetic_value,
    ),
    "p3o": Row(
        build=P3o,
        title="Pairwise proximal policy optimisation",
        paper="2310.00212",
        confidence="derived",
        variants=({"joint": False},),
        exempt=NO_LABEL,
        shift_invariant=lambda o: o.joint,  # otherwise each ratio stands alone
        reward_shift_invariant=True,
    ),
    "ppo": Row(
        build=Ppo,
        title="Proximal policy optimisation, token by token",
        paper="2406.09279",
        confidence="recalled",
        exempt=NO_LABEL,
        shift_invariant=_never,  # each ratio stands alone
        reward_shift_invariant=False,  # rewards are advantages already
    ),
}
