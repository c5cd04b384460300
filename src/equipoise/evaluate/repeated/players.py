"""Players of a repeated game: a checkpoint on disk, or a model behind an OpenAI-compatible server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from equipoise import safe_yaml
from equipoise.data.records import digest
from equipoise.evaluate.writer import Writer
from equipoise.oracles.file import settings_of
from equipoise.oracles.judges.chat_writer import ChatWriter, WriterFile
from equipoise.oracles.judges.judge_prompt import disarmed
from equipoise.oracles.protocol import OracleError
from equipoise.play.seeds import Seeds
from equipoise.policy.generation.sampling import sample
from equipoise.policy.protocol import Decoding


class Player(Protocol):
    """Who answers prompts.

    fingerprint   of everything that the answers depend on
    answers(prompts, round)   one answer to each; the same for the same prompts, round and fingerprint where the player
                              can promise it
    """

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    def answers(self, prompts: Sequence[str], round: int) -> list[str]: ...


@dataclass(frozen=True)
class ModelPlayer:
    """A policy on disk, asked through its chat template if it has one; its draws are addressed by seed and round."""

    writer: Writer
    decoding: Decoding
    seed: int = 0

    @property
    def name(self) -> str:
        return self.writer.name

    @property
    def fingerprint(self) -> str:
        about = {k: v for k, v in vars(self.decoding).items() if k not in ("batch", "servers", "key")}
        return digest([self.writer.fingerprint, about, self.seed])

    def answers(self, prompts: Sequence[str], round: int) -> list[str]:
        chat = self.writer.renderer.template is not None
        asked = [
            self.writer.prompt([{"role": "user", "content": text}] if chat else text) for text in prompts
        ]
        seed = Seeds(self.seed)("repeated game", round)
        groups = sample(self.writer.policy, asked, 1, seed=seed, decoding=self.decoding)
        return [group[0].text for group in groups]


@dataclass(frozen=True)
class ServerPlayer:
    """A model behind a chat server. What it answers again is the server's business: the transcript is what lasts."""

    file: WriterFile
    name: str

    @classmethod
    def load(cls, path: Path) -> ServerPlayer:
        """The player of a YAML file. Raises OracleError that names the file and the setting."""
        try:
            settings = safe_yaml.load(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise OracleError(f"cannot read the player {path}: {error}") from error
        return cls(settings_of(WriterFile, settings, path, what="player"), str(path))

    @property
    def fingerprint(self) -> str:
        return digest(["chat server", self.file.plain()])

    def answers(self, prompts: Sequence[str], round: int) -> list[str]:
        after = "with --transcript the same command goes on from the last finished round"
        asked = [
            (round * len(prompts) + i, [{"role": "user", "content": disarmed(prompt)}])
            for i, prompt in enumerate(prompts)
        ]
        made = ChatWriter(self.file, f"player {self.name}", after).write(asked)
        return [charged.reply.text for charged in made]
