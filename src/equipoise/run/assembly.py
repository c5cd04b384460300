"""Assembly of a run: from materials to a world ready to play (processes, model, evaluator)."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from equipoise.data.collate import Prompt, Response, row_length
from equipoise.data.content_removal import versions
from equipoise.data.revision_prompt import INSTRUCTION, Leads, RevisionPrompt
from equipoise.evaluate.exact import FiniteGame
from equipoise.evaluate.text import Evaluator
from equipoise.play.rows import Rows
from equipoise.play.seeds import Seeds
from equipoise.playground import model_path
from equipoise.policy import checkpoint
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.protocol import Decoding
from equipoise.policy.scoring.anchor_store import AnchorStore
from equipoise.policy.scoring.microbatch import measure_token_budget, microbatches
from equipoise.run.config import RunConfig
from equipoise.run.determinism import make_reproducible
from equipoise.run.materials import Materials, game_prompts
from equipoise.worlds.text.fit import Training
from equipoise.worlds.text.frozen_scores import pairs_of
from equipoise.worlds.text.further_answers import Degrade
from equipoise.worlds.text.journal import Journal
from equipoise.worlds.text.progress import Progress
from equipoise.worlds.text.world import TextWorld


def launch() -> Accelerator:
    """Start the run's processes. Precision is handled by the policy, not by Accelerate."""
    cpu = bool(os.environ.get("ACCELERATE_USE_CPU")) or not torch.cuda.is_available()
    accelerator = Accelerator(cpu=cpu, mixed_precision="no")
    if cpu:  # after the line above, which may change the number of threads
        make_reproducible()
    return accelerator


def build(
    config: RunConfig,
    materials: Materials,
    out: Path,
    progress: Progress,
    accelerator: Accelerator,
    start: Path | None = None,
) -> tuple[TextWorld, Evaluator]:
    """Load the model and put the world together.

    start   a checkpoint of the same model, which the run starts from; None: the model as it was given.
    """
    set_seed(config.seed)
    policy = CausalPolicy.load(
        config.model.path or model_path(),
        materials.renderer.codec.tokenizer,
        precision=config.model.precision,
        lora_rank=config.model.lora_rank,
        lora_alpha=config.model.lora_alpha,
        lora_targets=config.model.lora_targets,
        seed=config.seed,
        device=accelerator.device,
    )
    if start is not None:
        checkpoint.load_into(policy, start)
    train = config.train.model_dump()
    if train["lr"] == "auto":
        train["lr"] = automatic_rate(policy)
    tokens = train.pop("tokens")
    policy.token_budget = measure_token_budget(policy) if tokens == "auto" else tokens
    if train["micro_batch"] == "auto":
        train["micro_batch"] = None
    world = TextWorld(
        policy=policy,
        journal=Journal(out),
        seeds=Seeds(config.seed),
        training=Training(**train),
        decoding=Decoding(**config.sampling.model_dump()),
        store=AnchorStore(out / "anchors"),
        pool=materials.pool,
        prompts_per_round=config.play.prompts,
        pairs=materials.pairs,
        oracle=materials.oracle,
        lead=lead_of(materials),
        degrade=degrade_of(materials),
        progress=progress,
        accelerator=accelerator,
    )
    evaluator = Evaluator(
        world=world,
        prompts=materials.unseen,
        samples=config.evaluate.samples,
        pairs=materials.held_out,
        finite=_finite(materials),
        tau=materials.method.tau,
    )
    return world, evaluator


def lead_of(materials: Materials) -> Leads:
    """Renderer of self-revision prompts; the playground's model knows no instructions, so its prompt is repeated."""
    kinds = {
        chat: RevisionPrompt(
            materials.renderer, chat=chat, instruction=None if materials.game else INSTRUCTION
        )
        for chat in {not isinstance(prompt.context, str) for prompt in materials.pool}
    }
    return lambda prompt, previous: kinds[not isinstance(prompt.context, str)](prompt, previous)


def degrade_of(materials: Materials) -> Degrade:
    """Renderer of progressively degraded versions of a response, in its prompt's space (chat or plain)."""
    renderer = materials.renderer

    def degrade(prompt: Prompt, response: Response, degrees: int) -> list[Response] | None:
        texts = versions(response.text, degrees)
        return None if texts is None else [renderer.answer(prompt, text) for text in texts]

    return degrade


def automatic_rate(policy: CausalPolicy) -> float:
    """Default peak learning rate by model size N (parameters): 5e-7 (8e9 / N)^0.62, at most 3e-4.

    A power law through the papers' 5e-7 at 8B and 3e-4 at 250,000 parameters, where one round of SPAC lowers its
    loss on short dialogue pairs (docs/log.md has the figures, and the long rows on which it does not); ten times more
    for LoRA, with its fewer weights. A starting point, not a paper's recommendation.
    """
    size = sum(p.numel() for p in policy.model.parameters())
    lora = any(not p.requires_grad for p in policy.model.parameters())
    return float(f"{min(3e-4, 5e-7 * (8e9 / size) ** 0.62) * (10 if lora else 1):.2g}")


def _finite(materials: Materials) -> FiniteGame | None:
    if materials.game is None:
        return None
    game, codec = materials.game, materials.renderer.codec
    eos = codec.eos
    assert eos is not None
    return FiniteGame(
        prompts=game_prompts(game, materials.renderer),
        responses=[Response((*codec.continuation(text), eos), text) for text in game.responses],
        preference=game.preference_with_outside,
        held_out=game.held_out,
    )


def describe(materials: Materials, world: TextWorld) -> dict[str, Any]:
    """Summary and cost estimate of the run: rows, tokens, sizes, memory, time by a probe."""
    rows = materials.pairs if materials.method.players.needs.records else None
    lengths = (
        [row_length(p.ids, r) for p, group in zip(rows.prompts, rows.responses, strict=True) for r in group]
        if rows is not None
        else [len(p.ids) for p in materials.pool]
    )
    parameters = list(world.policy.model.parameters())
    size, trained = (
        sum(p.numel() for p in group) for group in (parameters, dict(world.policy.parameters()).values())
    )
    return {
        "comparisons": None if rows is None else len(rows),
        "prompts": len(materials.pool),
        "held_out_prompts": len(materials.unseen),
        "tokens": int(sum(lengths)),
        "longest_row": max(lengths),
        "parameters": size,
        "trained_parameters": trained,
        "training_bytes": 4 * size
        + 12 * trained,  # fp32 weights; gradient and two Adam moments of the trained ones
        "seconds_per_round": None if rows is None else _probe(world, rows),
        "lr": world.training.lr,
    }


def _probe(world: TextWorld, rows: Rows) -> float:
    """Seconds of training a round, from the forward and backward of one micro-batch (the second of two)."""
    t = world.training
    pairs = pairs_of(rows)[: t.batch]
    few = rows.take(np.array(microbatches(world.policy, pairs, t.micro_batch)[0]))
    tokens = world.policy.batch([p.ids for p in few.prompts], [list(g) for g in few.responses])
    for _ in range(2):
        begin = time.perf_counter()
        world.policy.logprobs(tokens)[0].sum().backward()
        seconds = time.perf_counter() - begin
        world.policy.model.zero_grad(set_to_none=True)
    return seconds * len(rows) / len(few) * t.epochs
