"""Position of a run in its folder: the state after the last finished round, and the record of a finished one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from equipoise.play.state import BASE, BEFORE, State
from equipoise.policy.files import write_json
from equipoise.worlds.folder.journal import Journal


def begun(journal: Journal, memory: tuple[str, ...] = (), *, keep_past: bool = False) -> State:
    """The state after the last finished round; a policy is the folder of its checkpoint.

    memory, keep_past   policies that the method keeps between rounds, as in `State.begin`.
    """
    state = State.begin(journal.checkpoint(0), memory, keep_past=keep_past)
    done = journal.rounds_done()
    if not done:
        return state
    journal.manifest.verify(journal.settled(done))
    named = json.loads(journal.settled(done).read_text(encoding="utf-8"))
    policies = {name: journal.checkpoints / folder for name, folder in named.items()}
    past = tuple(journal.checkpoint(round) for round in range(done)) if keep_past else ()
    return replace(state, round=done + 1, policies=policies, past=past)


def settle(journal: Journal, state: State, keep: int | None = None) -> None:
    """Record the checkpoint of each policy name, and delete checkpoints that no name refers to any more.

    The final policies of the last `keep` rounds are kept (None: of all), of all if a method samples from past ones, and
    that of the last evaluated round, on which a run may fall back.
    """
    named = {
        name: path.name for name, path in state.policies.items() if isinstance(path, Path) and name != BASE
    }
    settled = journal.settled(state.round - 1)
    write_json(settled, named)
    journal.manifest.record(settled)
    journal.seal()
    started = {folder for name, folder in named.items() if name != BEFORE}
    evaluated = max((line["round"] for line in journal.lines("evaluation.jsonl")), default=0)
    used = {*named.values(), journal.checkpoint(evaluated).name}
    journal.tidy(state.round - 1, used, started, None if state.keep_past else keep)
