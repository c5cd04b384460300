"""Run folder of a text world: resumable stages, named random draws, one writing process."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from accelerate import Accelerator
from torch import Tensor

from equipoise.play.rows import Rows
from equipoise.play.seeds import Seeds
from equipoise.play.state import BASE, Floats, State
from equipoise.policy import checkpoint
from equipoise.policy.files import read_tensors, write_tensors
from equipoise.worlds.folder import position
from equipoise.worlds.folder.journal import Journal
from equipoise.worlds.text.folder import row_files
from equipoise.worlds.text.folder.gates import Gates
from equipoise.worlds.text.progress import Phase, Progress
from equipoise.worlds.text.ranks import Ranks


@dataclass(kw_only=True)
class RunFolder:
    """Position of a run, and the state shared by its processes.

    allowed    names of gates that may be closed.
    keep       rounds whose final checkpoint is kept; None: all.
    base       checkpoint of the policy before the run's phases; None: the initial policy.
    """

    journal: Journal
    seeds: Seeds
    progress: Progress = field(default_factory=Progress)
    accelerator: Accelerator = field(default_factory=Accelerator)
    allowed: Collection[str] = ()
    keep: int | None = None
    base: Path | None = None
    _asking: Phase | None = None

    @property
    def ranks(self) -> Ranks:
        """The run's processes."""
        return Ranks(self.accelerator)

    @property
    def gates(self) -> Gates:
        """The run's gates, of which one process writes the record."""
        main = self.ranks.first
        return Gates(folder=self.journal.folder, allowed=self.allowed, main=main, quiet=self.progress.quiet)

    def once(self, act: Callable[[], object]) -> None:
        """Run `act` on the first process; the others wait until it is done."""
        self.ranks.once(act)

    def begin(self, memory: tuple[str, ...] = (), *, keep_past: bool = False) -> State:
        """The state after the last finished round.

        memory, keep_past   policies that the method keeps between rounds, as in `State.begin`.
        """
        state = position.begun(self.journal, memory, keep_past=keep_past)
        self.once(lambda: self._forget_finished(state.round))
        return state.with_policies(**{BASE: self.base or self.journal.checkpoint(0)})

    def settle(self, state: State) -> State:
        """Record the checkpoint of each policy name, and delete those that none refers to (`position.settle`)."""
        self.once(lambda: position.settle(self.journal, state, self.keep))
        return state

    def stage(self, state: State, name: str, make: Callable[[], Rows]) -> Rows:
        """The rows of a stage, computed now by all processes or read back."""

        def shown() -> Rows:
            # sampling shows its own progress, prompt by prompt
            with nullcontext() if name.startswith("sampling") else self.asking(state.round, name):
                return make()

        return self.kept(self.journal.stage(state.round, name), shown)

    def kept(self, path: Path, make: Callable[[], Rows]) -> Rows:
        """Rows as a file has them; made by all processes and written by the first one if it is not there."""
        if self.ranks.agreed(path.exists):
            self.once(lambda: self.journal.manifest.ensure(path))
        else:
            rows = make()
            self.once(lambda: row_files.save(self.journal, path, rows))
        return row_files.load(self.journal, path)

    @contextmanager
    def asking(self, round: int, name: str) -> Iterator[None]:
        """Context manager: a phase whose progress is counted in the questions that an oracle answers."""
        with self.progress.phase(round, name, None, "questions") as phase:
            self._asking = phase
            try:
                yield
            finally:
                self._asking = None

    def asked(self, count: int) -> None:
        """Tell the open phase, if there is one, that an oracle has answered."""
        if self._asking:
            self._asking.tick(count)

    def cached(self, name: str, make: Callable[[int], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
        """Tensors computed once, from a seed addressed by name."""
        path = self.journal.folder / "kept" / f"{name}.safetensors"
        if not self.ranks.agreed(path.exists):
            made = make(self.seeds("kept", name))

            def keep() -> None:
                write_tensors(path, made)
                self.journal.manifest.record(path)

            self.once(keep)
        self.journal.manifest.verify(path)
        return read_tensors(path)[0]

    def uniforms(self, state: State, name: str, count: int) -> Floats:
        """`count` uniform draws on [0, 1), addressed by round, draw and name."""
        return self.seeds.generator(name, *state.address).random(count)

    def _forget_finished(self, round: int) -> None:
        """Delete a saved training position if its round has finished since."""
        saved = self.journal.progress
        self.journal.next_progress.unlink(missing_ok=True)
        if not saved.exists():
            return
        self.journal.manifest.verify(saved)
        if checkpoint.progress_of(saved)["round"] < round:
            saved.unlink()
