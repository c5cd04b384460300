"""INPO with `vllm serve` as its sampler and its judge, killed and resumed, beside the same run with our own sampler.

One server, on the model that is trained: its base answers as the judge, and the policy is a LoRA adapter that is
handed over each time that it has moved. Both runs have the same settings; only `sampling.engine` differs.

    python benchmarks/vllm_server.py VLLM --model FOLDER [--out FOLDER] [--prompts 12] [--new-tokens 24]

VLLM is a `vllm` program, of any environment. On a CPU: VLLM_CPU_KVCACHE_SPACE=1.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common import HERE, machine, versions

RANK, ROUNDS, SAMPLES = 8, 3, 4
ENGINES = ("vllm_server", "torch")
KILLED_IN = 2  # the round
SUBJECTS = (
    "rain", "a river at night", "bread", "the moon", "an old clock", "a lost key", "winter", "a small boat",
    "the colour blue", "a quiet street", "honey", "a paper kite", "the wind", "a red bicycle", "a lighthouse", "tea",
    "a garden gate", "snow on a roof", "a violin", "the first of May",
)  # fmt: skip


def prompts(path: Path, count: int) -> None:
    """A file of questions; a fifth of them is held out by the run."""
    asked = ("Write one short line about {}.", "Say in a few words what one can do with {}.")
    rows = [{"prompt": asked[i % 2].format(SUBJECTS[i % len(SUBJECTS)])} for i in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def judge(path: Path, address: str) -> None:
    path.write_text(
        f"kind: judge\nmodel: base\nbase_url: {address}/v1\nmax_tokens: 24\ntimeout: 600\n", encoding="utf-8"
    )


@contextmanager
def serving(program: str, model: str, log: Path) -> Iterator[tuple[str, float]]:
    """(address, seconds until it answered) of a server with adapters."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = [
        *("serve", model, "--host", "127.0.0.1", "--port", str(port), "--served-model-name", "base"),
        *("--dtype", "float32", "--max-model-len", "1024", "--enforce-eager"),
        *("--enable-lora", "--max-lora-rank", str(RANK), "--logprobs-mode", "raw_logprobs"),
    ]
    begun, address = time.perf_counter(), f"http://127.0.0.1:{port}"
    with log.open("wb") as out:
        server = subprocess.Popen(
            [program, *options],
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"},
        )
    try:
        while not healthy(address):
            if server.poll() is not None:
                raise SystemExit(f"the server ended: {log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.5)
        yield address, time.perf_counter() - begun
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()


def healthy(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def align(engine: str, out: Path, args: argparse.Namespace, address: str) -> list[str]:
    """The command of a run."""
    settings = [
        f"model.lora_rank={RANK}", "data.wrap=chat", "data.max_length=256", f"play.samples={SAMPLES}",
        "train.batch=4", "train.epochs=1", f"sampling.max_new_tokens={args.new_tokens}", f"sampling.engine={engine}",
        "evaluate.prompts=3", "evaluate.samples=1", f"evaluate.every={ROUNDS}", "judging.concurrency=8",
        "judging.failures=0.2",
    ]  # fmt: skip
    if engine == "vllm_server":
        settings.append(f"sampling.servers=[{address}]")
    return [
        *(sys.executable, "-m", "equipoise", "align", "inpo", "--model", args.model),
        *("--data", str(out.parent / "prompts.jsonl"), "--oracle", str(out.parent / "judge.yaml")),
        *("--rounds", str(ROUNDS), "--out", str(out), "--set", *settings),
    ]


def run(asked: Sequence[str], log: Path) -> float:
    """Seconds of a run to its end."""
    begun = time.perf_counter()
    with log.open("ab") as out:
        if subprocess.run(asked, stdout=out, stderr=subprocess.STDOUT, check=False).returncode:
            raise SystemExit(f"a run failed: {log.read_text(errors='replace')[-3000:]}")
    return time.perf_counter() - begun


def killed(asked: Sequence[str], out: Path, log: Path) -> tuple[float, str]:
    """(seconds until the kill, what the run had of its round) of a run that is killed as soon as it has sampled."""
    begun, stage = time.perf_counter(), out / "rounds" / f"{KILLED_IN:03d}" / "sampling.parquet"
    with log.open("ab") as file:
        process = subprocess.Popen(asked, stdout=file, stderr=subprocess.STDOUT)
        while not stage.exists():
            if process.poll() is not None:
                raise SystemExit(f"it ended before it was killed: {log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.05)
        process.kill()
        process.wait()
    there = sorted(file.name for file in stage.parent.iterdir())
    return time.perf_counter() - begun, ", ".join(there)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def phases(out: Path) -> dict[str, float]:
    """Seconds of each phase of the rounds, together."""
    spent: dict[str, float] = defaultdict(float)
    for line in lines(out / "timings.jsonl"):
        spent[line["phase"]] += line["seconds"]
    return {name: round(value, 2) for name, value in spent.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("vllm")
    parser.add_argument("--model", required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--prompts", type=int, default=12)
    parser.add_argument("--new-tokens", type=int, default=24)
    args = parser.parse_args()
    args.model = str(Path(args.model).resolve())
    folder = args.out or Path(tempfile.mkdtemp(prefix="vllm-server-"))
    folder.mkdir(parents=True, exist_ok=True)
    prompts(folder / "prompts.jsonl", args.prompts)
    found: dict[str, Any] = {
        "command": f"python benchmarks/{Path(__file__).name} VLLM --model {Path(args.model).name} "
        f"--prompts {args.prompts} --new-tokens {args.new_tokens}",
        "machine": machine(),
        "versions": versions("transformers", "peft"),
        "rounds": ROUNDS,
        "prompts": args.prompts,
        "samples": SAMPLES,
        "new_tokens": args.new_tokens,
    }
    with serving(args.vllm, args.model, folder / "serve.log") as (address, start):
        found["server_start_seconds"] = round(start, 1)
        judge(folder / "judge.yaml", address)
        for engine in ENGINES:
            out, log = folder / engine, folder / f"{engine}.log"
            asked, before = align(engine, out, args, address), os.getloadavg()[0]
            about: dict[str, Any] = {}
            if engine == "vllm_server":
                about["killed_after_seconds"], about["killed_with"] = killed(asked, out, log)
            about["seconds"] = round(run(asked, log), 1)
            about |= {"phases": phases(out), "load": [before, os.getloadavg()[0]]}
            if engine == "vllm_server":
                about["log_probs"] = lines(out / "engine.jsonl")
            found[engine] = about
            print(json.dumps({engine: about}), flush=True)
    (HERE / "results" / "vllm_server.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
