"""Auxiliary heads: small networks trained jointly with the policy, their inputs, outputs and initialisation.

A head is not part of the policy. Its weights are saved in a separate file next to each checkpoint; a resumed run
continues from them, and loading the checkpoint for sampling ignores them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import relu

HeadInput = Literal["layers", "means"]


@runtime_checkable
class AuxiliaryHead(Protocol):
    """Specification of an auxiliary head.

    input          "layers": hidden states of all L layers of a frozen model at the positions that predict the N tokens,
                   [L, N, D]; one output per token. "means": the policy's last hidden states, averaged
                   over each of R responses, [R, D]; one output per response.
    outputs        names of its outputs: token weights, or those that `Scores.auxiliary_output` reads.
    weight_decay   of its parameter group in AdamW.
    """

    @property
    def input(self) -> HeadInput: ...

    @property
    def outputs(self) -> tuple[str, ...]: ...

    @property
    def weight_decay(self) -> float: ...

    def build(self, width: int, layers: int) -> nn.Module:
        """A new module for a model of this width and depth; draws from torch's generator."""
        ...


@dataclass(frozen=True, kw_only=True)
class SparseMasks:
    """SparsePO's learned masks: one shared by log-ratios and divergences (`common`), or one for each.

        m_k = relu( sum_l c_l relu( a_l . LayerNorm(h_lk) + b_l ) )

    h_lk   hidden state of the frozen reference in layer l that predicts token k.

    Every mask is initialised to 1 (a = 0, b = 1, c = 1/L), where the loss is TDPO1's; the ReLUs produce exact zeros
    during training. With random initialisation a token with negative sums would stay 0 without gradient (a dead ReLU);
    with few layers that is most tokens. The authors' dropout of 0.1 is omitted: log-probs here are deterministic, so
    that a resumed run repeats them.

    Source: Christopoulou et al. 2024 (2410.05102), checked against the authors' code; the initialisation, and
    that a_l is per layer while LayerNorm is shared, are DERIVED.
    """

    common: bool = True
    weight_decay: float = 0.01
    input: ClassVar[HeadInput] = "layers"
    outputs: ClassVar[tuple[str, ...]] = ("utility", "divergence")

    def build(self, width: int, layers: int) -> nn.Module:
        return MaskNetwork(width, layers, self.common)


class MaskNetwork(nn.Module):
    def __init__(self, width: int, layers: int, common: bool) -> None:
        super().__init__()
        self.masks = nn.ModuleList(_Mask(width, layers) for _ in range(1 if common else 2))

    def forward(self, states: Float[Tensor, "L N D"]) -> Mapping[str, Float[Tensor, N]]:
        return {"utility": self.masks[0](states), "divergence": self.masks[-1](states)}


class _Mask(nn.Module):
    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        each = [nn.Linear(width, 1) for _ in range(layers)]
        self.layers = nn.ModuleList(each)
        self.share = nn.Parameter(torch.full((layers,), 1 / layers))
        for layer in each:
            nn.init.zeros_(layer.weight)
            nn.init.ones_(layer.bias)

    def forward(self, states: Tensor) -> Tensor:
        seen = [layer(self.norm(h)).squeeze(-1) for layer, h in zip(self.layers, states, strict=True)]
        return relu(relu(torch.stack(seen, dim=-1)) @ self.share)


@dataclass(frozen=True, kw_only=True)
class DegreeHeads:
    """Degradation classifier (SPO): predicts how much was removed; a linear head for chosen, one for rejected texts.

    degrees   classes: intact, and degrees - 1 steps of removal.

    Outputs log q(d|y) of each text's true degree, for the columns of `WithDegrees`. Source: a choice of this library
    (DERIVED); Li et al. 2024 (2409.17791) published no code.
    """

    degrees: int = 4
    weight_decay: float = 0.0
    input: ClassVar[HeadInput] = "means"
    outputs: ClassVar[tuple[str, ...]] = ("degree",)

    def build(self, width: int, layers: int) -> nn.Module:
        return DegreeNetwork(width, self.degrees)


class DegreeNetwork(nn.Module):
    def __init__(self, width: int, degrees: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(width, degrees) for _ in range(2))
        self.degrees = degrees

    def forward(self, means: Float[Tensor, "R D"]) -> Mapping[str, Float[Tensor, R]]:
        """Rows are consecutive groups of the 2 `degrees` texts of a pair."""
        side, degree = (torch.tensor(x, device=means.device) for x in columns_of(self.degrees))
        texts = means.unflatten(0, (-1, 2 * self.degrees))
        logits = torch.stack([head(texts) for head in self.heads], dim=2)  # [B, texts, side, degrees]
        own = logits.log_softmax(dim=3)[:, torch.arange(len(side)), side, degree]
        return {"degree": own.flatten()}


def columns_of(degrees: int) -> tuple[list[int], list[int]]:
    """(side, degree) of each column: chosen and rejected intact, then chosen progressively degraded, then rejected."""
    steps = list(range(1, degrees))
    return [0, 1, *[0] * len(steps), *[1] * len(steps)], [0, 0, *steps, *steps]


def build_head(head: AuxiliaryHead, width: int, layers: int, seed: int) -> nn.Module:
    """A new module of the specification, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return head.build(width, layers)
