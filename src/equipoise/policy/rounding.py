"""Rounding error of a model's plain forward, by Monte Carlo arithmetic: how far a fast path may be from it.

A deep model with large activations rounds far more than a tiny one, and some of its tokens more than others, so that no
fixed bound tells a fault from rounding: in float32 SmolLM2-135M's logits stand up to 4e-4 from float64, at most tokens
1e-5, those of two random layers 3e-7. A fast path is therefore judged, row by row, by the plain path's own rounding,
measured on the model at its real depth: passes are repeated as if rounded in another way. With u the unit of rounding
of a module's result y,

    y <- y (1 + u r),    r uniform in [-1, 1], for every module without children, in the forward and so in its gradient

(Parker's Monte Carlo arithmetic). For b_i a row of the plain path, a_i the fast path's, b_in that of draw n, and
d(a, b) = |a - b| / |b|, a fast path is taken if for all i

    d(a_i, b_i) <= min(TIMES max_n d(b_in, b_i) + FLOOR u, MOST)

Neither float64 nor a second copy of weights is needed, nor a model that runs in float64: held and quantised weights
are measured as they are used. A draw costs one more plain pass, and none is made where the paths agree within FLOOR u.
What is measured agrees with the distance from float64, which tests take on models of 2 to 48 layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

DRAWS = 5  # passes at most, each rounded in another way
TIMES = 8.0  # times the plain path's own rounding that a fast path may differ by
FLOOR = 64.0  # units of rounding in which any two orders of the same sums may differ
MOST = {
    "full": 1e-2,
    "half": 0.1,
}  # relative difference that is a fault whatever the model does, by precision

Rows: TypeAlias = Sequence[Sequence[Tensor]]


def disagreement(
    model: nn.Module, fast: Rows, exact: Rows, again: Callable[[], Rows], dtype: torch.dtype
) -> str:
    """How a fast path's rows differ from the plain ones by more than the plain path rounds, or "".

    fast     rows of the fast path, each of one or several tensors.      exact    the same rows by the plain path.
    again    computes `exact` another time by the model's own modules.
    dtype    of the model's hidden states.
    """
    errors, floor = distances(fast, exact), FLOOR * _unit(dtype)
    most = MOST["full" if floor < 1e-3 else "half"]
    own = [0.0] * len(errors)
    for draw in range(DRAWS + 1):
        allowed = [min(TIMES * rounded + floor, most) for rounded in own]
        wrong = [row for row, error in enumerate(errors) if not error <= allowed[row]]
        if not wrong:
            return ""
        if draw == DRAWS or not all(errors[row] <= most for row in wrong):
            break
        with rounded_again(model, draw):
            own = [max(pair) for pair in zip(own, distances(again(), exact), strict=True)]
    worst = max(wrong, key=lambda row: errors[row] / allowed[row])
    rounds = f", which rounds by {own[worst]:.0e} itself" if own[worst] else ""
    return f"differ by {errors[worst]:.0e} from the plain path{rounds}"


def distances(ours: Rows, exact: Rows) -> list[float]:
    """|a_i - b_i| / |b_i| for each row, in the 2-norm of all its tensors; |a_i - b_i| where b_i is 0."""
    found = []
    for a, b in zip(ours, exact, strict=True):
        off, size = (_norm(x) for x in ([p - q for p, q in zip(a, b, strict=True)], b))
        found.append(off / size if size else off)
    return found


def _norm(parts: Iterable[Tensor]) -> float:
    return math.sqrt(sum(float(part.detach().square().sum(dtype=torch.float64)) for part in parts))


def _unit(dtype: torch.dtype) -> float:
    """Unit of rounding of a dtype, no finer than float32's: transformers normalises in float32."""
    return max(torch.finfo(dtype).eps, torch.finfo(torch.float32).eps)


@contextmanager
def rounded_again(model: nn.Module, draw: int) -> Iterator[None]:
    """Context manager: results of the model's modules are rounded in another way, the same one for the same draw."""
    generator = torch.Generator().manual_seed(draw)

    def perturb(module: nn.Module, inputs: Any, output: Any) -> Any:
        if not isinstance(output, Tensor) or not output.is_floating_point():
            return output
        noise = (2 * torch.rand(output.shape, generator=generator) - 1).to(output.device)
        wide = torch.promote_types(output.dtype, torch.float32)
        return (output.to(wide) * (1 + _unit(output.dtype) * noise.to(wide))).to(output.dtype)

    leaves = [module for module in model.modules() if not any(True for _ in module.children())]
    hooks = [module.register_forward_hook(perturb) for module in leaves]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
