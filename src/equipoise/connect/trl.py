"""TRL's configurations: DPO, KTO, CPO (SimPO), ORPO; as YAML of `TrlParser`, a command, or arguments in Python."""

from __future__ import annotations

from typing import Any

from equipoise.connect import losses
from equipoise.connect.common import COMMON, batch, lora
from equipoise.connect.evaluating import evaluating
from equipoise.connect.foreign import literal
from equipoise.connect.meanings import (
    ImportFailed,
    Meaning,
    Translation,
    absent,
    flag,
    ignored,
    number,
    ours,
    short,
)

TRAINERS = ("dpo", "kto", "cpo", "orpo")

MEANINGS: dict[str, Meaning] = {
    **COMMON,
    "model_name_or_path": ours("model.path", str),
    "model": ours("model.path", str),
    "dtype": ignored("weights are held in fp32"),
    "torch_dtype": ignored("weights are held in fp32"),
    "model_revision": absent(
        "give a folder with that revision", unless=lambda value: value in (None, "main")
    ),
    "tokenizer_name_or_path": absent("the tokenizer is the model's"),
    "dataset_config": absent("write the part that you need to a file"),
    "dataset_test_split": ignored("held-out prompts are drawn from the data: data.held_out"),
    "dataset_streaming": ignored(),
    "ref_model": absent("the reference is the model that the run starts from: give that as model.path"),
    "ref_model_name_or_path": absent(
        "the reference is the model that the run starts from: give that as model.path"
    ),
    "model_adapter_name": ignored(),
    "ref_adapter_name": ignored(),
    "force_use_ref_model": ignored(),
    "model_init_kwargs": absent("models are loaded in fp32, safetensors only"),
    "ref_model_init_kwargs": ignored(),
    "train_sampling_strategy": ignored("rows are shuffled by the seed"),
    "lora_task_type": ignored(),
    "task_type": ignored(),
    "bias": absent("LoRA trains no biases", unless=lambda value: value in (None, "none")),
    "pad_token": absent("the tokenizer's own"),
    "padding_value": ignored(),
    "label_pad_token_id": ignored(),
    "use_logits_to_keep": ignored(),
    "bnb_4bit_quant_type": ignored(),
    "use_bnb_nested_quant": ignored(),
    "bnb_4bit_quant_storage": ignored(),
    "ignore_bias_buffers": ignored(),
    "base_model_attribute_name": ignored(),
}


def translate(given: dict[str, Any], trainer: str | None, processes: int, program: str) -> Translation:
    """A TRL configuration as ours.

    trainer   one of `TRAINERS`; None: read off the program's name, else off the settings, else DPO
    program   the command or class that was called, if the file says so
    """
    t = Translation(source="TRL", given=dict(given))
    kind = trainer or trainer_of(t.given, program)
    if kind is None:
        kind = "dpo"
        t.notes.append("the file does not say which trainer it is for: DPO is assumed, else give --trainer")
    beta = number(t.take("beta", default=0.1))
    {"dpo": _dpo, "kto": _kto, "cpo": _cpo, "orpo": _orpo}[kind](t, beta)
    each = t.take("per_device_train_batch_size", "per_gpu_train_batch_size", default=8)
    batch(t, each, t.take("gradient_accumulation_steps", default=1), processes, "per_device_train_batch_size")
    _lora(t)
    _data(t)
    evaluating(t)
    half = flag(t.given.get("fp16", False))
    t.apply(MEANINGS)
    for name, value in (
        ("model.precision", "fp32" if half else "bf16"),
        ("train.lr", 1e-6),
        ("train.epochs", 3),
        ("train.schedule", "linear"),
        ("train.warmup", 0.0),
        ("data.max_length", 1024),
        ("seed", 42),
    ):
        t.default(name, value)
    return t


def trainer_of(given: dict[str, Any], program: str) -> str | None:
    """The trainer that a program's or a class's name, or the settings of one trainer only, tell; else None."""
    said = program.lower()
    named = next((name for name in TRAINERS if name in said), None)
    if named:
        return named
    if {"desirable_weight", "undesirable_weight"} & given.keys() or given.get("loss_type") in (
        "kto",
        "apo_zero_unpaired",
    ):
        return "kto"
    if {"cpo_alpha", "simpo_gamma"} & given.keys() or given.get("loss_type") == "simpo":
        return "cpo"
    marks = {"loss_type", "label_smoothing", "f_divergence_type", "loss_weights", "rpo_alpha"}
    return "dpo" if marks & given.keys() else None


def listed(value: Any) -> list[Any]:
    """A list, given as such, as text that looks like one, or as a single value."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = literal(value)
        except ValueError:
            raise ImportFailed(f"{short(value)} is not a list") from None
    return list(value) if isinstance(value, list | tuple) else str(value).split()


def _dpo(t: Translation, beta: float) -> None:
    smoothing = number(t.take("label_smoothing", default=0.0))
    kinds = listed(t.take("loss_type", default="sigmoid"))
    weights = [number(weight) for weight in listed(t.take("loss_weights", default=[1.0] * len(kinds)))]
    of = f"loss_type: {', '.join(map(str, kinds))}"
    if len(kinds) > 1:
        losses.mixture(t, list(map(str, kinds)), weights, beta, of)
    else:
        losses.pair_loss(t, str(kinds[0]), beta, smoothing, of)
    coefficient = t.take("f_alpha_divergence_coef", default=0.5)
    losses.divergence(t, t.take("f_divergence_type"), coefficient, beta, "f_divergence_type")
    if flag(t.take("use_weighting", default=False)):
        t.choose("wpo", "use_weighting", beta=beta, smoothing=smoothing or None)
    if flag(t.take("reference_free", default=False)):
        t.choose("dpo_reference_free", "reference_free", beta=beta)
    losses.with_likelihood(t, t.take("rpo_alpha"), "rpo_alpha")
    t.take("discopop_tau")


def _kto(t: Translation, beta: float) -> None:
    kind = str(t.take("loss_type", default="kto"))
    if kind not in ("kto", "apo_zero_unpaired"):
        raise ImportFailed(f"TRL's KTO has the losses kto and apo_zero_unpaired, not {short(kind)!r}")
    up, down = (number(t.take(name, default=1.0)) for name in ("desirable_weight", "undesirable_weight"))
    t.choose(kind, f"KTO, loss_type: {kind}", beta=beta, desirable=up, undesirable=down)


def _cpo(t: Translation, beta: float) -> None:
    kind = str(t.take("loss_type", default="sigmoid"))
    likelihood, gamma = number(t.take("cpo_alpha", default=1.0)), number(t.take("simpo_gamma", default=0.5))
    if t.take("alpha"):
        t.lack("alpha", "AlphaPO's reward is the method alpha_po: it has no likelihood term")
    if kind == "simpo":
        losses.simpo(t, beta, gamma, likelihood, "CPO, loss_type: simpo")
    elif kind == "sigmoid":
        t.choose("cpo", "CPO, loss_type: sigmoid", beta=beta, alpha=likelihood)
    else:
        raise ImportFailed(
            f"CPO with the loss {short(kind)!r} does not exist here; with sigmoid and simpo it does"
        )
    if t.take("label_smoothing"):
        t.lack("label_smoothing", "CPO has no label smoothing here")


def _orpo(t: Translation, beta: float) -> None:
    t.choose("orpo", "ORPO's beta, the weight of the odds ratio", lam=beta)


def _lora(t: Translation) -> None:
    used = flag(t.take("use_peft", default="r" in t.given))
    rank, alpha = t.take("lora_r", "r", default=16), t.take("lora_alpha", default=32)
    targets = t.take("lora_target_modules", "target_modules")
    if used:
        lora(t, rank, alpha, targets, "use_peft, lora_r, lora_alpha, lora_target_modules")
    else:
        t.take("lora_dropout")


def _data(t: Translation) -> None:
    split = t.take("dataset_train_split", default="train")
    name = t.take("dataset_name", "train_dataset")
    mixed = t.take("datasets")
    if isinstance(mixed, list):
        paths = [str(entry.get("path", entry)) if isinstance(entry, dict) else str(entry) for entry in mixed]
    else:
        paths = [str(name)] if name else []
    if paths:
        t.put("data.path", paths, f"dataset: {', '.join(paths)}")
    if paths and split != "train":
        t.lack(
            f"dataset_train_split: {short(split)}",
            "write that split to a file, and name the file in data.path",
        )
