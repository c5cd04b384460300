"""What several benchmarks share: the machine, models and pairs that are drawn, fits of them, FLOPs on paper."""

from __future__ import annotations

import os
import platform
import re
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from accelerate import Accelerator
from torch import Tensor

from equipoise.core.objectives import Dpo
from equipoise.core.objectives.base import Objective
from equipoise.data.collate import Prompt, Response
from equipoise.play.rows import Rows
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.scoring.anchor_store import score
from equipoise.worlds.text.fit import Fit, PolicyScoring, Scoring, Training

HERE = Path(__file__).parent
Group = Sequence[list[int]]  # ids of a prompt, then of its responses


def cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def machine() -> dict[str, Any]:
    return {
        "cpu": cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "platform": f"{platform.system()} {platform.machine()}",
        "capability": torch.backends.cpu.get_cpu_capability(),
        "load": os.getloadavg(),
    }


def command(program: str) -> str:
    """What was given to measure, as a line to give again; of an absolute path its last part."""
    given = (re.sub(r"(^|=)/(?:[^/]+/)*([^/]+)/?$", r"\1\2", one) for one in sys.argv[1:])
    return " ".join([f"python benchmarks/{program}", *given])


def versions(*names: str) -> dict[str, str]:
    return {name: version(name) for name in ("equipoise", "torch", *names)} | {
        "python": platform.python_version()
    }


def told(found: dict[str, Any]) -> str:
    """Machine and versions as the first sentence of a section, and how busy the machine was."""
    about = found["machine"]
    made_of = ", ".join(f"{name} {v}" for name, v in found["versions"].items())
    return (
        f"{about['cpu']} ({about['capability']}), {about['threads']} thread of {about['cores']} cores, "
        f"{about['platform']}; {made_of}; load average {about['load'][1]:.1f}. `{found['command']}`."
    )


def write_section(text: str, name: str, page: Path = HERE / "README.md") -> None:
    """Put the text between a page's markers of this program."""
    begin, end = f"<!-- {name} writes from here -->", f"<!-- to here: {name} -->"
    before, rest = page.read_text(encoding="utf-8").split(begin)
    page.write_text(f"{before}{begin}\n{text}\n{end}{rest.split(end)[1]}", encoding="utf-8")


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(row) + " |" for row in (header, *rows)]
    return [lines[0], "|---|" + "---:|" * (len(header) - 1), *lines[1:], ""]


def said(found: Any, signed: bool = False) -> str:
    """A mean with its interval, of `core.intervals`."""
    sign = "+" if signed else ""
    if found["low"] is None:
        return f"{found['value']:{sign}.3f}"
    return f"{found['value']:{sign}.3f} [{found['low']:{sign}.3f}, {found['high']:{sign}.3f}]"


def seconds(act: Callable[[], Any]) -> float:
    """Processor time of one thread."""
    start = time.process_time()
    act()
    return time.process_time() - start


@dataclass(frozen=True)
class Shape:
    """A decoder of Llama's kind: layers, width, MLP's width, heads (all of them with keys), words."""

    layers: int
    width: int
    inner: int
    heads: int
    words: int = 8192

    def products(self) -> list[tuple[int, int, int]]:
        """(times in a layer, inputs, outputs) of the matrices that every token meets: attention's, then the MLP's."""
        return [(4, self.width, self.width), (2, self.width, self.inner), (1, self.inner, self.width)]

    def parameters(self) -> int:
        a_layer = sum(count * a * b for count, a, b in self.products()) + 2 * self.width
        return self.layers * a_layer + self.words * self.width + self.width


SHAPES = {"5M": Shape(4, 256, 688, 4), "100M": Shape(12, 768, 2048, 12)}  # those of train.py


@dataclass(frozen=True)
class Work:
    """FLOPs of one forward pass over some groups: attention's matrices, the MLP's, the scores of keys, the head.

    2 for every weight that a token meets, 4 d for every key that a query sees. A training step takes three times that.
    tokens, scored   through the layers; through the head.
    """

    projections: float
    mlp: float
    attention: float
    head: float
    tokens: int
    scored: int

    @property
    def total(self) -> float:
        return self.projections + self.mlp + self.attention + self.head


def work(shape: Shape, groups: Sequence[Group], *, shared: bool = True, pruned: bool = True) -> Work:
    """Of rows without padding: a prompt once for all its responses or once for each; the last layer's queries, and all
    that follows them, on every token or on those alone that predict a scored one."""
    tokens = scored = pairs = kept = kept_pairs = 0
    for prompt, *responses in groups:
        p = len(prompt)
        lengths = [len(response) - 1 for response in responses]  # the last token predicts nothing
        times = 1 if shared else len(lengths)
        behind = sum(n * p + n * (n + 1) // 2 for n in lengths)
        tokens += times * p + sum(lengths)
        scored += sum(lengths) + len(lengths)
        kept += times + sum(lengths)
        pairs += times * p * (p + 1) // 2 + behind
        kept_pairs += times * p + behind
    (_, d, _), (_, _, inner), _ = shape.products()
    if not pruned:
        kept, kept_pairs = tokens, pairs
    before = shape.layers - 1
    asking = before * tokens + kept  # tokens of all layers that have queries
    return Work(
        projections=2 * 2 * d * d * (shape.layers * tokens + asking),
        mlp=2 * 3 * d * inner * asking,
        attention=4 * d * (before * pairs + kept_pairs),
        head=scored * 2 * d * shape.words,
        tokens=tokens,
        scored=scored,
    )


class Numbers:
    """A tokenizer for models that have none."""

    eos_token_id, pad_token_id = 1, 0

    def batch_decode(self, rows: list[list[int]], **_: Any) -> list[str]:
        return [" ".join(map(str, row)) for row in rows]


def drawn_model(shape: Shape, longest: int = 2048) -> Any:
    """A model of this shape, drawn from its configuration."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.inner,
        vocab_size=shape.words,
        max_position_embeddings=longest,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=1,
        pad_token_id=0,
    )
    return transformers.AutoModelForCausalLM.from_config(config)


def policy_of(shape: Shape, precision: str = "fp32") -> CausalPolicy:
    return CausalPolicy(drawn_model(shape), Numbers(), precision=precision)


def groups_of(count: int, prompt: int, response: int, k: int, words: int, spread: float = 0.0) -> list[Group]:
    """Random tokens; lengths are log-normal around the given ones with this spread, or equal to them."""
    draw = np.random.default_rng(0)

    def some(length: int) -> list[int]:
        n = max(4, round(length * float(np.exp(spread * draw.standard_normal() - spread**2 / 2))))
        return [int(i) for i in draw.integers(2, words, n)]

    return [[some(prompt), *(some(response) for _ in range(k))] for _ in range(count)]


def rows_of(groups: Sequence[Group]) -> Rows:
    """Comparisons: labelled pairs, with an own response of SPAC's or without; more responses have rewards, falling."""
    k = len(groups[0]) - 1
    prompts, responses = np.empty(len(groups), dtype=object), np.empty((len(groups), k), dtype=object)
    for row, (prompt, *answers) in enumerate(groups):
        prompts[row] = Prompt(tuple(prompt), "")
        responses[row] = [Response(tuple(answer), "") for answer in answers]
    rows = Rows(
        prompts=prompts,
        responses=responses,
        weight=np.ones(len(groups)),
        writers=("recorded",) * k,
        prob=np.ones(len(groups)),
    )
    if k <= 3:
        return rows
    return replace(rows, prob=None, reward=np.tile(np.linspace(1.0, 0.0, k), (len(groups), 1)))


def fit_of(
    policy: CausalPolicy,
    groups: Sequence[Group],
    objective: Objective | None = None,
    *,
    batch: int = 8,
    rate: float = 1e-5,
    anchors: dict[str, Tensor] | None = None,
    scoring: Scoring | None = None,
    micro: int | None = None,
    optimizer: str = "adamw",
) -> Fit:
    """A fit that goes through the groups in turn; DPO's reference is the policy as it stands."""
    rows = rows_of(groups)
    pairs = [(p.ids, list(group)) for p, group in zip(rows.prompts, rows.responses, strict=True)]
    return Fit(
        scoring or PolicyScoring(policy, objective or Dpo(beta=0.1)),
        rows,
        {"reference": score(policy, pairs, batch)[0]} if anchors is None else anchors,
        Training(
            batch=batch,
            micro_batch=micro or batch,
            lr=rate,
            schedule="constant",
            warmup=0.0,
            optimizer=optimizer,
        ),
        Accelerator(cpu=policy.device.type == "cpu"),
        lambda epoch: np.arange(len(rows)),
    )
