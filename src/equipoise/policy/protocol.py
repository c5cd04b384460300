"""What the package shares about policies: decoding settings, what a gate measures, the error of an unusable model."""

from __future__ import annotations

from dataclasses import dataclass

from equipoise.models.errors import ModelError

__all__ = ["ENGINES", "Decoding", "Measured", "ModelError"]

ENGINES = ("torch", "vllm", "vllm_server")


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """Decoding settings: temperature 0 is greedy; top_k 0 and top_p 1 disable truncation.

    batch    prompts decoded together.
    engine   "torch", "vllm" in this process where it is installed, or "vllm_server".
    memory   share of the GPU's memory that vLLM may take.
    servers  addresses of vLLM servers; none: `vllm serve` is started here.
    key      NAME of the environment variable whose value is sent to them as a bearer token; None: no token.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    max_new_tokens: int = 256
    batch: int = 32
    engine: str = "torch"
    memory: float = 0.4
    servers: tuple[str, ...] = ()
    key: str | None = None

    def __post_init__(self) -> None:
        if self.temperature < 0 or self.top_k < 0 or not 0 < self.top_p <= 1:
            raise ValueError(
                "sampling needs temperature >= 0, top_k >= 0 and 0 < top_p <= 1, got "
                f"temperature={self.temperature}, top_k={self.top_k}, top_p={self.top_p}"
            )
        if self.max_new_tokens < 1 or self.batch < 1:
            raise ValueError("max_new_tokens and batch must be at least 1")
        if self.engine not in ENGINES or not 0 < self.memory <= 1:
            raise ValueError(
                f"engine must be {' or '.join(map(repr, ENGINES))} and 0 < memory <= 1, got "
                f"engine={self.engine!r}, memory={self.memory}"
            )


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a gate measured.

    limit      of `measured`.        passed   whether the gate is open.
    sentence   what was found, for the user.
    """

    name: str
    measured: float | None
    limit: float | None
    passed: bool
    sentence: str
