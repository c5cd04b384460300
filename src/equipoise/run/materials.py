"""What a run is made of before a model is in memory: method, data, tokenizer, prompts, pairs, oracle.

Everything that can be refused without a model is refused here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from equipoise import oracles
from equipoise.data.collate import Prompt, Response
from equipoise.data.ranked_lists import as_pairs
from equipoise.data.rationale_prompt import RationalePrompt
from equipoise.data.read import Dataset, read
from equipoise.data.records import oracle_context
from equipoise.data.render import Rendered, Renderer, load_tokenizer
from equipoise.data.split import split
from equipoise.data.tokens import longest_sequence
from equipoise.methods.index import get
from equipoise.oracles.checked import Checked
from equipoise.oracles.protocol import Oracle
from equipoise.play.method import Method
from equipoise.play.pairings.sampled import BestWorst, Pairs, Scored, Tournament
from equipoise.play.players.sampled import Mixed, Written
from equipoise.play.players.unpaired import DispreferredResponses, UnpairedResponses
from equipoise.play.rows import Rows, objects
from equipoise.play.seeds import Seeds
from equipoise.playground import LanguageGame, model_path, reference_policy, write_lists, write_pairs
from equipoise.playground.grammar import TIMES
from equipoise.run.config import ConfigError, RunConfig
from equipoise.worlds.text.recorded_rows import (
    best_and_worst,
    list_rows,
    pair_rows,
    with_margins,
    with_rationales,
)

PLAYGROUND_PAIRS = "playground_pairs.jsonl"
PLAYGROUND_LISTS = "playground_lists.jsonl"
PAIRINGS = {
    "tournament": Tournament(),
    "disjoint": Pairs(),
    "all": Pairs(every=True),
    "disjoint_bernoulli": Pairs(labels="bernoulli"),
    "all_bernoulli": Pairs(labels="bernoulli", every=True),
    "matches": Pairs(rewards=True, equal=True),
    "scored": Scored(),
    "best_worst": BestWorst(),
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


def learns_from_records(method: Method) -> bool:
    """Whether the method reads recorded judgements, of pairs, lists or single responses."""
    return method.reads_pairs or "unary" in method.needs or "lists" in method.needs


def method_of(config: RunConfig) -> Method:
    """The method with the configuration's parameters, rounds, players and pairing."""
    method = get(config.method).with_parameters(config.objective)
    method = replace(method, rounds=config.play.rounds)
    written = isinstance(method.players, Written | Mixed)
    if config.play.pairing != "method":
        if not written:
            raise ConfigError(f"play.pairing: {method.name} plays {method.players.describe()}")
        method = replace(method, pairing=PAIRINGS[config.play.pairing])
    try:
        if config.play.samples is not None:
            method = replace(method, players=method.players.writing(config.play.samples))
        if written:
            method.pairing.check(method.players.samples)  # type: ignore[attr-defined]
    except ValueError as error:
        raise ConfigError(f"play.samples: {error}") from error
    return method


def gather(config: RunConfig, out: Path) -> Materials:
    """Read, check, render and split the data; load tokenizer and oracle. No model yet.

    Raises ConfigError, DataError or OracleError, each saying what to do.
    """
    method = method_of(config)
    game = LanguageGame(config.play.panel) if config.playground else None
    model = config.model.path or str(model_path())
    oracle = _oracle(config, method, game)
    if not config.playground and not config.data.path:
        raise ConfigError(_wanted_data(method))
    dataset = _dataset(config, method, game, out)
    renderer = Renderer(
        load_tokenizer(model),
        template=config.data.template,
        max_length=min(config.data.max_length, longest_sequence(model)),
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
            pairs = replace(_pair_rows(train, renderer), domain=_domains(train, game))
            held_out = _pair_rows(held[: config.evaluate.pairs], renderer)
            if "margins" in method.needs:
                pairs = with_margins(pairs, train)
                dataset.ledger.note(f"{len(train) - len(pairs):,} pairs have no margin above 0")
            if "rationales" in method.needs:
                pairs = with_rationales(pairs, train, _reasons(train, renderer, game), renderer.max_length)
                dataset.ledger.note(f"{len(train) - len(pairs):,} pairs have no rationale that fits")
        elif dataset.kind in ("rank", "scores") and "lists" in method.needs:
            pairs, short = list_rows(train, _each_prompt(train, renderer), config.data.list_size)
            held_out = best_and_worst(list_rows(held, _each_prompt(held, renderer), 2)[0])
            dataset.ledger.note(
                f"lists of {pairs.responses.shape[1]} answers; {short:,} shorter ones left out"
            )
        elif dataset.kind == "unpaired" and "unary" in method.needs:
            pairs = replace(_unpaired_rows(train, renderer), domain=_domains(train, game))
            held_out = _unpaired_rows(held[: config.evaluate.pairs], renderer)
        elif learns_from_records(method):
            wanted = "preference pairs" if method.reads_pairs else "labelled responses or pairs"
            wanted = "ranked lists" if "lists" in method.needs else wanted
            raise ConfigError(f"{method.name} needs {wanted}; the data hold {dataset.kind} rows")
        if pairs is not None and isinstance(method.players, UnpairedResponses | DispreferredResponses):
            dataset.ledger.note(method.players.account(pairs))
        pool, unseen = _prompts(train, renderer), _prompts(held, renderer)
    if game is not None:
        texts = game_prompts(game, renderer)
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


def _wanted_data(method: Method) -> str:
    """The message to a user who gave no data."""
    if not learns_from_records(method):
        return f"{method.name} writes its own responses and needs prompts: give --data"
    what = "pairs" if method.reads_pairs else "labelled responses (unpaired feedback) or pairs"
    what = "ranked lists" if "lists" in method.needs else what
    return f"{method.name} learns from recorded {what}: give --data"


def _oracle(config: RunConfig, method: Method, game: LanguageGame | None) -> Oracle | None:
    if config.oracle:
        return oracles.load(config.oracle)
    if game is not None:
        return Checked(game.oracle())
    if "oracle" in method.needs:
        raise ConfigError(
            f"{method.name} asks who wins: give --oracle (module:function, file.py:function or a reward model)"
        )
    return None


def _dataset(config: RunConfig, method: Method, game: LanguageGame | None, out: Path) -> Dataset | None:
    data, margins = config.data, "margins" in method.needs
    if game is not None:
        if "lists" in method.needs or margins:
            path = out / PLAYGROUND_LISTS
            if not path.exists():
                size = 2 if margins else data.list_size or 5
                write_lists(
                    path,
                    game,
                    data.pairs if margins else data.pairs // 5,
                    size=size,
                    seed=Seeds(config.seed)("pairs"),
                    reference=reference_policy(),
                )
            found = read(path, format="auto")
            return as_pairs(found) if margins else found
        if not learns_from_records(method):
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
                rationales="rationales" in method.needs,
            )
        return read(path, format="auto")
    found = read(
        data.path or [],
        format=data.format,
        mapping=data.mapping,
        strict=data.strict,
        limit=data.limit,
        prompt_words=data.prompt_words,
    )
    lists = found.kind in ("rank", "scores") and "lists" not in method.needs and "pairs" in method.needs
    return as_pairs(found, data.list_pairs) if lists else found


def _prompt(item: Rendered, renderer: Renderer) -> Prompt:
    return Prompt(item.prompt_ids, oracle_context(item.record.context), renderer.text(item.prompt_ids))


def _each_prompt(items: Sequence[Rendered], renderer: Renderer) -> list[Prompt]:
    return [_prompt(item, renderer) for item in items]


def _reasons(
    items: Sequence[Rendered], renderer: Renderer, game: LanguageGame | None
) -> list[RationalePrompt]:
    """Who makes each pair's lead: in its prompt's space; the playground's model knows no words to ask with."""
    kinds = {
        space: RationalePrompt(renderer, chat=space == "chat", words=game is None)
        for space in {item.record.space for item in items}
    }
    return [kinds[item.record.space] for item in items]


def _prompts(items: Sequence[Rendered], renderer: Renderer) -> list[Prompt]:
    """Every distinct prompt once, in the data's order."""
    return list({item.prompt_ids: _prompt(item, renderer) for item in items}.values())


def _pair_rows(items: Sequence[Rendered], renderer: Renderer) -> Rows:
    return pair_rows(items, _each_prompt(items, renderer))


def _unpaired_rows(items: Sequence[Rendered], renderer: Renderer) -> Rows:
    """Unpaired feedback: one response per row, its label (1 desirable, 0 undesirable) as the reward."""
    responses = [
        [Response(item.response_ids[0], item.record.candidates[0].text, item.finished[0])] for item in items
    ]
    return Rows(
        prompts=objects([_prompt(item, renderer) for item in items]),
        responses=objects(responses, width=1),
        weight=np.array([item.record.weight for item in items], dtype=np.float64),
        writers=("recorded",),
        reward=np.array([[float(bool(item.record.desirable))] for item in items]),
    )


def _domains(items: Sequence[Rendered], game: LanguageGame | None) -> np.ndarray:
    """Each row's domain by number: its file; in the language game the time of day, which turns the style orders."""
    records = [item.record for item in items]
    if game is not None:
        return np.array([TIMES[1] in str(record.context) for record in records], dtype=np.intp)
    numbers = {file: number for number, file in enumerate(dict.fromkeys(r.file for r in records))}
    return np.array([numbers[record.file] for record in records], dtype=np.intp)


def game_prompts(game: LanguageGame, renderer: Renderer) -> list[Prompt]:
    """The language game's prompts as the policy reads them."""
    return [Prompt(renderer.prompt(text), text, text) for text in game.prompts]
