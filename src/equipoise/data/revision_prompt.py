"""Revision prompts: an earlier answer and the request to improve it, as tokens before the improved answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from equipoise.data.collate import Ids, Prompt, Response, laid_out
from equipoise.data.errors import DataError
from equipoise.data.records import Message, template_kwargs_of, tools_of
from equipoise.data.rendering.render import Renderer
from equipoise.data.rendering.templates import plain_transcript
from equipoise.data.rendering.tokens import Codec

INSTRUCTION = "Improve your answer."

# (prompt, earlier answer) -> lead: the tokens between the prompt and the answer that improves on it
Leads = Callable[[Prompt, Response], Ids]


class RevisionPrompt:
    """The lead of an improved answer, `revision_prompt(prompt, previous)`: tokens that are read, never scored.

    A lead is the part of a row between prompt and scored response (`collate.Response`). Here it holds the earlier
    answer and a revision turn that asks for a better one.

    chat         whether prompts are chat turns: the instruction is then a further user turn, in the renderer's
                 template or plain transcript; after a text it is a separate paragraph.
    instruction  the request for a better answer. None, for text only, repeats the prompt instead: for models that
                 follow no instructions, because the answer then follows what it followed in training.

    The earlier answer keeps its own token ids, so the sampled tokens are the tokens read. The text after it is
    rendered once: the end of the answer's turn, the instruction and the opening of the next answer. The token that
    ended the answer is left out, because a template closes the turn itself and EOS would end a plain text.

    Raises DataError for an empty instruction, for None with chat turns, and for a template that does not show
    answer and instruction in order.
    """

    def __init__(self, renderer: Renderer, *, chat: bool, instruction: str | None = INSTRUCTION) -> None:
        if (chat and instruction is None) or (instruction is not None and not instruction.strip()):
            raise DataError("no instruction to improve an answer", hint="give the instruction in words")
        self.renderer, self.chat, self.instruction = renderer, chat, instruction
        self.codec, self.again = renderer.codec, instruction is None
        self._tails: dict[str, Ids] = {}
        self._tail(())

    def __call__(self, prompt: Prompt, previous: Response) -> Ids:
        repeated = prompt.ids if self.again else ()
        tail = self._tail(prompt.context)
        return (
            opened(self.codec, previous)
            + tail
            + (repeated[1:] if repeated[:1] == (self.codec.bos,) else repeated)
        )

    def _tail(self, context: Any) -> Ids:
        """The tokens after the answer, in the template as this prompt's tools and settings make it."""
        key = repr((tools_of(context), template_kwargs_of(context)))
        if key not in self._tails:
            after = after_answer(self.renderer, self.chat, self.instruction, context)
            self._tails[key] = tuple(self.codec.continuation(after))
        return self._tails[key]


def leads_of(renderer: Renderer, chats: Iterable[bool], instruction: str | None = INSTRUCTION) -> Leads:
    """Leads of revisions for prompts of both kinds: chat turns or text, as each prompt is.

    chats        the kinds that occur; a template that shows no revision turn is refused for these alone.
    instruction  as in `RevisionPrompt`.
    """
    kinds = {chat: RevisionPrompt(renderer, chat=chat, instruction=instruction) for chat in set(chats)}
    return lambda prompt, previous: kinds[not isinstance(prompt.context, str)](prompt, previous)


def both_roles(prompt: Prompt, won: Response, lost: Response, lead: Leads) -> tuple[Response, ...]:
    """The six responses that SRPO reads of a pair, in its columns' order (`core.objectives.srpo`).

    The first two follow the prompt directly; the others follow a lead, and their log-probs are not yet known.
    """

    def given(response: Response, previous: Response) -> Response:
        return replace(response, lead=lead(prompt, previous), logp=None)

    return won, lost, given(won, lost), given(lost, won), given(won, won), given(lost, lost)


def opened(codec: Codec, response: Response) -> Ids:
    """All tokens of a response, read ones too, without the one that ended it."""
    ids, _ = laid_out(replace(response, lead=()))
    return ids[:-1] if ids[-1] in codec.specials else ids


def after_answer(renderer: Renderer, chat: bool, instruction: str | None, context: Any = ()) -> str:
    """The text between an answer and the improved one, taken from a rendered conversation of three turns.

    context    of the prompt, for the tools and template settings that belong to it
    """
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
    if renderer.template is None:
        whole = plain_transcript(turns)
    else:
        whole = renderer.template.context(turns, tools_of(context), template_kwargs_of(context))
    _, shown, after = whole.partition(answer)
    if not shown or instruction not in after:
        raise DataError(
            "the chat template does not show an earlier answer and then the request to improve it",
            hint="give a template for several turns, or choose `template: plain`",
        )
    return after
