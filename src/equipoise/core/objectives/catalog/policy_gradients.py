"""Policy gradients and their clipped forms: surrogates on rewards."""

from __future__ import annotations

from equipoise.core.objectives import estimates
from equipoise.core.objectives.catalog.row import NO_LABEL, Row, never
from equipoise.core.objectives.policy_gradient import Mpo, P3o, Reinforce, Rloo
from equipoise.core.objectives.token_level import Ppo

ROWS: dict[str, Row] = {
    "reinforce": Row(
        build=Reinforce,
        title="Nash-MD policy gradient",
        paper="2312.00886",
        confidence="paper's text",
        exempt=NO_LABEL,
        shift_invariant=never,  # a constant baseline
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
        shift_invariant=never,  # a constant baseline
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
        shift_invariant=never,  # each ratio stands alone
        reward_shift_invariant=False,  # rewards are advantages already
    ),
}
