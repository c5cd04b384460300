"""Fits of weights that processes divide (FSDP2): the steps of one process; their files; what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from equipoise.policy.checkpoint import NETWORK
from equipoise.policy.files import MOMENTS
from equipoise.run.config import ConfigError, resolve
from equipoise.run.materials import gather
from several_processes import by_one_and_by_two

SCRIPT = Path(__file__).with_name("two_processes_divided.py")
CASES = ("dpo", "kto-few", "dpo-uneven", "dpo-watched", "critic-again", "lora-recomputed-again")
PLAIN = {"critic-again": "critic", "lora-recomputed-again": "lora"}


def worst(a, b):
    assert a.keys() == b.keys() and all(a[name].dtype == b[name].dtype for name in a)
    return max(float((a[name].double() - b[name].double()).abs().max()) for name in a)


@pytest.mark.slow
def test_a_divided_fit_is_that_of_one_process(tmp_path):
    """In float64 to its rounding (a critic's head and adapters are float32), with a batch statistic, fewer comparisons
    than processes, uneven numbers of forward passes, forward passes and checkpoints in between, and resumed.

    Checkpoints and moments are one file each, those of one process. Either number of processes resumes the other's fit.
    """
    by_one_and_by_two(SCRIPT, tmp_path, *CASES)
    alone, together = (torch.load(tmp_path / count, weights_only=True) for count in ("1", "2"))
    for case in CASES:
        bound = 1e-7 if case in PLAIN else 1e-12
        one, two = alone[case], together[case]
        assert one["figures"] == pytest.approx(two["figures"], rel=1e-5, abs=1e-9), case
        moved = max(float((one["weights"][n] - start).abs().max()) for n, start in one["start"].items())
        assert worst(one["weights"], two["weights"]) < bound < 1e-4 < moved, case
        a, b = (load_file(tmp_path / f"{case}-{count}" / MOMENTS) for count in "12")
        assert worst(a, b) < 1e-6 * max(float(value.abs().max()) for value in a.values()), case
    a, b = (load_file(tmp_path / f"critic-again-{count}" / NETWORK) for count in "12")
    assert worst(a, b) < 1e-7
    read = AutoModelForCausalLM.from_pretrained(tmp_path / "dpo-2", dtype=torch.float64)
    assert worst(dict(read.named_parameters()), together["dpo"]["weights"]) == 0.0
    for position in (1, 2):  # in the middle of a fit, between weights that are the same in both
        files = [tmp_path / f"dpo-watched-{count}-{position}" / "model.safetensors" for count in "12"]
        assert worst(*map(load_file, files)) < 1e-12
    resumed = [f"{name}-from" for name in PLAIN.values()]
    by_one_and_by_two(SCRIPT, tmp_path, *resumed)
    for name, case in zip(PLAIN.values(), PLAIN, strict=True):
        for count in ("1", "2"):
            found = torch.load(tmp_path / count, weights_only=True)[f"{name}-from"]["weights"]
            assert worst(found, alone[case]["weights"]) < 1e-7, (name, count)


@pytest.mark.parametrize(
    ("method", "settings", "said"),
    [
        ("dpo", {"train.optimizer": "adafactor", "train.lr": 1e-5}, "what train.optimizer=adafactor keeps"),
        (
            "dpo",
            {"model.quantization": "4bit", "model.lora_rank": 4},
            r"weights in 4bit \(model.quantization\)",
        ),
        ("sparse_po", {}, "the references and networks that sparse_po has in memory"),
    ],
)
def test_what_cannot_be_divided_is_refused_before_a_model_is_loaded(tmp_path, method, settings, said):
    config = resolve(method, settings | {"train.sharding": "full"})
    with pytest.raises(ConfigError, match=f"train.sharding=full cannot divide {said}.*; leave it out"):
        gather(config, tmp_path)
