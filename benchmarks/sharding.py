"""Peak memory of a process in a fit whose weights, gradients and moments are divided (train.sharding=full).

    python benchmarks/sharding.py [--model FOLDER] [--processes 1 2 4]

For each number of processes: load the model, score anchors, take two steps of DPO on two micro-batches of random
tokens, save the position in the fit, and write the checkpoint, on a CPU with gloo. Measured is the largest resident set
of each process, by phase, over that of the libraries. Predicted is `plan`'s estimate of training. Without --model a
Llama of 86M weights is drawn, of which embeddings are 2 %, as in large models, and not 21 %, as in SmolLM2-135M.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

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
from memory import PAIRS, PROMPT, RESPONSE, forget_peak, peak, warm

from equipoise.data.rendering.tokens import load_tokenizer
from equipoise.models.folder import inspect
from equipoise.playground import model_path
from equipoise.policy import checkpoint
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.heap import map_large_tensors
from equipoise.policy.scoring.microbatch import bytes_per_token
from equipoise.run.config import resolve
from equipoise.run.planning.costs import memory_of, resident, shape_of

DRAWN = Shape(12, 768, 2048, 12, 2048)
PHASES = ("load", "fit", "position", "checkpoint")


def measured(model: str, processes: int, rank: int, folder: Path) -> dict[str, Any]:
    """Peaks of this process, by phase."""
    warm()
    base, peaks = resident(), {}

    def done(phase: str) -> None:
        peaks[phase] = peak()
        forget_peak()

    if processes > 1:
        map_large_tensors()
    forget_peak()
    policy = CausalPolicy.load(model, load_tokenizer(str(model_path())), device="cpu")
    done("load")
    rows = policy.model.get_input_embeddings().weight.shape[0]
    groups, first = groups_of(PAIRS * processes, PROMPT, RESPONSE, 2, rows), rank == 0
    token_bytes = bytes_per_token(policy)
    anchors = fit_of(policy, groups, micro=1).anchors
    forget_peak()
    if processes > 1:
        policy.divide(processes)
    fit = fit_of(policy, groups, batch=PAIRS * processes, micro=1, anchors=dict(anchors))
    loss = [fit.step()["loss"] for _ in range(2)][-1]
    done("fit")
    checkpoint.save_progress(folder / "position" if first else None, policy, fit.optimizer, {})
    done("position")
    del fit
    policy.join()
    if first:
        checkpoint.save(policy, folder / "checkpoint")
    done("checkpoint")
    config = resolve("dpo", {"train.sharding": "full", "model.path": model, "data.path": ["-"]})
    tokens = PROMPT + 2 * RESPONSE
    paper = memory_of(config, shape_of(config), tokens, 0, base, processes=processes)
    named = paper.__dict__ | {"sampling": 0.0, "activations": tokens * token_bytes}
    return {"base": base, "peaks": peaks, "loss": loss, "predicted": type(paper)(**named).total}


def worker(model: str, out: Path) -> None:
    from accelerate import Accelerator

    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)
    count, rank = accelerator.num_processes, accelerator.process_index
    found = measured(model, count, rank, out)
    (out / f"{rank}.json").write_text(json.dumps(found), encoding="utf-8")
    accelerator.wait_for_everyone()


def launched(model: str, processes: int) -> list[dict[str, Any]]:
    """What each of the processes measured."""
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "ACCELERATE_USE_CPU": "true",
        "CUDA_VISIBLE_DEVICES": "",
    }
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    with tempfile.TemporaryDirectory() as folder:
        own = [__file__, "--model", model, "--worker", folder]
        subprocess.run(
            [sys.executable, *(launch if processes > 1 else []), *own], env=environment, check=True
        )
        return [json.loads((Path(folder) / f"{rank}.json").read_text()) for rank in range(processes)]


def report(found: dict[str, Any]) -> str:
    def mib(size: float) -> str:
        return f"{size / 2**20:,.0f}"

    rows, alone = [], None
    for count, ranks in found["cases"].items():
        net = [{phase: r["peaks"][phase] - r["base"] for phase in PHASES} for r in ranks]
        alone = alone or net[0]["fit"]
        rows.append(
            (
                count,
                *(", ".join(mib(each[phase]) for each in net) for phase in PHASES),
                ", ".join(f"{each['fit'] / alone:.0%}" for each in net),
                mib(ranks[0]["predicted"] - ranks[0]["base"]),
                f"{ranks[0]['predicted'] / ranks[0]['peaks']['fit'] - 1:+.0%}",
            )
        )
    header = (
        "processes",
        "loading, MiB of each",
        "fit",
        "saving the position",
        "checkpoint",
        "fit, of one process's",
        "plan of the fit",
        "off, with libraries",
    )
    about = (
        f"{found['parameters'] / 1e6:,.0f}M parameters, whose weights, gradients and moments in float32 are "
        f"{mib(16 * found['parameters'])} MiB; over the libraries' {mib(found['cases']['1'][0]['base'])} MiB."
    )
    return "\n".join([told(found), "", about, "", *table(header, rows)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model")
    parser.add_argument("--processes", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        worker(given.model, given.worker)
        return
    with tempfile.TemporaryDirectory() as folder:
        if not given.model:
            drawn_model(DRAWN).save_pretrained(folder)
        model = given.model or folder
        found: dict[str, Any] = {
            "command": command("sharding.py"),
            "machine": machine() | {"threads": 1},
            "versions": versions("transformers", "accelerate"),
            "parameters": inspect(Path(model)).size,
            "cases": {str(count): launched(model, count) for count in given.processes},
        }
    name = f"sharding_{Path(given.model).name if given.model else 'drawn'}"
    (HERE / "results" / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(report(found))
    write_section(report(found), f"sharding.py {'model' if given.model else 'drawn'}")


if __name__ == "__main__":
    main()
