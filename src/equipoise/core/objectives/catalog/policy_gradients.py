"""Policy gradients and their clipped forms: surrogates on rewards."""

from __future__ import annotations

from equipoise.core.objectives import estimates
from equipoise.core.objectives.catalog import premises as given
from equipoise.core.objectives.catalog.row import NO_LABEL, Limit, Row, never
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
        data="rewards",
        bounded="expected reward; not the surrogate",
        deviations=(
            "TRL's Nash-MD charges each token its own log-ratio only, which is not the gradient of the sequence's KL",
        ),
        evidence=("tests/core/test_policy_gradient.py",),
    ),
    "rloo": Row(
        build=Rloo,
        title="REINFORCE leave-one-out",
        paper="2402.14740",
        confidence="recalled",
        exempt=NO_LABEL,
        reward_shift_invariant=True,
        estimates=estimates.regularised_value,
        data="rewards",
        bounded="expected reward; not the surrogate",
        limits=(
            Limit(
                parameters={"tau": 0.0},
                is_="reinforce",
                factor=2.0,
                where="two responses whose rewards sum to 1",
                given=given.second_paid(lambda first: 1 - first),
            ),
        ),
        evidence=("tests/core/test_policy_gradient.py",),
    ),
    "mpo": Row(
        build=Mpo,
        title="Magnetic preference optimisation",
        paper="2410.16714",
        confidence="derived",
        variants=({"real_time": False},),
        exempt=NO_LABEL,
        shift_invariant=never,  # a constant baseline
        reward_shift_invariant=False,
        estimates=estimates.magnetic_value,
        data="rewards",
        bounded="expected reward; not the surrogate",
        limits=(
            Limit(
                parameters={"eta": 1e12},
                is_="reinforce",
                other={"tau": 0.1},
                anchors={"reference": "magnet"},
                words="eta -> infinity",
                where="alpha as its tau, the magnet as its reference",
                tolerance=1e-10,
            ),
        ),
        evidence=(
            "tests/core/test_policy_gradient.py",
            "tests/games/test_convergence_plain.py",
            "mpo_plain_nash",
        ),
    ),
    "p3o": Row(
        build=P3o,
        title="Pairwise proximal policy optimisation",
        paper="2310.00212",
        confidence="derived",
        variants=({"joint": False},),
        exempt=NO_LABEL,
        shift_invariant=lambda o: o.joint,  # otherwise depends on each ratio separately
        reward_shift_invariant=True,
        data="rewards",
        bounded="gain from moving, by the clip",
        limits=(
            Limit(
                parameters={"joint": False, "tau": 0.0},
                is_="ppo",
                factor=2.0,
                where="two responses with opposite rewards",
                given=given.second_paid(lambda first: -first),
            ),
        ),
        deviations=(
            "a circulating summary has a plus between the two log-probs: that gradient is zero on average",
        ),
        evidence=("tests/core/test_policy_gradient.py", "p3o_shift_invariance"),
    ),
    "ppo": Row(
        build=Ppo,
        title="Proximal policy optimisation, token by token",
        paper="2406.09279",
        confidence="recalled",
        exempt=NO_LABEL,
        shift_invariant=never,  # depends on each ratio separately
        reward_shift_invariant=False,  # rewards are advantages already
        data="rewards",
        bounded="gain from moving, by the clip",
        evidence=("tests/core/test_token_level.py", "tests/play/test_ppo.py", "rto_credit"),
    ),
}
