"""Squared and soft-label losses that regress log-ratios on the rewards of a group of responses.

R_i is the reward of response i: a win rate P(y_i > q) against some opponent q, a score, or a reward model's
number. Rewards are constants, so these are true losses: their minimiser does not depend on how often a
response is drawn, only on its reward (the pairwise ones exactly; `Sppo` and `Gpo` up to a constant they assume).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from equipoise.core.dims import PerCandidate
from equipoise.core.objectives.base import not_negative, positive
from equipoise.core.objectives.groups import leave_one_out, pair_squares
from equipoise.core.objectives.reads import PAIR, Reads
from equipoise.core.scores import Losses, Scores


@dataclass(frozen=True, kw_only=True)
class Egpo:
    """The regression of extragradient preference optimisation, a generalised online IPO.

        L = mean over i < j of ( (lr_i - lr_j) - (R_i - R_j)/beta )^2,    lr_i = log pi(y_i) - log pi_ref(y_i)

    Symbols:
    y_1..y_K   two or more responses from any sampler; log-probs are sums over response tokens.
    R_i        P(y_i > q), the win rate against a frozen opponent q, or P(y_i > y'') for one y'' ~ q.
    beta       KL weight of the regularised game, > 0.

    Gradient: through pi only.
    Properties: For full support the minimiser is pi_ref exp(R/beta)/Z, the best response to q, whatever the sampler;
    its fixed point q = pi is the regularised Nash policy. With pairs uniform over N responses the gradient on the
    logits is (4/N)(d - mean d), d = lr - R/beta, so plain gradient descent with rate lr is the tabular update with eta
    beta = 4 lr/N. Adding c(x) to rewards or log-probs changes nothing.
    Raises: ValueError unless beta > 0, and for fewer than two responses.

    Source: Zhou, Fazel and Du 2025 (2503.08942), the loss of the authors' code; the constant 4/N is DERIVED.
    """

    beta: float = 0.1
    anchors: ClassVar[tuple[str, ...]] = ("reference",)
    candidates: ClassVar[int] = 2
    reads: ClassVar[Reads] = Reads(rewards=True, group=True)

    def __post_init__(self) -> None:
        positive(beta=self.beta)

    def __call__(self, scores: Scores) -> Losses:
        reward = scores.rewards()
        value = pair_squares(scores.log_ratio("reference") - reward / self.beta)
        return Losses(value, reward=reward.mean(dim=1))


@dataclass(frozen=True, kw_only=True)
class Copg:
    """Contrastive policy gradient: every response is the baseline of every other, on- or off-policy.

        L = 1/(K-1) sum_{i>j} (R_b(y_i) - R_b(y_j))^2 / (2 beta),    R_b(y) = R(y) - beta lr(y)

    Symbols:
    y_1..y_K   two or more responses from any distributions, R their rewards.
    lr         log pi(y) - log pi_ref(y), summed over response tokens.
    beta       KL weight, >= 0.

    Gradient: through pi only.
    Properties: L = (K beta/4) times the loss of `Egpo`: the same minimiser pi_ref exp(R/beta)/Z for every sampler of
    full support, in the scale of a policy gradient. K = 2 is the paper's pair. For y_i ~ pi the expected gradient is -K
    times that of E_pi R - beta KL(pi||pi_ref), the direction of `Rloo`. A pair with R_0 - R_1 = 1/2 gives (beta/2)(lr_0
    - lr_1 - 1/(2 beta))^2: IPO. Adding c(x) to rewards changes nothing. As beta -> 0 the loss diverges by a constant
    and its gradient tends to that of

        L_0 = -1/(K-1) sum_{i>j} (R_i - R_j)(lr_i - lr_j),

    which is the value here at beta = 0: policy gradient without a KL, on-policy only (it has no minimum).
    Raises: ValueError unless beta >= 0, and for fewer than two responses.

    Source: Flet-Berliac et al. 2024 (2406.19185), secondary; the identities are DERIVED.
    """

    beta: float = 0.1
    anchors: ClassVar[tuple[str, ...]] = ("reference",)
    candidates: ClassVar[int] = 2
    reads: ClassVar[Reads] = Reads(rewards=True, group=True)

    def __post_init__(self) -> None:
        not_negative(beta=self.beta)

    def __call__(self, scores: Scores) -> Losses:
        reward, ratio = scores.rewards(), scores.log_ratio("reference")
        if self.beta == 0:
            value = -(leave_one_out(reward) * ratio).sum(dim=1)
        else:
            value = reward.shape[1] * self.beta / 4 * pair_squares(ratio - reward / self.beta)
        return Losses(value, reward=reward.mean(dim=1))


def _pointwise(scores: Scores, target: PerCandidate) -> Losses:
    """mean_i (log pi(y_i) - log pi_t(y_i) - target_i)^2."""
    value = (scores.log_ratio("previous") - target).square().mean(dim=1)
    return Losses(value, reward=scores.rewards().mean(dim=1))


@dataclass(frozen=True, kw_only=True)
class Sppo:
    """Self-play preference optimisation: each log-ratio is regressed on the response's win rate.

        L = mean_i ( lr_t(y_i) - eta (R_i - 1/2) )^2,    lr_t(y) = log pi(y) - log pi_t(y)

    Symbols:
    y_i    one or more responses from pi_t, the policy at the start of the round (anchor "previous").
    R_i    their win rates P(y_i > pi_t) in [0, 1].
    eta    STEP, > 0 (the paper's code calls 1/eta beta): the update is proportional to exp(eta P(y > pi_t)).

    Gradient: through pi only.
    Properties: The exact log-partition is replaced by eta/2, so the minimiser is the step of multiplicative weights up
    to O(eta^2); where all R are 1/2 nothing moves. Without pairs no c(x) cancels. For a pair the mean over i is the
    factor 1/2 of the paper's code.
    Raises: ValueError unless eta > 0.

    Source: Wu et al. 2024 (2405.00675); checked against the authors' code.
    """

    eta: float = 1000.0
    anchors: ClassVar[tuple[str, ...]] = ("previous",)
    candidates: ClassVar[int] = 1
    reads: ClassVar[Reads] = Reads(rewards=True, group=True)

    def __post_init__(self) -> None:
        positive(eta=self.eta)

    def __call__(self, scores: Scores) -> Losses:
        return _pointwise(scores, self.eta * (scores.rewards() - 0.5))


@dataclass(frozen=True, kw_only=True)
class SppoHard:
    """SPPO on a labelled pair: the winner's win rate counts as 1, the loser's as 0.

        L = ( lr_t(y0) - eta/2 )^2 + ( lr_t(y1) + eta/2 )^2,    lr_t(y) = log pi(y) - log pi_t(y)

    Symbols:
    y0, y1   winner and loser of a pair sampled from pi_t (anchor "previous").
    eta      STEP, > 0, as in `Sppo`.

    Gradient: through pi only.
    Properties: No factor 1/2, as in TRL: twice `Sppo` with the rewards (1, 0), whose mean over the pair is the paper's
    factor. Unlike a margin loss it fixes both log-ratios, not their difference alone.
    Raises: ValueError unless eta > 0.

    Source: the hard-label case of Wu et al. 2024 (2405.00675), in the scale of TRL's `sppo_hard`.
    """

    eta: float = 1000.0
    anchors: ClassVar[tuple[str, ...]] = ("previous",)
    candidates: ClassVar[int] = 2
    reads: ClassVar[Reads] = PAIR

    def __post_init__(self) -> None:
        positive(eta=self.eta)

    def __call__(self, scores: Scores) -> Losses:
        ratio, half = scores.log_ratio("previous"), self.eta / 2
        value = (ratio[:, 0] - half).square() + (ratio[:, 1] + half).square()
        return Losses(value, margin=ratio[:, 0] - ratio[:, 1])


@dataclass(frozen=True, kw_only=True)
class Gpo:
    """General preference optimisation: SPPO on a skew-symmetric score instead of a win rate.

        L = mean_i ( lr_t(y_i) - s_i/beta )^2,    lr_t(y) = log pi(y) - log pi_t(y)

    Symbols:
    y_i     one or more responses from pi_t, the policy at the start of the round (anchor "previous").
    s_i     E_{y'~pi_t} s(y_i > y'), a score with s(y > y') = -s(y' > y): no 1/2 to subtract.
    beta    inverse step, > 0: the update is proportional to exp(s(y > pi_t)/beta).

    Gradient: through pi only.
    Properties: The scores have mean 0 under pi_t, so the missing log-partition is O(1/beta^2).
    Raises: ValueError unless beta > 0.

    Source: Zhang et al. 2024 (2410.02197); the loss is RECALLED, its constants read in the authors' scripts.
    """

    beta: float = 0.001
    anchors: ClassVar[tuple[str, ...]] = ("previous",)
    candidates: ClassVar[int] = 1
    reads: ClassVar[Reads] = Reads(rewards=True, group=True)

    def __post_init__(self) -> None:
        positive(beta=self.beta)

    def __call__(self, scores: Scores) -> Losses:
        return _pointwise(scores, scores.rewards() / self.beta)


@dataclass(frozen=True, kw_only=True)
class Dno:
    """Direct Nash optimisation: cross-entropy on the soft labels that the win rates imply.

        L = mean over i < j of -[ s log sigma(u) + (1 - s) log sigma(-u) ]
        s = sigma(R_i - R_j),    u = eta (lr_t(y_i) - lr_t(y_j)),    lr_t(y) = log pi(y) - log pi_t(y)

    Symbols:
    y_1..y_K   two or more responses from any distribution.
    R_i        P(y_i > pi_t), the win rate against the policy at the start of the round (anchor "previous").
    eta        INVERSE step, > 0: the update is proportional to exp(P(y > pi_t)/eta).

    Gradient: through pi only.
    Properties: The minimiser is pi_t exp(R/eta)/Z for ANY pair distribution of full support. As R_0 - R_1 -> infinity a
    pair becomes DPO with reference pi_t and beta = eta. Adding c(x) to rewards changes nothing.
    Raises: ValueError unless eta > 0, and for fewer than two responses.

    Source: Rosset et al. 2024 (2404.03715), Algorithm 1; the identities are DERIVED.
    """

    eta: float = 0.1
    anchors: ClassVar[tuple[str, ...]] = ("previous",)
    candidates: ClassVar[int] = 2
    reads: ClassVar[Reads] = Reads(rewards=True, group=True)

    def __post_init__(self) -> None:
        positive(eta=self.eta)

    def __call__(self, scores: Scores) -> Losses:
        reward, ratio = scores.rewards(), scores.log_ratio("previous")
        size = reward.shape[1]
        if size < 2:
            raise ValueError(f"a group needs at least two responses, got {size}")
        i, j = torch.triu_indices(size, size, offset=1, device=reward.device)
        label = torch.sigmoid(reward[:, i] - reward[:, j])
        u = self.eta * (ratio[:, i] - ratio[:, j])
        value = binary_cross_entropy_with_logits(u, label, reduction="none").mean(dim=1)
        return Losses(value, reward=reward.mean(dim=1))
