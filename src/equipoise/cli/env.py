"""`equipoise env`: versions and hardware, for a bug report. No environment variable's value is read."""

from __future__ import annotations

import ast
import os
import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from equipoise.cli.options import Json, show

PACKAGES = (
    "equipoise",
    "torch",
    "transformers",
    "tokenizers",
    "accelerate",
    "peft",
    "safetensors",
    "huggingface_hub",
    "numpy",
    "pyarrow",
    "pydantic",
    "rich",
    "typer",
    "openai",
    "vllm",
)
NOT_THERE = "not installed"


def env(as_json: Json = False) -> None:
    """Print versions, processor, memory and GPUs, for a bug report; no secret, and no environment variable's value."""
    show(environment(), as_json, _print)


def environment() -> dict[str, Any]:
    """What is printed, without importing PyTorch."""
    return {
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        "platform": platform.platform(),
        "cpu": f"{_processor()}, {os.cpu_count() or '?'} cores",
        "memory": _memory(),
        "gpu": _gpus(),
        "torch_built_for": _built_for(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _print(found: dict[str, Any], console: Console) -> None:
    for name, value in found.items():
        if name == "packages":
            for package, there in value.items():
                console.print(Text(f"{package:<16} {there}"), soft_wrap=True)
        else:
            shown = "; ".join(value) if isinstance(value, list) else value
            console.print(Text(f"{name.replace('_', ' '):<16} {shown}"), soft_wrap=True)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return NOT_THERE


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # a system without it
    return platform.processor() or platform.machine()


def _memory() -> str:
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return "not known"
    return f"{size / 2**30:,.1f} GiB"


def _gpus() -> list[str]:
    """Name, memory and driver of each NVIDIA GPU, by the driver's own program."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ["none found"]
    asked = [program, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        said = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ["nvidia-smi does not answer"]
    return [line.strip() for line in said.splitlines() if line.strip()] or ["none found"]


def _built_for() -> str:
    """The CUDA or ROCm version that PyTorch was built for, read from its version file."""
    there = find_spec("torch")
    if there is None or there.origin is None:
        return NOT_THERE
    try:
        source = (Path(there.origin).parent / "version.py").read_text(encoding="utf-8")
    except OSError:
        return "not known"
    for line in ast.parse(source).body:
        target = line.targets[0] if isinstance(line, ast.Assign) else getattr(line, "target", None)
        value = getattr(line, "value", None)
        if isinstance(target, ast.Name) and isinstance(value, ast.Constant) and isinstance(value.value, str):
            if target.id == "cuda":
                return f"CUDA {value.value}"
            if target.id == "hip":
                return f"ROCm {value.value}"
    return "the CPU"
