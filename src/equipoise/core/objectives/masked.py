"""Token-level pair losses: TDPO, with a token-level KL, and SparsePO, which masks log-ratios and KL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import softplus

from equipoise.core.dims import PerCandidate
from equipoise.core.objectives.base import not_negative, positive
from equipoise.core.objectives.reads import Reads
from equipoise.core.scores import Losses, Scores, TokenScores


@dataclass(frozen=True, kw_only=True)
class Tdpo:
    """Token-level DPO: the DPO margin minus the difference of the responses' sequential KLs.

        L = softplus(-m),    m = beta ( U - alpha D ),    U = sum_k lr_k(y0) - sum_k lr_k(y1)
        D = sum_k K_k(y1) - sum_k K_k(y0),                K_k(y) = KL( pi_ref(.|y_<k) || pi(.|y_<k) )

    Symbols:
    y0, y1   preferred and dispreferred response; lr_k(y) = log pi(y_k|y_<k) - log pi_ref(y_k|y_<k).
    beta     inverse strength of the implicit reward, > 0.
    alpha    weight of the divergences, >= 0; 0 is DPO.
    still    detach the chosen response's divergence, so that only the rejected one's is penalised.

    Gradient: through pi in the log-ratios and in both K (one, if `still`). The reference's full next-token
    distribution is read.
    Properties: At pi = pi_ref every K and its gradient are 0, so value (log 2) and gradient are DPO's. D has no lower
    bound in K(y0): with `still` off the loss also rewards drift of the chosen response.
    Raises: ValueError for parameters out of range.

    Source: Zeng et al. 2024 (2404.11999), checked against the authors' code; without `still` and with alpha = 1 it is
    SparsePO (2410.05102) at masks of 1.
    """

    beta: float = 0.1
    alpha: float = 0.5
    still: bool = True
    anchors: ClassVar[tuple[str, ...]] = ("reference",)
    candidates: ClassVar[int] = 2
    reads: ClassVar[Reads] = Reads(tokens=True, divergences=("reference",))

    def __post_init__(self) -> None:
        positive(beta=self.beta)
        not_negative(alpha=self.alpha)

    def __call__(self, scores: Scores) -> Losses:
        gain, drift = masked_sums(scores.by_token())
        chosen = drift[:, 0].detach() if self.still else drift[:, 0]
        margin = self.beta * (gain[:, 0] - gain[:, 1] - self.alpha * (drift[:, 1] - chosen))
        return Losses(softplus(-margin), margin=margin, drift_chosen=drift[:, 0], drift_rejected=drift[:, 1])


def Tdpo1(*, beta: float = 0.1) -> Tdpo:
    """TDPO1: `Tdpo` with the gradient through both divergences at unit weight.

        L = softplus(-beta (U - D))

    Source: Zeng et al. 2024 (2404.11999), checked against the authors' code.
    """
    return Tdpo(beta=beta, alpha=1.0, still=False)


def Tdpo2(*, beta: float = 0.1, alpha: float = 0.5) -> Tdpo:
    """TDPO2: `Tdpo` with the chosen response's divergence detached, so that only the rejected one's is held down.

        L = softplus(-beta (U - alpha (D_1 - sg[D_0]))),    D_i = sum_k K_k(y_i)

    Source: Zeng et al. 2024 (2404.11999), checked against the authors' code.
    """
    return Tdpo(beta=beta, alpha=alpha, still=True)


@dataclass(frozen=True, kw_only=True)
class SparsePo:
    """Sparse preference optimisation: TDPO1 with a mask on the log-ratios and one on the divergences.

        L = softplus(-beta (U - D)) + l1_u [ |m_u(y0)| + |m_u(y1)| ] + l1_d [ |m_d(y0)| + |m_d(y1)| ]
        U = sum_k m_u(y0_k) lr_k(y0) - sum_k m_u(y1_k) lr_k(y1)
        D = sum_k m_d(y1_k) K_k(y1)  - sum_k m_d(y0_k) K_k(y0),    K_k(y) = KL( pi_ref(.|y_<k) || pi(.|y_<k) )

    Symbols:
    y0, y1       preferred and dispreferred response; lr_k(y) = log pi(y_k|y_<k) - log pi_ref(y_k|y_<k).
    m_u, m_d     weights "utility" and "divergence" of the tokens, >= 0. Constants (MaPO), or learned: then the
                 gradient flows into them too.
    |m(y)|       sum over the response's tokens, the L1 norm of a mask that is not negative.
    beta         inverse strength of the implicit reward, > 0.
    l1_u, l1_d   weights of the norms, >= 0. For one common mask they add up.

    Gradient: through pi in the log-ratios and both K.
    Properties: At pi = pi_ref it is log 2 and the norms, for any mask. m_u = 1 and m_d = 0 is DPO, m_u = m_d = 1 TDPO1,
    both masks 0 have no gradient in pi. Metrics: `kept`, the share of tokens whose mask m_u is not 0.
    Raises: ValueError for parameters out of range.

    Source: Christopoulou et al. 2024 (2410.05102), checked against the authors' code.
    """

    beta: float = 0.1
    l1_u: float = 0.001
    l1_d: float = 0.001
    anchors: ClassVar[tuple[str, ...]] = ("reference",)
    candidates: ClassVar[int] = 2
    reads: ClassVar[Reads] = Reads(
        tokens=True, divergences=("reference",), token_weights=("utility", "divergence")
    )

    def __post_init__(self) -> None:
        positive(beta=self.beta)
        not_negative(l1_u=self.l1_u, l1_d=self.l1_d)

    def __call__(self, scores: Scores) -> Losses:
        tokens = scores.by_token()
        m_u, m_d = (tokens.weight(name)[:, :2] for name in self.reads.token_weights)
        gain, drift = masked_sums(tokens, m_u, m_d)
        margin = self.beta * ((gain[:, 0] - gain[:, 1]) - (drift[:, 1] - drift[:, 0]))
        norms = self.l1_u * m_u.abs().sum(dim=(1, 2)) + self.l1_d * m_d.abs().sum(dim=(1, 2))
        kept = (m_u != 0).sum(dim=(1, 2)) / tokens.mask[:, :2].sum(dim=(1, 2))
        return Losses(softplus(-margin) + norms, margin=margin, kept=kept)


def masked_sums(
    tokens: TokenScores, m_u: Tensor | float = 1.0, m_d: Tensor | float = 1.0
) -> tuple[PerCandidate, PerCandidate]:
    """(sum_k m_u lr_k, sum_k m_d K_k) of the two responses of each pair."""
    gain = (m_u * tokens.log_ratio("reference")[:, :2]).sum(dim=2)
    drift = (m_d * tokens.divergence("reference")[:, :2]).sum(dim=2)
    return gain, drift
