"""Density ratios of two language models: the card's properties, a second way, domains, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from equipoise import oracles
from equipoise.core.links import bradley_terry
from equipoise.data.records import Conversation
from equipoise.oracles.checked import Checked, unwrapped
from equipoise.oracles.models.density_ratio import DensityRatio
from equipoise.oracles.models.domains import Domains
from equipoise.oracles.models.language_model import frozen
from equipoise.oracles.placement import Placement
from equipoise.oracles.protocol import OracleError
from equipoise.oracles.questions.questioner import Failure, Policy
from equipoise.oracles.questions.verdicts import VerdictStore, key_of
from equipoise.playground import LanguageGame
from oracles.tiny_models import causal, plain_logp, tokenizer

GAME = LanguageGame()
PROMPTS = list(GAME.prompts[:6])
FIRST, SECOND = list(GAME.responses[:6]), ["Gladly", *GAME.responses[7:12]]


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict:
    """strong, weak: folders, and their models by transformers."""
    folder = tmp_path_factory.mktemp("ratio")
    return {"folder": folder} | {
        name: causal(folder / name, seed) for name, seed in (("strong", 1), ("weak", 2))
    }


def ratio(models: dict, file: str = "ratio.yaml", **settings) -> Checked:
    lines = {"kind": "density_ratio", "strong": "strong", "weak": "weak", "device": "cpu"} | settings
    path = models["folder"] / file
    path.write_text("".join(f"{name}: {value}\n" for name, value in lines.items()))
    return oracles.load(str(path))


def plain(models: dict, prompt: str, response: str) -> tuple[float, int]:
    """log pi_strong - log pi_weak by plain transformers, and the number of the response's tokens."""
    words = tokenizer()
    head = words(prompt)["input_ids"]
    tail = [*words(response, add_special_tokens=False)["input_ids"], words.eos_token_id]
    return plain_logp(models["strong"], head, tail) - plain_logp(models["weak"], head, tail), len(tail)


def test_equals_the_difference_of_plain_log_probs_in_every_batch(models):
    expected = [plain(models, p, r) for p, r in zip(PROMPTS, SECOND, strict=True)]
    sums = [r for r, _ in expected]
    assert max(sums) - min(sums) > 1
    assert ratio(models, tokens=24).score(PROMPTS, SECOND).tolist() == pytest.approx(sums, abs=1e-4)
    means = [r / n for r, n in expected]
    assert ratio(models, per_token=True).score(PROMPTS, SECOND).tolist() == pytest.approx(means, abs=1e-4)


def test_equal_models_give_nothing_and_exchanged_ones_the_negative(models):
    assert ratio(models, weak="strong").score(PROMPTS, SECOND).tolist() == [0.0] * 6
    there, back = ratio(models), ratio(models, strong="weak", weak="strong")
    assert torch.equal(there.score(PROMPTS, FIRST), -back.score(PROMPTS, FIRST))
    prob = there.compare(PROMPTS, FIRST, SECOND)
    assert torch.allclose(prob + back.compare(PROMPTS, FIRST, SECOND), torch.ones(6).double())
    assert torch.equal(prob, bradley_terry(there.score(PROMPTS, FIRST), there.score(PROMPTS, SECOND)))


def test_the_implicit_reward_is_beta_times_the_ratio_to_the_reference(models):
    file = models["folder"] / "implicit.yaml"
    file.write_text("kind: implicit_reward\npolicy: strong\nreference: weak\nbeta: 0.25\ndevice: cpu\n")
    own = oracles.load(str(file)).score(PROMPTS, FIRST)
    assert torch.allclose(own, 0.25 * ratio(models).score(PROMPTS, FIRST))


def test_a_verdict_of_an_interrupted_run_is_bit_for_bit_that_of_an_uninterrupted_one(models, tmp_path):
    """Batches are made of all questions, stored or not: what is missing is rounded as it would have been."""

    def asked(store: str, prompts, responses) -> torch.Tensor:
        made = oracles.load(str(models["folder"] / "ratio.yaml"), store=tmp_path / store)
        return made.score(prompts, responses)

    ratio(models, tokens=40)
    whole = asked("whole.sqlite", PROMPTS, SECOND)
    assert not torch.equal(whole, torch.zeros(6))
    first = unwrapped(oracles.load(str(models["folder"] / "ratio.yaml")))
    store = VerdictStore(tmp_path / "half.sqlite")
    oracle = oracles.Asking(first.questioner, store)
    questions = list(zip(PROMPTS, SECOND, strict=True))
    batch = first.questioner.batches(questions)[0]
    assert len(batch) < len(questions)
    oracle.score([PROMPTS[i] for i in batch], [SECOND[i] for i in batch])
    assert torch.equal(asked("half.sqlite", PROMPTS, SECOND), whole)


def test_equal_questions_are_asked_once_and_kept_with_what_they_were_made_of(models, tmp_path):
    ratio(models)
    oracle = oracles.load(str(models["folder"] / "ratio.yaml"), store=tmp_path / "v.sqlite")
    oracle.compare([PROMPTS[0]] * 3, FIRST[:3], FIRST[1:4])
    asked = unwrapped(oracle)
    assert asked.account.answered == 4
    (about,) = [
        verdict.about
        for verdict in asked.store.get([key_of(asked.fingerprint, (PROMPTS[0], FIRST[0]))]).values()
    ]
    assert about["strong"] - about["weak"] == pytest.approx(float(oracle.score(PROMPTS[:1], FIRST[:1])))


def test_the_fingerprint_follows_weights_template_domains_and_settings_not_places(models, tmp_path):
    base = unwrapped(ratio(models)).fingerprint
    shutil.copytree(models["folder"] / "weak", tmp_path / "moved")
    assert unwrapped(ratio(models, weak=tmp_path / "moved")).fingerprint == base
    others = [
        {"weak": "strong"},
        {"per_token": True},
        {"beta": 0.5},
        {"domains": "[{name: a, instruction: Be kind.}]"},
        {"dtype": "bfloat16"},
    ]
    found = {unwrapped(ratio(models, **change)).fingerprint for change in others}
    assert base not in found and len(found) == len(others)


def test_too_long_a_response_has_no_verdict_and_is_counted(tmp_path):
    for name, seed, positions in (("strong", 1, 64), ("weak", 2, 24)):
        causal(tmp_path / name, seed, positions=positions)
    file = tmp_path / "r.yaml"
    file.write_text("kind: density_ratio\nstrong: strong\nweak: weak\ndevice: cpu\n")
    oracle = oracles.load(str(file), policy=Policy(failures=0.5))
    found = oracle.score(PROMPTS[:2], [FIRST[0], "tea " * 30])
    assert bool(found[0].isfinite()) and bool(found[1].isnan())
    with pytest.raises(OracleError, match=r"r\.yaml accepts 24 tokens; a prompt with its response has \d+"):
        oracles.load(str(file)).score(PROMPTS[:1], ["tea " * 30])
    longest, limit = unwrapped(oracle).room(PROMPTS)
    assert limit == 24 and longest == max(len(tokenizer()(p)["input_ids"]) for p in PROMPTS)


def test_other_tokenizers_are_refused_by_the_first_token_that_differs(models, tmp_path):
    causal(tmp_path / "other", 3)
    words = AutoTokenizer.from_pretrained(tmp_path / "other")
    words.add_tokens(["<extra>"])
    words.save_pretrained(tmp_path / "other")
    with pytest.raises(OracleError, match=r"need identical tokenizers.*'<extra>' the ids None and \d+"):
        ratio(models, weak=tmp_path / "other")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"beta": 0}, "beta: Input should be greater than 0"),
        ({"bets": 1}, "bets: Extra inputs"),
        ({"weak": "./nowhere"}, "nowhere: no such folder"),
        ({"template": "none.jinja"}, "neither a file nor Jinja text"),
        ({"domains": "none.yaml"}, "the domains cannot be read"),
        ({"domains": "[{name: a}, {name: a}]"}, "two domains are called 'a'"),
        ({"domains": "[{name: a, words: ['']}]"}, "an empty word is in every prompt"),
        ({"device": "abacus"}, "abacus"),
    ],
)
def test_a_file_that_cannot_work_is_refused_by_name(models, settings, says):
    with pytest.raises(OracleError) as refused:
        ratio(models, **settings)
    assert says in str(refused.value)


# domains ------------------------------------------------------------------------------------------

SAFETY = {
    "name": "safety",
    "words": ["harm", "weapon"],
    "instruction": "Be careful.",
    "exemplars": [{"prompt": "Hurt him?", "response": " No."}],
}
CODE = {"name": "code", "words": ["python"], "instruction": "Write code."}
OTHER = {"name": "other", "instruction": "Be kind."}
USER = {"role": "user", "content": "Tell me about a WEAPON."}


def routed(*domains) -> Domains:
    return Domains.of(list(domains), Path("oracle.yaml"))


def test_a_prompt_goes_to_its_tag_else_to_the_first_domain_whose_words_it_says():
    domains = routed(SAFETY, CODE, OTHER)
    for text, name in (("No harm, please", "safety"), ("harmless python", "code"), ("pythons", "other")):
        assert domains.route(text).name == name
        assert domains.route([{"role": "system", "content": "harm"}, {**USER, "content": text}]).name == name
    tagged = Conversation([USER], (), {"domain": "code"})
    assert domains.route(tagged).name == "code"
    assert routed(SAFETY).route("a cake") is None
    with pytest.raises(Failure, match="domain 'cooking' is none of safety, code, other"):
        domains.route(Conversation([USER], (), {"domain": "cooking"}))


def test_instruction_and_exemplars_stand_before_the_prompt():
    domains = routed(SAFETY)
    assert domains.before("A weapon?") == "Be careful.\n\nHurt him? No.\n\nA weapon?"
    system = {"role": "system", "content": "Be brief."}
    prompt = Conversation([system, USER], ({"name": "tool"},), {"domain": "safety", "thinking": False})
    found = domains.before(prompt)
    assert [(turn["role"], turn["content"]) for turn in found] == [
        ("system", "Be careful.\n\nBe brief."),
        ("user", "Hurt him?"),
        ("assistant", " No."),
        ("user", USER["content"]),
    ]
    assert (found.tools, found.template_kwargs) == (({"name": "tool"},), {"thinking": False})
    assert domains.before([{**USER, "content": "a cake"}]) == [{**USER, "content": "a cake"}]


def test_both_models_read_what_stands_before_the_prompt(models):
    domains = models["folder"] / "domains.yaml"
    domains.write_text("- {name: all, instruction: Gladly}\n")
    with_it = ratio(models, domains="domains.yaml").score(PROMPTS[:2], FIRST[:2])
    by_hand = ratio(models).score([f"Gladly\n\n{p}" for p in PROMPTS[:2]], FIRST[:2])
    assert torch.equal(with_it, by_hand)
    assert not torch.equal(with_it, ratio(models).score(PROMPTS[:2], FIRST[:2]))


@pytest.mark.slow
def test_a_real_story_model_prefers_a_story_to_its_scrambled_words(shared_data):
    """A trained model against a random one with its tokenizer."""
    folder = shared_data / "lm_stories260k"
    placement = Placement(device="cpu")
    strong, weak = frozen(str(folder), placement), frozen(str(folder), placement)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in weak.model.parameters():
            parameter.copy_(0.05 * torch.randn(parameter.shape, generator=draw))
    oracle = oracles.Asking(DensityRatio(strong, weak, "stories"))
    story = " there was a little girl named Lily. She loved to play outside in the park."
    scrambled = " " + " ".join(reversed(story.split()))
    prob = oracle.compare(["Once upon a time,"], [story], [scrambled])
    assert float(prob) > 0.99
