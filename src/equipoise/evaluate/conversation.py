"""A conversation with a policy: turns in, answers out, the history kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from equipoise.data.collate import Prompt
from equipoise.evaluate.writer import Writer
from equipoise.models.errors import ModelError
from equipoise.play.seeds import Seeds
from equipoise.policy.generation.sampling import sample
from equipoise.policy.protocol import Decoding


@dataclass
class Chat:
    """Turns of a user and answers of a policy.

    system    system prompt; None: none.     plain   every line is text to continue, without a history
    """

    writer: Writer
    decoding: Decoding
    seed: int = 0
    system: str | None = None
    plain: bool = False
    turns: list[dict[str, Any]] = field(default_factory=list)
    _number: int = 0

    def reset(self, *system: str | None) -> None:
        """Forget the conversation; with an argument, set the system prompt too."""
        self.turns.clear()
        if system:
            self.system = system[0]

    def say(self, text: str) -> str:
        """The answer to a user's turn. The turn and its answer join the history only if there is one.

        Raises Refusal or ModelError for a conversation that the template refuses, or that leaves no room.
        """
        prompt = self._prompt(text)
        room = self.writer.renderer.max_length
        if len(prompt.ids) >= room:
            raise ModelError(
                f"the conversation has {len(prompt.ids)} tokens and the model takes {room}: /reset forgets it"
            )
        self._number += 1
        address = Seeds(self.seed)("chat", self._number)
        ((response,),) = sample(self.writer.policy, [prompt], 1, seed=address, decoding=self.decoding)
        if not self.plain:
            self.turns = [*prompt.context, {"role": "assistant", "content": response.text}]
        return response.text

    def _prompt(self, text: str) -> Prompt:
        if self.plain:
            return self.writer.prompt(text)
        opening = [{"role": "system", "content": self.system}] if self.system and not self.turns else []
        return self.writer.prompt([*opening, *self.turns, {"role": "user", "content": text}])
