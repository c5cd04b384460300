"""Supervised fine-tuning: the cross-entropy of demonstrated responses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from equipoise.core.objectives.reads import Reads
from equipoise.core.scores import Losses, Scores


@dataclass(frozen=True, kw_only=True)
class Sft:
    """Cross-entropy of demonstrated responses, a mean over tokens (supervised fine-tuning, behaviour cloning).

        L = -label log pi(y) / |y|

    Symbols:
    y        the response; |y| its scored tokens, in nats per token. Its prompt carries no loss.
    label    1 for a response to imitate; 0 leaves it out of the loss, as an undesirable one.

    Properties: L >= 0 for discrete responses, and exp(L) is the perplexity. The mean over tokens is taken response by
    response; where every comparison weighs as many tokens as it has, as `worlds.text.recorded_rows` makes them, the
    mean over a step is the mean over all its tokens, which is what trainers of language models minimise.
    Raises: ValueError for labels outside [0, 1] and for a batch without lengths.

    Source: the standard loss of supervised fine-tuning, as of Ouyang et al. 2022 (2203.02155); checked against the loss
    of transformers' models with the prompt's labels masked.
    """

    anchors: ClassVar[tuple[str, ...]] = ()
    candidates: ClassVar[int] = 1
    reads: ClassVar[Reads] = Reads(labels=True)

    def __call__(self, scores: Scores) -> Losses:
        logp = scores.per_token().logp[:, 0]
        return Losses(-scores.labels() * logp, mean_token_logp=logp)
