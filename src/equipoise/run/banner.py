"""Banner of a run: what it trains on and what it costs, told before the first step."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from equipoise.data.collate import row_length
from equipoise.oracles.checked import unwrapped
from equipoise.oracles.questions.asking import Asking
from equipoise.oracles.questions.questioner import Remarking
from equipoise.play.rows import Rows
from equipoise.policy.scorer import causal_lm
from equipoise.policy.scoring.microbatch import bytes_per_token, microbatches
from equipoise.run.materials import Materials
from equipoise.run.planning.costs import (
    FP32,
    Memory,
    checkpoints_kept,
    clock,
    gib,
    held_tokens,
    key_width,
    micro_batch_tokens,
    most_resident,
    recorded_steps,
    resident,
    steps_of,
)
from equipoise.run.planning.defaults import Decided, comparisons
from equipoise.run.settings import RunConfig, settled
from equipoise.safe_text import hanging
from equipoise.worlds.text.scoring.frozen_scores import pairs_of
from equipoise.worlds.text.world import TextWorld

WORDS = 12  # columns before the words of a line


def announce(decided: Decided, materials: Materials, world: TextWorld, folder: Path) -> dict[str, Any]:
    """Print the banner to standard error; returns `describe`'s figures."""
    config, method = decided.config, materials.method
    about = describe(config, materials, world)
    say = [
        f"{method.title} ({method.name}, {method.paper or 'no paper'}; formula: {method.confidence})",
        f"  players   {method.players.describe()}; pairs: {method.pairing.describe()}; "
        f"{method.rounds} round{'s' * (method.rounds != 1)}",
        f"  model     {about['parameters']:,} parameters, {about['trained_parameters']:,} trained, "
        f"{world.policy.precision} on {world.policy.device}, learning rate {about['lr']:g}",
        *(f"  start     {said}" for said in world.policy.notes()),
        *(f"  sharding  {said}" for said in _sharding(config, world)),
        *(f"  oracle    {said}" for said in _remarks(materials)),
        f"  data      {about['prompts']:,} prompts ({about['held_out_prompts']:,} held out), "
        + (f"{about['comparisons']:,} recorded {_recorded(materials)}, " if about["comparisons"] else "")
        + f"{about['tokens']:,} tokens, longest row {about['longest_row']:,}",
        f"  memory    about {gib(about['memory'])} at the peak, of which {gib(about['activations'])} activations of a "
        f"micro-batch and {gib(about['optimizer'])} optimizer; {gib(about['disk'])} of disk",
        f"  steps     {_steps(config, materials, about)}",
        *_chosen(decided, materials),
        f"  folder    {folder}",
    ]
    if materials.dataset is not None:
        say.insert(3, "  ledger    " + ", ".join(f"{name} {count:,}" for name, count in _counts(materials)))
        say[4:4] = [f"  note      {note}" for note in materials.dataset.notes]
    print("\n".join(hanging(line, WORDS) for line in say), file=sys.stderr)
    return about


def describe(config: RunConfig, materials: Materials, world: TextWorld) -> dict[str, Any]:
    """Summary and cost estimate of the run: rows, tokens, sizes, memory, disk, time by a probe."""
    rows = materials.pairs if materials.method.players.needs.records else None
    lengths = (
        [row_length(p.ids, r) for p, group in zip(rows.prompts, rows.responses, strict=True) for r in group]
        if rows is not None
        else [len(p.ids) for p in materials.pool]
    )
    size, trained = (
        sum(p.numel() for p in group)
        for group in (world.policy.model.parameters(), dict(world.policy.parameters()).values())
    )
    text = causal_lm(world.policy.model).config.get_text_config()
    shares = world.accelerator.num_processes if config.divided else 1
    memory = Memory(
        base=max(0.0, resident() - FP32 * size),
        weights=FP32 * size,
        gradients=FP32 * trained / shares,
        optimizer=2 * FP32 * trained / shares,
        activations=micro_batch_tokens(config, materials, world.policy.token_budget)
        * bytes_per_token(world.policy),
        sampling=held_tokens(config, materials) * 2 * FP32 * int(text.num_hidden_layers) * key_width(text),
    )
    per_round = recorded_steps(config, materials)
    parts = materials.method.players.parts
    return {
        "comparisons": None if rows is None else len(rows),
        "prompts": len(materials.pool),
        "held_out_prompts": len(materials.unseen),
        "tokens": int(sum(lengths)),
        "longest_row": max(lengths),
        "parameters": size,
        "trained_parameters": trained,
        "memory": max(memory.total, most_resident() if world.policy.device.type == "cpu" else 0.0),
        "activations": memory.activations,
        "optimizer": memory.optimizer,
        "disk": FP32 * trained * checkpoints_kept(config),
        "steps_per_round": per_round,
        "steps": None if per_round is None else per_round * config.play.rounds,
        "seconds_per_round": None if rows is None else _probe(world, rows) / parts,
        "lr": world.training.lr,
    }


def _sharding(config: RunConfig, world: TextWorld) -> Iterator[str]:
    """What becomes of train.sharding."""
    count = world.accelerator.num_processes
    if config.divided and count > 1:
        yield f"{count} processes divide weights, gradients and moments during a fit"
    elif config.divided:
        yield "nothing is divided by one process; `equipoise launch --processes 2 align ...` starts two"


def _chosen(decided: Decided, materials: Materials) -> Iterator[str]:
    """What was not given and depends on the data and the model."""
    if decided.chosen:
        yield f"  chosen    {decided.sentence}, by the data and the model"
    if values := materials.automatic(decided.config):
        yield (
            "  chosen    "
            + ", ".join(f"{n}={v:.4g}" for n, v in values.items())
            + ", by the data and the rounds"
        )


def _remarks(materials: Materials) -> tuple[str, ...]:
    """What the oracle has to say before the run."""
    asking = unwrapped(materials.oracle)
    asked = asking.questioner if isinstance(asking, Asking) else None
    return asked.remarks if isinstance(asked, Remarking) else ()


def _steps(config: RunConfig, materials: Materials, about: dict[str, Any]) -> str:
    batch = settled(config.train.batch)
    if about["steps"] is None:
        most = comparisons(config, materials)
        return (
            f"batches of {batch:,} of the comparisons that are sampled, {settled(config.train.epochs)} times: with "
            f"{most:,} comparisons, the most that a round can give, {steps_of(config, most):,} a round"
        )
    one = (
        "ONE optimizer step"
        if about["steps_per_round"] == 1
        else f"{about['steps_per_round']:,} optimizer steps"
    )
    seconds = about["seconds_per_round"]
    return (
        f"{about['steps']:,} in all: in batches of {batch:,} a round is {one}; about {clock(seconds)} of "
        f"training a round, {clock(seconds * config.play.rounds)} in all"
    )


def _recorded(materials: Materials) -> str:
    """What the recorded rows are: pairs, lists, demonstrations, or single responses."""
    records = materials.method.needs.records
    if records == "unpaired" and materials.pairs is not None:
        return "pairs" if materials.pairs.responses.shape[1] == 2 else "responses"
    return str(records)


def _counts(materials: Materials) -> list[tuple[str, int]]:
    assert materials.dataset is not None
    ledger = materials.dataset.ledger
    refused = [(f"refused ({reason})", count) for reason, count in ledger.refused.items()]
    return [("read", ledger.read), ("used", ledger.used), *refused, ("duplicate", ledger.duplicate)]


def _probe(world: TextWorld, rows: Rows) -> float:
    """Seconds of training on all rows, from the forward and backward of one micro-batch (the second of two)."""
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
