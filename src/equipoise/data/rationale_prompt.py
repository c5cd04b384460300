"""Rationale prompts: both answers and the statement which is better, as tokens before the scored rationale."""

from __future__ import annotations

from equipoise.data.collate import Ids, Prompt, Response
from equipoise.data.rendering.render import Renderer
from equipoise.data.revision_prompt import after_answer, opened

ASK = "Another answer was:\n{other}\n\nYour answer is the better one. Why?"


class RationalePrompt:
    """The lead of a rationale, `rationale_prompt(prompt, better, worse)`: tokens that are read, never scored.

    A lead is the part of a row between prompt and scored response (`collate.Response`). Here it holds the better
    answer, with its own token ids, and then the question why it is better, which quotes the other answer.

    chat    whether prompts are chat turns: the question is then a further user turn in the renderer's template or
            plain transcript; after a text it is a separate paragraph.
    words   False, for models that follow no instructions: better answer, worse answer, and the prompt repeated.

    The answer declared better comes first, so the opposite declaration gives a different lead. Raises DataError for
    a template that cannot show it.
    """

    def __init__(self, renderer: Renderer, *, chat: bool, words: bool = True) -> None:
        self.renderer, self.codec, self.chat, self.words = renderer, renderer.codec, chat, words

    def __call__(self, prompt: Prompt, better: Response, worse: Response) -> Ids:
        first, second = (opened(self.codec, response) for response in (better, worse))
        if not self.words:
            again = prompt.ids[1:] if prompt.ids[:1] == (self.codec.bos,) else prompt.ids
            return first + second + again
        asked = after_answer(self.renderer, self.chat, ASK.format(other=worse.text.strip()), prompt.context)
        return first + tuple(self.codec.continuation(asked))

    def rationale(self, text: str) -> Ids:
        """The scored ids of a rationale, ended like an answer: EOS if the tokenizer has one."""
        ids = tuple(self.codec.continuation(text.strip() if not self.chat else " " + text.strip()))
        return ids if self.codec.eos is None else (*ids, self.codec.eos)
