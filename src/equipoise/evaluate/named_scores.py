"""Named scores of the policy's responses to held-out prompts, plain and with a direction told (DPA)."""

from __future__ import annotations

import numpy as np

from equipoise.core.intervals import Interval, clustered_mean
from equipoise.play.players.protocol import Players
from equipoise.play.rows import Rows
from equipoise.play.state import START, State
from equipoise.worlds.text.world import TextWorld


def score_means(world: TextWorld, rows: Rows) -> dict[str, Interval | None]:
    """Name -> mean of the oracle's named score over the responses, with an interval clustered by prompt.

    Prompts without all of their scores are left out; None without any.
    """
    named = world.named_scores(rows)
    known = np.array([prompt.ids not in world.judge.unjudged for prompt in rows.prompts])
    world.judge.unjudged.clear()
    prompts = np.repeat(np.flatnonzero(known), rows.responses.shape[1])
    return {
        name: clustered_mean(scores[known].ravel(), prompts) if known.any() else None
        for name, scores in named.items()
    }


def told_samples(
    world: TextWorld, state: State, prompts: Rows, players: Players, samples: int
) -> list[tuple[dict[str, float], Rows]]:
    """(direction, responses to the prompts that tell it), for each of the players' tellings; sampled once per round."""
    names = tuple(world.named_scores(prompts.take(np.arange(0))))
    found = []
    for place, (direction, template) in enumerate(players.tellings(names)):
        stage = f"evaluation-told-{place}"

        def sampled(template: str = template, stage: str = stage) -> Rows:
            asked = world.conditioned(prompts, [template] * len(prompts))
            return world.sample(state, asked, START, samples, purpose=stage)

        found.append((direction, world.folder.kept(world.journal.stage(state.round - 1, stage), sampled)))
    return found
