"""Remedies for noisy labels in the training loop: ensembles and their file, contrastive losses, MetaRM, the command."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace

import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from equipoise.cli.app import main
from equipoise.data.reading.read import read
from equipoise.models.errors import ModelError
from equipoise.playground import LanguageGame, model_path
from equipoise.reward_models.contrastive import simcse_loss
from equipoise.reward_models.ensemble import Ensemble, read_strengths, write_strengths
from equipoise.reward_models.fit import Batch, Fitting, Remedies, fit
from equipoise.reward_models.head import Head
from equipoise.reward_models.noise import Recipe, Strength
from equipoise.reward_models.pairs import labelled
from equipoise.reward_models.read import pair_logits
from equipoise.reward_models.remedies import (
    Contrast,
    ContrastiveLoss,
    MetaStep,
    check_applies,
    has_dropout,
    remedies_of,
)
from equipoise.reward_models.start import begin

GAME = LanguageGame()
FAST = Fitting(lr=1e-2, epochs=1, batch=4)


def body(folder, dropout=0.0):
    torch.manual_seed(5)
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    config = LlamaConfig(**shape, vocab_size=64, max_position_embeddings=128, attention_dropout=dropout)
    LlamaForCausalLM(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(model_path()).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    return body(tmp_path_factory.mktemp("body"))


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Eight prompts with two pairs each; every answer is better than the next one."""
    rows = [
        {
            "id": f"{n}-{i}",
            "prompt": prompt,
            "chosen": GAME.responses[4 * i],
            "rejected": GAME.responses[4 * i + 4],
        }
        for n, prompt in enumerate(GAME.prompts[:8])
        for i in range(2)
    ]
    path = tmp_path_factory.mktemp("data") / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def make(start):
    return lambda seed: begin(start, Head(), seed=seed).model


@pytest.fixture(scope="module")
def pairs(start, file):
    return labelled(read(file), begin(start, Head()).texts, Head())


def weights(model):
    return [p.detach().clone() for p in model.parameters()]


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


# --- ensembles


def test_an_ensemble_is_its_models_one_by_one(start, pairs):
    found = Ensemble(models=2).logits(make(start), pairs, fitting=FAST, seed=3)
    for row, seed in enumerate((4, 5)):
        model = make(start)(seed)
        fit(model, pairs, fitting=FAST, seed=seed)
        assert torch.equal(found[row], pair_logits(model, pairs, 8192)[:, 0])
    assert not torch.equal(found[0], found[1])


def test_with_folds_no_model_sees_the_prompt_that_it_judges(start, pairs):
    ensemble = Ensemble(models=1, folds=2)
    before = ensemble.logits(make(start), pairs, fitting=FAST, seed=0)[0]
    group = pairs[0].group
    turned = [pair.flipped() if pair.group == group else pair for pair in pairs]
    after = ensemble.logits(make(start), turned, fitting=FAST, seed=0)[0]
    own = torch.tensor([pair.group == group for pair in pairs])
    assert torch.equal(before[own], after[own])
    assert not torch.equal(before[~own], after[~own])
    with pytest.raises(ModelError, match="8 prompts cannot be divided into 9 folds"):
        Ensemble(models=1, folds=9).logits(make(start), pairs, fitting=FAST, seed=0)


def test_strengths_come_back_from_their_file_and_turn_with_the_pair(tmp_path, pairs):
    draw = torch.Generator().manual_seed(0)
    mean = torch.randn(len(pairs), generator=draw, dtype=torch.float64)
    path = tmp_path / "strengths.jsonl"
    write_strengths(path, pairs, Strength(mean, mean.abs(), 10))
    turned = [
        replace(p, first=p.second, second=p.first, id=f"t{p.id}") if i % 2 else p for i, p in enumerate(pairs)
    ]
    found = read_strengths(path, turned[::-1])
    signs = torch.tensor([-1.0 if i % 2 else 1.0 for i in range(len(pairs))], dtype=torch.float64)
    assert torch.equal(found.mean, (signs * mean).flip(0))
    assert torch.equal(found.std, mean.abs().flip(0))
    assert found.models == 10


GOOD = {"pair": "0" * 16, "mean": 1.0, "std": 0.5, "models": 10}


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (["{"], "s.jsonl:1:"),
        (["[" * 100_000], "cannot read strengths"),
        (["3"], ":1: a row must be an object"),
        ([json.dumps(GOOD), json.dumps(GOOD | {"mean": math.nan})], ":2: `mean` must be a number"),
        ([json.dumps(GOOD | {"std": -1})], ":1: `std` is negative"),
        ([json.dumps(GOOD | {"mean": 10**400})], ":1: a whole number has more than"),
        ([json.dumps(GOOD | {"models": True})], ":1: `models` must be a number"),
        ([json.dumps(GOOD | {"mean": "1"})], ":1: `mean` must be a number"),
        ([json.dumps(GOOD), json.dumps(GOOD | {"mean": 2})], ":2: this pair has another strength"),
        (
            [json.dumps(GOOD), json.dumps(GOOD | {"pair": "1", "models": 3})],
            ":2: a strength of 3 models among those of 10",
        ),
        ([json.dumps(GOOD)], "has no strength of the pair '0-0'"),
        ([], "no rows"),
    ],
)
def test_broken_files_of_strengths(tmp_path, pairs, lines, why):
    path = tmp_path / "s.jsonl"
    path.write_text("\n".join(lines))
    with pytest.raises(ModelError, match=why):
        read_strengths(path, pairs)


def test_a_file_of_strengths_that_is_not_there_or_no_text(tmp_path, pairs):
    with pytest.raises(ModelError, match="none"):
        read_strengths(tmp_path / "none", pairs)
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(ModelError, match="cannot read strengths"):
        read_strengths(tmp_path / "bytes", pairs)


def test_the_recipe_reaches_the_pairs(pairs):
    mean = torch.linspace(-1, 1, len(pairs), dtype=torch.float64)
    strength = Strength(mean, mean.abs(), 2)
    found = remedies_of(pairs, Recipe(flip=0.25, smooth=0.1, smooth_on="negative", margin=True), strength)
    treated = found.of(pairs)
    assert [p.prob[0] for p in treated] == [0.0] * 4 + [1.0] * 12
    assert [p.margin for p in treated] == mean.tolist()
    assert [found.smoothing_of(p) for p in pairs] == [0.0] * 4 + [0.1] * 4 + [0.0] * 8


# --- contrastive losses


def batch_of(model, pairs):
    texts = [text for pair in pairs for text in pair.tokens]
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(t) for t in texts], batch_first=True)
    mask = torch.nn.utils.rnn.pad_sequence(
        [torch.ones(len(t), dtype=torch.long) for t in texts], batch_first=True
    )
    places = torch.arange(len(texts))
    return Batch(pairs, ids, mask, places[::2], places[1::2], model.read(ids, mask, states=True))


def test_the_contrastive_loss_of_differences_by_hand(start, pairs):
    model = make(start)(0)
    turned = [pair.flipped() if i % 2 else pair for i, pair in enumerate(pairs[:4])]
    batch = batch_of(model, turned)
    found = ContrastiveLoss(Contrast(term="simcse", weight=0.5, dropout=0.2), 16, 0)
    assert found.parameters == () and not has_dropout(model)
    torch.manual_seed(1)
    values = found(model, batch)
    states = batch.read.states
    signs = torch.tensor([1.0, -1.0, 1.0, -1.0])[:, None]
    difference = signs * (states[::2] - states[1::2])
    torch.manual_seed(1)
    views = [torch.nn.functional.dropout(difference, 0.2) for _ in range(2)]
    assert values.shape == (4,)
    assert torch.allclose(values, 0.5 * simcse_loss(*views).expand(4))


def test_a_body_with_dropout_is_run_twice(tmp_path, pairs):
    model = make(body(tmp_path / "d", dropout=0.5))(0).train()
    assert has_dropout(model)
    batch = batch_of(model, pairs[:4])
    loss = ContrastiveLoss(Contrast(term="simcse", on="responses", weight=1.0), 16, 0)
    torch.manual_seed(2)
    value = loss(model, batch)[0]
    torch.manual_seed(2)
    again = model.read(batch.ids, batch.mask, states=True).states
    both = [torch.cat([s[::2], s[1::2]]) for s in (batch.read.states, again)]
    assert torch.allclose(value, simcse_loss(*both))


def test_the_clusters_of_swav_are_trained_with_the_model(start, pairs):
    loss = ContrastiveLoss(Contrast(term="swav", clusters=3), 16, 0)
    before = [p.detach().clone() for p in loss.parameters]
    with_it, without = make(start)(0), make(start)(0)
    fit(with_it, pairs, fitting=FAST, seed=0, remedies=remedies_of(pairs, Recipe(), None, contrast=loss))
    fit(without, pairs, fitting=FAST, seed=0)
    assert not same(before, loss.parameters)
    assert not same(weights(with_it), weights(without))


# --- MetaRM


@pytest.fixture(scope="module")
def sampled(start):
    texts = begin(start, Head()).texts
    return [[tuple(texts.answer(prompt, r)) for r in GAME.responses[:3]] for prompt in GAME.prompts[:4]]


def test_a_step_of_rate_zero_changes_nothing_and_another_does(start, pairs, sampled):
    found = {}
    for rate in (None, 0.0, 5.0):
        model = make(start)(0)
        meta = None if rate is None else MetaStep(sampled, rate=rate, prompts=2, seed=0)
        fit(model, pairs, fitting=FAST, seed=0, remedies=Remedies(within=meta))
        found[rate] = weights(model)
    assert same(found[None], found[0.0])
    assert not same(found[None], found[5.0])


def test_within_the_step_the_samples_are_spread_further_and_after_it_nothing_has_moved(start, sampled):
    model = make(start)(0)
    before = weights(model)
    step = MetaStep(sampled, rate=0.5, prompts=4, seed=0)
    away = float(step._spread(model, sampled).detach())
    with step(model, 0):
        assert float(step._spread(model, sampled).detach()) > away
    assert same(before, weights(model))


def test_what_remedies_refuse(sampled):
    with pytest.raises(ModelError, match="two or more different responses"):
        MetaStep([[sampled[0][0], sampled[0][0]]], rate=1.0, prompts=1, seed=0)
    with pytest.raises(ModelError, match="2 attributes"):
        check_applies(Head(attributes=("a", "b")), strength=True, contrast=False, meta=False)
    with pytest.raises(ModelError, match="nothing to contrast"):
        check_applies(Head(kind="pair"), strength=False, contrast=True, meta=False)
    with pytest.raises(ModelError, match="rewards, which a head"):
        check_applies(Head(kind="gpm"), strength=False, contrast=False, meta=True)
    with pytest.raises(ModelError, match="at least"):
        Ensemble(models=0)


# --- the command


def trained(start, file, out, *settings):
    """The command's exit code."""
    common = ("train.lr=0.01", "train.batch=4", "train.epochs=1", "noise.models=2")
    given = ("--model", str(start), "--data", str(file), "--out", str(out), "--json")
    with pytest.raises(SystemExit) as end:
        main(["oracle", "train", "bt", *given, "--set", *common, *settings])
    return end.value.code


def test_one_command_trains_the_ensemble_and_its_file_serves_again(start, file, tmp_path, capsys):
    recipe = ("noise.flip=0.25", "noise.margin=true", "labels.smoothing=0.1", "noise.smooth_on=negative")
    assert trained(start, file, tmp_path / "a", *recipe) == 0
    lines = (tmp_path / "a" / "strengths.jsonl").read_text().splitlines()
    assert len(lines) == json.loads(capsys.readouterr().out)["trained_pairs"]
    assert json.loads((tmp_path / "a" / "training.json").read_text())["settings"]["noise"]["flip"] == 0.25
    strengths = tmp_path / "a" / "strengths.jsonl"
    assert trained(start, file, tmp_path / "b", *recipe, f"noise.strength={strengths}") == 0
    model = [(tmp_path / name / "model.safetensors").read_bytes() for name in "ab"]
    assert model[0] == model[1]
    assert trained(start, file, tmp_path / "c") == 0
    assert (tmp_path / "c" / "model.safetensors").read_bytes() != model[0]
    assert not (tmp_path / "c" / "strengths.jsonl").exists()


def test_one_command_contrasts_and_steps_ahead(start, file, tmp_path, capsys):
    settings = [
        "noise.contrastive=swav",
        "noise.clusters=4",
        "noise.meta=0.5",
        f"noise.meta_responses=[{file}]",
    ]
    assert trained(start, file, tmp_path / "m", *settings) == 0
    assert (tmp_path / "m" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (["noise.smooth_on=negative"], "labels.smoothing applies, which is 0"),
        (["noise.strength=nowhere.jsonl", "noise.flip=0.1"], "there is no file nowhere.jsonl"),
        (["noise.strength=nowhere.jsonl"], "none of them is set"),
        (["noise.meta=1"], "set both"),
        (["noise.flip=2"], "noise.flip|flip"),
    ],
)
def test_refused_before_anything_is_trained(start, file, tmp_path, capsys, settings, why):
    assert trained(start, file, tmp_path / "x", *settings) == 2
    said = capsys.readouterr().err
    assert re.search(why, said) and len(said.strip().splitlines()) == 1
    assert not (tmp_path / "x").exists()
