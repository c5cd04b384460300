"""Recorded pairs against a reference: f-DPO with each divergence."""

from __future__ import annotations

from equipoise.core.objectives.catalog.row import LOG2, Limit, Row, never
from equipoise.core.objectives.f_dpo import AlphaDpo, FDpo, ForwardKlDpo, JensenShannonDpo

ROWS: dict[str, Row] = {
    "f_dpo": Row(
        build=FDpo,
        title="f-DPO, any divergence",
        paper="2309.16240",
        confidence="verified in code",
        at_anchor=lambda _: LOG2,
        bounded="loss >= 0; reward by the divergence",
        limits=(Limit(parameters={}, is_="dpo", words="the reverse KL, its default"),),
        evidence=("tests/core/test_f_dpo.py", "f_dpo_divergences"),
    ),
    "f_dpo_forward_kl": Row(
        build=ForwardKlDpo,
        title="f-DPO, forward KL",
        paper="2309.16240",
        confidence="verified in code",
        at_anchor=lambda _: LOG2,
        shift_invariant=never,  # rewards are no longer linear in log-ratios
        bounded="loss >= 0; reward < 0",
        divergence="forward KL",
        evidence=("tests/core/test_f_dpo.py", "f_dpo_divergences"),
    ),
    "f_dpo_js": Row(
        build=JensenShannonDpo,
        title="f-DPO, Jensen-Shannon divergence",
        paper="2309.16240",
        confidence="verified in code",
        at_anchor=lambda _: LOG2,
        shift_invariant=never,  # rewards are no longer linear in log-ratios
        bounded="loss >= 0; reward < beta log 2",
        divergence="Jensen-Shannon",
        evidence=("tests/core/test_f_dpo.py", "f_dpo_divergences"),
    ),
    "f_dpo_alpha": Row(
        build=AlphaDpo,
        title="f-DPO, alpha-divergence",
        paper="2309.16240",
        confidence="verified in code",
        at_anchor=lambda _: LOG2,
        variants=({"alpha": 0.3}, {"alpha": 0.9}),
        shift_invariant=never,  # rewards are no longer linear in log-ratios
        bounded="loss >= 0; reward < beta/alpha",
        divergence="alpha",
        limits=(
            Limit(parameters={"alpha": 1e-9}, is_="dpo", words="alpha -> 0", tolerance=1e-7),
            Limit(parameters={"alpha": 1 - 1e-9}, is_="f_dpo_forward_kl", words="alpha -> 1", tolerance=1e-7),
        ),
        deviations=("TRL's coefficient is 1 - alpha; both are the same at its default of 0.5",),
        evidence=("tests/core/test_f_dpo.py", "tests/agree/test_trl_losses.py", "f_dpo_divergences"),
    ),
}
