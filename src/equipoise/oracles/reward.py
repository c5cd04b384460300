"""Reward and preference models as oracles: Bradley-Terry, general preferences, and pairwise models."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from equipoise.core.links import bradley_terry
from equipoise.models.errors import ModelError
from equipoise.oracles.protocol import Oracle, OracleError, OraclePrompt
from equipoise.reward_models.folder import Loaded, load
from equipoise.reward_models.losses import symmetric_prob
from equipoise.reward_models.read import Text, outputs, prompt_weights

TOKENS = 8192  # padded tokens of one batch


class _Reading:
    """What the three kinds share: a loaded model, how many padded tokens a batch may have, and how long a prompt is."""

    def __init__(self, loaded: Loaded, tokens: int = TOKENS) -> None:
        self.loaded, self.tokens = loaded, tokens
        self.name = loaded.name
        dtype = str(next(loaded.model.parameters()).dtype).removeprefix("torch.")
        self.fingerprint = f"reward model {loaded.content} {loaded.head} {dtype}"

    def texts(self, prompts: Sequence[OraclePrompt], responses: Sequence[str]) -> list[Text]:
        pairs = zip(prompts, responses, strict=True)
        return [tuple(self.loaded.texts.answer(prompt, response)) for prompt, response in pairs]

    def read(self, texts: Sequence[Text]) -> Tensor:
        """Outputs [N, O] of some texts."""
        return outputs(self.loaded.model, texts, self.tokens)

    def prompt_weights(self, prompts: Sequence[OraclePrompt]) -> Tensor | None:
        """What the prompts alone say to the head."""
        if self.loaded.model.prompt_head is None:
            return None
        openings = [tuple(self.loaded.texts.prompt(prompt)) for prompt in prompts]
        return prompt_weights(self.loaded.model, openings, self.tokens)

    def room(self, prompts: Sequence[OraclePrompt]) -> tuple[int, int] | None:
        with as_oracle_errors():
            return self.loaded.texts.room(prompts)


@contextmanager
def as_oracle_errors() -> Iterator[None]:
    """Context manager: what a model cannot read or be is an oracle's error."""
    try:
        yield
    except ModelError as error:
        raise OracleError(str(error)) from error


class RewardOracle:
    """Bradley-Terry reward model: P(a > b) = sigma(r(a) - r(b)), with r(x, y) the scalar of the model's head.

    Of several attributes r is the weighted sum; `attributes` names them, `scores` gives each. Text beyond the model's
    context length is refused, not cut: a cut response is a different response.

    Raises OracleError for texts that the model cannot read.
    """

    def __init__(self, loaded: Loaded, tokens: int = TOKENS) -> None:
        self.reading = _Reading(loaded, tokens)
        self.name, self.fingerprint, self.network = loaded.name, self.reading.fingerprint, loaded.model
        named = loaded.head.attributes
        self.attributes = named if len(named) > 1 else ()

    def compare(self, prompts: Sequence[OraclePrompt], a: Sequence[str], b: Sequence[str]) -> Tensor:
        if not len(prompts) == len(a) == len(b):
            raise OracleError(
                f"{len(prompts)} prompts, {len(a)} and {len(b)} responses: they must be as many"
            )
        r = self.score([*prompts, *prompts], [*a, *b])
        return bradley_terry(r[: len(a)], r[len(a) :])

    def score(self, prompts: Sequence[OraclePrompt], responses: Sequence[str]) -> Tensor:
        if not len(prompts) and not len(responses):
            return torch.empty(0, dtype=torch.float64)
        with as_oracle_errors():
            values = self.scores(prompts, responses)
            weights = self.reading.prompt_weights(prompts)
            return self.reading.loaded.model.reward(values, weights).double()

    def scores(self, prompts: Sequence[OraclePrompt], responses: Sequence[str]) -> Tensor:
        """[N, A] the reward of each attribute."""
        with as_oracle_errors():
            return self.reading.read(self.reading.texts(prompts, responses))

    def room(self, prompts: Sequence[OraclePrompt]) -> tuple[int, int] | None:
        """(tokens of the longest prompt with an empty response, context length); None if it is not bounded.

        Raises OracleError for a prompt that the model's template refuses.
        """
        return self.reading.room(prompts)


class PreferenceOracle:
    """General preference model: P(a > b) = sigma(s(a, b) / tau), with s a skew-symmetric product of embeddings.

    Each response of a call is embedded once, however many comparisons it is in. It has no scalar score.
    """

    def __init__(self, loaded: Loaded, tokens: int = TOKENS) -> None:
        self.reading = _Reading(loaded, tokens)
        self.name, self.fingerprint, self.network = loaded.name, self.reading.fingerprint, loaded.model

    def compare(self, prompts: Sequence[OraclePrompt], a: Sequence[str], b: Sequence[str]) -> Tensor:
        if not len(prompts) == len(a) == len(b):
            raise OracleError(
                f"{len(prompts)} prompts, {len(a)} and {len(b)} responses: they must be as many"
            )
        if not len(prompts):
            return torch.empty(0, dtype=torch.float64)
        with as_oracle_errors():
            values = self.reading.read(self.reading.texts([*prompts, *prompts], [*a, *b]))
            weights = self.reading.prompt_weights(prompts)
        return self._prob(values[: len(a)], values[len(a) :], weights)

    def matrix(self, prompts: Sequence[OraclePrompt], responses: Sequence[Sequence[str]]) -> Tensor:
        """P [N, K, K] that response i beats response j, of K responses to each prompt: K embeddings, K^2 numbers."""
        sizes = {len(own) for own in responses}
        if len(responses) != len(prompts) or len(sizes) != 1:
            raise OracleError("a matrix of preferences needs the same number of responses for every prompt")
        (size,) = sizes
        each = [prompt for prompt in prompts for _ in range(size)]
        with as_oracle_errors():
            values = self.reading.read(self.reading.texts(each, [text for own in responses for text in own]))
            weights = self.reading.prompt_weights(prompts)
        values = values.reshape(len(prompts), size, -1)
        weights = None if weights is None else weights[:, None, None, :]
        return self._prob(values[:, :, None], values[:, None, :], weights)

    def _prob(self, first: Tensor, second: Tensor, weights: Tensor | None) -> Tensor:
        return torch.sigmoid(self.reading.loaded.model.logits(first, second, weights)[..., 0])

    def score(self, prompts: Sequence[OraclePrompt], responses: Sequence[str]) -> Tensor:
        raise OracleError(f"{self.name} is a general preference model: a response alone has no scalar score")

    def room(self, prompts: Sequence[OraclePrompt]) -> tuple[int, int] | None:
        """As `RewardOracle.room`."""
        return self.reading.room(prompts)


class PairwiseOracle:
    """Pairwise preference model, which reads both responses in one text: P = (P(a, b) + 1 - P(b, a)) / 2.

    Both orders are always read, so that the answer does not depend on who is shown first. It has no scalar score.
    """

    def __init__(self, loaded: Loaded, tokens: int = TOKENS) -> None:
        self.reading = _Reading(loaded, tokens)
        self.name, self.fingerprint, self.network = loaded.name, self.reading.fingerprint, loaded.model

    def compare(self, prompts: Sequence[OraclePrompt], a: Sequence[str], b: Sequence[str]) -> Tensor:
        questions = list(zip(prompts, a, b, strict=True))
        if not questions:
            return torch.empty(0, dtype=torch.float64)
        pair = self.reading.loaded.texts.pair
        with as_oracle_errors():
            texts = [
                tuple(pair(prompt, *order))
                for p, x, y in questions
                for prompt, order in ((p, (x, y)), (p, (y, x)))
            ]
            forward, backward = self.reading.read(texts)[:, 0].reshape(-1, 2).unbind(dim=1)
        return symmetric_prob(forward, backward)

    def score(self, prompts: Sequence[OraclePrompt], responses: Sequence[str]) -> Tensor:
        raise OracleError(f"{self.name} compares two responses: a response alone has no scalar score")

    def room(self, prompts: Sequence[OraclePrompt]) -> tuple[int, int] | None:
        """(tokens of the longest prompt with two empty responses, context length); None if it is not bounded."""
        with as_oracle_errors():
            return self.reading.loaded.texts.room(prompts, both=True)


KINDS: dict[str, Callable[[Loaded, int], Oracle]] = {
    "bt": RewardOracle,
    "gpm": PreferenceOracle,
    "pair": PairwiseOracle,
}


def oracle_of(loaded: Loaded, tokens: int = TOKENS) -> Oracle:
    """The oracle of a loaded reward model, by the kind of its head."""
    return KINDS[loaded.head.kind](loaded, tokens)


def load_oracle(
    path: str | Path,
    *,
    dtype: str | None = "float32",
    device: str | torch.device | None = None,
    tokens: int = TOKENS,
) -> Oracle:
    """The oracle in a reward model's folder, whichever kind it is (`reward_models.folder.load`).

    Raises OracleError, in one sentence, for a folder that is broken or holds no trained reward model.
    """
    with as_oracle_errors():
        return oracle_of(load(path, dtype=dtype, device=device), tokens)
