"""Where a scored world keeps its policies, stages and logs: in memory, or in a run folder that resumes to the byte."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from equipoise.core.objectives.base import Memory
from equipoise.play.rows import Rows
from equipoise.play.state import POLICY, State
from equipoise.policy.files import read_tensors, write_tensors
from equipoise.worlds.folder import position
from equipoise.worlds.folder.journal import Journal
from equipoise.worlds.scored.examples import Examples
from equipoise.worlds.scored.policies import Policy, read_policy, write_policy

Figures = Mapping[str, Any]
Position = tuple[Policy, int, Memory]  # of a fit: policy and moments, finished steps, a running statistic


class Keeper(Protocol):
    """Keeps what a round makes. A policy's handle is what `State.policies` holds."""

    def begin(self, memory: tuple[str, ...], keep_past: bool, start: Callable[[], Policy]) -> State: ...

    def policy(self, handle: Any) -> Policy: ...

    def finished(self, round: int, name: str) -> Any | None:
        """The handle of a policy that an interrupted round had finished."""
        ...

    def keep(self, round: int, name: str, policy: Policy) -> Any: ...

    def stage(self, round: int, name: str, examples: Examples, make: Callable[[], Rows]) -> Rows: ...

    def stored(self, round: int, name: str) -> Rows | None: ...

    def cached(self, name: str, make: Callable[[], Mapping[str, Tensor]]) -> Mapping[str, Tensor]: ...

    def resumed(self, round: int, name: str) -> Position | None:
        """The saved position of an interrupted fit, with the log as it was then."""
        ...

    def save(self, round: int, name: str, at: Position) -> None: ...

    def log(self, round: int, name: str, figures: Figures) -> None: ...

    def check(self, line: Figures) -> None: ...

    def settle(self, state: State) -> None: ...


@dataclass
class InMemory:
    """Nothing is written; a policy is its own handle.

    metrics   the figures of every step, for a caller that draws them.
    """

    metrics: list[Figures] = field(default_factory=list)
    stages: dict[tuple[int, str], Rows] = field(default_factory=dict)
    tensors: dict[str, Mapping[str, Tensor]] = field(default_factory=dict)

    def begin(self, memory: tuple[str, ...], keep_past: bool, start: Callable[[], Policy]) -> State:
        return State.begin(start(), memory, keep_past=keep_past)

    def policy(self, handle: Any) -> Policy:
        assert isinstance(handle, Policy)
        return handle

    def finished(self, round: int, name: str) -> Any | None:
        return None

    def keep(self, round: int, name: str, policy: Policy) -> Policy:
        return policy

    def stage(self, round: int, name: str, examples: Examples, make: Callable[[], Rows]) -> Rows:
        self.stages[round, name] = make()
        return self.stages[round, name]

    def stored(self, round: int, name: str) -> Rows | None:
        return self.stages.get((round, name))

    def cached(self, name: str, make: Callable[[], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
        if name not in self.tensors:
            self.tensors[name] = make()
        return self.tensors[name]

    def resumed(self, round: int, name: str) -> Position | None:
        return None

    def save(self, round: int, name: str, at: Position) -> None:
        pass

    def log(self, round: int, name: str, figures: Figures) -> None:
        self.metrics.append({"round": round, "fit": name, **figures})

    def check(self, line: Figures) -> None:
        pass

    def settle(self, state: State) -> None:
        pass


class InFolder:
    """A run folder: checkpoints and stages as safetensors, logs as JSON lines, all entered in its manifest.

    told    told of every logged step.
    """

    def __init__(
        self, journal: Journal, examples: Examples, told: Callable[[Figures], None] = lambda line: None
    ) -> None:
        self.journal, self.examples, self.told = journal, examples, told
        self._read: dict[Path, Policy] = {}

    def begin(self, memory: tuple[str, ...], keep_past: bool, start: Callable[[], Policy]) -> State:
        first = self.journal.checkpoint(0)
        if not first.exists():
            write_policy(self.journal, first, start())
        state = position.begun(self.journal, memory, keep_past=keep_past)
        finished = [p for r in range(1, state.round) for p in self._stages(r)]
        for path in sorted(finished, key=lambda path: _about(path)["begin"]):
            self._replay(path)
        return state

    def policy(self, handle: Any) -> Policy:
        if handle not in self._read:
            self.journal.manifest.verify(handle)
            self._read = {**dict(list(self._read.items())[-8:]), handle: read_policy(handle)}
        return self._read[handle]

    def finished(self, round: int, name: str) -> Any | None:
        made = self.journal.checkpoint(round, name)
        if not made.exists():
            return None
        self.journal.manifest.ensure(made)
        if self._saved().get("fit") == name:
            self.journal.progress.unlink()
        return made

    def keep(self, round: int, name: str, policy: Policy) -> Path:
        made = self.journal.checkpoint(round, name)
        write_policy(self.journal, made, policy)
        self.journal.progress.unlink(missing_ok=True)
        return made

    def stage(self, round: int, name: str, examples: Examples, make: Callable[[], Rows]) -> Rows:
        path = self.journal.stage(round, name, ".safetensors")
        if path.exists():
            self.journal.manifest.ensure(path)
            return self._replay(path)
        begin = len(examples)
        rows = make()
        _save_rows(path, rows, begin, examples)
        self.journal.manifest.record(path)
        return rows

    def stored(self, round: int, name: str) -> Rows | None:
        path = self.journal.stage(round, name, ".safetensors")
        if not path.exists():
            return None
        self.journal.manifest.verify(path)
        return _load_rows(path)[0]

    def cached(self, name: str, make: Callable[[], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
        path = self.journal.folder / "kept" / f"{name}.safetensors"
        if not path.exists():
            write_tensors(path, make())
            self.journal.manifest.record(path)
        self.journal.manifest.verify(path)
        return read_tensors(path)[0]

    def resumed(self, round: int, name: str) -> Position | None:
        about, found = self._saved(), None
        before = self._before(round, name)
        if (about.get("round"), about.get("fit")) == (round, name):
            self.journal.manifest.verify(self.journal.progress)
            tensors = read_tensors(self.journal.progress)[0]
            found = (
                Policy(_under("parameters", tensors), _under("moments", tensors)),
                int(about["position"]),
                tuple(about["memory"]),
            )
        self.journal.rewind("metrics.jsonl", round, before + (found[1] if found else 0))
        return found

    def save(self, round: int, name: str, at: Position) -> None:
        policy, reached, memory = at
        about = {"round": round, "fit": name, "position": reached, "memory": list(memory)}
        tensors = {f"parameters/{n}": t for n, t in policy.parameters.items()}
        tensors |= {f"moments/{n}": t for n, t in policy.moments.items()}
        journal = self.journal
        write_tensors(journal.next_progress, tensors, about=json.dumps(about))
        journal.manifest.record(journal.next_progress, name=journal.progress)
        journal.next_progress.replace(journal.progress)
        journal.seal()

    def log(self, round: int, name: str, figures: Figures) -> None:
        which = {} if name == POLICY else {"fit": name}
        step = self._before(round, name) + figures["step"]
        line = {"round": round, **figures, "step": step, **which}
        self.journal.append("metrics.jsonl", line)
        self.told(line)

    def check(self, line: Figures) -> None:
        known = list(self.journal.lines("checks.jsonl"))
        if dict(line) not in known:
            self.journal.append("checks.jsonl", dict(line))

    def settle(self, state: State) -> None:
        position.settle(self.journal, state)
        self._counted = {}

    _counted: Mapping[tuple[int, str], int] = {}

    def _before(self, round: int, name: str) -> int:
        """Steps of this round's other fits."""
        if (round, name) not in self._counted:
            count = sum(
                line["round"] == round and line.get("fit", POLICY) != name
                for line in self.journal.lines("metrics.jsonl")
            )
            self._counted = {(round, name): count}
        return self._counted[round, name]

    def _stages(self, round: int) -> list[Path]:
        return sorted((self.journal.folder / "rounds" / f"{round:03d}").glob("*.safetensors"))

    def _replay(self, path: Path) -> Rows:
        """The rows of a finished stage; its new examples take their old places."""
        self.journal.manifest.verify(path)
        rows, begin, new = _load_rows(path)
        if begin != len(self.examples):
            raise ValueError(
                f"{path} was made after {begin} examples, and there are {len(self.examples)}; the files of this run "
                "folder do not belong together: start again in another folder"
            )
        if new:
            self.examples.append(new)
        return rows

    def _saved(self) -> dict[str, Any]:
        return _about(self.journal.progress) if self.journal.progress.exists() else {}


def _about(path: Path) -> dict[str, Any]:
    from equipoise.policy.files import read_about

    return dict(json.loads(read_about(path)["about"]))


def _under(part: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(f"{part}/"): t for name, t in tensors.items() if name.startswith(f"{part}/")}


def _save_rows(path: Path, rows: Rows, begin: int, examples: Examples) -> None:
    """Write rows, and the examples that their stage made, as one safetensors file."""
    fields = {
        "prompts": rows.prompts,
        "responses": rows.responses,
        "weight": rows.weight,
        "prob": rows.prob,
        "reward": rows.reward,
        "domain": rows.domain,
    }
    tensors = {
        f"rows/{name}": torch.from_numpy(np.ascontiguousarray(values))
        for name, values in fields.items()
        if values is not None
    }
    if len(examples) > begin:
        tensors |= {f"examples/{n}": torch.from_numpy(a) for n, a in examples.since(begin).items()}
    about = {"begin": begin, "writers": list(rows.writers), "fresh": rows.fresh}
    write_tensors(path, tensors, about=json.dumps(about))


def _load_rows(path: Path) -> tuple[Rows, int, dict[str, np.ndarray]]:
    """(rows, number of examples before the stage, the examples that it made)."""
    tensors, text = read_tensors(path)
    about = json.loads(text["about"])
    held = {name: tensor.numpy() for name, tensor in _under("rows", tensors).items()}
    rows = Rows(
        prompts=held["prompts"],
        responses=held["responses"],
        weight=held["weight"],
        writers=tuple(about["writers"]),
        prob=held.get("prob"),
        reward=held.get("reward"),
        domain=held.get("domain"),
    )
    new = {name: tensor.numpy() for name, tensor in _under("examples", tensors).items()}
    return replace(rows, fresh=about["fresh"]), int(about["begin"]), new
