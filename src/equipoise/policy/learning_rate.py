"""Learning rate of an optimizer: a peak by model size, and its schedule (warm-up, then constant, linear or cosine)."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

Schedule: TypeAlias = Literal["constant", "linear", "cosine"]

# The peak by size is a power law through two points: what preference papers train models of 7 to 8 billion parameters
# with, and what language models below a million need to move within a hundred steps (benchmarks/README.md).
PAPERS_RATE, PAPERS_SIZE = 5e-7, 8e9
EXPONENT = 0.8
HIGHEST = 1e-3
LORA = 10.0


def automatic(parameters: int, *, lora: bool = False, papers: float | None = None) -> float:
    """Peak learning rate of preference training by model size, where none is set.

        min(HIGHEST, r (8e9 / N)^0.8),    r = 5e-7, or a method's own;    ten times that rate r for LoRA

    parameters  N > 0, of the whole model, whether they are trained or not.
    lora        whether low-rank adapters are trained; the bound holds for them too.
    papers      the rate that a method's paper uses for its models of 7 to 8 billion parameters; None: 5e-7.

    Sources: 5e-7 for 7B to 8B is the rate of Zephyr's DPO (alignment handbook), SPPO and INPO; the power law gives
    1.2e-6 at 2.8B, where DPO's authors' code takes 5e-7, and 1.7e-6 at 1.7B, where SmolLM2's recipe takes 1e-6 (as it
    does for 135M and 360M, over a thousand steps). The exponent is ours, from measured runs of 656,000 parameters. Ten
    times for LoRA: the handbook's recipes (5e-6 against 5e-7 at 7B), and "LoRA Without Regret" (Schulman et al. 2025,
    RECALLED), which finds that ratio over many models.

    Decreasing in N. Raises ValueError for a number of parameters or a rate that is not positive.
    """
    rate = PAPERS_RATE if papers is None else papers
    if parameters < 1 or not rate > 0:
        raise ValueError(f"need a model with parameters and a positive rate, got {parameters} and {rate}")
    scaled = rate * (PAPERS_SIZE / parameters) ** EXPONENT * (LORA if lora else 1.0)
    return float(f"{min(HIGHEST, scaled):.2g}")


def rate(step: int, steps: int, *, peak: float, schedule: Schedule, warmup: float) -> float:
    """Learning rate at optimizer step `step` (0-based) of `steps`.

        peak (step + 1) / w                                        for step < w = ceil(warmup steps)
        peak, peak (1 - t), peak (1 + cos(pi t)) / 2               after it, t = (step - w) / (steps - w)

    warmup   share of the steps that rise to the peak; 0: none
    """
    rising = max(1, math.ceil(warmup * steps)) if warmup else 0
    if step < rising:
        return peak * (step + 1) / rising
    if schedule == "constant":
        return peak
    done = (step - rising) / max(1, steps - rising)
    return peak * ((1 - done) if schedule == "linear" else 0.5 * (1 + math.cos(math.pi * done)))
