"""Axolotl's preference configurations (`rl: dpo | ipo | kto | orpo | simpo`), YAML."""

from __future__ import annotations

from typing import Any

from equipoise.connect import losses
from equipoise.connect.common import COMMON, batch, epochs, held_out, lora, schedule
from equipoise.connect.evaluating import evaluating
from equipoise.connect.meanings import (
    ImportFailed,
    Meaning,
    Translation,
    absent,
    flag,
    ignored,
    names,
    number,
    ours,
    whole,
)
from equipoise.connect.trl import listed

RL = ("dpo", "ipo", "kto", "orpo", "simpo")

MACHINE = names(
    "wandb_project wandb_entity wandb_watch wandb_name wandb_log_model wandb_run_id wandb_mode use_wandb "
    "mlflow_experiment_name use_mlflow use_tensorboard comet_project_name use_comet dataset_prepared_path "
    "dataset_processes eval_batch_size save_first_step xformers_attention "
    "sdp_attention flash_optimum eval_table_size debug deepcompile plugins liger_rope liger_rms_norm "
    "liger_glu_activation liger_layer_norm liger_fused_linear_cross_entropy "
    "cut_cross_entropy auto_resume_from_checkpoints hub_strategy pad_to_sequence_len lora_mlp_kernel "
    "lora_qkv_kernel lora_o_kernel lora_embedding_kernel lora_on_cpu lora_fan_in_fan_out model_type "
    "tokenizer_type is_falcon_derived_model is_llama_derived_model dpo_use_liger_kernel dpo_padding_free "
    "shuffle_merged_datasets dpo_generate_during_eval gpu_memory_limit strict loss_watchdog_threshold "
    "loss_watchdog_patience peft_autocast_adapter_dtype sample_packing eval_sample_packing "
    "train_on_inputs bfloat16 save_only_model ddp world_size torchao_qat"
)

MEANINGS: dict[str, Meaning] = {
    **COMMON,
    **{name: ignored() for name in MACHINE},
    "base_model": ours("model.path", str),
    "base_model_config": ignored(),
    "tokenizer_config": absent("the tokenizer is the model's"),
    "revision_of_model": absent("give a folder with that revision"),
    "sequence_len": ours("data.max_length", whole),
    "max_prompt_len": ours("data.max_prompt_length", whole),
    "num_epochs": ours("train.epochs", epochs),
    "lr_scheduler": ours("train.schedule", schedule),
    "optimizer": COMMON["optim"],
    "chat_template_jinja": ours("data.template", str),
    "cosine_min_lr_ratio": absent("the cosine ends at 0"),
    "cosine_constant_lr_ratio": absent("the cosine ends at 0"),
    "excess_length_strategy": absent(
        "prompts that are too long: data.long_prompt is drop or keep_end; long answers are cut",
        unless=lambda value: value in (None, "drop"),
    ),
    "chat_template_kwargs": absent("give them in each row's column `chat_template_kwargs`"),
    "special_tokens": absent("tokens are the tokenizer's: add them to the model's folder first"),
    "tokens": absent("tokens are the tokenizer's: add them to the model's folder first"),
    "added_tokens_overrides": absent("tokens are the tokenizer's: change the model's folder first"),
    "unfrozen_parameters": absent("all weights are trained, or LoRA's adapters"),
    "test_datasets": absent("name their files in data.evaluation"),
    "evals_per_epoch": absent("steps are counted here: set evaluate.steps"),
    "saves_per_epoch": absent("steps are counted here: set train.save_steps"),
    "lora_model_dir": absent("to go on from an adapter, give its folder as model.path"),
    "peft_use_dora": COMMON["use_dora"],
    "peft_use_rslora": COMMON["use_rslora"],
    "neftune_noise_alpha": COMMON["neftune_noise_alpha"],
    "remove_unused_columns": ignored(),
}


def translate(given: dict[str, Any], trainer: str | None, processes: int, program: str) -> Translation:
    """An Axolotl configuration as ours. Raises ImportFailed for one that does not train on preferences."""
    t = Translation(source="Axolotl", given=dict(given))
    kind = str(trainer or t.take("rl", default="none")).lower()
    t.take("rl")
    if kind not in RL:
        raise ImportFailed(
            f"rl: {kind} is not preference training; of Axolotl's kinds these are: {', '.join(RL)}"
        )
    _loss(t, kind)
    each, steps = t.take("micro_batch_size", default=1), t.take("gradient_accumulation_steps", default=1)
    total = t.take("batch_size")
    if total is None:
        batch(t, each, steps, processes, "micro_batch_size")
    else:
        batch(t, total, 1, processes, "batch_size")
    _lora(t)
    held_out(t, t.take("val_set_size"), "val_set_size")
    evaluating(t, alone=True)
    _data(t)
    template = t.take("chat_template")
    if template not in (None, "tokenizer_default", "jinja"):
        t.lack(
            f"chat_template: {template}",
            "the tokenizer's own is used; another is given as data.template (Jinja)",
        )
    t.apply(MEANINGS)
    for name, value in (
        ("train.epochs", 1),
        ("train.schedule", "cosine"),
        ("train.warmup", 0.0),
        ("data.max_length", 512),
        ("seed", 42),
    ):
        t.default(name, value)
    return t


def _loss(t: Translation, kind: str) -> None:
    trl = t.take("trl") or {}
    beta = trl.get("beta") if isinstance(trl, dict) else None
    given = t.take("rl_beta", "dpo_beta")
    alpha = t.take("orpo_alpha")
    beta = number(next((b for b in (beta, given, alpha if kind == "orpo" else None) if b is not None), 0.1))
    smoothing = number(t.take("dpo_label_smoothing", default=0.0))
    if kind == "orpo":
        t.choose("orpo", "rl: orpo", lam=beta)
    elif kind == "kto":
        up, down = (
            number(t.take(f"kto_{side}_weight", default=1.0)) for side in ("desirable", "undesirable")
        )
        t.choose("kto", "rl: kto", beta=beta, desirable=up, undesirable=down)
    elif kind == "simpo":
        gamma, likelihood = t.take("simpo_gamma", default=0.5), t.take("cpo_alpha", default=1.0)
        losses.simpo(t, beta, number(gamma), number(likelihood), "rl: simpo")
    elif kind == "ipo":
        losses.pair_loss(t, "ipo", beta, 0.0, "rl: ipo")
    else:
        kinds = [str(name) for name in listed(t.take("dpo_loss_type", default="sigmoid"))]
        weights = [number(weight) for weight in t.take("dpo_loss_weights") or [1.0] * len(kinds)]
        if len(kinds) > 1:
            losses.mixture(t, kinds, weights, beta, "dpo_loss_type")
        else:
            losses.pair_loss(t, kinds[0], beta, smoothing, f"rl: dpo, {kinds[0]}")
        if flag(t.take("dpo_use_weighting", default=False)):
            t.choose("wpo", "dpo_use_weighting", beta=beta)
        losses.with_likelihood(t, t.take("rpo_alpha"), "rpo_alpha")


def _lora(t: Translation) -> None:
    kind = t.take("adapter")
    rank, alpha = t.take("lora_r", default=8), t.take("lora_alpha")
    targets = t.take("lora_target_modules")
    linear = t.take("lora_target_linear")
    if not kind:
        return
    lora(t, rank, alpha, None if linear else targets, f"adapter: {kind}")
    if kind == "qlora":
        t.lack("adapter: qlora", "LoRA on the weights as they are; set model.quantization=4bit")
        t.take("load_in_4bit")


# their field -> our column; `field_messages` holds the prompt's turns
FIELDS = {
    "field_messages": ("prompt", "messages"),
    "field_prompt": ("prompt", "prompt"),
    "field_chosen": ("chosen", "chosen"),
    "field_rejected": ("rejected", "rejected"),
    "field_completion": ("completion", "completion"),
    "field_label": ("label", "label"),
}


def _data(t: Translation) -> None:
    sets = [entry for entry in t.take("datasets", default=[]) if isinstance(entry, dict)]
    paths = [str(path) for entry in sets for path in listed(entry.get("data_files") or entry.get("path"))]
    if paths:
        t.put("data.path", paths, "datasets")
    mapping: dict[str, str] = {}
    for entry in sets:
        kind = entry.get("type")
        fields = entry | (kind if isinstance(kind, dict) else {})
        for theirs, (name, usual) in FIELDS.items():
            if fields.get(theirs) and fields[theirs] != name:
                mapping[name] = str(fields[theirs])
            elif theirs == "field_messages" and str(kind) == "chat_template.default":
                mapping[name] = usual
        if entry.get("split") not in (None, "train"):
            t.lack(f"split: {entry['split']}", "write that split to a file, and name the file in data.path")
    if mapping:
        t.put("data.mapping", mapping, "datasets: type and fields")
    if len({str(entry.get("type")) for entry in sets}) > 1:
        t.notes.append("the datasets have several layouts: check each with `equipoise data check` first")
