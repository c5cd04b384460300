"""Assembly of a run: from materials to a world ready to play (processes, model, evaluator)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from equipoise.data.collate import Prompt, Response
from equipoise.data.content_removal import versions
from equipoise.data.revision_prompt import INSTRUCTION, Leads, leads_of
from equipoise.evaluate.exact import FiniteGame
from equipoise.evaluate.large_game import large_game
from equipoise.evaluate.text import Evaluator
from equipoise.models.adapters import MERGED_BASE
from equipoise.oracles.code.sandbox import Limits, Sandbox, guarantees
from equipoise.oracles.code.self_written import pass_tables
from equipoise.play.capabilities import SelfWrittenTests
from equipoise.play.rows import Rows, objects
from equipoise.play.seeds import Seeds
from equipoise.playground.large import LargeTeaHouse
from equipoise.policy import checkpoint, load_gate
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.heap import map_large_tensors
from equipoise.policy.protocol import Decoding
from equipoise.policy.scoring.anchor_store import AnchorStore
from equipoise.policy.scoring.microbatch import measure_token_budget
from equipoise.run.config import ConfigError
from equipoise.run.determinism import make_reproducible
from equipoise.run.materials import Materials
from equipoise.run.sections.sampling import SamplingSettings
from equipoise.run.settings import RunConfig
from equipoise.worlds.folder.journal import Journal
from equipoise.worlds.text.fit import Training
from equipoise.worlds.text.folder import row_files
from equipoise.worlds.text.folder.gates import Gates
from equipoise.worlds.text.folder.run_folder import RunFolder
from equipoise.worlds.text.further_answers import Degrade
from equipoise.worlds.text.held_out import Watching
from equipoise.worlds.text.progress import Progress
from equipoise.worlds.text.self_tests import SelfTests, asked_by
from equipoise.worlds.text.world import TextWorld


def launch() -> Accelerator:
    """Start the run's processes. Precision is handled by the policy, not by Accelerate."""
    cpu = bool(os.environ.get("ACCELERATE_USE_CPU")) or not torch.cuda.is_available()
    accelerator = Accelerator(cpu=cpu, mixed_precision="no")
    if cpu:  # after the line above, which may change the number of threads
        make_reproducible()
    else:  # what the CPU still computes, such as zeroth-order directions
        torch.set_flush_denormal(True)
    return accelerator


def build(
    config: RunConfig,
    materials: Materials,
    out: Path,
    progress: Progress,
    accelerator: Accelerator,
    start: Path | None = None,
    base: Path | None = None,
    gates: Gates | None = None,
) -> tuple[TextWorld, Evaluator]:
    """Load the model and put the world together.

    config  without `auto` in what `defaults.decide` decides.
    start   a checkpoint of the same model, which the run starts from; None: the model as it was given.
    base    checkpoint of the policy before the run's phases; None: there are none.
    gates   judge that the policy is the one that its folder holds; None: for a probe, which trains nothing.
    """
    set_seed(config.seed)
    if config.divided and accelerator.device.type == "cpu" and accelerator.num_processes > 1:
        map_large_tensors()
    with accelerator.main_process_first():  # which may write a merged base
        policy = CausalPolicy.load(
            config.start(),
            materials.renderer.codec.tokenizer,
            precision=config.model.precision,
            adapter=config.model.adapter,
            lora_rank=config.model.lora_rank,
            lora_alpha=config.model.lora_alpha,
            lora_targets=config.model.lora_targets,
            seed=config.seed,
            device=accelerator.device,
            base_folder=Journal(out).checkpoints / MERGED_BASE,
            base_dtype=config.model.base_dtype,
            quantization=config.model.quantization,
        )
    policy.attend_by(config.model.attention)
    policy.about = {"method": config.method, "settings": config.hash()}
    if gates is not None:
        gates.judge(load_gate.as_given(policy, second=not config.divided))
    if any(not isinstance(prompt.context, str) for prompt in (*materials.pool, *materials.unseen)):
        policy.stop_at(materials.renderer.turn_ends)
    if start is not None:
        checkpoint.load_into(policy, start)
    train = config.train.model_dump()
    tokens = train.pop("tokens")
    policy.recompute(train.pop("activation_checkpointing"))
    watching = Watching(
        steps=config.evaluate.steps,
        save=train.pop("save_steps"),
        keep=train.pop("keep"),
        best=None if config.evaluate.best == "none" else config.evaluate.best,
        patience=config.evaluate.patience,
    )
    shares = accelerator.num_processes if config.divided else 1
    policy.token_budget = measure_token_budget(policy, shares) if tokens == "auto" else tokens
    if train["micro_batch"] == "auto":
        train["micro_batch"] = None
    journal = Journal(out)
    folder = RunFolder(journal=journal, seeds=Seeds(config.seed), accelerator=accelerator)
    held_out = _kept(folder, "pairs", materials.held_out)
    world = TextWorld(
        policy=policy,
        journal=journal,
        seeds=Seeds(config.seed),
        training=Training(**train),
        decoding=decoding_of(config.sampling, accelerator),
        store=AnchorStore(out / "anchors", journal.manifest),
        pool=materials.pool,
        prompts_per_round=config.play.prompts,
        rounds=config.play.rounds,
        base=base,
        pairs=materials.pairs,
        oracle=materials.oracle,
        lead=lead_of(materials),
        degrade=degrade_of(materials),
        self_tests=self_tests_of(config, materials),
        reword=partial(asked_by, materials.renderer),
        teacher=materials.teacher,
        progress=progress,
        accelerator=accelerator,
        allowed=config.allow,
        keep=config.play.keep,
        watching=watching,
        held_out=held_out,
    )
    evaluator = Evaluator(
        world=world,
        prompts=_kept_prompts(world.folder, materials.unseen),
        samples=config.evaluate.samples,
        pairs=held_out,
        finite=_finite(materials, config.evaluate.prompts),
        tau=materials.method.tau,
        earlier=config.evaluate.earlier_rounds,
        scores=materials.method.needs.named_scores,
        players=materials.method.players,
    )
    return world, evaluator


def decoding_of(settings: SamplingSettings, accelerator: Accelerator) -> Decoding:
    """Decoding settings of this process, with its share of the servers: of one's weights only one process decides.

    Raises ConfigError for fewer servers than processes.
    """
    count, every = accelerator.num_processes, settings.servers
    if every and len(every) < count:
        raise ConfigError(
            f"sampling.servers has {len(every)} for {count} processes: each hands weights to servers of its own; give "
            "one for each process, or leave sampling.servers out to have them started"
        )
    own = tuple(every[accelerator.process_index :: count])
    return Decoding(**settings.model_dump() | {"servers": own})


def _kept(folder: RunFolder, name: str, rows: Rows | None) -> Rows | None:
    """Evaluation rows as the run first had them: figures of its rounds depend neither on the day nor on later edits."""
    path = folder.journal.folder / "evaluation" / f"{name}.parquet"

    def keep() -> None:
        if path.exists():
            folder.journal.manifest.ensure(path)
        elif rows is not None:
            row_files.save(folder.journal, path, rows)

    folder.once(keep)
    return row_files.load(folder.journal, path) if path.exists() else None


def _kept_prompts(folder: RunFolder, prompts: Sequence[Prompt]) -> Sequence[Prompt]:
    """Evaluation prompts, kept in the same way."""
    kept = _kept(
        folder,
        "prompts",
        Rows(
            prompts=objects(list(prompts)),
            responses=np.empty((len(prompts), 0), dtype=object),
            weight=np.ones(len(prompts)),
            writers=(),
        ),
    )
    assert kept is not None
    return list(kept.prompts)


def lead_of(materials: Materials) -> Leads:
    """Renderer of self-revision prompts; the playground's model knows no instructions, so its prompt is repeated."""
    chats = {not isinstance(prompt.context, str) for prompt in materials.pool}
    return leads_of(materials.renderer, chats, None if materials.game else INSTRUCTION)


def degrade_of(materials: Materials) -> Degrade:
    """Renderer of progressively degraded versions of a response, in its prompt's space (chat or plain)."""
    renderer = materials.renderer

    def degrade(prompt: Prompt, response: Response, degrees: int) -> list[Response] | None:
        texts = versions(response.text, degrees)
        return None if texts is None else [renderer.answer(prompt, text) for text in texts]

    return degrade


def self_tests_of(config: RunConfig, materials: Materials) -> SelfTests | None:
    """What runs code that the policy writes against its tests; None for a method that writes none.

    Raises ConfigError on a machine that cannot keep code apart, unless the settings accept this.
    """
    if SelfWrittenTests not in materials.method.capabilities:
        return None
    about = config.sandbox
    held = guarantees()
    if about.isolation == "namespaces" and held.isolation != "namespaces":
        raise ConfigError(
            f"{config.method} runs code that the policy writes, and this machine cannot isolate it ({held.why}); run "
            "where user namespaces are allowed, or set sandbox.isolation=limits, which does not enforce: "
            f"{', '.join(held.not_enforced)}"
        )
    limits = Limits(seconds=about.seconds, wall=about.wall, memory=about.memory * 2**20)
    sandbox = Sandbox(limits, about.isolation)
    return SelfTests(
        renderer=materials.renderer,
        run=lambda problems: pass_tables(sandbox, problems, about.concurrency),
    )


def _finite(materials: Materials, prompts: int) -> FiniteGame | None:
    """The enumerable game of a run; of the large one at most so many prompts of each split."""
    if materials.game is None:
        return None
    game, codec = materials.game, materials.renderer.codec
    eos = codec.eos
    assert eos is not None
    answers = [(*codec.continuation(text), eos) for text in game.responses]
    responses = [Response(ids, text) for ids, text in zip(answers, game.responses, strict=True)]
    if isinstance(game, LargeTeaHouse):
        return large_game(game, materials.texts, responses, prompts)
    return FiniteGame(
        prompts=materials.texts,
        responses=responses,
        preference=game.preference_with_outside,
        held_out=game.held_out,
        utilities=dict(zip(game.groups, game.group_rewards, strict=True)),
    )
