"""Optimizers by name: what each one's step is, its exact resume from safetensors, and the size of its state."""

from __future__ import annotations

import importlib.util
import sys

import pytest
import torch
from tests.worlds.test_fit import anchors_of, fit_of

from equipoise.policy import checkpoint
from equipoise.policy.held_weights import quantization_library
from equipoise.policy.protocol import ModelError
from equipoise.run.config import ConfigError, resolve
from equipoise.worlds.text.fit import Training
from equipoise.worlds.text.optimizers import KINDS, optimizer_of

HAS_LIBRARY = importlib.util.find_spec("bitsandbytes") is not None
NAMES = [
    pytest.param(name, marks=pytest.mark.skipif(kind.library and not HAS_LIBRARY, reason="no bitsandbytes"))
    for name, kind in KINDS.items()
]


def weights(policy):
    return [p.detach().clone() for _, p in policy.parameters()]


@pytest.mark.parametrize("name", NAMES)
def test_a_fit_goes_on_bit_for_bit_from_its_saved_position(policy, pairs, tmp_path, name):
    how = {"anchors": anchors_of(policy, pairs), "optimizer": name, "lr": 1e-2}
    start = weights(policy)
    fit = fit_of(policy, pairs, **how)
    assert fit.step()["loss"] == pytest.approx(0.6931, abs=1e-4)
    fit.step()
    checkpoint.save_progress(tmp_path / "p.safetensors", policy, fit.optimizer, {"step": 2})
    losses = [fit.step()["loss"] for _ in range(2)]
    never = weights(policy)
    again = fit_of(policy, pairs, **how)
    checkpoint.load_progress(tmp_path / "p.safetensors", policy, again.optimizer)
    again.position = 2
    assert [again.step()["loss"] for _ in range(2)] == losses
    assert all(torch.equal(a, b) for a, b in zip(weights(policy), never, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(start, never, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_the_state_is_as_large_as_said(name):
    weight = torch.nn.Parameter(torch.randn(256, 512, generator=torch.Generator().manual_seed(0)))
    optimizer = optimizer_of([{"params": [weight], "rate": 1.0}], Training(optimizer=name))
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    held = sum(t.nbytes for t in optimizer.state[weight].values() if torch.is_tensor(t) and t.ndim)
    said = KINDS[name].moments * weight.numel()
    assert said <= held <= said + 4 * (256 + 512) + 1 + 0.01 * weight.numel()


def test_sgd_is_plain_momentum():
    weight = torch.nn.Parameter(torch.zeros(3))
    optimizer = optimizer_of(
        [{"params": [weight], "rate": 1.0}], Training(optimizer="sgd", lr=0.1, beta1=0.5)
    )
    for _ in range(2):
        weight.grad = torch.ones(3)
        optimizer.step()
    assert torch.allclose(weight, torch.full((3,), -0.1 - 0.15))


def test_without_the_library_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    groups = [{"params": [torch.nn.Parameter(torch.zeros(2))], "rate": 1.0}]
    with pytest.raises(
        ModelError, match=r"train.optimizer=adamw_8bit needs bitsandbytes .*equipoise\[quant\]"
    ):
        optimizer_of(groups, Training(optimizer="adamw_8bit"))
    with pytest.raises(ModelError, match="a setting needs"):
        quantization_library.bitsandbytes("a setting")


def test_automatic_rates_are_adamws():
    given = {"model.path": "model", "data.path": "pairs.jsonl"}
    for name in ("sgd", "adafactor"):
        with pytest.raises(ConfigError, match=f"{name} needs lr"):
            resolve("dpo", given | {"train.optimizer": name})
        assert resolve("dpo", given | {"train.optimizer": name, "train.lr": 1e-4}).train.optimizer == name
