"""Fits of the playground's transformer on recorded pairs of its game, scored exactly on prompts that no pair has."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from equipoise.claims.draws import moved_seed, torch_draws
from equipoise.core.objectives import Dpo, Objective
from equipoise.core.scores import Scores
from equipoise.data.collate import Ids, Prompt, Response, collate
from equipoise.data.content_removal import versions
from equipoise.data.rationale_prompt import RationalePrompt
from equipoise.data.rendering.render import Renderer
from equipoise.playground import LanguageGame, load_model, pairs, reference_policy, response_logprob
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.scoring.live_reference import LiveScorer

BATCH, RATE, EPS, CLIP, BETA = 16, 1e-3, 1e-3, 1.0, 0.5  # as the playground's DPO, with smaller batches
BASE = Dpo(beta=BETA)


@dataclass(frozen=True)
class Row:
    """A prompt and its responses: chosen, rejected, then any further ones that an objective reads."""

    prompt: Ids
    texts: tuple[Response, ...]


class Playground:
    """The game, its reference and renderer, read once."""

    def __init__(self) -> None:
        self.game = LanguageGame()
        self.table = reference_policy()
        self._model, self.tokenizer = load_model()
        self.renderer = Renderer(self.tokenizer, max_length=64)

    def policy(self) -> CausalPolicy:
        """A new copy of the shipped model."""
        return CausalPolicy(copy.deepcopy(self._model), self.tokenizer)

    def rows(self, count: int, seed: int) -> list[Row]:
        """`count` labelled pairs, each with its rationale as a third text."""
        reasons = RationalePrompt(self.renderer, chat=False, words=False)
        found = []
        for pair in pairs(self.game, count, seed=moved_seed(seed), reference=self.table, rationales=True):
            prompt = Prompt(self.renderer.prompt(pair["prompt"]), pair["prompt"])
            better, worse = (self.renderer.answer(prompt, pair[side]) for side in ("chosen", "rejected"))
            lead, why = reasons(prompt, better, worse), pair["rationale"]
            found.append(Row(prompt.ids, (better, worse, Response(reasons.rationale(why), why, lead=lead))))
        return found

    def degraded(self, count: int, seed: int, degrees: int) -> list[Row]:
        """`count` labelled pairs, each with the degraded versions of both answers."""
        found = []
        for pair in pairs(self.game, count, seed=moved_seed(seed), reference=self.table):
            prompt = Prompt(self.renderer.prompt(pair["prompt"]), pair["prompt"])
            texts = [pair["chosen"], pair["rejected"]]
            for whole in tuple(texts):
                less = versions(whole, degrees)
                assert less is not None, f"{whole!r} has too few key phrases"
                texts += less
            found.append(Row(prompt.ids, tuple(self.renderer.answer(prompt, text) for text in texts)))
        return found

    @cached_property
    def _outside(self) -> Tensor:
        return self.game.preference_with_outside[self.game.held_out]

    def win_rate(self, policy: CausalPolicy) -> float:
        """P(an answer of the policy beats one of the reference), mean over the held-out prompts; exact."""
        prompts = [self.game.prompts[x] for x in self.game.held_out]
        own = response_logprob(policy.model, self.tokenizer, prompts, self.game.responses).exp()
        own = torch.cat([own, (1 - own.sum(dim=1, keepdim=True)).clamp(min=0)], dim=1)
        other = torch.nn.functional.pad(self.table[self.game.held_out].double(), (0, 1))
        return float(torch.einsum("xab,xa,xb->x", self._outside, own, other).mean())


def scores(part: LiveScorer, rows: Sequence[Row], width: int, anchors: Tensor | None, pad: int) -> Scores:
    """The first `width` texts of every row under the policy, with the outputs of the auxiliary network."""
    batch = collate([row.prompt for row in rows], [row.texts[:width] for row in rows], pad)
    found = part(batch, [])
    logp = found.logp.sum(dim=1).unflatten(0, batch.shape)
    return Scores(
        logp=logp,
        anchors={} if anchors is None else {"reference": anchors},
        length=found.mask.sum(dim=1).unflatten(0, batch.shape).to(logp),
        auxiliary={name: said.to(logp).unflatten(0, batch.shape) for name, said in found.rows.items()},
    )


def fit(
    policy: CausalPolicy,
    rows: Sequence[Row],
    objective: Objective,
    *,
    steps: int,
    seed: int,
    network: nn.Module | None = None,
    frozen: bool = False,
) -> LiveScorer:
    """Adam on batches of BATCH rows, drawn by one order for every objective of the same seed.

    network    trained jointly with the policy at ten times its rate.        frozen    train the network alone.
    """
    width, order = objective.candidates, _order(len(rows), steps, seed)
    part = LiveScorer(policy.scorer, network)
    with torch.no_grad():
        anchors = torch.cat(
            [scores(part, rows[k : k + 64], width, None, policy.pad).logp for k in range(0, len(rows), 64)]
        )
    own = [] if frozen else [p for _, p in policy.parameters()]
    auxiliary = [] if network is None else list(network.parameters())
    groups = [{"params": own, "lr": RATE}, {"params": auxiliary, "lr": 10 * RATE}]
    optimizer = torch.optim.Adam([group for group in groups if group["params"]], lr=RATE, eps=EPS)
    for at in order:
        found = scores(part, [rows[i] for i in at], width, anchors[at], policy.pad)
        optimizer.zero_grad()
        objective(found).value.mean().backward()
        nn.utils.clip_grad_norm_([*own, *auxiliary], CLIP)
        optimizer.step()
    return part


def _order(count: int, steps: int, seed: int) -> list[list[int]]:
    """`steps` batches: every row once before any comes again."""
    draw = torch_draws(seed)
    need = steps * min(BATCH, count)
    passes = [torch.randperm(count, generator=draw) for _ in range(-(-need // count))]
    return [part.tolist() for part in torch.cat(passes)[:need].split(min(BATCH, count))]
