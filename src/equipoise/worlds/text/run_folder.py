"""A run folder and the one model in memory: what is done, and whose weights are held."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

from accelerate import Accelerator
from torch import Tensor

from equipoise.data.collate import Prompt, Response
from equipoise.data.revision_prompt import Leads
from equipoise.oracles.protocol import Oracle
from equipoise.play.rows import Rows
from equipoise.play.seeds import Seeds
from equipoise.play.state import BEFORE, START, Floats, State
from equipoise.policy import checkpoint
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.files import read_tensors, write_json, write_tensors
from equipoise.policy.protocol import Decoding
from equipoise.policy.scoring.anchor_store import AnchorStore
from equipoise.policy.scoring.microbatch import Comparison
from equipoise.worlds.text.fit import Training
from equipoise.worlds.text.journal import Journal, load_rows, save_rows
from equipoise.worlds.text.progress import Progress

Degrade = Callable[[Prompt, Response, int], list[Response] | None]  # (prompt, response, degrees)


@dataclass(kw_only=True)
class TextRun:
    """Everything a round needs, for a transformer.

    pool      prompts for online rounds; `prompts_per_round` of them are drawn each round (None: all).
    pairs     recorded comparisons for offline rounds: rows with labels.
    oracle    who judges; None where the method only reads recorded labels.
    lead      how an earlier answer stands before one that improves it; None where nothing is revised.
    degrade   a response's versions with more and more left out, None where it has too few key phrases.
    """

    policy: CausalPolicy
    journal: Journal
    seeds: Seeds
    training: Training
    decoding: Decoding
    store: AnchorStore
    pool: Sequence[Prompt] = ()
    prompts_per_round: int | None = None
    pairs: Rows | None = None
    oracle: Oracle | None = None
    lead: Leads | None = None
    degrade: Degrade | None = None
    progress: Progress = field(default_factory=Progress)
    accelerator: Accelerator = field(default_factory=Accelerator)
    held: Path | None = None

    def begin(self, memory: tuple[str, ...] = (), *, keep_past: bool = False) -> State:
        """Where the run folder says the run stands; its policy is loaded.

        memory, keep_past   what the method's update keeps between rounds, as in `State.begin`.
        """
        initial = self.journal.checkpoint(0)
        self._once(lambda: initial.exists() or checkpoint.save(self.policy, initial))
        state = State.begin(initial, memory, keep_past=keep_past)
        done = self.journal.rounds_done()
        if done:
            named = json.loads(self.journal.settled(done).read_text(encoding="utf-8"))
            policies = {name: self.journal.checkpoints / folder for name, folder in named.items()}
            past = tuple(self.journal.checkpoint(round) for round in range(done)) if keep_past else ()
            state = replace(state, round=done + 1, policies=policies, past=past)
        self._once(lambda: self._forget_finished(state.round))
        self.hold(state.policies[START])
        return state

    def settle(self, state: State) -> State:
        """Write down which checkpoint each name means now, and drop those that no name means any more.

        Every round's own policy stays.
        """

        def write() -> None:
            named = {name: path.name for name, path in state.policies.items() if isinstance(path, Path)}
            write_json(self.journal.settled(state.round - 1), named)
            started = {folder for name, folder in named.items() if name != BEFORE}
            self.journal.tidy(state.round - 1, set(named.values()), started)

        self._once(write)
        return state

    def hold(self, folder: Path) -> None:
        """Make the model hold a checkpoint's weights for good."""
        if self.held != folder:
            checkpoint.load_into(self.policy, folder)
            self.held = folder

    @contextmanager
    def playing(self, folder: Path) -> Iterator[CausalPolicy]:
        """The model with a checkpoint's weights, for a while."""
        assert self.held is not None
        with checkpoint.temporary_weights(self.policy, folder, self.held):
            yield self.policy

    def stage(self, state: State, name: str, make: Callable[[], Rows]) -> Rows:
        path = self.journal.stage(state.round, name)

        def run() -> None:
            # sampling shows its own progress, prompt by prompt
            quiet = (
                nullcontext() if name == "sampling" else self.progress.phase(state.round, name, 1, "stage")
            )
            with quiet as phase:
                save_rows(path, make())
                if phase:
                    phase.tick()

        self._once(lambda: path.exists() or run())
        return load_rows(path)

    def kept(
        self, state: State, name: str, make: Callable[[int], Mapping[str, Tensor]]
    ) -> Mapping[str, Tensor]:
        path = self.journal.folder / "kept" / f"{name}.safetensors"
        if not path.exists():
            write_tensors(path, make(self.seeds("kept", name)))
        return read_tensors(path)[0]

    def uniforms(self, state: State, name: str, count: int) -> Floats:
        return self.seeds.generator(name, state.round).random(count)

    def _once(self, act: Callable[[], object]) -> None:
        """On the main process; the others wait until it is done."""
        if self.accelerator.is_main_process:
            act()
        self.accelerator.wait_for_everyone()

    def _forget_finished(self, round: int) -> None:
        """Remove a saved position whose round's checkpoint was written since."""
        saved = self.journal.progress
        if saved.exists() and checkpoint.progress_of(saved)["round"] < round:
            saved.unlink()


def pairs_of(rows: Rows) -> list[Comparison]:
    """Each row's prompt ids and responses, as the anchor store takes them."""
    return [(p.ids, list(group)) for p, group in zip(rows.prompts, rows.responses, strict=True)]
