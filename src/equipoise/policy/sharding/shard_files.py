"""Files of tensors that are divided among processes: one safetensors file, the same whatever the number of processes.

The first process writes, a tensor at a time, so that none holds them all; every process reads its own rows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor
from torch.distributed.tensor import DTensor

from equipoise.policy.files import whole as written_whole
from equipoise.policy.files import write_tensors
from equipoise.policy.sharding.sharded import divided_as, whole

NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
}


def write_gathered(path: Path | None, tensors: Mapping[str, Tensor], **about: str) -> None:
    """Write tensors, divided ones gathered; all processes call it, and those whose path is None write nothing."""
    if not any(isinstance(tensor, DTensor) for tensor in tensors.values()):
        if path is not None:
            write_tensors(path, tensors, **about)
        return
    # wide numbers first, so that each begins at a multiple of its size
    order = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    if path is None:
        for name in order:
            whole(tensors[name])
        return
    with written_whole(path) as draft, draft.open("wb") as file:
        file.write(_header([(name, tensors[name]) for name in order], about))
        for name in order:
            values = whole(tensors[name]).detach().cpu().contiguous()
            file.write(values.reshape(-1).view(torch.uint8).numpy().data)


def _header(tensors: list[tuple[str, Tensor]], about: Mapping[str, str]) -> bytes:
    """A safetensors header: its length in 8 bytes, then JSON with the place of every tensor."""
    entries: dict[str, object] = {"__metadata__": dict(about)} if about else {}
    at = 0
    for name, tensor in tensors:
        size = tensor.numel() * tensor.dtype.itemsize
        entries[name] = {
            "dtype": NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [at, at + size],
        }
        at += size
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def read_own(path: Path, parameters: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """(tensors, text metadata) of a file whose names end with those of parameters, as KEY/NAME.

    What has the shape of a parameter that is divided is read as this process's rows of it. Raises ValueError if the
    file is not intact.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            found: dict[str, Tensor] = {}
            for key in file.keys():  # noqa: SIM118 - not a mapping
                like = parameters.get(key.split("/", 1)[-1])
                if isinstance(like, DTensor) and list(like.shape) == file.get_slice(key).get_shape():
                    rows = file.get_slice(key)
                    found[key] = divided_as(like, lambda begin, end, rows=rows: rows[begin:end])  # type: ignore[misc]
                else:
                    found[key] = file.get_tensor(key)
            return found, file.metadata() or {}
    except Exception as error:  # safetensors raises undocumented types
        raise ValueError(f"{path} is not an intact safetensors file: {error}") from error
