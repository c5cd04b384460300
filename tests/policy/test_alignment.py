"""Weights in aligned memory: a policy's log-probs do not depend on the header of the file that it was read from."""

from __future__ import annotations

import shutil

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from equipoise.data.collate import Response
from equipoise.data.rendering.render import load_tokenizer
from equipoise.playground import model_path
from equipoise.policy.alignment import BYTES, align
from equipoise.policy.causal import CausalPolicy


def off_by(values: torch.Tensor, shift: int) -> torch.Tensor:
    """The same values, `shift` elements behind an aligned address."""
    room = torch.empty(values.numel() + shift, dtype=values.dtype)
    return room[shift:].view(values.shape).copy_(values)


def test_weights_are_moved_once_and_stay_tied():
    model = nn.Sequential(nn.Linear(5, 5), nn.BatchNorm1d(5), nn.Linear(5, 5))
    model[2].weight = model[0].weight
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model[0].weight.data = off_by(model[0].weight.data, 2)
    model[1].running_mean.data = off_by(model[1].running_mean.data, 1)
    kept = model[0].bias.data_ptr()
    align(model)
    assert not any(value.data_ptr() % BYTES for value in model.state_dict().values())
    assert model[2].weight is model[0].weight and model[0].bias.data_ptr() == kept
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_same_weights_have_the_same_bits_whatever_the_header_of_their_file(tmp_path):
    with safe_open(str(model_path() / "model.safetensors"), framework="pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    found, ids = set(), tuple(range(3, 12))
    for longer in (0, 8, 16, 24):
        folder = tmp_path / str(longer)
        shutil.copytree(model_path(), folder)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt", "note": "-" * longer})
        policy = CausalPolicy.load(folder, load_tokenizer(str(folder)))
        for size in (1, 2, 4):  # products of few rows are those whose path depends on alignment
            for end in (size + 1, size + 4):
                policy.logprobs(policy.batch([ids[:size]], [[Response(ids[size:end], "")]]))[0].backward()
        found.add(b"".join(p.grad.numpy().tobytes() for p in policy.model.parameters()))
    assert len(found) == 1
