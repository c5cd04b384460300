"""What is worth measuring on a GPU, in less than eight minutes: agreement, attention, training, memory, sampling.

    python benchmarks/gpu.py [--out FOLDER]     measure on the GPU; FOLDER/gpu.json and FOLDER/gpu.md (default: results)
    python benchmarks/gpu.py --dry --out FOLDER the same program on the CPU with tiny shapes, to see that it runs
    python benchmarks/gpu.py --draw [FOLDER]    put FOLDER/gpu.md into README.md
    python benchmarks/gpu.py --only NAME ...    some sections

Models are drawn from configurations: Qwen2's of 0.5B, all weights trained, and Llama's of 8B, with adapters. Every
section runs in a process of its own, has a budget of seconds, and writes what it has as it goes; one that fails, lacks
a library or runs out of time is recorded as that, and the next begins. TRL, vLLM and bitsandbytes are used where they
are installed. Times are the clock's, with the device's queue drained; compared programs take turns on the same batches.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import os
import signal
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import generate
import memory
import torch
import train
import transformers
from common import HERE, command, fit_of, groups_of, machine, table, versions, write_section
from tokenizers import Tokenizer, models

from equipoise.core.objectives import Dpo
from equipoise.data.collate import collate
from equipoise.data.pack import pack
from equipoise.policy import checkpoint
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.generation.backends import choose_backend
from equipoise.policy.generation.sampling import sample
from equipoise.policy.kernels.attention import packed_attention
from equipoise.policy.kernels.device_attention import FORMS, why_not
from equipoise.policy.kernels.segment_layout import Layout
from equipoise.policy.protocol import Decoding

LIMIT = 470  # seconds of all sections together
MARGIN = 0.85  # of a section's seconds in which it begins another step
FULL, LORA = "0.5B", "8B"
TINY = {"num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 128, "vocab_size": 512}
TINY |= {"num_attention_heads": 4, "num_key_value_heads": 2}
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    FULL: (
        "Qwen2Config",
        {"num_hidden_layers": 24, "hidden_size": 896, "intermediate_size": 4864, "vocab_size": 151936}
        | {"num_attention_heads": 14, "num_key_value_heads": 2, "tie_word_embeddings": True},
    ),
    LORA: (
        "LlamaConfig",
        {"num_hidden_layers": 32, "hidden_size": 4096, "intermediate_size": 14336, "vocab_size": 128256}
        | {"num_attention_heads": 32, "num_key_value_heads": 8, "tie_word_embeddings": False},
    ),
}
LIBRARIES = ("trl", "vllm", "bitsandbytes", "peft", "accelerate", "transformers")
Note = Callable[[str, Any], None]  # a figure's name and value, written at once


@dataclass(frozen=True)
class Plan:
    """Sizes of a run of this program: on a GPU, or tiny ones on a CPU.

    until    the clock's time at which no further step is begun.
    """

    device: str
    dry: bool
    until: float = 0.0

    def of(self, whole: Any, tiny: Any) -> Any:
        return tiny if self.dry else whole

    @property
    def goes_on(self) -> bool:
        return time.time() < self.until

    def sync(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()

    def clock(self, act: Callable[[], Any]) -> tuple[float, Any]:
        """Seconds of the clock, and what was made."""
        self.sync()
        begin = time.perf_counter()
        made = act()
        self.sync()
        return time.perf_counter() - begin, made

    def folder(self, name: str, parent: Path) -> Path:
        """A drawn model of this size, stored in bfloat16 with a tokenizer, as checkpoints come."""
        kind, shape = SHAPES[name]
        config = getattr(transformers, kind)(
            **(shape | self.of({}, TINY)),
            max_position_embeddings=2048,
            bos_token_id=1,
            eos_token_id=1,
            pad_token_id=0,
        )
        torch.manual_seed(0)
        with torch.device(self.device):
            model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        model.save_pretrained(parent / name)
        words().save_pretrained(parent / name)
        return parent / name

    def words(self, name: str) -> int:
        """Words of a model."""
        return int((SHAPES[name][1] | self.of({}, TINY))["vocab_size"])

    def pairs(self, count: int, prompt: int, response: int, spread: float, name: str) -> list[Any]:
        """(prompt, chosen, rejected) of random tokens."""
        prompt, response = self.of((prompt, response), (24, 10))
        return [tuple(group) for group in groups_of(count, prompt, response, 2, self.words(name), spread)]


def words() -> Any:
    """A tokenizer whose two words are the special tokens: nothing here has texts."""
    bare = Tokenizer(models.WordLevel({"<pad>": 0, "<eos>": 1}, unk_token="<pad>"))
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=bare, pad_token="<pad>", eos_token="<eos>", model_max_length=train.LONGEST
    )


def agreement(plan: Plan, note: Note, parent: Path) -> None:
    """Packed rows beside padded ones in bf16, which paths are taken, a fit that is resumed, sampled log-probs."""
    folder = plan.folder(FULL, parent)
    load = partial(CausalPolicy.load, folder, words(), device=plan.device)
    groups = plan.pairs(plan.of(8, 2), 120, 45, 0.5, FULL)
    prompts, answers = [tuple(g[0]) for g in groups], [[tuple(r) for r in g[1:]] for g in groups]
    packed, padded = pack(prompts, answers), collate(prompts, answers, 0)

    def passed(policy: CausalPolicy, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
        logp = policy.logprobs(batch)[0]
        slope = torch.linspace(-1, 1.5, logp.numel(), device=logp.device).view(logp.shape)
        grads = torch.autograd.grad((slope * logp).sum(), [p for _, p in policy.parameters()])
        return logp.detach().flatten().double(), torch.cat([g.flatten() for g in grads])

    exact = passed(load(precision="fp32"), padded)
    policy = load(precision="bf16")
    for form in FORMS:
        note(f"attention by {form}", why_not(form, policy.device) or "exact")
    note("packed rows", bool(policy.scorer.max_packed_length))
    note("kernels of decoder layers", policy.scorer.decoder_layers is not None)
    note("sampler", choose_backend(policy.model).__name__)
    for name, batch in (("packed", packed), ("padded", padded)):
        found = passed(policy, batch)
        off = [float((a - b).norm() / b.norm()) for a, b in zip(found, exact, strict=True)]
        note(f"{name} bf16 from padded fp32: log-probs, gradient", off)
    del exact, found
    sampled = sample(
        policy, generate.prompts_of(chat(4, 4, 16), policy), 4, seed=0, decoding=Decoding(max_new_tokens=16)
    )
    with torch.no_grad():
        again = policy.logprobs(
            policy.batch(
                [p.ids for p in generate.prompts_of(chat(4, 4, 16), policy)],
                [[r.ids for r in group] for group in sampled],
            )
        )[0]
    told = torch.tensor([[r.logp for r in group] for group in sampled])
    note("sampled and scored log-probs differ by, nats a token", float((again.cpu() - told).abs().max() / 16))
    note("a resumed fit", resumed(load, groups, parent / "position.safetensors"))


def attention(plan: Plan, note: Note, parent: Path) -> None:
    """Milliseconds of a packed row's attention, forward and backward, by each kernel, in half precision."""
    pairs, prompt, answer = plan.of((8, 512, 256), (2, 24, 10))
    for name in SHAPES:
        heads, groups, size = plan.of({FULL: (14, 2, 64), LORA: (32, 8, 128)}[name], (4, 2, 16))
        tree = ((prompt, (answer, answer)),) * pairs
        shape = pairs * (prompt + 2 * answer), size
        q, k, v = (
            torch.randn(shape[0], n, size, device=plan.device, dtype=torch.bfloat16, requires_grad=True)
            for n in (heads, groups, groups)
        )
        found: dict[str, Any] = {}
        for form in (None, *FORMS):
            layout = Layout(tree, q.device, form=form)
            step = partial(forward_and_backward, q, k, v, layout)
            if form and why_not(form, q.device):
                found[form] = "not exact here"
                continue
            plan.clock(step)  # what is compiled
            times = [plan.clock(step)[0] for _ in range(plan.of(10, 2))]
            found[form or "auto"] = 1e3 * statistics.median(times)
            note(f"{name}, ms", found)


def forward_and_backward(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, layout: Layout) -> None:
    out = packed_attention(q, k, v, layout, q.shape[-1] ** -0.5)
    torch.autograd.grad(out.float().square().sum(), (q, k, v))


def resumed(load: Callable[..., CausalPolicy], groups: list[Any], path: Path) -> dict[str, float]:
    """Three steps, and three of which the last was taken by another policy that read the position after two."""
    losses, weights = [], []
    for stops in (False, True):
        policy = load(precision="bf16")
        fit = fit_of(policy, groups, Dpo(beta=0.1))
        fit.training = fit.training.__class__(**(vars(fit.training) | {"epochs": 3}))
        for _ in range(2):
            fit.step()
        if stops:
            checkpoint.save_progress(path, policy, fit.optimizer, {"step": 2})
            policy = load(precision="bf16")
            anchors = fit.anchors
            fit = fit_of(policy, groups, Dpo(beta=0.1), anchors=dict(anchors))
            checkpoint.load_progress(path, policy, fit.optimizer)
            fit.position = 2
        losses.append(fit.step()["loss"])
        weights.append(torch.cat([p.detach().flatten().cpu() for _, p in policy.parameters()]))
    difference = float((weights[0] - weights[1]).abs().max())
    return {"loss": abs(losses[0] - losses[1]), "largest weight": difference}


def chat(prompts: int, samples: int, tokens: int) -> generate.Case:
    return generate.Case("drawn", "bf16", "chat", prompts, samples, tokens, 1)


def training(plan: Plan, note: Note, parent: Path, *, name: str, lora: int, data: str) -> None:
    """Full steps of every program in turn on the same batches; the first two of each are not counted."""
    folder = plan.folder(name, parent)
    spread, lengths = (0.75, (120, 45)) if data == "dialogue" else (0.0, (512, 512))
    count = plan.of(12, 4)
    pairs = plan.pairs(train.BATCH * count, *lengths, spread, name)
    programs = (train.OURS, train.TUNED, train.DEFAULT)
    if importlib.util.find_spec("trl") is None:
        note("TRL", "not installed")
        programs = programs[:1]
    case = train.Case(name, data, "bf16", lora, count, programs, device=plan.device)
    begun: dict[str, Iterator[float]] = {}
    failed: dict[str, str] = {}

    def tried(program: str, act: Callable[[], Any]) -> tuple[float, Any]:
        try:
            return plan.clock(act)
        except Exception as error:  # noqa: BLE001 - one program's failure is a figure of its own
            begun.pop(program, None)
            failed[program] = said(error)
            note("failed", failed)
            return 0.0, None

    for program in programs:
        begun[program] = train.PROGRAMS[program](case, folder, pairs, words())
        tried(program, partial(next, begun[program]))
    seconds: dict[str, list[float]] = {program: [] for program in programs}
    for step in range(count):
        for program in [p for p in programs if p in begun]:
            spent, loss = tried(program, partial(next, begun[program]))
            if step >= 2 and loss is not None:
                seconds[program].append(spent)
        note("seconds", seconds)
        if not plan.goes_on:
            break
    tokens = sum(2 * len(p) + len(c) + len(r) for p, c, r in pairs) / len(pairs)
    note("tokens a pair, its prompt twice", tokens)
    medians = {program: statistics.median(times) for program, times in seconds.items() if times}
    note("tokens/s", {program: train.BATCH * tokens / each for program, each in medians.items()})
    ours = medians.get(train.OURS)
    if ours:
        note("over ours", {program: each / ours for program, each in medians.items()})


def peaks(plan: Plan, note: Note, parent: Path) -> None:
    """Largest allocation of a fit beside the estimate of `equipoise plan`."""
    folder, found = plan.folder(FULL, parent), {}
    names = ["full", "full, checkpointing", "LoRA, bfloat16 base", "LoRA, bfloat16 base, checkpointing"]
    if importlib.util.find_spec("bitsandbytes") and not plan.dry:
        names += ["LoRA, 4-bit base"]
    for name in names:
        case = memory.measured(
            str(folder), name, plan.device, plan.of((8, 512, 256, 4), (2, 16, 8, 1)), "bf16"
        )
        said, probed = case["measured"], case["predicted"][1]
        found[name] = {"measured": said, "plan": probed, "off": probed / said - 1}
        note("bytes", found)
        if not plan.goes_on:
            break


def generation(plan: Plan, note: Note, parent: Path) -> None:
    """Tokens a second of our sampler, of `generate` and of vLLM, on the same prompts."""
    folder = plan.folder(FULL, parent)
    policy = CausalPolicy.load(folder, words(), precision="bf16", device=plan.device)
    policy.model.generation_config.eos_token_id = (
        plan.words(FULL) + 1
    )  # nothing ends: every response is as long
    policy.tokenizer.eos_token = None
    case = chat(*plan.of((64, 8, 256), (3, 2, 6)))
    prompts = generate.prompts_of(case, policy)
    programs: dict[str, Callable[[], list[list[int]]]] = {
        "ours": lambda: generate.ours(policy, prompts, case),
        "generate": lambda: generate.theirs(policy, prompts, case, batch=case.prompts, cache="dynamic"),
    }
    if importlib.util.find_spec("vllm"):
        decoding = Decoding(max_new_tokens=case.tokens, engine="vllm", memory=0.5)

        def by_vllm() -> list[list[int]]:
            groups = sample(policy, prompts, case.samples, seed=0, decoding=decoding)
            return [list(response.ids) for group in groups for response in group]

        programs["vLLM"] = by_vllm
    else:
        note("vLLM", "not installed")
    rates: dict[str, list[float]] = {}
    failed: dict[str, str] = {}
    for turn in range(3):  # the first has what is compiled or started
        for name, program in programs.items():
            if name in failed or not plan.goes_on:
                continue
            try:
                seconds, rows = plan.clock(program)
            except Exception as error:  # noqa: BLE001 - as in training
                failed[name] = said(error)
                note("failed", failed)
                continue
            note(f"first call of {name}, s", seconds) if not turn else None
            if turn:
                rates.setdefault(name, []).append(sum(map(len, rows)) / seconds)
                note("tokens/s", {n: statistics.median(found) for n, found in rates.items()})


SECTIONS: dict[str, tuple[Callable[[Plan, Note, Path], None], int]] = {
    "agreement": (agreement, 60),
    "attention": (attention, 30),
    "train 0.5B, dialogue": (partial(training, name=FULL, lora=0, data="dialogue"), 70),
    "train 0.5B, no padding": (partial(training, name=FULL, lora=0, data="no padding"), 60),
    "train 8B LoRA, dialogue": (partial(training, name=LORA, lora=16, data="dialogue"), 140),
    "memory": (peaks, 40),
    "generation": (generation, 85),
}


def said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".strip().splitlines()[0][:300]


def child(name: str, dry: bool, seconds: float, path: Path) -> None:
    """One section in a process and a process group of its own."""
    os.setsid()
    # the parent's import of torch has started nothing that a fork would break
    device = "cpu" if dry or not torch.cuda.is_available() else "cuda"
    if dry:
        torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    found: dict[str, Any] = {}

    def note(what: str, value: Any) -> None:
        found[what] = value
        draft = path.with_suffix(".draft")
        draft.write_text(json.dumps(found), encoding="utf-8")
        draft.replace(path)

    note("device", torch.cuda.get_device_name() if device == "cuda" else "cpu")
    act, _ = SECTIONS[name]
    with tempfile.TemporaryDirectory() as folder:
        try:
            act(Plan(device, dry, time.time() + MARGIN * seconds), note, Path(folder))
            note("status", "done")
        except Exception as error:  # noqa: BLE001 - a section that fails is recorded
            traceback.print_exc()
            note("status", f"failed: {said(error)}")
    sys.stdout.flush()
    os._exit(0)  # libraries may have left threads


def run(name: str, dry: bool, seconds: float) -> dict[str, Any]:
    """A section's figures; what it had written where it was stopped."""
    begin = time.time()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "section.json"
        process = multiprocessing.get_context("fork").Process(target=child, args=(name, dry, seconds, path))
        process.start()
        process.join(seconds)
        if process.is_alive():
            os.killpg(process.pid, signal.SIGKILL)  # engines that it has started too
            process.join()
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    found.setdefault(
        "status", f"stopped: {seconds:.0f} s were over, or the process died ({process.exitcode})"
    )
    return found | {"wall": round(time.time() - begin, 1)}


def report(found: dict[str, Any]) -> str:
    """All figures as a table, one row each."""
    rows = []
    for name, section in found["sections"].items():
        for what, value in section.items():
            if what not in ("seconds", "device"):
                rows.append((name, what, shown(value)))
    made_of = ", ".join(f"{name} {v}" for name, v in found["versions"].items())
    device = " and ".join(sorted({s.get("device", "?") for s in found["sections"].values()}))
    dry = " **A dry run with tiny shapes: its figures say nothing.**" if found["dry"] else ""
    head = f"{device}; {made_of}; {found['wall']:.0f} s. `{found['command']}`.{dry}"
    return "\n".join([head, "", *table(("section", "what", "figure"), rows)])


def shown(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{name} {shown(each)}" for name, each in value.items())
    if isinstance(value, list):
        return ", ".join(map(shown, value))
    return f"{value:,.4g}" if isinstance(value, float) else str(value).replace("|", "/")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dry", action="store_true")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    parser.add_argument("--only", nargs="*", default=list(SECTIONS), choices=list(SECTIONS))
    parser.add_argument("--draw", type=Path, nargs="?", const=HERE / "results")
    given = parser.parse_args()
    if given.draw:
        write_section((given.draw / "gpu.md").read_text(encoding="utf-8"), "gpu.py")
        return
    if given.dry and given.out == HERE / "results":
        parser.error("--dry needs --out: its figures are none")
    os.environ.setdefault(
        "PYTORCH_NVML_BASED_CUDA_CHECK", "1"
    )  # whether there is a GPU, without waking it here
    if not given.dry and not torch.cuda.is_available():
        parser.error("there is no GPU; --dry runs this program on a CPU")
    given.out.mkdir(parents=True, exist_ok=True)
    begin = time.time()
    found: dict[str, Any] = {
        "command": command("gpu.py"),
        "dry": given.dry,
        "machine": machine(),
        "versions": versions(*(name for name in LIBRARIES if importlib.util.find_spec(name))),
        "sections": {},
    }
    for name in given.only:
        left = LIMIT - (time.time() - begin)
        found["sections"][name] = (
            run(name, given.dry, min(SECTIONS[name][1], left))
            if left > 10
            else {"status": "left out: no time"}
        )
        found["wall"] = round(time.time() - begin, 1)
        (given.out / "gpu.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        (given.out / "gpu.md").write_text(report(found), encoding="utf-8")
        print(f"{name}: {found['sections'][name]['status']}", file=sys.stderr, flush=True)
    print(report(found))


if __name__ == "__main__":
    main()
