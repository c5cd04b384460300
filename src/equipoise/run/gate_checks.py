"""Gates that are judged before the first step: of the data, of the number of steps, of a reward model's context."""

from __future__ import annotations

from collections.abc import Iterator

from equipoise.oracles.checked import unwrapped
from equipoise.oracles.protocol import Room
from equipoise.play.method import Method
from equipoise.policy.protocol import Measured
from equipoise.run.materials import Materials
from equipoise.run.settings import RunConfig, settled
from equipoise.worlds.text.folder.gate_list import GATES


def before_a_model(config: RunConfig, materials: Materials) -> Iterator[Measured]:
    """What data and oracle say before a model is loaded."""
    if materials.dataset is not None:
        ledger = materials.dataset.ledger
        yield _share("truncation", ledger.truncated, ledger.used, "used rows have an answer cut")
        refused = sum(ledger.refused.values())
        yield _share("refused_rows", refused, ledger.read, "rows were refused")
    yield from _context(config, materials)


def steps(per_round: int, method: Method, config: RunConfig) -> Measured:
    """Whether training takes enough optimizer steps to move a policy and for a schedule to mean anything: each fit, or
    the whole run where a round is a few gradient steps, and in the built-in game, whose settings are measured."""
    whole = config.playground or not method.update.fits
    found, limit = per_round * (method.rounds if whole else 1), GATES["few_steps"].limit or 0
    what = "the whole run" if whole or method.rounds == 1 else "a round"
    few = "" if found >= limit else ", and the policy has hardly been trained"
    return Measured(
        name="few_steps",
        measured=found,
        limit=limit,
        passed=found >= limit,
        sentence=f"{what} takes about {found:,} optimizer step{'s' * (found != 1)}{few}",
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


def _context(config: RunConfig, materials: Materials) -> Iterator[Measured]:
    """Whether the longest response still fits a reward model's context, where the oracle has one."""
    judge = unwrapped(materials.oracle)
    if not isinstance(judge, Room):
        return
    prompts = [prompt.context for prompt in (*materials.pool, *materials.unseen)]
    room = judge.room(prompts) if prompts else None
    if room is None:
        return
    longest, limit = room
    new = settled(config.sampling.max_new_tokens)
    need = longest + new
    yield Measured(
        name="reward_context",
        measured=need,
        limit=limit,
        passed=need <= limit,
        sentence=f"{judge.name} accepts {limit:,} tokens; the longest prompt has {longest:,} there, and with a "
        f"response of {new:,} tokens {need:,}",
    )
