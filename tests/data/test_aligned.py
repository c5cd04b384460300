"""Whole runs on data other than pairs of two texts: unpaired feedback, ranked lists, chat pairs with a rationale."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from equipoise.playground import LanguageGame, load_model, model_path, reference_policy, write_lists
from equipoise.playground.reference import response_logprob
from equipoise.run.config import resolve
from equipoise.run.materials import gather
from equipoise.run.session import Run, align
from equipoise.worlds.text.folder.row_files import load_rows

GAME = LanguageGame()
SETTINGS = {
    "evaluate.prompts": 2,
    "evaluate.samples": 2,
    "sampling.max_new_tokens": 9,
    "data.held_out": 0.25,
    "train.lr": 1e-3,
    "train.eps": 1e-3,
}


def played(method: str, data: Path, out: Path, model: Path | None = None, **settings: Any) -> Run:
    return align(
        method,
        model=model or model_path(),
        data=data,
        out=out,
        quiet=True,
        settings=SETTINGS | settings,
    )


def lines(run: Run, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run.folder / f"{name}.jsonl").read_text().splitlines()]


@pytest.fixture
def labelled(rows: Callable[..., Path]) -> Path:
    """A polite and fitting answer up, a careless one down, one of each for every other request."""
    labelled = [
        {"prompt": GAME.prompts[x], "completion": GAME.responses[a], "label": up}
        for x in GAME.train[::2]
        for a, up in ((x % 12, True), (12 + x % 12, False))
    ]
    return rows(*labelled)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["kto", "bco_udm"])
def test_unpaired_runs_end_with_the_area_under_the_curve_of_held_out_ones(
    method: str, labelled: Path, tmp_path: Path
) -> None:
    run = played(method, labelled, tmp_path / "run", **{"train.epochs": 3, "train.batch": 16})
    found = lines(run, "evaluation")[-1]
    held = gather(resolve(method, {}, {"data.path": [str(labelled)]}, SETTINGS), tmp_path).held_out
    assert held is not None and held.reward is not None and len(held) == 16
    tables = []
    for folder in (run.checkpoint, model_path()):
        model, tokenizer = load_model(folder)
        texts = [prompt.text for prompt in held.prompts]
        tables.append(response_logprob(model, tokenizer, texts, GAME.responses))
    said = [GAME.responses.index(group[0].text) for group in held.responses]
    ratio = [float((tables[0] - tables[1])[i, a]) for i, a in enumerate(said)]
    up = held.reward[:, 0] >= 0.5
    good, bad = ([r for r, is_up in zip(ratio, up, strict=True) if is_up == want] for want in (True, False))
    area = sum((g > b) + 0.5 * (g == b) for g in good for b in bad) / (len(good) * len(bad))
    assert found["accuracy"]["value"] == pytest.approx(area)
    assert area > 0.6
    assert found["chosen_log_ratio"] == pytest.approx(sum(good) / len(good), abs=1e-4)
    assert found["rejected_log_ratio"] == pytest.approx(sum(bad) / len(bad), abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["plackett_luce", "tpo"])
def test_lists_of_uneven_length_are_trained_on(method: str, tmp_path: Path) -> None:
    data = write_lists(tmp_path / "lists.jsonl", GAME, 40, size=4, seed=1, reference=reference_policy())
    long, *others = [json.loads(line) for line in data.read_text().splitlines()]
    short = long | {key: long[key][:3] for key in ("responses", "rewards")}
    data.write_text("".join(json.dumps(row) + "\n" for row in [short, *others]))
    run = played(method, data, tmp_path / "run", **{"train.epochs": 3, "train.batch": 8, "beta": 0.5})
    loss = [step["loss"] for step in lines(run, "metrics") if "loss" in step]
    assert sum(loss[-4:]) < sum(loss[:4])
    found = lines(run, "evaluation")[-1]
    assert found["accuracy"]["value"] > 0.5
    assert found["chosen_log_ratio"] > found["rejected_log_ratio"]
    assert "lists of 4 answers" in (run.folder / "ledger.json").read_text()


def test_chat_pairs_with_rationales(
    tmp_path: Path, rows: Callable[..., Path], makers: dict[str, Callable[..., Any]], chatml: str
) -> None:
    """The rationale follows the better answer and a question that shows the other one, in the model's template."""
    tokenizer = makers["byte-level"](template=chatml, eos="<|end|>")
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **shape, **ends))
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")

    def turn(role: str, text: str) -> list[dict[str, str]]:
        return [{"role": role, "content": text}]

    pairs = [
        {
            "prompt": turn("user", f"Name a prime above {n}."),
            "chosen": turn("assistant", f"{n + 1}"),
            "rejected": turn("assistant", f"{n}"),
            "rationale": f"{n + 1} is a prime.",
        }
        for n in (4, 6, 10, 12, 16, 18, 22, 28)
    ]
    run = played(
        "rdpo_rationale",
        rows(*pairs),
        tmp_path / "run",
        model=tmp_path / "model",
        **{"train.epochs": 8, "train.batch": 4, "train.lr": 1e-2, "train.eps": 1e-8},
    )
    kept = load_rows(run.folder / "rounds" / "001" / "judging.parquet")
    assert len(kept) == 6  # the prompts of two are held out
    for prompt, group in zip(kept.prompts, kept.responses, strict=True):
        better, worse, why = group
        lead = (
            f"{tokenizer.decode(prompt.ids)}{better.text}<|end|>\n<|turn|>user\nAnother answer was:\n{worse.text}\n\n"
            "Your answer is the better one. Why?<|end|>\n<|turn|>assistant\n"
        )
        assert tokenizer.decode([*prompt.ids, *why.lead]) == lead
        assert tokenizer.decode(why.ids) == f" {better.text} is a prime.<|end|>"
    steps = lines(run, "metrics")
    assert steps[0]["rationale"] == pytest.approx(
        math.log(len(tokenizer)), rel=0.05
    )  # random weights know nothing
    assert steps[-1]["rationale"] < 0.5 * steps[0]["rationale"]
    assert lines(run, "evaluation")[-1]["accuracy"]["n"] == 2
