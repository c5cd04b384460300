"""Memory, communication and time of a round on paper, for models of 0.5B to 70B on 1 to 64 GPUs.

python benchmarks/scaling_paper.py    write the tables of docs/scaling.md again

Arithmetic, not measurement. The formulas and assumptions are in the functions and in the page's text.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import SHAPES, table

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "scaling.md"
BEGIN, END = "<!-- scaling_paper.py writes from here -->", "<!-- to here -->"


@dataclass(frozen=True)
class Model:
    """A decoder: parameters, layers, width of the residual stream and of all key heads, vocabulary."""

    name: str
    parameters: float
    layers: int
    width: int
    keys: int
    vocabulary: int


@dataclass(frozen=True)
class Gpu:
    """bf16 products (FLOP/s), the share of it that training reaches, memory (bytes, bytes/s), links (bytes/s)."""

    rate: float = 790e12
    reached: float = 0.4
    memory: float = 141e9
    bandwidth: float = 4.3e12
    inside: float = 400e9  # between the GPUs of a node of eight, each
    outside: float = 50e9  # between nodes, for each GPU


@dataclass(frozen=True)
class Round:
    """What a method does in a round: responses written and trained on for a prompt, passes for anchors, epochs."""

    name: str
    written: int
    trained: int
    anchors: int
    prompts: int = 20_000
    prompt: int = 512
    response: int = 512
    batch: int = 64  # comparisons of an optimizer step


MODELS = (
    Model("0.5B", 0.494e9, 24, 896, 128, 151_936),
    Model("1.5B", 1.54e9, 28, 1536, 256, 151_936),
    Model("8B", 8.03e9, 32, 4096, 1024, 128_256),
    Model("70B", 70.6e9, 80, 8192, 1024, 128_256),
)
GPUS = (1, 8, 64)
ROUNDS = (
    Round("SPAC", written=1, trained=3, anchors=1),
    Round("INPO", written=8, trained=2, anchors=2, batch=128),
)
GPU = Gpu()


def forward(model: Model, prompt: int, response: int, count: int) -> float:
    """FLOPs of one pass over a prompt read once and `count` responses: 2 N a token, 4 L d for every seen key."""
    tokens = prompt + count * response
    pairs = prompt**2 / 2 + count * (prompt * response + response**2 / 2)
    return 2 * model.parameters * tokens + 4 * model.layers * model.width * pairs


def state(model: Model) -> float:
    """Bytes of full fine-tuning: weights, gradients and two moments in fp32, a bf16 copy for the products."""
    return (4 + 4 + 8 + 2) * model.parameters


def keys(model: Model, tokens: float) -> float:
    """Bytes of keys and values in bf16."""
    return 2 * 2 * model.layers * model.keys * tokens


def training(model: Model, game: Round, gpus: int) -> tuple[float, float]:
    """(seconds of products, seconds of communication if nothing overlaps) of a round's fit on sharded weights.

    A step gathers bf16 weights twice and scatters fp32 gradients once: 8 N bytes through each GPU's link.
    """
    work = 3 * forward(model, game.prompt, game.response, game.trained) * game.prompts
    link = GPU.inside if gpus <= 8 else GPU.outside
    moved = 8 * model.parameters * (1 - 1 / gpus) * game.prompts / game.batch
    return work / (GPU.rate * GPU.reached * gpus), moved / link


def anchors(model: Model, game: Round, gpus: int) -> float:
    work = game.anchors * forward(model, game.prompt, game.response, game.trained) * game.prompts
    return work / (GPU.rate * GPU.reached * gpus)


def replica(model: Model) -> int:
    """GPUs that hold one copy for sampling, weights in bf16 in half of their memory."""
    return next(n for n in (1, 2, 4, 8, 16) if 2 * model.parameters <= n * GPU.memory / 2)


def generation(model: Model, game: Round, gpus: int, shared: bool = True) -> float:
    """Seconds: prompts at the reached rate; then steps, each the longer of its products and what it reads.

    A step reads all weights once and the keys of all rows; a shared prompt's keys once for its samples.
    """
    each = replica(model)
    copies = max(1, gpus // each)
    reads = 1 if shared else game.written
    held = game.prompt * reads + game.written * game.response  # tokens in the cache for a prompt, at its end
    room = each * GPU.memory * 0.9 - 2 * model.parameters
    flight = min(game.prompts / copies, room / keys(model, held))  # prompts at a time in one copy
    rows = flight * game.written
    read = 2 * model.parameters + keys(
        model, flight * (game.prompt * reads + game.written * game.response / 2)
    )
    step = max(
        2 * model.parameters * rows / (GPU.rate * GPU.reached * each), read / (GPU.bandwidth * 0.7 * each)
    )
    steps = game.response * game.prompts / copies / flight
    prefill = reads * forward(model, game.prompt, 0, 0) * game.prompts
    return prefill / (GPU.rate * GPU.reached * each * copies) + steps * step


def clock(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def memory_rows() -> list[tuple[str, ...]]:
    rows = []
    for model in MODELS:
        needed = state(model)
        least = next(n for n in (1, 2, 4, 8, 16, 32, 64) if needed / n < 0.8 * GPU.memory)
        rows.append(
            (
                model.name,
                f"{needed / 1e9:,.0f} GB",
                f"{least}",
                f"{6 * model.parameters / 1e9:,.0f} GB",
                f"{replica(model)}",
                f"{keys(model, 1) / 1024:.0f} KiB",
                f"{keys(model, 512 + 8 * 512) / 1e9:.2f} GB",
                f"{keys(model, 8 * 1024) / 1e9:.2f} GB",
            )
        )
    return rows


def time_rows() -> list[tuple[str, ...]]:
    rows = []
    for model in MODELS:
        for gpus in GPUS:
            if state(model) / gpus > 0.8 * GPU.memory:
                continue
            for game in ROUNDS:
                products, moved = training(model, game, gpus)
                written = generation(model, game, gpus)
                alone = generation(model, game, gpus, shared=False)
                rows.append(
                    (
                        model.name,
                        str(gpus),
                        game.name,
                        clock(written),
                        clock(alone),
                        clock(anchors(model, game, gpus)),
                        clock(products),
                        clock(moved),
                        f"{written / (written + anchors(model, game, gpus) + max(products, moved)):.0%}",
                    )
                )
    return rows


def measured_rows() -> Sequence[tuple[str, ...]]:
    """FLOPs of `generate` over ours for the cases of results/generate.json, beside the measured ratio."""
    found = json.loads((HERE / "results" / "generate.json").read_text())["cases"]
    shapes = {"5M": Model("5M", 5.05e6, 4, 256, 128, 8192), "100M": Model("100M", 98e6, 12, 768, 256, 32000)}
    rows = []
    for case in found:
        model = shapes.get(case["model"])
        if model is None:
            continue
        # a prompt's tokens need no head
        body = Model(
            "", case["parameters"] - model.vocabulary * model.width, model.layers, model.width, model.keys, 0
        )
        prompt, count, length = round(case["mean_prompt"]), case["samples"], case["tokens"]
        decoded = count * length * 2 * case["parameters"]
        ours = forward(body, prompt, 0, 0) + decoded
        plain = count * forward(body, prompt, 0, 0) + decoded
        prompts = f"{case['prompts']} prompts ({case['lengths']})"
        rows.append(
            (
                f"{case['model']} {case['precision']}, {prompts}, {count} x {length}",
                f"{plain / ours:.2f}",
                f"{case['over_repeated']:.2f}",
                f"{case['ratio']['median']:.2f}",
            )
        )
    return rows


def step_rows() -> Iterator[tuple[str, ...]]:
    """Of every step in results/limit.json: what the page's arithmetic says, and what was found."""
    for case in json.loads((HERE / "results" / "limit.json").read_text())["cases"]:
        if "seconds" not in case:
            continue
        name, shape = f"{case['model']} {case['precision']}", SHAPES[case["model"]]
        attention = case["flops"] - case["flops_of_products"]
        rule = 6 * shape.parameters() * case["tokens"] + attention
        time = statistics.median(case["seconds"])
        best = max(r for forms in case["rates"].values() for r in forms.values())
        flops, counted = case["flops_of_products"] / 1e9, case["flops_counted"] / 1e9
        yield f"{name}: products of a step, counted by PyTorch, GFLOP", f"{flops:,.1f}", f"{counted:,.1f}"
        yield (
            f"{name}: 6 N a token, and attention, beside what a step does, GFLOP",
            *(f"{x / 1e9:,.1f}" for x in (rule, case["flops"])),
        )
        kept = (f"{case[key] / 1024:,.0f}" for key in ("kept_paper", "kept"))
        yield f"{name}: kept for the backward, KiB a token", *kept
        yield (
            f"{name}: share of the fastest product's rate",
            f"{GPU.reached:.0%}",
            f"{case['flops'] / time / best:.0%}",
        )
        yield from sampled_row(case, shape.parameters() - shape.words * shape.width)


def sampled_row(step: dict[str, Any], body: int) -> Iterator[tuple[str, ...]]:
    """A sampled token's cost over a trained one's: a share of its prompt, and the model once."""
    for case in json.loads((HERE / "results" / "generate.json").read_text())["cases"]:
        if (case["model"], case["precision"], case["lengths"]) == (step["model"], step["precision"], "chat"):
            read = 2 * body * case["mean_prompt"] / (case["samples"] * case["tokens"])
            flops = read + 2 * case["parameters"]
            seconds = 1 / statistics.median(case["rates"]["ours"])
            trained = statistics.median(step["seconds"]) / step["tokens"]
            yield (
                f"{step['model']} {step['precision']}: a sampled token over a trained one",
                f"{flops / (step['flops'] / step['tokens']):.2f}",
                f"{seconds / trained:.2f}",
            )


def section() -> str:
    lines = [
        *table(
            (
                "model",
                "training state",
                "GPUs at least",
                "LoRA: fp32 weights and a bf16 copy",
                "GPUs of a sampling copy",
                "keys and values a token",
                "8 samples, shared prompt",
                "8 samples, repeated prompt",
            ),
            memory_rows(),
        ),
        *table(
            (
                "model",
                "GPUs",
                "method",
                "sampling",
                "prompts repeated",
                "anchors",
                "training",
                "communication",
                "share of sampling",
            ),
            time_rows(),
        ),
        "Measured on a processor (`benchmarks/generate.py`), beside the ratio of FLOPs without padding:",
        "",
        *table(("case", "FLOPs", "over repeated prompts", "over `generate`"), list(measured_rows())),
        "And the rest of this page's arithmetic on the same processor, one thread (`benchmarks/limit.py`):",
        "",
        *table(("what", "paper", "measured"), step_rows()),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    before, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{section()}{END}{rest.split(END)[1]}")
