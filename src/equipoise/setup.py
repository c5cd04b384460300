"""From a configuration to a world ready to play: data first, then tokenizer and oracle, the model last.

Everything that can be refused without a model is refused before one is loaded.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from equipoise import oracles
from equipoise.config import ConfigError, RunConfig
from equipoise.data.collate import Prompt, Response, collate
from equipoise.data.read import Dataset, read
from equipoise.data.records import oracle_context
from equipoise.data.render import Rendered, Renderer, load_tokenizer
from equipoise.data.split import split
from equipoise.evaluate.exact import FiniteGame
from equipoise.evaluate.text import Evaluator
from equipoise.methods.index import get
from equipoise.oracles.checked import Checked
from equipoise.oracles.protocol import Oracle
from equipoise.play.fit import Training
from equipoise.play.method import Method
from equipoise.play.pairing import Pairs, Tournament
from equipoise.play.players import Written
from equipoise.play.progress import Progress
from equipoise.play.rows import Rows
from equipoise.play.state import Journal, Seeds, objects
from equipoise.play.text import TextWorld
from equipoise.playground import LanguageGame, model_path, reference_policy, write_pairs
from equipoise.policy.anchors import AnchorStore
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.protocol import Decoding

PLAYGROUND_PAIRS = "playground_pairs.jsonl"
PAIRINGS = {
    "tournament": Tournament(),
    "disjoint": Pairs(),
    "all": Pairs(every=True),
    "disjoint_bernoulli": Pairs(labels="bernoulli"),
    "all_bernoulli": Pairs(labels="bernoulli", every=True),
}


@dataclass(frozen=True, kw_only=True)
class Materials:
    """What a run is made of before any model is in memory."""

    method: Method
    dataset: Dataset | None
    pairs: Rows | None
    held_out: Rows | None
    pool: Sequence[Prompt]
    unseen: Sequence[Prompt]
    renderer: Renderer
    oracle: Oracle | None
    game: LanguageGame | None


def method_of(config: RunConfig) -> Method:
    """The method with the configuration's parameters, rounds, players and pairing."""
    method = get(config.method).with_parameters(config.objective)
    method = replace(method, rounds=config.play.rounds)
    changed = {"pairing": config.play.pairing != "method", "samples": config.play.samples is not None}
    if not isinstance(method.players, Written):
        for name in (name for name, given in changed.items() if given):
            raise ConfigError(f"play.{name}: {method.name} plays {method.players.describe()}")
        return method
    if changed["pairing"]:
        method = replace(method, pairing=PAIRINGS[config.play.pairing])
    players = replace(method.players, samples=config.play.samples or method.players.samples)
    try:
        method.pairing.check(players.samples)
    except ValueError as error:
        raise ConfigError(f"play.samples: {error}") from error
    return replace(method, players=players)


def gather(config: RunConfig, out: Path) -> Materials:
    """Read, check, render and split the data; load tokenizer and oracle. No model yet.

    Raises ConfigError, DataError or OracleError, each saying what to do.
    """
    method = method_of(config)
    game = LanguageGame(config.play.panel) if config.playground else None
    model = config.model.path or str(model_path())
    oracle = _oracle(config, method, game)
    if method.needs == "pairs" and not config.playground and not config.data.path:
        raise ConfigError(f"{method.name} learns from recorded pairs: give --data")
    if method.needs == "oracle" and not config.playground and not config.data.path:
        raise ConfigError(f"{method.name} writes its own responses and needs prompts: give --data")
    dataset = _dataset(config, method, game, out)
    renderer = Renderer(
        load_tokenizer(model),
        template=config.data.template,
        max_length=min(config.data.max_length, _positions(model)),
        max_prompt_length=config.data.max_prompt_length,
        long_prompt=config.data.long_prompt,
        allow_template_divergence=config.data.allow_template_divergence,
    )
    pairs = held_out = None
    pool: list[Prompt] = []
    unseen: list[Prompt] = []
    if dataset is not None:
        train, held = split(renderer.render(dataset), config.data.held_out, config.seed)
        if dataset.kind == "pair":
            pairs = _pair_rows(train, renderer)
            held_out = _pair_rows(held[: config.evaluate.pairs], renderer)
        elif method.needs == "pairs":
            raise ConfigError(f"{method.name} needs preference pairs; the data hold {dataset.kind} rows")
        pool, unseen = _prompts(train, renderer), _prompts(held, renderer)
    if game is not None:
        texts = _game_prompts(game, renderer)
        pool, unseen = [texts[i] for i in game.train], [texts[i] for i in game.held_out]
    limit = renderer.max_length
    if any(len(p.ids) >= limit for p in (*pool, *unseen)):
        raise ConfigError(f"a prompt leaves no room for a response within {limit} tokens")
    return Materials(
        method=method,
        dataset=dataset,
        pairs=pairs,
        held_out=held_out,
        pool=pool,
        unseen=unseen[: config.evaluate.prompts],
        renderer=renderer,
        oracle=oracle,
        game=game,
    )


def launch() -> Accelerator:
    """The processes of this run. Precision is the policy's own business, not Accelerate's."""
    cpu = bool(os.environ.get("ACCELERATE_USE_CPU")) or not torch.cuda.is_available()
    return Accelerator(cpu=cpu, mixed_precision="no")


def build(
    config: RunConfig, materials: Materials, out: Path, progress: Progress, accelerator: Accelerator
) -> tuple[TextWorld, Evaluator]:
    """Load the model and put the world together."""
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
    train = config.train.model_dump()
    if train["lr"] == "auto":
        train["lr"] = automatic_rate(policy)
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
        progress=progress,
        accelerator=accelerator,
    )
    evaluator = Evaluator(
        world=world,
        prompts=materials.unseen,
        samples=config.evaluate.samples,
        pairs=materials.held_out,
        finite=_finite(materials),
        tau=getattr(materials.method.objective, "tau", None) if materials.method.needs == "oracle" else None,
    )
    return world, evaluator


def automatic_rate(policy: CausalPolicy) -> float:
    """Peak learning rate by the number of trained-model parameters N: 5e-7 (8e9 / N)^0.73, at most 1e-3.

    A straight line on log axes between the papers' 5e-7 at 8B and 1e-3 at a quarter of a million, where the
    tiny models of our tests train well; tenfold for LoRA, whose few weights move further. A starting point for a
    first run, not a recommendation of any paper.
    """
    size = sum(p.numel() for p in policy.model.parameters())
    lora = any(not p.requires_grad for p in policy.model.parameters())
    return float(f"{min(1e-3, 5e-7 * (8e9 / size) ** 0.73) * (10 if lora else 1):.2g}")


def _oracle(config: RunConfig, method: Method, game: LanguageGame | None) -> Oracle | None:
    if config.oracle:
        return oracles.load(config.oracle)
    if game is not None:
        return Checked(game.oracle())
    if method.needs == "oracle":
        raise ConfigError(
            f"{method.name} asks who wins: give --oracle (module:function, file.py:function or a reward model)"
        )
    return None


def _dataset(config: RunConfig, method: Method, game: LanguageGame | None, out: Path) -> Dataset | None:
    data = config.data
    if game is not None:
        if method.needs != "pairs":
            return None
        path = out / PLAYGROUND_PAIRS
        if not path.exists():
            write_pairs(
                path,
                game,
                data.pairs,
                coverage=data.coverage,
                noise=data.noise,
                seed=Seeds(config.seed)("pairs"),
                reference=reference_policy(),
            )
        return read(path, format="auto")
    return read(
        data.path or [],
        format=data.format,
        mapping=data.mapping,
        strict=data.strict,
        limit=data.limit,
        prompt_words=data.prompt_words,
    )


def _positions(model: str) -> int:
    """The model's longest sequence, read from its configuration alone."""
    from transformers import AutoConfig

    settings = AutoConfig.from_pretrained(model, trust_remote_code=False)
    return int(getattr(settings, "max_position_embeddings", None) or 2**20)


def _prompt(item: Rendered, renderer: Renderer) -> Prompt:
    return Prompt(item.prompt_ids, oracle_context(item.record.context), renderer.text(item.prompt_ids))


def _prompts(items: Sequence[Rendered], renderer: Renderer) -> list[Prompt]:
    """Every distinct prompt once, in the data's order."""
    return list({item.prompt_ids: _prompt(item, renderer) for item in items}.values())


def _pair_rows(items: Sequence[Rendered], renderer: Renderer) -> Rows:
    responses = [
        [
            Response(ids, candidate.text, finished)
            for ids, candidate, finished in zip(
                item.response_ids, item.record.candidates, item.finished, strict=True
            )
        ]
        for item in items
    ]
    return Rows(
        prompts=objects([_prompt(item, renderer) for item in items]),
        responses=objects(responses, width=2),
        weight=np.array([item.record.weight for item in items], dtype=np.float64),
        writers=("recorded", "recorded"),
        prob=np.array([item.record.prob for item in items], dtype=np.float64),
    )


def _game_prompts(game: LanguageGame, renderer: Renderer) -> list[Prompt]:
    return [Prompt(renderer.prompt(text), text, text) for text in game.prompts]


def _finite(materials: Materials) -> FiniteGame | None:
    if materials.game is None:
        return None
    game, codec = materials.game, materials.renderer.codec
    eos = codec.eos
    assert eos is not None
    return FiniteGame(
        prompts=_game_prompts(game, materials.renderer),
        responses=[Response((*codec.continuation(text), eos), text) for text in game.responses],
        preference=game.preference_with_outside,
        held_out=game.held_out,
    )


def describe(materials: Materials, world: TextWorld) -> dict[str, Any]:
    """What is about to be trained on, and what it will cost: rows, tokens, sizes, memory, a probe's time."""
    rows = materials.pairs if materials.method.needs == "pairs" else None
    lengths = (
        [
            len(p.ids) + len(r.ids)
            for p, group in zip(rows.prompts, rows.responses, strict=True)
            for r in group
        ]
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
        + 12 * trained,  # fp32 weights; gradient and two moments of what is trained
        "seconds_per_round": None if rows is None else _probe(world, rows),
        "lr": world.training.lr,
    }


def _probe(world: TextWorld, rows: Rows) -> float:
    """Seconds of training a round, from the forward and backward of one micro-batch (the second of two)."""
    t = world.training
    few = rows.take(np.arange(min(len(rows), t.micro_batch)))
    tokens = collate(
        [p.ids for p in few.prompts], [[r.ids for r in g] for g in few.responses], world.policy.pad
    )
    for _ in range(2):
        begin = time.perf_counter()
        world.policy.logprobs(tokens)[0].sum().backward()
        seconds = time.perf_counter() - begin
        world.policy.model.zero_grad(set_to_none=True)
    return seconds * len(rows) / len(few) * t.epochs
