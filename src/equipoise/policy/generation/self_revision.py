"""Self-revision at inference: an answer, then again and again a better one, by one policy in two roles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from equipoise.data.collate import Prompt, Response
from equipoise.data.revision_prompt import Leads
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.generation.sampling import sample
from equipoise.policy.protocol import Decoding


def improve(
    policy: CausalPolicy,
    prompts: Sequence[Prompt],
    previous: Sequence[Response],
    *,
    lead: Leads,
    seed: int,
    decoding: Decoding,
    places: Sequence[int] | None = None,
) -> list[Response]:
    """One improved answer to each prompt's previous one, y' ~ pid(.|y, x); it carries its lead.

    Draws are addressed as in `policy.sample`. Raises ModelError where prompt and lead leave no room for an answer.
    """
    leads = [lead(prompt, response) for prompt, response in zip(prompts, previous, strict=True)]
    asked = [replace(p, ids=p.ids + ids) for p, ids in zip(prompts, leads, strict=True)]
    groups = sample(policy, asked, 1, seed=seed, decoding=decoding, places=places)
    return [replace(group[0], lead=ids) for group, ids in zip(groups, leads, strict=True)]


def revise(
    policy: CausalPolicy,
    prompts: Sequence[Prompt],
    *,
    lead: Leads,
    seeds: Sequence[int],
    decoding: Decoding,
    places: Sequence[int] | None = None,
) -> list[list[Response]]:
    """y_0 ~ pi(.|x), then y_(k+1) ~ pid(.|y_k, x): one stage per seed, each with an answer to every prompt.

    A stage reads the prompt and the last answer only, so contexts do not grow. `len(seeds) - 1` revisions.
    """
    groups = sample(policy, prompts, 1, seed=seeds[0], decoding=decoding, places=places)
    stages = [[group[0] for group in groups]]
    for seed in seeds[1:]:
        stages.append(
            improve(policy, prompts, stages[-1], lead=lead, seed=seed, decoding=decoding, places=places)
        )
    return stages
