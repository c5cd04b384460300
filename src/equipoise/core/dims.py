"""Dimension letters and tensor aliases used across the package.

    B   comparisons in a batch          N   scored tokens (packed)
    K   responses of one comparison     D   hidden width
    T   tokens of a response (padded)
    X   prompts of a finite game        V   vocabulary
    A   actions (responses) per prompt

A comparison is one prompt, K responses, one judgement.
"""

from typing import TypeAlias

from jaxtyping import Bool, Float, Int
from torch import Tensor

PerComparison: TypeAlias = Float[Tensor, "B"]
PerCandidate: TypeAlias = Float[Tensor, "B K"]
PerPlace: TypeAlias = Float[Tensor, "B K T"]
PerToken: TypeAlias = Float[Tensor, "N"]
Hidden: TypeAlias = Float[Tensor, "N D"]
Head: TypeAlias = Float[Tensor, "V D"]
TokenIds: TypeAlias = Int[Tensor, "N"]
Payoff: TypeAlias = Float[Tensor, "X A A"]
Strategy: TypeAlias = Float[Tensor, "X A"]
PerPrompt: TypeAlias = Float[Tensor, "X"]
Mask: TypeAlias = Bool[Tensor, "..."]
