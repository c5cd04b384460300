"""Ranked lists of responses to one prompt."""

from __future__ import annotations

from equipoise.core.objectives.catalog.premises import paid
from equipoise.core.objectives.catalog.row import NO_LABEL, Limit, Row, softplus
from equipoise.core.objectives.contrastive import CplRanking
from equipoise.core.objectives.lists import PlackettLuce, Tpo

TESTS = "tests/core/test_lists.py"

ROWS: dict[str, Row] = {
    "plackett_luce": Row(
        build=PlackettLuce,
        title="DPO of a whole ranking",
        paper="2305.18290",
        confidence="recalled",
        exempt=NO_LABEL,
        reward_shift_invariant=True,
        data="lists",
        bounded="loss >= 0",
        limits=(
            Limit(parameters={}, is_="dpo", words="two responses", where="R = (1, 0)", given=paid(1.0, 0.0)),
        ),
        evidence=(TESTS, f"{TESTS}::test_plackett_luce_is_the_likelihood_of_the_ranking"),
    ),
    "cpl_ranking": Row(
        build=CplRanking,
        title="Contrastive preference learning of ranked lists",
        paper="2310.13639",
        confidence="verified in code",
        variants=({"bias": 1.0},),
        at_equal=lambda o, a, n: softplus(-o.alpha * (1 - o.bias) * a * n),
        exempt=NO_LABEL,
        shift_invariant=lambda o: o.bias == 1,
        reward_shift_invariant=True,
        data="lists",
        bounded="loss >= 0",
        limits=(
            Limit(parameters={}, is_="cpl", words="two responses", where="R = (1, 0)", given=paid(1.0, 0.0)),
        ),
        evidence=("tests/core/test_contrastive.py",),
    ),
    "tpo": Row(
        build=Tpo,
        title="Tree preference optimisation: pairs weighted by lambda rank",
        paper="2410.12854",
        confidence="recalled",
        variants=({"steps": True}, {"lambdas": "ones"}, {"gain": "exponential"}),
        exempt=NO_LABEL,
        shift_invariant=lambda o: not o.steps,
        reward_shift_invariant=True,
        data="lists",
        bounded="loss >= 0",
        limits=(Limit(parameters={"lambdas": "ones"}, is_="dpo", where="R = (1, 0)", given=paid(1.0, 0.0)),),
        deviations=(
            "the released code wraps the loss in -log sigma(beta L), whose gradient increases L, leaves lambda out and "
            "adds a constant for every tie",
        ),
        evidence=(TESTS, f"{TESTS}::test_lambda_by_hand", "tpo_on_step_trees"),
    ),
}
