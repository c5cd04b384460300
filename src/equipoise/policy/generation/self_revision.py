"""Self-revision at inference: one policy answers, then repeatedly improves its own answer (SRPO).

Public API for deployment: training uses the same leads to score both roles (`data.revision_prompt`), and calls nothing
here.

Source: Choi et al. 2024 (2406.01660): answer, then revise at inference RECALLED.
"""

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
    """Improve each prompt's previous answer once: y' ~ pid(.|y, x); the result carries its lead.

    Random streams are addressed as in `generation.sampling`. Raises ModelError where prompt and lead leave no position
    for an answer.
    """
    leads = [lead(prompt, response) for prompt, response in zip(prompts, previous, strict=True)]
    extended = [replace(p, ids=p.ids + ids) for p, ids in zip(prompts, leads, strict=True)]
    groups = sample(policy, extended, 1, seed=seed, decoding=decoding, places=places)
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
    """Answer, then revise: y_0 ~ pi(.|x), y_(k+1) ~ pid(.|y_k, x); one stage per seed, `len(seeds) - 1` revisions.

    Each stage has an answer to every prompt. It reads the prompt and the last answer only, so contexts do not grow.
    """
    groups = sample(policy, prompts, 1, seed=seeds[0], decoding=decoding, places=places)
    stages = [[group[0] for group in groups]]
    for seed in seeds[1:]:
        stages.append(
            improve(policy, prompts, stages[-1], lead=lead, seed=seed, decoding=decoding, places=places)
        )
    return stages
