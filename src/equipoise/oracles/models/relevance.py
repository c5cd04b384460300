"""Relevance reward by embeddings (R3): how close a response is to its prompt, with a length and a repetition term."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field

from equipoise.oracles.file import ModelFile, beside, digest, settings_of
from equipoise.oracles.models.domains import said_by_user
from equipoise.oracles.models.embeddings import Embedding, load_embedding
from equipoise.oracles.placement import Placement
from equipoise.oracles.questions.questioner import Failure, Question
from equipoise.oracles.questions.verdicts import Verdict

BATCH = 32  # questions that are embedded together


class RelevanceFile(ModelFile):
    """A relevance reward, as its YAML file says.

    embeddings   folder or hub name of an encoder, or of static embeddings (a matrix and a tokenizer)
    similarity   "cosine", or "dot" as in the paper, whose encoder was trained for it
    length       words that count as a length of 1; None: length does not count
    repetition   whether repeated trigrams count against a response
    beta         > 0, how many logits the reward is worth where two responses are compared
    """

    embeddings: str
    similarity: Literal["cosine", "dot"] = "cosine"
    length: float | None = Field(100.0, gt=0, allow_inf_nan=False)
    repetition: bool = True
    beta: float = Field(1.0, gt=0, allow_inf_nan=False)


class Relevance:
    """Regularised relevance reward of an open-ended prompt (R3): r(x, y) = beta r_x LI RP.

    r_x   similarity of the embeddings of what the user says and of the response
    LI    length incentive: words / length
    RP    repetition penalty: distinct trigrams / trigrams, see `repetition_penalty`

    Two responses compare through Bradley-Terry. An empty response has 0. By r_x alone a copy of the prompt is the best
    response; LI and RP do not mend that. The paper's reward of closed-ended prompts, which compares with a reference
    response, is not here.

    Source: 2402.03469, from its text.
    """

    scores, both_orders = True, False

    def __init__(self, embedding: Embedding, file: RelevanceFile, name: str) -> None:
        self.embedding, self.file, self.name = embedding, file, name
        about = file.model_dump(exclude={"embeddings", "device", "tokens"})
        self.fingerprint = f"relevance {digest(embedding.content, about)}"

    def batches(self, questions: Sequence[Question]) -> list[list[int]]:
        return [
            list(range(begin, min(begin + BATCH, len(questions))))
            for begin in range(0, len(questions), BATCH)
        ]

    def answer(self, questions: Sequence[Question]) -> list[Verdict | Failure]:
        texts = [text for prompt, response in questions for text in (said_by_user(prompt), response)]
        places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
        vectors = self.embedding(list(places)).double()
        if self.file.similarity == "cosine":
            vectors = torch.nn.functional.normalize(vectors, dim=1)
        rows = torch.tensor([places[text] for text in texts]).view(-1, 2)
        relevance = (vectors[rows[:, 0]] * vectors[rows[:, 1]]).sum(dim=1).tolist()
        return [
            self._verdict(close, response) for close, (_, response) in zip(relevance, questions, strict=True)
        ]

    def _verdict(self, close: float, response: str) -> Verdict | Failure:
        if not math.isfinite(close):
            return Failure(f"{self.name}: an embedding is not finite", transient=False)
        words = response.split()
        long = 1.0 if self.file.length is None else len(words) / self.file.length
        fresh = repetition_penalty(words) if self.file.repetition else 1.0
        about = {"relevance": close, "length": long, "repetition": fresh}
        return Verdict(self.file.beta * close * long * fresh if words else 0.0, about=about)


def repetition_penalty(words: Sequence[str]) -> float:
    """RP = distinct trigrams of words / trigrams, in (0, 1]; 1 where no trigram repeats, and below three words."""
    trigrams = list(zip(words, words[1:], words[2:], strict=False))
    return len(set(trigrams)) / len(trigrams) if trigrams else 1.0


def relevance(settings: Mapping[str, Any], file: Path, placement: Placement) -> Relevance:
    """The relevance reward of a YAML file's settings. Raises OracleError."""
    given = settings_of(RelevanceFile, settings, file)
    embedding = load_embedding(beside(file, given.embeddings), given.placed(placement))
    return Relevance(embedding, given, str(file))
