"""The limit of this machine, and the share of it that a training step reaches.

python benchmarks/limit.py           measure, write results/limit.json, then the section of README.md
python benchmarks/limit.py --draw    write the section again from the figures that are there
python benchmarks/limit.py --quick   the small model only

Products are timed at the shapes of our own steps (the models of train.py, 8 pairs whose lengths are drawn around
those of dialogues, packed into one row), each in the three forms that a step needs. The limit of a step is the time
its FLOPs, counted on paper, would take at those rates. What a step does beside them is read off a profile.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from common import (
    HERE,
    SHAPES,
    Group,
    Shape,
    command,
    fit_of,
    groups_of,
    machine,
    policy_of,
    seconds,
    table,
    told,
    versions,
    work,
    write_section,
)
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from equipoise.policy.scoring.microbatch import bytes_per_token

RESULTS = HERE / "results" / "limit.json"
BATCH, STEPS = 8, {"5M": 5, "100M": 2}
LEAST = 0.15  # seconds for which a product is repeated
FORMS = ("forward", "input gradient", "weight gradient")
PARTS = ("products", "attention", "head", "elementwise", "optimizer", "Python")


def dialogues(shape: Shape) -> Sequence[Group]:
    return groups_of(BATCH, 130, 50, 2, shape.words, spread=0.6)


def rate(act: Callable[[], Any], amount: float) -> float:
    """The amount for a second of processor time, in the fastest of three rounds; one is enough of what takes long."""
    act()
    once = max(seconds(act), 1e-6)
    count = round(LEAST / once / 3)
    rounds = [seconds(lambda: [act() for _ in range(count)]) / count for _ in range(3 if count else 0)]
    return amount / min([once, *rounds])


def product_rates(n: int, inside: int, outside: int, dtype: torch.dtype) -> dict[str, float]:
    """FLOP/s of a linear layer on n tokens: y = x w^T, g w and g^T x."""
    x, g, w = (torch.randn(a, b).to(dtype) for a, b in ((n, inside), (n, outside), (outside, inside)))
    forms = (lambda: x @ w.T, lambda: g @ w, lambda: g.T @ x)
    return {name: rate(form, 2.0 * n * inside * outside) for name, form in zip(FORMS, forms, strict=True)}


def shapes_of(shape: Shape) -> dict[str, tuple[int, int, int]]:
    """(tokens, inputs, outputs) of a step's products."""
    about, d = work(shape, dialogues(shape)), shape.width
    return {
        "projections": (about.tokens, d, d),
        "MLP, in": (about.tokens, d, shape.inner),
        "MLP, out": (about.tokens, shape.inner, d),
        "head": (about.scored, d, shape.words),
    }


def bandwidth() -> dict[str, float]:
    """Bytes a second between memory and one core, in tensors larger than any cache."""
    a, b = torch.ones(2**26), torch.ones(2**26)
    return {
        "read (sum)": rate(lambda: a.sum(), 4.0 * a.numel()),
        "read and write (copy)": rate(lambda: b.copy_(a), 8.0 * a.numel()),
        "two reads and a write (add)": rate(lambda: torch.add(a, b, out=b), 12.0 * a.numel()),
    }


def added(onto: torch.Size, a: torch.Size, b: torch.Size, **_: Any) -> int:
    """FLOPs of onto += a b, which PyTorch's counter does not know."""
    return 2 * a[0] * a[1] * b[1]


def part_of(event: FunctionEvent) -> str:
    """Which part of a step an operation belongs to, by what it is and by what called it."""
    names, above = [event.name], event.cpu_parent
    while above is not None:
        names.append(above.name)
        above = above.cpu_parent
    if any("Optimizer" in name or "clip_grad" in name for name in names):
        return "optimizer"
    if any("TokenLogps" in name for name in names):
        return "head"
    if any("flash_attention" in name or "_Blocks" in name for name in names):
        return "attention"
    if event.name in ("aten::mm", "aten::addmm", "aten::addmm_", "aten::bmm"):
        return "products"
    return "elementwise" if event.name.startswith(("aten::", "mkldnn::")) else "Python"


def profiled(step: Callable[[], Any]) -> tuple[dict[str, float], float]:
    """Shares of a step's time by part, and its seconds by the clock, which the profiler reads too.

    What no operation accounts for is Python's.
    """
    with profile(activities=[ProfilerActivity.CPU]) as found:
        start = time.perf_counter()
        step()
        whole = time.perf_counter() - start
    parts = dict.fromkeys(PARTS, 0.0)
    for event in found.events() or ():
        parts[part_of(event)] += event.self_cpu_time_total * 1e-6
    parts["Python"] = max(0.0, whole - sum(t for name, t in parts.items() if name != "Python"))
    return {name: t / sum(parts.values()) for name, t in parts.items()}, whole


def paper(shape: Shape, rates: dict[str, dict[str, float]]) -> dict[str, float]:
    """Seconds of a step's products at their own rates, attention's at the best of them."""
    about = work(shape, dialogues(shape))
    each = {"projections": about.projections, "head": about.head}
    each |= {"MLP, in": about.mlp * 2 / 3, "MLP, out": about.mlp / 3}
    best = max(r for forms in rates.values() for r in forms.values())
    at_own = {name: sum(flops / rates[name][form] for form in FORMS) for name, flops in each.items()}
    return at_own | {"attention": 3 * about.attention / best}


def kept(shape: Shape) -> float:
    """Bytes a token that a step in fp32 keeps: 4 L (6 d + 2 f), and 2 V of logits.

    A layer keeps its input, its middle, q, k, v and the attention's result (6 d), gate and up (2 f), and forms the rest
    again; the last one keeps less. Half of a row of logits, because half of the probe's tokens are scored.
    """
    return 4 * shape.layers * (6 * shape.width + 2 * shape.inner) + 2 * shape.words


def measure(name: str, precision: str) -> dict[str, Any]:
    shape, dtype = SHAPES[name], torch.float32 if precision == "fp32" else torch.bfloat16
    rates = {part: product_rates(*sizes, dtype) for part, sizes in shapes_of(shape).items()}
    found: dict[str, Any] = {
        "model": name,
        "precision": precision,
        "shapes": shapes_of(shape),
        "rates": rates,
    }
    if precision == "bf16" and max(r for forms in rates.values() for r in forms.values()) < 1e11:
        return found  # no units for it: nobody trains so here
    groups = dialogues(shape)
    fit = fit_of(policy_of(shape, precision), groups)
    with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: added}) as counted:
        fit.step()
    times = [seconds(fit.step) for _ in range(STEPS[name])]
    parts, under_profile = profiled(fit.step)
    ours, plain = work(shape, groups), work(shape, groups, shared=False, pruned=False)
    return found | {
        "tokens": ours.tokens,
        "flops": 3 * ours.total,
        "flops_of_products": 3 * (ours.total - ours.attention),
        "flops_counted": counted.get_total_flops(),  # it does not know a CPU's attention
        "flops_packed": 3 * plain.total,
        "seconds": times,
        "seconds_profiled": under_profile,
        "parts": parts,
        "limit": paper(shape, rates),
        "kept": bytes_per_token(fit.policy),
        "kept_paper": kept(shape),
    }


def section(found: dict[str, Any]) -> str:
    giga = {
        (c["model"], c["precision"], part): [forms[form] / 1e9 for form in FORMS]
        for c in found["cases"]
        for part, forms in c["rates"].items()
    }
    rows = [
        (model, precision, part, *(f"{r:,.1f}" for r in rates))
        for (model, precision, part), rates in giga.items()
    ]
    lines = [
        told(found) + " Processor time; rates are the fastest of three rounds.",
        "",
        "Products at the shapes of our steps, GFLOP/s:",
        "",
        *table(("model", "precision", "product", *FORMS), rows),
        "Memory, one thread: "
        + ", ".join(f"{name} {rate / 1e9:.1f} GB/s" for name, rate in found["bandwidth"].items())
        + ".",
        "",
        "A DPO step on 8 pairs of dialogues' lengths, packed, prompts shared, last layer pruned; its limit is what "
        "its FLOPs would take at the rates above:",
        "",
    ]
    shares, parts = [], []
    for c in found["cases"]:
        if "seconds" not in c:
            continue
        each, best = statistics.median(c["seconds"]), max(max(f.values()) for f in c["rates"].values())
        limit = sum(c["limit"].values())
        shares.append(
            (
                f"{c['model']} {c['precision']}",
                f"{c['tokens']:,}",
                f"{c['flops'] / 1e9:,.1f}",
                f"{c['flops_packed'] / 1e9:,.1f}",
                f"{1e3 * each:,.0f} ms",
                f"{c['flops'] / each / 1e9:,.1f}",
                f"**{limit / each:.0%}**",
                f"{c['flops'] / each / best:.0%}",
            )
        )
        parts.append((f"{c['model']} {c['precision']}", *(f"{c['parts'][part]:.0%}" for part in PARTS)))
    header = ("step", "tokens", "GFLOP", "neither shared nor pruned", "time", "GFLOP/s")
    lines += table((*header, "share of the limit", "of the fastest product"), shares)
    lines += ["Where a step's time goes, by a profile:", "", *table(("step", *PARTS), parts)]
    lines += [
        "'Products' are those of the layers; the head has its own and the softmax with them. 'Elementwise' is "
        "every other operation of PyTorch: norms, activations, rotations, copies, sums of gradients. 'Optimizer' "
        "is clipping and AdamW; 'Python' is what no operation accounts for."
    ]
    if any("seconds" not in c for c in found["cases"]):
        lines.append("bf16 steps were not measured: this processor has no units for such products.")
    return "\n".join(lines)


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    if "--draw" not in sys.argv[1:]:
        found: dict[str, Any] = {
            "command": command("limit.py"),
            "bandwidth": bandwidth(),
            "cases": [],
        }
        for model in ("5M",) if "--quick" in sys.argv[1:] else SHAPES:
            for precision in ("fp32", "bf16"):
                # where a processor has no units for bf16, one model's products say so
                if all("seconds" in c for c in found["cases"] if c["precision"] == precision):
                    found["cases"].append(measure(model, precision))
        found |= {"machine": machine(), "versions": versions("transformers", "accelerate")}
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    write_section(section(json.loads(RESULTS.read_text())), "limit.py")
