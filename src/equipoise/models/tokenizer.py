"""Tokenizer against embedding: every token that a text can contain must have a row in the model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from equipoise.models.adapters import lineage
from equipoise.models.errors import ModelError, first_line
from equipoise.models.files import read_object
from equipoise.models.folder import check_settings

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")


def tokenizer_folder(path: str | Path) -> Path:
    """The folder whose tokenizer a model uses: its own, or for an adapter without one that of what it stands on."""
    folders = lineage(path)
    having = (f for f in folders if any((f / name).is_file() for name in TOKENIZER_FILES))
    return next(having, folders[0])


def settings_of(path: str | Path) -> Any:
    """The transformers configuration of a model, of an adapter's base for an adapter. Raises ModelError."""
    from transformers import AutoConfig

    folder = lineage(path)[-1]
    if (folder / "config.json").exists():
        check_settings(folder, read_object(folder / "config.json"))
    try:
        return AutoConfig.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True)
    except Exception as error:  # noqa: BLE001 - a configuration class may raise anything
        raise ModelError(f"{folder}/config.json cannot be used: {first_line(error)}") from None


def embedding_rows(path: str | Path) -> int | None:
    """Rows of a model's embedding, from its configuration; None if that names none, or in a tokenizer's own folder."""
    folder = lineage(path)[-1]
    if folder.is_dir() and not (folder / "config.json").exists():
        return None
    rows = getattr(settings_of(path).get_text_config(), "vocab_size", None)
    return rows if isinstance(rows, int) else None


def check_tokenizer(path: str | Path, tokenizer: Any, rows: int | None = None) -> dict[int, str]:
    """Check that the tokens which every run needs have a row in the embedding; no weight is read.

    rows    of the embedding; None: as the model's configuration says.

    Returns the other tokens without a row, {id: token}: a text that contains one cannot be read (`check_ids`). Some
    published models have such a token and never use it. Raises ModelError if a special token (end of sequence, padding
    and so on) or a token of the chat template has no row.
    """
    rows = embedding_rows(path) if rows is None else rows
    if rows is None:
        return {}
    beyond = {index: str(token) for token, index in tokenizer.get_vocab().items() if index >= rows}
    if not beyond:
        return {}
    template = tokenizer.chat_template
    texts = "".join(template.values() if isinstance(template, Mapping) else [template or ""])
    for name, token in tokenizer.special_tokens_map.items():
        if isinstance(token, str) and tokenizer.convert_tokens_to_ids(token) in beyond:
            raise ModelError(_no_row(path, rows, tokenizer.convert_tokens_to_ids(token), token, name))
    for index, token in sorted(beyond.items()):
        if token in texts:
            raise ModelError(_no_row(path, rows, index, token, "the chat template"))
    return beyond


def check_ids(path: str | Path, rows: int | None, sequences: Iterable[Sequence[int]], tokenizer: Any) -> None:
    """Check that all tokens of some texts have a row in the embedding. Raises ModelError naming the first without."""
    for ids in sequences:
        if rows is not None and ids and max(ids) >= rows:
            token = str(tokenizer.convert_ids_to_tokens(max(ids)))
            raise ModelError(_no_row(path, rows, max(ids), token, "a text"))


def _no_row(path: str | Path, rows: int, index: int, token: str, where: str) -> str:
    return (
        f"{path}: the tokenizer gives {token!r} the id {index}, which {where} uses, but the model's embedding has "
        f"{rows:,} rows; enlarge it (resize_token_embeddings in transformers) or use the model's own tokenizer"
    )
