"""Images in, pictures out: files with bad rows are refused, oracles by hand, distances of sets, PNG files."""

from __future__ import annotations

import io

import numpy as np
import pytest

from equipoise.worlds.diffusion.digits import ImageSettings
from equipoise.worlds.diffusion.images import IMAGE, read_images
from equipoise.worlds.diffusion.oracles import Classifier, HarmonicReward, RewardJudge, harmonic, ink
from equipoise.worlds.diffusion.pictures import grid
from equipoise.worlds.diffusion.sets import Features, FrechetJudge, VendiJudge, frechet, vendi

RNG = np.random.default_rng(0)
GOOD = RNG.uniform(-1, 1, size=(6, 8, 8)).astype(np.float32)
OUTSIDE, NOT_A_NUMBER = GOOD.copy(), GOOD.copy()
OUTSIDE[4, 2, 3], NOT_A_NUMBER[2, 0, 0] = 1.5, np.nan
PAIRS = np.array([[0, 1], [2, 3]])


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"classes": np.arange(6)}, "no array 'images'"),
        ({"images": GOOD, "labels": np.arange(6)}, "unknown array 'labels'"),
        ({"images": OUTSIDE}, "image 4 has a pixel of 1.5"),
        ({"images": NOT_A_NUMBER}, "image 2 has a pixel of nan"),
        ({"images": GOOD.astype(np.int64)}, "8-bit"),
        ({"images": GOOD[:, :7, :7]}, "even size"),
        ({"images": GOOD[:, :, :6]}, "squares"),
        ({"images": GOOD[:0]}, "M > 0"),
        ({"images": GOOD, "classes": np.arange(5)}, "one for each image"),
        ({"images": GOOD, "classes": np.array([0, 1, 0, -2, 1, 1])}, "image 3 has the class -2"),
        ({"images": GOOD, "classes": np.zeros(6, dtype=int)}, "one class"),
        ({"images": GOOD, "pairs": np.array([[0, 1], [2, 6]])}, "recorded pair 1 compares examples 2 and 6"),
        (
            {"images": GOOD, "pairs": PAIRS, "label": np.array([1.0, 1.2])},
            "recorded pair 1 has the label 1.2",
        ),
        ({"images": GOOD, "pairs": PAIRS, "label": np.ones(3)}, "2 numbers"),
        ({"images": GOOD, "pairs": PAIRS[:, :1]}, "integers"),
        ({"images": GOOD, "label": np.ones(2)}, "without pairs"),
    ],
)
def test_a_file_with_a_bad_row_is_refused_with_the_row_and_the_reason(arrays, words, tmp_path):
    path = tmp_path / "images.npz"
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=words) as refused:
        read_images(path)
    assert str(path) in str(refused.value)


def test_objects_and_broken_files_are_refused(tmp_path):
    path = tmp_path / "images.npz"
    np.savez(path, images=np.array([{"code": 1}], dtype=object))
    with pytest.raises(ValueError, match="plain arrays"):
        read_images(path)
    path.write_bytes(b"PK no archive")
    with pytest.raises(ValueError, match="plain arrays"):
        read_images(path)


def test_bytes_and_numbers_are_read_alike(tmp_path):
    bytes_, labels = RNG.integers(0, 256, size=(6, 3, 8, 8), dtype=np.uint8), np.array([0, 1, 2, 0, 1, 2])
    np.savez(tmp_path / "a.npz", images=bytes_, classes=labels, pairs=PAIRS)
    np.savez(tmp_path / "b.npz", images=bytes_ / 127.5 - 1)
    first, second = read_images(tmp_path / "a.npz"), read_images(tmp_path / "b.npz")
    assert np.allclose(first.values, second.values, atol=1e-6) and first.values.dtype == np.float32
    assert first.classes == 3 and second.labels is None and second.recorded is None
    assert first.recorded is not None and first.recorded.prob.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("wrong", [{"pairs": 0}, {"top": 0.0}, {"sampling": 0}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ImageSettings(**wrong)


# oracles ------------------------------------------------------------------------------------------


def test_ink_is_the_mean_brightness_and_labels_follow_it():
    images = np.stack([np.full((1, 4, 4), value, dtype=np.float32) for value in (-1, 0, 1)])
    assert ink(images).tolist() == [0.0, 0.5, 1.0]
    none = np.zeros(3, dtype=np.intp)
    order = {IMAGE: images}, {IMAGE: images[[1, 1, 1]]}
    assert RewardJudge("ink", ink).prefer(none, *order).tolist() == [0.0, 0.5, 1.0]
    noisy = RewardJudge("ink", ink, rationality=2.0).prefer(none, *order)
    assert noisy == pytest.approx([1 / (1 + np.e), 0.5, np.e / (1 + np.e)])


def test_the_harmonic_mean_lies_between_rises_in_both_and_vanishes_with_either():
    first, second = RNG.uniform(0.01, 1, 500), RNG.uniform(0.01, 1, 500)
    for share in (0.1, 0.5, 0.9):
        found = harmonic(first, second, share)
        assert (found >= np.minimum(first, second) - 1e-12).all()
        assert (found <= np.maximum(first, second) + 1e-12).all()
        assert (harmonic(first * 1.01, second, share) > found).all()
        assert (harmonic(first, second * 1.01, share) > found).all()
        assert harmonic(np.array([0.0]), np.array([0.9]), share) == 0  # the arithmetic mean would not be
    assert harmonic(first, second, 1.0) is first and harmonic(first, second, 0.0) is second


def test_a_subject_s_own_image_is_most_like_it():
    classifier = Classifier(RNG.normal(size=(3, 16)), np.zeros(3))
    images = RNG.uniform(-1, 1, size=(20, 1, 4, 4)).astype(np.float32)
    reward = HarmonicReward(images[:1], classifier, target=1, share=1.0)
    assert reward(images).argmax() == 0 and reward(images)[0] == pytest.approx(1)
    text = replace_share(reward, 0.0)(images)
    assert np.array_equal(text, (1 + classifier.probabilities(images)[:, 1]) / 2)
    with pytest.raises(ValueError, match="lambda"):
        replace_share(reward, 1.5)
    with pytest.raises(ValueError, match="class 7"):
        HarmonicReward(images[:1], classifier, target=7)


def replace_share(reward: HarmonicReward, share: float) -> HarmonicReward:
    return HarmonicReward(reward.subject, reward.classifier, reward.target, share)


# sets ---------------------------------------------------------------------------------------------


def test_the_frechet_distance_of_gaussians_is_the_formula_s():
    """Diagonal Gaussians, whole sets moved and scaled: |mu|^2 + sum (s1 - s2)^2, exactly."""
    x = RNG.normal(size=(400, 3))
    x = (x - x.mean(axis=0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T))).T  # whitened: covariance I
    scale, shift = np.array([2.0, 0.5, 3.0]), np.array([1.0, -2.0, 0.0])
    assert frechet(x, x) == pytest.approx(0, abs=1e-9)
    assert frechet(x * scale + shift, x) == pytest.approx(5.0 + ((scale - 1) ** 2).sum(), rel=1e-9)
    assert frechet(x * scale, x + shift) == pytest.approx(frechet(x + shift, x * scale), rel=1e-9)
    with pytest.raises(ValueError, match="two images"):
        frechet(x[:1], x)


@pytest.mark.parametrize("count", [1, 4, 9])
def test_vendi_counts_different_items(count):
    assert vendi(np.tile([[1.0, 2.0, 3.0]], (count, 1))) == pytest.approx(1)
    assert vendi(np.eye(9)[:count]) == pytest.approx(count)
    assert vendi(np.repeat(np.eye(9)[:count], 5, axis=0)) == pytest.approx(count)


def test_an_oracle_of_sets_prefers_the_exemplars_and_diversity_does_not_compare_single_images():
    images = RNG.uniform(-1, 1, size=(60, 1, 4, 4)).astype(np.float32)
    features = Features.fitted(images, count=4)
    moved = images[:30] + 3 * features.axes[:, 0].reshape(1, 1, 4, 4)  # four standard deviations
    near, far = {IMAGE: images[:30]}, {IMAGE: moved.astype(np.float32)}
    judge = FrechetJudge(features, features.of(images))
    assert judge.set_reward(near) > judge.set_reward(far)
    assert judge.prefer(np.zeros(30, dtype=np.intp), near, far).mean() > 0.9
    diverse = VendiJudge(features)
    assert diverse.set_reward(near) > diverse.set_reward({IMAGE: images[[0] * 30]})
    with pytest.raises(ValueError, match="sets"):
        diverse.prefer(np.zeros(1, dtype=np.intp), near, far)


# pictures -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_a_grid_is_a_png_whose_pixels_are_the_images(channels):
    from matplotlib.image import imread

    images = np.full((5, channels, 4, 4), -1, dtype=np.float32)
    images[3] = 1
    pixels = imread(io.BytesIO(grid(images, columns=2)))
    assert pixels.shape[:2] == (3 * 26 + 2, 2 * 26 + 2)
    assert pixels[2, 2].max() == 0 and pixels[2 + 26, 2 + 26].min() == 1  # the first, and the fourth


def test_images_of_two_channels_are_not_drawn():
    with pytest.raises(ValueError, match="2 channels"):
        grid(np.zeros((1, 2, 4, 4), dtype=np.float32))
