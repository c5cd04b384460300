"""Figures of a diagnosis: hidden similarity, idealised ranking, gradient entanglement, coverage and KL estimates."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from equipoise.data.collate import Response
from equipoise.data.rendering.tokens import load_tokenizer
from equipoise.evaluate.diagnosis.coverage import concentrability, effective_samples, kl_estimates
from equipoise.evaluate.diagnosis.displacement import next_token_mass
from equipoise.evaluate.diagnosis.gradient_entanglement import Gradients, gradients, kinds
from equipoise.evaluate.diagnosis.hidden_similarity import SummedStates, ches, summed_states
from equipoise.evaluate.diagnosis.ideal_ranking import ideal_ranking, out_of_reach, required_loss
from equipoise.playground import model_path
from equipoise.policy.causal import CausalPolicy

PROMPT = (5, 9, 4)
PAIR = (PROMPT, [Response((7, 8, 3), ""), Response((6, 8), "")])


@pytest.fixture(scope="module")
def policy() -> CausalPolicy:
    return CausalPolicy.load(model_path(), load_tokenizer(str(model_path())), device="cpu")


def plain_states(policy: CausalPolicy, ids: tuple[int, ...]) -> torch.Tensor:
    with torch.no_grad():
        out = policy.model.model(torch.tensor([ids]))
    return out.last_hidden_state[0].double()


def test_states_are_those_from_the_last_of_the_prompt_to_the_one_before_the_last_token(policy):
    """Two ways one answer: transformers' own forward pass, without packing."""
    summed = summed_states(policy, [PAIR])
    for k, response in enumerate(PAIR[1]):
        states = plain_states(policy, (*PROMPT, *response.ids))[len(PROMPT) - 1 : -1]
        assert len(states) == len(response.ids) == summed.length[0, k]
        torch.testing.assert_close(summed.states[0, k], states.sum(dim=0), rtol=1e-5, atol=1e-5)


def test_ches_by_hand_and_its_properties():
    states = torch.tensor([[[1.0, 2.0], [3.0, -1.0]]], dtype=torch.float64)
    length = torch.tensor([[2.0, 4.0]], dtype=torch.float64)
    raw, normalised = ches(SummedStates(states, length))
    assert raw == pytest.approx([(3 - 2) - 5])  # <S_w, S_l> = 1, |S_w|^2 = 5
    assert normalised == pytest.approx([1 / 8 - 5 / 4])
    turned, _ = ches(SummedStates(states.flip(1), length.flip(1)))
    assert turned == pytest.approx([1 - 10])  # not symmetric
    longer, _ = ches(SummedStates(3 * states, length))
    assert longer == pytest.approx(9 * raw)
    same, same_normalised = ches(SummedStates(states[:, [0, 0]], length[:, [0, 0]]))
    assert same == pytest.approx([0]) and same_normalised == pytest.approx([0])
    _, repeated = ches(SummedStates(2 * states, 2 * length))  # every state twice
    assert repeated == pytest.approx(normalised)


@given(st.floats(-20, 20), st.floats(0.01, 10))
def test_a_pair_is_right_exactly_when_its_loss_is_at_most_the_required_one(gap, beta):
    required = float(required_loss(np.array([gap]), beta)[0])
    for margin in (-gap - 1e-3, -gap + 1e-3):  # change of the margin; log pi(y_w)/pi(y_l) = gap + margin
        loss = math.log1p(math.exp(-beta * margin))
        assert (gap + margin > 0) == (loss < required)


def test_idealised_ranking_goes_from_the_labels_to_the_reference():
    gap, share = np.array([-3.0, 2.0, -0.5, 0.0]), np.array([0.9, 0.2, 0.5, 0.5])
    assert ideal_ranking(gap, share, 1e-6).tolist() == [1, 0, 0, 0.5]  # at 1/2 the reference's order stays
    assert ideal_ranking(gap, share, 1e6).tolist() == [0, 1, 0, 0.5]
    # -3 + log(9)/beta = 0 at beta = log(9)/3
    turn = math.log(9) / 3
    assert ideal_ranking(gap[:1], share[:1], turn - 1e-6) == [1]
    assert ideal_ranking(gap[:1], share[:1], turn + 1e-6) == [0]
    assert out_of_reach(np.array([-100.0, -10.0, 5.0]), 0.1).tolist() == [1, 0, 0]
    with pytest.raises(ValueError, match="beta must be positive"):
        ideal_ranking(gap, share, 0.0)


def test_inner_products_of_gradients_foretell_a_small_step(policy):
    """Finite differences: a step on log pi(y_w) - log pi(y_l) moves both as `moves` says."""
    found = gradients(policy, [PAIR])
    up, down = found.moves()
    batch = policy.batch([PAIR[0]], [PAIR[1]])
    trained = [p for _, p in policy.trained()]
    logp, _ = policy.logprobs(batch)
    step = torch.autograd.grad(logp[0, 0] - logp[0, 1], trained)
    rate = 1e-5
    with torch.no_grad():
        for sign in (1, -2):
            for parameter, direction in zip(trained, step, strict=True):
                parameter.add_(sign * rate * direction)
            moved = policy.logprobs(batch)[0][0]
            if sign == 1:
                ahead = moved
        for parameter, direction in zip(trained, step, strict=True):
            parameter.add_(rate * direction)
        change = (ahead - moved) / (2 * rate)
    assert change.tolist() == pytest.approx([float(up[0]), float(down[0])], rel=2e-2)


@given(st.floats(0.1, 10), st.floats(0.1, 10), st.floats(-1, 1))
def test_a_step_moves_apart_or_both_down_or_both_up(better, worse, cosine):
    found = Gradients(*(np.array([x]) for x in (better, worse, cosine * math.sqrt(better * worse))))
    kind = kinds(found)
    assert sum(float(values[0]) for values in kind.values()) == 1
    up, down = (float(x[0]) for x in found.moves())
    if kind["apart"]:
        assert up > 0 > down
    elif kind["both_fall"]:
        assert up <= 0
    else:
        assert up > 0 and down >= 0


def test_kl_estimates_by_enumeration():
    """Samples in the proportions of pi: means over them are expectations under pi."""
    own, other = np.array([0.5, 0.25, 0.25]), np.array([0.25, 0.25, 0.5])
    ratio = np.log(own / other).repeat([2, 1, 1])
    found = kl_estimates(ratio, range(4))
    exact = float((own * np.log(own / other)).sum())
    assert found["k1"]["value"] == pytest.approx(exact)
    assert found["k3"]["value"] == pytest.approx(exact)  # E_pi e^-a = 1
    assert found["bias"]["value"] == pytest.approx(found["k2"]["value"] - exact)
    assert concentrability(ratio)["chi_square"] == pytest.approx(float((own**2 / other).sum()) - 1)
    assert concentrability(ratio)["largest"] == pytest.approx(math.log(2))
    same = concentrability(np.zeros(8))
    assert same == {"largest": 0.0, "high": 0.0, "chi_square": 0.0}


@given(st.lists(st.floats(-30, 30), min_size=1, max_size=20), st.floats(-50, 50))
def test_the_effective_sample_size_does_not_change_with_a_constant(ratio, shift):
    values = np.array(ratio)
    found = effective_samples(values)
    assert 1 - 1e-9 <= found <= len(values) + 1e-9
    assert effective_samples(values + shift) == pytest.approx(found, rel=1e-6)
    assert effective_samples(np.zeros(7)) == pytest.approx(7)


def test_next_token_mass_is_the_mean_softmax_at_the_places_of_the_preferred_response(policy):
    found = next_token_mass(policy, [PAIR])
    ids = (*PROMPT, *PAIR[1][0].ids)
    with torch.no_grad():
        logits = policy.model(torch.tensor([ids])).logits[0, len(PROMPT) - 1 : -1]
    torch.testing.assert_close(found, logits.softmax(dim=-1).double().mean(dim=0), rtol=1e-5, atol=1e-8)
    assert float(found.sum()) == pytest.approx(1, abs=1e-6)
