"""Recorded pairs and no reference policy."""

from __future__ import annotations

from math import exp, log1p

from equipoise.core.objectives.catalog import premises as given
from equipoise.core.objectives.catalog.row import LOG2, Limit, Row, always, never, softplus
from equipoise.core.objectives.contrastive import Cpl
from equipoise.core.objectives.hinge import Hinge, Slic
from equipoise.core.objectives.odds import Asft, Orpo, Unlikelihood
from equipoise.core.objectives.reference_free import AlphaPo, Cpo, CpoSimpo, ReferenceFreeDpo, Simpo

ROWS: dict[str, Row] = {
    "dpo_reference_free": Row(
        build=ReferenceFreeDpo,
        title="Reference-free DPO",
        paper="2305.18290",
        confidence="verified in code",
        at_equal=lambda o, a, n: LOG2,
        bounded="loss >= 0; margin without bound",
        evidence=("tests/core/test_reference_free.py",),
    ),
    "cpo": Row(
        build=Cpo,
        title="Contrastive preference optimisation",
        paper="2401.08417",
        confidence="verified in code",
        at_equal=lambda o, a, n: LOG2 - o.alpha * a,
        shift_invariant=never,  # depends on the chosen response separately
        bounded="loss >= 0; margin without bound",
        limits=(Limit(parameters={"alpha": 0.0}, is_="dpo_reference_free"),),
        deviations=(
            "TRL's likelihood loss is the mean over all tokens of a batch, here over each response's",
        ),
        evidence=("tests/core/test_reference_free.py", "tests/agree/test_trl_losses.py"),
    ),
    "cpl": Row(
        build=Cpl,
        title="Contrastive preference learning",
        paper="2310.13639",
        confidence="verified in code",
        variants=({"bias": 1.0}, {"bias": 1.0, "bc": 0.01}),
        at_equal=lambda o, a, n: softplus(-o.alpha * (1 - o.bias) * a * n) - o.bc * a,
        shift_invariant=lambda o: o.bias == 1 and not o.bc,
        bounded="loss >= 0 without bc; margin without bound",
        limits=(
            Limit(
                parameters={"bias": 1.0},
                is_="dpo_reference_free",
                other={"beta": 0.1},
                words="bias = 1, bc = 0",
            ),
        ),
        evidence=("tests/core/test_contrastive.py",),
    ),
    "simpo": Row(
        build=Simpo,
        title="Simple preference optimisation",
        paper="2405.14734",
        confidence="verified in code",
        at_equal=lambda o, a, n: softplus(o.gamma),
        shift_invariant=never,  # a shift is divided by two different lengths
        length_invariant=always,
        bounded="loss >= 0; margin without bound",
        limits=(
            Limit(
                parameters={"gamma": 0.0},
                is_="dpo_reference_free",
                other={"beta": 0.5},
                words="gamma = 0, responses of n tokens and beta n times as large",
                given=given.tokens(4),
            ),
        ),
        deviations=(
            "the authors' code takes the ratio gamma/beta; TRL takes gamma and divides by beta: the same value",
        ),
        evidence=("tests/core/test_reference_free.py", "tests/agree/test_trl_losses.py"),
    ),
    "cpo_simpo": Row(
        build=CpoSimpo,
        title="SimPO with a likelihood loss",
        paper="2405.14734",
        confidence="verified in code",
        at_equal=lambda o, a, n: softplus(o.gamma) - o.alpha * a,
        shift_invariant=never,  # a shift is divided by two different lengths
        length_invariant=always,
        bounded="loss >= 0; margin without bound",
        limits=(Limit(parameters={"alpha": 0.0}, is_="simpo"),),
        deviations=(
            "TRL's likelihood loss is the mean over all tokens of a batch, here over each response's",
        ),
        evidence=("tests/core/test_reference_free.py", "tests/agree/test_trl_losses.py"),
    ),
    "alpha_po": Row(
        build=AlphaPo,
        title="AlphaPO, SimPO with another reward shape",
        paper="2501.03884",
        confidence="recalled",
        at_equal=lambda o, a, n: softplus(o.gamma),
        variants=({"alpha": -0.5}, {"alpha": 0.0}),
        shift_invariant=never,  # a shift is divided by two different lengths
        length_invariant=always,
        bounded="loss >= 0; reward < 1/alpha",
        limits=(
            Limit(parameters={"alpha": 0.0}, is_="simpo"),
            Limit(parameters={"alpha": 1e-9}, is_="simpo", words="alpha -> 0", tolerance=1e-7),
        ),
        evidence=("tests/core/test_reference_free.py", "tests/agree/test_trl_losses.py"),
    ),
    "orpo": Row(
        build=Orpo,
        title="Odds-ratio preference optimisation",
        paper="2403.07691",
        confidence="verified in code",
        at_equal=lambda o, a, n: o.lam * LOG2 - a,
        variants=({"lam": 1.0},),
        shift_invariant=never,  # separate odds of each response
        length_invariant=always,
        bounded="loss >= 0; odds without bound",
        deviations=(
            "TRL's likelihood loss counts the prompt's tokens too, and lam is called beta; here the response's only",
        ),
        evidence=(
            "tests/core/test_odds.py",
            "tests/agree/test_authors_losses.py",
            "tests/agree/test_trl_losses.py",
        ),
    ),
    "asft": Row(
        build=Asft,
        title="Aligned supervised fine-tuning",
        paper="2409.10571",
        confidence="paper's text",
        at_equal=lambda o, a, n: -(1 + o.lam) * a - o.lam * log1p(-exp(a)),
        variants=({"lam": 0.1},),
        shift_invariant=never,  # separate odds of each response
        length_invariant=always,
        bounded="loss >= 0; odds without bound",
        limits=(Limit(parameters={"lam": 0.0}, is_="orpo"),),
        evidence=("tests/core/test_odds.py", "asft_raises_chosen"),
    ),
    "unlikelihood": Row(
        build=Unlikelihood,
        title="Likelihood of chosen, unlikelihood of rejected responses",
        paper="1908.04319",
        confidence="paper's text",
        at_equal=lambda o, a, n: -a - o.alpha * log1p(-exp(a)),
        variants=({"alpha": 0.3},),
        shift_invariant=never,  # separate odds of each response
        length_invariant=always,
        bounded="loss >= 0; odds without bound",
        limits=(
            Limit(
                parameters={"alpha": 0.5},
                is_="asft",
                other={"lam": 1.0},
                factor=0.5,
                words="alpha = lam/(1 + lam)",
                times="1/(1 + lam)",
            ),
        ),
        deviations=(
            "in the paper every token of the rejected response is unlikely by itself: -sum log(1 - pi(token))",
        ),
        evidence=("tests/core/test_odds.py",),
    ),
    "hinge": Row(
        build=Hinge,
        title="Hinge loss without a reference",
        paper="2309.06657",
        confidence="paper's text",
        at_equal=lambda o, a, n: 1.0,
        bounded="loss >= 0; best margin 1",
        evidence=("tests/core/test_hinge.py",),
    ),
    "slic": Row(
        build=Slic,
        title="SLiC-HF, hinge and likelihood",
        paper="2305.10425",
        confidence="verified in code",
        at_equal=lambda o, a, n: o.delta - o.lam * a * n,
        variants=({"delta": 4.0},),
        shift_invariant=never,  # depends on the chosen response separately
        bounded="loss >= 0; best margin delta nats",
        limits=(
            Limit(
                parameters={"lam": 0.0, "delta": 4.0},
                is_="hinge",
                other={"gamma": 0.25},
                factor=4.0,
                words="lam = 0 and gamma = 1/delta",
                times="delta",
            ),
        ),
        deviations=("the paper's likelihood target may be another response than the chosen one",),
        evidence=("tests/core/test_hinge.py",),
    ),
}
