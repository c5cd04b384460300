"""OpenRLHF's DPO (`openrlhf.cli.train_dpo`): flags of its shell scripts, with dots (from 0.10 on) or without."""

from __future__ import annotations

from typing import Any

from equipoise.connect import losses
from equipoise.connect.common import COMMON, in_shares, lora
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
    short,
    whole,
)
from equipoise.connect.trl import listed

NEW = {  # the dotted name of an option, and the one it had before
    "model.model_name_or_path": "pretrain",
    "ref.model_name_or_path": "ref_pretrain",
    "data.dataset": "dataset",
    "data.dataset_probs": "dataset_probs",
    "data.dataset_split": "dataset_split",
    "data.max_samples": "max_samples",
    "data.max_len": "max_len",
    "data.prompt_key": "prompt_key",
    "data.chosen_key": "chosen_key",
    "data.rejected_key": "rejected_key",
    "data.input_template": "input_template",
    "data.apply_chat_template": "apply_chat_template",
    "data.tokenizer_chat_template": "tokenizer_chat_template",
    "train.batch_size": "train_batch_size",
    "train.micro_batch_size": "micro_train_batch_size",
    "train.max_epochs": "max_epochs",
    "train.seed": "seed",
    "adam.lr": "learning_rate",
    "adam.betas": "adam_betas",
    "adam.eps": "adam_eps",
    "adam.weight_decay": "l2",
    "lr_scheduler": "lr_scheduler",
    "max_norm": "max_norm",
    "model.beta": "beta",
    "model.ipo_enable": "ipo",
    "model.label_smoothing": "label_smoothing",
    "model.nll_loss_coef": "nll_loss_coef",
    "ds.lora.rank": "lora_rank",
    "ds.lora.alpha": "lora_alpha",
    "ds.lora.target_modules": "target_modules",
    "ds.lora.dropout": "lora_dropout",
    "ds.load_in_4bit": "load_in_4bit",
    "ds.param_dtype": "param_dtype",
    "eval.dataset": "eval_dataset",
    "ckpt.output_dir": "save_path",
}
MACHINE = names(
    "zero_stage zpg adam_offload ref_offload flash_attn attn_implementation bf16 gradient_checkpointing "
    "grad_accum_dtype overlap_comm packing_samples ring_attn_size ring_head_stride save_hf_ckpt "
    "disable_ds_ckpt max_ckpt_num max_ckpt_mem ckpt_path load_checkpoint use_wandb wandb_org wandb_group "
    "wandb_project wandb_run_name use_tensorboard use_ms disable_fast_tokenizer num_processors eval_split "
    "full_determinism use_liger_kernel module nnodes node_rank num_gpus aux_loss_coef deepcompile "
    "use_ds_universal_ckpt min_lr_ratio"
)
PREFIXES = (
    "logger.",
    "ckpt.",
    "ds.",
    "eval.",
    "ref.",
    "muon.",
    "data.dataloader",
    "model.gradient",
    "train.full",
)

MEANINGS: dict[str, Meaning] = {
    **COMMON,
    **{name: ignored() for name in MACHINE},
    "pretrain": ours("model.path", str),
    "ref_pretrain": absent("the reference is the model that the run starts from: give that as model.path"),
    "max_len": ours("data.max_length", whole),
    "max_epochs": ours("train.epochs", whole),
    "train_batch_size": ours("train.batch", whole),
    "micro_train_batch_size": ignored("train.tokens bounds a forward pass, by memory"),
    "lr_warmup_ratio": COMMON["warmup_ratio"],
    "l2": ours("train.weight_decay", number),
    "max_norm": ours("train.clip", number),
    "adam_eps": ours("train.eps", number),
    "max_samples": ours("data.limit", whole),
    "dataset_split": absent("write that split to a file", unless=lambda value: value in (None, "train")),
    "eval_dataset": absent("name its files in data.evaluation"),
    "input_template": absent("write the template's words into the prompts"),
    "tokenizer_chat_template": ours("data.template", str),
    "save_path": COMMON["output_dir"],
    "optim": absent("the optimizer is AdamW", unless=lambda value: value in (None, "adam")),
    "param_dtype": absent("there is no fp16", unless=lambda value: value == "bf16"),
}


def translate(given: dict[str, Any], trainer: str | None, processes: int, program: str) -> Translation:
    """An OpenRLHF DPO command as ours. Raises ImportFailed for another of its programs."""
    if "train_" in program and "train_dpo" not in program:
        raise ImportFailed(f"{short(program)} is not preference training; train_dpo is")
    t = Translation(source="OpenRLHF", given=_old_names(given))
    beta, smoothing = number(t.take("beta", default=0.1)), number(t.take("label_smoothing", default=0.0))
    if flag(t.take("ipo", default=False)):
        t.choose("ipo", "ipo", tau=beta)  # sums over tokens, as in the paper
    elif smoothing:
        t.choose("cdpo", "beta, label_smoothing", beta=beta, smoothing=smoothing)
    else:
        t.choose("dpo", "beta", beta=beta)
    losses.with_likelihood(t, t.take("nll_loss_coef"), "nll_loss_coef")
    rank, alpha, targets = t.take("lora_rank"), t.take("lora_alpha", default=16), t.take("target_modules")
    if rank and whole(rank):
        lora(t, rank, alpha, targets, "lora_rank, lora_alpha, target_modules")
    elif t.take("lora_dropout"):
        t.ignored.append("lora_dropout: without LoRA")
    betas = listed(t.take("adam_betas", default=[0.9, 0.95]))
    for name, value in zip(("train.beta1", "train.beta2"), betas, strict=False):
        t.put(name, number(value), "adam_betas")
    _schedule(t)
    _data(t)
    for theirs, ours_ in (("eval_steps", "evaluate.steps"), ("save_steps", "train.save_steps")):
        every = t.take(theirs, default=-1)
        if whole(every) > 0:  # -1: never
            t.put(ours_, whole(every), theirs)
    t.put("model.precision", "bf16", "bf16")
    t.apply(MEANINGS)
    for name, value in (
        ("train.batch", 128),
        ("train.lr", 1e-5),
        ("train.epochs", 1),
        ("train.warmup", 0.03),
        ("data.max_length", 512),
        ("seed", 42),
    ):
        t.default(name, value)
    return t


def _old_names(given: dict[str, Any]) -> dict[str, Any]:
    """The options under the names they had before the dots; what concerns the machine alone is left out."""
    return {
        NEW.get(name, name): value
        for name, value in given.items()
        if name in NEW or not name.startswith(PREFIXES)
    }


def _schedule(t: Translation) -> None:
    kind = str(t.take("lr_scheduler", default="cosine_with_min_lr"))
    if kind == "cosine_with_min_lr":
        t.put("train.schedule", "cosine", "lr_scheduler")
        t.lack("lr_scheduler: cosine_with_min_lr", "the cosine ends at 0, theirs at a tenth of the rate")
    else:
        t.given["lr_scheduler_type"] = kind


def _data(t: Translation) -> None:
    paths = [path for path in str(t.take("dataset", default="")).split(",") if path]
    if paths:
        shares = t.take("dataset_probs")
        listed = paths if shares is None else in_shares(t, paths, shares, "dataset_probs")
        t.put("data.path", listed, f"dataset: {short(','.join(paths))}")
    keys = {name: t.take(f"{name}_key") for name in ("prompt", "chosen", "rejected")}
    mapping = {name: str(key) for name, key in keys.items() if key not in (None, name)}
    if mapping:
        t.put("data.mapping", mapping, "prompt_key, chosen_key, rejected_key")
    if flag(t.take("apply_chat_template", default=False)):
        t.ignored.append("apply_chat_template: rows of messages always take the chat template")
