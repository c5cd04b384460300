"""Policies over actions as small networks: Gaussian, deterministic and categorical, on plain tensors.

A network is a tanh perceptron; its parameters are named `layer.0.weight`, `layer.0.bias`, ... and are passed to every
call, so that a policy is a dictionary of tensors and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from equipoise.worlds.segments.environment import Actions

Kind = Literal["deterministic", "gaussian", "categorical"]
LOG_STD = "log_std"
SHARPNESS = math.sqrt(0.5)  # the standard deviation whose log-density is -||mu(s) - a||^2 up to a constant


def network(sizes: Sequence[int], seed: int) -> dict[str, Tensor]:
    """Parameters of a perceptron with these layer sizes: uniform in +- 1/sqrt(inputs), the last layer a tenth."""
    draw = torch.Generator().manual_seed(seed)
    found: dict[str, Tensor] = {}
    for number, (inputs, outputs) in enumerate(pairwise(sizes)):
        bound = (0.1 if number == len(sizes) - 2 else 1.0) / math.sqrt(inputs)
        found[f"layer.{number}.weight"] = bound * (2 * torch.rand(outputs, inputs, generator=draw) - 1)
        found[f"layer.{number}.bias"] = torch.zeros(outputs)
    return found


def forward(parameters: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
    """The perceptron's outputs [..., outputs], tanh between its layers."""
    layers = sum(name.endswith(".weight") for name in parameters)
    for number in range(layers):
        inputs = torch.nn.functional.linear(
            inputs, parameters[f"layer.{number}.weight"], parameters[f"layer.{number}.bias"]
        )
        if number < layers - 1:
            inputs = inputs.tanh()
    return inputs


@dataclass(frozen=True, kw_only=True)
class Head:
    """A policy class over actions.

    kind     deterministic   mu(s), its score -||mu(s) - a||^2: the log-density of a Gaussian of variance
                             1/2 without its constant (Hejna et al. 2023, 2310.13639); sampled with that variance
             gaussian        N(mu(s), diag exp(2 log_std)), one learned log_std per dimension
             categorical     softmax f(s) over discrete actions
             mu(s) = c + h tanh f(s) stays within the bounds c - h and c + h of the actions
    scale    [O] units of the observations, by which they are divided; None: 1.
    """

    kind: Kind
    observation_size: int
    actions: Actions
    hidden: tuple[int, ...] = (64, 64)
    scale: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.actions.discrete != (self.kind == "categorical"):
            space = "discrete" if self.actions.discrete else "continuous"
            raise ValueError(f"a {self.kind} policy does not act in a {space} space")

    def start(self, seed: int) -> dict[str, Tensor]:
        """Parameters at random."""
        made = network((self.observation_size, *self.hidden, self.actions.size), seed)
        if self.kind == "gaussian":
            half = (np.array(self.actions.high) - np.array(self.actions.low)) / 2
            made[LOG_STD] = torch.from_numpy(np.log(0.5 * half)).float()
        return made

    def log_likelihood(
        self, parameters: Mapping[str, Tensor], observations: Tensor, actions: Tensor
    ) -> Tensor:
        """[...] log pi(a|s) in nats of observations [..., O] and actions [..., A], or [...] if discrete."""
        outputs = self._outputs(parameters, observations)
        if self.kind == "categorical":
            logp = outputs.log_softmax(dim=-1)
            return logp.gather(-1, actions.long().unsqueeze(-1)).squeeze(-1)
        apart = (self._mean(outputs) - actions.to(outputs)).square()
        if self.kind == "deterministic":
            return -apart.sum(dim=-1)
        log_std = parameters[LOG_STD]
        each = -0.5 * apart * (-2 * log_std).exp() - log_std - 0.5 * math.log(2 * math.pi)
        return each.sum(dim=-1)

    @torch.no_grad()
    def act(
        self, parameters: Mapping[str, Tensor], *, sampled: bool
    ) -> Callable[[npt.NDArray[np.float64], np.random.Generator], npt.NDArray[np.generic]]:
        """The policy as an actor: a sample of it, or its mode (the mean, the likeliest action)."""

        @torch.no_grad()
        def choose(
            observations: npt.NDArray[np.float64], draw: np.random.Generator
        ) -> npt.NDArray[np.generic]:
            outputs = self._outputs(parameters, torch.from_numpy(observations).float())
            if self.kind == "categorical":
                noise = draw.gumbel(size=outputs.shape) if sampled else 0.0
                return np.asarray((outputs.double().numpy() + noise).argmax(axis=-1))
            mean = self._mean(outputs).double().numpy()
            std = SHARPNESS if self.kind == "deterministic" else parameters[LOG_STD].double().exp().numpy()
            return mean + std * draw.standard_normal(mean.shape) if sampled else mean

        return choose

    def _mean(self, outputs: Tensor) -> Tensor:
        low, high = (outputs.new_tensor(ends) for ends in (self.actions.low, self.actions.high))
        return (low + high) / 2 + (high - low) / 2 * outputs.tanh()

    def _outputs(self, parameters: Mapping[str, Tensor], observations: Tensor) -> Tensor:
        inputs = observations.to(parameters["layer.0.weight"])
        if self.scale is not None:
            inputs = inputs / torch.tensor(self.scale, dtype=inputs.dtype)
        return forward(parameters, inputs)
