"""Ensembles and Monte Carlo dropout: mean and votes, one answer to one question, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
)

from equipoise import oracles
from equipoise.oracles.checked import Checked, unwrapped
from equipoise.oracles.ensemble import Ensemble
from equipoise.oracles.protocol import OracleError, Uncertain, parts_that
from equipoise.oracles.questions.asking import Asking
from equipoise.oracles.questions.questioner import Policy
from equipoise.oracles.rules.rule_oracle import RuleOracle
from equipoise.playground import LanguageGame
from oracles.tiny_models import causal, tokenizer

GAME = LanguageGame()
PROMPTS = list(GAME.prompts[:5])
FIRST, SECOND = list(GAME.responses[:5]), [*GAME.responses[5:9], GAME.responses[4]]
SHAPE = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "vocab_size": 64,
    "max_position_embeddings": 40,
    "num_labels": 1,
    "pad_token_id": 0,
}


def reward_model(folder: Path, seed: int, kind=BertForSequenceClassification) -> Path:
    config = (BertConfig if kind is BertForSequenceClassification else LlamaConfig)(**SHAPE)
    model = kind(config)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=draw))
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Reward models bert-1, bert-2 and llama, language models strong and weak, and a density ratio of these."""
    folder = tmp_path_factory.mktemp("members")
    for seed in (1, 2):
        reward_model(folder / f"bert-{seed}", seed)
    reward_model(folder / "llama", 3, LlamaForSequenceClassification)
    causal(folder / "strong", 1)
    causal(folder / "weak", 2)
    (folder / "ratio.yaml").write_text("kind: density_ratio\nstrong: strong\nweak: weak\ndevice: cpu\n")
    return folder


def written(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text)
    return str(folder / name)


# ensembles ----------------------------------------------------------------------------------------


def test_an_ensemble_is_the_weighted_mean_of_its_members(folder):
    members = [oracles.load(str(folder / name)) for name in ("bert-1", "ratio.yaml")]
    file = written(folder, "two.yaml", "kind: ensemble\nmembers: [bert-1, ratio.yaml]\nweights: [1, 3]\n")
    oracle = oracles.load(file)
    each = torch.stack([member.compare(PROMPTS, FIRST, SECOND) for member in members])
    assert torch.equal(unwrapped(oracle).votes(PROMPTS, FIRST, SECOND), each)
    expected = 0.25 * each[0] + 0.75 * each[1]
    assert torch.allclose(oracle.compare(PROMPTS, FIRST, SECOND), expected, rtol=0, atol=1e-12)
    scores = [member.score(PROMPTS, FIRST) for member in members]
    assert torch.allclose(oracle.score(PROMPTS, FIRST), 0.25 * scores[0] + 0.75 * scores[1])
    assert unwrapped(oracle).room(PROMPTS)[1] == 40  # of the member with less room


def test_its_fingerprint_is_that_of_its_members_and_weights(folder):
    def of(text: str) -> str:
        return unwrapped(oracles.load(written(folder, "some.yaml", f"kind: ensemble\n{text}\n"))).fingerprint

    base = of("members: [bert-1, ratio.yaml]")
    others = {of("members: [bert-2, ratio.yaml]"), of("members: [bert-1, ratio.yaml]\nweights: [1, 2]")}
    assert base not in others and len(others) == 2 and of("members: [bert-1, ratio.yaml]") == base


def test_a_verdict_that_one_member_lacks_is_none(tmp_path):
    def fails(prompt: str, response: str) -> float:
        if response == SECOND[1]:
            raise OSError("no")
        return float(len(response))

    policy = Policy(failures=1.0, retries=0)
    rules = (RuleOracle(fails, "fails"), RuleOracle(lambda p, r: 0.0, "constant"))
    oracle = Checked(
        Ensemble(tuple(Checked(Asking(rule, None, policy)) for rule in rules), (1.0, 1.0), "both")
    )
    assert oracle.compare(PROMPTS, FIRST, SECOND).isnan().tolist() == [False, True, False, False, False]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("members: [bert-1]", "members: .*at least 2"),
        ("members: [bert-1, rules.py:length]", r"rules\.py:length is code"),
        ("members: [bert-1, bad.yaml]", r"bad\.yaml is an ensemble; name that one's members"),
        ("members: [bert-1, none.yaml]", r"cannot read the oracle .*none\.yaml"),
        ("members: [bert-1, bert-2]\nweights: [1, 2, 3]", "2 members have 3 weights"),
        ("members: [bert-1, bert-2]\nweights: [1, -1]", "weights are positive numbers"),
    ],
)
def test_an_ensemble_that_cannot_be_is_refused(folder, text, says):
    with pytest.raises(OracleError, match=says):
        oracles.load(written(folder, "bad.yaml", f"kind: ensemble\n{text}\n"))


# dropout ------------------------------------------------------------------------------------------


def dropout(folder: Path, **settings) -> Checked:
    lines = {"kind": "mc_dropout", "model": "bert-1", "device": "cpu"} | settings
    return oracles.load(
        written(folder, "dropout.yaml", "".join(f"{name}: {value}\n" for name, value in lines.items()))
    )


def test_passes_differ_and_depend_on_seed_and_question_alone(folder):
    oracle = dropout(folder, passes=4)
    assert next(parts_that(oracle, Uncertain)) is unwrapped(oracle)
    votes = unwrapped(oracle).votes(PROMPTS, FIRST, SECOND)
    assert votes.shape == (4, 5) and bool((votes[:, :4].std(dim=0) > 0).all())
    assert votes[:, 4].tolist() == [0.5] * 4  # two equal responses
    again = unwrapped(dropout(folder, passes=4))
    torch.rand(7)  # the process's own random numbers play no part
    back = again.votes(PROMPTS[::-1], SECOND[::-1], FIRST[::-1])
    assert torch.equal(votes, 1 - back.flip(1))
    assert not torch.equal(votes, unwrapped(dropout(folder, passes=4, seed=1)).votes(PROMPTS, FIRST, SECOND))
    assert torch.equal(oracle.compare(PROMPTS, FIRST, SECOND), votes.mean(dim=0))


def test_a_process_s_random_numbers_go_on_as_if_nothing_was_asked(folder):
    oracle = dropout(folder, passes=2)
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    oracle.compare(PROMPTS, FIRST, SECOND)
    assert torch.equal(torch.rand(3), expected)


def test_many_passes_scatter_around_the_model_without_dropout(folder):
    """At a small rate dropout hardly biases the mean, and a larger rate scatters more."""
    plain = oracles.load(str(folder / "bert-1")).compare(PROMPTS[:1], FIRST[:1], SECOND[:1])
    spread = {}
    for rate in (0.01, 0.3):
        votes = unwrapped(dropout(folder, passes=40, rate=rate)).votes(PROMPTS[:1], FIRST[:1], SECOND[:1])
        spread[rate] = float(votes.std())
        if rate == 0.01:
            assert abs(float(votes.mean() - plain)) < 4 * spread[rate] / 40**0.5 + 0.02
    assert spread[0.3] > 2 * spread[0.01] > 0


def test_a_model_that_drops_nothing_says_so_and_takes_a_rate(folder):
    with pytest.raises(OracleError, match="has no dropout, or only at rate 0; set `rate`"):
        dropout(folder, model="llama")
    votes = unwrapped(dropout(folder, model="llama", rate=0.2)).votes(PROMPTS, FIRST, SECOND)
    assert bool((votes[:, :4].std(dim=0) > 0).all())


@pytest.mark.parametrize("settings", [{"passes": 1}, {"rate": 1.0}, {"rate": 0}, {"model": "ratio.yaml"}])
def test_settings_out_of_range_are_refused(folder, settings):
    with pytest.raises(OracleError):
        dropout(folder, **settings)
