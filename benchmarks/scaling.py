"""How a training step's time grows with its sizes, beside what its FLOPs say.

python benchmarks/scaling.py           measure, write results/scaling.json and .png, then the section of README.md
python benchmarks/scaling.py --draw    write section and picture again from the figures that are there

One size at a time is changed around a base case. Base and changed case make their steps in turn, so that what else
runs on the machine meets both; the prediction is the base's time times the ratio of the FLOPs.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from common import (
    HERE,
    SHAPES,
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

from equipoise.core.objectives import Dpo, PlackettLuce
from equipoise.report.style import BLUE, FAINT, panels, render, styled
from equipoise.worlds.text.fit import Fit

RESULTS = HERE / "results" / "scaling.json"
STEPS, WIDE = 3, 0.15  # steps of each case; how far from the prediction is worth a word
MODELS = {"2M": Shape(4, 128, 344, 2), "5M": SHAPES["5M"], "23M": Shape(6, 512, 1376, 8)}


@dataclass(frozen=True)
class Case:
    """A step: tokens of a prompt and of a response, responses of a prompt, comparisons, words, model."""

    prompt: int = 128
    response: int = 64
    k: int = 2
    batch: int = 8
    words: int = 8192
    model: str = "5M"

    @property
    def shape(self) -> Shape:
        return replace(MODELS[self.model], words=self.words)

    def groups(self) -> list[Sequence[list[int]]]:
        return groups_of(self.batch, self.prompt, self.response, self.k, self.words)

    def fit(self) -> Fit:
        """DPO on pairs, its form for lists on more; as many tokens at a time as training takes by default."""
        objective = Dpo(beta=0.1) if self.k == 2 else PlackettLuce(beta=0.1)
        return fit_of(policy_of(self.shape), self.groups(), objective, batch=self.batch)


BASE = Case()
RANGES: dict[str, tuple[Any, ...]] = {
    "prompt": (32, 64, 128, 256, 512),
    "response": (16, 32, 64, 128, 256),
    "k": (2, 4, 8),
    "batch": (2, 4, 8, 16, 32),
    "words": (2048, 8192, 32768),
    "model": tuple(MODELS),
}
NAMES = {
    "prompt": "prompt's tokens",
    "response": "response's tokens",
    "k": "responses",
    "batch": "comparisons",
}
NAMES |= {"words": "vocabulary", "model": "parameters"}


def flops(case: Case) -> float:
    return 3 * work(case.shape, case.groups()).total


def measure(base: Fit, factor: str, value: Any) -> dict[str, Any]:
    case = replace(BASE, **{factor: value})
    fit = case.fit()
    fit.step()
    pairs = [(seconds(base.step), seconds(fit.step)) for _ in range(STEPS)]
    print(factor, value, pairs, file=sys.stderr)
    return asdict(case) | {
        "factor": factor,
        "value": value,
        "size": case.shape.parameters() if factor == "model" else value,
        "flops": flops(case),
        "seconds": [own for _, own in pairs],
        "ratios": [own / beside / (flops(case) / flops(BASE)) for beside, own in pairs],
    }


def section(found: dict[str, Any]) -> str:
    rows, far, same, base = [], [], [], flops(BASE)
    for c in found["cases"]:
        middle = statistics.median(c["ratios"])
        rows.append(
            (
                f"{NAMES[c['factor']]}: {c['value']}",
                f"{c['flops'] / 1e9:,.1f}",
                f"{1e3 * statistics.median(c['seconds']):,.0f}",
                f"**{middle:.2f}** ({min(c['ratios']):.2f} to {max(c['ratios']):.2f})",
            )
        )
        if c["flops"] == base:
            same.append(middle)
        elif abs(middle - 1) > WIDE:
            far.append(f"{NAMES[c['factor']]} {c['value']} ({middle:.2f})")
    lines = [
        told(found)
        + f" Processor time, medians of {STEPS} steps. Base: 5M parameters, 8 pairs with prompts of 128 "
        "tokens and responses of 64, 8,192 words; one size is changed at a time. Predicted is the time of the "
        "base's steps beside it times the ratio of FLOPs.",
        "",
        "![Measured over predicted time of a step, a panel for each size](results/scaling.png)",
        "",
        *table(("size", "GFLOP", "ms a step", "measured / predicted"), rows),
        f"The base beside itself is {min(same):.2f} to {max(same):.2f}, which is the noise. More than {WIDE:.0%} from "
        f"the prediction: {', '.join(far) or 'none'}.",
    ]
    return "\n".join(lines)


def draw(found: dict[str, Any]) -> bytes:
    with styled():
        figure, axes = panels(len(RANGES))
        figure.set_size_inches(9.2, 2.6)
        for panel, factor in zip(axes, RANGES, strict=True):
            cases = [c for c in found["cases"] if c["factor"] == factor]
            x, y = [c["size"] for c in cases], [statistics.median(c["ratios"]) for c in cases]
            low, high = ([f(c["ratios"]) for c in cases] for f in (min, max))
            panel.axhline(1, color=FAINT, linewidth=0.8)
            panel.vlines(x, low, high, color=BLUE, linewidth=0.8)
            panel.plot(x, y, "o-", color=BLUE, linewidth=1.2, markersize=3)
            panel.set(xscale="log", xticks=x, xticklabels=[str(c["value"]) for c in cases])
            panel.minorticks_off()
            panel.tick_params(axis="x", labelsize=7.5, labelrotation=45)
            panel.set_title(NAMES[factor], loc="left", fontsize=8.5)
        for panel in axes[1:]:
            panel.sharey(axes[0])
            panel.tick_params(labelleft=False)
        axes[0].set_ylim(0, max(2.0, *(1.05 * max(c["ratios"]) for c in found["cases"])))
        axes[0].set_ylabel("measured / predicted")
        return render(figure)


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    if "--draw" not in sys.argv[1:]:
        base = BASE.fit()
        base.step()
        cases = [measure(base, factor, value) for factor, values in RANGES.items() for value in values]
        found: dict[str, Any] = {"command": command("scaling.py"), "cases": cases}
        found |= {"machine": machine(), "versions": versions("transformers", "accelerate")}
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    measured = json.loads(RESULTS.read_text())
    RESULTS.with_suffix(".png").write_bytes(draw(measured))
    write_section(section(measured), "scaling.py")
