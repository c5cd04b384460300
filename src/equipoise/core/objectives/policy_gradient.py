"""Policy gradients on the rewards of sampled responses, written as losses to descend.

Two kinds. Score-function surrogates (`Reinforce`, `Rloo`, `Mpo`): responses are fresh samples of pi itself, the
coefficient of log pi is a constant (detached), and only the gradient means something. Ratio surrogates
(`P3o`, and `Ppo` in `token_level`): responses are samples of pi_t, the gradient flows through the ratio
pi/pi_t, and several steps may be taken before new samples are drawn.

R_i is the reward of response i; log-probs are sums over response tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from equipoise.core.dims import PerCandidate
from equipoise.core.objectives.base import not_negative, positive
from equipoise.core.objectives.groups import leave_one_out
from equipoise.core.objectives.reads import Reads
from equipoise.core.scores import Losses, Scores

LARGEST_LOG_RATIO = 20.0  # nats: exp of more says nothing and overflows float32


def _ascend(scores: Scores, advantage: PerCandidate) -> Losses:
    """-mean_i sg[advantage_i] log pi(y_i)."""
    value = -(advantage.detach() * scores.logp).mean(dim=1)
    return Losses(value, reward=scores.rewards().mean(dim=1))


def clipped(ratio: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """min( A rho, A clip(rho, 1 - clip, 1 + clip) ): no gain from moving further than the clip range."""
    return torch.minimum(advantage * ratio, advantage * ratio.clamp(1 - clip, 1 + clip))


def ratio(log_ratio: Tensor) -> Tensor:
    return log_ratio.clamp(max=LARGEST_LOG_RATIO).exp()


def _shaped(scores: Scores, tau: float) -> PerCandidate:
    """R - tau log(pi_t/pi_ref): the reward less the KL charge of the policy that wrote the response; constant."""
    return scores.rewards() - tau * (scores.of("previous") - scores.of("reference"))


def check_clip(clip: float) -> None:
    if not 0 < clip < 1:
        raise ValueError(f"clip must lie in (0, 1), got {clip!r}")


@dataclass(frozen=True, kw_only=True)
class Reinforce:
    """Policy gradient with the constant baseline 1/2: Nash-MD-PG, and with tau = 0 that of SPO.

        L = -mean_i sg[ R_i - 1/2 - tau lr(y_i) ] log pi(y_i),    lr(y) = log pi(y) - log pi_ref(y)

    Symbols:
    y_i    one or more fresh samples of pi.
    R_i    P(y_i > y') against a sample y' of the opponent, or the win rate P(y_i > q) itself.
    tau    KL weight of the game, >= 0.

    Gradient: of a surrogate: the bracket is detached.
    Properties: The expected gradient is minus that of E_pi R - tau KL(pi||pi_ref), R held fixed; it vanishes at pi_ref
    exp(P(y > q)/tau)/Z. With the opponent pi^(1-b) pi_ref^b this is Nash-MD-PG, with the opponent pi self-play.
    Raises: ValueError unless tau >= 0.

    Source: Munos et al. 2023 (2312.00886), the gradient of Nash-MD-PG; for tau = 0 Swamy et al. 2024
    (2401.04056), whose form here is DERIVED.
    """

    tau: float = 0.008
    anchors: ClassVar[tuple[str, ...]] = ("reference",)
    candidates: ClassVar[int] = 1
    reads: ClassVar[Reads] = Reads(rewards=True, group=True, surrogate=True)

    def __post_init__(self) -> None:
        not_negative(tau=self.tau)

    def __call__(self, scores: Scores) -> Losses:
        return _ascend(scores, scores.rewards() - 0.5 - self.tau * scores.log_ratio("reference"))


@dataclass(frozen=True, kw_only=True)
class Rloo:
    """REINFORCE with the leave-one-out baseline: the others of the group say what is usual.

        L = -mean_i sg[ R_t(y_i) - mean_{j != i} R_t(y_j) ] log pi(y_i),    R_t(y) = R(y) - tau lr(y)

    Symbols:
    y_1..y_K   two or more fresh samples of pi, R their rewards.
    lr         log pi(y) - log pi_ref(y).
    tau        KL weight, >= 0.

    Gradient: of a surrogate: the bracket is detached.
    Properties: The expected gradient is minus that of E_pi R - tau KL(pi||pi_ref), R held fixed. Adding c(x) to rewards
    or log-probs changes nothing.
    Raises: ValueError unless tau >= 0, and for fewer than two responses.

    Source: Kool, van Hoof and Welling 2019; for language models Ahmadian et al. 2024 (2402.14740). RECALLED.
    """

    tau: float = 0.05
    anchors: ClassVar[tuple[str, ...]] = ("reference",)
    candidates: ClassVar[int] = 2
    reads: ClassVar[Reads] = Reads(rewards=True, group=True, surrogate=True)

    def __post_init__(self) -> None:
        not_negative(tau=self.tau)

    def __call__(self, scores: Scores) -> Losses:
        return _ascend(scores, leave_one_out(scores.rewards() - self.tau * scores.log_ratio("reference")))


@dataclass(frozen=True, kw_only=True)
class Mpo:
    """Magnetic preference optimisation: policy gradient of one step of magnetic mirror descent.

        L = -mean_i sg[ R_i - 1/2 - alpha log(pi/pi_m)(y_i) - (1/eta) log(pi/pi_t)(y_i) ] log pi(y_i)

    Symbols:
    y_i      one or more fresh samples of pi.
    R_i      P(y_i > y') with y' ~ pi_t, or the win rate P(y_i > pi_t).
    pi_m     the magnet (anchor "magnet"), refreshed every few rounds; pi_t the anchor "previous".
    alpha    strength of the magnet, >= 0.
    eta      STEP, > 0.
    real_time   False: the magnet's term is charged as sampled, alpha log(pi_t/pi_m), and stands still in a round.

    Gradient: of a surrogate: the bracket is detached.
    Properties: The expected gradient is minus that of E_pi R - alpha KL(pi||pi_m) - (1/eta) KL(pi||pi_t), R held fixed,
    with the maximiser pi ~ [ pi_t pi_m^(eta alpha) exp(eta R) ]^(1/(1 + eta alpha)); charged as sampled, pi ~ pi_t^(1 -
    eta alpha) pi_m^(eta alpha) exp(eta R). alpha = 0 is a step of multiplicative weights.
    Raises: ValueError for parameters out of range.

    Source: Wang et al. 2024 (2410.16714) for the game; the loss is DERIVED, the practice RECALLED, and so is that
    `real_time` tells MPO-RT from MPO.
    """

    alpha: float = 0.1
    eta: float = 1.0
    real_time: bool = True
    anchors: ClassVar[tuple[str, ...]] = ("magnet", "previous")
    candidates: ClassVar[int] = 1
    reads: ClassVar[Reads] = Reads(rewards=True, group=True, surrogate=True)

    def __post_init__(self) -> None:
        not_negative(alpha=self.alpha)
        positive(eta=self.eta)

    def __call__(self, scores: Scores) -> Losses:
        writer = scores.logp if self.real_time else scores.of("previous")
        pull = self.alpha * (writer - scores.of("magnet")) + scores.log_ratio("previous") / self.eta
        return _ascend(scores, scores.rewards() - 0.5 - pull)


@dataclass(frozen=True, kw_only=True)
class P3o:
    """Pairwise proximal policy optimisation: clipped ratios weighted by the difference of two rewards.

        d = (R_0 - R_1)/2,    R = r - tau log(pi_t/pi_ref),    rho_i = pi(y_i)/pi_t(y_i)
        L = -[ min(d rho_0, d clip(rho_0)) + min(-d rho_1, -d clip(rho_1)) ]    joint = False
        L = -min(|d| w, |d| clip(w)),    w = rho_better/rho_worse               joint = True

    Symbols:
    y_0, y_1   two samples of pi_t (anchor "previous"); r their rewards; better and worse by R. Of K > 2 samples the
               loss is the mean over all K (K - 1)/2 pairs.
    tau        KL weight of the reward, >= 0.
    clip       epsilon of clip(u) = clamp(u, 1 - epsilon, 1 + epsilon), in (0, 1).

    Gradient: through pi in the ratios; R is constant.
    Properties: A log-ratio above 20 nats counts as 20. At pi = pi_t both forms have the gradient -(R_0 - R_1)/2
    grad[log pi(y_0) - log pi(y_1)], the leave-one-out policy gradient of two samples (of K samples that of `Rloo`); the
    sign between the log-probs is a minus, with a plus it would vanish in expectation. R_0 = R_1 gives no update, adding
    c(x) to the rewards changes nothing (in the joint form nor to the log-probs). The joint clip bounds the difference
    of two log-ratios and leaves their common drift free; separate clips bound both. `joint = False` is `Ppo` on two
    whole responses with their leave-one-out advantages.
    Raises: ValueError for parameters out of range.

    Source: Wu et al. 2023 (2310.00212). The gradient from the paper's text, both clippings DERIVED; the joint
    form is written with the better response on top, so that the order of the pair does not matter.
    """

    tau: float = 0.05
    clip: float = 0.2
    joint: bool = True
    anchors: ClassVar[tuple[str, ...]] = ("reference", "previous")
    candidates: ClassVar[int] = 2
    reads: ClassVar[Reads] = Reads(rewards=True, group=True)

    def __post_init__(self) -> None:
        not_negative(tau=self.tau)
        check_clip(self.clip)

    def __call__(self, scores: Scores) -> Losses:
        shaped, moved = _shaped(scores, self.tau), scores.log_ratio("previous")
        if shaped.shape[1] < 2:
            raise ValueError("P3O compares at least two responses to a prompt, got one")
        i, j = torch.triu_indices(shaped.shape[1], shaped.shape[1], 1, device=shaped.device)
        d = (shaped[:, i] - shaped[:, j]) / 2
        if self.joint:
            pairs = -clipped(ratio(d.sign() * (moved[:, i] - moved[:, j])), d.abs(), self.clip)
        else:
            both = [clipped(ratio(moved[:, k]), a, self.clip) for k, a in ((i, d), (j, -d))]
            pairs = -(both[0] + both[1])
        return Losses(pairs.mean(dim=1), reward=scores.rewards().mean(dim=1))
