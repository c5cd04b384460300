"""What stands before a rationale: the prompt, both answers, and the word which of them is better."""

from __future__ import annotations

from equipoise.data.collate import Ids, Prompt, Response
from equipoise.data.render import Renderer
from equipoise.data.revision_prompt import after_answer

ASK = "Another answer was:\n{other}\n\nYour answer is the better one. Why?"


class Reasons:
    """The lead of a rationale: `reasons(prompt, better, worse)`; it is read, never scored.

    chat    whether prompts are chat turns. The better answer stands after the prompt with its own token ids, then what
            asks why, which shows the other answer: a further user turn in the renderer's template, or a paragraph.
    words   False, for models that know no instructions: better answer, worse answer, and the prompt once more.

    Whichever answer is declared better stands first, so turning the declaration round gives another lead. Raises
    DataError for a template that cannot show it.
    """

    def __init__(self, renderer: Renderer, *, chat: bool, words: bool = True) -> None:
        self.renderer, self.codec, self.chat, self.words = renderer, renderer.codec, chat, words

    def __call__(self, prompt: Prompt, better: Response, worse: Response) -> Ids:
        said, other = (self._open(response.ids) for response in (better, worse))
        if not self.words:
            again = prompt.ids[1:] if prompt.ids[:1] == (self.codec.bos,) else prompt.ids
            return said + other + again
        asked = after_answer(self.renderer, self.chat, ASK.format(other=worse.text.strip()))
        return said + tuple(self.codec.continuation(asked))

    def _open(self, ids: Ids) -> Ids:
        return ids[:-1] if ids[-1] in self.codec.specials else ids

    def rationale(self, text: str) -> Ids:
        """The scored ids of a rationale, ended as an answer is."""
        ids = tuple(self.codec.continuation(text.strip() if not self.chat else " " + text.strip()))
        return ids if self.codec.eos is None else (*ids, self.codec.eos)
