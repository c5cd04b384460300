"""Recorded pairs with further inputs: token-level scores, degraded texts, a rationale."""

from __future__ import annotations

from equipoise.core.objectives.catalog.premises import masks
from equipoise.core.objectives.catalog.row import LOG2, Limit, Row, always, never
from equipoise.core.objectives.degradation import DegreeDpo
from equipoise.core.objectives.masked import SparsePo, Tdpo1, Tdpo2
from equipoise.core.objectives.rationale import RationaleDpo, RationaleOrpo, RationaleSimpo

MASKED = "tests/core/test_masked.py"
NUMBERS = "tests/agree/test_authors_losses.py"
ADDED = "tests/core/test_added_terms.py"

ROWS: dict[str, Row] = {
    "tdpo1": Row(
        build=Tdpo1,
        title="Token-level DPO, gradient through both divergences",
        paper="2404.11999",
        confidence="verified in code",
        at_anchor=lambda _: LOG2,
        bounded="loss >= 0",
        evidence=(
            MASKED,
            NUMBERS,
            f"{MASKED}::test_divergences_along_a_tree_are_those_of_its_laws",
            "sparse_po_masks",
        ),
    ),
    "tdpo2": Row(
        build=Tdpo2,
        title="Token-level DPO, the chosen response's divergence constant",
        paper="2404.11999",
        confidence="verified in code",
        at_anchor=lambda _: LOG2,
        bounded="loss >= 0",
        exempt={"divergences": "the chosen response's is detached"},
        limits=(Limit(parameters={"alpha": 0.0}, is_="dpo"),),
        evidence=(
            MASKED,
            NUMBERS,
            f"{MASKED}::test_tdpo2_holds_only_the_rejected_response_down",
            "sparse_po_masks",
        ),
    ),
    "sparse_po": Row(
        build=SparsePo,
        title="Sparse preference optimisation",
        paper="2410.05102",
        confidence="verified in code",
        variants=({"l1_u": 0.0, "l1_d": 0.0},),
        exempt={"at_anchor": f"log 2 and the norms of the masks: {MASKED}"},
        shift_invariant=never,  # a shift of one token is weighed by its mask
        bounded="loss >= 0",
        limits=(
            Limit(
                parameters={"l1_u": 0.0, "l1_d": 0.0},
                is_="dpo",
                words="no norms",
                where="masks m_u = 1, m_d = 0",
                given=masks(1.0, 0.0),
            ),
            Limit(
                parameters={"l1_u": 0.0, "l1_d": 0.0},
                is_="tdpo1",
                words="no norms",
                where="both masks 1",
                given=masks(1.0, 1.0),
            ),
        ),
        evidence=(MASKED, f"{MASKED}::test_masks_of_zero_leave_no_gradient_in_the_policy", "sparse_po_masks"),
    ),
    "spo_degree": Row(
        build=DegreeDpo,
        title="Self-supervised preference optimisation",
        paper="2409.17791",
        confidence="derived",
        variants=({"degrees": 2},),
        exempt={"at_anchor": f"log 2 and the classification of the texts: {ADDED}"},
        bounded="loss >= 0",
        limits=(Limit(parameters={"gamma_d": 0.0}, is_="dpo"),),
        deviations=("no code was released; degrees, pooling, heads and gamma are this library's choice",),
        evidence=(ADDED, f"{ADDED}::test_degrees_add_the_mean_cross_entropy", "spo_degree"),
    ),
    "rdpo_rationale": Row(
        build=RationaleDpo,
        title="RDPO: rationale-augmented DPO",
        paper="2407.14477",
        confidence="paper's text",
        variants=({"form": "log_sigmoid"}, {"average": False}),
        exempt={"at_anchor": f"log 2 and the rationale's likelihood: {ADDED}"},
        shift_invariant=never,  # the rationale's own likelihood has no reference
        bounded="loss >= 0",
        limits=(
            Limit(parameters={"gamma_r": 0.0}, is_="dpo"),
            Limit(parameters={"gamma_r": 0.0, "form": "log_sigmoid"}, is_="dpo", up_to_constant=True),
        ),
        deviations=(
            "the released code takes log sigma(gamma log pi(r)), summed: form=log_sigmoid, average=false",
        ),
        evidence=(
            ADDED,
            f"{ADDED}::test_the_released_form_has_slopes_between_half_gamma_and_gamma",
            "rationale_data_efficiency",
        ),
    ),
    "rorpo": Row(
        build=RationaleOrpo,
        title="RORPO: rationale-augmented ORPO",
        paper="2407.14477",
        confidence="paper's text",
        exempt={"at_anchor": f"ORPO's value and the rationale's likelihood: {ADDED}"},
        shift_invariant=never,
        length_invariant=always,
        bounded="loss >= 0",
        limits=(Limit(parameters={"gamma_r": 0.0}, is_="orpo"),),
        evidence=(ADDED,),
    ),
    "rsimpo": Row(
        build=RationaleSimpo,
        title="RSimPO: rationale-augmented SimPO",
        paper="2407.14477",
        confidence="paper's text",
        exempt={"at_anchor": f"SimPO's value and the rationale's likelihood: {ADDED}"},
        shift_invariant=never,
        length_invariant=always,
        bounded="loss >= 0",
        limits=(Limit(parameters={"gamma_r": 0.0}, is_="simpo"),),
        evidence=(ADDED,),
    ),
}
