"""The reward model: padding and batches change nothing, and a wrong model is refused."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
)

from equipoise import oracles
from equipoise.oracles.models.reward import load_oracle
from equipoise.oracles.protocol import OracleError
from equipoise.playground import LanguageGame, model_path

GAME = LanguageGame()
PROMPTS = list(GAME.prompts[:4])
ANSWERS = ["Gladly", *GAME.responses[:2], "Gladly, a small iced black tea. a small iced tea."]
SHAPE = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "vocab_size": 64,
}


def saved(folder, kind=LlamaForSequenceClassification, **changes):
    settings = SHAPE | {"max_position_embeddings": 40, "num_labels": 1, "pad_token_id": 0} | changes
    config = (BertConfig if kind is BertForSequenceClassification else LlamaConfig)(**settings)
    torch.manual_seed(3)
    model = kind(config).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(0.3 * torch.randn_like(p))
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(model_path()).save_pretrained(folder)
    return model


@pytest.mark.parametrize("kind", [LlamaForSequenceClassification, BertForSequenceClassification])
def test_equals_transformers_own_forward_whatever_the_batch(tmp_path, kind):
    model = saved(tmp_path, kind)
    oracle = load_oracle(tmp_path, tokens=48)
    ids = [oracle.reading.loaded.texts.answer(p, a) for p, a in zip(PROMPTS, ANSWERS, strict=True)]
    assert len({len(i) for i in ids}) > 2
    with torch.no_grad():
        plain = [float(model(input_ids=torch.tensor([i])).logits[0, 0]) for i in ids]
    assert oracle.score(PROMPTS, ANSWERS).tolist() == pytest.approx(plain, abs=1e-5)
    alone = [float(oracle.score([p], [a])) for p, a in zip(PROMPTS, ANSWERS, strict=True)]
    assert oracle.score(PROMPTS[::-1], ANSWERS[::-1]).tolist()[::-1] == pytest.approx(alone, abs=1e-5)


def test_compares_by_bradley_terry_through_load(tmp_path):
    saved(tmp_path)
    oracle = oracles.load(str(tmp_path))
    r = oracle.score(PROMPTS, ANSWERS)
    b = oracle.score(PROMPTS, ANSWERS[::-1])
    assert torch.allclose(oracle.compare(PROMPTS, ANSWERS, ANSWERS[::-1]), torch.sigmoid(r - b))


def test_a_text_beyond_the_context_has_no_verdict_and_is_not_cut(tmp_path, caplog):
    saved(tmp_path, max_position_embeddings=16)
    oracle = load_oracle(tmp_path)
    lengths = [
        len(oracle.reading.loaded.texts.unbounded(p, a)) for p, a in zip(PROMPTS, ANSWERS, strict=True)
    ]
    assert min(lengths) <= 16 < max(lengths)
    short = [i for i, length in enumerate(lengths) if length <= 16]
    scores = oracle.score(PROMPTS, ANSWERS)
    assert scores.isnan().tolist() == [length > 16 for length in lengths]
    alone = load_oracle(tmp_path).score([PROMPTS[i] for i in short], [ANSWERS[i] for i in short])
    assert torch.allclose(scores[short], alone, rtol=0, atol=1e-6)
    assert oracle.compare(PROMPTS, ANSWERS, ANSWERS).isnan().tolist() == scores.isnan().tolist()
    (reason,) = oracle.account.reasons  # each question is counted once, however often it is asked
    assert oracle.account.reasons[reason] == oracle.account.failed == len(ANSWERS) - len(short)
    assert "accepts 16 tokens; a prompt with its response has more" in reason
    assert caplog.text.count("there is no verdict on longer texts") == 1


def test_outputs_that_are_not_finite_are_refused_not_left_out(tmp_path):
    saved(tmp_path)
    oracle = load_oracle(tmp_path)
    with torch.no_grad():
        oracle.network.body.score.weight.fill_(3e38)
    with pytest.raises(OracleError, match="its outputs are not finite"):
        oracle.score(PROMPTS, ANSWERS)


def test_classifiers_are_no_reward_models(tmp_path):
    saved(tmp_path, num_labels=3)
    with pytest.raises(OracleError, match="has 3 classes"):
        oracles.load(str(tmp_path))


def test_a_head_that_is_not_there_is_not_drawn_at_random(tmp_path):
    saved(tmp_path)
    file = tmp_path / "model.safetensors"
    stored = load_file(file)
    save_file({k: v for k, v in stored.items() if not k.startswith("score")}, file, metadata={"format": "pt"})
    with pytest.raises(OracleError, match=r"not a trained reward model: the checkpoint lacks score\.weight"):
        oracles.load(str(tmp_path))


def test_chat_prompts_need_a_template(tmp_path):
    saved(tmp_path)
    with pytest.raises(OracleError, match="no chat template"):
        load_oracle(tmp_path).score([[{"role": "user", "content": "a"}]], ["b"])


GEMMA = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{{ m.role + ': ' + m.content + ' ' }}{% endfor %}"
)
PLAIN = "{% for m in messages %}{{ m.role + ': ' + m.content + ' ' }}{% endfor %}"
USER, SYSTEM = {"role": "user", "content": "hot tea"}, {"role": "system", "content": "be kind"}


def with_template(folder, template):
    saved(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return folder


def test_a_template_that_refuses_a_turn_is_a_sentence_before_anything_is_sampled(tmp_path):
    oracle = load_oracle(with_template(tmp_path, GEMMA))
    assert oracle.room([[USER]])[1] == 40
    for ask in (lambda: oracle.room([[USER], [SYSTEM, USER]]), lambda: oracle.score([[SYSTEM, USER]], ["a"])):
        with pytest.raises(
            OracleError, match=r"refuses the turns system, user, assistant: System role not supported"
        ):
            ask()


@pytest.mark.parametrize(
    ("template", "what"),
    [
        ("{{ raise_exception('no') }}", "refuses the turns user, assistant: no"),
        ("{{ messages[0].content }}", "loses what the assistant says"),
        ("{{ messages[1].content }}", "loses what the user says"),
        ("{% for m in messages %}{{ m.content }", "refuses the turns user, assistant"),
        ("{{ nothing.at.all }}", "refuses the turns user, assistant"),
    ],
)
def test_a_template_that_cannot_judge_is_refused_at_load(tmp_path, template, what):
    with_template(tmp_path, template)
    with pytest.raises(OracleError, match=what):
        oracles.load(str(tmp_path))


def test_a_template_that_leaves_the_system_turn_out_says_so(tmp_path, caplog):
    load_oracle(with_template(tmp_path, PLAIN))
    assert "leaves system turns out" not in caplog.text
    template = "{% for m in messages if m.role != 'system' %}{{ m.content }} {% endfor %}"
    load_oracle(with_template(tmp_path, template))
    assert "leaves system turns out; it judges without them" in caplog.text


def test_its_context_length_is_known_beforehand(tmp_path):
    saved(tmp_path)
    oracle = load_oracle(tmp_path)
    longest, limit = oracle.room(PROMPTS)
    assert limit == 40
    assert longest == max(len(oracle.reading.loaded.texts.tokenizer(prompt).input_ids) for prompt in PROMPTS)


def test_tokens_without_a_row_are_named(tmp_path):
    saved(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.add_tokens([f"<plan{i}>" for i in range(64)])
    tokenizer.save_pretrained(tmp_path)
    oracle = load_oracle(tmp_path)
    assert bool(oracle.score(PROMPTS[:1], ANSWERS[:1]).isfinite())
    with pytest.raises(OracleError, match=r"has no row for token \d+ of its tokenizer"):
        oracle.score(PROMPTS[:1], ["<plan63>"])
    tokenizer.add_special_tokens({"eos_token": "<plan62>"})
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(OracleError, match="<plan62>"):
        load_oracle(tmp_path)


def test_a_broken_folder_is_one_sentence(tmp_path):
    saved(tmp_path)
    file = tmp_path / "model.safetensors"
    whole = file.read_bytes()
    stored = {name: tensor.clone() for name, tensor in load_file(file).items()}  # the file is mapped
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(OracleError, match="not an intact safetensors file"):
        load_oracle(tmp_path)
    stored["score.weight"][0, 0] = float("nan")
    save_file(stored, file, metadata={"format": "pt"})
    with pytest.raises(OracleError, match=r"score\.weight has NaN or infinite values"):
        load_oracle(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(OracleError, match="cannot load a tokenizer"):
        load_oracle(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(OracleError, match=r"config\.json is not JSON"):
        load_oracle(tmp_path)
