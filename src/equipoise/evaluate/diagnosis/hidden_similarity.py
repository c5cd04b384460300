"""CHES, the centered hidden embedding similarity of a pair: how likely training is to displace its preferred response.

Source: Razin et al. 2024, 2410.08847; the scores agree with the authors' code (unpadded).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from equipoise.play.state import Floats
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.scoring.microbatch import Comparison, microbatches


class SummedStates(NamedTuple):
    """Sums [N, K, D] of the last hidden states that predict a response's tokens, and numbers [N, K] of these tokens."""

    states: Float[Tensor, "N K D"]
    length: Float[Tensor, "N K"]


@torch.no_grad()
def summed_states(policy: CausalPolicy, comparisons: Sequence[Comparison]) -> SummedStates:
    """S(y) = sum_k h(x, y_<k) over the tokens k = 1..|y| of each response: from the prompt's last state to the one
    before the response's last. In float64, on the CPU.

    h is what the head reads, after the last norm. Tokens of a response that are not scored are left out.
    """
    found: dict[int, tuple[Tensor, Tensor]] = {}
    for places in microbatches(policy, comparisons):
        batch = policy.batch([comparisons[i][0] for i in places], [comparisons[i][1] for i in places])
        states, mask = policy.features(batch)
        rows = zip(states.double().sum(dim=2).cpu(), mask.double().sum(dim=2).cpu(), strict=True)
        found.update(zip(places, rows, strict=True))
    ordered = [found[i] for i in range(len(comparisons))]
    return SummedStates(torch.stack([s for s, _ in ordered]), torch.stack([n for _, n in ordered]))


def ches(summed: SummedStates) -> tuple[Floats, Floats]:
    """CHES of pairs [N], preferred response first, and its length-normalised form.

        CHES = <S_w, S_l> - |S_w|^2,    normalised: <S_w, S_l>/(|y_w| |y_l|) - |S_w|^2/|y_w|^2

    The larger it is, the more alike both responses are to the model, and the likelier a step that widens their margin
    makes both less likely. Two equal responses have 0. It is not symmetric, and scales with the square of the states.
    """

    def of(states: Tensor) -> Floats:
        better, worse = states[:, 0], states[:, 1]
        values: Floats = ((better * worse).sum(dim=1) - better.square().sum(dim=1)).numpy()
        return values

    return of(summed.states), of(summed.states / summed.length.unsqueeze(-1))
