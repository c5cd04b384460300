"""Tiny tokenizers of each family, trained here, and a helper that writes rows to a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

SENTENCES = [
    "Once upon a time, there was a small dragon who loved to sing songs.",
    "Water boils at 100 degrees. The sky is green: no, the sky is grey.",
    "Human: Hello, who are you? Assistant: I am a small model. yes no Yes No",
    "The capital of Peru is Lima. Name a prime: 7. Say hi! 2+2=4\n\nyes\nno",
]
SPECIALS = ["<unk>", "<s>", "</s>", "<|turn|>", "<|end|>"]
CHATML = (
    "{{ bos_token }}{% for m in messages %}<|turn|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)


def _finished(tokenizer: Tokenizer, *, bos: bool, template: str | None, eos: str) -> PreTrainedTokenizerFast:
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
        )
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token=eos, unk_token="<unk>", pad_token="<unk>"
    )
    made.chat_template = template
    return made


def word_level(
    *, bos: bool = True, template: str | None = None, eos: str = "</s>"
) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator(SENTENCES, trainers.WordLevelTrainer(special_tokens=SPECIALS))
    return _finished(tokenizer, bos=bos, template=template, eos=eos)


def byte_level(
    *, bos: bool = True, template: str | None = None, eos: str = "</s>", prefix_space: bool = False
) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=SPECIALS, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return _finished(tokenizer, bos=bos, template=template, eos=eos)


def prepend_bpe(
    *, bos: bool = True, template: str | None = None, eos: str = "</s>"
) -> PreTrainedTokenizerFast:
    """Like a converted SentencePiece BPE: a "▁" is put before every text, no pre-tokenizer, byte fallback."""
    learner = Tokenizer(models.BPE(unk_token="<unk>"))
    trainer = trainers.BpeTrainer(vocab_size=260, special_tokens=SPECIALS)
    learner.train_from_iterator(["▁" + line.replace(" ", "▁") for line in SENTENCES], trainer)
    learned = json.loads(learner.to_str())["model"]
    vocab = {token: index for token, index in learned["vocab"].items() if token != "\n"}
    raw_bytes = [f"<0x{byte:02X}>" for byte in range(256)]
    vocab = {token: index for index, token in enumerate([*vocab, *raw_bytes])}
    merges = [tuple(pair) for pair in learned["merges"] if {*pair, "".join(pair)} <= set(vocab)]
    tokenizer = Tokenizer(
        models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    tokenizer.add_special_tokens(SPECIALS)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    return _finished(tokenizer, bos=bos, template=template, eos=eos)


def metaspace_unigram(
    *, bos: bool = True, template: str | None = None, eos: str = "</s>"
) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    trainer = trainers.UnigramTrainer(
        vocab_size=120, special_tokens=SPECIALS, unk_token="<unk>", initial_alphabet=list("\n:|0aé")
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return _finished(tokenizer, bos=bos, template=template, eos=eos)


FAMILIES: dict[str, Callable[..., PreTrainedTokenizerFast]] = {
    "word-level": word_level,
    "byte-level": byte_level,
    "byte-level with prefix space": lambda **k: byte_level(prefix_space=True, **k),
    "prepend BPE": prepend_bpe,
    "metaspace Unigram": metaspace_unigram,
}


@pytest.fixture(params=list(FAMILIES))
def family(request: pytest.FixtureRequest) -> Callable[..., PreTrainedTokenizerFast]:
    """A maker of tokenizers, one family after the other."""
    return FAMILIES[request.param]


@pytest.fixture(scope="session")
def makers() -> dict[str, Callable[..., PreTrainedTokenizerFast]]:
    return FAMILIES


@pytest.fixture(scope="session")
def chatml() -> str:
    return CHATML


@pytest.fixture
def rows(tmp_path: Path) -> Callable[..., Path]:
    """rows(a, b, ...) writes the rows as JSON lines and returns the path; text is written as it is."""

    def write(*items: Any, name: str = "data.jsonl") -> Path:
        path = tmp_path / name
        lines = [item if isinstance(item, str) else json.dumps(item) for item in items]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return write
