"""Settings of sampling."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from equipoise.json_http import address_without_secrets
from equipoise.run.sections.section import Section


class SamplingSettings(Section):
    temperature: float = Field(1.0, ge=0, description="sampling temperature; 0: greedy")
    top_k: int = Field(0, ge=0, description="sample from the k most likely tokens; 0: off")
    top_p: float = Field(
        1.0, gt=0, le=1, description="nucleus sampling: sample from this probability mass; 1: off"
    )
    max_new_tokens: Annotated[int, Field(gt=0)] | Literal["auto"] = Field(
        "auto",
        description="most tokens of a sampled response; auto: what 99 % of the recorded responses have, between 16 and "
        "512, and 128 without any",
    )
    batch: int = Field(32, gt=0, description="prompts decoded concurrently (continuous batching)")
    engine: Literal["torch", "vllm", "vllm_server"] = Field(
        "torch",
        description="vllm: in this process, if installed, not yet tested on a GPU; vllm_server: `vllm serve`, started "
        "here, or those of sampling.servers",
    )
    servers: list[str] = Field(
        default_factory=list,
        description="addresses of vLLM servers for engine vllm_server, http://HOST:PORT, among which prompts are "
        "dealt; none: one is started here, by the program that $EQUIPOISE_VLLM names, or `vllm`",
    )
    key: str | None = Field(
        None,
        description="NAME of the environment variable that holds the bearer token of sampling.servers; none: no token",
    )
    memory: float = Field(0.4, gt=0, le=1, description="fraction of GPU memory for vllm")

    @field_validator("servers")
    @classmethod
    def _addresses(cls, values: list[str]) -> list[str]:
        for value in values:
            address_without_secrets(value)
            if value.rstrip("/").endswith("/v1"):
                raise ValueError(f"{value}: leave out /v1, which other endpoints of the server do not have")
        if len(set(values)) < len(values):
            raise ValueError("an address is given twice")
        return values

    @model_validator(mode="after")
    def _for_servers(self) -> SamplingSettings:
        if (self.servers or self.key) and self.engine != "vllm_server":
            raise ValueError(f"servers and key are for engine vllm_server, and engine is {self.engine}")
        return self
