"""Hand-over of a policy to lm-evaluation-harness, which measures tasks with known answers."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from equipoise.evaluate.located import Located
from equipoise.models.adapters import lineage
from equipoise.models.errors import ModelError

INSTALL = "pip install 'equipoise[eval]'"


def arguments(of: Located, *, precision: str = "fp32") -> str:
    """The harness's `--model_args` of a policy: its model, and the adapter on it. Raises ModelError for a file of
    answers, and for adapters that stand on one another."""
    if of.model is None:
        raise ModelError(f"{of.file} is a file of answers: there is no model to evaluate")
    folders = lineage(of.model)
    if len(folders) > 2:
        raise ModelError(
            f"{of.model} is an adapter on an adapter, which lm-evaluation-harness does not read: merge it first"
        )
    dtype = {"fp32": "float32", "bf16": "bfloat16"}[precision]
    values = [f"pretrained={folders[-1]}", f"dtype={dtype}", "trust_remote_code=False"]
    if len(folders) == 2:
        values.append(f"peft={folders[0]}")
    if any("," in value for value in values):
        raise ModelError(f"{of.model}: lm-evaluation-harness reads no folder with a comma in its name")
    return ",".join(values)


def measure(
    of: Located,
    tasks: Sequence[str],
    *,
    precision: str = "fp32",
    device: str = "cpu",
    more: Sequence[str] = (),
    python: str = sys.executable,
) -> dict[str, Any]:
    """Results of tasks by the harness's own command line, in a process of its own: {task: {metric: value}}.

    more   further arguments of its command line, such as ("--limit", "10")

    Raises ModelError if it is not installed, or with the last line that it wrote if it fails.
    """
    if python == sys.executable and find_spec("lm_eval") is None:
        raise ModelError(f"lm-evaluation-harness is not installed: {INSTALL}")
    told = arguments(of, precision=precision)
    with tempfile.TemporaryDirectory(prefix="equipoise-lm-eval-") as folder:
        command = [
            python, "-m", "lm_eval", "--model", "hf", "--model_args", told, "--tasks", ",".join(tasks),
            "--device", device, "--output_path", folder, *more,
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        written = sorted(Path(folder).rglob("results*.json"))
        if done.returncode or not written:
            said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
            raise ModelError(
                f"lm-evaluation-harness failed on {', '.join(tasks)}: {said[-1] if said else 'no word'}"
            )
        found = json.loads(written[-1].read_text(encoding="utf-8"))
    return {
        task: {name: value for name, value in values.items() if isinstance(value, int | float)}
        for task, values in found["results"].items()
    }
