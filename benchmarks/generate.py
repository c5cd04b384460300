"""How fast responses are sampled, against `generate` of transformers in its best settings.

python benchmarks/generate.py           measure, write results/generate.json, then the section of README.md
python benchmarks/generate.py --draw    write the section again from the figures that are there
python benchmarks/generate.py --quick   the small models only

All programs sample from the same model in one process, in turn, one thread, and their processor time is compared,
because other programs may use the machine meanwhile. `generate` gets the batch left-padded with
`num_return_sequences` and a cache; its variants (one batch or batches of similar length, then a dynamic or a static
cache) are timed first and the fastest is used. It is not asked for log-probs, which our sampler returns with every
response.
"""

from __future__ import annotations

import json
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import transformers

from equipoise.data.collate import Prompt
from equipoise.playground import LanguageGame, load_model
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.generation import sampling
from equipoise.policy.generation.backends import choose_backend
from equipoise.policy.generation.padded import PaddedDecoder
from equipoise.policy.generation.prefix_cache import SharedPrefixCache
from equipoise.policy.generation.sampling import sample
from equipoise.policy.protocol import Decoding
from play import cpu, table  # the benchmark beside this one

PROGRAMS = ("ours", "modules", "repeated", "generate")
HERE = Path(__file__).parent
RESULTS = HERE / "results" / "generate.json"
BEGIN, END = "<!-- generate.py writes from here -->", "<!-- to here, generate.py -->"
SIZES = {
    "5M": {"hidden_size": 256, "num_hidden_layers": 4, "intermediate_size": 704, "vocab_size": 8192}
    | {"num_attention_heads": 8, "num_key_value_heads": 4},
    "100M": {"hidden_size": 768, "num_hidden_layers": 12, "intermediate_size": 2048, "vocab_size": 32000}
    | {"num_attention_heads": 12, "num_key_value_heads": 4},
}


@dataclass(frozen=True)
class Case:
    """A model, how many prompts of which lengths, samples of each, tokens of a response, repeats."""

    model: str
    precision: str
    lengths: str  # "chat": log-normal, median 90; "equal": 128 each; "own": the playground's prompts
    prompts: int
    samples: int
    tokens: int
    repeats: int


CASES = [
    Case("playground", "fp32", "own", 32, 4, 16, 15),
    Case("5M", "fp32", "chat", 16, 4, 48, 5),
    Case("5M", "fp32", "equal", 16, 4, 48, 3),
    Case("100M", "fp32", "chat", 16, 4, 32, 3),
]


class Words:
    """A tokenizer for models that have none."""

    eos_token_id, pad_token_id = 2, 0

    def batch_decode(self, rows: list[list[int]], **_: Any) -> list[str]:
        return [" ".join(map(str, row)) for row in rows]


def policy_of(case: Case) -> CausalPolicy:
    if case.model == "playground":
        return CausalPolicy(*load_model(), precision=case.precision)
    torch.manual_seed(0)
    # no stop token among its words: every response has the same length, whatever was drawn
    config = transformers.LlamaConfig(
        **SIZES[case.model],
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=1,
    )
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():  # as spread as a trained model's logits, so that greedy choices are not near ties
        model.get_output_embeddings().weight.mul_(5.0)
    model.generation_config.eos_token_id = SIZES[case.model]["vocab_size"] + 1
    words = Words()
    words.eos_token_id = SIZES[case.model]["vocab_size"] + 1
    return CausalPolicy(model, words, precision=case.precision)


def prompts_of(case: Case, policy: CausalPolicy) -> list[Prompt]:
    if case.lengths == "own":
        texts = LanguageGame().prompts[: case.prompts]
        return [
            Prompt((1, *policy.tokenizer(text, add_special_tokens=False).input_ids), text) for text in texts
        ]
    draws = random.Random(0)
    lengths = [128] * case.prompts
    if case.lengths == "chat":
        lengths = [max(8, min(512, int(draws.lognormvariate(4.5, 0.75)))) for _ in lengths]
    words = policy.model.config.vocab_size
    return [Prompt((1, *(draws.randrange(3, words) for _ in range(n - 1))), "") for n in lengths]


def ours(
    policy: CausalPolicy, prompts: list[Prompt], case: Case, temperature: float = 1.0
) -> list[list[int]]:
    decoding = Decoding(temperature=temperature, max_new_tokens=case.tokens, batch=case.prompts)
    groups = sample(policy, prompts, case.samples, seed=0, decoding=decoding)
    return [list(response.ids) for group in groups for response in group]


def by(backend: Any, policy: CausalPolicy, prompts: list[Prompt], case: Case) -> list[list[int]]:
    """Our sampler with another backend than the one it chose."""
    sampling.choose_backend = lambda model: backend  # type: ignore[assignment]
    try:
        return ours(policy, prompts, case)
    finally:
        sampling.choose_backend = choose_backend


def theirs(
    policy: CausalPolicy, prompts: list[Prompt], case: Case, *, batch: int, cache: str, greedy: bool = False
) -> list[list[int]]:
    """`generate` on left-padded batches, sorted by length where there are several."""
    order = (
        sorted(range(len(prompts)), key=lambda i: len(prompts[i].ids))
        if batch < len(prompts)
        else range(len(prompts))
    )
    found: dict[int, list[list[int]]] = {}
    for begin in range(0, len(prompts), batch):
        chosen = list(order[begin : begin + batch])
        width = max(len(prompts[i].ids) for i in chosen)
        pads = [width - len(prompts[i].ids) for i in chosen]
        ids = torch.tensor([[0] * pad + list(prompts[i].ids) for pad, i in zip(pads, chosen, strict=True)])
        mask = torch.tensor([[0] * pad + [1] * (width - pad) for pad in pads])
        device, bf16 = policy.device, case.precision == "bf16"
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16), torch.inference_mode():
            out = policy.model.generate(
                input_ids=ids.to(device),
                attention_mask=mask.to(device),
                **({"do_sample": False} if greedy else {"do_sample": True, "top_k": 0, "top_p": 1.0}),
                num_return_sequences=1 if greedy else case.samples,
                max_new_tokens=case.tokens,
                use_cache=True,
                cache_implementation=cache,
                disable_compile=True,
                pad_token_id=0,
                eos_token_id=list(policy.stops),
            )[:, width:].tolist()
        count = len(out) // len(chosen)
        for place, i in enumerate(chosen):
            found[i] = [cut(row, policy.stops) for row in out[place * count : (place + 1) * count]]
    return [row for i in range(len(prompts)) for row in found[i]]


def cut(row: list[int], stops: tuple[int, ...]) -> list[int]:
    """What `generate` wrote, without what follows a stop token."""
    return row[: next((k + 1 for k, token in enumerate(row) if token in stops), len(row))]


def rate(program: Callable[[], list[list[int]]]) -> float:
    """Tokens for a second of processor time."""
    start = time.process_time()
    rows = program()
    return sum(map(len, rows)) / (time.process_time() - start)


def measure(case: Case) -> dict[str, Any]:
    policy = policy_of(case)
    prompts = prompts_of(case, policy)
    ours(policy, prompts[:2], case)  # the probe, and first touches
    theirs(policy, prompts[:2], case, batch=2, cache="dynamic")
    variants: dict[tuple[int, str], Callable[[], list[list[int]]]] = {}
    tried: dict[tuple[int, str], float] = {}

    def best_of(settings: list[tuple[int, str]]) -> tuple[int, str]:
        for batch, cache in settings:
            variants[batch, cache] = partial(theirs, policy, prompts, case, batch=batch, cache=cache)
            tried[batch, cache] = rate(variants[batch, cache])
        return max(tried, key=lambda setting: tried[setting])

    size, _ = best_of([(max(2, case.prompts // share), "dynamic") for share in (4, 2, 1)])
    best = best_of([(size, "static")])
    programs = {
        "ours": lambda: ours(policy, prompts, case),
        "modules": lambda: by(SharedPrefixCache, policy, prompts, case),
        "repeated": lambda: by(PaddedDecoder, policy, prompts, case),
        "generate": variants[best],
    }
    rates: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(case.repeats):
        for name, program in programs.items():
            rates[name].append(rate(program))
    greedy = Case(**(vars(case) | {"samples": 1}))
    mine = ours(policy, prompts, greedy, temperature=0.0)
    other = theirs(policy, prompts, greedy, batch=case.prompts, cache="dynamic", greedy=True)
    ratios = [a / b for a, b in zip(rates["ours"], rates["generate"], strict=True)]
    return vars(case) | {
        "parameters": sum(p.numel() for p in policy.model.parameters()),
        "mean_prompt": statistics.mean(len(prompt.ids) for prompt in prompts),
        "padded_prompt": max(len(prompt.ids) for prompt in prompts),
        "variants": {_named(setting): found for setting, found in tried.items()},
        "best": _named(best),
        "rates": rates,
        "ratio": {"median": statistics.median(ratios), "low": min(ratios), "high": max(ratios)},
        **{
            f"over_{name}": statistics.median(a / b for a, b in zip(rates["ours"], rates[name], strict=True))
            for name in ("modules", "repeated")
        },
        "greedy_same": sum(a == b for a, b in zip(mine, other, strict=True)) / len(mine),
    }


def _named(setting: tuple[int, str]) -> str:
    return f"{setting[1]} cache, batches of {setting[0]}"


def section(found: dict[str, Any]) -> str:
    machine, versions = found["machine"], found["versions"]
    rows = [
        (
            f"{r['model']} {r['precision']}",
            f"{r['prompts']} x {r['mean_prompt']:.0f} {r['lengths']}",
            f"{r['samples']} x {r['tokens']}",
            *(f"{statistics.median(r['rates'][program]):,.0f}" for program in PROGRAMS),
            f"**{r['ratio']['median']:.1f}** ({r['ratio']['low']:.1f} to {r['ratio']['high']:.1f})",
            r["best"],
            f"{r['greedy_same']:.0%}",
        )
        for r in found["cases"]
    ]
    made_of = ", ".join(f"{name} {v}" for name, v in versions.items())
    lines = [
        f"{machine['cpu']}, one thread of {machine['cores']} cores, {machine['platform']}; {made_of}. Tokens for a "
        "second of processor time, medians of interleaved runs in one process while other programs used the machine "
        f"(load average {machine['load'][1]:.1f}); the ratio's range is over the repeats. "
        f"`{found['command']}`. bf16 and vLLM were not "
        "measured: this processor has no units for the one, and the other wants a GPU.",
        "",
        *table(
            (
                "model",
                "prompts x mean length",
                "samples x tokens",
                "ours",
                "modules",
                "repeated",
                "`generate`",
                "ours / `generate`",
                "its best setting",
                "same greedy responses",
            ),
            rows,
        ),
        "'chat' prompts have log-normal lengths, 'equal' ones 128 tokens each, so that `generate` pads nothing. "
        "'Modules' is our backend for models without the common structure, 'repeated' the one for those that cannot "
        "share prompts. Models are drawn from a configuration and never stop early, except the playground's. Sharing "
        "wins more with long prompts and many samples, less with long responses.",
    ]
    return "\n".join(lines) + "\n"


def draw(found: dict[str, Any]) -> None:
    readme = HERE / "README.md"
    before, rest = readme.read_text().split(BEGIN)
    readme.write_text(f"{before}{BEGIN}\n{section(found)}{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    if "--draw" not in sys.argv[1:]:
        cases = [case for case in CASES if case.model != "100M" or "--quick" not in sys.argv[1:]]
        found: dict[str, Any] = {
            "command": " ".join(["python benchmarks/generate.py", *sys.argv[1:]]),
            "machine": {
                "cpu": cpu(),
                "cores": os.cpu_count(),
                "platform": f"{platform.system()} {platform.machine()}",
            },
            "versions": {name: version(name) for name in ("equipoise", "torch", "transformers", "numpy")}
            | {"python": platform.python_version()},
            "cases": [],
        }
        for case in cases:
            found["cases"].append(measure(case))
            found["machine"]["load"] = os.getloadavg()
            RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    draw(json.loads(RESULTS.read_text()))
