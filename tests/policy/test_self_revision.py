"""One policy in two roles: responses under a lead are scored, stored and sampled as what they are."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest
import torch

from equipoise.data.collate import Prompt, Response, collate
from equipoise.data.rendering.render import Renderer
from equipoise.data.revision_prompt import RevisionPrompt, both_roles
from equipoise.playground import LanguageGame, load_model
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.generation.self_revision import improve, revise
from equipoise.policy.protocol import Decoding, ModelError
from equipoise.policy.scoring.anchor_store import AnchorStore, score

GAME = LanguageGame()


@pytest.fixture(scope="module")
def policy() -> CausalPolicy:
    return CausalPolicy(*load_model())


@pytest.fixture(scope="module")
def renderer(policy: CausalPolicy) -> Renderer:
    return Renderer(policy.tokenizer, max_length=64)


@pytest.fixture(scope="module")
def revision(renderer: Renderer) -> RevisionPrompt:
    """The tea house knows no instructions: the request is made once more."""
    return RevisionPrompt(renderer, chat=False, instruction=None)


def prompts(renderer: Renderer, count: int) -> list[Prompt]:
    return [Prompt(renderer.prompt(text), text, text) for text in GAME.prompts[:count]]


def answer(renderer: Renderer, index: int) -> Response:
    text = GAME.responses[index]
    return Response((*renderer.codec.continuation(text), renderer.codec.eos), text)


def by_hand(policy: CausalPolicy, context: tuple[int, ...], ids: tuple[int, ...]) -> float:
    """log p(ids | context), one forward pass per token."""
    total = 0.0
    for k, token in enumerate(ids):
        logits = policy.model(torch.tensor([context + ids[:k]])).logits[0, -1]
        total += logits.double().log_softmax(-1)[token].item()
    return total


@torch.no_grad()
def test_log_probs_of_the_six_columns_are_those_of_the_texts(policy, renderer):
    revision = RevisionPrompt(renderer, chat=False, instruction="asks for tea.")
    (prompt,) = prompts(renderer, 1)
    won, lost = answer(renderer, 3), answer(renderer, 16)
    logp, length = score(policy, [(prompt.ids, both_roles(prompt, won, lost, revision))], batch=1)
    tail = tuple(renderer.codec.ids("asks for tea."))
    given_lost, given_won = (prompt.ids + r.ids[:-1] + tail for r in (lost, won))
    contexts = [prompt.ids, prompt.ids, given_lost, given_won, given_won, given_lost]
    expected = [by_hand(policy, c, (won, lost)[k % 2].ids) for k, c in enumerate(contexts)]
    assert logp[0].tolist() == pytest.approx(expected, abs=1e-4)
    assert length.tolist() == [[7.0] * 6]
    # the lead matters: no two columns are within ten times that tolerance
    assert min(abs(a - b) for a, b in combinations(expected, 2)) > 1e-3


def test_the_reference_answers_in_both_roles(policy, renderer, revision):
    """The probability of giving any of the 24 answers, to a request and to an answer to improve."""
    (prompt,) = prompts(renderer, 1)
    lead = revision(prompt, answer(renderer, 5))
    answers = [answer(renderer, k) for k in range(24)]
    led = [Response(r.ids, r.text, lead=lead) for r in answers]
    logp, _ = score(policy, [(prompt.ids, answers), (prompt.ids, led)], batch=1)
    generator, improver = logp.exp().sum(dim=1).tolist()
    assert generator > 0.99
    assert improver > 0.98


def test_the_key_covers_the_lead_and_where_it_ends(tmp_path):
    store = AnchorStore(tmp_path)
    prompt, ids = (1, 5), (8, 9, 2)
    variants = [
        [Response(ids, "")],
        [Response(ids, "", lead=(6,))],
        [Response(ids, "", lead=(6, 7))],
        [Response((9, 2), "", lead=(8,))],  # the same tokens, another begin of what is scored
        [Response(ids, "", lead=(6,)), Response((6,), "")],
        [Response(ids, ""), Response((6,), "", lead=(6,))],
    ]
    keys = [store.key("f", [(prompt, variant)]) for variant in variants]
    assert len(set(keys)) == len(variants)
    assert store.key("f", [((1, 5, 6), [Response(ids, "")])]) not in keys  # nor is a lead a longer prompt
    assert store.key("f", [(prompt, [ids])]) == keys[0]


def test_similar_lengths_share_a_batch_whatever_makes_them_long(policy, renderer, revision):
    """Scores by twos are scores one by one, also where leads reorder the rows."""
    first = answer(renderer, 0)
    (prompt,) = prompts(renderer, 1)
    pairs = [
        (prompt.ids, [first, answer(renderer, 1)]),
        (prompt.ids, [Response(first.ids, "", lead=revision(prompt, first)), first]),
        ((1, 4), [first, first]),
    ]
    together, alone = score(policy, pairs, batch=2)[0], score(policy, pairs, batch=1)[0]
    assert torch.allclose(together, alone, atol=1e-4)


def test_stages_are_addressed_by_seed_and_place(policy, renderer, revision):
    asked, decoding = prompts(renderer, 4), Decoding(max_new_tokens=8, batch=4)
    stages = revise(policy, asked, lead=revision, seeds=[3, 4, 5], decoding=decoding)
    again = revise(policy, asked, lead=revision, seeds=[3, 4, 5], decoding=decoding)
    assert stages == again and [len(stage) for stage in stages] == [4, 4, 4]
    other = revise(policy, asked, lead=revision, seeds=[3, 4, 6], decoding=decoding)
    assert stages[:2] == other[:2] and stages[2] != other[2]
    # any part of the prompts draws what it drew among all of them
    part = revise(policy, asked[2:], lead=revision, seeds=[3, 4, 5], decoding=decoding, places=[2, 3])
    assert part == [stage[2:] for stage in stages]


def test_a_stage_reads_the_prompt_and_the_last_answer(policy, renderer, revision):
    asked = prompts(renderer, 4)
    stages = revise(
        policy, asked, lead=revision, seeds=[1, 2, 3], decoding=Decoding(max_new_tokens=10, batch=4)
    )
    assert all(response.lead == () for response in stages[0])
    for before, after in pairwise(stages):
        assert [response.lead for response in after] == list(map(revision, asked, before))
    for stage in stages:  # the sampler's own log-prob is that of scoring with the lead
        batch = collate([p.ids for p in asked], [[r] for r in stage], policy.pad)
        scored = policy.logprobs(batch)[0][:, 0].tolist()
        assert [r.logp for r in stage] == pytest.approx(scored, abs=1e-4)


def test_an_answer_that_leaves_no_room_is_refused(policy, renderer, revision):
    (prompt,) = prompts(renderer, 1)
    long = Response((5,) * 60, "", finished=False)
    with pytest.raises(ModelError, match="the model takes 64"):
        improve(policy, [prompt], [long], lead=revision, seed=0, decoding=Decoding())
