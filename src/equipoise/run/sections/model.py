"""Settings of the model."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from equipoise.run.sections.section import Section


class ModelSettings(Section):
    path: str | None = Field(
        None, description="checkpoint folder or name on the hub; none: the playground's model"
    )
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="of the matrix products; trained weights stay fp32"
    )
    attention: Literal["auto", "varlen", "flex"] = Field(
        "auto",
        description="kernel of packed rows on a GPU in bf16: varlen (FlashAttention) and flex (FlexAttention, "
        "compiled) pad nothing; auto: one causal call on padded sequences. Not measured on a GPU",
    )
    base_dtype: Literal["checkpoint", "float32", "bfloat16"] = Field(
        "checkpoint",
        description="how the frozen weights under a LoRA adapter are held; checkpoint: bfloat16 if all weights of the "
        "checkpoint are, with the same results as in float32, else float32; adapters and trained weights are float32",
    )
    quantization: Literal["none", "4bit", "8bit"] = Field(
        "none",
        description="QLoRA: frozen linear layers under a LoRA adapter in 4 bits (load_in_4bit: nf4, double "
        "quantisation) or 8 bits (load_in_8bit), by bitsandbytes (pip install 'equipoise[quant]')",
    )
    adapter: Literal["auto", "continue", "merge"] = Field(
        "auto",
        description="if the model is a LoRA adapter: train it further (continue), or merge it and train all weights "
        "or a new adapter (merge); auto: continue, unless lora_rank, lora_alpha or lora_targets ask for another one",
    )
    lora_rank: int = Field(
        0, ge=0, description="rank of new LoRA adapters; 0: full fine-tuning, or the adapter that is given"
    )
    lora_alpha: float | None = Field(None, gt=0, description="LoRA scale; none: twice the rank")
    lora_targets: list[str] | None = Field(None, description="module names; none: every linear layer")
    export: Literal["auto", "none", "fp32", "bf16", "fp16"] = Field(
        "auto",
        description="dtype of the last policy in the folder export (full models only; checkpoints stay fp32); "
        "auto: that of the given weights, if they are bf16 or fp16",
    )
