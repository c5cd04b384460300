"""KL-regularised token-level MDP: its exact solution, and common token rewards."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from equipoise.core.dims import Strategy
from equipoise.games.tokens import TokenPolicy, TokenTable, TokenTree


class SoftOptimum(NamedTuple):
    """The optimal policy, and the value [X, S] of every prefix; the empty prefix is number 0."""

    policy: TokenPolicy
    value: Float[Tensor, "X S"]


def soft_optimum(reference: TokenPolicy, reward: TokenTable, *, beta: float) -> SoftOptimum:
    """Soft-optimal policy (expected reward minus KL to the reference), by the soft Bellman equation.

        maximise   E_{y~pi} sum_k [ r(y_<k, y_k) - beta log pi(y_k|y_<k)/ref(y_k|y_<k) ]
        V(s) = beta log sum_v ref(v|s) exp( (r(s, v) + V(s v))/beta ),    V(response) = 0
        pi(v|s) = ref(v|s) exp( (r(s, v) + V(s v) - V(s))/beta )

    reward    [X, S, V] finite, for token v after prefix s.
    beta      weight of the KL, > 0.

    Over responses this is ref(y) exp(R(y)/beta)/Z with R(y) the sum of the token rewards, so two token rewards
    with the same sums have the same optimum, and V of the empty prefix is beta log Z. Raises ValueError for a
    wrong shape, a reward that is not finite or beta <= 0. DERIVED; the tests compare it with enumeration.
    """
    if not beta > 0:
        raise ValueError(f"beta must be positive, got {beta!r}")
    if not bool(reward.isfinite().all()):
        raise ValueError("token rewards must be finite; to forbid a token, give it reference probability 0")
    tree, base = reference.tree, reference.conditional()
    tree.check("reward", reward)
    q = tree.backup(base + reward / beta, base.new_zeros(len(base), len(tree.responses)))
    return SoftOptimum(TokenPolicy(tree, q), beta * q.logsumexp(dim=2))


def terminal_reward(tree: TokenTree, reward: Strategy) -> TokenTable:
    """Terminal reward: response rewards [X, A], paid at the last token (EOS, or the L-th), as a table [X, S, V]."""
    if reward.ndim != 2 or reward.shape[1] != len(tree.responses):
        raise ValueError(f"reward must be [prompts, {len(tree.responses)}], got {tuple(reward.shape)}")
    number = tree.child - len(tree.prefixes)
    return reward[:, number.clamp(min=0)].where(number >= 0, 0)


def rto_reward(dpo: TokenPolicy, reference: TokenPolicy, *, beta: float, clip: float | None) -> TokenTable:
    """Dense token reward of RTO, from a policy trained by DPO: [X, S, V], detached.

        r(s, v) = clip( beta [ log pi_dpo(v|s) - log pi_ref(v|s) ], -c, c )

    beta    RTO's beta_1, >= 0; 0 gives ordinary PPO. Its beta_2 is `beta` of `soft_optimum`.
    clip    c > 0, applied AFTER scaling; None for no clipping. The released code has beta = c = 0.05.

    Without a clip the rewards of a response sum to beta log pi_dpo(y)/pi_ref(y), DPO's implicit reward, and the
    optimum is ref (pi_dpo/ref)^(beta_1/beta_2): token rewards redistribute credit and set a temperature. With
    a clip neither holds. A response-level reward (`terminal_reward`) is added by the caller.
    Raises ValueError for different trees, a log-ratio that is not finite, beta < 0 or clip <= 0.

    Source: Zhong et al. 2024 (2404.18922), the clip and its place from the released code; identities DERIVED.
    """
    if dpo.tree != reference.tree:
        raise ValueError("dpo and reference must be policies on the same tree")
    if not beta >= 0 or (clip is not None and not clip > 0):
        raise ValueError(f"beta must be >= 0 and clip positive or None, got {beta!r} and {clip!r}")
    ratio = (dpo.conditional() - reference.conditional()).detach()
    if not bool(ratio.isfinite().all()):
        raise ValueError("a token has probability 0 under one of the policies, so its log-ratio is infinite")
    scaled = beta * ratio
    return scaled if clip is None else torch.clamp(scaled, -clip, clip)
