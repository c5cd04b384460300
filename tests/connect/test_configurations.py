"""Configurations of four other trainers, written for these tests, as ours: every value by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from equipoise.connect import axolotl, llama_factory, openrlhf, trl
from equipoise.connect.configuration import as_yaml, import_configuration, source_of
from equipoise.connect.foreign import parse
from equipoise.connect.meanings import ImportFailed, Translation
from equipoise.connect.names import TOGETHER, WHERE, advice
from equipoise.run.config import ConfigError, read_file, resolve

TRL_YAML = """
model_name_or_path: models/base
dataset_name: pairs.jsonl
learning_rate: 5e-7
beta: 0.05
loss_type: ipo
per_device_train_batch_size: 4
gradient_accumulation_steps: 8
num_train_epochs: 2
lr_scheduler_type: cosine
warmup_ratio: 0.1
max_length: 2048
use_peft: true
lora_r: 16
lora_alpha: 64
lora_target_modules: [q_proj, v_proj]
lora_dropout: 0.05
sync_ref_model: true
report_to: wandb
something_new: 3
"""
TRL_COMMAND = r"""
# a comment
accelerate launch --num_processes 4 \
  examples/scripts/kto.py --model_name_or_path models/base --dataset_name fb.jsonl \
  --per_device_train_batch_size 2 --learning_rate=1e-6 --desirable_weight 1.33 --bf16 --output_dir $OUT
"""
TRL_PYTHON = """
from trl import CPOConfig, CPOTrainer
args = CPOConfig(output_dir="o", loss_type="simpo", simpo_gamma=0.5, cpo_alpha=0.0, beta=2.0, learning_rate=rate,
                 max_length=1536, fp16=True)
peft = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear")
trainer = CPOTrainer(model=model, args=args, peft_config=peft)
"""
AXOLOTL = """
base_model: models/base
rl: dpo
dpo_loss_type: [sigmoid, sft]
dpo_loss_weights: [2.0, 0.5]
rl_beta: 0.2
datasets:
  - path: prefs.jsonl
    type: chat_template.default
    field_messages: conversation
    field_chosen: good
    field_rejected: bad
val_set_size: 0.05
sequence_len: 4096
adapter: qlora
lora_r: 32
lora_alpha: 16
lora_target_linear: true
gradient_accumulation_steps: 4
micro_batch_size: 2
num_epochs: 2
optimizer: paged_adamw_8bit
learning_rate: 2e-4
bf16: auto
warmup_steps: 10
load_in_4bit: true
wandb_project: mine
"""
LLAMA_FACTORY = """
model_name_or_path: models/base
stage: dpo
do_train: true
finetuning_type: lora
lora_target: q_proj,v_proj
pref_loss: simpo
pref_beta: 2.5
simpo_gamma: 1.0
dataset: mine, other
dataset_dir: sets
template: llama3
cutoff_len: 1024
per_device_train_batch_size: 1
gradient_accumulation_steps: 16
"""
OPENRLHF = r"""
read -r -d '' training_commands <<EOF
openrlhf.cli.train_dpo \
   --save_path ./out --train_batch_size 256 --micro_train_batch_size 1 --pretrain models/base \
   --bf16 --flash_attn \
   --max_epochs 1 --max_len 8192 --zero_stage 3 --learning_rate 5e-7 \
   --beta 0.1 --dataset a.jsonl,b.jsonl \
   --chosen_key good --rejected_key bad --prompt_key question --nll_loss_coef 0.2 --lora_rank 8
EOF
deepspeed --module $training_commands
"""
OPENRLHF_DOTS = """
deepspeed --module openrlhf.cli.train_dpo --model.model_name_or_path models/base \
  --data.dataset a.jsonl --model.ipo_enable \
  --model.beta 0.3 --train.batch_size 64 --adam.lr 1e-6 --adam.betas 0.9 0.99 --logger.wandb.key secret
"""

EXPECTED: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    # name -> (file, text, method, settings that must be there)
    "trl yaml": (
        "c.yaml",
        TRL_YAML,
        "ipo_mean",
        {
            "objective.tau": 0.05,
            "model.path": "models/base",
            "data.path": ["pairs.jsonl"],
            "train.lr": 5e-7,
            "train.batch": 32,
            "train.epochs": 2,
            "train.schedule": "cosine",
            "train.warmup": 0.1,
            "data.max_length": 2048,
            "model.lora_rank": 16,
            "model.lora_alpha": 64.0,
            "model.lora_targets": ["q_proj", "v_proj"],
            "model.precision": "bf16",
            "seed": 42,
        },
    ),
    "trl command": (
        "run.sh",
        TRL_COMMAND,
        "kto",
        {
            "objective.beta": 0.1,
            "objective.desirable": 1.33,
            "objective.undesirable": 1.0,
            "train.batch": 2 * 4,
            "train.lr": 1e-6,
            "train.epochs": 3,
            "train.schedule": "linear",
            "model.precision": "bf16",
        },
    ),
    "trl python": (
        "run.py",
        TRL_PYTHON,
        "simpo",
        {
            "objective.beta": 2.0,
            "objective.gamma": 0.5,
            "data.max_length": 1536,
            "model.lora_rank": 4,
            "model.lora_alpha": 8.0,
            "model.precision": "fp32",
        },
    ),
    "axolotl": (
        "a.yml",
        AXOLOTL,
        "irpo",
        {
            "objective.beta": 0.2,
            "objective.alpha": 0.25,
            "data.path": ["prefs.jsonl"],
            "data.mapping": {"prompt": "conversation", "chosen": "good", "rejected": "bad"},
            "data.held_out": 0.05,
            "data.max_length": 4096,
            "model.lora_rank": 32,
            "model.lora_alpha": 16.0,
            "train.batch": 8,
            "train.epochs": 2,
            "train.schedule": "cosine",
            "train.lr": 2e-4,
        },
    ),
    "llama-factory": (
        "lf.yaml",
        LLAMA_FACTORY,
        "simpo",
        {
            "objective.beta": 2.5,
            "objective.gamma": 1.0,
            "data.path": ["sets/mine.json", "other"],
            "data.mapping": {"instruction": "question"},
            "data.max_length": 1024,
            "model.lora_rank": 8,
            "model.lora_targets": ["q_proj", "v_proj"],
            "train.batch": 16,
            "train.lr": 5e-5,
            "train.schedule": "linear",
        },
    ),
    "openrlhf": (
        "rlhf.sh",
        OPENRLHF,
        "irpo",
        {
            "objective.beta": 0.1,
            "objective.alpha": 0.2,
            "data.path": ["a.jsonl", "b.jsonl"],
            "data.mapping": {"prompt": "question", "chosen": "good", "rejected": "bad"},
            "train.batch": 256,
            "train.lr": 5e-7,
            "train.beta2": 0.95,
            "train.schedule": "cosine",
            "data.max_length": 8192,
            "model.lora_rank": 8,
        },
    ),
    "openrlhf with dots": (
        "rlhf2.sh",
        OPENRLHF_DOTS,
        "ipo",
        {
            "objective.tau": 0.3,
            "train.batch": 64,
            "train.lr": 1e-6,
            "train.beta2": 0.99,
            "data.max_length": 512,
        },
    ),
}
MISSING = {
    "trl yaml": {"lora_dropout", "sync_ref_model", "something_new"},
    "trl command": {"--output_dir $OUT"},
    "trl python": {"output_dir", "learning_rate", "fp16"},
    "axolotl": {"adapter", "optimizer", "warmup_steps"},
    "llama-factory": {"dataset", "template"},
    "openrlhf": {"save_path", "lr_scheduler"},
    "openrlhf with dots": {"lr_scheduler"},
}


@pytest.fixture
def imported(tmp_path: Path, request: pytest.FixtureRequest) -> tuple[str, Translation]:
    name = request.param
    file, text, _, _ = EXPECTED[name]
    (tmp_path / file).write_text(text)
    (tmp_path / "sets").mkdir()
    info = {
        "mine": {
            "file_name": "mine.json",
            "ranking": True,
            "columns": {"prompt": "question", "chosen": "chosen"},
        }
    }
    (tmp_path / "sets/dataset_info.json").write_text(json.dumps(info))
    return name, import_configuration(tmp_path / file)


every = pytest.mark.parametrize("imported", EXPECTED, indirect=True)


@every
def test_method_and_settings_are_as_by_hand(imported: tuple[str, Translation]) -> None:
    name, t = imported
    _, _, method, settings = EXPECTED[name]
    assert t.method == method
    assert {key: t.settings.get(key) for key in settings} == settings


@every
def test_what_has_no_equivalent_is_named(imported: tuple[str, Translation]) -> None:
    name, t = imported
    assert {theirs.split(":")[0] for theirs, _ in t.missing} == MISSING[name]
    assert all(why for _, why in t.missing)


@every
def test_the_file_is_a_configuration_that_resolves(imported: tuple[str, Translation], tmp_path: Path) -> None:
    _, t = imported
    (tmp_path / "ours.yaml").write_text(as_yaml(t, "theirs"), encoding="utf-8")
    stored = read_file(tmp_path / "ours.yaml")
    config = resolve(stored["method"], stored)
    assert config.method == t.method
    for name, value in t.settings.items():
        section, _, leaf = name.rpartition(".")
        found = getattr(config, section) if section else config
        assert (found[leaf] if isinstance(found, dict) else getattr(found, leaf)) == value


@every
def test_nothing_of_theirs_is_left_without_a_word(imported: tuple[str, Translation]) -> None:
    assert imported[1].given == {}


LOSSES = {
    "sigmoid": ("dpo", {"beta": 0.2}),
    "hinge": ("hinge_norm", {"gamma": 0.2}),
    "ipo": ("ipo_mean", {"tau": 0.2}),
    "exo_pair": ("exo_pair", {"beta": 0.2}),
    "nca_pair": ("nca_pair", {"beta": 0.2}),
    "bco_pair": ("bco_pair", {"beta": 0.2}),
    "sppo_hard": ("sppo_hard", {"eta": 5.0}),
    "aot": ("aot", {"beta": 0.2}),
    "aot_unpaired": ("aot_unpaired", {"beta": 0.2}),
    "apo_zero": ("apo_zero", {"beta": 0.2}),
    "apo_down": ("apo_down", {"beta": 0.2}),
    "discopop": ("discopop", {"beta": 0.2, "temperature": 0.05}),
    "sigmoid_norm": ("dpo_norm", {"beta": 0.2}),
    "robust": ("dpo", {"beta": 0.2}),
    "sft": ("sft", {}),
    "kto_pair": ("kto", {"beta": 0.2}),
}


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_of_trl_is_a_method_that_takes_its_parameters(name: str) -> None:
    t = trl.translate({"loss_type": name, "beta": 0.2}, None, 1, "")
    method, parameters = LOSSES[name]
    assert t.method == method
    assert {k: v for k, v in t.settings.items() if k.startswith("objective.")} == {
        f"objective.{k}": v for k, v in parameters.items()
    }
    assert resolve(t.method, t.settings).method == method


@pytest.mark.parametrize(
    ("given", "method", "parameters"),
    [
        ({"loss_type": "robust", "label_smoothing": 0.1}, "rdpo", {"beta": 0.1, "flip": 0.1}),
        ({"loss_type": "sigmoid", "label_smoothing": 0.1}, "cdpo", {"beta": 0.1, "smoothing": 0.1}),
        ({"loss_type": "exo_pair", "label_smoothing": 0.01}, "exo_pair", {"beta": 0.1, "smoothing": 0.01}),
        ({"loss_type": "sigmoid", "rpo_alpha": 0.5}, "irpo", {"beta": 0.1, "alpha": 0.5}),
        ({"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.3]}, "irpo", {"beta": 0.1, "alpha": 0.3}),
        ({"f_divergence_type": "js_divergence"}, "f_dpo_js", {"beta": 0.1}),
        ({"f_divergence_type": "alpha_divergence"}, "f_dpo_alpha", {"beta": 0.1, "alpha": 0.5}),
        ({"reference_free": True, "loss_type": "sigmoid"}, "dpo_reference_free", {"beta": 0.1}),
        ({"use_weighting": True, "loss_type": "sigmoid"}, "wpo", {"beta": 0.1}),
        ({"loss_type": "simpo"}, "cpo_simpo", {"beta": 0.1, "gamma": 0.5, "alpha": 1.0}),
        (
            {"loss_type": "apo_zero_unpaired"},
            "apo_zero_unpaired",
            {"beta": 0.1, "desirable": 1.0, "undesirable": 1.0},
        ),
    ],
)
def test_variants_of_trl_are_methods_of_their_own(given: Any, method: str, parameters: Any) -> None:
    t = trl.translate(given, None, 1, "")
    assert t.method == method
    assert {k: v for k, v in t.settings.items() if k.startswith("objective.")} == {
        f"objective.{k}": v for k, v in parameters.items()
    }
    resolve(t.method, t.settings)


@pytest.mark.parametrize(
    ("given", "method"),
    [
        ({"rl": "ipo"}, "ipo_mean"),
        ({"rl": "kto", "kto_desirable_weight": 2.0}, "kto"),
        ({"rl": "orpo", "orpo_alpha": 0.3}, "orpo"),
        ({"rl": "simpo", "simpo_gamma": 0.4, "cpo_alpha": 0}, "simpo"),
        ({"rl": "simpo"}, "cpo_simpo"),
        ({"rl": "dpo"}, "dpo"),
    ],
)
def test_axolotl_kinds(given: Any, method: str) -> None:
    t = axolotl.translate(given, None, 1, "")
    assert t.method == resolve(t.method, t.settings).method == method


@pytest.mark.parametrize(
    ("given", "method", "parameters"),
    [
        ({"stage": "dpo", "pref_loss": "ipo"}, "ipo_mean", {"tau": 0.1}),
        ({"stage": "dpo", "pref_loss": "orpo"}, "orpo", {"lam": 0.1}),
        ({"stage": "dpo", "pref_loss": "hinge"}, "hinge_norm", {"gamma": 0.1}),
        ({"stage": "dpo", "pref_ftx": 0.5}, "irpo", {"beta": 0.1, "alpha": 0.5}),
        (
            {"stage": "kto", "kto_rejected_weight": 2.0},
            "kto",
            {"beta": 0.1, "desirable": 1.0, "undesirable": 2.0},
        ),
    ],
)
def test_llama_factory_losses(given: Any, method: str, parameters: Any) -> None:
    t = llama_factory.translate(given, None, 1, "")
    assert t.method == method
    assert {k: v for k, v in t.settings.items() if k.startswith("objective.")} == {
        f"objective.{k}": v for k, v in parameters.items()
    }
    resolve(t.method, t.settings)


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("a.yaml", "[1, 2]", "is a mapping"),
        ("a.yaml", "a: [", "not YAML"),
        ("a.yaml", "!!python/object/apply:os.system [ls]", "not YAML"),
        ("a.yaml", "unknown: 1", "of no trainer that is known; give --from"),
        ("a.yaml", "base_model: x\nrl: grpo", "rl: grpo is not preference training"),
        ("a.yaml", "stage: sft\nfinetuning_type: lora", "stage: sft is not preference training"),
        ("a.sh", "echo hello", "no command with --flags"),
        ("a.sh", "trl dpo --beta 'x", "cannot be split"),
        ("a.sh", "deepspeed --module openrlhf.cli.train_sft --max_len 3", "not preference training"),
        ("a.py", "x = 1", "no call such as DPOConfig"),
        ("a.py", "DPOConfig(", "not Python"),
        ("a.yaml", "model_name_or_path: x\nloss_type: nonsense", "'nonsense' has no method here"),
        ("a.yaml", "model_name_or_path: x\nbeta: much", "much is not a number"),
    ],
)
def test_what_cannot_be_imported_is_refused_in_a_sentence(
    tmp_path: Path, file: str, text: str, says: str
) -> None:
    (tmp_path / file).write_text(text)
    with pytest.raises(ImportFailed, match=says):
        import_configuration(tmp_path / file)


def test_processes_multiply_the_batch_and_one_is_assumed_aloud(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(TRL_YAML)
    alone, eight = (import_configuration(tmp_path / "c.yaml", processes=n) for n in (1, 8))
    assert (alone.settings["train.batch"], eight.settings["train.batch"]) == (32, 256)
    assert any("one process is assumed" in note for note in alone.notes)
    assert not any("one process is assumed" in note for note in eight.notes)


def test_hostile_names_and_values_stay_comments(tmp_path: Path) -> None:
    evil = {"loss_type": "ipo", "x\n\nmethod: evil\n": "y\nseed: 7", "model_name_or_path": "a\x1b[2J"}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(evil))
    text = as_yaml(import_configuration(tmp_path / "c.yaml"), "c\n.yaml")
    content = yaml.safe_load(text)
    assert (content["method"], content["seed"]) == ("ipo_mean", 42)
    assert "\x1b" not in text


@pytest.mark.parametrize("module", [trl, axolotl, llama_factory, openrlhf])
def test_every_setting_of_theirs_has_a_name_of_ours_that_exists_or_a_reason(module: Any) -> None:
    known = {
        "seed",
        *(name for section in ("train", "model", "data", "evaluate") for name in fields(section)),
    }
    for name, meaning in module.MEANINGS.items():
        assert meaning.ours in known if meaning.ours else meaning.ignored or meaning.why, name


NAMES = """
    learning_rate per_device_train_batch_size gradient_accumulation_steps num_train_epochs max_steps report_to
    eval_steps save_strategy load_best_model_at_end save_total_limit gradient_checkpointing warmup_ratio bf16 use_peft
    lora_r lora_dropout loss_type
    label_smoothing ref_model max_grad_norm lr_scheduler_type optim load_in_4bit attn_implementation output_dir
    num_epochs pref_beta cutoff_len sequence_len base_model micro_batch_size train_batch_size max_len
"""


@pytest.mark.parametrize("name", NAMES.split())
def test_their_names_typed_as_our_settings_get_our_name_or_what_to_use(name: str) -> None:
    said = advice(name)
    assert said is not None
    with pytest.raises(ConfigError, match=f"^unknown setting '{name}': it ") as caught:
        resolve("dpo", {name: 1})
    assert "did you mean" not in str(caught.value)


def test_advice_names_only_settings_that_exist() -> None:
    known = {name for section in ("train", "model", "data", "evaluate") for name in fields(section)}
    for said in (*TOGETHER.values(), *WHERE.values()):
        for word in said.replace(":", " ").replace(",", " ").replace(")", " ").replace("(", " ").split():
            if word.split(".")[0] in ("train", "model", "data", "evaluate") and "." in word:
                assert word in known, word


def fields(section: str) -> list[str]:
    config = resolve("dpo")
    return [f"{section}.{name}" for name in type(getattr(config, section)).model_fields]


def test_whose_a_configuration_is(tmp_path: Path) -> None:
    found = {name: source_of(parse(text, file)) for name, (file, text, _, _) in EXPECTED.items()}
    assert found == {
        "trl yaml": "trl",
        "trl command": "trl",
        "trl python": "trl",
        "axolotl": "axolotl",
        "llama-factory": "llama-factory",
        "openrlhf": "openrlhf",
        "openrlhf with dots": "openrlhf",
    }


@pytest.mark.parametrize(
    "text",
    [
        "loss_type: " + json.dumps("[" * 100_000),
        "loss_type: '[{[1]: 2}]'",
        "[" * 20_000,
        "a: &a [*a]\nloss_type: *a",
    ],
    ids=["deep literal", "unhashable literal", "deep YAML", "endless alias"],
)
def test_what_no_person_writes_ends_in_one_sentence(text: str):
    with pytest.raises(ImportFailed):
        trl.translate(parse(text, "hostile.yaml").settings, "dpo", 1, "")


@pytest.mark.parametrize(
    ("said", "path", "mixture"),
    [
        ("mix_strategy: concat", ["a", "b"], None),
        (
            "mix_strategy: interleave_under\ninterleave_probs: 0.7,0.3",
            [{"path": "a", "share": 0.7}, {"path": "b", "share": 0.3}],
            None,
        ),
        (
            "mix_strategy: interleave_over",
            [{"path": "a", "share": 1.0}, {"path": "b", "share": 1.0}],
            "all_exhausted",
        ),
        ("mix_strategy: interleave_over\ninterleave_probs: 0.7", ["a", "b"], None),
    ],
)
def test_interleaved_data_sets_are_a_mixture_with_shares(
    said: str, path: list[Any], mixture: str | None
) -> None:
    text = f"model_name_or_path: m\nstage: dpo\ndataset: a,b\n{said}\n"
    made = llama_factory.translate(parse(text, "c.yaml").settings, None, 1, "")
    assert (made.settings["data.path"], made.settings.get("data.mixture")) == (path, mixture)
    resolve("dpo", made.settings)


def test_openrlhf_s_probabilities_are_shares() -> None:
    text = "deepspeed --module openrlhf.cli.train_dpo --pretrain m --dataset a,b --dataset_probs 0.9,0.1"
    made = openrlhf.translate(parse(text, "c.sh").settings, None, 1, "train_dpo")
    assert made.settings["data.path"] == [{"path": "a", "share": 0.9}, {"path": "b", "share": 0.1}]
