"""Published layouts of reward models that transformers has no class for, told by their tensors.

regression_layer + gating           several attributes, weighted by the prompt (ArmoRM)
value_head [+ prompt_head]          a general preference model, or with one row a reward (OpenRLHF)
pretrained_model + head_layer       both responses in one text, read at marks (PairRM)

None of the code that such folders bring is run.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from equipoise.models.errors import ModelError
from equipoise.models.folder import ModelFolder
from equipoise.reward_models.bodies import context_length, embedding_rows, from_files
from equipoise.reward_models.head import SECTION, Head
from equipoise.reward_models.model import RewardModel, Scales
from equipoise.reward_models.texts import Texts, transcript, unmarked

log = logging.getLogger(__name__)

Found: TypeAlias = tuple[RewardModel, Texts]


@dataclass(frozen=True)
class Source:
    """A model folder that is being read."""

    folder: ModelFolder
    tokenizer: Any
    dtype: Any
    name: str

    def has(self, *prefixes: str) -> bool:
        return all(any(tensor.startswith(prefix) for tensor in self.folder.tensors) for prefix in prefixes)

    def tensors(self, *prefixes: str) -> dict[str, Tensor]:
        """Tensors by the beginning of their names, in fp32. Raises ModelError for one that is not finite."""
        from safetensors import safe_open

        found: dict[str, Tensor] = {}
        for tensor, header in self.folder.tensors.items():
            if tensor.startswith(prefixes):
                with safe_open(str(header.file), framework="pt") as file:
                    found[tensor] = file.get_tensor(tensor).float()
                if not bool(found[tensor].isfinite().all()):
                    raise ModelError(f"{self.name}: the weight {tensor} has NaN or infinite values")
        return found

    def body(self, **how: Any) -> Any:
        from transformers import AutoModel

        return from_files(AutoModel, self.folder, self.dtype, self.name, **how)

    def texts(self, body: Any, **how: Any) -> Texts:
        about = {"rows": embedding_rows(body), "limit": context_length(body)} | how
        return Texts(self.tokenizer, self.name, **about)


def published(folder: ModelFolder, tokenizer: Any, dtype: Any, name: str) -> Found | None:
    """The reward model in a folder of a published layout; None for any other folder. Raises ModelError."""
    source = Source(folder, tokenizer, dtype, name)
    for prefixes, reader in LAYOUTS.items():
        if source.has(*prefixes):
            return reader(source)
    return None


class Linear(nn.Module):
    """A last layer in fp32, whatever the body's dtype."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = None if bias is None else nn.Parameter(bias)

    def forward(self, states: Tensor) -> Tensor:
        return nn.functional.linear(states.float(), self.weight, self.bias)


class Gate(nn.Module):
    """Weights of attributes from a prompt's last state: a perceptron with ReLU, c softmax(z / T)."""

    def __init__(self, layers: list[Linear], temperature: float, scale: Tensor) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.temperature, self.scale = temperature, nn.Parameter(scale)

    def forward(self, states: Tensor) -> Tensor:
        for layer in list(self.layers)[:-1]:
            states = torch.relu(layer(states))
        return torch.softmax(self.layers[-1](states) / self.temperature, dim=-1) * self.scale


def _armo(source: Source) -> Found:
    """Attributes r = W h at the text's end, mixed by M, weighted by a gate that reads the prompt's end."""
    tensors = source.tensors("regression_layer.", "gating.", "reward_transform_matrix")
    try:
        weight, transform = tensors["regression_layer.weight"], tensors["reward_transform_matrix"]
        count = sum(name.startswith("gating.layers.") and name.endswith(".weight") for name in tensors)
        layers = [
            Linear(tensors[f"gating.layers.{i}.weight"], tensors.get(f"gating.layers.{i}.bias"))
            for i in range(count)
        ]
        scale = tensors["gating.logit_scale"].reshape(())
    except KeyError as error:
        raise ModelError(f"{source.name} has attributes with a gate, but lacks {error.args[0]}") from None
    attributes = len(weight)
    if transform.shape != (attributes, attributes) or not layers or len(layers[-1].weight) != attributes:
        raise ModelError(f"{source.name}: its gate and its {attributes} attributes do not fit together")
    bias = tensors.get("regression_layer.bias")
    value = Linear(transform.T @ weight, None if bias is None else transform.T @ bias)
    temperature = _positive(source, "gating_temperature", 10.0)
    names = source.folder.settings.get("id2label")
    labels = list(names.values()) if isinstance(names, Mapping) else []
    if len(set(labels)) != attributes:
        labels = [f"attribute {i}" for i in range(attributes)]
    head = Head(attributes=tuple(map(str, labels)))
    body = source.body()
    texts = source.texts(body)
    return RewardModel(
        body, head, value=value, prompt_head=Gate(layers, temperature, scale), pad=texts.pad
    ), texts


def _value_head(source: Source) -> Found:
    """A reward or an embedding v = W h at the text's end; planes scaled by softmax of W' h at the prompt's end.

    Neither temperature nor normalisation is in the tensors: the section `equipoise` of config.json says them, else they
    are as in the authors' code (unit length; temperature 0.1, of one plane 1), which is said in the log. As there, the
    last token is the end of sequence, and a prompt ends where its template ends without opening an answer.
    """
    tensors = source.tensors("value_head.", "prompt_head.")
    weight = tensors["value_head.weight"]
    section = source.folder.settings.get(SECTION)
    where = f"{source.folder.path}/config.json"
    if section is not None:
        head = Head.of(section, where)
    elif len(weight) == 1:
        head = Head()
    else:
        prompted = "prompt_head.weight" in tensors
        head = Head(kind="gpm", dimension=len(weight), normalise=True, scales=prompted)
        log.warning(
            "%s: its tensors do not say its temperature and whether embeddings have unit length; taken are %s and "
            "unit length; a section %r in its config.json says otherwise",
            source.name,
            head.tau,
            SECTION,
        )
    if head.outputs != len(weight) or (head.scaled and "prompt_head.weight" not in tensors):
        raise ModelError(f"{where}: the head of the section {SECTION!r} does not fit the weights")
    scales = None
    if head.scaled:
        scales = Scales(weight.shape[1], head.planes, total=1.0, divisor=1.0)
        if scales.linear.weight.shape != tensors["prompt_head.weight"].shape:
            raise ModelError(f"{source.name}: prompt_head and value_head do not fit together")
        scales.linear = Linear(tensors["prompt_head.weight"])  # type: ignore[assignment]
    body = source.body()
    texts = source.texts(body, ends=True, opens=False)
    return RewardModel(body, head, value=Linear(weight), prompt_head=scales, pad=texts.pad), texts


class PairRanker(nn.Module):
    """Scores of two responses that are read in one text, at their marks: logit = mean_t [ f_t(x, y1) - f_t(x, y2) ].

    f is a perceptron with tanh on the last states at the marks of the prompt and of a response, one output a task.
    """

    def __init__(self, body: Any, inner: Linear, outer: Linear, marks: tuple[int, int, int]) -> None:
        super().__init__()
        self.body, self.inner, self.outer, self.marks = body, inner, outer, marks

    def forward(self, input_ids: Tensor, attention_mask: Tensor, output_hidden_states: bool = False) -> Any:
        hidden = self.body(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        rows = torch.arange(len(input_ids), device=input_ids.device)
        prompt, first, second = (
            hidden[rows, (input_ids == mark).float().argmax(dim=1)] for mark in self.marks
        )
        scores = [
            self.outer(torch.tanh(self.inner(torch.cat([prompt, state], dim=-1))))
            for state in (first, second)
        ]
        return SimpleNamespace(
            logits=(scores[0] - scores[1]).mean(dim=-1, keepdim=True), hidden_states=(hidden,)
        )


RANKER_MARKS = ("<|source|>", "<|candidate1|>", "<|candidate2|>")
RANKER_LIMIT = 2048  # tokens of the authors' longest text, where the positions are relative


def _ranker(source: Source) -> Found:
    """Both responses in one text, each part a segment of its own with its mark in front."""
    tensors = source.tensors("head_layer.")
    linear = sorted({int(name.split(".")[1]) for name in tensors if name.split(".")[1].isdigit()})
    if len(linear) != 2:
        raise ModelError(
            f"{source.name}: a pair ranker's head has two layers, and this one has {len(linear)}"
        )
    inner, outer = (
        Linear(tensors[f"head_layer.{i}.weight"], tensors.get(f"head_layer.{i}.bias")) for i in linear
    )
    settings = source.folder.settings
    marks = [settings.get(name) for name in ("source_prefix_id", "cand1_prefix_id", "cand2_prefix_id")]
    own = [source.tokenizer.convert_tokens_to_ids(mark) for mark in RANKER_MARKS]
    if marks != own or len(set(own)) < 3:
        raise ModelError(
            f"{source.name}: its tokenizer has no tokens {', '.join(RANKER_MARKS)} with the ids that config.json names"
        )
    body = source.body(key_mapping={r"^pretrained_model\.": ""})
    if inner.weight.shape[1] != 2 * body.config.hidden_size:
        raise ModelError(
            f"{source.name}: the head reads {inner.weight.shape[1]} numbers, which its body does not give"
        )
    relative = not getattr(body.config, "position_biased_input", True)
    limit = RANKER_LIMIT if relative else context_length(body)
    texts = source.texts(body, limit=limit, pairing=_segments)
    ranker = PairRanker(body, inner, outer, (own[0], own[1], own[2]))
    return RewardModel(ranker, Head(kind="pair"), pad=texts.pad), texts


def _segments(tokenizer: Any, prompt: Any, first: str, second: str) -> list[int]:
    """Tokens of the three parts one after the other; a mark that stands in a text is broken up."""
    said = transcript(prompt)
    if not isinstance(prompt, str) and len(prompt) == 1 and prompt[0]["role"] == "user":
        said = str(prompt[0]["content"])
    ids: list[int] = []
    for mark, text in zip(RANKER_MARKS, (said, first, second), strict=True):
        ids += tokenizer(mark + unmarked(text, RANKER_MARKS)).input_ids
    return ids


def _positive(source: Source, name: str, default: float) -> float:
    value = source.folder.settings.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ModelError(
            f"{source.folder.path}/config.json: {name} must be positive, got {json.dumps(value)}"
        )
    return float(value)


LAYOUTS: Mapping[tuple[str, ...], Callable[[Source], Found]] = {
    ("regression_layer.", "gating."): _armo,
    ("value_head.",): _value_head,
    ("pretrained_model.", "head_layer."): _ranker,
}
