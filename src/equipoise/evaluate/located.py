"""What a name on the command line stands for: a model or adapter, the policy of a run folder, or a file of answers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from equipoise.evaluate.support import delivered, refused
from equipoise.models.adapters import HUB_NAME
from equipoise.models.errors import ModelError
from equipoise.safe_yaml import load as load_yaml
from equipoise.worlds.folder.journal import Journal

TEMPLATE = ("template", "chat_template_kwargs", "system_turn", "reasoning", "template_date")


@dataclass(frozen=True)
class Located:
    """A participant of an evaluation, found and not yet loaded.

    name       what it is called in results.      model  folder or hub name of its policy; None for a file
    file       its file of answers; None for a policy
    run        its run folder, and the round of the policy; None for anything else
    rendering  the template's settings that the run was trained with
    """

    name: str
    model: str | None = None
    file: Path | None = None
    run: Path | None = None
    round: int = 0
    rendering: Mapping[str, Any] = field(default_factory=dict)

    @property
    def journal(self) -> Journal:
        assert self.run is not None
        return Journal(self.run)

    def at(self, round: int) -> Located:
        """The same run's policy after another round; 0 is its start."""
        assert self.run is not None
        return Located(
            f"{self.run.name} (start)" if round == 0 else f"{self.run.name} (round {round})",
            str(self.journal.checkpoint(round)),
            run=self.run,
            round=round,
            rendering=self.rendering,
        )


def locate(spec: str, round: str = "final") -> Located:
    """Find a run folder, a model or adapter folder, a hub name or a file of answers.

    round   of a run folder: "final" (the round that it delivers: the last finished one within the reference's
            support), "best" (among these the round of the highest win rate that the run itself measured), "start", or
            a number

    Raises ModelError for a name that is none of these, and for a round that the run does not have.
    """
    path = Path(spec)
    if path.is_file():
        return Located(path.stem, file=path)
    if (path / "config.yaml").is_file() and (path / "checkpoints").is_dir():
        return _of_run(path, round)
    if path.is_dir():
        return Located(path.resolve().name, model=spec)
    if HUB_NAME.fullmatch(spec) and not spec.endswith((".json", ".jsonl", ".csv", ".parquet")):
        return Located(spec, model=spec)
    raise ModelError(
        f"{spec}: there is no such file or folder; give a model's folder or hub name, a run folder or a file of answers"
    )


def _of_run(folder: Path, round: str) -> Located:
    found = Located(folder.resolve().name, run=folder.resolve(), rendering=_rendering(folder))
    journal = found.journal
    done = journal.rounds_done()
    if round == "final":
        chosen = delivered(journal)
    elif round == "start":
        chosen = 0
    elif round == "best":
        chosen = _best(journal, folder)
    elif round.isdigit():
        chosen = int(round)
    else:
        raise ModelError(f"--round must be final, best, start or a number, got {round!r}")
    if chosen > done or not journal.checkpoint(chosen).is_dir():
        raise ModelError(
            f"{folder} has no policy of round {chosen}: {done} rounds are finished, and `play.keep` may have "
            "deleted earlier ones"
        )
    policy = found.at(chosen)
    return policy if chosen == 0 else Located(
        found.name, policy.model, run=policy.run, round=chosen, rendering=policy.rendering
    )  # fmt: skip


def _best(journal: Journal, folder: Path) -> int:
    bad = refused(journal)
    rates = {
        int(line["round"]): float(line["win_rate"]["value"])
        for line in journal.lines("evaluation.jsonl")
        if line.get("win_rate") and line["round"] and journal.checkpoint(line["round"]).is_dir()
        if line["round"] not in bad
    }
    if not rates or not all(map(math.isfinite, rates.values())):
        raise ModelError(f"{folder} has measured no win rate: give --round final or a number")
    return max(rates, key=lambda k: (rates[k], -k))


def _rendering(folder: Path) -> dict[str, Any]:
    """The template's settings of a run, and the day that it wrote."""
    try:
        settings = load_yaml((folder / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {folder / 'config.yaml'}: {error}") from error
    data = settings.get("data") if isinstance(settings, Mapping) else None
    if not isinstance(data, Mapping):
        raise ModelError(f"{folder / 'config.yaml'} is not the configuration of a run")
    day = folder / "template_date.txt"
    found = {name: data[name] for name in TEMPLATE if data.get(name) is not None}
    if day.is_file() and "template_date" not in found:
        found["template_date"] = day.read_text(encoding="utf-8").strip()
    return found
