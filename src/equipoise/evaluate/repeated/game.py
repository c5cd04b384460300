"""Repeated game of a language model against an adversary: its plays, losses and regret (2403.16843)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from equipoise.core.intervals import clustered_mean
from equipoise.data.records import digest
from equipoise.evaluate.repeated.opponents import ADVERSARIES, OPPONENTS, SELF_PLAY, against
from equipoise.evaluate.repeated.players import Player
from equipoise.evaluate.repeated.text import TEMPLATE, GameText, Played, RepeatedGameError, names_of
from equipoise.games.gaps import gap0
from equipoise.games.preference import PreferenceGame
from equipoise.games.repeated.regret import (
    Learner,
    external_regret,
    follow_the_leader,
    hedge,
    regret_growth,
    trend_p_value,
)
from equipoise.games.tabular import TabularPolicy
from equipoise.play.seeds import Seeds
from equipoise.worlds.folder.manifest import append_line, complete_lines

LEAST_ROUNDS = 4
SIGNIFICANT = 0.05


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What is played.

    adversary  one of `ADVERSARIES`
    rounds     T of each run;  repeats  independent runs S
    memory     rounds that the prompt lists; None: all
    template   of the prompt, see `GameText`

    text       of the prompts, made of these

    Raises RepeatedGameError for a game of several prompts, an unknown adversary, too few rounds or a broken template.
    """

    game: PreferenceGame
    adversary: str
    rounds: int
    repeats: int
    memory: int | None = None
    template: str = TEMPLATE
    seed: int = 0
    text: GameText = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.adversary not in ADVERSARIES:
            raise RepeatedGameError(
                f"--adversary must be one of {', '.join(ADVERSARIES)}, got {self.adversary!r}"
            )
        if self.game.prompts != 1:
            raise RepeatedGameError(f"a repeated game has one prompt, this one has {self.game.prompts}")
        if self.game.actions < 2:
            raise RepeatedGameError("a game of one action has no regret")
        if self.rounds < LEAST_ROUNDS or self.repeats < 1:
            raise RepeatedGameError(f"play at least {LEAST_ROUNDS} rounds, once or more")
        object.__setattr__(self, "text", GameText(names_of(self.game.names[0]), self.memory, self.template))

    @property
    def seats(self) -> int:
        """Histories that are played: two for each run in self-play, the opponents behind."""
        return self.repeats * (2 if self.adversary == SELF_PLAY else 1)

    def losses(self, plays: Tensor, move: Tensor) -> Tensor:
        """Losses [seats, A] of the next round, from plays [seats, t, A] before it and its moves [seats, A]."""
        if self.adversary == SELF_PLAY:
            return against(self.game, move.roll(self.repeats, dims=0))
        return OPPONENTS[self.adversary](self.game, plays, Seeds(self.seed))


@dataclass(frozen=True)
class Record:
    """Plays and losses [seats, T, A] of a finished game, and answers without an action. A play of such an answer is
    uniform."""

    plays: Tensor
    losses: Tensor
    unparsed: int
    examples: tuple[str, ...]


def play_repeated(
    setup: Setup,
    player: Player,
    *,
    transcript: Path | None = None,
    tick: Callable[[int], None] = lambda t: None,
) -> Record:
    """Ask the player round by round; rounds that the transcript has of the same game and player are not asked again.

    transcript  a file of JSON lines: what was played, then the answers of each round as they come

    Raises RepeatedGameError for a transcript of something else, and what the player raises.
    """
    kept = _Transcript(transcript, _fingerprint(setup, player), setup.seats) if transcript else None
    answered = kept.read() if kept else []
    text = setup.text
    uniform = torch.full((setup.game.actions,), 1 / setup.game.actions, dtype=torch.float64)
    histories: list[list[Played]] = [[] for _ in range(setup.seats)]
    plays = torch.zeros(setup.seats, setup.rounds, setup.game.actions, dtype=torch.float64)
    losses = torch.zeros_like(plays)
    lost: list[str] = []
    for t in range(setup.rounds):
        if t < len(answered):
            answers = answered[t]
        else:
            asked = [text.prompt(history) for history in histories]
            # half of a character, which a server may send, cannot be stored as UTF-8
            answers = [a.encode("utf-8", "replace").decode() for a in player.answers(asked, t)]
            if kept:
                kept.add(t, answers)
        chosen = [text.action(answer) for answer in answers]
        lost += [answer for answer, action in zip(answers, chosen, strict=True) if action is None]
        for seat, action in enumerate(chosen):
            plays[seat, t] = (
                uniform if action is None else torch.eye(len(uniform), dtype=uniform.dtype)[action]
            )
        losses[:, t] = setup.losses(plays[:, :t], plays[:, t])
        for seat, action in enumerate(chosen):
            histories[seat].append(Played(action, losses[seat, t].tolist()))
        tick(t + 1)
    return Record(plays, losses, len(lost), tuple(dict.fromkeys(lost))[:3])


def report(setup: Setup, player: Player, record: Record) -> dict[str, Any]:
    """Regret by round and its tests, ready for JSON: what `equipoise play --player --json` prints.

    The tests are made on the mean regret over runs, and counted over runs. Hedge and follow the leader are shown on the
    losses that this player met; an adversary that adapts would have played otherwise against them.
    """
    regret = external_regret(record.losses, record.plays)
    whole = regret.mean(dim=0, keepdim=True)
    beside: dict[str, Learner] = {
        "hedge": hedge((8 * torch.tensor(setup.game.actions).log() / setup.rounds).sqrt().item()),
        "follow the leader": follow_the_leader,
    }
    trend, growth = trend_p_value(regret), regret_growth(regret)
    mean_growth = regret_growth(whole)
    average = record.plays.mean(dim=(0, 1))
    asked = setup.seats * setup.rounds
    return {
        "player": player.name,
        "game_actions": list(setup.text.names),
        "adversary": setup.adversary,
        "rounds": setup.rounds,
        "runs": setup.seats,
        "answers": asked,
        "unparsed": record.unparsed,
        "unparsed_examples": list(record.examples),
        "regret": whole[0].tolist(),
        "regret_by_run": regret.tolist(),
        "regret_at_end": dict(
            clustered_mean(regret[:, -1].numpy(), [i % setup.repeats for i in range(setup.seats)])
        ),
        "trend": {"p_value": float(trend_p_value(whole)), "runs_falling": _significant(trend)},
        "growth": {
            "power": _number(mean_growth.power),
            "p_value": _number(mean_growth.p_value),
            "runs_sublinear": _significant(growth.p_value),
        },
        "beside": {
            name: float(external_regret(record.losses, learner(record.losses))[:, -1].mean())
            for name, learner in beside.items()
        },
        "average_play": average.tolist(),
        "gap_of_average_play": float(gap0(setup.game, TabularPolicy.from_probs(average[None])).max()),
    }


def _significant(p_values: Tensor) -> int:
    return int((p_values < SIGNIFICANT).sum())  # nan is no evidence


def _number(value: Tensor) -> float | None:
    return None if bool(value.isnan()) else float(value)


def _fingerprint(setup: Setup, player: Player) -> str:
    about = [setup.adversary, setup.repeats, setup.memory, setup.seed, list(setup.text.names), setup.template]
    return digest([player.fingerprint, setup.game.preference.tolist(), *about])


class _Transcript:
    """Answers of each round in a file, behind a first line that says what they are answers of."""

    def __init__(self, path: Path, settings: str, seats: int) -> None:
        self.path, self.settings, self.seats = path, settings, seats

    def read(self) -> list[list[str]]:
        lines = [line for _, line in complete_lines(self.path)] if self.path.exists() else []
        if not lines:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            append_line(self.path, {"settings": self.settings})
            return []
        if lines[0].get("settings") != self.settings:
            raise RepeatedGameError(
                f"{self.path} is the transcript of another player, game or settings; give another file, or remove it"
            )
        for number, line in enumerate(lines[1:]):
            answers = line.get("answers")
            whole = isinstance(answers, list) and len(answers) == self.seats
            if line.get("round") != number or not whole or not all(isinstance(a, str) for a in answers or ()):
                raise RepeatedGameError(f"{self.path}, line {number + 2}: not round {number} of this game")
        return [line["answers"] for line in lines[1:]]

    def add(self, round: int, answers: Sequence[str]) -> None:
        append_line(self.path, {"round": round, "answers": list(answers)})
