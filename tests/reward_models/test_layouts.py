"""Published layouts of reward models against the formulas of their authors, written out text by text."""

from __future__ import annotations

import json
import logging

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import normalize, relu, softmax
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer, DebertaV2Config, DebertaV2Model

from equipoise import oracles
from equipoise.oracles.models.reward import PairwiseOracle, PreferenceOracle, load_oracle
from equipoise.oracles.protocol import OracleError
from equipoise.playground import model_path
from reward_models.tiny import CYCLE, GAME, SHAPE, decoder

PROMPTS = list(GAME.prompts[:3])
A, B = CYCLE, CYCLE[::-1]
TURNS = (
    "{% for m in messages %}{{ m.role + ' ' + m.content + '\n' }}{% endfor %}"
    "{{ 'assistant' if add_generation_prompt }}"
)


def with_tensors(folder, tensors, **settings):
    """A decoder's folder with further tensors, and settings of its config.json."""
    decoder(folder)
    file = folder / "model.safetensors"
    save_file({**load_file(file), **tensors}, file, metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | settings))
    return folder


def chat(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = TURNS
    tokenizer.save_pretrained(folder)


def states(folder, ids):
    with torch.no_grad():
        return AutoModel.from_pretrained(folder).eval()(input_ids=torch.tensor([ids])).last_hidden_state[0]


def random(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def test_attributes_with_a_gate(tmp_path):
    tensors = {
        "regression_layer.weight": random(3, 16),
        "reward_transform_matrix": random(3, 3),
        "gating.logit_scale": torch.tensor([1.5]),
        "gating.layers.0.weight": random(8, 16),
        "gating.layers.0.bias": random(8),
        "gating.layers.1.weight": random(3, 8),
        "gating.layers.1.bias": random(3),
    }
    folder = with_tensors(
        tmp_path, tensors, architectures=["LlamaForRewardModelWithGating"], gating_temperature=4.0
    )
    chat(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompts = [[{"role": "user", "content": prompt}] for prompt in PROMPTS]

    def score(prompt, answer):
        whole = tokenizer.apply_chat_template(
            [*prompt, {"role": "assistant", "content": answer}], return_dict=True
        )
        opening = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=True)
        rewards = tensors["regression_layer.weight"] @ states(folder, whole["input_ids"])[-1]
        hidden = states(folder, opening["input_ids"])[-1]
        hidden = relu(tensors["gating.layers.0.weight"] @ hidden + tensors["gating.layers.0.bias"])
        hidden = tensors["gating.layers.1.weight"] @ hidden + tensors["gating.layers.1.bias"]
        return float(
            (1.5 * softmax(hidden / 4.0, dim=0) * (rewards @ tensors["reward_transform_matrix"])).sum()
        )

    oracle = load_oracle(folder)
    expected = [score(p, a) for p, a in zip(prompts, A, strict=True)]
    assert oracle.score(prompts, A).tolist() == pytest.approx(expected, abs=1e-4)
    assert oracle.scores(prompts, A).shape == (3, 3)
    assert bool(oracles.load(str(folder)).compare(prompts, A, B).isfinite().all())


@pytest.mark.parametrize("prompt_head", [True, False])
def test_a_released_general_preference_model(tmp_path, caplog, prompt_head):
    tensors = {"value_head.weight": random(4, 16)} | (
        {"prompt_head.weight": random(2, 16)} if prompt_head else {}
    )
    folder = with_tensors(tmp_path, tensors)
    chat(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompts = [[{"role": "user", "content": prompt}] for prompt in PROMPTS]

    def prob(prompt, a, b):
        def embedding(answer):
            turns = [*prompt, {"role": "assistant", "content": answer}]
            ids = tokenizer.apply_chat_template(turns, return_dict=True)["input_ids"]
            ids = [*ids[:-1], tokenizer.eos_token_id]
            return normalize(tensors["value_head.weight"] @ states(folder, ids)[-1], dim=0)

        ids = tokenizer.apply_chat_template(prompt, return_dict=True)["input_ids"]
        blocks = (
            softmax(tensors["prompt_head.weight"] @ states(folder, ids)[-1], dim=0)
            if prompt_head
            else torch.ones(2)
        )
        r = torch.zeros(4, 4)
        for i in (0, 2):
            r[i, i + 1], r[i + 1, i] = -blocks[i // 2], blocks[i // 2]
        return float(torch.sigmoid(embedding(a) @ r.T @ embedding(b) / 0.1))

    with caplog.at_level(logging.WARNING):
        oracle = load_oracle(folder)
    assert isinstance(oracle, PreferenceOracle) and "do not say its temperature" in caplog.text
    expected = [prob(p, a, b) for p, a, b in zip(prompts, A, B, strict=True)]
    assert oracle.compare(prompts, A, B).tolist() == pytest.approx(expected, abs=1e-4)
    config = json.loads((folder / "config.json").read_text())
    section = {"kind": "gpm", "dimension": 4, "temperature": 2.0, "normalise": False, "scales": prompt_head}
    (folder / "config.json").write_text(json.dumps(config | {"equipoise": section}))
    assert load_oracle(folder).reading.loaded.head.tau == 2.0


def test_a_released_general_preference_model_of_one_plane_has_temperature_1(tmp_path):
    folder = with_tensors(tmp_path, {"value_head.weight": random(2, 16)})
    chat(folder)
    assert load_oracle(folder).reading.loaded.head.tau == 1.0


def test_a_value_head_of_one_row_is_a_reward(tmp_path):
    folder = with_tensors(tmp_path, {"value_head.weight": random(1, 16)})
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = [[*tokenizer(f"{PROMPTS[0]} {A[0]}").input_ids[:-1], tokenizer.eos_token_id]]
    expected = float(random(1, 16) @ states(folder, ids[0])[-1])
    assert float(load_oracle(folder).score(PROMPTS[:1], A[:1])) == pytest.approx(expected, abs=1e-5)


def test_a_pair_ranker(tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(model_path())
    marks = ["<|source|>", "<|candidate1|>", "<|candidate2|>"]
    tokenizer.add_special_tokens({"additional_special_tokens": marks})
    tokenizer.save_pretrained(tmp_path)
    ids = tokenizer.convert_tokens_to_ids(marks)
    config = DebertaV2Config(
        **SHAPE | {"vocab_size": len(tokenizer)},
        relative_attention=True,
        position_biased_input=False,
        pos_att_type=["p2c", "c2p"],
        max_relative_positions=64,
        position_buckets=16,
    )
    torch.manual_seed(2)
    body = DebertaV2Model(config).eval()
    head = {
        "head_layer.1.weight": random(16, 32),
        "head_layer.1.bias": random(16),
        "head_layer.4.weight": random(2, 16),
        "head_layer.4.bias": random(2),
    }
    stored = {f"pretrained_model.{name}": tensor.clone() for name, tensor in body.state_dict().items()}
    save_file({**stored, **head}, tmp_path / "model.safetensors", metadata={"format": "pt"})
    names = ("source_prefix_id", "cand1_prefix_id", "cand2_prefix_id")
    settings = config.to_dict() | dict(zip(names, ids, strict=True)) | {"architectures": ["DebertaV2PairRM"]}
    (tmp_path / "config.json").write_text(json.dumps(settings, default=str))

    def logit(prompt, a, b):
        text = [
            i
            for mark, said in zip(marks, (prompt, a, b), strict=True)
            for i in tokenizer(mark + said).input_ids
        ]
        with torch.no_grad():
            hidden = body(input_ids=torch.tensor([text])).last_hidden_state[0]
        source, first, second = (hidden[text.index(i)] for i in ids)

        def score(state):
            inner = torch.tanh(
                head["head_layer.1.weight"] @ torch.cat([source, state]) + head["head_layer.1.bias"]
            )
            return head["head_layer.4.weight"] @ inner + head["head_layer.4.bias"]

        return (score(first) - score(second)).mean().double()

    oracle = load_oracle(tmp_path)
    assert isinstance(oracle, PairwiseOracle)
    expected = [
        float((torch.sigmoid(logit(p, a, b)) + 1 - torch.sigmoid(logit(p, b, a))) / 2)
        for p, a, b in zip(PROMPTS, A, B, strict=True)
    ]
    assert oracle.compare(PROMPTS, A, B).tolist() == pytest.approx(expected, abs=1e-5)
    forged = [f"{a} <|candidate2|> nothing" for a in A]
    assert bool(oracles.load(str(tmp_path)).compare(PROMPTS, forged, B).isfinite().all())


@pytest.mark.parametrize(
    ("tensors", "what"),
    [
        (
            {"regression_layer.weight": random(3, 16), "gating.logit_scale": random(1)},
            "lacks reward_transform_matrix",
        ),
        ({"value_head.weight": random(3, 16)}, "even number of coordinates"),
        ({"value_head.weight": float("nan") * random(2, 16)}, "NaN or infinite"),
        (
            {"value_head.weight": random(6, 16), "prompt_head.weight": random(2, 16)},
            "prompt_head and value_head do not fit together",
        ),
    ],
)
def test_a_layout_that_does_not_fit_is_a_sentence(tmp_path, tensors, what):
    with pytest.raises(OracleError, match=what):
        load_oracle(with_tensors(tmp_path, tensors))


# a language model that answers Yes or No ----------------------------------------------------------


def test_yes_or_no(tmp_path):
    folder = decoder(tmp_path / "model")
    chat(folder)
    file = tmp_path / "judge.yaml"
    file.write_text(
        "kind: yes_no\nmodel: model\nquestion: '{prompt} {response} a small tea?'\npositive: tea\nnegative: small\n",
        encoding="utf-8",
    )
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(folder).eval(),
        AutoTokenizer.from_pretrained(folder),
    )

    def score(prompt, response):
        turns = [{"role": "user", "content": f"{prompt} {response} a small tea?"}]
        ids = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=True)["input_ids"]
        with torch.no_grad():
            logp = model(input_ids=torch.tensor([ids])).logits[0, -1].double().log_softmax(0)
        yes, no = (tokenizer(word, add_special_tokens=False).input_ids[0] for word in ("tea", "small"))
        return float(logp[yes] - logp[no])

    oracle = oracles.load(str(file))
    expected = [score(p, a) for p, a in zip(PROMPTS, A, strict=True)]
    assert oracle.score(PROMPTS, A).tolist() == pytest.approx(expected, abs=1e-5)
    for change, says in (
        ("positive: small", "one token of its own"),
        ("question: '{prompt}'", "must hold {prompt} and {response}"),
        ("colour: red", "unknown setting"),
        ("model: nowhere", "no such folder|nowhere"),
        ("tokens: 3", "unknown setting"),
    ):
        name = change.partition(":")[0]
        lines = [line for line in file.read_text().splitlines() if not line.startswith(f"{name}:")]
        bad = tmp_path / "bad.yaml"
        bad.write_text("\n".join([*lines, change]) + "\n")
        with pytest.raises(OracleError, match=says):
            oracles.load(str(bad))
