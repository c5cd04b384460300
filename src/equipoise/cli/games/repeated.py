"""A language model that plays a repeated game: what `equipoise play --player --json` prints."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from equipoise.cli.games.play import game_of
from equipoise.evaluate.located import locate
from equipoise.evaluate.repeated.game import Setup, play_repeated, report
from equipoise.evaluate.repeated.players import ModelPlayer, Player, ServerPlayer
from equipoise.evaluate.repeated.text import TEMPLATE, read_template
from equipoise.evaluate.writer import Writer
from equipoise.policy.protocol import Decoding


def player_of(spec: str, decoding: Mapping[str, Any], seed: int) -> Player:
    """The player of a server's YAML file, else of a checkpoint, a run folder or a hub name."""
    if Path(spec).suffix in (".yaml", ".yml"):
        return ServerPlayer.load(Path(spec))
    return ModelPlayer(Writer.load(locate(spec)), Decoding(**decoding), seed)


def play_player(
    spec: str,
    game: str,
    settings: Mapping[str, Any],
    decoding: Mapping[str, Any],
    prompt: Path | None,
    transcript: Path | None,
) -> dict[str, Any]:
    """Play, and report. A server's temperature and length stand in its own file."""
    template = TEMPLATE if prompt is None else read_template(prompt)
    setup = Setup(game=game_of(game), template=template, **settings)  # refused before a model is loaded
    player = player_of(spec, decoding, setup.seed)

    def tick(done: int) -> None:
        if done % max(1, setup.rounds // 10) == 0:
            print(f"{done:,} of {setup.rounds:,} rounds", file=sys.stderr)

    record = play_repeated(setup, player, transcript=transcript, tick=tick)
    return {"game": game, **report(setup, player, record)}
