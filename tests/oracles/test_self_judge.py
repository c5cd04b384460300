"""The policy as its own judge: read by its next-token probabilities, and always the weights of the round."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from equipoise import oracles
from equipoise.oracles.checked import Checked, unwrapped
from equipoise.oracles.judges.self_judge import LETTERS, POINTS
from equipoise.oracles.models.language_model import frozen
from equipoise.oracles.placement import Placement
from equipoise.oracles.protocol import OracleError, SeesPolicy, parts_that
from equipoise.play.state import INITIAL, START
from equipoise.playground import LanguageGame
from equipoise.policy import checkpoint
from equipoise.run.session import configured
from oracles.tiny_models import causal, tokenizer

GAME = LanguageGame()
PROMPTS = list(GAME.prompts[:4])
FIRST, SECOND = list(GAME.responses[:4]), [*GAME.responses[5:8], GAME.responses[3]]
# the playground's words: its tokenizer has 64 of them and no letters
PAIRWISE = "\n====\n{{ conversation }} {{ response_a }} {{ response_b }}"
POINTWISE = "\n====\n{{ conversation }} {{ response }}"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("self") / "model"
    causal(folder, 5)
    return frozen(str(folder), Placement(device="cpu"))


def judge(folder: Path, policy=None, digest: str = "one", store: Path | None = None, **settings) -> Checked:
    (folder / "pairwise.jinja").write_text(PAIRWISE)
    (folder / "pointwise.jinja").write_text(POINTWISE)
    question = settings.get("question", "pairwise")
    lines = {"kind": "self", "prompt": f"{question}.jinja"} | settings
    file = folder / "self.yaml"
    file.write_text("".join(f"{name}: {value}\n" for name, value in lines.items()))
    oracle = oracles.load(str(file), store=store)
    if policy is not None:
        for part in parts_that(oracle, SeesPolicy):
            part.see(policy, digest)
    return oracle


@torch.no_grad()
def next_token(policy, oracle: Checked, question, options) -> torch.Tensor:
    """Next-token probabilities of some words by transformers' own logits."""
    made = unwrapped(oracle).questioner
    words = tokenizer()
    system, user = (message["content"] for message in made.prompt.messages(*question))
    assert not system
    ids = words(f"Human: {user}\n\nAssistant:")["input_ids"]
    logits = policy.model(input_ids=torch.tensor([ids])).logits[0, -1].double()
    return logits.softmax(dim=-1)[[words(" " + o, add_special_tokens=False)["input_ids"][0] for o in options]]


@pytest.fixture
def letters(monkeypatch):
    """Words of the playground's tokenizer in the place of letters and digits, which it does not know."""
    words = sorted(word for word in tokenizer().get_vocab() if word.isalpha())[:6]
    monkeypatch.setattr("equipoise.oracles.judges.self_judge.LETTERS", tuple(words[:2]))
    monkeypatch.setattr("equipoise.oracles.judges.self_judge.POINTS", tuple(words))
    return words


def test_a_pair_is_the_probability_of_a_in_both_orders(tiny, tmp_path, letters):
    oracle = judge(tmp_path, tiny)
    prob = oracle.compare(PROMPTS, FIRST, SECOND)
    for i, (p, a, b) in enumerate(zip(PROMPTS, FIRST, SECOND, strict=True)):
        there, back = (next_token(tiny, oracle, (p, *pair), letters[:2]) for pair in ((a, b), (b, a)))
        expected = (there[0] / there.sum() + back[1] / back.sum()) / 2
        assert float(prob[i]) == pytest.approx(float(expected), abs=1e-6)
    assert float(prob[3]) == 0.5  # two equal responses
    assert len({round(float(x), 6) for x in prob}) > 2
    assert torch.equal(prob + oracle.compare(PROMPTS, SECOND, FIRST), torch.ones(4).double())


def test_points_are_an_expectation_over_digits(tiny, tmp_path, letters):
    oracle = judge(tmp_path, tiny, question="pointwise", beta=2.0)
    scores = oracle.score(PROMPTS, FIRST)
    for i, (p, a) in enumerate(zip(PROMPTS, FIRST, strict=True)):
        prob = next_token(tiny, oracle, (p, a), letters)
        expected = 2 * float((prob * torch.arange(6)).sum() / prob.sum())
        assert float(scores[i]) == pytest.approx(expected, abs=1e-5)


def test_other_weights_ask_anew_and_the_same_ones_do_not(tiny, tmp_path, letters):
    store = tmp_path / "v.sqlite"
    judge(tmp_path, tiny, "round 1", store).compare(PROMPTS, FIRST, SECOND)
    again = judge(tmp_path, tiny, "round 1", store)
    again.compare(PROMPTS, FIRST, SECOND)
    assert unwrapped(again).account.answered == 0
    after = judge(tmp_path, tiny, "round 2", store)
    after.compare(PROMPTS, FIRST, SECOND)
    assert unwrapped(after).account.answered == 7


def test_without_a_policy_it_says_that_it_needs_a_run(tmp_path):
    with pytest.raises(OracleError, match=r"asks the policy of a run, and none was shown"):
        judge(tmp_path).compare(PROMPTS, FIRST, SECOND)


def test_a_tokenizer_that_writes_the_answers_alike_is_a_failure(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("equipoise.oracles.judges.self_judge.LETTERS", ("tea", "tea"))
    with pytest.raises(OracleError, match="writes two of the possible answers in the same way"):
        judge(tmp_path, tiny).compare(PROMPTS, FIRST, SECOND)


def test_the_standard_prompts_show_all_and_name_the_answers(tmp_path):
    for question, options in (("pairwise", LETTERS), ("pointwise", POINTS)):
        file = tmp_path / "plain.yaml"
        file.write_text(f"kind: self\nquestion: {question}\n")
        made = unwrapped(oracles.load(str(file))).questioner
        responses = ("one response", "another response")[: 1 + (question == "pairwise")]
        text = made.prompt.messages("a conversation", *responses)[1]["content"]
        assert all(word in text for word in ("a conversation", *responses, options[0], options[-1]))


# in a world ------------------------------------------------------------------------------------------


def test_the_weights_of_the_round_judge_whatever_is_in_memory(make_world, pairs, tmp_path, letters):
    """Round 1 is judged by the start policy, a stage of round 2 by what was trained, even while another is held."""
    world = make_world(oracle=judge(tmp_path, store=tmp_path / "v.sqlite"))
    state = world.begin()
    made = unwrapped(world.oracle).questioner
    first = np.zeros(len(pairs), np.intp)

    def judged(state, name):
        seen = []

        def make():
            rows = pairs
            with world.model.playing(state.policies[INITIAL]):  # as while an opponent is sampled
                pass
            seen.append(world.compare(rows, first, first + 1))
            seen.append(checkpoint.fingerprint(world.policy))
            return rows

        world.stage(state, name, make)
        return seen

    prob, weights = judged(state, "judging")
    assert weights == checkpoint.stored_fingerprint(state.policies[START])
    assert weights in made.fingerprint
    moved = world.fit(state, pairs, world.anchors(state, pairs, {"reference": INITIAL}), _dpo())
    later = state.advance({START: moved})
    other, then = judged(later, "judging")
    assert then == checkpoint.stored_fingerprint(moved) != weights
    assert then in made.fingerprint and not np.array_equal(other, prob)
    asked = unwrapped(world.oracle).account.answered
    with world.judge.judged_by(state.policies[START]):
        assert np.array_equal(world.compare(pairs, first, first + 1), prob)
    assert unwrapped(world.oracle).account.answered == asked  # read from the store
    with pytest.raises(OracleError, match="outside of a round"):
        world.compare(pairs, first, first + 1)


def _dpo():
    from equipoise.core.objectives import Dpo

    return Dpo(beta=0.1)


def test_osp_asks_its_policy_unless_another_oracle_is_given(tmp_path):
    data = tmp_path / "prompts.jsonl"
    data.write_text('{"prompt": "Why?"}\n')
    assert configured("osp", data=data).oracle == "self"
    assert configured("osp", data=data, oracle="rules:mine").oracle == "rules:mine"
    assert configured("osp").oracle is None, "the playground's game judges"
    assert configured("iterative_dpo", data=data).oracle is None
    named = parts_that(oracles.load("self"), SeesPolicy)
    assert [oracle.name for oracle in named] == ["self"]
