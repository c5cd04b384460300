"""Fits beside a live reference and a network: steps, resumes, what the network leaves behind, and refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from equipoise.core.auxiliary_heads import SparseMasks, build_head
from equipoise.core.divergence import kl
from equipoise.core.objectives import Dpo, NpoKl, SparsePo, Tdpo1, Wpo
from equipoise.data.collate import collate
from equipoise.games import zoo
from equipoise.methods.index import get
from equipoise.play.round import play
from equipoise.playground import model_path
from equipoise.policy import checkpoint
from equipoise.policy.causal import CausalPolicy
from equipoise.policy.scoring.anchor_store import score
from equipoise.policy.scoring.live_reference import FrozenReference
from equipoise.worlds.errors import TrainingError
from equipoise.worlds.table.play_game import play_game
from equipoise.worlds.text.fit import Fit, PolicyScoring, Training
from equipoise.worlds.text.scoring.live_scoring import LiveScoring

STEPS = Training(lr=1e-3, batch=4, micro_batch=4, schedule="constant", warmup=0.0)


def order(epoch: int) -> np.ndarray:
    return np.random.default_rng(epoch).permutation(8)


def tokens_of(policy, rows) -> dict[str, torch.Tensor]:
    pairs = [(p.ids, list(g)) for p, g in zip(rows.prompts, rows.responses, strict=True)]
    return {"reference": score(policy, pairs, 4, tokens=True)[0]}


def live(policy, rows, objective, *, recipe=None, training=STEPS, rate=1.0) -> Fit:
    frozen = {"reference": FrozenReference(policy, layers=recipe is not None)}
    policy.network = (
        None
        if recipe is None
        else build_head(recipe, policy.model.config.hidden_size, policy.model.config.num_hidden_layers, 0)
    )
    scoring = LiveScoring(policy, objective, frozen=frozen, head=recipe, rate=rate)
    return Fit(scoring, rows, tokens_of(policy, rows), training, Accelerator(cpu=True), order)


def trained(policy, fit: Fit, steps: int = 3) -> tuple[dict[str, torch.Tensor], list[dict[str, float]]]:
    """Where some steps lead; the policy is put back."""
    start = {name: p.detach().clone() for name, p in policy.parameters()}
    figures = [fit.step() for _ in range(steps)]
    after = {name: p.detach().clone() for name, p in policy.trained()}
    with torch.no_grad():
        for name, p in policy.parameters():
            p.copy_(start[name])
    policy.network = None
    return after, figures


def furthest(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    return max(float((a[n] - b[n]).abs().max()) for n in a if n in b)


def test_masks_of_one_and_zero_train_as_dpo_does_and_masks_of_one_as_tdpo1(policy, pairs):
    """Weights given with the rows, through the whole fit, in float64; packed rows and padded ones."""
    policy.model.double()
    smooth = replace(STEPS, eps=1e-3)  # Adam would divide the rounding of a gradient of 0 by itself
    longest = max(len(r.ids) for group in pairs.responses for r in group)
    mask = np.array(
        [[[k < len(r.ids) for k in range(longest)] for r in group] for group in pairs.responses], float
    )
    plain = {name: x.sum(dim=2) for name, x in tokens_of(policy, pairs).items()}
    scoring = PolicyScoring(policy, Dpo(beta=0.5))
    dpo, _ = trained(policy, Fit(scoring, pairs, plain, smooth, Accelerator(cpu=True), order))
    tdpo, _ = trained(policy, live(policy, pairs, Tdpo1(beta=0.5), training=smooth))
    for masks, other in (((1.0, 0.0), dpo), ((1.0, 1.0), tdpo)):
        weights = {name: m * mask for name, m in zip(("utility", "divergence"), masks, strict=True)}
        objective = SparsePo(beta=0.5, l1_u=0.0, l1_d=0.0)
        weighed = replace(pairs, token_weights=weights)
        mine, _ = trained(policy, live(policy, weighed, objective, training=smooth))
        assert furthest(mine, other) < 1e-9
    assert furthest(dpo, tdpo) > 1e-6


def test_micro_batches_make_no_difference(policy, pairs):
    policy.model.double()
    runs = [
        trained(policy, live(policy, pairs, Tdpo1(beta=0.5), training=replace(STEPS, micro_batch=size)))
        for size in (4, 3, 1)
    ]
    for after, figures in runs[1:]:
        assert furthest(runs[0][0], after) < 1e-9
        assert [f["loss"] for f in figures] == pytest.approx([f["loss"] for f in runs[0][1]], rel=1e-9)


def test_a_law_that_is_retained_is_held_where_the_reference_has_it(policy, pairs):
    """All to retain: nothing moves from the reference, and what was moved comes back."""
    policy.model.double()
    alone = replace(pairs.alone().take(np.arange(8)), reward=np.ones((8, 1)))
    fit = live(policy, alone, NpoKl(beta=0.5), training=replace(STEPS, eps=1e-3))
    _, figures = trained(policy, fit, 2)
    assert figures[0]["loss"] == pytest.approx(0, abs=1e-12) and figures[0]["grad_norm"] < 1e-9
    fit = live(policy, alone, NpoKl(beta=0.5), training=replace(STEPS, eps=1e-3, batch=8))
    with torch.no_grad():
        for _, p in policy.parameters():
            p.mul_(1.2)
    moved = [fit.step() for _ in range(5)]
    assert moved[0]["loss"] > 1e-3 and moved[-1]["loss"] < moved[0]["loss"]
    assert moved[0]["loss"] == pytest.approx(moved[0]["drift"]) and moved[0]["desirable"] == 1


def test_adapters_beside_a_live_reference_leave_it_and_the_weights_below_alone(renderer, pairs):
    """LoRA: the reference is the policy with its adapters as they began, which add nothing."""
    policy = CausalPolicy.load(model_path(), renderer.codec.tokenizer, device="cpu", lora_rank=2)
    fit = live(policy, pairs, Tdpo1(beta=0.5))
    below = {n: p.detach().clone() for n, p in policy.model.named_parameters() if not p.requires_grad}
    batch = collate([p.ids for p in pairs.prompts], [list(g) for g in pairs.responses], policy.pad)
    law = fit.scoring.frozen["reference"].next_token_distribution(batch)
    figures = [fit.step() for _ in range(3)]
    assert figures[0]["loss"] == pytest.approx(np.log(2), abs=1e-5)
    assert figures[0]["drift_chosen"] == pytest.approx(0, abs=1e-6) and figures[-1]["drift_chosen"] > 1e-6
    again = fit.scoring.frozen["reference"].next_token_distribution(batch)
    assert law.states.equal(again.states) and law.head.equal(again.head)
    for name, p in policy.model.named_parameters():
        assert name not in below or p.equal(below[name]), name
    assert below and all("lora" in name for name, _ in policy.parameters())
    # the divergence that is trained is that from the model without its adapters
    scored = fit.scores(np.arange(8))
    with torch.no_grad(), policy.model.disable_adapter():
        logits = policy.model(input_ids=batch.ids, attention_mask=batch.attention).logits
    with torch.no_grad():
        mine = policy.model(input_ids=batch.ids, attention_mask=batch.attention).logits
    here = batch.scored[:, 1:]
    by_hand = kl(logits[:, :-1][here].log_softmax(-1), mine[:, :-1][here].log_softmax(-1))
    found = scored.tokens.divergences["reference"].flatten(0, 1)[scored.tokens.mask.flatten(0, 1)]
    assert torch.allclose(found.float(), by_hand, rtol=1e-3, atol=1e-6)


def test_a_learned_mask_begins_as_tdpo1_and_is_trained(policy, pairs):
    recipe = SparseMasks(common=False)
    objective = SparsePo(beta=0.5, l1_u=0.01, l1_d=0.01)
    fit = live(policy, pairs, objective, recipe=recipe, rate=20.0)
    before = {name: p.detach().clone() for name, p in policy.network.named_parameters()}
    assert [g["rate"] for g in fit.optimizer.param_groups] == [1.0, 20.0]
    assert [g["weight_decay"] for g in fit.optimizer.param_groups] == [0.0, 0.01]
    after, figures = trained(policy, fit)
    assert figures[0]["kept"] == pytest.approx(1) and figures[0]["loss"] > np.log(2)  # log 2 and the norms
    moved = {n: float((after[f"network/{n}"] - p).abs().max()) for n, p in before.items()}
    assert all(
        size > 0 for name, size in moved.items() if "norm.bias" not in name and "norm.weight" not in name
    )
    assert fit.optimizer.param_groups[1]["lr"] == 20 * fit.optimizer.param_groups[0]["lr"]


def test_a_resumed_fit_is_the_same_to_the_bit_with_its_network(policy, pairs, tmp_path):
    recipe, objective = SparseMasks(), SparsePo(beta=0.5)
    start = {name: p.detach().clone() for name, p in policy.parameters()}

    def begin() -> Fit:
        with torch.no_grad():
            for name, p in policy.parameters():
                p.copy_(start[name])
        return live(policy, pairs, objective, recipe=recipe, rate=5.0)

    fit = begin()
    for _ in range(4):
        fit.step()
    whole = {name: p.detach().clone() for name, p in policy.trained()}
    fit = begin()
    for _ in range(2):
        fit.step()
    checkpoint.save_progress(tmp_path / "half", policy, fit.optimizer, {"step": 2})
    fit = begin()
    fit.position = checkpoint.load_progress(tmp_path / "half", policy, fit.optimizer)["step"]
    for _ in range(2):
        fit.step()
    assert all(p.detach().equal(whole[name]) for name, p in policy.trained())


def test_what_is_read_must_be_there(policy, pairs):
    about = (pairs, tokens_of(policy, pairs), STEPS, Accelerator(cpu=True), order)
    with pytest.raises(TrainingError, match="Tdpo reads reference from models kept in memory"):
        Fit(PolicyScoring(policy, Tdpo1()), *about)
    with pytest.raises(TrainingError, match="SparsePo reads token weights that nothing supplies"):
        Fit(LiveScoring(policy, SparsePo(), frozen={}), *about)
    with pytest.raises(TrainingError, match="Wpo weighs responses"):
        LiveScoring(policy, Wpo(), frozen={})


@pytest.mark.parametrize(
    "name, steps",
    [("tdpo1", 4), ("tdpo2", 4), ("sparse_po", 4), ("sparse_po_independent", 4), ("mapo", 4), ("npo_kl", 12)],
)
def test_a_round_of_every_method_on_text(make_world, name: str, steps: int):
    method = get(name)
    world = make_world()
    state = play(method, world, world.begin(method.update.memory))
    lines = list(world.journal.lines("metrics.jsonl"))
    assert len(lines) == steps
    assert lines[0]["drift" if name == "npo_kl" else "margin"] == pytest.approx(0, abs=1e-4)
    assert all(np.isfinite(line["loss"]) for line in lines)
    kept = (state.policies["start"] / checkpoint.NETWORK).exists()
    assert kept == name.startswith("sparse_po") and world.policy.network is None


@pytest.mark.parametrize(
    "name, reason",
    [
        ("tdpo1", "live references and auxiliary heads during training"),
        ("sparse_po", "live references and auxiliary heads during training"),
        ("mapo", "live references and auxiliary heads during training"),
    ],
)
def test_a_finite_game_says_why_it_is_not_played(name: str, reason: str):
    with pytest.raises(ValueError, match=reason):
        play_game(zoo.brps(), get(name), rounds=1)
