"""Tiny Llama models on a word-level vocabulary, trained from scratch on sampled examples: the playground's players."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")
IGNORED = -100  # label of a token without a loss

Example = tuple[str, str]  # (prompt, answer)


def word_tokenizer(words: Sequence[str], longest: int = 64) -> Any:
    """One token per word; the tokenizer itself puts one BOS before a text and nothing after it."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    known = {word: index for index, word in enumerate((*SPECIAL, *words))}
    tokenizer = Tokenizer(models.WordLevel(known, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", known["<s>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        model_max_length=longest,
        clean_up_tokenization_spaces=False,
    )


def small_llama(tokenizer: Any, width: int = 96, inner: int = 256, longest: int = 64) -> Any:
    """A Llama of two layers, freshly initialised, float32."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=longest,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config).float()


def imitate(
    model: Any,
    tokenizer: Any,
    draw: Callable[[], Sequence[Example]],
    *,
    steps: int,
    rate: float,
    warmup: int = 50,
) -> None:
    """Supervised fine-tuning on a fresh batch of examples at each step; the loss is on the answer and its EOS."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps, pct_start=warmup / steps)
    known = tokenizer.get_vocab()
    model.train()
    for _ in range(steps):
        ids, labels = padded(known, draw())
        logits = model(ids).logits[:, :-1]
        loss = cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    model.eval()


def padded(known: Mapping[str, int], examples: Sequence[Example]) -> tuple[Tensor, Tensor]:
    """(ids, labels) [B, T] of prompts and answers, right-padded; labels are `IGNORED` but on answers and EOS.

    known    the id of each word, which is what a word-level tokenizer knows.
    """
    pad, begin, end, _ = (known[name] for name in SPECIAL)
    heads = [[begin, *(known[word] for word in prompt.split())] for prompt, _ in examples]
    tails = [[*(known[word] for word in answer.split()), end] for _, answer in examples]
    longest = max(len(head) + len(tail) for head, tail in zip(heads, tails, strict=True))
    ids = torch.full((len(examples), longest), pad)
    labels = torch.full((len(examples), longest), IGNORED)
    for row, (head, tail) in enumerate(zip(heads, tails, strict=True)):
        ids[row, : len(head) + len(tail)] = torch.tensor([*head, *tail])
        labels[row, len(head) : len(head) + len(tail)] = torch.tensor(tail)
    return ids, labels
