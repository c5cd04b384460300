"""Settings of judging, and of the sandbox for code that a policy writes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from equipoise.run.sections.section import Section


class JudgingSettings(Section):
    concurrency: int = Field(1, gt=0, description="questions to a rule in flight at once")
    retries: int = Field(
        3, ge=0, description="further attempts after a network or server error, with growing waits"
    )
    failures: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of all questions that may stay without a verdict; their prompts are left out",
    )
    both_orders: bool | None = Field(
        None, description="ask (a, b) and (b, a) and average; none: judges yes, rules no"
    )
    store: str | None = Field(
        None, description="file of verdicts, shared by runs; none: verdicts.sqlite in the run folder"
    )
    dtype: Literal["run", "stored", "float32", "bfloat16", "float16"] = Field(
        "run",
        description="of a reward model's weights; run: bfloat16 if model.precision is bf16, else float32; stored: as "
        "its checkpoint is; its last layer is computed in float32 in any case",
    )
    device: str | None = Field(
        None, description="where a reward model runs, such as cpu or cuda:1; none: on the GPU if there is one"
    )
    tokens: int = Field(8192, gt=0, description="most padded tokens of a reward model's forward pass")
    budget: int | None = Field(
        None,
        gt=0,
        description="most questions (comparisons, or scored responses) that training may put to the oracle in all, "
        "whatever the oracle; the run ends before a round that would pass it if it asked as many as the last; none: no "
        "limit",
    )
    most_calls: int | None = Field(None, gt=0, description="most questions that one start of the run may ask")
    most_cost: float | None = Field(
        None, gt=0, description="most that the verdicts may cost, in the oracle's units"
    )


class SandboxSettings(Section):
    isolation: Literal["namespaces", "limits"] = Field(
        "namespaces",
        description="how code that the policy writes is kept apart (dstc); limits: resource limits alone, with network "
        "and files open to it",
    )
    seconds: int = Field(5, gt=0, description="processor time of one run of self-written code")
    wall: float = Field(15.0, gt=0, description="seconds by the clock of one run")
    memory: int = Field(512, gt=0, description="MiB of address space of one process")
    concurrency: int = Field(2, gt=0, description="problems whose code runs at once")
