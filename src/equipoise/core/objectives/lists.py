"""Listwise losses: two or more responses to one prompt, ranked by their rewards.

R_i is the reward of response i: a reversed rank, a judge's score, a win rate. Only the order counts, unless a loss
states that it reads differences. Responses with equal rewards are tied, and no loss compares tied responses.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import ClassVar, Literal, TypeAlias, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import softplus

from equipoise.core.dims import PerCandidate, PerComparison
from equipoise.core.objectives.base import positive
from equipoise.core.objectives.reads import Reads
from equipoise.core.scores import Losses, Scores

Lambdas = Literal["ranks", "ones"]
Gain = Literal["linear", "exponential"]
PerPair: TypeAlias = Float[Tensor, "B K K"]


@dataclass(frozen=True, kw_only=True)
class PlackettLuce:
    """Plackett-Luce DPO of a full ranking: each response is the first choice among itself and all that it beats.

        L = sum_i [ log( exp h_i + sum_{j: R_j < R_i} exp h_j ) - h_i ],    h_i = beta lr(y_i)

    Symbols:
    y_1..y_K   two or more responses in any order, R their rewards, of which only the order counts.
    lr         log pi(y) - log pi_ref(y), summed over response tokens.
    beta       inverse strength of the implicit reward, > 0.

    Gradient: through pi only.
    Properties: Without ties it is minus the log-likelihood of the ranking in the Plackett-Luce model, best first.
    Tied responses do not compete with each other (DERIVED; the model itself has no ties): if
    all are tied the loss is 0. K = 2 is DPO. Adding c(x) to log-probs or rewards changes nothing. Metric `concordant`:
    fraction of the untied pairs that the implicit reward orders correctly.
    Raises: ValueError unless beta > 0 and for fewer than two responses.

    Source: Rafailov et al. 2023 (2305.18290), the Plackett-Luce case of the appendix, RECALLED.
    """

    beta: float = 0.1
    anchors: ClassVar[tuple[str, ...]] = ("reference",)
    candidates: ClassVar[int] = 2
    reads: ClassVar[Reads] = Reads(rewards=True, group=True)

    def __post_init__(self) -> None:
        positive(beta=self.beta)

    def __call__(self, scores: Scores) -> Losses:
        h, beats = self.beta * scores.log_ratio("reference"), beaten(list_rewards(scores))
        rivals = beats | torch.eye(h.shape[1], dtype=torch.bool, device=h.device)
        value = (h[:, None, :].masked_fill(~rivals, -inf).logsumexp(dim=2) - h).sum(dim=1)
        return Losses(value, concordant=concordance(h, beats))


@dataclass(frozen=True, kw_only=True)
class Tpo:
    """Tree preference optimisation: all pairs of a list with lambda-rank weights (the cost of exchanging the two).

        L = sum_{i,j: R_i > R_j} lambda_ij softplus(-(s_i - s_j)),    s_i = beta sum_k w_ik lr_k(y_i)
        lambda_ij = (g_i - g_j) | 1/log(1 + rank_i) - 1/log(1 + rank_j) |,    lambdas "ones": lambda_ij = 1

    Symbols:
    y_1..y_K   two or more responses in any order, R their rewards.
    lr_k       log-ratio to the reference of token k; w_ik the weight "step" of its token, constant, 1 unless `steps`.
    rank_i     1, 2, .. by the current s_i, ties broken by the larger reward; constant.
    gain       "linear": g = R; "exponential": g = 2^v, v the list's rewards rescaled to [0, 1].
    steps      read the weights "step": with mean 1 over a response's steps they keep the scale of DPO's rewards.
    beta       inverse strength of the implicit reward, > 0.

    Gradient: through pi in the log-ratios only.
    Properties: Ties in R give no pair; if all are tied the loss is 0. At pi = pi_ref every s_i is 0: without the
    tie-breaking every lambda would be 0 and training could not start. K = 2 with lambdas "ones" is DPO.
    Metric `concordant` as in `PlackettLuce`.
    Raises: ValueError for parameters out of range, for fewer than two responses, and where `steps` finds no weights.

    Source: Liao et al. 2024 (2410.12854), RECALLED: lambda rank loss and adaptive step reward; gains of rewards that
    do not overflow, the breaking of ties and the scale of w are DERIVED. The released code has the sign reversed.
    """

    beta: float = 0.5
    lambdas: Lambdas = "ranks"
    gain: Gain = "linear"
    steps: bool = False
    anchors: ClassVar[tuple[str, ...]] = ("reference",)
    candidates: ClassVar[int] = 2

    def __post_init__(self) -> None:
        positive(beta=self.beta)
        if self.lambdas not in get_args(Lambdas):
            raise ValueError(f"lambdas must be one of {get_args(Lambdas)}, got {self.lambdas!r}")
        if self.gain not in get_args(Gain):
            raise ValueError(f"gain must be one of {get_args(Gain)}, got {self.gain!r}")

    @property
    def reads(self) -> Reads:
        weights = ("step",) if self.steps else ()
        return Reads(rewards=True, group=True, tokens=self.steps, token_weights=weights)

    def __call__(self, scores: Scores) -> Losses:
        s = self.beta * self._ratios(scores)
        reward = list_rewards(scores)
        beats = beaten(reward)
        pairs = softplus(s[:, None, :] - s[:, :, None])  # [b, i, j]: what i over j costs
        if self.lambdas == "ranks":
            pairs = lambda_weights(s.detach(), reward, self.gain) * pairs
        value = pairs.where(beats, 0).sum(dim=(1, 2))
        return Losses(value, concordant=concordance(s, beats))

    def _ratios(self, scores: Scores) -> PerCandidate:
        if not self.steps:
            return scores.log_ratio("reference")
        tokens = scores.by_token()
        return (tokens.weight("step") * tokens.log_ratio("reference")).sum(dim=2)


def lambda_weights(s: PerCandidate, reward: PerCandidate, gain: Gain) -> PerPair:
    """[B, K, K] lambda_ij = |g_i - g_j| |1/log(1 + rank_i) - 1/log(1 + rank_j)|; symmetric, 0 on the diagonal."""
    if gain == "exponential":
        low, high = reward.amin(dim=1, keepdim=True), reward.amax(dim=1, keepdim=True)
        reward = torch.exp2((reward - low) / (high - low).where(high > low, 1))
    discount = 1 / torch.log1p(ranks(s, reward))
    return (reward[:, :, None] - reward[:, None, :]).abs() * (
        discount[:, :, None] - discount[:, None, :]
    ).abs()


def ranks(s: PerCandidate, reward: PerCandidate) -> PerCandidate:
    """1 for the largest s, 2 for the next, ...; equal s by reward, and equal in both they share their mean rank."""
    ahead = beaten(s) | (s[:, :, None] == s[:, None, :]) & beaten(reward)
    return (ahead.shape[1] + 1 + ahead.sum(dim=1) - ahead.sum(dim=2)).to(s) / 2


def beaten(values: PerCandidate) -> Bool[Tensor, "B K K"]:
    """[b, i, j] True where i has the larger value."""
    return values[:, :, None] > values[:, None, :]


def concordance(s: PerCandidate, beats: Bool[Tensor, "B K K"]) -> PerComparison:
    """Share of the pairs with an order that s puts in it; a list without one counts as 1/2."""
    right = beats.to(s) * (beaten(s).to(s) + 0.5 * (s[:, :, None] == s[:, None, :]).to(s))
    count = beats.sum(dim=(1, 2)).to(s)
    return (right.sum(dim=(1, 2)) / count.clamp(min=1)).where(count > 0, 0.5)


def list_rewards(scores: Scores) -> PerCandidate:
    """The rewards of a list. Raises ValueError for fewer than two responses."""
    if scores.logp.shape[1] < 2:
        raise ValueError("a list needs at least two responses")
    return scores.rewards()
