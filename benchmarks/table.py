"""A table of online methods on the large tea house, by a protocol that is set before the runs (`table_protocol.py`).

    python benchmarks/table.py plan                     write the trials of every method: results/table_trials.json
    python benchmarks/table.py exact [--panel skewed]   what can be known without a run: Bradley-Terry against Nash
    python benchmarks/table.py run [--panel skewed] [--only NAME ...] [--minutes 60]
    python benchmarks/table.py draw [--panel skewed] [--write]

Every run asks at most 1,024 judge calls. Settings are chosen per method among the same number of Sobol points, by
exploitability on tune prompts at a tune seed, subject to mass outside the grammar; reported are other prompts, five
other seeds and three checkpoints. A run is a line of results/table_PANEL.jsonl, with what its folder says: settings,
hash, inputs, judge calls, tokens; given again, the command goes on where it stopped, also in the middle of a run. Lines
hold `code`, a hash of the package's and the protocol's files; `run` refuses a tree with changes that are not committed,
and `draw` lines of another `code`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from table_page import exact_page, page
from table_protocol import (
    CHECKPOINTS,
    CONTENDERS,
    LEAK,
    SEEDS,
    TRIALS,
    TRIALS_FILE,
    TUNE_CHECKPOINT,
    TUNE_SEED,
    committed_trials,
    order,
    settings_of,
    splits,
    trials,
)
from table_rewards import reward_file

from equipoise import align
from equipoise.games import gaps
from equipoise.games.preference import PreferenceGame
from equipoise.games.tabular import TabularPolicy
from equipoise.playground.large import LargeTeaHouse, answer_logps, enumerated_policy, trie_of

HERE = Path(__file__).parent
RUNS = Path("runs/table")
PARAMETERS = 1_047_168  # of each checkpoint
CODE = ("src/equipoise", "benchmarks/table.py", "benchmarks/table_protocol.py", "benchmarks/table_rewards.py")
CHECKPOINT_FILES = "playground/large/checkpoints/"
LEAST = 1e-12


def results(panel: str) -> Path:
    return HERE / "results" / f"table_{panel}.jsonl"


def lines(panel: str) -> list[dict[str, Any]]:
    path = results(panel)
    return (
        [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    )


def code() -> str:
    """Hash of the committed files that results depend on. Raises ValueError for changes that are not committed."""
    changed = _git("status", "--porcelain", "--", *CODE)
    if changed:
        raise ValueError(f"commit these first, or the lines cannot say what made them:\n{changed}")
    entries = _git("ls-tree", "-r", "HEAD", "--", *CODE).splitlines()
    kept = [
        entry for entry in entries if CHECKPOINT_FILES not in entry
    ]  # those that a run starts from are its inputs
    return sha256("\n".join(kept).encode()).hexdigest()[:16]


def _git(*words: str) -> str:
    return subprocess.run(
        ["git", "-C", str(HERE.parent), *words], check=True, capture_output=True, text=True
    ).stdout.strip()


def chosen(found: list[dict[str, Any]], name: str) -> dict[str, Any] | None:
    """The trial of a method with the least exploitability on tune prompts among those that have not failed; None before
    all trials are there, or if all failed."""
    own = [line for line in found if line["role"] == "tune" and line["name"] == name]
    if len(own) < TRIALS:
        return None
    sound = [line for line in own if not line["failed"]]
    return min(sound, key=lambda line: line["tune"]["exploitability"]) if sound else None


def missing(panel: str, names: list[str], at: str) -> Iterator[dict[str, Any]]:
    """Runs that have no line yet: the trials, then the reports of methods whose settings are chosen."""
    drawn = committed_trials()

    def there(**about: Any) -> bool:
        return any(line["code"] == at and about.items() <= line.items() for line in lines(panel))

    for name, trial in order(names):
        about = {
            "role": "tune",
            "name": name,
            "trial": trial,
            "checkpoint": TUNE_CHECKPOINT,
            "seed": TUNE_SEED,
        }
        if not there(**about):
            yield about | {"settings": drawn[name][trial]}
    for seed in SEEDS:
        for checkpoint in CHECKPOINTS:
            for name in names:
                best = chosen([line for line in lines(panel) if line["code"] == at], name)
                if best is None:
                    continue
                about = {
                    "role": "report",
                    "name": name,
                    "trial": best["trial"],
                    "checkpoint": checkpoint,
                    "seed": seed,
                }
                if not there(**about):
                    yield about | {"settings": drawn[name][best["trial"]]}


def play(panel: str, about: Mapping[str, Any], at: str) -> dict[str, Any]:
    """One run, and its line."""
    name, checkpoint = about["name"], about["checkpoint"]
    contender = CONTENDERS[name]
    folder = RUNS / f"{panel}-{name}-{about['role']}-{about['trial']}-{checkpoint}-{about['seed']}"
    begun, failed, made = time.process_time(), None, None
    settings = settings_of(name, panel, checkpoint, about["settings"])
    if contender.reward:
        settings["oracle"] = reward_file(panel, checkpoint)
    try:
        made = align(
            contender.method, seed=about["seed"], out=folder, settings=settings, allow=["support"], quiet=True
        )
    except (ValueError, RuntimeError) as error:
        failed = f"{type(error).__name__}: {error}"
    line = {key: value for key, value in about.items() if key != "settings"}
    line |= {"code": at, "commit": _git("rev-parse", "--short=10", "HEAD"), "day": time.strftime("%Y-%m-%d")}
    if made is not None:
        line |= figures_of(panel, checkpoint, made.folder, about["role"])
        failed = failed or leak_of(line, about["role"])
    return line | {
        "folder": folder.name,
        "failed": failed,
        "cpu_seconds": round(time.process_time() - begun, 1),
    }


def leak_of(line: Mapping[str, Any], role: str) -> str | None:
    """Why a run has failed by the mass outside the grammar; None: it has not."""
    where = "tune" if role == "tune" else "combinations"
    leak = line[where]["outside"] - line[where]["reference_outside"]
    return f"{leak:.1%} of the mass left the grammar" if not leak <= LEAK else None


def figures_of(panel: str, checkpoint: str, folder: Path, role: str) -> dict[str, Any]:
    """What a run folder says of itself, and the exact figures of its last policy on the prompts of its role."""
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    curve, spent = [], {0: 0.0}
    for timing in read_lines(folder / "timings.jsonl"):
        flops = {"sampling": 2.0, "training": 6.0}.get(timing["phase"].split(" ")[0], 2.0)
        done = timing["round"]
        spent[done] = spent.get(done, 0.0) + flops * PARAMETERS * timing["tokens"]
    for entry in read_lines(folder / "evaluation.jsonl"):
        keys = ("round", "judge_calls", "exact_win_rate", "exact_kl", "exploitability", "outside")
        flops = sum(value for done, value in spent.items() if done <= entry["round"])
        curve.append({**{key: entry[key] for key in keys}, "flops": flops})
    wanted = splits()
    asked = (
        {"tune": wanted["tune"]}
        if role == "tune"
        else {key: wanted[key] for key in ("combinations", "words")}
    )
    measured = {key: exact(panel, checkpoint, folder, prompts) for key, prompts in asked.items()}
    return {
        "hash": summary["hash"],
        "inputs": inputs_of(folder),
        "rounds": curve[-1]["round"],
        "judge_calls": curve[-1]["judge_calls"],
        "flops": curve[-1]["flops"],
        "length": summary["length"]["value"],
        "curve": curve,
        **measured,
    }


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def inputs_of(folder: Path) -> str:
    """Hash of what the run was begun with: model, tokenizer, template, data."""
    return sha256((folder / "inputs.json").read_bytes()).hexdigest()[:16]


def exact(panel: str, checkpoint: str, folder: Path, prompts: list[int]) -> dict[str, float]:
    """Exact figures of a run's last policy on some prompts, the mean over them."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    last = max((folder / "checkpoints").glob("round-[0-9][0-9][0-9]"))
    game = LargeTeaHouse(panel)  # type: ignore[arg-type]
    tokenizer = AutoTokenizer.from_pretrained(last)
    model = AutoModelForCausalLM.from_pretrained(last, dtype=torch.float32).eval()
    ids = tokenizer([game.prompts[x] for x in prompts])["input_ids"]
    inside = answer_logps(model, ids, trie_of(tokenizer, game.responses)).exp()
    reference = enumerated_policy(checkpoint, given_inside=False)[prompts]
    return measure(game, prompts, _whole(inside), _whole(reference)) | {
        "reference_outside": float(1 - reference.sum(1).mean())
    }


def _whole(inside: torch.Tensor) -> TabularPolicy:
    """The policy with one more outcome, all text outside the grammar."""
    outside = (1 - inside.sum(1, keepdim=True)).clamp(min=LEAST)
    both = torch.cat([inside, outside], dim=1)
    return TabularPolicy.from_probs(both / both.sum(1, keepdim=True))


def measure(
    game: LargeTeaHouse, prompts: list[int], policy: TabularPolicy, reference: TabularPolicy
) -> dict[str, float]:
    """Means over prompts, one at a time."""
    totals = dict.fromkeys(("exploitability", "win_rate", "kl"), 0.0)
    for i, x in enumerate(prompts):
        ref = TabularPolicy(reference.logits[[i]])
        own = TabularPolicy(policy.logits[[i]])
        table = PreferenceGame(game.tables([x]), ref.probs())
        totals["exploitability"] += float(gaps.gap0(table, own)[0])
        totals["win_rate"] += float(gaps.win_rate(table, own, ref)[0])
        totals["kl"] += float(gaps.kl(own, ref)[0])
    return {key: value / len(prompts) for key, value in totals.items()} | {
        "outside": float(policy.probs()[:, -1].mean())
    }


def run(panel: str, names: list[str], minutes: float) -> None:
    at, begun, longest = code(), time.monotonic(), 0.0
    while (about := next(missing(panel, names, at), None)) is not None:
        if time.monotonic() + longest > begun + 60 * minutes:
            return
        started = time.monotonic()
        line = play(panel, about, at)
        longest = max(longest, time.monotonic() - started)
        with results(panel).open("a", encoding="utf-8") as out:
            out.write(json.dumps(line) + "\n")
        shutil.rmtree(
            RUNS / line["folder"] / "checkpoints", ignore_errors=True
        )  # the line is written: all is read
        told = {
            key: line.get(key)
            for key in ("role", "name", "trial", "checkpoint", "seed", "failed", "cpu_seconds")
        }
        print(json.dumps(told | {"tune": line.get("tune")}), flush=True)


def main() -> None:
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("plan", "exact", "run", "draw"))
    parser.add_argument("--panel", default="skewed")
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--code", help="draw: lines of this code, instead of the present one")
    parser.add_argument("--write", action="store_true", help="draw: write the page benchmarks/table.md")
    options = parser.parse_args()
    if options.what == "plan":
        TRIALS_FILE.write_text(json.dumps(trials(), indent=1) + "\n", encoding="utf-8")
    elif options.what == "exact":
        print(exact_page(options.panel, splits()["combinations"][::2]))
    elif options.what == "run":
        run(options.panel, options.only or list(CONTENDERS), options.minutes)
    else:
        at = options.code or code()
        text = page(options.panel, lines(options.panel), at)
        print(text)
        if options.write:
            (HERE / "table.md").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
