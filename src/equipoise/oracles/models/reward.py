"""Reward and preference models as oracles: Bradley-Terry, general preferences, and pairwise models."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from equipoise.core.links import bradley_terry
from equipoise.models.errors import ModelError
from equipoise.oracles.account import Account
from equipoise.oracles.protocol import Oracle, OracleError, OraclePrompt
from equipoise.oracles.questions.questioner import Question
from equipoise.oracles.questions.verdicts import key_of
from equipoise.reward_models.folder import Loaded, load
from equipoise.reward_models.losses import symmetric_prob
from equipoise.reward_models.read import Text, outputs, prompt_weights
from equipoise.reward_models.texts import TooLong

log = logging.getLogger(__name__)
TOKENS = 8192  # padded tokens of one batch


class _Reading:
    """Loaded reward model that reads texts, in batches of so many padded tokens, as far as they fit its context.

    A text beyond the context length is not cut, for a cut response is a different response: a question of it has no
    verdict. Each such question is counted once, and the first is told in the log.
    """

    def __init__(self, loaded: Loaded, tokens: int = TOKENS) -> None:
        self.loaded, self.tokens = loaded, tokens
        self.name = loaded.name
        dtype = str(next(loaded.model.parameters()).dtype).removeprefix("torch.")
        self.fingerprint = f"reward model {loaded.content} {loaded.head} {dtype}"
        self.account = Account()
        self._too_long: set[bytes] = set()

    def texts(self, prompts: Sequence[OraclePrompt], responses: Sequence[str]) -> list[Text | None]:
        """Tokens of each response after its prompt, None beyond the context.

        A response that stands in several comparisons is tokenised once.
        """
        found: dict[tuple[str | int, str], Text | None] = {}
        texts = []
        for prompt, response in zip(prompts, responses, strict=True):
            key = (_known(prompt), response)
            if key not in found:
                found[key] = self.text(self.loaded.texts.answer, prompt, response)
            texts.append(found[key])
        return texts

    def text(self, write: Callable[..., list[int]], *question: Any) -> Text | None:
        """Tokens as `write` makes them of a question, None beyond the context."""
        try:
            return tuple(write(*question))
        except TooLong:
            return None

    def counted(self, questions: Sequence[Question], answers: Tensor) -> Tensor:
        """The answers [N, ...]; questions without one, nan, are counted, each once."""
        limit = self.loaded.texts.limit
        for place in answers.isnan().nonzero()[:, 0].unique().tolist():
            key = key_of(self.fingerprint, questions[place])
            if key in self._too_long:
                continue
            if not self._too_long:
                log.warning("%s accepts %s tokens: there is no verdict on longer texts", self.name, limit)
            self._too_long.add(key)
            self.account.fail(f"{self.name} accepts {limit} tokens; a prompt with its response has more")
        return answers

    def read(self, texts: Sequence[Text | None]) -> Tensor:
        """Outputs [N, O] of N texts, nan for those beyond the context."""
        model, head = self.loaded.model, self.loaded.head
        return self._with_gaps(texts, lambda known: outputs(model, known, self.tokens), head.outputs)

    def prompt_weights(self, prompts: Sequence[OraclePrompt]) -> Tensor | None:
        """What the prompts alone say to the head, nan for those beyond the context; None for a head that reads none."""
        model, head = self.loaded.model, self.loaded.head
        if model.prompt_head is None:
            return None
        found: dict[str | int, Text | None] = {}
        for prompt in prompts:
            if _known(prompt) not in found:
                found[_known(prompt)] = self.text(self.loaded.texts.prompt, prompt)
        return self._with_gaps(
            [found[_known(prompt)] for prompt in prompts],
            lambda known: prompt_weights(model, known, self.tokens),
            head.planes if head.kind == "gpm" else head.outputs,
        )

    def _with_gaps(
        self, texts: Sequence[Text | None], read: Callable[[list[Text]], Tensor | None], width: int
    ) -> Tensor:
        """[N, width] what is read of each text, in float64; nan for those that are not there."""
        known = [text for text in texts if text is not None]
        values = torch.full((len(texts), width), torch.nan, dtype=torch.float64)
        if known and (found := read(known)) is not None:
            if not bool(found.isfinite().all()):
                raise OracleError(
                    f"{self.name}: its outputs are not finite; take another dtype, such as float32"
                )
            values[torch.tensor([text is not None for text in texts])] = found
        return values

    def room(self, prompts: Sequence[OraclePrompt]) -> tuple[int, int] | None:
        with as_oracle_errors():
            return self.loaded.texts.room(prompts)


def _known(prompt: OraclePrompt) -> str | int:
    """What a prompt is known by within one call, while its caller holds it: a text by itself, a chat by identity."""
    return prompt if isinstance(prompt, str) else id(prompt)


def _unordered(prompt: OraclePrompt, a: str, b: str) -> Question:
    """A comparison as a question that is the same in both orders."""
    return prompt, min(a, b), max(a, b)


@contextmanager
def as_oracle_errors() -> Iterator[None]:
    """Context manager: what a model cannot read or be is an oracle's error."""
    try:
        yield
    except ModelError as error:
        raise OracleError(str(error)) from error


class RewardOracle:
    """Bradley-Terry reward model: P(a > b) = sigma(r(a) - r(b)), with r(x, y) the scalar of the model's head.

    Of several attributes r is the weighted sum; `attributes` names them, `scores` gives each. A text beyond the model's
    context length is nan, and counted in `account`. Raises OracleError for other texts that the model cannot read.
    """

    may_fail = True

    def __init__(self, loaded: Loaded, tokens: int = TOKENS) -> None:
        self.reading = _Reading(loaded, tokens)
        self.name, self.fingerprint, self.network = loaded.name, self.reading.fingerprint, loaded.model
        self.account = self.reading.account
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
        rewards = self.reading.loaded.model.reward(values, weights)
        return self.reading.counted(list(zip(prompts, responses, strict=True)), rewards)

    def scores(self, prompts: Sequence[OraclePrompt], responses: Sequence[str]) -> Tensor:
        """[N, A] the reward of each attribute."""
        with as_oracle_errors():
            values = self.reading.read(self.reading.texts(prompts, responses))
        return self.reading.counted(list(zip(prompts, responses, strict=True)), values)

    def room(self, prompts: Sequence[OraclePrompt]) -> tuple[int, int] | None:
        """(tokens of the longest prompt with an empty response, context length); None if it is not bounded.

        Raises OracleError for a prompt that the model's template refuses.
        """
        return self.reading.room(prompts)


class PreferenceOracle:
    """General preference model: P(a > b) = sigma(s(a, b) / tau), with s a skew-symmetric product of embeddings.

    Each response of a call is embedded once, however many comparisons it is in. It has no scalar score. Texts beyond
    the context are as of a `RewardOracle`.
    """

    may_fail = True

    def __init__(self, loaded: Loaded, tokens: int = TOKENS) -> None:
        self.reading = _Reading(loaded, tokens)
        self.name, self.fingerprint, self.network = loaded.name, self.reading.fingerprint, loaded.model
        self.account = self.reading.account

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
        prob = self._prob(values[: len(a)], values[len(a) :], weights)
        return self.reading.counted(list(map(_unordered, prompts, a, b)), prob)

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
        prob = self._prob(values[:, :, None], values[:, None, :], weights)
        pairs = [(p, x, y) for p, own in zip(prompts, responses, strict=True) for x in own for y in own]
        self.reading.counted([_unordered(*pair) for pair in pairs], prob.flatten())
        return prob

    def _prob(self, first: Tensor, second: Tensor, weights: Tensor | None) -> Tensor:
        return torch.sigmoid(self.reading.loaded.model.logits(first, second, weights)[..., 0])

    def score(self, prompts: Sequence[OraclePrompt], responses: Sequence[str]) -> Tensor:
        raise OracleError(f"{self.name} is a general preference model: a response alone has no scalar score")

    def room(self, prompts: Sequence[OraclePrompt]) -> tuple[int, int] | None:
        """As `RewardOracle.room`."""
        return self.reading.room(prompts)


class PairwiseOracle:
    """Pairwise preference model, which reads both responses in one text: P = (P(a, b) + 1 - P(b, a)) / 2.

    Both orders are always read, so that the answer does not depend on which is shown first. It has no scalar score.
    Texts beyond the context are as of a `RewardOracle`.
    """

    may_fail = True

    def __init__(self, loaded: Loaded, tokens: int = TOKENS) -> None:
        self.reading = _Reading(loaded, tokens)
        self.name, self.fingerprint, self.network = loaded.name, self.reading.fingerprint, loaded.model
        self.account = self.reading.account

    def compare(self, prompts: Sequence[OraclePrompt], a: Sequence[str], b: Sequence[str]) -> Tensor:
        questions = list(zip(prompts, a, b, strict=True))
        if not questions:
            return torch.empty(0, dtype=torch.float64)
        pair = self.reading.loaded.texts.pair
        with as_oracle_errors():
            texts = [
                self.reading.text(pair, prompt, *order)
                for p, x, y in questions
                for prompt, order in ((p, (x, y)), (p, (y, x)))
            ]
            forward, backward = self.reading.read(texts)[:, 0].reshape(-1, 2).unbind(dim=1)
        return self.reading.counted(list(map(_unordered, prompts, a, b)), symmetric_prob(forward, backward))

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
