"""Text embeddings: the mean of an encoder's last states over a text's tokens, or of static vectors of its tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from equipoise.data.errors import DataError
from equipoise.data.rendering.tokens import NO_LIMIT, load_tokenizer
from equipoise.models.adapters import local
from equipoise.models.errors import ModelError
from equipoise.models.files import headers
from equipoise.models.folder import inspect
from equipoise.oracles.placement import Placement
from equipoise.oracles.protocol import OracleError
from equipoise.policy.files import read_tensors
from equipoise.policy.loading import read_model
from equipoise.reward_models.batches import padded
from equipoise.reward_models.bodies import check_finite, context_length, embedding_rows
from equipoise.reward_models.folder import content_hash

STATIC = "embeddings"  # the matrix of a folder of static embeddings, as model2vec names it


class Embedding(Protocol):
    """texts -> vectors [N, D] on the CPU. A vector does not depend on the other texts, but for rounding.

    content   hash of all that a vector depends on
    """

    @property
    def content(self) -> str: ...

    def __call__(self, texts: Sequence[str]) -> Tensor: ...


class StaticEmbedding:
    """Static embeddings: the mean over a text's tokens t of weight[t] vector[row[t]]; 0 for a text without tokens.

    vectors [V, D]   weights [T] of the tokens, or None: 1   rows [T] of the tokens' vectors, or None: the token itself
    """

    def __init__(
        self, vectors: Tensor, tokenizer: Any, content: str, weights: Tensor | None, rows: Tensor | None
    ) -> None:
        self.vectors, self.tokenizer, self.content = vectors.double(), tokenizer, content
        self.weights, self.rows = weights, rows

    def __call__(self, texts: Sequence[str]) -> Tensor:
        return torch.stack([self._mean(text) for text in texts])

    def _mean(self, text: str) -> Tensor:
        ids = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        unknown = self.tokenizer.unk_token_id
        tokens = torch.tensor([i for i in ids if i != unknown], dtype=torch.long)
        if not len(tokens):
            return torch.zeros(self.vectors.shape[1], dtype=torch.float64)
        vectors = self.vectors[tokens if self.rows is None else self.rows[tokens]]
        return (vectors if self.weights is None else vectors * self.weights[tokens, None]).mean(dim=0)


class EncoderEmbedding:
    """Mean pooling: the mean of a model's last hidden states over a text's tokens, special tokens included.

    A text longer than the model's context is read in windows of that length; the mean is over the tokens of all.
    """

    def __init__(self, model: Any, tokenizer: Any, content: str, tokens: int) -> None:
        self.model, self.tokenizer, self.content, self.tokens = model.eval(), tokenizer, content, tokens
        pads = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)  # masked: any token will do
        self.pad = next(pad for pad in pads if pad is not None)
        self.limit = context_length(model) or NO_LIMIT
        self.around = special_tokens_around(tokenizer)

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> Tensor:
        rows = embedding_rows(self.model)
        windows = [(place, window) for place, text in enumerate(texts) for window in self._windows(text)]
        windows.sort(key=lambda each: len(each[1]))
        beyond = next((max(window) for _, window in windows if max(window) >= rows), None)
        if beyond is not None:
            raise OracleError(f"the encoder has no row for token {beyond} of its tokenizer ({rows:,} rows)")
        total = torch.zeros(len(texts), self.model.config.hidden_size, dtype=torch.float64)
        count = torch.zeros(len(texts), 1, dtype=torch.float64)
        while windows:
            most = max(1, self.tokens // len(windows[-1][1]))
            batch, windows = windows[-most:], windows[:-most]
            places = torch.tensor([place for place, _ in batch])
            states, lengths = self._sums([window for _, window in batch])
            total.index_add_(0, places, states)
            count.index_add_(0, places, lengths)
        return total / count.clamp(min=1)

    def _windows(self, text: str) -> list[list[int]]:
        ids = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        opening, closing = self.around
        room = max(1, self.limit - len(opening) - len(closing))
        parts = [ids[begin : begin + room] for begin in range(0, len(ids), room)] or [[]]
        return [window for part in parts if (window := [*opening, *part, *closing])]

    def _sums(self, windows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """([N, D] sums of the states of some windows, [N, 1] their lengths), on the CPU."""
        device = next(self.model.parameters()).device
        ids, mask = padded(windows, self.pad)
        states = self.model(input_ids=ids.to(device), attention_mask=mask.to(device)).last_hidden_state
        kept = mask.to(device)[..., None].bool()
        sums = torch.where(kept, states, torch.zeros_like(states)).double().sum(dim=1).cpu()
        return sums, mask.sum(dim=1, keepdim=True).double()


def special_tokens_around(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The special tokens that a tokenizer puts before and behind a text."""
    bare = list(tokenizer("a", add_special_tokens=False)["input_ids"])
    whole = list(tokenizer("a")["input_ids"])
    for begin in range(len(whole) - len(bare) + 1):
        if whole[begin : begin + len(bare)] == bare:
            return whole[:begin], whole[begin + len(bare) :]
    return [], []


def load_embedding(path: str, placement: Placement) -> Embedding:
    """The embedding of a folder or hub name: static where its weights are a matrix called `embeddings`.

    Raises OracleError, in one sentence, for a folder that is broken or holds neither.
    """
    try:
        folder = local(path, weights=True)
        if not folder.is_dir():
            raise OracleError(f"cannot load embeddings from {path}: there is no such folder")
        content = content_hash(folder)
        if is_static(folder):
            return _static(folder, content)
        return _encoder(inspect(folder).path, placement, content)
    except (ModelError, DataError) as error:
        raise OracleError(f"cannot load embeddings from {path}: {error}") from None


def is_static(folder: Path) -> bool:
    """Whether a folder's weights are static embeddings. Raises ModelError for weights that cannot be read."""
    return STATIC in headers(folder, "model")


def _static(folder: Path, content: str) -> StaticEmbedding:
    tensors, _ = read_tensors(folder / "model.safetensors")
    vectors, weights, rows = tensors[STATIC], tensors.get("weights"), tensors.get("mapping")
    tokenizer = load_tokenizer(folder)
    tokens = max(tokenizer.get_vocab().values()) + 1
    fits = vectors.ndim == 2 and all(each is None or len(each) >= tokens for each in (weights, rows))
    if rows is None:
        fits &= tokens <= len(vectors)
    else:
        fits &= 0 <= int(rows.min()) <= int(rows.max()) < len(vectors)
    if not fits:
        raise OracleError(f"{folder}: its {tokens:,} tokens do not fit its matrix of {list(vectors.shape)}")
    if not bool(torch.isfinite(vectors.double()).all()):
        raise OracleError(f"{folder}: its matrix has NaN or infinite values")
    return StaticEmbedding(vectors, tokenizer, content, weights, rows)


def _encoder(folder: Path, placement: Placement, content: str) -> EncoderEmbedding:
    from transformers import AutoModel

    tokenizer = load_tokenizer(folder)
    dtype = getattr(torch, placement.dtype) if placement.dtype else "auto"
    model, loading = read_model(AutoModel, folder, "an encoder", dtype=dtype)
    # a pooler is not read, and often not stored; transformers would draw anything else that lacks at random
    missing = sorted(name for name in loading["missing_keys"] if not name.startswith("pooler."))
    if missing:
        raise OracleError(f"{folder} lacks weights of the model: {', '.join(missing[:3])}")
    check_finite(model, folder)
    if model.config.is_encoder_decoder:
        model = model.get_encoder()
    device = placement.device or ("cuda" if torch.cuda.is_available() else "cpu")
    return EncoderEmbedding(model.to(device), tokenizer, f"{content} {model.dtype}", placement.tokens)
