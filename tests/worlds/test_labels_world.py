"""Fits of the labels world: they learn, repeat, and have the properties of their papers, on small made-up data."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from equipoise.core.margins.example_state import ExampleState
from equipoise.core.margins.robust import Aldr
from equipoise.core.margins.similarities import OwnTemperatures, hardest
from equipoise.play.seeds import Seeds
from equipoise.worlds.labels import adversarial, continual, contrast, distil, p2c
from equipoise.worlds.labels.classify import Classify
from equipoise.worlds.labels.examples import Examples, Split, divided
from equipoise.worlds.labels.fit import Training
from equipoise.worlds.labels.index import ENTRIES, settings_of, with_settings
from equipoise.worlds.labels.label_losses import CompSum, Ldr, OwnLdr
from equipoise.worlds.labels.measures import classified, probe

BRIEF = Training(epochs=3, batch=32, rate=0.05)


def clusters(classes: int = 4, side: int | None = None) -> Split:
    """Gaussian clusters in 16 dimensions; of pixels in [0, 1] where a side is given."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(classes, 16, generator=generator)
    y = torch.arange(160) % classes
    x = centres[y] + 0.7 * torch.randn(160, 16, generator=generator)
    x = torch.sigmoid(x) if side else x
    examples = Examples(x=x, y=y, classes=classes, typical=-(x - centres[y]).norm(dim=1), side=side)
    return divided(examples, 0.6, np.random.default_rng(0))


BRIEF_RECIPES = {
    name: (
        replace(entry.recipe, steps=20, preferences=5)
        if name == "ibcl"
        else replace(entry.recipe, training=replace(entry.recipe.training, epochs=3, batch=32))
    )
    for name, entry in ENTRIES.items()
}


@pytest.mark.parametrize("name", ENTRIES)
def test_a_fit_depends_on_its_seed_alone(name: str):
    parts = clusters(side=4)
    first, again = (BRIEF_RECIPES[name].run(parts, Seeds(3)) for _ in range(2))
    torch.rand(5)  # the global generator plays no part
    assert first.figures == again.figures and first.curves == again.curves
    assert all(torch.equal(first.tensors[k], again.tensors[k]) for k in first.tensors)
    other = BRIEF_RECIPES[name].run(parts, Seeds(4))
    assert any(not torch.equal(first.tensors[k], other.tensors[k]) for k in first.tensors)
    assert ENTRIES[name].main in first.figures
    assert all(np.isfinite(v) for v in first.figures.values())


@pytest.mark.parametrize("loss", [CompSum(tau=0.5), CompSum(), CompSum(tau=1.5), Ldr(), OwnLdr()])
def test_losses_of_labels_learn_clusters(loss: object):
    recipe = Classify(loss=loss, training=Training(epochs=15, batch=32, rate=0.1))  # type: ignore[arg-type]
    assert recipe.run(clusters(), Seeds(0)).figures["accuracy"] > 0.9


def test_own_temperatures_of_labels_start_at_the_centre_and_stay_in_their_range():
    rule = Aldr(centre=2.0, alpha=2.0)
    loss = OwnLdr(rule=rule).begun(8)
    scores = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))
    label = torch.zeros(8, dtype=torch.int64)
    values = [loss(scores, label, torch.arange(8)) for _ in range(3)]
    assert not torch.equal(values[0], values[1])  # lambda moved after the first visit
    assert torch.allclose(values[2], values[1], atol=0.2)


def test_settings_by_dotted_or_short_name():
    recipe = with_settings(ENTRIES["ldr"].recipe, {"temperature": "1e0", "training.epochs": 5, "flips": 0.2})
    assert recipe.loss.temperature == 1.0 and recipe.training.epochs == 5 and recipe.flips == 0.2
    assert settings_of(recipe)["loss.temperature"] == 1.0
    for given, said in (
        ({"temprature": 1}, "did you mean"),
        ({"epochs": 1.5}, "training.epochs must be a whole number"),
        ({"rate": "fast"}, "training.rate must be a number"),
        ({"temperature": -1}, "temperature must be a positive number"),
    ):
        with pytest.raises(ValueError, match=said):
            with_settings(ENTRIES["ldr"].recipe, given)


def test_the_probe_finds_a_linear_rule_and_chance_in_noise():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(400, 6, generator=generator)
    y = (x[:, 0] + x[:, 1] > 0).long()
    assert probe(x[:200], y[:200], x[200:], y[200:], 2) > 0.95
    noise = torch.randint(2, (400,), generator=generator)
    assert 0.35 < probe(x[:200], noise[:200], x[200:], noise[200:], 2) < 0.65


def test_figures_of_a_classifier_by_hand():
    logits = torch.log(torch.tensor([[0.8, 0.2], [0.4, 0.6], [0.9, 0.1]]))
    examples = Examples(x=torch.zeros(3, 1), y=torch.tensor([0, 0, 0]), classes=2)
    found = classified(logits, examples)
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["ece"] == pytest.approx((0.2 + 0.6 + 0.1) / 3, abs=1e-6)
    assert found["nll"] == pytest.approx(-np.log([0.8, 0.4, 0.9]).mean(), abs=1e-6)


# adversarial ------------------------------------------------------------------------------------


def test_without_perturbation_or_weight_the_smooth_loss_is_comp_sum():
    parts = clusters()
    network = torch.nn.Linear(16, 4)
    draws = torch.Generator().manual_seed(0)
    plain = cross_entropy(network(parts.train.x), parts.train.y)
    for zero in ({"nu": 0.0}, {"gamma": 0.0}):
        loss = adversarial.Adversarial(tau=1.0, **zero)
        assert torch.allclose(loss.loss(network, parts.train, draws), plain, rtol=1e-5)
    full = adversarial.Adversarial(tau=1.0, nu=0.5, gamma=0.1).loss(network, parts.train, draws)
    assert bool(full > plain)


def test_attacks_stay_in_the_ball_and_among_pixels_and_lower_the_score():
    parts = clusters(side=4)
    network = torch.nn.Linear(16, 4)
    draws = torch.Generator().manual_seed(0)

    def loss(x: torch.Tensor) -> torch.Tensor:
        return cross_entropy(network(x), parts.test.y)

    attacked = adversarial.perturbed(network, parts.test, loss, 0.1, 10, draws)
    assert float((attacked - parts.test.x).abs().max()) <= 0.1 + 1e-6
    assert float(attacked.min()) >= 0 and float(attacked.max()) <= 1
    assert bool(loss(attacked) > loss(parts.test.x))
    assert all(p.grad is None for p in network.parameters())


# P2C ---------------------------------------------------------------------------------------------


def test_without_its_weights_p2c_is_cross_entropy_of_both_examples():
    parts = clusters()
    network = p2c.PreferenceNet(16, 8, 4, 3, Seeds(0))
    index = torch.arange(20)
    plain = p2c.P2c(preference=0.0, consistency=0.0, diversity=0.0, pairs="random")
    draws = [torch.Generator().manual_seed(5) for _ in range(2)]
    partner = plain.partners(network, parts.train, index, draws[0])
    assert bool((parts.train.y[partner] == parts.train.y[index]).all() and (partner != index).all())
    both = (cross_entropy(network(parts.train.x[rows]), parts.train.y[index]) for rows in (index, partner))
    assert plain.loss(network, parts.train, index, draws[1]).item() == pytest.approx(
        sum(loss.item() for loss in both) / 2, rel=1e-5
    )


def test_partners_are_those_on_which_the_heads_disagree():
    parts = clusters()
    network = p2c.PreferenceNet(16, 8, 4, 3, Seeds(0))
    index = torch.arange(40)

    def spread(pairs: p2c.Pairs) -> float:
        rule = p2c.P2c(pairs=pairs)
        other = rule.partners(network, parts.train, index, torch.Generator().manual_seed(0))
        with torch.no_grad():
            g = [
                network.preferences(network.encoder(parts.train.x[r]), parts.train.y[index])
                for r in (index, other)
            ]
        return float(torch.sigmoid(g[0] - g[1]).std(dim=1).mean())

    assert spread("disagreement") > spread("random")


def test_heads_learn_which_example_is_the_more_typical_and_an_example_alone_is_no_pair():
    recipe = p2c.P2c(
        training=Training(epochs=12, batch=16, rate=3e-3, optimizer="adam", weight_decay=0.0, decay=())
    )
    assert recipe.run(clusters(2), Seeds(0)).figures["preferred"] > 0.6
    parts = clusters(2)
    lonely = Examples(x=parts.train.x[:2], y=torch.tensor([0, 1]), classes=2, typical=torch.zeros(2))
    network = p2c.PreferenceNet(16, 8, 2, 3, Seeds(0))
    value = recipe.loss(network, lonely, torch.arange(2), torch.Generator().manual_seed(0))
    assert value.item() == pytest.approx(cross_entropy(network(lonely.x), lonely.y).item(), rel=1e-5)
    untold = replace(parts, train=replace(parts.train, typical=None))
    with pytest.raises(ValueError, match="p2c needs to know which example"):
        recipe.run(untold, Seeds(0))


# contrastive ------------------------------------------------------------------------------------


def test_similarities_of_two_views_by_hand():
    first = torch.eye(3)
    near, negatives = contrast.two_views(first, first)
    assert (
        near.tolist() == [1.0, 1.0, 1.0] and negatives.shape == (3, 4) and float(negatives.abs().max()) == 0
    )
    second = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    near, negatives = contrast.two_views(first, second)
    assert near.tolist() == [0.0, 0.0, 1.0] and sorted(negatives[0].tolist()) == [0.0, 0.0, 1.0, 1.0]


def test_views_are_the_images_moved_a_little():
    image = torch.zeros(200, 64)
    image[:, 27] = 1.0
    views = contrast.augmented(image, 8, torch.Generator().manual_seed(0))
    assert not torch.equal(views[0], views[1])
    mass = views.clamp(min=0.15).sub(0.15).view(-1, 8, 8).sum(dim=0)
    assert float(mass[2:5, 2:5].sum() / mass.sum()) > 0.8  # the pixel is at row 3, column 3


def test_all_negatives_and_the_hardest_share():
    generator = torch.Generator().manual_seed(0)
    near, negatives = torch.rand(6, generator=generator), torch.rand(6, 10, generator=generator)
    state = ExampleState(6, temperature=1.0, log_mean=0.0, velocity=0.0)
    index = torch.arange(6)
    whole, hard = (contrast.Contrast(hard=h).loss(near, negatives, index, state) for h in (1.0, 0.3))
    kept = hardest(negatives, 0.3)
    assert kept.sum(dim=1).tolist() == [3] * 6 and float(hard) < float(whole)


def test_own_temperatures_move_by_their_rule_and_are_kept_for_each_image():
    rule = OwnTemperatures(rho=0.4, start=0.1, rate=0.03, momentum=0.5)
    state = ExampleState(4, temperature=0.1, log_mean=0.0, velocity=0.0)
    negatives = torch.rand(2, 6, generator=torch.Generator().manual_seed(0)).double().float()
    index = torch.tensor([3, 0])
    tau = torch.full((2,), 0.1)
    log_mean = rule.averaged(negatives, tau, torch.zeros(2), torch.zeros(2, dtype=torch.bool))
    step = 0.5 * rule.slope(negatives, tau, log_mean).clamp(-3, 3)
    contrast.Contrast(own=rule).loss(torch.ones(2), negatives, index, state)
    assert torch.allclose(state.whole("temperature")[index], (tau - 0.03 * step).clamp(0.05, 1.0))
    assert state.whole("temperature")[[1, 2]].tolist() == pytest.approx([0.1, 0.1])
    assert state.read(torch.arange(4))["seen"].tolist() == [True, False, False, True]


def test_features_that_are_no_images_are_refused():
    with pytest.raises(ValueError, match="no images"):
        contrast.Contrast().run(clusters(), Seeds(0))


# distillation ------------------------------------------------------------------------------------


def test_each_head_has_the_gradient_of_its_own_loss_and_the_test_path_has_one():
    parts = clusters()
    student = distil.Student(16, 8, 4, Seeds(0))
    target = torch.randn(len(parts.train), 4, generator=torch.Generator().manual_seed(1))
    distil.DualHead(align=False).backward(student, parts.train.x, parts.train.y, target)
    both = {name: p.grad.clone() for name, p in student.named_parameters() if p.grad is not None}
    labels, teacher = (distil.Student(16, 8, 4, Seeds(0)) for _ in range(2))
    cross_entropy(labels(parts.train.x), parts.train.y).backward()
    distil.DualHead(heads="two", gamma=0.0, align=False).backward(
        teacher, parts.train.x, parts.train.y, target
    )
    for name, own in labels.named_parameters():
        other = dict(teacher.named_parameters())[name].grad
        expected = (0 if own.grad is None else own.grad) + other
        assert torch.allclose(both[name], expected, atol=1e-6), name
    assert all(p.grad is None for p in labels.teacher.parameters())
    assert all(bool((p.grad == 0).all()) for p in teacher.labels.parameters())
    before = student(parts.test.x)
    with torch.no_grad():
        for p in student.teacher.parameters():
            p.add_(1.0)
    assert torch.equal(student(parts.test.x), before)


def test_aligned_steps_never_descend_less_along_the_labels():
    parts = clusters()
    student = distil.Student(16, 8, 4, Seeds(0))
    cross_entropy(student(parts.train.x), parts.train.y).backward()
    ce = torch.cat(
        [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in student.parameters()]
    )
    for seed in range(5):
        target = 5 * torch.randn(len(parts.train), 4, generator=torch.Generator().manual_seed(seed))
        distil.DualHead(alpha=3.0).backward(student, parts.train.x, parts.train.y, target)
        total = torch.cat([p.grad.flatten() for p in student.parameters() if p.grad is not None])
        assert float(total @ ce) >= float(ce @ ce) * (1 - 1e-4)


# continual learning -------------------------------------------------------------------------------


def base(threshold: float = 0.0, tasks: int = 3, priors: int = 2) -> continual.KnowledgeBase:
    generator = torch.Generator().manual_seed(0)
    found = continual.KnowledgeBase()
    for _ in range(tasks):
        own = [
            continual.Posterior(
                mean=torch.randn(5, dtype=torch.float64, generator=generator),
                scale=torch.rand(5, dtype=torch.float64, generator=generator) + 0.1,
            )
            for _ in range(priors)
        ]
        found = found.added(own, threshold)
    return found


def test_models_of_preferences_are_linear_and_a_vertex_is_its_own_task():
    known = base()
    means = [torch.stack([q.mean for q in own]).mean(dim=0) for own in known.tasks]
    for i in range(3):
        assert torch.allclose(known.located(torch.eye(3, dtype=torch.float64)[i]).mean, means[i])
    w = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    assert torch.allclose(known.located(w).mean, sum(x * m for x, m in zip(w, means, strict=True)))
    for bad in ([0.5, 0.5], [0.5, 0.6, -0.1], [0.5, 0.6, 0.1]):
        with pytest.raises(ValueError, match="a preference"):
            known.located(torch.tensor(bad, dtype=torch.float64))


def test_the_threshold_keeps_all_or_as_many_as_there_are_priors():
    assert len(base(0.0).kept) == 6 and len(base(float("inf")).kept) == 2
    one = base(float("inf"))
    assert all(q in one.kept for own in one.tasks for q in own)
    with pytest.raises(ValueError, match="2 posteriors a task, got 1"):
        one.added(one.kept[:1], 0.0)


def test_intervals_are_nested_in_their_mass():
    q = base().kept[0]
    bounds = [continual.central_bounds(q, mass) for mass in (0.01, 0.5, 0.99)]
    for (low, high), (lower, higher) in pairwise(bounds):
        assert bool((lower < low).all() and (high < higher).all())
    assert torch.allclose(
        (bounds[2][1] - q.mean) / q.scale, torch.full((5,), 2.5758, dtype=torch.float64), atol=1e-3
    )
    with pytest.raises(ValueError, match="mass"):
        continual.central_bounds(q, 1.0)


def test_variational_inference_finds_the_posterior_of_a_gaussian_case():
    """With features 0 the likelihood is flat: the posterior is the prior."""
    prior = continual.Posterior(
        mean=torch.zeros(3, dtype=torch.float64), scale=torch.full((3,), 0.3).double()
    )
    generator = torch.Generator().manual_seed(0)
    x, y = torch.zeros(10, 3, dtype=torch.float64), torch.arange(10) % 2
    found = continual.Ibcl(steps=100).posterior(x, y, prior, generator)
    assert torch.allclose(found.mean, prior.mean, atol=0.02) and torch.allclose(
        found.scale, prior.scale, atol=0.02
    )


def test_two_tasks_at_least():
    with pytest.raises(ValueError, match="four classes or more"):
        continual.Ibcl().run(clusters(3), Seeds(0))
