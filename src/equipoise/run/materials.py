"""Inputs of a run before a model is loaded: method, data, tokenizer, prompts, pairs, oracle.

All errors that can be detected without a model are raised here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from equipoise.data.collate import Prompt
from equipoise.data.reading.joined import WORDS
from equipoise.data.reading.read import Dataset
from equipoise.data.records import Kind
from equipoise.data.rendering.render import Rendered, Renderer, load_tokenizer
from equipoise.data.rendering.tokens import longest_sequence
from equipoise.methods.index import METHODS, get
from equipoise.models.tokenizer import check_ids, check_tokenizer, embedding_rows
from equipoise.oracles.models.meanings import check_meaning
from equipoise.oracles.protocol import Oracle
from equipoise.oracles.rules.given import Given
from equipoise.play.capabilities import LiveReferences, StepContinuation
from equipoise.play.method import AUTO, Method
from equipoise.play.pairings.response_rewards import ByReward
from equipoise.play.pairings.sampled import BestWorst, Pairs, Scored, Tournament
from equipoise.play.rows import Rows
from equipoise.playground.choice import Game
from equipoise.policy.files import write_text
from equipoise.policy.generation.vllm.serve_process import executable
from equipoise.policy.held_weights.quantization_library import bitsandbytes
from equipoise.run.config import ConfigError
from equipoise.run.gathering.goal_prompts import best_prompts, game_prompts, reads_goals
from equipoise.run.gathering.oracle import check_prompts, oracle_of
from equipoise.run.gathering.records import dataset_of, parts_of
from equipoise.run.gathering.size import sized
from equipoise.run.settings import RunConfig
from equipoise.worlds.text.optimizers import KINDS
from equipoise.worlds.text.recorded_rows import (
    READABLE,
    Recording,
    distinct_prompts,
    domains_by_file,
    without_weightless,
)
from equipoise.worlds.text.teacher import LOG, Teacher, messages_of, writer_file
from equipoise.worlds.text.world import TextWorld

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TEMPLATE_DATE = "template_date.txt"
PAIRINGS = {
    "tournament": Tournament(),
    "disjoint": Pairs(),
    "all": Pairs(every=True),
    "disjoint_bernoulli": Pairs(labels="bernoulli"),
    "all_bernoulli": Pairs(labels="bernoulli", every=True),
    "matches": Pairs(rewards=True, equal=True),
    "scored": Scored(),
    "best_worst": BestWorst(),
    "reward": ByReward(),
    "reward_normalised": ByReward(normalise=True, cap=10.0),  # RTO's authors' code
}


@dataclass(frozen=True, kw_only=True)
class Materials:
    """Inputs of a run before any model is loaded; `texts` are the prompts of the language game."""

    method: Method
    dataset: Dataset | None
    pairs: Rows | None
    held_out: Rows | None
    pool: Sequence[Prompt]
    unseen: Sequence[Prompt]
    renderer: Renderer
    oracle: Oracle | None
    game: Game | None
    texts: Sequence[Prompt] = ()
    teacher: Teacher | None = None

    def automatic(self, config: RunConfig) -> dict[str, float]:
        """Values of the method's parameters that the size of the run decides, by name."""
        known = self.method.parameters()
        return {name: float(known[name]) for name in self.method.by_size if config.objective[name] == AUTO}


def method_of(config: RunConfig) -> Method:
    """The method with the configuration's parameters, rounds, players and pairing.

    Raises ConfigError if they are incompatible, or if a language model cannot play the method.
    """
    method = get(config.method).with_parameters(config.objective)
    method = replace(method, rounds=config.play.rounds)
    pairing = method.pairing
    if config.play.pairing != "method":
        if not method.players.exchangeable:
            raise ConfigError(
                f"play.pairing does not apply to {method.name}: it needs i.i.d. samples of one policy, and these are "
                f"{method.players.describe()}; leave play.pairing at its default"
            )
        pairing = PAIRINGS[config.play.pairing]
    try:
        players = method.players
        if config.play.teacher is not None:
            players = players.taught()
        if config.play.samples is not None:
            players = players.writing(config.play.samples)
        method = replace(method, players=players, pairing=pairing)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    try:
        method.check_world(TextWorld)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return method


def held_whole(config: RunConfig, method: Method) -> str | None:
    """What of a fit processes cannot divide among them (train.sharding); None: nothing."""
    if not KINDS[config.train.optimizer].divisible:
        return f"what train.optimizer={config.train.optimizer} keeps, but the moments of adamw and sgd"
    if config.model.quantization != "none":
        return f"weights in {config.model.quantization} (model.quantization)"
    if LiveReferences in method.capabilities:
        return f"the references and networks that {method.name} has in memory during a fit"
    return None


def gather(config: RunConfig, out: Path, given: Given | None = None) -> Materials:
    """Read, check, render and split the data; load tokenizer and oracle, but no model.

    given   the oracle that the configuration names, where it is a Python object.

    Raises ConfigError, DataError or OracleError with a message that says what to do.
    """
    method = method_of(config)
    for further in method.models:
        check_meaning(further)
    whole = held_whole(config, method)
    if config.divided and whole:
        raise ConfigError(f"train.sharding=full cannot divide {whole}; leave it out")
    if KINDS[config.train.optimizer].library:
        bitsandbytes(f"train.optimizer={config.train.optimizer}")
    if config.model.quantization != "none":
        bitsandbytes(f"model.quantization={config.model.quantization}")
    if config.sampling.engine != "torch" and (method.mixes or StepContinuation in method.capabilities):
        how = "a mixture of two policies" if method.mixes else "its policy step by step"
        raise ConfigError(
            f"{method.name} samples from {how}, and vLLM whole responses of one policy; leave sampling.engine out"
        )
    if config.sampling.engine == "vllm_server" and not config.sampling.servers:
        executable()
    game = config.game()
    model = config.start()
    oracle = oracle_of(config, method, game, out, given)
    dataset = dataset_of(config, method, game, out)
    tokenizer = load_tokenizer(model)
    beyond = check_tokenizer(model, tokenizer)
    renderer = renderer_of(config, tokenizer, model, out)
    pairs = held_out = None
    pool: list[Prompt] = []
    unseen: list[Prompt] = []
    texts: list[Prompt] = []
    if dataset is not None:
        train, held = parts_of(config, method, dataset, renderer)
        if beyond:
            check_ids(model, embedding_rows(model), _sequences([*train, *held]), tokenizer)
            dataset.ledger.note(
                f"{len(beyond)} tokens of the tokenizer have no row in the model; no text uses one"
            )
        pairs, held_out = _recorded(config, method, game, dataset, renderer, train, held)
        pool, unseen = (_prompts(config, method, part, renderer) for part in (train, held))
    method = sized(method, pairs, held_out, config.sampling.max_new_tokens)
    if game is not None:
        texts = game_prompts(game, renderer, config.data if reads_goals(config.data, method.needs) else None)
        pool, unseen = [texts[i] for i in game.train], [texts[i] for i in game.held_out]
    check_prompts(oracle, (*pool, *unseen))
    teacher = _teacher(config, renderer, pool, out)
    _check_measured(config, game, oracle, held_out)
    limit = renderer.max_length
    if any(len(p.ids) >= limit for p in (*pool, *unseen)):
        raise ConfigError(
            f"a prompt leaves no room for a response within {limit} tokens; raise data.max_length or set "
            "data.max_prompt_length"
        )
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
        texts=texts,
        teacher=teacher,
    )


def _teacher(config: RunConfig, renderer: Renderer, pool: Sequence[Prompt], out: Path) -> Teacher | None:
    """The model behind a server that writes responses. Raises OracleError for one that cannot be asked."""
    if config.play.teacher is None:
        return None
    path = Path(config.play.teacher)
    for prompt in pool:
        messages_of(prompt)
    return Teacher(writer_file(path), str(path), renderer.answer, out / LOG)


def _check_measured(
    config: RunConfig, game: Game | None, oracle: Oracle | None, held_out: Rows | None
) -> None:
    """Raises ConfigError for an evaluation inside fits, or a best checkpoint, by what the run cannot measure."""
    every, best = config.evaluate.steps, config.evaluate.best
    if held_out is None and (every or best == "accuracy"):
        name = "evaluate.steps" if every else "evaluate.best: accuracy"
        raise ConfigError(
            f"{name} needs held-out rows of recorded feedback, and {config.method} reads none of these data; "
            "leave it out"
        )
    if best == "win_rate" and oracle is None:
        raise ConfigError("evaluate.best: win_rate needs an oracle; give --oracle, or take accuracy")
    if best in ("exact_win_rate", "exploitability") and game is None:
        raise ConfigError(
            f"evaluate.best: {best} is computed on the playground only; take accuracy or win_rate"
        )


def renderer_of(config: RunConfig, tokenizer: PreTrainedTokenizerBase, model: str, out: Path) -> Renderer:
    """The renderer of a run. A date that the template writes is stored in the run's folder, so that a resumed run
    renders the same."""
    data, stored = config.data, out / TEMPLATE_DATE
    day = data.template_date or (stored.read_text(encoding="utf-8").strip() if stored.exists() else None)
    renderer = Renderer(
        tokenizer,
        template=data.template,
        max_length=min(data.max_length, longest_sequence(model)),
        max_prompt_length=data.max_prompt_length,
        long_prompt=data.long_prompt,
        allow_template_divergence=data.allow_template_divergence,
        chat_template_kwargs=data.chat_template_kwargs,
        system_turn=data.system_turn,
        reasoning=data.reasoning,
        template_date=day,
    )
    if renderer.date is not None and day is None:
        write_text(stored, f"{renderer.date}\n")
    return renderer


def _sequences(rendered: Sequence[Rendered]) -> Iterator[Sequence[int]]:
    return (ids for row in rendered for ids in (row.prompt_ids, *row.response_ids))


def _recorded(
    config: RunConfig,
    method: Method,
    game: Game | None,
    dataset: Dataset,
    renderer: Renderer,
    train: Sequence[Rendered],
    held: Sequence[Rendered],
) -> tuple[Rows | None, Rows | None]:
    """(training rows, held-out rows) of the data; notes go into the ledger."""
    recording = Recording(
        renderer=renderer,
        needs=method.needs,
        list_size=config.data.list_size,
        domains=domains_by_file if game is None else partial(_domains_of, game),
        words=game is None,
    )
    if not recording.accepts(dataset.kind):
        if method.needs.records:
            raise ConfigError(
                f"{method.name} needs {method.needs.data}; the data contain {WORDS[dataset.kind]}, "
                f"which these methods read: {_readers(dataset.kind)}"
            )
        return None, None
    rows, notes = recording.training(dataset.kind, train)
    rows, weightless = without_weightless(rows, train)
    for note in (*notes, *weightless, *filter(None, [method.players.account(rows)])):
        dataset.ledger.note(note)
    return rows, recording.held_out(dataset.kind, held, config.evaluate.pairs)


def _readers(kind: Kind, most: int = 6) -> str:
    """Methods that train on records of this kind; prompts are for those that write their own responses."""
    wanted = [needs for needs, kinds in READABLE.items() if kind in kinds]
    recorded = [name for name, m in METHODS.items() if m.needs.records and m.needs.records in wanted]
    names = recorded or [name for name, m in METHODS.items() if m.needs.records is None]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _domains_of(game: Game, items: Sequence[Rendered]) -> np.ndarray:
    """The language game's domains of recorded rows."""
    return np.array([game.domain(str(item.record.context)) for item in items], dtype=np.intp)


def _prompts(
    config: RunConfig, method: Method, items: Sequence[Rendered], renderer: Renderer
) -> list[Prompt]:
    if reads_goals(config.data, method.needs):
        return best_prompts(config.data, items, renderer)
    return distinct_prompts(items, renderer)
