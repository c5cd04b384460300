"""Settings of evaluation."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from equipoise.run.sections.section import Section


class EvaluateSettings(Section):
    prompts: int = Field(64, gt=0, description="held-out prompts for win rates")
    samples: int = Field(4, gt=0, description="responses per prompt")
    pairs: int = Field(1000, gt=0, description="held-out pairs for preference accuracy")
    every: int = Field(
        1, gt=0, description="rounds between evaluations; the first and last are always evaluated"
    )
    shown: int = Field(4, gt=0, description="prompts whose samples the report shows")
    earlier_rounds: bool = Field(
        False,
        description="whether the oracle also compares each round's policy with those of all earlier rounds, for the "
        "matrix of win rates (a game that is enumerated has it without asking)",
    )
    steps: int = Field(
        0,
        ge=0,
        description="optimizer steps between evaluations inside a fit (loss, accuracy and margin of held-out rows); "
        "0: none",
    )
    best: Literal["none", "accuracy", "margin", "loss", "win_rate", "exact_win_rate", "exploitability"] = (
        Field(
            "none",
            description="metric of the policy that is kept in checkpoints/best; accuracy, margin and loss are compared "
            "inside fits (evaluate.steps), the others, and accuracy without evaluate.steps, after rounds",
        )
    )
    patience: int = Field(
        0,
        ge=0,
        description="evaluations inside a fit without a better evaluate.best after which the fit ends; 0: never",
    )

    @model_validator(mode="after")
    def _measured(self) -> EvaluateSettings:
        within = self.best in ("accuracy", "margin", "loss")
        if self.best in ("margin", "loss") and not self.steps:
            raise ValueError(
                f"best: {self.best} is measured inside fits: set evaluate.steps, such as steps=50"
            )
        if self.patience and not (within and self.steps):
            raise ValueError(
                "patience needs evaluate.steps above 0, and evaluate.best: accuracy, margin or loss"
            )
        return self
