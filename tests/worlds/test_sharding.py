"""Fits of weights that processes divide (FSDP2): the steps of one process; their files; what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from accelerate import Accelerator
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from equipoise.core.objectives import Dpo
from equipoise.policy.checkpoint import NETWORK
from equipoise.policy.files import MOMENTS
from equipoise.run.config import ConfigError, resolve
from equipoise.run.materials import gather
from equipoise.worlds.errors import TrainingError
from equipoise.worlds.text.fit import Fit, PolicyScoring, Training
from several_processes import by_one_and_by_two, killed, lines, run

SCRIPT = Path(__file__).with_name("two_processes_divided.py")
PLAIN = {"critic-again": "critic", "lora-recomputed-again": "lora"}
DIVIDED = ("train.sharding=full", "play.rounds=3", "data.pairs=60", "lr=1e-4")


def worst(a, b):
    assert a.keys() == b.keys() and all(a[name].dtype == b[name].dtype for name in a)
    return max(float((a[name].double() - b[name].double()).abs().max()) for name in a)


def weights(folder, name="model.safetensors"):
    return load_file(folder / name)


@pytest.mark.slow
def test_a_divided_fit_is_that_of_one_process(tmp_path):
    """With a batch statistic and fewer comparisons than processes, with uneven numbers of forward passes, and a critic,
    which is resumed: equal to float64's rounding, and where its head is float32 to that."""
    _by_one_and_by_two(tmp_path, "kto-few", "dpo-uneven", "critic-again")
    a, b = (weights(tmp_path / f"critic-again-{count}", NETWORK) for count in "12")
    assert worst(a, b) < 1e-7
    read = AutoModelForCausalLM.from_pretrained(tmp_path / "dpo-uneven-2", dtype=torch.float64)
    stored = weights(tmp_path / "dpo-uneven-2")
    assert all(torch.equal(dict(read.named_parameters())[name], stored[name]) for name in stored)


@pytest.mark.nightly
def test_a_divided_fit_is_watched_and_resumed_by_any_number_of_processes(tmp_path):
    """With forward passes and checkpoints in its middle, adapters on a bfloat16 base, activation checkpointing."""
    alone = _by_one_and_by_two(tmp_path, "dpo-watched", *PLAIN)
    for position in (1, 2):
        assert worst(*(weights(tmp_path / f"dpo-watched-{count}-{position}") for count in "12")) < 1e-12
    by_one_and_by_two(SCRIPT, tmp_path, *(f"{name}-from" for name in PLAIN.values()))
    for case, name in PLAIN.items():
        for count in ("1", "2"):
            found = torch.load(tmp_path / count, weights_only=True)[f"{name}-from"]["weights"]
            assert worst(found, alone[case]["weights"]) < 1e-7, (name, count)


def _by_one_and_by_two(folder, *cases):
    """What one process found; two agree, their checkpoints' moments too."""
    by_one_and_by_two(SCRIPT, folder, *cases)
    alone, together = (torch.load(folder / count, weights_only=True) for count in ("1", "2"))
    for case in cases:
        bound = 1e-7 if case in PLAIN else 1e-12
        one, two = alone[case], together[case]
        assert one["figures"] == pytest.approx(two["figures"], rel=1e-5, abs=1e-9), case
        moved = max(float((one["weights"][n] - start).abs().max()) for n, start in one["start"].items())
        assert worst(one["weights"], two["weights"]) < bound < 1e-4 < moved, case
        a, b = (weights(folder / f"{case}-{count}", MOMENTS) for count in "12")
        assert worst(a, b) < 1e-6 * max(float(value.abs().max()) for value in a.values()), case
    return alone


@pytest.mark.nightly
@pytest.mark.parametrize("method", ["spac", "inpo", "kto", "rto"])
def test_three_divided_rounds_are_those_of_one_process(tmp_path, method):
    """To rounding of float32, with evaluations and kept policies inside fits where the data allow them."""
    within = ("evaluate.steps=4", "save_steps=4") if method == "kto" else ()
    one, two = tmp_path / "one", tmp_path / "two"
    run(one, 1, method, *DIVIDED, *within)
    said = run(two, 2, method, *DIVIDED, *within).stderr
    assert "2 processes divide weights, gradients and moments" in said
    folders = sorted(f.parent.relative_to(one) for f in one.glob("checkpoints/*/model.safetensors"))
    assert len(folders) >= 4 and (not within or any("step-" in str(f) for f in folders))
    initial = weights(one / "checkpoints" / "initial")
    for folder in folders:
        a, b = weights(one / folder), weights(two / folder)
        assert worst(a, b) <= 1e-3 * worst(a, initial), folder
    for name in ("evaluation.jsonl", *(["within_fits.jsonl"] if within else [])):
        for here, there in zip(lines(one / name), lines(two / name), strict=True):
            for figure in ("loss", "margin", "exact_win_rate"):
                assert here.get(figure) == pytest.approx(there.get(figure), abs=1e-4), (name, figure)


@pytest.fixture(scope="module")
def divided_run(tmp_path_factory):
    """Three rounds of two processes that nothing interrupts."""
    folder = tmp_path_factory.mktemp("divided") / "run"
    run(folder, 2, "inpo", *DIVIDED)
    return folder


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("rank", "file"),
    [
        (1, "rounds/001/sampling.parquet"),
        (0, "progress.safetensors"),
        (1, "progress.safetensors"),
        (0, "checkpoints/round-001/config.json"),
        (1, "rounds/002/policies.json"),
    ],
)
def test_a_divided_run_that_is_killed_ends_with_the_same_bytes(divided_run, tmp_path, rank, file):
    killed(tmp_path / "run", rank, file, "inpo", *DIVIDED)
    run(tmp_path / "run", 2, "inpo", *DIVIDED)
    for name in ("metrics.jsonl", "evaluation.jsonl", "checkpoints/round-003/model.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (divided_run / name).read_bytes(), name


@pytest.mark.nightly
def test_one_process_goes_on_from_a_divided_fit(divided_run, tmp_path):
    killed(tmp_path / "run", 1, "progress.safetensors", "inpo", *DIVIDED)
    said = run(tmp_path / "run", 1, "inpo", *DIVIDED).stderr
    assert "nothing is divided by one process" in said
    a, b = (weights(folder / "checkpoints" / "round-003") for folder in (tmp_path / "run", divided_run))
    assert worst(a, b) < 1e-3 * worst(b, weights(divided_run / "checkpoints" / "initial"))


def test_out_of_memory_ends_a_divided_fit(policy, pairs, monkeypatch):
    """The other processes wait in the backward, so that no step is repeated."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        policy.divide(1)
        fit = Fit(
            PolicyScoring(policy, Dpo(beta=0.1)),
            pairs,
            {"reference": torch.zeros(pairs.responses.shape)},
            Training(batch=4, lr=1e-4),
            Accelerator(cpu=True),
            lambda epoch: np.arange(len(pairs)),
        )
        assert fit.step()["grad_norm"] > 0

        def full(*inputs):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

        monkeypatch.setattr(type(policy.scorer), "forward", full)
        with pytest.raises(TrainingError, match=r"a divided model is not repeated; lower train\.tokens"):
            fit.step()
        policy.join()
    finally:
        dist.destroy_process_group()


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
