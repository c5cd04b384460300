"""Whether two responses mean the same, by a model of its own: mutual entailment, or cosine of embeddings (RLP-SPG)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import normalize

from equipoise.data.errors import DataError
from equipoise.data.rendering.tokens import NO_LIMIT, load_tokenizer
from equipoise.models.adapters import local
from equipoise.models.errors import ModelError
from equipoise.models.folder import ModelFolder, inspect
from equipoise.oracles.models.embeddings import Embedding, is_static, load_embedding
from equipoise.oracles.placement import Placement
from equipoise.oracles.protocol import OracleError
from equipoise.policy.loading import read_model
from equipoise.reward_models.batches import by_tokens, padded
from equipoise.reward_models.bodies import check_finite, context_length, embedding_rows

log = logging.getLogger(__name__)
ENTAILMENT = "entailment"  # the label's name, in any case

Same = npt.NDArray[np.bool_]


class Meaning(Protocol):
    """Which responses to one question mean the same."""

    def same(self, questions: Sequence[str], responses: Sequence[Sequence[str]], similarity: float) -> Same:
        """[N, K, K] True where two of the K responses to a question mean the same; the diagonal is True.

        similarity   least cosine of one meaning, in (-1, 1]; of embeddings only.
        """
        ...


class CosineMeaning:
    """Cosine of embeddings of at least `similarity`; the question is not read. Zeros are similar to nothing else.

    It does not see negation: a contradiction in similar words passes for the same meaning.
    """

    def __init__(self, embedding: Embedding) -> None:
        self.embedding = embedding

    def same(self, questions: Sequence[str], responses: Sequence[Sequence[str]], similarity: float) -> Same:
        flat = [text for group in responses for text in group]
        vectors = self.embedding(flat).double().unflatten(0, (len(responses), -1))
        unit = normalize(vectors, dim=2)
        close = (unit @ unit.mT >= similarity).numpy()
        return close | _equal(responses)


class MutualEntailment:
    """Entailment in both directions by a classifier of pairs of texts (natural language inference).

        a ~ b   where argmax_c p(c | q a, q b) = argmax_c p(c | q b, q a) = entailment

    q a is the question followed by the response, so that a short response is read as an answer (Kuhn et al. 2023,
    2302.09664). Each ordered pair of distinct responses is read once. A pair beyond the model's context is not cut: the
    two are taken to differ, and the log says how many there were.
    """

    def __init__(self, model: Any, tokenizer: Any, entailment: int, tokens: int) -> None:
        self.model, self.tokenizer, self.entailment, self.tokens = model.eval(), tokenizer, entailment, tokens
        self.limit = context_length(model) or NO_LIMIT
        pad = tokenizer.pad_token_id
        self.alone = pad is None or model.config.pad_token_id is None  # such a head reads no padded batch
        self.pad: int = 0 if pad is None else pad

    def same(self, questions: Sequence[str], responses: Sequence[Sequence[str]], similarity: float) -> Same:
        found, beyond = _equal(responses), 0
        for question, group, same in zip(questions, responses, found, strict=True):
            distinct = list(dict.fromkeys(group))
            ordered = list(permutations(distinct, 2))
            entailed = dict(zip(ordered, self.entails(question, ordered), strict=True))
            beyond += sum(verdict is None for verdict in entailed.values())
            for i, a in enumerate(group):
                for j, b in enumerate(group):
                    same[i, j] |= a != b and bool(entailed[a, b]) and bool(entailed[b, a])
        if beyond:
            log.warning(
                "%d ordered pairs of responses have more than the entailment model's %d tokens: taken to differ",
                beyond,
                self.limit,
            )
        return found

    @torch.no_grad()
    def entails(self, question: str, pairs: Sequence[tuple[str, str]]) -> list[bool | None]:
        """Whether the first of each pair of responses entails the second; None beyond the model's context."""
        read = [self._read(*(f"{question}\n{text}" for text in pair)) for pair in pairs]
        found: list[bool | None] = [None] * len(pairs)
        known = [place for place, each in enumerate(read) if len(each["input_ids"]) <= self.limit]
        rows = embedding_rows(self.model)
        for batch in by_tokens([len(read[k]["input_ids"]) for k in known], 1 if self.alone else self.tokens):
            places = [known[i] for i in batch]
            ids, mask = padded([read[k]["input_ids"] for k in places], self.pad)
            if int(ids.max()) >= rows:
                raise OracleError(
                    f"the entailment model has no row for token {int(ids.max())} of its tokenizer ({rows:,} rows)"
                )
            inputs = {"input_ids": ids, "attention_mask": mask}
            if "token_type_ids" in read[places[0]]:
                inputs["token_type_ids"] = padded([read[k]["token_type_ids"] for k in places], 0)[0]
            device = next(self.model.parameters()).device
            logits = self.model(**{name: value.to(device) for name, value in inputs.items()}).logits
            for place, label in zip(places, logits.argmax(dim=1).tolist(), strict=True):
                found[place] = label == self.entailment
        return found

    def _read(self, premise: str, hypothesis: str) -> dict[str, list[int]]:
        return dict(self.tokenizer(premise, hypothesis, verbose=False))


def _equal(responses: Sequence[Sequence[str]]) -> Same:
    return np.array([[[a == b for b in group] for a in group] for group in responses], dtype=bool)


def check_meaning(path: str) -> None:
    """Check the folder of a model of meaning without loading its weights. Raises OracleError, in one sentence."""
    _described(path)


def load_meaning(path: str, placement: Placement) -> Meaning:
    """The model of meaning of a folder or hub name: of entailment where one of its labels is "entailment", else of
    embeddings. Raises OracleError, in one sentence, for a folder that is broken or holds neither.
    """
    found = _described(path)
    entailment = None if found is None else _entailment(found)
    if found is None or entailment is None:
        return CosineMeaning(load_embedding(path, placement))
    try:
        return _classifier(found, entailment, placement)
    except (ModelError, DataError) as error:
        raise OracleError(f"cannot load an entailment model from {path}: {error}") from None


def _described(path: str) -> ModelFolder | None:
    """What a folder's configuration and weight headers say; None for static embeddings, which have no configuration."""
    try:
        folder = local(path, weights=True)
        if not folder.is_dir():
            raise OracleError(f"cannot load a model of meaning from {path}: there is no such folder")
        return None if is_static(folder) else inspect(folder)
    except ModelError as error:
        raise OracleError(f"cannot load a model of meaning from {path}: {error}") from None


def _entailment(folder: ModelFolder) -> int | None:
    """Index of the label "entailment" of a sequence classifier; None if it has no such label."""
    labels = folder.settings.get("id2label")
    if not isinstance(labels, dict):
        return None
    named = [int(place) for place, label in labels.items() if str(label).casefold() == ENTAILMENT]
    if len(named) > 1:
        raise OracleError(f"{folder.path}/config.json gives the label {ENTAILMENT!r} to {len(named)} classes")
    return named[0] if named else None


def _classifier(folder: ModelFolder, entailment: int, placement: Placement) -> MutualEntailment:
    from transformers import AutoModelForSequenceClassification

    path: Path = folder.path
    tokenizer = load_tokenizer(path)
    dtype = getattr(torch, placement.dtype) if placement.dtype else "auto"
    model, loading = read_model(
        AutoModelForSequenceClassification, path, "a classifier of pairs of texts", dtype=dtype
    )
    missing = sorted(loading["missing_keys"])
    if missing:  # transformers would draw them at random
        raise OracleError(f"{path} lacks weights of the classifier: {', '.join(missing[:3])}")
    check_finite(model, path)
    device = placement.device or ("cuda" if torch.cuda.is_available() else "cpu")
    return MutualEntailment(model.to(device), tokenizer, entailment, placement.tokens)
