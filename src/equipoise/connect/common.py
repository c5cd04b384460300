"""Settings that several trainers share: Hugging Face's training arguments, LoRA, precision, lengths."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from equipoise.connect.meanings import (
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

SCHEDULES = {
    "constant": "constant",
    "constant_with_warmup": "constant",
    "linear": "linear",
    "cosine": "cosine",
}
ADAMW = ("adamw_torch", "adamw_torch_fused", "adamw_hf", "adamw", "adam", "fused_adam")
EVERY_LINEAR = ("all", "all-linear", "all_linear")


def schedule(value: Any) -> str:
    """A learning-rate schedule. Raises ValueError for one that does not exist here."""
    name = str(value).lower()
    if name not in SCHEDULES:
        raise ValueError(f"of the schedules there are constant, linear and cosine, not {short(value)}")
    return SCHEDULES[name]


def share(value: Any) -> float:
    """A share of warm-up steps."""
    found = number(value)
    if not 0 <= found < 1:
        raise ValueError("the warm-up is a share of the steps here: give train.warmup below 1")
    return found


def epochs(value: Any) -> int:
    """Whole passes over the data."""
    return whole(value)


def adamw(value: Any) -> bool:
    """Whether an optimizer is AdamW, in any implementation."""
    return str(value).lower() in ADAMW


def modules(value: Any) -> list[str] | None:
    """LoRA's modules; None stands for every linear layer."""
    found = names(value)
    return None if len(found) == 1 and found[0] in EVERY_LINEAR else found


def bf16(value: Any) -> str:
    """The precision of matrix products."""
    return "bf16" if flag(value) else "fp32"


LOGS = names(
    "logging_steps logging_first_step logging_dir logging_strategy report_to run_name log_level "
    "disable_tqdm project log_completions num_completions_to_print trackio_space_id plot_loss push_to_hub "
    "hub_model_id hub_strategy hub_token hub_private_repo overwrite_output_dir overwrite_cache "
    "include_num_input_tokens_seen do_train do_eval"
)
MACHINE = names(
    "dataloader_num_workers dataloader_pin_memory dataloader_prefetch_factor dataset_num_proc "
    "remove_unused_columns preprocessing_num_workers ddp_find_unused_parameters ddp_timeout "
    "ddp_bucket_cap_mb tf32 attn_implementation flash_attention use_liger_kernel padding_free "
    "pad_to_multiple_of group_by_length torch_compile local_rank local-rank auto_find_batch_size "
    "gradient_checkpointing gradient_checkpointing_kwargs activation_offloading deepspeed fsdp "
    "fsdp_config accelerator_config torch_empty_cache_steps use_cache low_cpu_mem_usage "
    "resume_from_checkpoint save_only_model save_safetensors precompute_ref_log_probs "
    "precompute_ref_batch_size per_device_eval_batch_size eval_accumulation_steps generate_during_eval "
    "trust_remote_code config_file num_processes num_machines mixed_precision main_process_port "
    "use_fast_tokenizer dataloader_drop_last "
    "gradient_checkpointing_use_reentrant is_encoder_decoder"
)

COMMON: dict[str, Meaning] = {
    **{name: ignored() for name in (*LOGS, *MACHINE)},
    "learning_rate": ours("train.lr", number),
    "num_train_epochs": ours("train.epochs", epochs),
    "lr_scheduler_type": ours("train.schedule", schedule),
    "warmup_ratio": ours("train.warmup", share),
    "warmup_steps": ours("train.warmup", share),
    "weight_decay": ours("train.weight_decay", number),
    "adam_beta1": ours("train.beta1", number),
    "adam_beta2": ours("train.beta2", number),
    "adam_epsilon": ours("train.eps", number),
    "max_grad_norm": ours("train.clip", number),
    "optim": absent("AdamW is taken: train.optimizer can be sgd, adafactor or adamw_8bit", unless=adamw),
    "seed": ours("seed", whole),
    "bf16": ours("model.precision", bf16),
    "pure_bf16": ours("model.precision", bf16, "weights stay fp32 here"),
    "fp16": absent("there is no fp16: model.precision is fp32 or bf16"),
    "max_length": ours("data.max_length", whole),
    "max_prompt_length": ours("data.max_prompt_length", whole),
    "output_dir": absent("the run folder is no setting: give `--out`"),
    "max_steps": absent("training is counted in epochs: set train.epochs, or data.limit for a shorter run"),
    "max_completion_length": absent("answers have no limit of their own: data.max_length limits prompt and answer"),
    "data_seed": absent("one seed draws everything: `seed`"),
    "neftune_noise_alpha": absent("noise on embeddings does not exist"),
    "load_in_4bit": absent("set model.quantization=4bit (QLoRA), which needs a LoRA adapter"),
    "load_in_8bit": absent("set model.quantization=8bit, which needs a LoRA adapter"),
    "quantization_bit": absent("set model.quantization to 4bit or 8bit, which needs a LoRA adapter"),
    "lora_dropout": absent("LoRA has no dropout here"),
    "use_dora": absent("plain LoRA only"),
    "use_rslora": absent("set model.lora_alpha to lora_alpha * sqrt(rank), which is the same scale"),
    "lora_modules_to_save": absent("LoRA trains its adapters only"),
    "lora_target_parameters": absent("adapters are put on modules: model.lora_targets"),
    "lr_scheduler_kwargs": absent("schedules end at 0 and have no arguments"),
    "disable_dropout": ignored("dropout is always off"),
    "sync_ref_model": absent("the reference does not move within a round; play several rounds (play.rounds)"),
    "ref_model_mixup_alpha": ignored(),
    "ref_model_sync_steps": ignored(),
    "ld_alpha": absent("lengths are not discounted; `dpo_norm` or `simpo` average over tokens"),
    "router_aux_loss_coef": absent("no term for mixtures of experts"),
    "truncation_mode": absent("prompts that are too long: data.long_prompt is drop or keep_end"),
    "label_smoothing_factor": absent("of preference labels: method `cdpo`"),
    "eval_on_start": ignored("the reference is always measured first"),
}  # fmt: skip


def batch(t: Translation, per_device: Any, accumulation: Any, processes: int, of: str) -> None:
    """The effective batch: per device x accumulation x processes, in comparisons per optimizer step."""
    each, steps = whole(per_device), whole(accumulation)
    said = f"{of}: {each} per device x {steps} accumulated x {processes} process(es)"
    t.put("train.batch", each * steps * processes, said)
    if processes == 1:
        t.notes.append("one process is assumed; if it ran on more, import again with --processes N")


def lora(t: Translation, rank: Any, alpha: Any, targets: Any, of: str) -> None:
    """LoRA's rank, scale and modules."""
    t.put("model.lora_rank", whole(rank), of)
    if alpha is not None:
        t.put("model.lora_alpha", number(alpha), of)
    chosen = None if targets is None else modules(targets)
    if chosen:
        t.put("model.lora_targets", chosen, of)


def held_out(t: Translation, value: Any, of: str) -> None:
    """A share of the rows for evaluation; here it is a share of the prompts, and there always is one."""
    if value and 0 < number(value) < 1:
        t.put("data.held_out", number(value), of)
    elif value and number(value) >= 1:
        t.lack(f"{of}: {short(value)}", "held-out prompts are a share: set data.held_out between 0 and 1")


def in_shares(t: Translation, paths: Sequence[str], given: Any, of: str) -> list[Any]:
    """The files with shares of a mixture, one number for each; theirs draws row by row until a file is used up."""
    shares = [number(share) for share in names(given)]
    if len(shares) != len(paths) or not all(0 < share < math.inf for share in shares):
        t.lack(f"{of}: {short(given)}", f"it needs a number above 0 for each of the {len(paths)} data sets")
        return list(paths)
    return [{"path": path, "share": share} for path, share in zip(paths, shares, strict=True)]
