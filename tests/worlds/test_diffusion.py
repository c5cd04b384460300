"""Diffusion models as policies: the schedule against an exact denoiser, and the denoising score's identities."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from equipoise.core.objectives import Dpo
from equipoise.core.scores import Scores
from equipoise.worlds.diffusion.images import IMAGE
from equipoise.worlds.diffusion.schedule import Schedule
from equipoise.worlds.diffusion.score import DdimSampler, DenoisingScore
from equipoise.worlds.diffusion.unet import UNet
from equipoise.worlds.scored.task import Draw

SCHEDULE, UNET = Schedule(), UNet(width=8)
NONE = torch.zeros(6, dtype=torch.int64)


def exact(x, levels, mean=0.3, spread=0.2):
    """E[eps | x_t] of images whose pixels are N(mean, spread^2), independent."""
    kept = SCHEDULE.kept[levels].to(x).reshape(-1, 1, 1, 1)
    return (1 - kept).sqrt() * (x - kept.sqrt() * mean) / (kept * spread**2 + 1 - kept)


def parameters(seed: int, size: float = 0.1) -> dict[str, torch.Tensor]:
    """A denoiser at random, its last convolution too."""
    draw = torch.Generator().manual_seed(seed)
    start = UNET.start(0)
    return {n: p + size * torch.randn(p.shape, generator=draw) for n, p in start.items()}


def images(count: int = 6, width: int = 2) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(5)
    return {IMAGE: torch.rand(count, width, 1, 8, 8, generator=draw) * 2 - 1}


# the schedule -------------------------------------------------------------------------------------


def test_forward_noise_is_undone_by_its_inverse_and_keeps_unit_variance():
    draw = torch.Generator().manual_seed(0)
    noise = torch.randn(4000, 1, 4, 4, generator=draw, dtype=torch.float64)
    levels = torch.randint(0, 1000, (4000,), generator=draw)
    noised = SCHEDULE.noised(torch.ones_like(noise), noise, levels)
    assert torch.allclose(SCHEDULE.noise_of(torch.ones_like(noise), noised, levels), noise, atol=1e-6)
    assert SCHEDULE.kept[0] > 0.9999 and SCHEDULE.kept[-1] < 1e-6
    assert bool((SCHEDULE.kept.diff() < 0).all())


def test_ddim_samples_of_an_exact_denoiser_have_the_data_s_mean_and_spread():
    draw = torch.Generator().manual_seed(1)
    noise = torch.randn(500, 1, 4, 4, generator=draw, dtype=torch.float64)
    found = SCHEDULE.sampled(exact, noise, 100, clip=False)
    assert found.mean().item() == pytest.approx(0.3, abs=0.01)
    assert found.std().item() == pytest.approx(0.2, abs=0.02)


def test_inversion_is_deterministic_and_returns_the_better_the_finer_its_grid():
    draw = torch.Generator().manual_seed(2)
    x = 0.3 + 0.2 * torch.randn(64, 1, 8, 8, generator=draw, dtype=torch.float64)

    def error(steps: int) -> float:
        up = SCHEDULE.inverted(exact, x, 500, steps)
        assert torch.equal(up, SCHEDULE.inverted(exact, x, 500, steps))
        return float((SCHEDULE.sampled(exact, up, steps, top=500, clip=False) - x).square().mean())

    errors = [error(steps) for steps in (5, 10, 20, 50)]
    assert errors == sorted(errors, reverse=True) and errors[-1] < errors[0] / 20


def test_the_noise_of_a_single_inversion_step_is_the_model_s_output_at_the_image():
    x = torch.rand(8, 1, 8, 8, dtype=torch.float64)
    up = SCHEDULE.inverted(exact, x, 700, 1)
    levels = torch.full((8,), 700)
    assert torch.allclose(
        SCHEDULE.noise_of(x, up, levels), exact(x, torch.zeros(8, dtype=torch.int64)), atol=1e-9
    )


def test_eta_adds_noise_of_ddim_s_deviation():
    x = torch.zeros(4000, 1, 4, 4, dtype=torch.float64)
    still = SCHEDULE.inverted(exact, x, 100, 10)
    moved = SCHEDULE.inverted(exact, x, 100, 10, eta=0.5, draw=torch.Generator().manual_seed(3))
    assert torch.equal(still, moved)  # the step from the image has none: nothing of it is noise
    assert SCHEDULE.deviation(-1, 100) == 0
    one, two = SCHEDULE.kept[100].item(), SCHEDULE.kept[200].item()
    by_hand = ((1 - one) / (1 - two) * (1 - two / one)) ** 0.5
    assert SCHEDULE.deviation(100, 200) == pytest.approx(by_hand, rel=1e-12)


# the score ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [{}, {"noise": "inversion"}, {"space": "encoder"}])
def test_a_twin_of_equal_parameters_has_equal_scores_and_the_loss_is_log_2(form):
    score = DenoisingScore(unet=UNET, encoder=parameters(9), **form)
    own = {name: value.requires_grad_() for name, value in parameters(1).items()}
    frozen = {name: value.detach() for name, value in own.items()}
    draw = Draw(7, frozen)
    live = score(own, images(), NONE, draw)
    with torch.no_grad():
        twin = score(frozen, images(), NONE, draw)
    assert torch.equal(live.detach(), twin)
    loss = Dpo(beta=2000.0)(Scores(logp=live, anchors={"reference": twin})).value
    assert torch.allclose(loss, torch.full_like(loss, float(np.log(2))), atol=1e-7)
    gradient = torch.autograd.grad(loss.mean(), list(own.values()))
    assert sum(float(g.square().sum()) for g in gradient) > 0


def test_dpo_s_margin_is_diffusion_dpo_s_by_hand():
    score, draw = DenoisingScore(unet=UNET), Draw(3)
    policy, reference, examples = parameters(1), parameters(2), images()
    batch = Scores(
        logp=score(policy, examples, NONE, draw),
        anchors={"reference": score(reference, examples, NONE, draw)},
    )
    generator = draw.generator()
    levels = torch.randint(0, 1000, (6, 1), generator=generator)[:, 0]
    noise = torch.randn((6, 1, 1, 8, 8), generator=generator)[:, 0]

    def apart(side: int) -> torch.Tensor:
        noised = SCHEDULE.noised(examples[IMAGE][:, side], noise, levels)
        e = [
            (noise - UNET.predict(p, noised, levels)).square().mean(dim=(1, 2, 3))
            for p in (policy, reference)
        ]
        return e[0] - e[1]

    margin = -(50.0 / 2) * (apart(0) - apart(1))
    assert torch.allclose(Dpo(beta=50.0)(batch).metrics["margin"], margin, atol=1e-4, rtol=1e-4)


def test_noise_is_shared_within_a_pair_and_not_where_it_is_asked_not_to_be():
    same = images(width=1)
    pair = {IMAGE: same[IMAGE].expand(-1, 2, -1, -1, -1)}
    shared = DenoisingScore(unet=UNET)(parameters(1), pair, NONE, Draw(1))
    apart = DenoisingScore(unet=UNET, shared=False)(parameters(1), pair, NONE, Draw(1))
    assert torch.equal(shared[:, 0], shared[:, 1])
    assert not torch.isclose(apart[:, 0], apart[:, 1]).any()


def test_inpo_with_random_noise_is_diffusion_dpo():
    plain, other = DenoisingScore(unet=UNET), DenoisingScore(unet=UNET, noise="random", steps=3, eta=0.7)
    found = [score(parameters(1), images(), NONE, Draw(1, parameters(2))) for score in (plain, other)]
    assert torch.equal(*found)


def test_inversion_follows_the_trained_policy_for_its_twins_too():
    score = DenoisingScore(unet=UNET, noise="inversion")
    policy, reference = parameters(1), parameters(2)
    followed = score(reference, images(), NONE, Draw(4, policy))
    of_its_own = score(reference, images(), NONE, Draw(4))
    assert not torch.allclose(followed, of_its_own)
    noise = score.forward(policy, images()[IMAGE], Draw(4).generator())
    assert torch.equal(followed, -0.5 * score.errors(reference, noise))


def test_ncp_with_the_identity_as_its_encoder_is_diffusion_dpo_with_a_weight_by_level(monkeypatch):
    monkeypatch.setattr(UNet, "features", lambda self, p, x, t: x.flatten(start_dim=1))
    score = DenoisingScore(unet=UNET, space="encoder", encoder={})
    forward = score.forward({}, images()[IMAGE], Draw(2).generator())
    seen = score.errors(parameters(1), forward)
    plain = replace(score, space="pixel").errors(parameters(1), forward)
    alpha, kept = SCHEDULE.alpha[forward.levels], SCHEDULE.kept[forward.levels]
    weight = ((1 - alpha) / ((1 - kept) * alpha).sqrt()).square()
    assert torch.allclose(seen.double(), weight * plain.double(), rtol=1e-3)


def test_ncp_is_0_for_the_right_noise_and_its_gradient_passes_the_encoder_by():
    encoder = {name: value.requires_grad_() for name, value in parameters(9).items()}
    score = DenoisingScore(unet=UNET, space="encoder", encoder={n: p.detach() for n, p in encoder.items()})
    forward = score.forward({}, images()[IMAGE], Draw(2).generator())
    assert torch.equal(score.perceived(forward, forward.noise), score.perceived(forward, forward.noise))
    own = {name: value.requires_grad_() for name, value in parameters(1).items()}
    score.errors(own, forward).sum().backward()
    assert all(value.grad is None for value in encoder.values())
    assert any(float(value.grad.abs().sum()) > 0 for value in own.values())


def test_the_encoder_s_space_needs_an_encoder():
    with pytest.raises(ValueError, match="encoder"):
        DenoisingScore(unet=UNET, space="encoder")


def test_samples_are_addressed_by_their_seed():
    sampler = DdimSampler(unet=UNET, steps=2)
    nothing = np.zeros(3, dtype=np.intp)
    first, again, other = (sampler.sample(parameters(1), nothing, seed)[IMAGE] for seed in (1, 1, 2))
    assert first.shape == (3, 1, 8, 8) and np.abs(first).max() <= 1
    assert np.array_equal(first, again) and not np.array_equal(first, other)


@pytest.mark.parametrize(("channels", "size", "width"), [(1, 7, 16), (1, 2, 16), (3, 8, 12)])
def test_a_denoiser_of_no_such_size_is_refused(channels, size, width):
    with pytest.raises(ValueError, match=r"size|multiple"):
        UNet(channels=channels, size=size, width=width)
