"""Evaluation and saving inside training, as other trainers say it: steps, the best model, what is not the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from equipoise.connect.configuration import import_configuration
from equipoise.run.config import resolve

TRL = {"model_name_or_path": "m", "dataset_name": "d.jsonl", "loss_type": "sigmoid", "beta": 0.1}
AXOLOTL = {"base_model": "m", "rl": "dpo", "datasets": [{"path": "d.jsonl", "type": "chat_template.default"}]}
FACTORY = {"model_name_or_path": "m", "stage": "dpo", "finetuning_type": "full", "pref_beta": 0.1}
BEST = {"load_best_model_at_end": True, "metric_for_best_model": "eval_rewards/accuracies"}
EVERY = {"eval_strategy": "steps", "eval_steps": 50, "save_steps": 100, "save_total_limit": 2}
OURS = ("evaluate.steps", "evaluate.best", "evaluate.patience", "train.save_steps", "train.keep")


def read(folder: Path, base: dict[str, Any], more: dict[str, Any]) -> Any:
    file = folder / "theirs.yaml"
    file.write_text(yaml.safe_dump(base | more))
    return import_configuration(file)


@pytest.mark.parametrize("base", [TRL, AXOLOTL, FACTORY], ids=["trl", "axolotl", "llama-factory"])
def test_steps_and_the_best_model_are_ours(tmp_path: Path, base: dict[str, Any]) -> None:
    t = read(tmp_path, base, EVERY | BEST)
    assert [t.settings.get(name) for name in OURS] == [50, "accuracy", None, 100, 2]
    made = resolve(t.method, t.settings)
    assert (made.evaluate.steps, made.evaluate.best, made.train.save_steps, made.train.keep) == (
        50,
        "accuracy",
        100,
        2,
    )
    assert not {name.split(":")[0] for name, _ in t.missing} & (EVERY | BEST).keys()


@pytest.mark.parametrize(
    "more, settings, missing",
    [
        ({"eval_steps": 50}, [None] * 5, ""),  # Hugging Face evaluates nothing without a strategy
        ({"eval_strategy": "steps"}, [500, None, None, None, None], ""),
        ({"eval_strategy": "epoch"}, [None] * 5, "eval_strategy: epoch"),
        ({"eval_strategy": "no", "save_strategy": "no"}, [None] * 5, ""),
        ({"eval_strategy": "steps", "eval_steps": 0.1}, [None] * 5, "eval_steps: 0.1"),
        ({"save_strategy": "epoch"}, [None] * 5, "save_strategy: epoch"),
        ({**EVERY, "load_best_model_at_end": True}, [50, "loss", None, 100, 2], ""),
        (
            {**EVERY, **BEST, "metric_for_best_model": "bleu"},
            [50, None, None, 100, 2],
            "metric_for_best_model: bleu",
        ),
        ({**EVERY, **BEST, "greater_is_better": False}, [50, None, None, 100, 2], "greater_is_better: False"),
        (BEST, [None] * 5, "metric_for_best_model: eval_rewards/accuracies"),
        ({**EVERY, "metric_for_best_model": "loss"}, [50, None, None, 100, 2], ""),
    ],
)
def test_what_it_means_and_what_is_missing(
    tmp_path: Path, more: dict[str, Any], settings: list[Any], missing: str
) -> None:
    t = read(tmp_path, TRL, more)
    assert [t.settings.get(name) for name in OURS] == settings
    assert [name for name, _ in t.missing] == ([missing] if missing else [])
    resolve(t.method, t.settings)


def test_axolotl_takes_steps_alone_and_stops_early(tmp_path: Path) -> None:
    t = read(tmp_path, AXOLOTL, {"eval_steps": 20, "early_stopping_patience": 3})
    assert [t.settings.get(name) for name in OURS] == [20, "loss", 3, None, None]


def test_openrlhf_says_never_by_minus_one(tmp_path: Path) -> None:
    base = {"pretrain": "m", "dataset": "d.jsonl", "train_batch_size": 8, "beta": 0.1}
    t = read(tmp_path, base, {"eval_steps": 30, "save_steps": -1})
    assert [t.settings.get(name) for name in OURS] == [30, None, None, None, None]
