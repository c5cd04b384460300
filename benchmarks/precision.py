"""How far a step's gradients are from exact ones, ours beside TRL's, in fp32 and bf16.

python benchmarks/precision.py --pairs FILE   measure, write results/precision.json, then the section of README.md
python benchmarks/precision.py --draw         write the section again from the figures that are there

The first step of DPO of train.py's 5M model on its 8 pairs of dialogues. Exact are log-probs in float64, one response
at a time in a row of its own. An error is |g - g*| / |g*| over all weights, and of the weight where it is largest.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import math
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from accelerate import Accelerator
from common import HERE, machine, table, told, versions, write_section
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from train import BATCH, BETA, OURS, PROGRAMS, ROWS, TUNED, Case, Pair, prepared

from equipoise.core.objectives import Dpo
from equipoise.core.scores import Scores
from equipoise.data.collate import collate
from equipoise.policy.causal import CausalPolicy

RESULTS = HERE / "results" / "precision.json"


def exact(folder: Path, pairs: list[Pair], tokenizer: Any) -> tuple[float, list[Tensor]]:
    """Loss and gradients, as programs have them before their first step."""
    policy = CausalPolicy.load(folder, tokenizer, device="cpu")
    policy = CausalPolicy(policy.model.double(), tokenizer)
    total = 0.0
    for prompt, *answers in pairs:
        rows = [
            policy.logprobs(collate([tuple(prompt)], [[tuple(answer)]], policy.pad))[0] for answer in answers
        ]
        logp = torch.cat(rows, dim=1)
        anchors = {"reference": logp.detach()}
        loss = Dpo(beta=BETA)(Scores(logp=logp, anchors=anchors, length=torch.ones_like(logp))).value.mean()
        (loss / len(pairs)).backward()
        total += float(loss) / len(pairs)
    return total, [p.grad for _, p in policy.parameters() if p.grad is not None]


def first_step(steps: Iterator[float]) -> tuple[float, list[Tensor]]:
    """A program's first loss, and its gradients before they are clipped."""
    found: list[Tensor] = []

    def keep(_: Accelerator, weights: Iterable[Tensor], most: float) -> Tensor:
        weights = list(weights)
        found.extend(p.grad.double() for p in weights if p.grad is not None)
        return clip_grad_norm_(weights, most)

    next(steps)
    with patch.object(Accelerator, "clip_grad_norm_", keep):
        return next(steps), found


def errors(found: list[Tensor], wanted: list[Tensor]) -> tuple[float, float]:
    """Relative errors in the 2-norm: of all weights together, and the largest of one weight's."""
    parts = [
        (float((a - b).square().sum()), float(b.square().sum())) for a, b in zip(found, wanted, strict=True)
    ]
    return (
        math.sqrt(sum(off for off, _ in parts) / sum(whole for _, whole in parts)),
        max(math.sqrt(off / whole) for off, whole in parts if whole),
    )


def measure(source: Path) -> list[dict[str, Any]]:
    cases = [Case("5M", "dialogue", precision, 0, 1, ()) for precision in ("fp32", "bf16")]
    programs = [p for p in (OURS, ROWS, TUNED) if p != TUNED or importlib.util.find_spec("trl")]
    found = []
    with tempfile.TemporaryDirectory() as name:
        pairs, tokenizer = prepared(cases[0], source, Path(name))
        best, wanted = exact(Path(name), pairs, tokenizer)
        for case, program in itertools.product(cases, programs):
            loss, gradients = first_step(PROGRAMS[program](case, Path(name), pairs, tokenizer))
            together, worst = errors(gradients, wanted)
            found.append(
                {"precision": case.precision, "program": program, "gradient": together, "worst": worst}
                | {"loss": abs(loss - best)}
            )
    return found


def section(found: dict[str, Any]) -> str:
    rows = [
        (c["program"], c["precision"], f"{c['gradient']:.1e}", f"{c['worst']:.1e}", f"{c['loss']:.1e}")
        for c in found["cases"]
    ]
    header = ("program", "precision", "all gradients", "worst weight", "loss")
    return "\n".join(
        [
            told(found),
            "",
            *table(header, rows),
            f"The first DPO step of the 5M model on {BATCH} pairs of dialogues, against log-probs in float64, a row "
            "for every response: |g - g*| / |g*|, and the loss's distance from log 2. bf16 is autocast on fp32 weights "
            "for every program.",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=Path)
    parser.add_argument("--draw", action="store_true")
    options = parser.parse_args()
    if not (options.draw or options.pairs):
        parser.error("--pairs FILE is needed to measure")
    torch.set_num_threads(1)
    if not options.draw:
        cases = measure(options.pairs)
        names = ["transformers"] + ["trl"] * bool(importlib.util.find_spec("trl"))
        told_by = {
            "command": "python benchmarks/precision.py --pairs FILE",
            "machine": machine(),
            "versions": versions(*names),
        }
        RESULTS.write_text(json.dumps(told_by | {"cases": cases}, indent=1) + "\n")
    write_section(section(json.loads(RESULTS.read_text())), "precision.py")


if __name__ == "__main__":
    main()
