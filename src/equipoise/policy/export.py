"""Export of a finished policy in another dtype: checkpoints are fp32, exactly as trained; exports may be half."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file

from equipoise.models.errors import ModelError
from equipoise.models.files import Header
from equipoise.policy.digests import write_sums
from equipoise.policy.files import read_tensors, whole

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_STORED = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
KEPT = (".json", ".jinja", ".model", ".txt", ".md")
LEFT_OUT = ("fingerprint.txt", "sha256sums.txt")  # they speak of the checkpoint's own weights


def export(source: Path, target: Path, dtype: str, given: Mapping[str, Header] | None = None) -> None:
    """Write a checkpoint's weights in another dtype into a folder of their own, one file at a time.

    dtype    "fp32", "bf16" or "fp16"; a weight in `given` has the dtype that it had there.

    A weight that training did not move comes out as it came in: fp32 holds every bf16 and fp16 number.
    Raises ModelError for a dtype that does not exist.
    """
    if dtype not in DTYPES:
        raise ModelError(f"an export is in one of {', '.join(DTYPES)}, got {dtype!r}")
    with whole(target) as draft:
        draft.mkdir()
        size = 0
        for file in sorted(source.glob("*.safetensors")):
            tensors, about = read_tensors(file)
            for name, tensor in tensors.items():
                if tensor.is_floating_point():
                    stored = _STORED.get(given[name].dtype) if given and name in given else None
                    tensors[name] = tensor.to(stored or DTYPES[dtype])
            size += sum(tensor.nbytes for tensor in tensors.values())
            save_file(tensors, draft / file.name, metadata=about or {"format": "pt"})
        for file in source.iterdir():
            if file.suffix in KEPT and file.name not in LEFT_OUT:
                shutil.copy(file, draft / file.name)
        _rewrite(draft / "config.json", {"dtype": str(DTYPES[dtype]).removeprefix("torch.")})
        _rewrite(draft / "model.safetensors.index.json", {"metadata": {"total_size": size}})
        write_sums(draft)


def dtype_of(setting: str, stored: str) -> str | None:
    """The dtype to export in: that of the setting; for "auto" that of the given weights if they are half precision.

    setting    "auto", "none", or a dtype.      stored    the dtype of the given weights, as safetensors names it.

    None: no export.
    """
    if setting == "auto":
        return {"BF16": "bf16", "F16": "fp16"}.get(stored)
    return None if setting == "none" else setting


def _rewrite(path: Path, changes: Mapping[str, object]) -> None:
    if path.exists():
        settings = json.loads(path.read_text(encoding="utf-8")) | changes
        path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")
