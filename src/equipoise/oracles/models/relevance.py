"""Relevance reward by embeddings (R3): how close a response is to its prompt, with a length and a repetition term."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import torch
from pydantic import Field, FiniteFloat, model_validator

from equipoise.data.files.object_rows import read_rows
from equipoise.oracles.file import ModelFile, data_errors, digest, relative_to, settings_of
from equipoise.oracles.models.domains import said_by_user
from equipoise.oracles.models.embeddings import Embedding, load_embedding
from equipoise.oracles.placement import Placement
from equipoise.oracles.protocol import OracleError
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
    references   file of rows {prompt, response}, relative to the YAML file, in any container that data may have:
                 reference responses of closed-ended prompts; every other prompt is open-ended
    reference_range, open_range   the usual ranges of the similarity to a reference, and of the open-ended reward: the
                 first is mapped linearly onto the second
    """

    embeddings: str
    similarity: Literal["cosine", "dot"] = "cosine"
    length: float | None = Field(100.0, gt=0, allow_inf_nan=False)
    repetition: bool = True
    beta: float = Field(1.0, gt=0, allow_inf_nan=False)
    references: str | None = None
    reference_range: tuple[FiniteFloat, FiniteFloat] = (0.0, 1.0)
    open_range: tuple[FiniteFloat, FiniteFloat] = (0.0, 1.0)

    @model_validator(mode="after")
    def _ranges(self) -> RelevanceFile:
        for name, (low, high) in (("reference_range", self.reference_range), ("open_range", self.open_range)):
            if not low < high:
                raise ValueError(f"{name} must rise, got {low!r} to {high!r}")
        return self


class Relevance:
    """Regularised relevance reward (R3), a mixture of two rewards by the type of the question.

        open-ended     r(x, y) = beta r_x LI RP
        closed-ended   r(x, y) = beta F(r_y) RP

    r_x   similarity of the embeddings of what the user says and of the response
    r_y   similarity of the embeddings of the reference response and of the response
    LI    length incentive: words / length
    RP    repetition penalty: distinct trigrams / trigrams, see `repetition_penalty`
    F     maps `reference_range` linearly onto `open_range`, and what lies outside onto its ends, so that neither type
          of question outweighs the other

    A prompt with a reference response is closed-ended: its length is the reference's, and more of it is no gain. Two
    responses compare through Bradley-Terry. An empty response has 0. By r_x alone a copy of the prompt is the best
    response; LI and RP do not mend that.

    Source: 2402.03469, from its text; F is RECALLED. The paper's classifier of questions is not here.
    """

    scores, both_orders = True, False

    def __init__(
        self,
        embedding: Embedding,
        file: RelevanceFile,
        name: str,
        references: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.embedding, self.file, self.name, self.references = embedding, file, name, references
        apart = {"embeddings", "device", "tokens", "references", "reference_range", "open_range"}
        about: tuple[Any, ...] = (file.model_dump(exclude=apart),)
        if references:
            about += (sorted(references.items()), file.reference_range, file.open_range)
        self.fingerprint = f"relevance {digest(embedding.content, *about)}"

    def batches(self, questions: Sequence[Question]) -> list[list[int]]:
        return [
            list(range(begin, min(begin + BATCH, len(questions))))
            for begin in range(0, len(questions), BATCH)
        ]

    def answer(self, questions: Sequence[Question]) -> list[Verdict | Failure]:
        said = [said_by_user(prompt) for prompt, _ in questions]
        near = [self.references.get(text, text) for text in said]
        texts = [text for to, (_, response) in zip(near, questions, strict=True) for text in (to, response)]
        places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
        vectors = self.embedding(list(places)).double()
        if self.file.similarity == "cosine":
            vectors = torch.nn.functional.normalize(vectors, dim=1)
        rows = torch.tensor([places[text] for text in texts]).view(-1, 2)
        relevance = (vectors[rows[:, 0]] * vectors[rows[:, 1]]).sum(dim=1).tolist()
        return [
            self._verdict(close, response, closed=text in self.references)
            for close, text, (_, response) in zip(relevance, said, questions, strict=True)
        ]

    def _verdict(self, close: float, response: str, *, closed: bool) -> Verdict | Failure:
        if not math.isfinite(close):
            return Failure(f"{self.name}: an embedding is not finite", transient=False)
        words = response.split()
        long = 1.0 if closed or self.file.length is None else len(words) / self.file.length
        worth = self.rescaled(close) if closed else close
        fresh = repetition_penalty(words) if self.file.repetition else 1.0
        about = {"relevance": close, "length": long, "repetition": fresh}
        return Verdict(self.file.beta * worth * long * fresh if words else 0.0, about=about)

    def rescaled(self, close: float) -> float:
        """F: a similarity to a reference on the scale of the open-ended reward."""
        (low, high), (least, most) = self.file.reference_range, self.file.open_range
        return least + (most - least) * min(max((close - low) / (high - low), 0.0), 1.0)


def repetition_penalty(words: Sequence[str]) -> float:
    """RP = distinct trigrams of words / trigrams, in (0, 1]; 1 where no trigram repeats, and below three words."""
    trigrams = list(zip(words, words[1:], words[2:], strict=False))
    return len(set(trigrams)) / len(trigrams) if trigrams else 1.0


def relevance(settings: Mapping[str, Any], file: Path, placement: Placement) -> Relevance:
    """The relevance reward of a YAML file's settings. Raises OracleError."""
    given = settings_of(RelevanceFile, settings, file)
    references = _references(file.parent / given.references, file) if given.references else {}
    embedding = load_embedding(relative_to(file, given.embeddings), given.placed(placement))
    return Relevance(embedding, given, str(file), references)


def _references(path: Path, file: Path) -> dict[str, str]:
    """What the user says -> the reference response. Raises OracleError that names the row."""
    found: dict[str, str] = {}
    with data_errors(str(file)):
        for row in read_rows(path):
            prompt, response = row.text("prompt"), row.text("response")
            if not response.strip():
                raise row.error("a reference response is empty")
            if found.setdefault(prompt, response) != response:
                raise row.error("its prompt has another reference response already; leave one of them out")
    if not found:
        raise OracleError(f"the oracle {file}: {path} has no reference response")
    return found
