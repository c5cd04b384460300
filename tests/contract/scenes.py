"""Small worlds to play components in, and a wrapper that notes which of a world's methods they call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
import torch
from accelerate import Accelerator

from equipoise.data.collate import Prompt, Response
from equipoise.data.content_removal import versions
from equipoise.data.rendering.render import Renderer
from equipoise.data.revision_prompt import RevisionPrompt
from equipoise.games.preference import PreferenceGame
from equipoise.games.tabular import TabularPolicy
from equipoise.methods.index import get
from equipoise.oracles.checked import Checked
from equipoise.oracles.code.self_written import PassTable
from equipoise.play import capabilities
from equipoise.play.component import parts
from equipoise.play.needs import NOTHING, Needs
from equipoise.play.round import play_round
from equipoise.play.rows import Rows, objects
from equipoise.play.seeds import Seeds
from equipoise.play.state import (
    AVERAGE,
    CRITIC,
    FITTED,
    LAZY,
    MAGNET,
    REACHED,
    SLOW,
    START,
    TEACHER,
    Perturbation,
    State,
    Tilted,
)
from equipoise.playground import GameOracle, LanguageGame, panel
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.protocol import Decoding
from equipoise.policy.scoring.anchor_store import AnchorStore
from equipoise.worlds.folder.journal import Journal
from equipoise.worlds.table.world import TableWorld
from equipoise.worlds.text.fit import Training
from equipoise.worlds.text.progress import Progress
from equipoise.worlds.text.self_tests import SelfTests, asked_by
from equipoise.worlds.text.world import TextWorld
from text_world_fixtures import GAME

MEMORY = (MAGNET, LAZY, FITTED, AVERAGE, SLOW, REACHED, TEACHER, CRITIC)
CAPABILITIES = {
    name: value
    for name, value in vars(capabilities).items()
    if name in capabilities.__all__ and isinstance(value, type) and vars(value).get("_is_protocol")
}
SCORING = LanguageGame("transitive")  # whose host gives every answer a reward


class Judged(GameOracle):
    """The panel, with two of its judges' scores by name."""

    attributes = ("host", "doctor")

    def scores(self, prompts: Any, responses: Any) -> Any:
        table = panel.scores((panel.HOST, panel.DOCTOR))
        listed = {text: place for place, text in enumerate(GAME.responses)}
        found = [
            table[:, GAME.prompts.index(prompt), listed[text]].tolist() if text in listed else [-9.0, -9.0]
            for prompt, text in zip(prompts, responses, strict=True)
        ]
        return torch.tensor(found, dtype=torch.float64)


ORACLE_VERBS = {"compare", "win_rates", "rewards", "named_scores"}


def verbs(protocol: type) -> set[str]:
    """The methods that a protocol names."""
    return {name for name, value in vars(protocol).items() if callable(value) and not name.startswith("_")}


def used(called: set[str]) -> set[str]:
    """Names of the capabilities whose methods were called."""
    return {name for name, capability in CAPABILITIES.items() if verbs(capability) & called}


def declared(component: Any) -> set[str]:
    """Names of the capabilities that a component and what it is built on declare."""
    return {c.__name__ for part in parts(component) for c in part.capabilities}


def needs(component: Any) -> Needs:
    together = NOTHING
    for part in parts(component):
        together |= part.needs
    return together


class Call(NamedTuple):
    """A call of one of a world's methods, and what it returned."""

    name: str
    given: tuple[Any, ...]
    answer: Any


def watched(world: Any) -> Any:
    """The world with nothing but its public methods, each call noted in `calls`."""
    calls: list[Call] = []

    def noting(name: str) -> Callable[..., Any]:
        def call(self: Any, *given: Any, **named: Any) -> Any:
            answer = getattr(world, name)(*given, **named)
            calls.append(Call(name, given, answer))
            return answer

        return call

    public = [n for n in dir(type(world)) if not n.startswith("_") and callable(getattr(type(world), n))]
    members: dict[str, Any] = {name: noting(name) for name in public}
    seen = type("Watched", (), {**members, "kind": world.kind, "calls": calls})()
    return seen


def called(world: Any) -> set[str]:
    """Names of the methods called; a policy derived by a perturbation, or by the oracle, counts as such a call."""
    derived = {Perturbation: "perturb", Tilted: "compare"}
    given = {type(value) for call in world.calls for value in call.given}
    return {call.name for call in world.calls} | {derived[kind] for kind in given if kind in derived}


# a finite game ------------------------------------------------------------------------------------


def game() -> PreferenceGame:
    """Two prompts of unequal weight, three responses each, preferences that no reward explains."""
    draw = torch.Generator().manual_seed(4)
    skew = torch.randn(2, 3, 3, generator=draw, dtype=torch.float64)
    reference = torch.rand(2, 3, generator=draw, dtype=torch.float64) + 0.1
    return PreferenceGame(
        torch.sigmoid(skew - skew.transpose(1, 2)),
        reference / reference.sum(1, keepdim=True),
        prompt_weight=torch.tensor([0.6, 0.4], dtype=torch.float64),
    )


def table_states(world: TableWorld, rounds: int = 3) -> list[State]:
    """The states at the start of the first rounds; every round's policy differs from those before."""
    draw = torch.Generator().manual_seed(1)
    states = [State.begin(world.game.initial(), MEMORY, keep_past=True)]
    for _ in range(rounds - 1):
        logits = torch.randn(world.game.reference.shape, generator=draw, dtype=torch.float64)
        states.append(states[-1].advance({START: TabularPolicy(logits.log_softmax(dim=1))}))
    return states


def table_rows(width: int, count: int = 12, seed: int = 0) -> Rows:
    """Responses drawn at random with labels of pairs, or of single responses where a row is one response."""
    draw = np.random.default_rng([seed, width])
    return Rows(
        prompts=draw.integers(2, size=count),
        responses=draw.integers(3, size=(count, width)),
        weight=draw.random(count) + 0.1,
        writers=("start",) * width,
        **_labels(draw, count, width),
    )


def _labels(draw: np.random.Generator, count: int, width: int) -> dict[str, Any]:
    if width > 1:
        return {"prob": draw.random(count)}
    label = draw.integers(2, size=(count, 1)).astype(np.float64)
    label[:3] = [[0.0], [1.0], [0.3]]
    return {"reward": label}


@dataclass(frozen=True)
class FirstAnswer:
    """A teacher that writes the game's first answer to every prompt."""

    renderer: Renderer
    name: str = "first answer"

    def responses(self, prompts: Sequence[Prompt], round: int) -> list[Response]:
        return [self.renderer.answer(prompt, GAME.responses[0]) for prompt in prompts]


# text ---------------------------------------------------------------------------------------------


@dataclass
class Text:
    """A language game's world in a folder, and the states at the start of its first rounds."""

    folder: Path
    renderer: Renderer
    policy: CausalPolicy
    pool: list[Prompt]
    pairs: Rows

    def __post_init__(self) -> None:
        self.pool, self.pairs = self.pool[:4], replace(self.pairs, domain=np.arange(len(self.pairs)) % 2)
        self.opened = 0
        world = self.world()
        self.states = [world.begin(MEMORY, keep_past=True)]
        for _ in range(2):
            self.states.append(play_round(get("dpo"), world, self.states[-1]))
        self.answers = [self.answer(text) for text in GAME.responses]

    def answer(self, text: str) -> Response:
        codec = self.renderer.codec
        return Response((*codec.continuation(text), codec.eos), text)  # type: ignore[arg-type]

    def world(self, needed: Needs = NOTHING, at: int | None = None, **changes: Any) -> TextWorld:
        """A world with an empty run folder and recorded data as needed; with `at`, ready to play that round."""
        self.opened += 1
        folder = self.folder / f"{self.opened}"
        folder.mkdir()
        settings: dict[str, Any] = {
            "policy": self.policy,
            "journal": Journal(folder),
            "seeds": Seeds(0),
            "training": Training(lr=1e-3, batch=8, micro_batch=8, epochs=1),
            "decoding": Decoding(max_new_tokens=6),
            "store": AnchorStore(folder / "anchors"),
            "pool": self.pool,
            "pairs": self.recorded(needed),
            "oracle": Checked(SCORING.oracle() if needed.scores else Judged(GAME)),
            "lead": RevisionPrompt(self.renderer, chat=False, instruction=None),
            "degrade": self.degrade,
            "teacher": FirstAnswer(self.renderer),
            "self_tests": SelfTests(renderer=self.renderer, run=by_spelling),
            "reword": partial(asked_by, self.renderer),
            "progress": Progress(quiet=True),
            "accelerator": Accelerator(cpu=True),
        }
        world = TextWorld(**(settings | changes))
        if at is not None:
            world.model.hold(self.states[at - 1].policies[START])
        return world

    def degrade(self, prompt: Prompt, response: Response, degrees: int) -> list[Response] | None:
        texts = versions(response.text, degrees)
        return None if texts is None else [self.renderer.answer(prompt, text) for text in texts]

    def recorded(self, needed: Needs) -> Rows:
        """Recorded feedback of the kind that is needed."""
        pairs = self.pairs
        if needed.records == "unpaired":
            return pairs.alone()
        if needed.margins:
            margin = np.linspace(0.5, 2, len(pairs))
            return replace(pairs, prob=None, reward=np.stack([margin, np.zeros_like(margin)], axis=1))
        third = [[self.answer(GAME.responses[i])] for i in range(len(pairs))]
        if needed.rationales:
            lead = RevisionPrompt(self.renderer, chat=False, instruction=None)
            third = [[replace(r[0], lead=lead(p, r[0]))] for p, r in zip(pairs.prompts, third, strict=True)]
            return replace(pairs.append(objects(third, width=1), "rationale"), prob=pairs.prob)
        if needed.lists:
            listed = pairs.append(objects(third, width=1), "recorded")
            return replace(listed, prob=None, reward=np.tile([2.0, 1.0, 0.0], (len(pairs), 1)))
        return pairs

    def rows(self, width: int, count: int = 6, seed: int = 0) -> Rows:
        """Answers of the game drawn at random, labelled as those of `table_rows`."""
        draw = np.random.default_rng([seed, width])
        at = draw.integers(len(self.answers), size=(count, width))
        at[1] = at[1, 0]  # equal responses
        prompts = self.pairs.prompts[np.arange(count) % len(self.pairs)]
        return Rows(
            prompts=prompts,
            responses=objects([[self.answers[i] for i in row] for row in at], width=width),
            weight=draw.random(count) + 0.1,
            writers=("start",) * width,
            **_labels(draw, count, width),
        )


def by_spelling(problems: Sequence[tuple[Sequence[str], Sequence[str]]]) -> list[PassTable]:
    """Stands for a sandbox: whether a code passes a test depends on both texts, and on nothing else."""
    tables = []
    for codes, tests in problems:
        passed = [[crc32(f"{code} {test}".encode()) % 2 == 0 for test in tests] for code in codes]
        all_read = np.ones(max(len(codes), len(tests)), dtype=bool)
        tables.append(PassTable(np.array(passed), all_read[: len(codes)], all_read[: len(tests)]))
    return tables


# rows ---------------------------------------------------------------------------------------------


def plain(rows: Rows) -> dict[str, Any]:
    """Everything that a stage keeps of rows, to be compared exactly."""

    def of(value: Any) -> Any:
        if isinstance(value, Response):
            return (value.ids, value.text, value.finished, value.logp, value.lead)
        return (value.ids, value.context, value.text) if isinstance(value, Prompt) else int(value)

    return {
        "prompts": [of(prompt) for prompt in rows.prompts],
        "responses": [[of(response) for response in group] for group in rows.responses],
        "weight": rows.weight.tolist(),
        "writers": rows.writers,
        "prob": None if rows.prob is None else rows.prob.tolist(),
        "reward": None if rows.reward is None else rows.reward.tolist(),
        "fresh": rows.fresh,
    }


def comparisons(rows: Rows) -> tuple[list[str], np.ndarray]:
    """(what is compared, [N, 1 + ...] weight, label and rewards), in an order that does not depend on the rows'."""
    shown = plain(rows)
    what = [repr(pair) for pair in zip(shown["prompts"], shown["responses"], strict=True)]
    columns = [rows.weight[:, None]]
    columns += [] if rows.prob is None else [rows.prob[:, None]]
    columns += [] if rows.reward is None else [rows.reward.reshape(len(rows), -1)]
    numbers = np.concatenate(columns, axis=1)
    order = sorted(range(len(rows)), key=lambda i: (what[i], np.round(numbers[i], 9).tolist()))
    return [what[i] for i in order], numbers[order]


def kinds(row: Any) -> list[str]:
    """The worlds that an example can be played in."""
    table = all(issubclass(TableWorld, CAPABILITIES[name]) for name in declared(row.example))
    return [kind for kind in ("table", "text") if kind not in row.exempt and (table or kind == "text")]
