"""Export of a run for other programs: merged weights, an adapter, a folder for llama.cpp, or its pairs for TRL."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from transformers import AutoTokenizer

from equipoise.api.card import card_of
from equipoise.api.comparison import folder_of
from equipoise.data.records import Conversation
from equipoise.evaluate.located import Located, locate
from equipoise.models.adapters import MERGED_BASE, chain, is_adapter, local
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.digests import write_sums
from equipoise.policy.export import KEPT, LEFT_OUT, dtype_of
from equipoise.policy.export import export as in_dtype
from equipoise.policy.files import whole
from equipoise.run.config import ConfigError
from equipoise.run.finished import Run, load_run
from equipoise.worlds.folder.journal import Journal
from equipoise.worlds.text.folder import row_files

FILE_MODE, FOLDER_MODE = 0o644, 0o755
PAIRS = "pairs.jsonl"


@dataclass(frozen=True)
class Exported:
    """What was written: the folder, in what form, and in words what it holds."""

    folder: Path
    form: str
    said: str


def export(
    run: Run | str | Path, to: str, out: str | Path, *, round: str = "final", dtype: str = "auto"
) -> Exported:
    """Write what a run made into a folder that other programs read, with files that every user may read.

    to      merged: one full model, with adapters merged; adapter: the LoRA adapter alone; gguf-ready: merged, as
            llama.cpp's converter expects it; trl-jsonl: the pairs that the run wrote and judged, in TRL's columns
    out     the folder; it must not exist, or be empty
    round   final, best, start or a number
    dtype   fp32, bf16 or fp16; auto: as the model came in

    Raises ConfigError or ModelError for what cannot be written so.
    """
    if to not in FORMS:
        raise ConfigError(f"an export is one of {', '.join(FORMS)}, got {to!r}")
    folder, target = folder_of(run), Path(out)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"{target} exists already; choose another folder")
    where = locate(str(folder), round)
    if where.run is None or where.model is None:
        raise ConfigError(f"{folder} is not a run folder; an export is made of a run")
    said = FORMS[to](where, target, dtype)
    if to != "trl-jsonl":
        kind = "adapter" if to == "adapter" else "model"
        (target / "README.md").write_text(card_of(load_run(folder), where.round, kind), encoding="utf-8")
        write_sums(target)
    _readable(target)
    return Exported(target, to, said)


def is_adapted(run: Run | str | Path, round: str = "final") -> bool:
    """Whether a run's policy is a LoRA adapter."""
    where = locate(str(folder_of(run)), round)
    return where.model is not None and is_adapter(Path(where.model))


def _merged(where: Located, target: Path, dtype: str) -> str:
    """The full model. Its weights have the dtype that they had in the model that the run was given."""
    assert where.model is not None
    given = _given(where)
    stored = dtype_of(dtype, given.dtype) or "fp32"
    as_given = given.tensors if dtype == "auto" else None
    if not is_adapter(Path(where.model)):
        in_dtype(Path(where.model), target, stored, as_given)
        return f"full model in {stored}"
    tokenizer = AutoTokenizer.from_pretrained(where.model, local_files_only=True, trust_remote_code=False)
    policy = CausalPolicy.load(where.model, tokenizer, device="cpu", adapter="merge")
    with TemporaryDirectory(dir=_parent(target)) as draft:
        policy.model.save_pretrained(draft)
        tokenizer.save_pretrained(draft)
        in_dtype(Path(draft), target, stored, as_given)
    return f"full model in {stored}, adapter merged"


def _adapter(where: Located, target: Path, dtype: str) -> str:
    """The adapter's own files, with the name of the model that it stands on as it was given."""
    assert where.model is not None
    source = Path(where.model)
    if not is_adapter(source):
        raise ConfigError(f"{where.run} trained all weights: it has no adapter; export it with --to merged")
    if dtype != "auto":
        raise ConfigError("an adapter keeps the dtype in which it was trained; leave --dtype out")
    base = json.loads((source / "adapter_config.json").read_text(encoding="utf-8"))["base_model_name_or_path"]
    if Path(base).name == MERGED_BASE:
        raise ConfigError(
            "the adapter stands on a model that the run merged from another adapter, which is no published model; "
            "export it with --to merged"
        )
    with whole(target) as draft:
        draft.mkdir()
        for file in source.iterdir():
            if file.suffix in (*KEPT, ".safetensors") and file.name not in LEFT_OUT:
                shutil.copy(file, draft / file.name)
    return f"adapter of {base}"


def _gguf_ready(where: Located, target: Path, dtype: str) -> str:
    """The full model with what llama.cpp's converter reads: the chat template in tokenizer_config.json too."""
    said = _merged(where, target, dtype)
    settings, template = target / "tokenizer_config.json", target / "chat_template.jinja"
    if template.is_file() and settings.is_file():
        known = json.loads(settings.read_text(encoding="utf-8"))
        known["chat_template"] = template.read_text(encoding="utf-8")
        settings.write_text(json.dumps(known, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return f"{said}; convert it with: python convert_hf_to_gguf.py {target} --outfile model.gguf"


def _pairs(where: Located, target: Path, dtype: str) -> str:
    """The judged comparisons of all rounds as prompt, chosen and rejected; ties are left out."""
    assert where.run is not None
    if dtype != "auto":
        raise ConfigError("pairs are texts and have no dtype; leave --dtype out")
    rows = list(_judged(Journal(where.run)))
    if not rows:
        raise ConfigError(
            f"{where.run} has no judged pairs: no stage `judging` with two responses to a prompt"
        )
    made = [row for row in rows if row is not None]
    if not made:
        raise ConfigError(f"all {len(rows):,} pairs of {where.run} are ties, which TRL has no columns for")
    with whole(target) as draft:
        draft.mkdir()
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in made)
        (draft / PAIRS).write_text(text, encoding="utf-8")
    ties = len(rows) - len(made)
    return f"{len(made):,} pairs" + (f", {ties:,} ties left out" if ties else "")


def _judged(journal: Journal) -> Iterator[dict[str, Any] | None]:
    """TRL's row of every comparison; None for a tie."""
    for round in range(1, journal.rounds_done() + 1):
        stage = journal.stage(round, "judging")
        if not stage.exists():
            continue
        rows = row_files.load(journal, stage)
        if rows.responses.shape[1] < 2:
            continue
        for k in range(len(rows)):
            if rows.prob is not None:
                best, worst, tie = (0, 1, False) if rows.prob[k] > 0.5 else (1, 0, rows.prob[k] == 0.5)
            elif rows.reward is not None and rows.reward.ndim == 2:
                best, worst = int(rows.reward[k].argmax()), int(rows.reward[k].argmin())
                tie = rows.reward[k, best] == rows.reward[k, worst]
            else:
                return
            pair = (rows.responses[k, best].text, rows.responses[k, worst].text)
            yield None if tie or pair[0] == pair[1] else _trl(rows.prompts[k].context, *pair)


def _trl(context: Any, chosen: str, rejected: str) -> dict[str, Any]:
    if isinstance(context, str):
        return {"prompt": context, "chosen": chosen, "rejected": rejected}
    row: dict[str, Any] = {"prompt": [dict(turn) for turn in context]}
    row |= {
        name: [{"role": "assistant", "content": text}]
        for name, text in (("chosen", chosen), ("rejected", rejected))
    }
    if isinstance(context, Conversation):
        row |= {"tools": list(context.tools)} if context.tools else {}
        row |= {"chat_template_kwargs": dict(context.template_kwargs)} if context.template_kwargs else {}
    return row


FORMS: Mapping[str, Callable[[Located, Path, str], str]] = {
    "merged": _merged,
    "adapter": _adapter,
    "gguf-ready": _gguf_ready,
    "trl-jsonl": _pairs,
}


def _given(where: Located) -> Any:
    """The full model that the run was given, beneath all adapters: its dtypes are those of the export."""
    assert where.run is not None and where.model is not None
    named = load_run(where.run).summary.get("model")
    if isinstance(named, str) and named != "playground" and local(named).is_dir():
        return chain(named).base
    return chain(where.at(0).model or where.model).base


def _parent(target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    return target.parent


def _readable(folder: Path) -> None:
    """Files that a server of another user may read, whatever the umask."""
    folder.chmod(FOLDER_MODE)
    for path in folder.rglob("*"):
        path.chmod(FOLDER_MODE if path.is_dir() else FILE_MODE)
