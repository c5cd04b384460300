"""Peak memory of a fit beside the estimate of `equipoise plan`: full fine-tuning, LoRA, bf16 and quantised bases.

    python benchmarks/memory.py [--model FOLDER | --drawn 20M|0.5B] [--only NAME ...] [--peer]

Every case runs in a process of its own, forked from one that has loaded the libraries: the policy is loaded, then two
steps of DPO are taken, each on two micro-batches of random tokens. Measured is the process's largest resident set from
the end of loading on. Predicted is what `plan` adds up for training, from the memory of the libraries: by arithmetic
alone, and with the bytes a token of a probe's forward, which `plan` uses where the model fits. Without --model a model
is drawn: a Llama of 20M weights, or one of Qwen2.5-0.5B's size. Cases that need bitsandbytes are left out where it is
not installed. --peer adds TRL's steps on one pair of the same tokens, with its reference's log-probs computed before.
Results are written after each.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import (
    HERE,
    Shape,
    command,
    drawn_model,
    fit_of,
    groups_of,
    machine,
    table,
    told,
    versions,
    write_section,
)
from train import TUNED, Case, peer

from equipoise.data.rendering.tokens import load_tokenizer
from equipoise.models.folder import inspect
from equipoise.playground import model_path
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.scoring.microbatch import bytes_per_token
from equipoise.run.config import resolve
from equipoise.run.planning.costs import memory_of, resident, shape_of

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
PAIRS, PROMPT, RESPONSE = 2, 32, 24
DRAWN = {"20M": Shape(8, 384, 1024, 6, 16384), "0.5B": Shape(24, 896, 4864, 14, 151936)}
PEERS = {"full": 0, "LoRA, float32 base": 16}  # ranks of TRL's cases


def held_by(device: str) -> float:
    """Bytes that the process holds: resident, or allocated on a GPU."""
    return resident() if device == "cpu" else float(torch.cuda.memory_allocated())


def forget_peak(device: str) -> None:
    """Measure the largest resident set, or what is allocated on a GPU, from here on."""
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        return
    Path("/proc/self/clear_refs").write_text("5")


def peak(device: str) -> float:
    if device != "cpu":
        return float(torch.cuda.max_memory_allocated())
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024.0 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def measured(
    model: str,
    name: str,
    device: str = "cpu",
    size: tuple[int, int, int, int] = (PAIRS, PROMPT, RESPONSE, 1),
    precision: str = "fp32",
) -> dict[str, Any]:
    """One case, in this process.

    size    pairs of a step, tokens of a prompt and of a response, pairs of a micro-batch.
    """
    pairs, prompt, response, micro = size
    given = {"model.path": model, "data.path": ["pairs.jsonl"], "train.batch": pairs, "train.lr": 1e-5}
    config = resolve("dpo", given | CASES[name] | {"model.precision": precision})
    shape = shape_of(config)
    base = held_by(device)
    policy = CausalPolicy.load(
        model,
        load_tokenizer(str(model_path())),
        precision=precision,
        device=device,
        lora_rank=config.model.lora_rank,
        base_dtype=config.model.base_dtype,
        quantization=config.model.quantization,
    )
    policy.recompute(config.train.activation_checkpointing)
    token_bytes = bytes_per_token(policy)
    held = held_by(device)
    forget_peak(device)
    rows = policy.model.get_input_embeddings().weight.shape[0]
    fit = fit_of(
        policy,
        groups_of(pairs, prompt, response, 2, rows),
        batch=pairs,
        micro=micro,
        optimizer=config.train.optimizer,
    )
    tokens = micro * (prompt + 2 * response)
    loss = [fit.step()["loss"] for _ in range(2)][-1]
    memory = memory_of(config, shape, tokens, 0, base)
    said = {"second": 0.0, "sampling": 0.0}
    by_paper = type(memory)(**(memory.__dict__ | said))
    return {
        "name": name,
        "tokens": tokens,
        "loss": loss,
        "base": base,
        "held": held - base,
        "measured": peak(device),
        "token_bytes": [shape.activation_bytes(config), token_bytes],
        "parts": {name: getattr(memory, name) for name in ("weights", "gradients", "optimizer")},
        "predicted": [by_paper.total, by_paper.with_activations(tokens * token_bytes).total],
    }


def peer_peak(model: str, name: str) -> dict[str, Any]:
    """TRL's peak in this process: two steps on a pair of as many tokens."""
    words = inspect(Path(model)).settings["vocab_size"]
    draw = np.random.default_rng(0)
    pair = tuple(draw.integers(2, words, count).tolist() for count in (PROMPT, RESPONSE, RESPONSE))
    case = Case("", "", "fp32", PEERS[name], 2, (TUNED,), batch=1)
    base = resident()
    with tempfile.TemporaryDirectory() as folder:
        for file in Path(model).iterdir():
            (Path(folder) / file.name).symlink_to(file.resolve())
        steps = peer(case, Path(folder), [pair], load_tokenizer(str(model_path())), tuned=True)
        next(steps)
        forget_peak("cpu")
        loss = [next(steps) for _ in range(2)][-1]
    return {"name": name, "loss": loss, "base": base, "measured": peak("cpu")}


def in_a_fork(made: Callable[[str, str], dict[str, Any]], model: str, name: str) -> dict[str, Any]:
    """One case in a process that has the libraries already."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "case.json"
        child = os.fork()
        if not child:
            status = 1
            try:
                result.write_text(json.dumps(made(model, name)), encoding="utf-8")
                status = 0
            finally:
                os._exit(status)
        if os.waitpid(child, 0)[1]:
            raise SystemExit(f"{name} failed")
        case: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
        return case


def warm() -> None:
    """Load what is imported late, so that the libraries are in `base`."""
    torch.set_num_threads(1)
    policy = CausalPolicy.load(model_path(), load_tokenizer(str(model_path())), device="cpu", lora_rank=2)
    fit_of(policy, groups_of(2, 8, 8, 2, 20)).step()


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
        f"{found['parameters'] / 1e6:,.0f}M parameters, stored in {found['dtype']}; two steps of two micro-batches of "
        f"{found['cases'][0]['tokens']} tokens; libraries {mib(found['cases'][0]['base'])} MiB."
    )
    lines = [told(found), "", about, "", *table(header, rows)]
    ours = {case["name"]: case["measured"] for case in found["cases"]}
    beside = [
        (case["name"], mib(case["measured"]), f"{case['measured'] / ours[case['name']]:.2f}")
        for case in found["peer"]
    ]
    if beside:
        lines += ["", "TRL on one pair of the same tokens, its libraries included:", ""]
        lines += table(("case", "peak, MiB", "over ours"), beside)
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model")
    parser.add_argument("--drawn", choices=DRAWN, default="20M")
    parser.add_argument("--peer", action="store_true")
    parser.add_argument("--only", nargs="*", default=list(CASES))
    given = parser.parse_args()
    has = importlib.util.find_spec("bitsandbytes") is not None
    if has:
        import bitsandbytes  # noqa: F401  # before the processes are forked
    warm()
    with tempfile.TemporaryDirectory() as folder:
        model = given.model or folder
        if not given.model:
            drawn_model(DRAWN[given.drawn]).save_pretrained(folder)
        name = f"memory_{Path(model).name}" if given.model else f"memory_drawn_{given.drawn}"
        found: dict[str, Any] = {
            "command": command("memory.py"),
            "machine": machine() | {"threads": 1},
            "versions": versions("transformers", "peft", *(["bitsandbytes"] if has else [])),
            "parameters": inspect(Path(model)).size,
            "dtype": inspect(Path(model)).dtype,
            "cases": [],
            "peer": [],
        }

        def written() -> None:
            text = json.dumps(found, indent=1) + "\n"
            (HERE / "results" / f"{name}.json").write_text(text, encoding="utf-8")
            write_section(report(found), f"memory.py {'model' if given.model else given.drawn}")

        for case in given.only:
            if not has and any(word in str(CASES[case]) for word in LIBRARY):
                continue
            found["cases"].append(in_a_fork(measured, model, case))
            last = found["cases"][-1]
            print(case, [round(x / 2**20) for x in (last["measured"], *last["predicted"])], flush=True)
            written()
        for case in PEERS if given.peer else ():
            if case in given.only:
                found["peer"].append(in_a_fork(peer_peak, model, case))
                print("TRL:", case, round(found["peer"][-1]["measured"] / 2**20), flush=True)
                written()


if __name__ == "__main__":
    main()
