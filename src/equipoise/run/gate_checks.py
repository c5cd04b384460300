"""Gates that are judged before the first step: of the data, of the number of steps, of a reward model's context."""

from __future__ import annotations

from collections.abc import Iterator

from equipoise.oracles.checked import unwrapped
from equipoise.oracles.protocol import Room
from equipoise.policy.protocol import Measured
from equipoise.run.materials import Materials
from equipoise.run.settings import RunConfig
from equipoise.worlds.text.folder.gate_list import GATES


def before_a_model(config: RunConfig, materials: Materials) -> Iterator[Measured]:
    """What data and oracle say before a model is loaded."""
    if materials.dataset is not None:
        ledger = materials.dataset.ledger
        yield _share("truncation", ledger.truncated, ledger.used, "used rows have an answer cut")
        refused = sum(ledger.refused.values())
        yield _share("refused_rows", refused, ledger.read, "rows were refused")
    yield from _context(materials)


def steps(total: int) -> Measured:
    """Whether a run takes enough optimizer steps for a schedule to mean anything."""
    limit = GATES["one_step"].limit or 0
    return Measured(
        name="one_step",
        measured=total,
        limit=limit,
        passed=total >= limit,
        sentence=f"the whole run takes about {total:,} optimizer step{'s' * (total != 1)}",
    )


def _share(name: str, part: int, whole: int, what: str) -> Measured:
    share, limit = part / whole if whole else 0.0, GATES[name].limit or 0.0
    return Measured(
        name=name,
        measured=share,
        limit=limit,
        passed=share <= limit,
        sentence=f"{part:,} of {whole:,} {what} ({share:.1%})",
    )


def _context(materials: Materials) -> Iterator[Measured]:
    """Whether the longest response still fits a reward model's context, where the oracle has one."""
    judge = unwrapped(materials.oracle)
    if not isinstance(judge, Room):
        return
    prompts = [prompt.context for prompt in (*materials.pool, *materials.unseen)]
    room = judge.room(prompts) if prompts else None
    if room is None:
        return
    longest, limit = room
    need = longest + materials.max_new_tokens
    yield Measured(
        name="reward_context",
        measured=need,
        limit=limit,
        passed=need <= limit,
        sentence=f"{judge.name} accepts {limit:,} tokens; the longest prompt has {longest:,} there, and with a "
        f"response of {materials.max_new_tokens:,} tokens {need:,}",
    )
