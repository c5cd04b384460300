"""Rationale-augmented pair losses: plus the likelihood of a text that explains the preference."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

from torch.nn.functional import softplus

from equipoise.core.objectives.base import Objective, not_negative, require_pair_loss
from equipoise.core.objectives.logistic import Dpo
from equipoise.core.objectives.odds import Orpo
from equipoise.core.objectives.reads import Reads
from equipoise.core.objectives.reference_free import Simpo
from equipoise.core.scores import Losses, Scores

Form = Literal["linear", "log_sigmoid"]


@dataclass(frozen=True, kw_only=True)
class WithRationale:
    """Any pair loss, and the likelihood of a rationale: why the chosen response beats the rejected one.

        L = L_base(y0, y1) - gamma_r logp(r)               form "linear"
        L = L_base(y0, y1) - log sigma( gamma_r logp(r) )  form "log_sigmoid"

    Symbols:
    y0, y1   preferred and dispreferred response: columns 0 and 1.
    r        the rationale: column 2, scored after the prompt, both responses and the stated preference; these are
             context and not scored, so this term has no gradient in log pi(y0|x) or log pi(y1|x).
    logp(r)  log pi(r|x, y0, y1), its mean over the rationale's tokens, or with `average` off their sum; no reference.
    gamma_r  weight of the rationale, the paper's gamma, >= 0; 0 is the base loss.

    Properties: The linear form is the chain rule P(y0 > y1|x) pi(r|x, y0 > y1). The other is that of the released code:
    about log 2 + gamma_r NLL/2 near NLL = 0 and gamma_r NLL far from it, its slope between gamma_r/2 and gamma. A soft
    label mixes the base losses; the rationale stays. Metric `rationale`: its NLL per token.
    Raises: ValueError for a base that is not a pair loss and for parameters out of range.

    Source: Just et al. 2024 (2407.14477), the linear form as transcribed by others, the other checked against the
    authors' code; the mean over tokens is this library's choice.
    """

    base: Objective = field(default_factory=Dpo)
    gamma_r: float = 0.1
    form: Form = "linear"
    average: bool = True
    parameters: ClassVar[tuple[str, ...]] = ("gamma_r", "form", "average")
    candidates: ClassVar[int] = 3

    def __post_init__(self) -> None:
        require_pair_loss(type(self).__name__, self.base)
        not_negative(gamma_r=self.gamma_r)
        if self.form not in get_args(Form):
            raise ValueError(f"form must be one of {get_args(Form)}, got {self.form!r}")

    @property
    def anchors(self) -> tuple[str, ...]:
        return self.base.anchors

    @property
    def reads(self) -> Reads:
        return self.base.reads

    def __call__(self, scores: Scores) -> Losses:
        base, mean = self.base(scores), scores.per_token().logp[:, 2]
        logp = mean if self.average else scores.logp[:, 2]
        why = softplus(-self.gamma_r * logp) if self.form == "log_sigmoid" else -self.gamma_r * logp
        return Losses(base.value + why, **base.metrics, rationale=-mean)


def RationaleDpo(
    *, beta: float = 0.1, gamma_r: float = 0.1, form: Form = "linear", average: bool = True
) -> WithRationale:
    """RDPO, rationale-augmented DPO: `WithRationale` on `Dpo`.

    Properties: Not rDPO, which is robust to flipped labels.

    Source: Just et al. 2024 (2407.14477).
    """
    return WithRationale(base=Dpo(beta=beta), gamma_r=gamma_r, form=form, average=average)


def RationaleOrpo(
    *, lam: float = 0.1, gamma_r: float = 1.0, form: Form = "linear", average: bool = True
) -> WithRationale:
    """RORPO: `WithRationale` on `Orpo`; no reference. Source: Just et al. 2024 (2407.14477)."""
    return WithRationale(base=Orpo(lam=lam), gamma_r=gamma_r, form=form, average=average)


def RationaleSimpo(
    *,
    beta: float = 2.0,
    gamma: float = 1.0,
    gamma_r: float = 0.1,
    form: Form = "linear",
    average: bool = True,
) -> WithRationale:
    """RSimPO: `WithRationale` on `Simpo`; gamma is SimPO's margin. Source: Just et al. 2024 (2407.14477)."""
    return WithRationale(base=Simpo(beta=beta, gamma=gamma), gamma_r=gamma_r, form=form, average=average)
