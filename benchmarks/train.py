"""Full training steps of DPO, ours against TRL's, interleaved step by step in one process on the same batches.

python benchmarks/train.py --pairs FILE    measure (--case 0 1: some), then write the section of README.md
python benchmarks/train.py --draw          write the section again from the figures that are there

FILE holds dialogue pairs (JSON lines: prompt, chosen, rejected as chat messages). TRL must be installed for its
columns; without it ours are compared with each other. A step is forward, backward, clipping and AdamW. Times are
processor time of one thread: other programs on the machine distort it less than the clock.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import importlib.util
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from common import SHAPES, drawn_model, fit_of, machine, work
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from equipoise.core.objectives import Dpo
from equipoise.policy.causal import CausalPolicy

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "train.json"
BEGIN, END = "<!-- train.py writes from here -->", "<!-- to here: train.py -->"
BATCH, BETA, RATE, VOCABULARY, LONGEST = 8, 0.1, 1e-5, 8192, 1024
OURS, ROWS = "equipoise", "equipoise, padded rows"
TUNED, DEFAULT = "TRL tuned", "TRL default"
Pair = tuple[list[int], list[int], list[int]]  # ids of prompt, chosen, rejected


@dataclass(frozen=True)
class Case:
    """What is compared: model, data, precision, full or LoRA, how many steps of each program, and pairs of a step."""

    size: str
    data: str
    precision: str
    lora: int
    steps: int
    programs: tuple[str, ...]
    batch: int = BATCH
    device: str = "cpu"


CASES = (
    Case("5M", "dialogue", "fp32", 0, 9, (OURS, ROWS, TUNED, DEFAULT)),
    Case("5M", "dialogue by length", "fp32", 0, 7, (OURS, TUNED)),
    Case("5M", "no padding", "fp32", 0, 7, (OURS, ROWS, TUNED, DEFAULT)),
    Case("5M", "dialogue", "fp32", 8, 7, (OURS, TUNED, DEFAULT)),
    Case("5M", "dialogue", "bf16", 0, 3, (OURS, TUNED, DEFAULT)),
    Case("100M", "dialogue", "fp32", 0, 9, (OURS, TUNED)),
)


def dialogues(path: Path) -> tuple[list[Pair], Any]:
    """Pairs as token ids, by a byte-level BPE learnt from them, and the tokenizer."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]

    def text(turns: list[dict[str, str]]) -> str:
        return "".join(f"\n\n{turn['role']}: {turn['content']}" for turn in turns)

    texts = [tuple(text(line[part]) for part in ("prompt", "chosen", "rejected")) for line in lines]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=["<pad>", "<eos>"])
    bpe.train_from_iterator([part for parts in texts for part in parts], trainer)
    pairs = [tuple(bpe.encode(part).ids + [1] * (n > 0) for n, part in enumerate(parts)) for parts in texts]
    kept = [pair for pair in pairs if len(pair[0]) + max(map(len, pair[1:])) <= LONGEST]
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token="<pad>", eos_token="<eos>"
    )
    tokenizer.model_max_length = LONGEST
    return kept, tokenizer


def unpadded(count: int, length: int = 128) -> list[Pair]:
    """Pairs of random tokens whose prompts and responses are all equally long: nothing to pad, little to share."""
    draw = np.random.default_rng(0).integers(2, VOCABULARY, (count, 3, length))
    return [tuple(part.tolist() for part in pair) for pair in draw]


def make_model(size: str, folder: Path, tokenizer: Any) -> None:
    drawn_model(SHAPES[size], LONGEST).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def ours(
    case: Case,
    folder: Path,
    pairs: list[Pair],
    tokenizer: Any,
    *,
    packed: bool = True,
) -> Iterator[float]:
    """Losses of our steps, one `next` each."""
    how = {"precision": case.precision, "lora_rank": case.lora}
    policy = CausalPolicy.load(folder, tokenizer, **how, device=case.device)
    if not packed:
        policy.scorer.max_packed_length, policy.token_budget = 0, 2**30
    fit = fit_of(policy, pairs, Dpo(beta=BETA), batch=case.batch, rate=RATE)
    yield 0.0
    while True:
        yield fit.step()["loss"]


def peer(case: Case, folder: Path, pairs: list[Pair], tokenizer: Any, *, tuned: bool) -> Iterator[float]:
    """Losses of TRL's steps: its own collator, `training_step` and settings; clipping and AdamW as the Trainer's loop.

    Tuned: reference log-probs are computed before and activations are kept. Default: a live reference model, and
    gradient checkpointing. Half precision is autocast, as its default is.
    """
    from datasets import Dataset
    from peft import LoraConfig
    from trl import DPOConfig, DPOTrainer
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    args = DPOConfig(
        output_dir=str(folder / "trl"),
        beta=BETA,
        bf16=case.precision == "bf16",
        gradient_checkpointing=not tuned,
        precompute_ref_log_probs=False,
        per_device_train_batch_size=case.batch,
        learning_rate=RATE,
        lr_scheduler_type="constant",
        max_length=LONGEST,
        use_cpu=case.device == "cpu",
        # beside our frozen base, which is held as its files have it
        model_init_kwargs={"dtype": "bfloat16"} if case.lora and case.device != "cpu" else None,
        report_to=[],
    )
    adapter = LoraConfig(
        r=case.lora, lora_alpha=2 * case.lora, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    trainer = DPOTrainer(
        model=str(folder),
        args=args,
        train_dataset=Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "c"}]),
        processing_class=tokenizer,
        peft_config=adapter if case.lora else None,
    )
    if not tuned:
        trainer.model.gradient_checkpointing_enable(args.gradient_checkpointing_kwargs)
    trainer.current_gradient_accumulation_steps = 1  # set by the loop that we stand in for
    model = trainer.accelerator.prepare(trainer.model)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=RATE, fused=True)
    collate = DataCollatorForPreference(pad_token_id=0, max_length=LONGEST)
    named = [dict(zip(("prompt_ids", "chosen_ids", "rejected_ids"), pair, strict=True)) for pair in pairs]
    batches = [collate(named[i : i + case.batch]) for i in range(0, len(named), case.batch)]
    if tuned:
        for batch in batches:
            chosen, rejected = trainer.compute_ref_log_probs(trainer.ref_model or trainer.model, batch)
            batch |= {"ref_chosen_logps": chosen, "ref_rejected_logps": rejected}
        trainer.precompute_ref_logps, trainer.ref_model = True, None
    yield 0.0
    while True:
        for batch in batches:
            loss = trainer.training_step(model, batch)
            trainer.accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            yield float(loss)


PROGRAMS: dict[str, Callable[..., Iterator[float]]] = {
    OURS: ours,
    ROWS: lambda *about: ours(*about, packed=False),
    TUNED: lambda *about: peer(*about, tuned=True),
    DEFAULT: lambda *about: peer(*about, tuned=False),
}


def prepared(case: Case, source: Path, folder: Path) -> tuple[list[Pair], Any]:
    """The case's batches end to end. By length: pairs of a batch are neighbours in the order of lengths, which leaves
    little to pad."""
    pairs, tokenizer = dialogues(source)
    draw = np.random.default_rng(0)
    if case.data == "no padding":
        pairs = unpadded(BATCH * case.steps)
    elif case.data == "dialogue by length":
        pairs = sorted(pairs, key=lambda pair: len(pair[0]) + max(map(len, pair[1:])))
        begins = draw.permutation(len(pairs) // BATCH)[: case.steps] * BATCH
        pairs = [pair for begin in begins for pair in pairs[begin : begin + BATCH]]
    else:
        pairs = [pairs[i] for i in draw.permutation(len(pairs))[: BATCH * case.steps]]
    make_model(case.size, folder, tokenizer)
    return pairs, tokenizer


def on_paper(case: Case, pairs: list[Pair]) -> list[float]:
    """FLOPs of TRL's tuned step over ours, batch by batch: two rows a pair, all as long as the longest; ours share
    prompts, pad nothing and prune the last layer. The head sees scored tokens only in both."""
    shape, found = SHAPES[case.size], []
    for begin in range(0, len(pairs), BATCH):
        batch = pairs[begin : begin + BATCH]
        longest = max(len(prompt) + max(map(len, answers)) for prompt, *answers in batch)
        rows = [([0] * longest, [0])] * (2 * len(batch))  # an answer of one token, which nothing reads
        padded, own = work(shape, rows, shared=False, pruned=False), work(shape, batch)
        found.append((padded.total - padded.head + own.head) / own.total)
    return found


def measure(case: Case, source: Path, memory: bool) -> dict[str, Any]:
    """Step by step, every program in turn on the same batch; the first step of each is not counted."""
    torch.set_num_threads(1)
    programs = [p for p in case.programs if p in (OURS, ROWS) or importlib.util.find_spec("trl")]
    with tempfile.TemporaryDirectory() as name:
        pairs, tokenizer = prepared(case, source, Path(name))
        steps = {p: PROGRAMS[p](case, Path(name), pairs, tokenizer) for p in programs}
        for run in steps.values():
            next(run)
        found: dict[str, dict[str, list[float]]] = {p: {"cpu": [], "wall": [], "loss": []} for p in programs}
        for step in range(case.steps):
            for program, run in steps.items():
                clock, processor = time.perf_counter(), time.process_time()
                loss = next(run)
                if step:
                    found[program]["cpu"].append(time.process_time() - processor)
                    found[program]["wall"].append(time.perf_counter() - clock)
                found[program]["loss"].append(loss)
        peaks = {p: peak(case, source, p) for p in programs if memory}
    tokens = np.array([[len(p) + len(c), len(p) + len(r), len(p)] for p, c, r in pairs])
    return {
        "case": asdict(case),
        "tokens_per_pair": float(tokens[:, :2].sum() / len(pairs)),
        "shared_tokens_per_pair": float((tokens[:, :2].sum() - tokens[:, 2].sum()) / len(pairs)),
        "programs": found,
        "peak_bytes": peaks,
        "flops": on_paper(case, pairs)[1:],
    }


def peak(case: Case, source: Path, program: str) -> int:
    """Bytes by which two steps raise the memory of a process of its own above what it holds before them."""
    about = json.dumps([asdict(case), str(source), program])
    done = subprocess.run(
        [sys.executable, __file__, "--peak", about], check=True, capture_output=True, text=True
    )
    return int(done.stdout.splitlines()[-1])


def measure_peak(about: str) -> int:
    settings, source, program = json.loads(about)
    case = Case(**(settings | {"steps": 2}))
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        pairs, tokenizer = prepared(case, Path(source), Path(name))
        run = PROGRAMS[program](case, Path(name), pairs, tokenizer)
        next(run)
        with contextlib.suppress(OSError):  # Linux: forget the peak of what came before
            Path("/proc/self/clear_refs").write_text("5")
        before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
        for _ in range(2):
            next(run)
        status = Path("/proc/self/status").read_text()
        highest = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
        return highest * 1024 - before


def ratios(found: dict[str, Any], program: str) -> np.ndarray:
    """Times of a program over ours, step by step; quartiles."""
    programs = found["programs"]
    return np.quantile(
        np.array(programs[program]["cpu"]) / np.array(programs[OURS]["cpu"]), [0.25, 0.5, 0.75]
    )


def section(results: dict[str, Any]) -> str:
    about, versions = results["machine"], results["versions"]
    lines = [
        f"{about['cpu']} ({about['capability']}), one thread, {about['platform']}; "
        f"{', '.join(f'{n} {v}' for n, v in versions.items())}. A step is {BATCH} pairs: forward, backward, clipping, "
        "AdamW. Medians of processor time; ratios are step by step on the same batch, with their quartiles. Other "
        f"programs ran beside it (load average up to {max(c['load'][1] for c in results['cases']):.0f}).",
        "",
        "| model | data | precision | trained | program | ms a step | pairs/s | tokens/s | over ours | FLOPs over ours "
        "| peak memory |",
        "|---|---|---|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for found in results["cases"]:
        case = found["case"]
        # a default step forms activations again, and reads with a second model; adapters need no gradient of weights
        passes = 2 if case["lora"] else 3
        paper = {TUNED: np.median(found["flops"]), DEFAULT: np.median(found["flops"]) * (passes + 2) / passes}
        head = (
            f"| {case['size']} | {case['data']} | {case['precision']} | {'LoRA' if case['lora'] else 'all'} |"
        )
        for program, times in found["programs"].items():
            seconds = float(np.median(times["cpu"]))
            low, middle, high = ratios(found, program)
            ratio = "1" if program == OURS else f"**{middle:.1f}** ({low:.1f} to {high:.1f})"
            bytes_ = found["peak_bytes"].get(program)
            lines.append(
                f"{head} {program} | {1e3 * seconds:,.0f} | {BATCH / seconds:.1f} | "
                f"{BATCH * found['tokens_per_pair'] / seconds:,.0f} | {ratio} | "
                f"{f'{paper[program]:.1f}' if program in paper else '-'} | "
                f"{'-' if bytes_ is None else f'{bytes_ / 2**20:,.0f} MiB'} |"
            )
    lines += [
        "",
        "Tokens are those of prompt and response, twice the prompt's for a pair. FLOPs are on paper: TRL pads the rows "
        "of a batch to the longest, so it depends on the batches drawn how much there is to save. Peak memory is what "
        "two steps add to a process that holds model, optimizer and, for TRL's default, reference.",
    ]
    return "\n".join(lines)


def record(found: dict[str, Any]) -> None:
    """Put a case's figures, with where and when they were measured, in place of those that were there."""
    names = ["torch", "transformers", "accelerate", "peft"] + ["trl"] * bool(importlib.util.find_spec("trl"))
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"cases": []}
    others = [other for other in results["cases"] if key(other) != key(found)]
    results |= {
        "command": "python benchmarks/train.py --pairs FILE",
        "machine": machine(),
        "versions": {name: version(name) for name in names} | {"python": platform.python_version()},
        "cases": sorted([*others, found | {"load": os.getloadavg()}], key=key),
    }
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    print(key(found), {p: np.median(v["cpu"]) for p, v in found["programs"].items()}, file=sys.stderr)


def key(found: dict[str, Any]) -> tuple[str, ...]:
    case = found["case"]
    return (case["size"][::-1], case["precision"][::-1], case["data"], str(case["lora"]))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=Path)
    parser.add_argument("--case", type=int, nargs="*", help="only these cases, by number")
    parser.add_argument(
        "--memory", action="store_true", help="measure peak memory too, in processes of their own"
    )
    parser.add_argument("--draw", action="store_true")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not (options.draw or options.pairs or options.peak):
        parser.error("--pairs FILE is needed to measure")
    if options.peak:
        print(measure_peak(options.peak))
        return
    for number, case in enumerate(CASES):
        if not options.draw and (options.case is None or number in options.case):
            record(measure(case, options.pairs, options.memory))
    readme = HERE / "README.md"
    before, rest = readme.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    text = section(json.loads(RESULTS.read_text()))
    readme.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
