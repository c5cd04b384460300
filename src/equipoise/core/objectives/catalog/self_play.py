"""Self-play: objectives of methods that sample their own responses, or play an opponent."""

from __future__ import annotations

from equipoise.core.objectives import estimates
from equipoise.core.objectives.catalog import premises as given
from equipoise.core.objectives.catalog.row import LOG2, NO_LABEL, Limit, Row, never
from equipoise.core.objectives.fast_slow import FastSlowDpo
from equipoise.core.objectives.hybrid import Hypo, Sail
from equipoise.core.objectives.optimism import Vpo, Xpo
from equipoise.core.objectives.regression import Copg, Dno, Egpo, Gpo, Sppo, SppoHard
from equipoise.core.objectives.self_annotation import Spa
from equipoise.core.objectives.semi_policy import Seppo
from equipoise.core.objectives.spac import Spac
from equipoise.core.objectives.squared import Inpo, NashMd, Onpo
from equipoise.core.objectives.srpo import Srpo

ROWS: dict[str, Row] = {
    "seppo": Row(
        build=Seppo,
        title="Semi-policy preference optimisation",
        paper="2410.05255",
        confidence="recalled",
        variants=({"criterion": "ignore"}, {"criterion": "none"}),
        exempt={
            "margin": "the sample's sign is decided by the winner: swapped, it is decided by the other one",
            "first_order": "at the reference the sample counts nothing, and only the winner is raised",
        },
        at_anchor=lambda o: LOG2,
        shift_invariant=lambda o: o.criterion == "none",
        bounded="loss >= 0; margin without bound",
        limits=(Limit(parameters={"criterion": "none"}, is_="dpo"),),
        evidence=("tests/core/test_semi_policy.py", "seppo_anchor"),
    ),
    "inpo": Row(
        build=Inpo,
        title="Iterative Nash policy optimisation",
        paper="2407.00617",
        confidence="paper's text",
        at_anchor=lambda o: 0.25 / o.eta**2,
        bounded="loss >= 0; best margin 1/(2 eta)",
        limits=(
            Limit(parameters={"eta": 0.1, "tau": 0.1}, is_="ipo", words="tau = eta"),
            Limit(
                parameters={"eta": 0.1, "tau": 0.0},
                is_="onpo",
                other={"eta": 10.0},
                words="tau = 0",
                where="1/eta as its eta",
            ),
            Limit(
                parameters={"eta": 0.1, "tau": 0.02},
                is_="ipo",
                other={"tau": 0.1},
                words="eta as its tau",
                where="the last policy still the reference",
                given=given.first_round,
            ),
        ),
        deviations=("a third-party trainer drops the (1 - tau/eta) term where the history has no log-probs",),
        evidence=(
            "tests/core/test_squared.py",
            "tests/games/test_expectation.py",
            "tests/games/test_steps.py",
            "inpo_last_iterate",
            "inpo_fixed_point",
        ),
    ),
    "nash_md": Row(
        build=NashMd,
        title="Nash mirror descent, as a regression",
        paper="2312.00886",
        confidence="derived",
        at_anchor=lambda o: 0.25 * o.eta**2,
        bounded="loss >= 0; best margin eta/2",
        limits=(
            Limit(
                parameters={"eta": 2.0, "tau": 0.1}, is_="inpo", other={"eta": 0.5}, words="its eta as 1/eta"
            ),
            Limit(parameters={"tau": 0.0}, is_="onpo"),
        ),
        deviations=(
            "TRL's Nash-MD is the policy gradient, with P a sigmoid of two scalar rewards: a transitive game",
            "TRL charges each token its own log-ratio only, which is not the gradient of the sequence's KL",
        ),
        evidence=("tests/games/test_steps.py", "tests/games/test_convergence.py", "convergence_classes"),
    ),
    "onpo": Row(
        build=Onpo,
        title="Optimistic Nash policy optimisation",
        paper="2502.16852",
        confidence="paper's text",
        at_anchor=lambda o: 0.25 * o.eta**2,
        bounded="loss >= 0; best margin eta/2",
        evidence=("tests/core/test_squared.py", "tests/games/test_convergence_plain.py", "onpo_last_iterate"),
    ),
    "srpo": Row(
        build=Srpo,
        title="Self-improving robust preference optimisation",
        paper="2406.01660",
        confidence="verified in code",
        at_anchor=lambda o: 1 - 0.5 * o.alpha,
        variants=({"alpha": 0.25},),
        bounded="loss >= 0; best margin 1, improvement at 1/2",
        limits=(
            Limit(
                parameters={},
                is_="ipo",
                other={"tau": 0.1},
                factor=0.024,
                words="beta as its tau",
                times="(4 - 2 alpha) beta^2",
                where="both roles one policy",
                given=given.one_role,
            ),
        ),
        deviations=(
            "the trainer that it was checked against is a third party's; the authors published none",
        ),
        evidence=(
            "tests/core/test_srpo.py",
            "tests/agree/test_authors_losses.py",
            "tests/games/test_srpo.py",
            "srpo_robustness",
        ),
    ),
    "spac": Row(
        build=Spac,
        title="Self-play with an adversarial critic",
        paper="2406.04274",
        confidence="derived",
        at_anchor=lambda o: LOG2 * (o.w_pref + (2 * o.w_pess if o.mode == "smooth" else 0.0)),
        variants=({"mode": "linear"},),
        bounded="loss >= 0 (smooth); linear: by clip alone",
        limits=(
            Limit(
                parameters={"w_pess": 0.0},
                is_="dpo",
                other={"beta": 1.0},
                anchors={"reference": "previous"},
                where="b as its beta, the last policy as its reference",
            ),
        ),
        deviations=(
            "a public pseudo-code gives lambda to the pessimism, where the theory gives it to the preferences",
        ),
        evidence=(
            "tests/core/test_spac.py",
            "tests/games/test_spac.py",
            "spac_saddle",
            "spac_lucky_arm",
            "spac_coverage",
            "spac_shipped_defaults",
        ),
    ),
    "xpo": Row(
        build=Xpo,
        title="Exploratory preference optimisation",
        paper="2405.21046",
        confidence="verified in code",
        at_anchor=lambda _: LOG2,
        shift_invariant=never,  # a single response: c(x) does not cancel
        bounded="bonus by 500 nats; margin without bound",
        limits=(Limit(parameters={"alpha": 0.0}, is_="dpo"),),
        deviations=(
            "one third-party worker has the opposite sign on the exploration term",
            "TRL gives ties to the policy's sample, clips nothing and keeps no earlier pairs",
        ),
        evidence=("tests/core/test_optimism.py", "xpo_explores"),
    ),
    "vpo": Row(
        build=Vpo,
        title="Value-incentivised preference optimisation",
        paper="2405.19320",
        confidence="derived",
        at_anchor=lambda _: LOG2,
        variants=({"optimistic": False},),
        shift_invariant=never,  # a single response: c(x) does not cancel
        bounded="bonus by 500 nats; margin without bound",
        limits=(
            Limit(parameters={"alpha": 0.0}, is_="dpo"),
            Limit(
                parameters={},
                is_="xpo",
                other={"alpha": 1e-5},
                words="optimistic = True",
                where="alpha beta as its alpha",
            ),
        ),
        evidence=("tests/core/test_optimism.py", "vpo_optimism_pessimism"),
    ),
    "ofs": Row(
        build=FastSlowDpo,
        title="Online fast-slow chasing DPO",
        paper="2406.05534",
        confidence="verified in code",
        at_anchor=lambda o: LOG2 * (1 + (-o.chase if o.slow else o.chase)),
        variants=({"slow": True},),
        bounded="contest by its clamp; margin without bound",
        limits=(Limit(parameters={"chase": 0.0}, is_="dpo"),),
        evidence=("tests/core/test_fast_slow_loss.py", "tests/play/test_fast_slow.py", "ofs_forgetting"),
    ),
    "spa": Row(
        build=Spa,
        title="Spread preference annotation, self-refined",
        paper="2406.04412",
        confidence="verified in code",
        at_anchor=lambda _: LOG2,
        variants=({"share": 0.5},),
        bounded="loss >= 0 where sure; margin without bound",
        limits=(
            Limit(parameters={"share": 0.0}, is_="dpo", words="no pair doubtful"),
            Limit(parameters={"share": 1.0}, is_="cdpo", words="every pair doubtful"),
            Limit(parameters={"smoothing": 0.0}, is_="dpo"),
        ),
        evidence=("tests/play/test_self_labelled.py",),
    ),
    "hypo": Row(
        build=Hypo,
        title="Hybrid preference optimisation",
        paper="2406.01462",
        confidence="derived",
        at_anchor=lambda _: LOG2,
        estimates=estimates.hybrid_loss,
        own=2,
        bounded="reverse KL, through lam; margin without bound",
        limits=(Limit(parameters={"lam": 0.0}, is_="dpo"),),
        evidence=("tests/core/test_hybrid.py", "hypo_partial_coverage"),
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
            "first_order": "the score-function term moves both responses equally",
        },
        estimates=estimates.self_made_loss,
        bounded="E[-log sigma(u)] >= 0; margin without bound",
        limits=(Limit(parameters={"generation": 0.0, "preference": 0.0}, is_="dpo"),),
        evidence=("tests/core/test_hybrid.py",),
    ),
    "sppo_hard": Row(
        build=SppoHard,
        title="Self-play preference optimisation, hard labels",
        paper="2405.00675",
        confidence="verified in code",
        at_anchor=lambda o: 0.5 * o.eta**2,
        shift_invariant=never,  # a separate target per response
        bounded="loss >= 0; best log-ratios +-eta/2",
        deviations=(
            "TRL's sppo_hard measures ratios against whatever reference it is given: it must be the last policy",
            "the authors' loss has a factor 1/2 that this one and TRL's have not",
        ),
        evidence=("tests/core/test_regression.py",),
    ),
    "sppo": Row(
        build=Sppo,
        title="Self-play preference optimisation",
        paper="2405.00675",
        confidence="verified in code",
        exempt=NO_LABEL,
        shift_invariant=never,  # a separate target per response
        reward_shift_invariant=False,
        data="rewards",
        bounded="loss >= 0; log-ratios within +-eta/2",
        limits=(
            Limit(
                parameters={},
                is_="sppo_hard",
                factor=0.5,
                where="the rewards of a pair 1 and 0",
                given=given.paid(1.0, 0.0),
            ),
        ),
        deviations=(
            "the authors' pipeline turns scores into probabilities first: within a prompt P is Bradley-Terry",
        ),
        evidence=(
            "tests/core/test_regression.py",
            "tests/games/test_convergence_plain.py",
            "sppo_raises_chosen",
        ),
    ),
    "gpo": Row(
        build=Gpo,
        title="General preference optimisation",
        paper="2410.02197",
        confidence="recalled",
        exempt=NO_LABEL,
        shift_invariant=never,  # a separate target per response
        reward_shift_invariant=False,
        data="rewards",
        bounded="loss >= 0; best log-ratios score/beta",
        deviations=(
            "the authors' pipeline stores s(y, y') - s(y', y) and counts y' = y: 2 (K - 1)/K times the mean score",
        ),
        evidence=("tests/core/test_regression.py", "gpm_cycles"),
    ),
    "dno": Row(
        build=Dno,
        title="Direct Nash optimisation",
        paper="2404.03715",
        confidence="paper's text",
        exempt=NO_LABEL,
        reward_shift_invariant=True,
        data="rewards",
        bounded="loss >= 0; best margins: differences of the rewards",
        limits=(
            Limit(
                parameters={},
                is_="dpo",
                other={"beta": 0.1},
                anchors={"reference": "previous"},
                words="eta as its beta",
                where="the last policy as its reference, the rewards of a pair far apart",
                given=given.paid(1000.0, 0.0),
            ),
        ),
        evidence=("tests/core/test_regression.py", "tests/games/test_steps.py", "dno_monotone"),
    ),
    "egpo": Row(
        build=Egpo,
        title="Extragradient preference optimisation",
        paper="2503.08942",
        confidence="verified in code",
        exempt=NO_LABEL,
        reward_shift_invariant=True,
        data="rewards",
        bounded="loss >= 0; best margins (R_i - R_j)/beta",
        limits=(
            Limit(
                parameters={},
                is_="ipo",
                other={"tau": 0.1},
                words="beta as its tau",
                where="the rewards of a pair half apart",
                given=given.paid(0.5, 0.0),
            ),
        ),
        deviations=(
            "the authors' code divides log-probs by length unless it is told not to",
            "the authors' script mixes half the share of the reference that its Nash-MD baseline would need",
        ),
        evidence=(
            "tests/core/test_regression.py",
            "tests/games/test_convergence.py",
            "egpo_against_baselines",
        ),
    ),
    "copg": Row(
        build=Copg,
        title="Contrastive policy gradient",
        paper="2406.19185",
        confidence="derived",
        variants=({"beta": 0.0},),
        exempt=NO_LABEL,
        reward_shift_invariant=True,
        data="rewards",
        bounded="loss >= 0 (beta > 0); best margins (R_i - R_j)/beta",
        limits=(
            Limit(
                parameters={},
                is_="egpo",
                factor=0.05,
                times="beta/2",
                where="two responses",
                given=given.pair,
            ),
            Limit(
                parameters={},
                is_="ipo",
                other={"tau": 0.1},
                factor=0.05,
                words="beta as its tau",
                times="beta/2",
                where="the rewards of a pair half apart",
                given=given.paid(0.5, 0.0),
            ),
        ),
        evidence=("tests/core/test_regression.py", "copg_off_policy"),
    ),
}
