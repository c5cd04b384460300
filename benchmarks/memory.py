"""Peak memory of a fit beside the estimate of `equipoise plan`: full fine-tuning, LoRA, bf16 and quantised bases.

    python benchmarks/memory.py --model FOLDER [--out FILE] [--only NAME ...]

Every case runs in a process of its own: the policy is loaded, then a step of DPO is taken on one packed micro-batch of
random tokens. Measured is the process's largest resident set, of loading and, from there on, of training. Predicted is
what `plan` adds up for training, from the memory of the libraries before the model is loaded: by arithmetic alone, and
with the bytes a token of a probe's forward, which `plan` uses where the model fits. Prints tables and writes them with
all figures. Cases that need bitsandbytes are left out where it is not installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from common import HERE, command, fit_of, groups_of, machine, table, told, versions, write_section

from equipoise.data.rendering.tokens import load_tokenizer
from equipoise.models.folder import inspect
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.scoring.microbatch import bytes_per_token
from equipoise.run.config import resolve
from equipoise.run.costs import memory_of, most_resident, resident, shape_of

LORA = {"model.lora_rank": 16}
AGAIN = {"train.activation_checkpointing": True}
CASES: dict[str, dict[str, Any]] = {
    "full": {},
    "full, checkpointing": AGAIN,
    "full, adafactor": {"train.optimizer": "adafactor", "train.lr": 1e-5},
    "full, adamw_8bit": {"train.optimizer": "adamw_8bit"},
    "LoRA, float32 base": LORA | {"model.base_dtype": "float32"},
    "LoRA, bfloat16 base": LORA | {"model.base_dtype": "bfloat16"},
    "LoRA, bfloat16 base, checkpointing": LORA | AGAIN | {"model.base_dtype": "bfloat16"},
    "LoRA, 8-bit base": LORA | {"model.base_dtype": "bfloat16", "model.quantization": "8bit"},
    "LoRA, 4-bit base": LORA | {"model.base_dtype": "bfloat16", "model.quantization": "4bit"},
    "LoRA, 4-bit base, checkpointing": LORA
    | AGAIN
    | {"model.base_dtype": "bfloat16", "model.quantization": "4bit"},
}
LIBRARY = ("8bit", "4bit", "adamw_8bit")
PAIRS, PROMPT, RESPONSE = 2, 96, 64
LIMIT = 0.15  # that a prediction may be off


def forget_peak() -> None:
    """Let the kernel measure the largest resident set from here on."""
    Path("/proc/self/clear_refs").write_text("5")


def peak() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024.0 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def measured(model: str, name: str) -> dict[str, Any]:
    """One case, in this process."""
    torch.set_num_threads(1)
    given = {"model.path": model, "data.path": ["pairs.jsonl"], "train.batch": PAIRS, "train.lr": 1e-5}
    config = resolve("dpo", given | CASES[name])
    shape = shape_of(config)
    fit_of(CausalPolicy.load(*_playground(), device="cpu"), groups_of(2, 8, 8, 2, 20))  # imports what is late
    if "bit" in name:
        import bitsandbytes  # noqa: F401
    base = resident()
    policy = CausalPolicy.load(
        model,
        load_tokenizer(model),
        device="cpu",
        lora_rank=config.model.lora_rank,
        base_dtype=config.model.base_dtype,
        quantization=config.model.quantization,
    )
    loading = most_resident()
    policy.recompute(config.train.activation_checkpointing)
    token_bytes = bytes_per_token(policy)
    held = resident()
    forget_peak()
    rows = policy.model.get_input_embeddings().weight.shape[0]
    fit = fit_of(policy, groups_of(PAIRS, PROMPT, RESPONSE, 2, rows), optimizer=config.train.optimizer)
    tokens = PAIRS * (PROMPT + 2 * RESPONSE)
    figures = [fit.step() for _ in range(1)]
    memory = memory_of(config, shape, tokens, 0, base)
    said = {"second": 0.0, "sampling": 0.0}
    by_paper = type(memory)(**(memory.__dict__ | said))
    return {
        "name": name,
        "tokens": tokens,
        "loss": figures[-1]["loss"],
        "base": base,
        "held": held - base,
        "loading": loading,
        "measured": peak(),
        "token_bytes": [shape.activation_bytes(config), token_bytes],
        "parts": {name: getattr(memory, name) for name in ("weights", "gradients", "optimizer")},
        "predicted": [by_paper.total, by_paper.with_activations(tokens * token_bytes).total],
    }


def _playground() -> tuple[str, Any]:
    from equipoise.playground import model_path

    return str(model_path()), load_tokenizer(str(model_path()))


def report(found: dict[str, Any]) -> str:
    def mib(size: float) -> str:
        return f"{size / 2**20:,.0f}"

    rows = []
    for case in found["cases"]:
        paper, probed = case["predicted"]
        net = case["measured"] - case["base"]
        rows.append(
            (
                case["name"],
                mib(case["held"]),
                mib(case["parts"]["weights"]),
                mib(case["measured"]),
                mib(probed),
                f"{probed / case['measured'] - 1:+.0%}",
                f"{(probed - case['base']) / net - 1:+.0%}",
                mib(paper),
                f"{paper / case['measured'] - 1:+.0%}",
            )
        )
    header = (
        "case",
        "weights held, MiB",
        "said",
        "peak of the fit",
        "plan",
        "off",
        "off, libraries left out",
        "by arithmetic alone",
        "off",
    )
    about = (
        f"{found['parameters'] / 1e6:,.0f}M parameters, stored in {found['dtype']}; one micro-batch of "
        f"{found['cases'][0]['tokens']} tokens; libraries {mib(found['cases'][0]['base'])} MiB."
    )
    return "\n".join([told(found), "", about, "", *table(header, rows)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--only", nargs="*", default=list(CASES))
    parser.add_argument("--out", type=Path, default=HERE / "results" / "memory.json")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.case:
        print(json.dumps(measured(given.model, given.case)))
        return
    folder = inspect(Path(given.model))
    has = importlib.util.find_spec("bitsandbytes") is not None
    found: dict[str, Any] = {
        "command": command("memory.py"),
        "machine": machine() | {"threads": 1},
        "versions": versions("transformers", "peft", *(["bitsandbytes"] if has else [])),
        "parameters": folder.size,
        "dtype": folder.dtype,
        "cases": [],
    }
    for name in given.only:
        if not has and any(word in str(CASES[name]) for word in LIBRARY):
            continue
        call = [sys.executable, __file__, "--model", given.model, "--case", name]
        with tempfile.TemporaryDirectory() as folder_of_run:
            done = subprocess.run(call, capture_output=True, text=True, cwd=folder_of_run, check=False)
        if done.returncode:
            raise SystemExit(f"{name}: {done.stderr[-2000:]}")
        case = json.loads(done.stdout.splitlines()[-1])
        found["cases"].append(case)
        print(name, [round(x / 2**20) for x in (case["measured"], *case["predicted"])], flush=True)
    given.out.parent.mkdir(exist_ok=True)
    given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    write_section(report(found), "memory.py")


if __name__ == "__main__":
    main()
