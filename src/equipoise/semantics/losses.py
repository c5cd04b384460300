"""Named preference structures, and the reading of each objective in terms of them: two explicit tables.

A name of the second table need not be in the catalogue: the table is what is known of a loss, implemented or not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from equipoise.semantics.algebra import P_L, P_W, Q_L, Q_W, Multilinear
from equipoise.semantics.parse import parse
from equipoise.semantics.structure import Structure

Confidence = Literal["paper's text", "derived"]


@dataclass(frozen=True, kw_only=True)
class Named:
    """A structure with a name.

    formulas     core, given, also, as written by its source.
    numerator, denominator   R = WMC(W)/WMC(Z) as a ratio of polynomials: the algebra that the formulas stand for.
    confidence   of the formulas: secondary account of the paper, or worked out here from the ratio.
    """

    title: str
    formulas: tuple[str, str, str]
    numerator: Multilinear
    denominator: Multilinear
    confidence: Confidence = "derived"
    note: str = ""

    @property
    def structure(self) -> Structure:
        core, given, also = map(parse, self.formulas)
        return Structure(core, given, also)


IMPLIES, EITHER, BOTH = "M(l) -> M(w)", "M(w) or M(l)", "M(w) and M(l)"
WINS, LOSES = "M(w) and Ref(l)", "M(l) and Ref(w)"  # DPO's winning and losing rows

STRUCTURES: Mapping[str, Named] = {
    "unlikelihood": Named(
        title="Likelihood of the preferred and unlikelihood of the dispreferred response",
        formulas=("M(w) and not M(l)", "true", "false"),
        numerator=P_W * (1 - P_L),
        denominator=1 - P_W * (1 - P_L),
        confidence="paper's text",
        note="the loss is -log p_w - log(1 - p_l): no row is ignored, so the two responses do not meet",
    ),
    "sft": Named(
        title="Likelihood of the preferred response",
        formulas=("M(w)", "true", "false"),
        numerator=P_W,
        denominator=1 - P_W,
        note="the loss is -log p_w",
    ),
    "reject": Named(
        title="Unlikelihood of the dispreferred response",
        formulas=("not M(l)", "true", "false"),
        numerator=1 - P_L,
        denominator=P_L,
        note="the loss is -log(1 - p_l)",
    ),
    "cunlikelihood": Named(
        title="Unlikelihood where a response is valid",
        formulas=("M(w) and not M(l)", EITHER, "false"),
        numerator=P_W * (1 - P_L),
        denominator=P_L,
        note="unlikelihood that does not look at the row with neither response valid",
    ),
    "cpo": Named(
        title="Contrastive preference optimisation, DPO without a reference",
        formulas=(IMPLIES, EITHER, BOTH),
        numerator=P_W,
        denominator=P_L,
        confidence="paper's text",
    ),
    "ccpo": Named(
        title="CPO with both valid counted as a win",
        formulas=(IMPLIES, EITHER, "false"),
        numerator=P_W,
        denominator=P_L * (1 - P_W),
        confidence="paper's text",
        note="the loss that the paper finds by moving one mark of CPO's truth table",
    ),
    "orpo": Named(
        title="Odds-ratio preference optimisation",
        formulas=(IMPLIES, "M(w) xor M(l)", "false"),
        numerator=P_W * (1 - P_L),
        denominator=P_L * (1 - P_W),
        confidence="paper's text",
    ),
    "implication": Named(
        title="The bare implication",
        formulas=(IMPLIES, "true", "false"),
        numerator=1 - P_L * (1 - P_W),
        denominator=P_L * (1 - P_W),
        note="the formula of CPO, cCPO and ORPO judged in every row",
    ),
    "dpo": Named(
        title="Direct preference optimisation",
        formulas=(
            "Ref(w) and M(l) -> Ref(l) and M(w)",
            "Ref(w) and M(l) or Ref(l) and M(w)",
            "M(w) and M(l) and Ref(w) and Ref(l)",
        ),
        numerator=P_W * Q_L,
        denominator=P_L * Q_W,
        confidence="paper's text",
        note="CPO with a reference",
    ),
    "ccpo_ref": Named(
        title="cCPO with a reference",
        formulas=(f"{LOSES} -> M(w)", f"{WINS} or {LOSES} and not M(w)", "false"),
        numerator=P_W * Q_L,
        denominator=P_L * (1 - P_W) * Q_W,
    ),
    "orpo_ref": Named(
        title="ORPO with a reference's likelihood ratio",
        formulas=(f"{LOSES} -> M(w)", f"{WINS} and not M(l) or {LOSES} and not M(w)", "false"),
        numerator=P_W * (1 - P_L) * Q_L,
        denominator=P_L * (1 - P_W) * Q_W,
    ),
    "cunlikelihood_ref": Named(
        title="Unlikelihood where a response is valid, with a reference",
        formulas=(f"not ({LOSES})", f"{WINS} and not M(l) or {LOSES}", "false"),
        numerator=P_W * (1 - P_L) * Q_L,
        denominator=P_L * Q_W,
    ),
    "raise": Named(
        title="The preferred response against the reference",
        formulas=("Ref(w) -> M(w)", "Ref(w) or M(w)", "Ref(w) and M(w)"),
        numerator=P_W,
        denominator=Q_W,
        note="one thumbs-up: what the reference finds valid, the model does",
    ),
    "npo": Named(
        title="The dispreferred response against the reference",
        formulas=("M(l) -> Ref(l)", "M(l) or Ref(l)", "M(l) and Ref(l)"),
        numerator=Q_L,
        denominator=P_L,
        note="one thumbs-down: what the model finds valid, the reference does",
    ),
    "simnpo": Named(
        title="The dispreferred response without a reference",
        formulas=("true", "true", "M(l)"),
        numerator=1 + 0 * P_L,
        denominator=P_L,
        note="every row wins, those with the dispreferred response valid lose as well; the loss is log(1 + p_l)",
    ),
    "raise_odds": Named(
        title="The preferred response against the reference, in odds",
        formulas=("Ref(w) -> M(w)", "Ref(w) xor M(w)", "false"),
        numerator=P_W * (1 - Q_W),
        denominator=Q_W * (1 - P_W),
        note="raise, blind where both find the response valid: what ORPO is to CPO",
    ),
    "npo_odds": Named(
        title="The dispreferred response against the reference, in odds",
        formulas=("M(l) -> Ref(l)", "M(l) xor Ref(l)", "false"),
        numerator=Q_L * (1 - P_L),
        denominator=P_L * (1 - Q_L),
        note="npo, blind where both find the response valid",
    ),
    "hold": Named(
        title="The preferred response held to the reference",
        formulas=("M(w) -> Ref(w)", "M(w) or Ref(w)", "M(w) and Ref(w)"),
        numerator=Q_W,
        denominator=P_W,
        note="the structure of raise turned round: it lowers the preferred response",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What an objective says.

    parts     (weight, structure) of each term of its loss; several terms are several formulas, wanted at once.
    link      what is done to log R of each part; `LOGISTIC` is the loss of the structure itself.
    note      what beta, lengths or anchors do outside the logic.
    exact     parameters under which the objective is, number for number, the link of its structure at log R; None where
              no check of that kind is made. `lengths` says that the probabilities are per token, exp(log p / |y|).
    """

    parts: tuple[tuple[str, str], ...]
    link: str = "logistic"
    note: str = ""
    exact: Mapping[str, float] | None = None
    lengths: bool = False
    confidence: Confidence = "derived"


LINKS: Mapping[str, str] = {
    "logistic": "-log sigma(log R), the semantic loss",
    "smoothed": "-(1 - e) log sigma(log R) - e log sigma(-log R): the label is only believed by 1 - e",
    "debiased": "-log sigma(log R) - e/(1 - 2e) log R: flipped labels are subtracted",
    "squared": "(log R - target)^2",
    "hinge": "max(0, 1 - log R)",
    "bare": "-log R: no minimum",
    "linear": "1 - sigma(log R), the probability of the losing rows",
    "entropy": "KL( (sigma(log R), sigma(-log R)) || (1 - e, e) )",
    "modulated": "-(1 - k) log sigma(log R) + k/R with k = sigma(log R / temperature)",
}

BETA = "beta multiplies log R outside the logic (exact at beta = 1)"
THIRD = "a third response is charged outside the logic"
SFT_MEANS = "in the sft part p is exp(log p / |y|)"
MEANS = "p is the probability per token, exp(log p / |y|)"


def _one(name: str, **more: Any) -> Reading:
    return Reading(parts=(("1", name),), **more)


READINGS: Mapping[str, Reading] = {
    # the structure of DPO
    "dpo": _one("dpo", note=BETA, exact={"beta": 1.0}, confidence="paper's text"),
    "cdpo": _one("dpo", link="smoothed", note=BETA, exact={"beta": 1.0, "smoothing": 0.1}),
    "osp": _one("dpo", link="smoothed", note=f"1 - e is the strength of the preference; {BETA}"),
    "rdpo": _one("dpo", link="debiased", note=BETA, exact={"beta": 1.0, "flip": 0.1}),
    "rdpo_asymmetric": _one("dpo", link="debiased", note=f"two flip rates in place of 2e; {BETA}"),
    "ipo": _one("dpo", link="squared", note="target 1/(2 tau)", exact={"tau": 0.1}),
    "ipo_mean": _one("dpo", link="squared", note=f"target 1/(2 tau); {MEANS}", exact={"tau": 0.1}, lengths=True),
    "onpo": _one(
        "dpo", link="squared", note="target eta/2; the reference is where the fit starts", exact={"eta": 2.0}
    ),
    "inpo": _one(
        "dpo",
        link="squared",
        note="target 1/(2 eta); the reference is the mixture pi_ref^(tau/eta) pi_t^(1 - tau/eta), whose normaliser "
        "cancels in q_l/q_w",
    ),
    "nash_md": _one(
        "dpo",
        link="squared",
        note="target eta/2; the reference is the mixture pi_ref^(eta tau) pi_t^(1 - eta tau), whose normaliser cancels",
    ),
    "rso_norm": _one("dpo", note="gamma is beta; what makes it RSO is the sampler", exact={"gamma": 1.0}),
    "hinge_norm": _one("dpo", link="hinge", note="gamma multiplies log R outside the logic", exact={"gamma": 1.0}),
    "exo_pair": _one("dpo", link="entropy", note=BETA, exact={"beta": 1.0, "smoothing": 0.1}),
    "discopop": _one("dpo", link="modulated", note=BETA, exact={"beta": 1.0, "temperature": 0.5}),
    "dpo_norm": _one("dpo", note=f"{MEANS}; {BETA}", exact={"beta": 1.0}, lengths=True),
    "dpo_offset": _one("dpo", note=f"the offset is subtracted from log R; {BETA}", exact={"beta": 1.0, "offset": 0.0}),
    "odpo": _one("dpo", note=f"the response of higher score is preferred, and its lead subtracted from log R; {BETA}"),
    "spo_degree": _one("dpo", note=f"the classifier of degrees is outside the logic; {BETA}"),
    "rorpo": Reading(
        parts=(("lam", "orpo"), ("1", "sft")), note=f"the likelihood of the rationale is a separate atom; {MEANS}"
    ),
    "rsimpo": _one("cpo", note=f"as simpo; the likelihood of the rationale is a separate atom; {MEANS}; {BETA}"),
    "rdpo_rationale": _one(
        "dpo", note=f"the likelihood of the rationale is a separate formula, on a separate atom; {BETA}"
    ),
    "d2o": _one("dpo", note="of an own sample in place of w, alpha and beta being powers of the ratios (exact at 1)"),
    "wpo": _one("dpo", note=f"its default; any pair loss may stand there, times a weight outside the logic; {BETA}"),
    "flex_dpo": Reading(
        parts=(("1", "dpo"), ("sft", "sft")),
        note="beta_p and beta_n are powers of p_w/q_w and p_l/q_l outside the logic (exact where both are 1)",
        exact={"beta_p": 1.0, "beta_n": 1.0, "sft": 0.3},
    ),
    "rpo": Reading(parts=(("1", "dpo"), ("eta beta", "sft")), note=BETA, exact={"beta": 1.0, "eta": 0.3}),
    "irpo": Reading(
        parts=(("1", "dpo"), ("alpha", "sft")), note=f"{SFT_MEANS}; {BETA}", exact={"beta": 1.0, "alpha": 0.3}
    ),
    "xpo": _one("dpo", note=f"{THIRD}; {BETA}", exact={"beta": 1.0, "alpha": 0.0}),
    "vpo": _one("dpo", note=f"{THIRD}; {BETA}", exact={"beta": 1.0, "alpha": 0.0}),
    "hypo": _one("dpo", note=f"the KL of fresh samples is outside the logic; {BETA}"),
    "spac": _one("dpo", note="its preference loss; pessimism about a third response is outside the logic; b is beta"),
    "ofs": Reading(
        parts=(("1", "dpo"), ("chase", "dpo")),
        note=f"the second has the rival for a reference, and the slow policy's weight is negative; {BETA}",
    ),
    # the structure of CPO
    "dpo_reference_free": _one("cpo", note=BETA, exact={"beta": 1.0}, confidence="paper's text"),
    "cpo": Reading(
        parts=(("1", "cpo"), ("alpha", "sft")),
        note=f"{SFT_MEANS}; {BETA}",
        exact={"beta": 1.0, "alpha": 0.7},
        confidence="paper's text",
    ),
    "cpl": Reading(
        parts=(("1", "cpo"), ("bc", "sft")),
        note=f"bias is a power of p_l, and bc clones both responses, outside the logic; alpha is beta; {BETA}",
        exact={"alpha": 1.0, "bias": 1.0, "bc": 0.0},
    ),
    "cpl_kl": _one(
        "dpo",
        note=f"bias is a power of p_l/q_l outside the logic; alpha is beta; {BETA}",
        exact={"alpha": 1.0, "bias": 1.0},
    ),
    "simpo": _one(
        "cpo",
        note=f"{MEANS}; gamma is subtracted from log R; {BETA}",
        exact={"beta": 1.0, "gamma": 0.0},
        lengths=True,
        confidence="paper's text",
    ),
    "cpo_simpo": Reading(
        parts=(("1", "cpo"), ("alpha", "sft")),
        note=f"{MEANS}; gamma is subtracted from log R of the first; {BETA}",
        exact={"beta": 1.0, "gamma": 0.0, "alpha": 0.4},
        lengths=True,
    ),
    "hinge": _one("cpo", link="hinge", note="gamma multiplies log R outside the logic", exact={"gamma": 1.0}),
    "slic": Reading(
        parts=(("1", "cpo"), ("lam", "sft")), link="hinge", note="margin delta; the sft part has no hinge"
    ),
    # odds
    "orpo": Reading(
        parts=(("lam", "orpo"), ("1", "sft")), note=MEANS, exact={"lam": 0.3}, lengths=True, confidence="paper's text"
    ),
    "unlikelihood": _one(
        "unlikelihood",
        note=f"{MEANS}; alpha weighs not M(l)",
        exact={"alpha": 1.0},
        lengths=True,
        confidence="paper's text",
    ),
    "asft": Reading(
        parts=(("lam", "unlikelihood"), ("1", "sft")),
        note=f"{MEANS}; the loss of M(w) and not M(l) is the sum of the losses of M(w) and of not M(l): nothing "
        "couples the two responses",
        exact={"lam": 0.3},
        lengths=True,
    ),
    "asft_aligned": Reading(
        parts=(("1", "raise_odds"), ("1", "npo_odds")), note=f"{MEANS}; {BETA}", exact={"beta": 1.0}, lengths=True
    ),
    # one response against the reference
    "npo": _one("npo", note="weight 2/beta; beta multiplies log R outside the logic; a retain set is sft"),
    "npo_rt": Reading(parts=(("1", "npo"), ("retain", "sft")), note="as npo; sft is of the responses to retain"),
    "npo_kl": _one("npo", note="as npo; what is retained is held to the reference's distributions, outside the logic"),
    "gradient_ascent": _one("npo", link="bare", note="npo as beta goes to 0; a retain set is sft"),
    "simnpo": _one("simnpo", note=f"weight 2/beta, {MEANS}; beta multiplies log R and gamma is subtracted"),
    "bco": Reading(
        parts=(("1 if up", "raise"), ("1 if down", "npo")),
        note="each example is a separate formula; the shift delta moves log R outside the logic",
    ),
    "bco_pair": Reading(parts=(("1", "raise"), ("1", "npo")), note=BETA, exact={"beta": 1.0}),
    "nca_pair": Reading(
        parts=(("1", "raise"), ("1/2", "hold"), ("1/2", "npo")),
        note=f"what is raised is also held back with half the weight; {BETA}",
        exact={"beta": 1.0},
    ),
    "kto": Reading(
        parts=(("lambda_D if desirable", "raise"), ("lambda_U if undesirable", "npo")),
        link="linear",
        note="not one structure of a pair: each example is a separate formula, and its link is no logarithm. The "
        "reference point z0 moves log R outside the logic",
    ),
    "apo_zero_unpaired": Reading(
        parts=(("desirable", "raise"), ("undesirable", "npo")),
        link="linear",
        note=f"each example is a separate formula; {BETA}",
    ),
    "apo_zero": Reading(parts=(("1", "raise"), ("1", "npo")), link="linear", note=BETA, exact={"beta": 1.0}),
    "apo_down": Reading(parts=(("1", "dpo"), ("1", "hold")), link="linear", note=BETA, exact={"beta": 1.0}),
    "sppo_hard": Reading(
        parts=(("1", "raise"), ("1", "npo")),
        link="squared",
        note="target eta/2 of each; the reference is the policy at the start of the round",
        exact={"eta": 2.0},
    ),
}  # fmt: skip

NO_RATIO = (
    "the derivative of its divergence makes a margin that is no log of a ratio of counts; with the reverse KL it "
    "is dpo"
)

BY_TOKEN = "the margin holds divergences over the whole vocabulary: no atom stands for them"
A_LIST = "a ranking of K responses speaks of K atoms; of two responses it is dpo"

UNREAD: Mapping[str, str] = {
    "sail": "the loss is DPO's, but on responses and labels of the policy: its gradient is not that of one formula",
    "srpo": "the improver reads answers in context: further atoms M(y given z), for which no structure is derived",
    "spa": "how soft a label is depends on the margin itself: dpo where it is clear, cdpo where it is not",
    "seppo": "the sign of the loser's log-ratio turns with the winner's: dpo where the reference is the worse one",
    "aot": "the margins of a batch are sorted: no comparison has its own formula",
    "aot_unpaired": "as aot, of single responses",
    "f_dpo": NO_RATIO,
    "f_dpo_forward_kl": NO_RATIO,
    "f_dpo_alpha": NO_RATIO,
    "f_dpo_js": "its margin is log p_w (p_l + q_l) - log p_l (p_w + q_w), and p_l + q_l is no count; it is DPO with "
    "the even mixture of model and reference for a reference, but that atom moves with the model",
    "alpha_po": "a power of the probability replaces its logarithm: no log of a ratio of counts",
    "sparse_po": "masked sums of token log-ratios: no atom stands for a response",
    "tdpo1": BY_TOKEN,
    "tdpo2": BY_TOKEN,
    "plackett_luce": A_LIST,
    "tpo": A_LIST,
    **dict.fromkeys(
        ("sppo", "gpo", "dno", "egpo", "copg", "reinforce", "rloo", "mpo", "p3o", "ppo"),
        "it reads rewards of responses, not which one is preferred: there is no preference to express",
    ),
}
