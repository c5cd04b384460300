"""Tokenizer conventions, probed once: BOS, EOS, dummy spaces, special tokens. Loads no model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from equipoise.data.errors import DataError
from equipoise.models.adapters import HUB_NAME, lineage
from equipoise.models.errors import first_line
from equipoise.models.files import check_files
from equipoise.models.tokenizer import TOKENIZER_FILES, settings_of, tokenizer_folder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Control text of some model family, whether or not it is special to this tokenizer.
CONTROL_TEXT = ("[INST]", "[/INST]", "<image>")
NO_LIMIT = 2**20  # positions, where the configuration names no limit
UNFINISHED = "\ufffd"  # what the bytes of a part of a character decode to
LONGEST_CHARACTER = 8  # tokens; emoji of several code points become whole one after the other
# Texts to put before a continuation; the first one whose tokens do not merge with it is used.
SENTINELS = ("\n", ":", "|", "0", "a", "é")


def load_tokenizer(path: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder or hub name, without running any code that comes with it.

    An adapter without a tokenizer has that of the model it stands on. A local folder needs no network. Raises DataError
    if it cannot be loaded, ModelError for a broken folder.
    """
    from transformers import AutoTokenizer

    folder = tokenizer_folder(path)
    if not folder.is_dir() and not HUB_NAME.fullmatch(str(path)):
        raise DataError("no such folder", file=str(path), hint="give a model's folder or its name on the hub")
    if folder.is_dir():
        check_files(folder)
        if not any((folder / name).is_file() for name in TOKENIZER_FILES):
            raise DataError(
                "no tokenizer in this folder",
                file=str(folder),
                hint="expected tokenizer.json in the model's folder",
            )
    try:
        return AutoTokenizer.from_pretrained(
            str(folder), trust_remote_code=False, local_files_only=folder.is_dir()
        )
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - the Rust library also panics, which is no Exception
        raise DataError(
            f"cannot load a tokenizer: {first_line(error)}",
            file=str(path),
            hint="copy or download the model's files again, or give another folder or hub name",
        ) from None


def longest_sequence(path: str | Path) -> int:
    """A model's context length (`max_position_embeddings`), from its configuration alone; NO_LIMIT if it names none.

    Raises ModelError if the configuration cannot be used.
    """
    folder = lineage(path)[-1]
    if folder.is_dir() and not (folder / "config.json").is_file():
        return NO_LIMIT
    return int(getattr(settings_of(folder), "max_position_embeddings", None) or NO_LIMIT)


class Codec:
    """Encodes and decodes text as generation sees it.

    bos       id that the tokenizer prepends to a text, None if it prepends none
    eos       id that ends an answer, None if there is none
    specials  ids of the tokenizer's special tokens; special_texts: their texts -> ids, the
              longest first, without the token of unknown words
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        habit = list(tokenizer("a", add_special_tokens=True)["input_ids"])
        self.bos: int | None = habit[0] if habit and habit[0] == tokenizer.bos_token_id else None
        self.eos: int | None = tokenizer.eos_token_id
        added = tokenizer.added_tokens_decoder
        self.specials = frozenset(tokenizer.all_special_ids) | {
            i for i, token in added.items() if token.special
        }
        unknown = {tokenizer.unk_token_id} - {self.eos}  # written for any unknown word, so it marks nothing
        texts = {str(added[i].content): i for i in added if i in self.specials - unknown}
        self.special_texts = {text: texts[text] for text in sorted(texts, key=len, reverse=True)}
        marks = sorted(texts.keys() | set(CONTROL_TEXT), key=len, reverse=True)
        self._control = re.compile("|".join(map(re.escape, marks)))
        self._heads = {text: self.ids(text) for text in SENTINELS}
        alone = self.ids("x")
        self._adds_space = self._after_sentinel("x") not in (None, alone)

    def ids(self, text: str) -> list[int]:
        """The tokens of a text, without special tokens added at either end."""
        return list(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def opening(self, text: str) -> list[int]:
        """The tokens of a text that begins a sequence: BOS once, if the tokenizer prepends one."""
        ids = self.ids(text)
        return ids if self.bos is None or ids[:1] == [self.bos] else [self.bos, *ids]

    def continuation(self, text: str) -> list[int]:
        """The tokens of a text that continues a sequence.

        Tokenizers of the SentencePiece family prepend a dummy space to every text. The text is therefore encoded
        after a sentinel, whose tokens are then removed: no token spans the join, so the rest is the encoding of
        the text without the dummy space.
        """
        if not self._adds_space:
            return self.ids(text)
        after = self._after_sentinel(text)
        return self.ids(text) if after is None else after

    def _after_sentinel(self, text: str) -> list[int] | None:
        for sentinel, head in self._heads.items():
            whole = self.ids(sentinel + text)
            if whole[: len(head)] == head:
                return whole[len(head) :]
        return None

    def text(self, ids: Sequence[int], *, specials: bool = False) -> str:
        """The text of a continuation, with its leading space; special tokens only if `specials`."""
        if not self._adds_space:
            return self._decode(ids, specials)
        head = self._heads["a"]
        before, whole = self._decode(head, specials), self._decode([*head, *ids], specials)
        return whole[len(before) :] if whole.startswith(before) else self._decode(ids, specials)

    def _decode(self, ids: Sequence[int], specials: bool) -> str:
        text = self.tokenizer.decode(
            list(ids), skip_special_tokens=not specials, clean_up_tokenization_spaces=False
        )
        return str(text)

    def shown(self, ids: Sequence[int]) -> list[str]:
        """The text of each token, special tokens included, for messages and `data check`.

        A character that several tokens spell stands whole at the last of them; the others show nothing.
        """
        shown: list[str] = []
        waiting: list[int] = []
        for index in ids:
            waiting.append(index)
            text = self.text(waiting, specials=True)
            whole = UNFINISHED not in text or len(waiting) == LONGEST_CHARACTER
            shown.append(text if whole else "")
            waiting = [] if whole else waiting
        if waiting:  # a text that ends within a character
            shown[-1] = self.text(waiting, specials=True)
        return shown

    def special_of(self, index: int) -> str:
        """The text of a special token."""
        return str(self.tokenizer.convert_ids_to_tokens(index))

    def controls(self, text: str) -> list[str]:
        """Special-token text inside a plain text: it may end a turn early, or open one."""
        return list(dict.fromkeys(self._control.findall(text)))
