"""Monte Carlo dropout: a reward model asked several times with its dropout on, which shows how sure it is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from equipoise.core.links import bradley_terry
from equipoise.oracles.file import ModelFile, digest, relative_to, settings_of
from equipoise.oracles.placement import Placement
from equipoise.oracles.protocol import (
    Fingerprinted,
    Networked,
    Oracle,
    OracleError,
    OraclePrompt,
    Room,
    may_fail,
    parts_that,
)
from equipoise.oracles.questions.verdicts import key_of

FUNCTIONAL = (
    "attention_dropout",
    "dropout_prob",
)  # where layers keep the rate of a dropout that is no module


class McDropoutFile(ModelFile):
    """Monte Carlo dropout, as its YAML file says.

    model    folder of a reward model
    passes   how often each question is asked, each time with other units dropped
    rate     share of units that are dropped, wherever the model has dropout; None: as the model has it
    seed     of the units that are dropped
    """

    model: str
    passes: int = Field(10, ge=2, le=1000)
    rate: float | None = Field(None, gt=0, lt=1)
    seed: int = 0


class McDropout:
    """Monte Carlo dropout (Gal and Ghahramani 2016): P(a > b) = mean_t P_t(a > b) over passes t with dropout on.

    Of a model with a scalar reward P_t(a > b) = sigma(r_t(a) - r_t(b)), and `score` is the mean of r_t: which units a
    pass drops depends on seed, pass, prompt and response, so that scores and comparisons tell the same. Of any other
    model it depends on the two responses, in no order. The same question has the same answer in any call,
    P_t(a > b) + P_t(b > a) = 1 in every pass, and equal responses give 1/2. Each question is a batch of its own in each
    pass. `votes` gives every pass; its spread is the model's uncertainty (UPO, 2409.11212). Raises
    OracleError for a model that drops nothing.
    """

    def __init__(self, oracle: Oracle, name: str, *, passes: int, rate: float | None, seed: int) -> None:
        if not isinstance(oracle, Networked) or not isinstance(oracle, Fingerprinted):
            raise OracleError(
                f"oracle {name}: {oracle.name} has no network of its own, so that nothing is dropped"
            )
        self.oracle, self.name, self.passes, self.seed = oracle, name, passes, seed
        self.network = oracle.network
        self.fingerprint = f"dropout {digest(oracle.fingerprint, passes, rate, seed)}"
        self._known: dict[bytes, Tensor] = {}
        self.scalar = has_scalar_score(oracle)
        if rate is not None:
            set_rates(self.network, rate)
        self.network.train()
        probe = self.votes(["a question"], ["one answer"], ["another answer, which is longer"])
        if bool((probe == probe[0]).all()):
            raise OracleError(
                f"oracle {name}: {oracle.name} has no dropout, or only at rate 0; set `rate`, such as 0.1"
            )

    @property
    def parts(self) -> tuple[Oracle]:
        return (self.oracle,)

    @property
    def may_fail(self) -> bool:
        return may_fail(self.oracle)

    def compare(self, prompts: Sequence[OraclePrompt], a: Sequence[str], b: Sequence[str]) -> Tensor:
        return self.votes(prompts, a, b).mean(dim=0)

    def votes(self, prompts: Sequence[OraclePrompt], a: Sequence[str], b: Sequence[str]) -> Tensor:
        """[T, N] the probability of each pass."""
        rows = [self._vote(*question) for question in zip(prompts, a, b, strict=True)]
        return torch.stack(rows, dim=1) if rows else torch.empty(self.passes, 0, dtype=torch.float64)

    def score(self, prompts: Sequence[OraclePrompt], responses: Sequence[str]) -> Tensor:
        """The mean of the passes' scores, where the model gives one."""
        found = [self._score(*question) for question in zip(prompts, responses, strict=True)]
        return torch.stack(found) if found else torch.empty(0, dtype=torch.float64)

    def room(self, prompts: Sequence[OraclePrompt]) -> tuple[int, int] | None:
        """That of the reward model."""
        limited = next(parts_that(self.oracle, Room), None)
        return None if limited is None else limited.room(prompts)

    def _score(self, prompt: OraclePrompt, response: str) -> Tensor:
        return self._rewards(prompt, response).mean()

    def _rewards(self, prompt: OraclePrompt, response: str) -> Tensor:
        """[T] the reward of each pass."""
        return self._passes((prompt, response), partial(self.oracle.score, [prompt], [response]))

    def _vote(self, prompt: OraclePrompt, a: str, b: str) -> Tensor:
        first, second = sorted((a, b))
        if self.scalar:
            prob = bradley_terry(self._rewards(prompt, first), self._rewards(prompt, second))
        elif first == second:
            with self._seeded(b""):
                read = self.oracle.compare([prompt], [a], [b])  # what it cannot read is refused, or nan
            return torch.where(read.isnan(), read, 0.5).double().cpu().expand(self.passes)
        else:
            ask = partial(self.oracle.compare, [prompt], [first], [second])
            prob = self._passes((prompt, first, second), ask)
        return prob if a == first else 1 - prob

    def _passes(self, question: tuple[Any, ...], ask: Callable[[], Tensor]) -> Tensor:
        """[T] answers to a question, kept as long as the process lives."""
        key = key_of(self.fingerprint, question)
        if key not in self._known:
            answers = []
            for count in range(self.passes):
                with self._seeded(key + count.to_bytes(4, "big")):
                    answers.append(ask().double().cpu())
            self._known[key] = torch.cat(answers)
        return self._known[key]

    @contextmanager
    def _seeded(self, content: bytes) -> Iterator[None]:
        """Context manager: random numbers begin at a hash of the content; outside they go on as they would have."""
        device = next(self.network.parameters()).device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.no_grad():
            torch.manual_seed(int.from_bytes(hashlib.sha256(content).digest()[:8], "big") >> 1)
            yield


def has_scalar_score(oracle: Oracle) -> bool:
    """Whether an oracle scores one response."""
    try:
        oracle.score(["a question"], ["one answer"])
    except OracleError:
        return False
    return True


def set_rates(network: nn.Module, rate: float) -> None:
    """Sets every dropout of a network, modules and those that attention applies itself, to one rate."""
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = rate
        for name in FUNCTIONAL:
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, rate)


def mc_dropout(
    settings: Mapping[str, Any], file: Path, placement: Placement, load: Callable[[str, Placement], Oracle]
) -> McDropout:
    """The oracle of a YAML file's settings; `load` makes that of a reward model's folder. Raises OracleError."""
    given = settings_of(McDropoutFile, settings, file)
    oracle = load(relative_to(file, given.model), given.placed(placement))
    return McDropout(oracle, str(file), passes=given.passes, rate=given.rate, seed=given.seed)
