"""Settings of training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from equipoise.run.sections.section import Section


class TrainSettings(Section):
    epochs: Annotated[int, Field(gt=0)] | Literal["auto"] = Field(
        "auto",
        description="passes over a round's comparisons; auto: the method's; with an automatic batch more, up to 5, "
        "if a fit has fewer than 100 optimizer steps with the smallest batch",
    )
    batch: Annotated[int, Field(gt=0)] | Literal["auto"] = Field(
        "auto",
        description="comparisons per optimizer step; auto: the method's, halved down to 8 until a fit has 100 "
        "optimizer steps",
    )
    micro_batch: Annotated[int, Field(gt=0)] | Literal["auto"] = Field(
        "auto",
        description="most comparisons per forward pass; auto: as many as `tokens` allows",
    )
    tokens: Annotated[int, Field(gt=0)] | Literal["auto"] = Field(
        "auto",
        description="most tokens per forward pass; auto: what memory allows, by a probe",
    )
    activation_checkpointing: bool = Field(
        False,
        description="gradient checkpointing: each transformer block keeps its input alone and is computed again in the "
        "backward; less memory for activations, one more forward, the same bits",
    )
    sharding: Literal["none", "full"] = Field(
        "none",
        description="full: FSDP2, several processes divide weights, gradients and moments during a fit, of which each "
        "has all otherwise; for optimizers adamw and sgd",
    )
    lr: Annotated[float, Field(ge=0)] | Literal["auto"] = Field(
        "auto", description="peak learning rate; auto: the method's, by model size, ten times that for LoRA"
    )
    schedule: Literal["constant", "linear", "cosine"] = Field(
        "cosine", description="of the learning rate after the warm-up, within a round"
    )
    warmup: float = Field(
        0.03,
        ge=0,
        lt=1,
        description="share of a round's steps, or of the run's where the optimizer goes on from round to round",
    )
    optimizer: Literal["adamw", "sgd", "adafactor", "adamw_8bit", "paged_adamw_8bit"] = Field(
        "adamw",
        description="adamw: 8 bytes of moments for each trained weight; adamw_8bit and paged_adamw_8bit (on a GPU, "
        "into the machine's memory): 2 bytes, by bitsandbytes (pip install 'equipoise[quant]'); adafactor: almost "
        "none, and sgd, with momentum beta1: 4; these two need a train.lr of their own",
    )
    weight_decay: float = Field(0.0, ge=0, description="of the optimizer; decoupled, except in sgd")
    beta1: float = Field(
        0.9, ge=0, lt=1, description="of AdamW, for the mean of the gradient; the momentum of sgd"
    )
    beta2: float = Field(0.999, ge=0, lt=1, description="of AdamW, for the mean of its square")
    eps: float = Field(1e-8, gt=0, description="AdamW's epsilon: smaller gradients are not amplified")
    clip: float = Field(1.0, gt=0, description="largest gradient norm")
    save_every: int = Field(200, gt=0, description="optimizer steps between saved positions")
    save_steps: int = Field(
        0,
        ge=0,
        description="optimizer steps between policies saved inside a fit, in checkpoints/step-ROUND-STEP; 0: none",
    )
    keep: int | None = Field(
        None, gt=0, description="how many policies of save_steps are kept, the last ones; none: all"
    )

    @model_validator(mode="after")
    def _own_rate(self) -> TrainSettings:
        """Automatic learning rates are AdamW's."""
        if self.optimizer in ("sgd", "adafactor") and self.lr == "auto":
            raise ValueError(f"automatic learning rates are for AdamW; optimizer {self.optimizer} needs lr")
        return self
