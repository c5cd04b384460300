"""Preference heads (P2C), distillation of logits, aligned gradients, and buffers of examples."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import logsigmoid

from equipoise.core.margins import distillation, duality, preferences
from equipoise.core.margins.example_state import ExampleState


def heads(rows: int = 20, count: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    both = torch.randn(2, rows, count, dtype=torch.float64, generator=generator).tanh()
    return both[0], both[1]


def test_preferences_are_bounded_and_antisymmetric():
    first, second = heads()
    low, high = 1 / (1 + math.exp(2)), 1 / (1 + math.exp(-2))
    p = torch.sigmoid(first - second)
    assert bool((p > low).all() and (p < high).all())
    prob = torch.rand(20, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    by_hand = -(prob[:, None] * logsigmoid(first - second) + (1 - prob[:, None]) * logsigmoid(second - first))
    assert torch.allclose(preferences.preference_loss(first, second, prob), by_hand.mean(dim=1), rtol=1e-12)
    swapped = preferences.preference_loss(second, first, 1 - prob)
    assert torch.allclose(preferences.preference_loss(first, second, prob), swapped, rtol=1e-12)


def test_a_tie_pulls_equal_scores_nowhere():
    both = [torch.full((1, 3), 0.3, requires_grad=True) for _ in range(2)]
    preferences.preference_loss(*both, torch.tensor([0.5])).sum().backward()
    assert all(b.grad is not None and bool((b.grad == 0).all()) for b in both)


def test_consistency_is_zero_exactly_where_the_order_agrees():
    p1, p2 = torch.tensor([0.7, 0.7, 0.7, 0.4]), torch.tensor([0.5, 0.5, 0.5, 0.4])
    prob = torch.tensor([1.0, 0.0, 0.5, 0.5])
    assert preferences.consistency_loss(p1, p2, prob).tolist() == pytest.approx([0.0, 0.2, 0.2, 0.0])
    q1, q2 = torch.tensor([[0.8, 0.2]]), torch.tensor([[0.5, 0.5]])
    exact, short = torch.tensor([[0.9, 0.1]]), torch.tensor([[0.6, 0.4]])
    given = torch.tensor([[0.6, 0.4]])
    assert preferences.soft_consistency_loss(exact, given, q1, q2).item() == pytest.approx(0.0, abs=1e-7)
    assert preferences.soft_consistency_loss(short, given, q1, q2).item() == pytest.approx(0.6)


def test_diversity_pushes_one_head_only_and_needs_two():
    first, second = heads()
    alone = preferences.diversity(first[:, :1], second[:, :1])
    assert bool((alone == 0).all())
    same = first[:, :1].expand(-1, 2)
    other = second[:, :1].expand(-1, 2)
    p = torch.sigmoid(first[:, 0] - second[:, 0])
    entropy = -(p * p.log() + (1 - p) * (1 - p).log())
    assert torch.allclose(preferences.diversity(same, other), entropy, rtol=1e-10)
    assert preferences.disagreement(same, other).tolist() == pytest.approx([0.0] * 20)
    assert bool((preferences.disagreement(first, second) > 0).any())


# distillation ------------------------------------------------------------------------------------


def test_the_distillation_loss_is_the_binary_kl_of_its_definition():
    generator = torch.Generator().manual_seed(0)
    student, teacher = 3 * torch.randn(2, 40, 5, dtype=torch.float64, generator=generator)
    z = (student - teacher) / 2
    by_definition = 4 * (-logsigmoid(z) / 2 - logsigmoid(-z) / 2 - math.log(2)).sum(dim=1)
    ours = distillation.logit_distillation_loss(student, teacher, 2.0)
    assert torch.allclose(ours, by_definition, rtol=1e-10)
    assert torch.allclose(ours, 4 * torch.log(torch.cosh(z / 2)).sum(dim=1), rtol=1e-10)
    assert torch.allclose(ours, distillation.logit_distillation_loss(teacher, student, 2.0))  # even
    assert bool((ours > 0).all())
    assert distillation.logit_distillation_loss(student, student).abs().max().item() == 0.0
    near = distillation.logit_distillation_loss(teacher + 1e-4, teacher, 1.0)
    assert torch.allclose(near, torch.full_like(near, 5 * 1e-8 / 8), rtol=1e-3)
    with pytest.raises(ValueError, match="temperature"):
        distillation.logit_distillation_loss(student, teacher, 0.0)


def test_aligned_gradients_never_work_against_the_labels():
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        kd, ce = torch.randn(2, 12, dtype=torch.float64, generator=generator)
        total = ce + distillation.aligned(kd, ce)
        assert float(total @ ce) >= float(ce @ ce) - 1e-12
        if float(kd @ ce) >= 0:
            assert bool((distillation.aligned(kd, ce) == kd).all())
        else:
            assert float(distillation.aligned(kd, ce) @ ce) == pytest.approx(0.0, abs=1e-12)
    assert bool((distillation.aligned(-ce, 0 * ce) == -ce).all())


# buffers -----------------------------------------------------------------------------------------


def test_buffers_of_examples_are_written_read_and_restored():
    state = ExampleState(5, tau=0.1, u=0.0)
    state.write(
        torch.tensor([3, 1]), tau=torch.tensor([0.3, 0.2]), u=torch.tensor([1.0, 2.0], requires_grad=True)
    )
    read = state.read(torch.tensor([0, 1, 3]))
    assert read["tau"].tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert read["seen"].tolist() == [False, True, True] and not read["u"].requires_grad
    again = ExampleState.restored(state.tensors())
    assert all(
        torch.equal(a, b) for a, b in zip(again.tensors().values(), state.tensors().values(), strict=True)
    )
    state.write(torch.tensor([0]), tau=torch.tensor([0.9]))
    assert again.whole("tau")[0].item() == pytest.approx(0.1)


def test_buffers_refuse_what_would_be_undefined():
    state = ExampleState(3, tau=0.1)
    with pytest.raises(ValueError, match=r"examples are 0\.\.2, got"):
        state.read(torch.tensor([3]))
    with pytest.raises(ValueError, match="twice"):
        state.write(torch.tensor([1, 1]), tau=torch.tensor([0.1, 0.2]))
    with pytest.raises(ValueError, match="no buffer 'sigma'"):
        state.write(torch.tensor([1]), sigma=torch.tensor([0.1]))
    with pytest.raises(ValueError, match="not the buffers of one state"):
        ExampleState.restored({"tau": torch.zeros(3)})


# duality -----------------------------------------------------------------------------------------


def test_maximum_likelihood_is_preference_learning_weighted_by_belief():
    generator = torch.Generator().manual_seed(0)
    u = torch.randn(30, 5, dtype=torch.float64, generator=generator).requires_grad_()
    label = torch.randint(5, (30,), generator=generator)
    u.log_softmax(dim=1).gather(1, label[:, None]).sum().backward()
    assert u.grad is not None
    ours = duality.preference_gradient(u, label)
    assert torch.allclose(ours, u.grad, atol=1e-14)
    belief = u.detach().softmax(dim=1).gather(1, label[:, None])[:, 0]
    assert torch.allclose(ours.gather(1, label[:, None])[:, 0], 1 - belief, atol=1e-14)
    assert torch.allclose(duality.preference_gradient(u + 3.0, label), ours, atol=1e-14)


def test_other_beliefs_are_the_plain_pairwise_loss_and_the_perceptron():
    u, label = torch.tensor([[0.0, 2.0, 1.0], [3.0, 1.0, 0.0]]), torch.tensor([0, 0])
    linear = duality.preference_gradient(u, label, "uniform")
    assert torch.allclose(linear, torch.tensor([[2 / 3, -1 / 3, -1 / 3]]).expand(2, 3))
    rival = duality.preference_gradient(u, label, "rival")
    assert rival.tolist() == [[1.0, -1.0, 0.0], [0.0, 0.0, 0.0]]
