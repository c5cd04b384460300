"""Prompts of a run: the language game's, and those that ask a goal-conditioned policy for the best response."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from equipoise.data.collate import Prompt
from equipoise.data.goals import GOAL, SENTENCE, Goals, relabelled
from equipoise.data.reading.read import Dataset
from equipoise.data.records import oracle_context
from equipoise.data.rendering.render import Rendered, Renderer
from equipoise.play.needs import Needs
from equipoise.playground.choice import Game
from equipoise.run.config import ConfigError
from equipoise.run.sections.data import DataSettings


def reads_goals(data: DataSettings, needs: Needs) -> bool:
    """Whether the records are read at goals: the method needs them so, or `data.at_goals` says it.

    Raises ConfigError where `data.at_goals` is set for records that have no two scores to be read at.
    """
    if needs.goals or not data.at_goals:
        return needs.goals
    if needs.records not in ("pairs", "demonstrations") or needs.margins or needs.rationales or data.shots:
        raise ConfigError(
            "data.at_goals is for methods that train on pairs or demonstrations, without margins, rationales or "
            f"data.shots; this one reads {needs.data}"
        )
    return True


def with_goals(data: DataSettings, dataset: Dataset) -> Dataset:
    """Every scored pair at the goals of both responses (`data.goals`)."""
    return relabelled(dataset, data.goal or SENTENCE, data.goal_levels)[0]


def best_prompts(data: DataSettings, items: Sequence[Rendered], renderer: Renderer) -> list[Prompt]:
    """The distinct prompts of relabelled pairs, each asked for the best response; judges read the prompt alone.

    A prompt that leaves no room for a response with the sentence of the best goal is left out, as it is in training.
    """
    goals = _goals(data, [str(item.record.attributes[GOAL]) for item in items])
    made: dict[str, Prompt] = {}
    for item in items:
        record = item.record
        bare = goals.bare(record.context, str(record.attributes[GOAL]))
        ids = renderer.prompt(
            oracle_context(goals.conditioned(bare, goals.best)),
            tools=record.tools,
            template_kwargs=record.template_kwargs,
        )
        prompt = Prompt(ids, oracle_context(bare, record.tools, record.template_kwargs), renderer.text(ids))
        if len(ids) < renderer.max_length:
            made.setdefault(record.group, prompt)
    return list(made.values())


def game_prompts(game: Game, renderer: Renderer, data: DataSettings | None = None) -> list[Prompt]:
    """The language game's prompts, rendered for the policy; with `data` it is asked for the best response.

    Judges read the request itself. Raises ConfigError for goals without names: no scores have been seen.
    """
    if data and not data.goal_levels:
        raise ConfigError(
            "the language game is read at goals by name: give data.goal_levels, the worst first, such as [asks, tea.]"
        )
    goals = _goals(data, data.goal_levels) if data else None

    def asked(text: str) -> str:
        return str(goals.conditioned(text, goals.best)) if goals else text

    return [Prompt(renderer.prompt(asked(text)), text, text) for text in game.prompts]


def _goals(data: DataSettings, seen: Sequence[str]) -> Goals:
    """Goals whose best one is the last level, or the highest score among those seen."""
    goals = Goals(sentence=data.goal or SENTENCE, levels=tuple(data.goal_levels))
    return replace(goals, best=goals.levels[-1] if goals.levels else max(seen, key=float))
