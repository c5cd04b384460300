"""LLaMA-Factory's preference configurations (`stage: dpo | kto`), YAML or a command, with `dataset_info.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from equipoise.connect import losses
from equipoise.connect.common import COMMON, batch, held_out, in_shares, lora
from equipoise.connect.evaluating import evaluating
from equipoise.connect.meanings import (
    ImportFailed,
    Meaning,
    Translation,
    absent,
    ignored,
    names,
    number,
    ours,
    short,
    whole,
)

MACHINE = names(
    "media_dir buffer_size streaming preprocessing_batch_size ignore_pad_token_for_loss eval_num_beams "
    "eval_on_each_dataset tokenized_path data_shared_file_system flash_attn enable_liger_kernel "
    "use_unsloth disable_shuffling upcast_layernorm ray_run_name ray_num_workers resources_per_worker "
    "placement_strategy compute_accuracy infer_backend plot_loss report_to trust_remote_code cache_dir "
    "do_predict predict_with_generate additional_target packing mask_history "
    "include_effective_tokens_per_second neat_packing quantization_method use_swanlab swanlab_project "
    "swanlab_run_name swanlab_mode create_new_adapter print_param_status double_quantization "
    "train_on_prompt ref_model_quantization_bit"
)

MEANINGS: dict[str, Meaning] = {
    **COMMON,
    **{name: ignored() for name in MACHINE},
    "model_name_or_path": ours("model.path", str),
    "cutoff_len": ours(
        "data.max_length", whole, "both trainers cut the answer's end; here a long prompt is dropped"
    ),
    "max_samples": ours("data.limit", whole, "theirs is per data set, data.limit counts all rows"),
    "template": absent(
        "the tokenizer's own chat template is used; another is given as data.template (Jinja)"
    ),
    "enable_thinking": absent("give `chat_template_kwargs: {enable_thinking: ...}` in each row"),
    "default_system": absent("put the system prompt into the rows"),
    "tool_format": absent("tools are written by the chat template"),
    "adapter_name_or_path": absent("to go on from an adapter, give its folder as model.path"),
    "ref_model": absent("the reference is the model that the run starts from: give that as model.path"),
    "ref_model_adapters": absent("the reference is the model that the run starts from"),
    "pref_bco_weight": absent("BCO is a method of its own (bco_pair); it is not added to another loss"),
    "eval_dataset": absent("name its files in data.evaluation"),
    "rope_scaling": absent("set it in the model's config.json"),
    "resize_vocab": absent("resize the model first"),
    "add_tokens": absent("tokens are the tokenizer's: add them to the model's folder first"),
    "add_special_tokens": absent("tokens are the tokenizer's: add them to the model's folder first"),
    "loraplus_lr_ratio": absent("one learning rate for all weights"),
    "pissa_init": absent("LoRA starts at zero"),
    "use_galore": absent("the optimizer is AdamW"),
    "use_apollo": absent("the optimizer is AdamW"),
    "use_badam": absent("the optimizer is AdamW"),
    "use_adam_mini": absent("the optimizer is AdamW"),
    "use_muon": absent("the optimizer is AdamW"),
    "freeze_trainable_layers": absent("all weights are trained, or LoRA's adapters"),
    "freeze_vision_tower": ignored(),
    "freeze_multi_modal_projector": ignored(),
    "image_max_pixels": ignored("text only"),
    "video_max_pixels": ignored("text only"),
}

# LLaMA-Factory's columns and their usual names, which are ours as well
COLUMNS = {
    "prompt": "instruction",
    "query": "input",
    "response": "output",
    "history": "history",
    "messages": "conversations",
    "system": "system",
    "tools": "tools",
    "chosen": "chosen",
    "rejected": "rejected",
    "kto_tag": "kto_tag",
}


def translate(
    given: dict[str, Any], trainer: str | None, processes: int, program: str, folder: Path | None = None
) -> Translation:
    """A LLaMA-Factory configuration as ours; `folder` is where relative paths in it begin.

    Raises ImportFailed for a stage that does not train on preferences.
    """
    t = Translation(source="LLaMA-Factory", given=dict(given))
    stage = str(trainer or t.take("stage", default="sft")).lower()
    t.take("stage")
    beta = number(t.take("pref_beta", "dpo_beta", "kto_beta", default=0.1))
    if stage == "kto":
        up, down = (number(t.take(f"kto_{side}_weight", default=1.0)) for side in ("chosen", "rejected"))
        t.choose("kto", "stage: kto", beta=beta, desirable=up, undesirable=down)
    elif stage in ("dpo", "orpo"):
        _loss(t, stage, beta)
    else:
        raise ImportFailed(f"stage: {stage} is not preference training; dpo and kto are")
    each = t.take("per_device_train_batch_size", default=8)
    batch(t, each, t.take("gradient_accumulation_steps", default=1), processes, "per_device_train_batch_size")
    _lora(t)
    held_out(t, t.take("val_size"), "val_size")
    evaluating(t)
    _data(t, folder)
    t.apply(MEANINGS)
    for name, value in (
        ("train.lr", 5e-5),
        ("train.epochs", 3),
        ("train.schedule", "linear"),
        ("train.warmup", 0.0),
        ("data.max_length", 2048),
        ("seed", 42),
    ):
        t.default(name, value)
    return t


def _loss(t: Translation, stage: str, beta: float) -> None:
    kind = str(t.take("pref_loss", "dpo_loss", default="orpo" if stage == "orpo" else "sigmoid"))
    smoothing = number(t.take("dpo_label_smoothing", default=0.0))
    gamma = number(t.take("simpo_gamma", default=0.5))
    if kind == "orpo":
        t.choose("orpo", "pref_loss: orpo", lam=beta)
    elif kind == "simpo":
        losses.simpo(t, beta, gamma, 0.0, "pref_loss: simpo")
    else:
        losses.pair_loss(t, kind, beta, smoothing, f"pref_loss: {kind}")
    losses.with_likelihood(t, t.take("pref_ftx", "dpo_ftx"), "pref_ftx")


def _lora(t: Translation) -> None:
    kind = str(t.take("finetuning_type", default="lora"))
    rank, alpha = t.take("lora_rank", default=8), t.take("lora_alpha")
    targets = t.take("lora_target", default="all")
    if kind == "lora":
        lora(t, rank, alpha, targets, "finetuning_type: lora")
    elif kind != "full":
        t.lack(f"finetuning_type: {short(kind)}", "all weights are trained (full), or LoRA's adapters (lora)")


def _data(t: Translation, folder: Path | None) -> None:
    place = Path(str(t.take("dataset_dir", default="data")))
    listed = names(t.take("dataset", default=""))
    if not listed:
        return
    about = _dataset_info(place, folder)
    mapping: dict[str, str] = {}
    paths = []
    for name in listed:
        entry = about.get(name)
        if not isinstance(entry, dict):
            paths.append(name)
            t.lack(
                f"dataset: {short(name)}",
                "its file is named in dataset_info.json: put the path into data.path",
            )
            continue
        file, hub = entry.get("file_name"), entry.get("hf_hub_url")
        paths.append(str(place / str(file)) if file else str(hub or name))
        columns = entry.get("columns") or {}
        mapping |= {COLUMNS[c]: str(v) for c, v in columns.items() if c in COLUMNS and COLUMNS[c] != v}
    t.put("data.path", _mixed(t, paths), f"dataset: {short(', '.join(listed))}")
    if mapping:
        t.put("data.mapping", mapping, "dataset_info.json: columns")


def _mixed(t: Translation, paths: list[str]) -> list[Any]:
    """The files, with shares where they are interleaved; theirs draws row by row until a file is used up."""
    strategy, given = str(t.take("mix_strategy", default="concat")), t.take("interleave_probs")
    if not strategy.startswith("interleave"):
        return list(paths)
    mixed = in_shares(t, paths, ["1"] * len(paths) if given is None else given, "interleave_probs")
    if mixed != paths and strategy.startswith("interleave_over"):
        t.put("data.mixture", "all_exhausted", f"mix_strategy: {short(strategy)}")
    return mixed


def _dataset_info(place: Path, folder: Path | None) -> dict[str, Any]:
    for base in filter(None, (folder, Path())):
        file = base / place / "dataset_info.json"
        if file.is_file():
            try:
                found = json.loads(file.read_text(encoding="utf-8"))
            except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
                raise ImportFailed(f"{file} cannot be read: {error}") from None
            return found if isinstance(found, dict) else {}
    return {}
