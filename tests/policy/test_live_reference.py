"""Live references: divergences and auxiliary heads; activation masks, and adaptive step weights."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from equipoise.core import divergence
from equipoise.core.auxiliary_heads import DegreeHeads, SparseMasks, build_head, columns_of
from equipoise.data.collate import collate
from equipoise.policy import checkpoint
from equipoise.policy.protocol import ModelError
from equipoise.policy.scorer import backbone
from equipoise.policy.scoring.activation_masks import activation_mask, minmax_rescaled
from equipoise.policy.scoring.live_reference import FrozenReference, LiveScorer
from equipoise.policy.scoring.step_weights import step_weights, steps_of, weights_of

PROMPTS = [(1, 5, 6), (1, 7)]
RESPONSES = [[(8, 2), (9, 10, 11, 2)], [(3, 4, 5, 6, 7, 8, 2), (2,)]]
DOUBLE = torch.float64


def moved(policy, size: float = 0.05):
    """The same policy a little further on."""
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for _, parameter in policy.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=draw).to(parameter))
    return policy


def log_probs_by_hand(model, prompt, response):
    return model(input_ids=torch.tensor([prompt + response])).logits[0].log_softmax(-1)[len(prompt) - 1 : -1]


def test_divergences_are_those_of_whole_next_token_distributions_with_gradients(tiny, family):
    wide = family != "gemma2"  # whose softmax is float32 whatever the model's type
    policy = tiny(family, dtype=DOUBLE if wide else torch.float32)
    frozen = FrozenReference(policy)
    moved(policy)
    batch = collate(PROMPTS, RESPONSES, policy.pad)
    scores = LiveScorer(policy.scorer)(batch, [frozen.next_token_distribution(batch)])
    drift, mask = scores.divergences[0], scores.mask
    logp, same = policy.token_logprobs(batch)
    near = {"rtol": 1e-9, "atol": 1e-10} if wide else {"rtol": 1e-4, "atol": 1e-4}
    assert_close(scores.logp.view_as(logp), logp, **near)
    assert mask.equal(same.flatten(0, 1)) and not drift[~mask].any()
    pairs = [(p, r) for p, group in zip(PROMPTS, RESPONSES, strict=True) for r in group]
    plain = torch.cat(
        [
            divergence.kl(
                log_probs_by_hand(frozen.scorer.model, p, r).detach(), log_probs_by_hand(policy.model, p, r)
            )
            for p, r in pairs
        ]
    )
    assert_close(drift[mask], plain.to(drift), **near)
    parameters = [p for _, p in policy.parameters()]
    grads = [torch.autograd.grad(x.sum(), parameters, retain_graph=True) for x in (drift[mask], plain)]
    near = {"rtol": 1e-7, "atol": 1e-9} if wide else {"rtol": 1e-2, "atol": 1e-3}
    assert all(torch.allclose(a, b, **near) for a, b in zip(*grads, strict=True))
    assert all(p.grad is None and not p.requires_grad for p in frozen.scorer.parameters())


def test_a_frozen_copy_stays_and_is_no_distance_from_itself(tiny):
    policy = tiny(dtype=DOUBLE)
    batch = collate(PROMPTS, RESPONSES, policy.pad)
    frozen = FrozenReference(policy)
    drift = LiveScorer(policy.scorer)(batch, [frozen.next_token_distribution(batch)]).divergences[0]
    assert float(drift.detach().abs().max()) < 1e-12
    before = frozen.next_token_distribution(batch).states
    moved(policy)
    assert frozen.next_token_distribution(batch).states.equal(before)


# networks -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("common", [True, False])
def test_masks_read_all_layers_where_a_token_is_predicted(tiny, common: bool):
    policy = tiny(dtype=DOUBLE)
    frozen = FrozenReference(policy, layers=True)
    batch = collate(PROMPTS, RESPONSES, policy.pad)
    layers = frozen.next_token_distribution(batch).layers
    states = backbone(policy.model)(
        input_ids=batch.ids, attention_mask=batch.attention, output_hidden_states=True
    ).hidden_states
    assert layers.shape == (2, 14, 32)
    assert_close(layers[0, 0], states[1][0, 2])  # the first response's first token is predicted at place 2
    network = build_head(SparseMasks(common=common), 32, 2, seed=0)
    said = LiveScorer(policy.scorer, network)(batch, [frozen.next_token_distribution(batch)]).tokens
    mask = torch.arange(7) < torch.tensor([2, 4, 7, 1])[:, None]
    assert all(said[name].equal(mask.to(said[name])) for name in ("utility", "divergence"))  # they begin at 1
    names = [name for name, _ in network.named_parameters()]
    assert len(names) == (1 if common else 2) * (2 + 2 * 2 + 1)
    said["utility"].sum().backward()
    moved_by = [name for name, p in network.named_parameters() if p.grad is not None and p.grad.any()]
    assert any("layers.1" in name for name in moved_by)
    assert all(name.startswith("masks.0") for name in moved_by)


def test_masks_have_exact_zeros_and_are_never_negative(tiny):
    policy = tiny()
    frozen = FrozenReference(policy, layers=True)
    batch = collate(PROMPTS, RESPONSES, policy.pad)
    network = build_head(SparseMasks(common=False), 32, 2, seed=0)
    layers, draw = frozen.next_token_distribution(batch).layers, torch.Generator().manual_seed(0)
    with torch.no_grad():
        for mask in network.masks:
            for layer, states in zip(mask.layers, layers, strict=True):
                layer.weight.copy_(torch.randn(layer.weight.shape, generator=draw))
                layer.bias.copy_(-(mask.norm(states) @ layer.weight[0]).quantile(0.9))  # few tokens are above
    said = network(layers)
    for values in said.values():
        assert bool((values >= 0).all()) and bool((values == 0).any()) and bool((values > 0).any())
    assert not said["utility"].equal(said["divergence"])


def test_heads_read_mean_states_and_say_the_probability_of_each_texts_own_degree(tiny):
    policy = tiny(dtype=DOUBLE)
    texts = [[(8, 2), (9, 10, 2), (8, 2), (10, 2)]]  # chosen, rejected, and each with something left out
    batch = collate([PROMPTS[0]], texts, policy.pad)
    network = build_head(DegreeHeads(degrees=2), 32, 2, seed=0)
    said = LiveScorer(policy.scorer, network)(batch, []).rows["degree"]
    states = backbone(policy.model)(input_ids=batch.ids, attention_mask=batch.attention).last_hidden_state
    want = []
    for row, (side, degree) in enumerate(zip(*columns_of(2), strict=True)):
        mean = states[row, 3 : 3 + len(texts[0][row])].mean(dim=0).float()
        want.append(network.heads[side](mean).log_softmax(-1)[degree])
    assert_close(said, torch.stack(want).double(), rtol=1e-5, atol=1e-6)
    assert columns_of(4) == ([0, 1, 0, 0, 0, 1, 1, 1], [0, 0, 1, 2, 3, 1, 2, 3])
    said.sum().backward()
    assert next(p for _, p in policy.parameters()).grad is not None  # the trunk learns too


def test_an_auxiliary_head_is_saved_with_the_checkpoint_and_changes_no_log_prob(tiny, tmp_path):
    policy = tiny()
    checkpoint.save(policy, tmp_path / "without")
    policy.network = build_head(DegreeHeads(), 32, 2, seed=0)
    names = [name for name, _ in policy.trained()]
    assert names[-1] == "network/heads.1.bias" and len(names) == len(list(policy.parameters())) + 4
    checkpoint.save(policy, tmp_path / "with")
    assert (tmp_path / "with" / "network" / "weights.safetensors").exists()
    prints = [(tmp_path / name / checkpoint.FINGERPRINT).read_text() for name in ("with", "without")]
    assert prints[0] == prints[1]  # log-probs do not depend on it
    again = build_head(DegreeHeads(), 32, 2, seed=1)
    assert not again.heads[0].weight.equal(policy.network.heads[0].weight)
    assert checkpoint.load_network(again, tmp_path / "with")
    assert again.heads[0].weight.equal(policy.network.heads[0].weight)
    assert not checkpoint.load_network(again, tmp_path / "without")
    with pytest.raises(ModelError, match="holds another network"):
        checkpoint.load_network(build_head(DegreeHeads(degrees=3), 32, 2, seed=0), tmp_path / "with")


def test_the_same_seed_builds_the_same_network_and_draws_nothing_else():
    state = torch.get_rng_state()
    first, second, other = (build_head(DegreeHeads(), 8, 2, seed) for seed in (4, 4, 5))
    assert torch.get_rng_state().equal(state)
    assert first.heads[0].weight.equal(second.heads[0].weight)
    assert not first.heads[0].weight.equal(other.heads[0].weight)


# MaPO ---------------------------------------------------------------------------------------------------


def test_activation_masks_lie_between_0_and_1_on_the_responses_only(tiny, family):
    policy = tiny(family)
    mask, there = activation_mask(policy, collate(PROMPTS, RESPONSES, policy.pad))
    assert there.sum(dim=1).tolist() == [2, 4, 7, 1]
    assert bool((mask >= 0).all()) and bool((mask <= 1).all()) and not mask[~there].any()
    assert mask[3].sum() == 0  # one token: it reacts alike everywhere
    assert bool((mask[:3].amax(dim=1) > 0.3).all())
    assert not mask.requires_grad


def test_rescaling_by_hand_and_after_normalising():
    values = torch.tensor([[1.0, 3.0, 2.0, 9.0], [5.0, 5.0, 0.0, 0.0]], dtype=DOUBLE)
    mask = torch.tensor([[True, True, True, False], [True, True, False, False]])
    assert minmax_rescaled(values, mask).tolist() == [[0, 1, 0.5, 0], [0, 0, 0, 0]]
    row = values[:1, :3]
    normal = (row - row.mean()) / row.std()  # as the authors do before
    assert_close(minmax_rescaled(normal, mask[:1, :3]), minmax_rescaled(row, mask[:1, :3]))


def test_the_order_of_the_hooks_means_nothing_and_none_stays(tiny):
    policy = tiny()
    batch = collate(PROMPTS, RESPONSES, policy.pad)
    first = activation_mask(policy, batch)[0]
    assert not any(m._forward_hooks for m in policy.model.modules())
    assert activation_mask(policy, batch)[0].equal(first)
    one = collate(PROMPTS[1:], RESPONSES[1:], policy.pad)
    assert_close(activation_mask(policy, one)[0], first[2:], rtol=1e-4, atol=1e-5)  # each row by itself


def test_a_model_without_blocks_is_refused(tiny, monkeypatch):
    policy = tiny()
    block = type(backbone(policy.model).layers[0])
    monkeypatch.setattr("equipoise.policy.scoring.activation_masks.MLPS", ("no such part",))
    with pytest.raises(ModelError, match=f"{block.__name__} has none of no such part"):
        activation_mask(policy, collate(PROMPTS, RESPONSES, policy.pad))


# steps --------------------------------------------------------------------------------------------------


def test_steps_end_with_their_mark():
    assert steps_of([["a", "b\n", "c"], ["\n", "d"]], "\n").tolist() == [[0, 0, 1], [0, 0, 0]]
    assert steps_of([["a", ".", " b", ".", "c"]], ". ").tolist() == [[0, 0, 0, 1, 1]]  # of several tokens
    assert steps_of([["a", "b", "c"]], "").tolist() == [[0, 1, 2]]


def test_weights_of_steps_by_hand():
    """Two paths of two steps; the first is shared, the second at right angles: 0 and 2 (mean 1)."""
    e = torch.eye(3, dtype=DOUBLE)
    means = torch.stack([torch.stack([e[0], e[1]]), torch.stack([e[0], e[2]])])[None]
    there = torch.ones(1, 2, 2, dtype=torch.bool)
    assert weights_of(means, there, "difference")[0].tolist() == [[0, 2], [0, 2]]
    # the release: 1 + cos with path 0: 2, 2 for path 0 itself and 2, 1 for the other, before scaling
    assert_close(weights_of(means, there, "release")[0], torch.tensor([[1, 1], [4 / 3, 2 / 3]], dtype=DOUBLE))
    there[0, 1, 1] = False  # the other path ends early: nothing to compare the second step with
    assert weights_of(means, there, "difference")[0].tolist() == [[0, 2], [1, 0]]


def test_equal_paths_are_weighed_by_one_and_shared_steps_alike(tiny):
    policy = tiny(dtype=DOUBLE)
    same = collate([PROMPTS[0]], [[(8, 9, 2), (8, 9, 2)]], policy.pad)
    assert step_weights(policy, same, torch.tensor([[0, 1, 2]] * 2)).equal(torch.ones(2, 3, dtype=DOUBLE))
    fork = collate([PROMPTS[0]], [[(8, 9, 10, 2), (8, 9, 11, 2)]], policy.pad)
    weights = step_weights(policy, fork, torch.tensor([[0, 0, 1, 1]] * 2))
    assert weights[:, :2].abs().max() == 0 and weights[:, 2:].min() == 2
    by_token = step_weights(policy, fork, torch.tensor([[0, 1, 2, 3]] * 2))
    assert_close(by_token.sum(dim=1), torch.tensor([4.0, 4.0], dtype=DOUBLE))  # mean 1
    assert by_token[:, :2].abs().max() == 0
    with pytest.raises(ValueError, match="form must be one of"):
        step_weights(policy, fork, torch.tensor([[0, 0, 1, 1]] * 2), "other")
