"""Small networks of the labels world: multilayer perceptrons, and their initialisation from a named seed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import nn

Activation = Literal["relu", "tanh"]
ACTIVATIONS: dict[Activation, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh}


def mlp(sizes: Sequence[int], seed: int, activation: Activation = "relu") -> nn.Sequential:
    """Multilayer perceptron with len(sizes) - 1 linear layers, initialised from the seed alone.

    PyTorch's initialisation of linear layers, drawn from a generator of its own: no global random state moves.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for wide, narrow in pairwise(sizes):
            layers += [nn.Linear(wide, narrow), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers[:-1])
