"""An answer and the request for a better one, as the tokens between a prompt and the improved answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from equipoise.data.collate import Ids, Prompt, Response
from equipoise.data.errors import DataError
from equipoise.data.records import Message
from equipoise.data.render import Renderer
from equipoise.data.templates import plain_transcript

INSTRUCTION = "Improve your answer."

Leads = Callable[
    [Prompt, Response], Ids
]  # (prompt, earlier answer) -> the lead of an answer that improves it


class Revision:
    """The lead of an improved answer: `revision(prompt, previous)`.

    chat         whether prompts are chat turns: the instruction is then a further user turn, in the renderer's
                 template or plain transcript; after a text it is a paragraph of its own.
    instruction  what asks for a better answer. None, for text only, asks the prompt once more: for models that know
                 no instructions, because the answer then follows what it followed in their training.

    Prompt and earlier answer keep their own token ids, so what was sampled is what is read. What comes between is
    rendered once: the end of the answer's turn, the instruction and the opening of the next answer. The token that
    ended the answer is left out, because a template closes the turn itself and EOS would end a plain text.

    Raises DataError for an empty instruction, for None with chat turns, and for a template that does not show
    answer and instruction in order.
    """

    def __init__(self, renderer: Renderer, *, chat: bool, instruction: str | None = INSTRUCTION) -> None:
        if (chat and instruction is None) or (instruction is not None and not instruction.strip()):
            raise DataError("no instruction to improve an answer", hint="say what is asked, in words")
        self.codec, self.again = renderer.codec, instruction is None
        self.tail: Ids = tuple(self.codec.continuation(after_answer(renderer, chat, instruction)))

    def __call__(self, prompt: Prompt, previous: Response) -> Ids:
        said, asked = previous.ids, prompt.ids if self.again else ()
        said = said[:-1] if said[-1] in self.codec.specials else said
        return said + self.tail + (asked[1:] if asked[:1] == (self.codec.bos,) else asked)


def both_roles(prompt: Prompt, won: Response, lost: Response, lead: Leads) -> tuple[Response, ...]:
    """The six responses that SRPO reads of a pair, in its columns' order (`core.objectives.srpo`).

    The first two follow the prompt; the others a lead, and their log-probs are not known yet.
    """

    def given(response: Response, previous: Response) -> Response:
        return replace(response, lead=lead(prompt, previous), logp=None)

    return won, lost, given(won, lost), given(lost, won), given(won, won), given(lost, lost)


def after_answer(renderer: Renderer, chat: bool, instruction: str | None) -> str:
    """The text between an answer and the one that improves it, read off a conversation of three turns."""
    if instruction is None:
        return "\n\n"
    instruction = instruction.strip()
    if not chat:
        return f"\n\n{instruction}\n"
    answer = "Responsum"
    turns = [
        Message(role="user", content="Quaestio"),
        Message(role="assistant", content=answer),
        Message(role="user", content=instruction),
    ]
    whole = plain_transcript(turns) if renderer.template is None else renderer.template.context(turns)
    _, shown, after = whole.partition(answer)
    if not shown or instruction not in after:
        raise DataError(
            "the chat template does not show an earlier answer and then the request to improve it",
            hint="give a template for several turns, or choose `template: plain`",
        )
    return after
