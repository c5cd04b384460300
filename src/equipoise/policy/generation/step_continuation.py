"""Step continuation: a policy continues a begun response by its next reasoning step, up to a mark or a token limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from equipoise.data.collate import Ids, Prompt, Response
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.generation.sampling import sample
from equipoise.policy.protocol import Decoding


@dataclass(frozen=True)
class StepEnd:
    """The end of a step: the first token with which its text, leading blanks aside, contains the mark."""

    tokenizer: Any
    mark: str

    def __call__(self, ids: Sequence[int]) -> bool:
        return ids[-1] in self._closing and self.mark in self._text(ids).lstrip()

    @cached_property
    def _closing(self) -> frozenset[int]:
        """Tokens whose text has the mark's last character, or may have it within its text; no special tokens."""
        special, last = set(self.tokenizer.all_special_ids), self.mark[-1]
        if last == " ":  # which many tokenizers show in context alone
            return frozenset(range(len(self.tokenizer))) - special
        texts = self.tokenizer.batch_decode([[i] for i in range(len(self.tokenizer))])
        return frozenset(
            i for i, text in enumerate(texts) if i not in special and (last in text or "\ufffd" in text)
        )

    def _text(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)


def joined_steps(steps: Sequence[Response]) -> Response:
    """One response of steps that follow each other; its lead is what stands before the first of them."""
    first, last = steps[0], steps[-1]
    logp = sum(step.logp or 0.0 for step in steps)
    ids = tuple(token for step in steps for token in step.ids)
    return replace(last, ids=ids, logp=logp, lead=first.lead)


def continue_steps(
    policy: CausalPolicy,
    prompts: Sequence[Prompt],
    begun: Sequence[Ids],
    count: int,
    *,
    ended: StepEnd | None,
    longest: int,
    seed: int,
    decoding: Decoding,
    places: Sequence[int],
) -> list[list[Response]]:
    """`count` samples of the next step after each begun response y_<k: y_k.. ~ pi(.|x, y_<k), up to the step's end.

    begun      token ids of the responses so far, () for none; they become the `lead` of what is sampled.
    ended      where a step ends; None: only its length ends it.
    longest    most tokens of a step; one that is cut there ends without its mark.
    decoding   its `max_new_tokens` bounds the whole response.       places   as in `generation.sampling`.

    A sample's `ids` and `logp` are the step's, its `text` is that of the whole response so far, as an oracle reads it.
    Raises ModelError as `sample` does.
    """
    extended = [replace(p, ids=p.ids + head) for p, head in zip(prompts, begun, strict=True)]
    found: list[list[Response]] = [[] for _ in prompts]
    room = [min(longest, decoding.max_new_tokens - len(head)) for head in begun]
    for tokens in sorted(set(room)):  # of one token limit together
        at = [i for i, most in enumerate(room) if most == tokens]
        groups = sample(
            policy,
            [extended[i] for i in at],
            count,
            seed=seed,
            decoding=replace(decoding, max_new_tokens=tokens),
            places=[places[i] for i in at],
            ended=ended,
        )
        for i, group in zip(at, groups, strict=True):
            found[i] = group
    whole = [head + step.ids for head, group in zip(begun, found, strict=True) for step in group]
    texts = iter(policy.tokenizer.batch_decode(whole, skip_special_tokens=True))
    return [
        [replace(step, text=next(texts), lead=head) for step in group]
        for head, group in zip(begun, found, strict=True)
    ]
