"""Labelled examples: sets, splits, noise, a user's files and what is refused in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from equipoise.data.errors import DataError
from equipoise.worlds.labels import files
from equipoise.worlds.labels.examples import Examples, Split, divided, long_tailed, with_flips


def small(count: int = 60, classes: int = 3) -> Examples:
    y = torch.arange(count) % classes
    x = torch.randn(count, 4, generator=torch.Generator().manual_seed(0))
    return Examples(x=x, y=y, classes=classes, typical=x[:, 0])


def test_the_sets_are_those_of_scikit_learn():
    pytest.importorskip("sklearn")
    from equipoise.worlds.labels import sets

    digits, diabetes = sets.digits(), sets.diabetes()
    assert (len(digits), digits.classes, digits.side) == (1797, 10, 8)
    assert float(digits.x.min()) == 0.0 and float(digits.x.max()) == 1.0
    assert (len(diabetes), diabetes.classes) == (442, 2) and abs(int(diabetes.y.sum()) - 221) <= 1
    assert diabetes.typical is not None
    upper = (
        diabetes.y == 1
    )  # the most typical of the upper class is the largest measure, of the lower the smallest
    assert float(diabetes.typical[upper].min()) > -float(diabetes.typical[~upper].min()) - 1e-6


def test_splits_keep_the_classes_and_share_nothing():
    parts = divided(small(), 0.5, np.random.default_rng(0))
    assert torch.bincount(parts.train.y).tolist() == [10, 10, 10] == torch.bincount(parts.test.y).tolist()
    rows = {tuple(row) for row in parts.train.x.tolist()}
    assert not rows & {tuple(row) for row in parts.test.x.tolist()}
    with pytest.raises(ValueError, match="one part of 60 examples empty"):
        divided(small(), 1.0, np.random.default_rng(0))


def test_a_long_tail_falls_by_a_constant_factor():
    tailed = long_tailed(small(300), 81, 9, np.random.default_rng(0))
    assert torch.bincount(tailed.y).tolist() == [81, 27, 9]


def test_flips_change_the_share_of_labels_that_they_say():
    examples = small(6000)
    by_class = with_flips(examples, "class", 0.4, np.random.default_rng(0))
    moved = by_class.y != examples.y
    assert float(moved.float().mean()) == pytest.approx(0.4, abs=0.03)
    assert bool((by_class.y[moved] == (examples.y[moved] + 1) % 3).all())
    uniform = with_flips(examples, "uniform", 0.6, np.random.default_rng(0))
    steps = (uniform.y - examples.y) % 3
    assert torch.bincount(steps).tolist() == pytest.approx([2400, 1800, 1800], abs=150)
    assert with_flips(examples, "none", 0.0, np.random.default_rng(0)) is examples
    with pytest.raises(ValueError, match="noise is none, class or uniform"):
        with_flips(examples, "salt", 0.1, np.random.default_rng(0))


def test_examples_that_do_not_fit_are_refused():
    x, y = torch.zeros(3, 4), torch.tensor([0, 1, 1])
    for bad, said in (
        ({"y": y[:2]}, "do not fit"),
        ({"classes": 1}, r"labels must lie in 0\.\.0"),
        ({"typical": torch.zeros(2)}, "typical has shape"),
        ({"side": 3}, "need 9 features, got 4"),
    ):
        with pytest.raises(ValueError, match=said):
            Examples(**({"x": x, "y": y, "classes": 2} | bad))


# files -------------------------------------------------------------------------------------------


def test_a_table_with_all_its_columns(tmp_path: Path):
    path = tmp_path / "mine.csv"
    path.write_text("a,b,label,typical,test\n1,2,0,0.5,0\n3,4.5,1,-1,1\n5,6,1,0,0\n")
    found = files.read(path)
    assert isinstance(found, Split)
    assert found.train.x.tolist() == [[1.0, 2.0], [5.0, 6.0]] and found.test.x.tolist() == [[3.0, 4.5]]
    assert found.train.typical is not None and found.train.typical.tolist() == [0.5, 0.0]


def test_an_archive_is_the_same_as_a_table(tmp_path: Path):
    np.savez(
        tmp_path / "mine.npz", x=np.array([[1, 2], [3, 4]]), y=np.array([0, 1]), typical=np.array([0.5, -1])
    )
    found = files.read(tmp_path / "mine.npz")
    assert isinstance(found, Examples) and found.classes == 2
    assert found.x.tolist() == [[1.0, 2.0], [3.0, 4.0]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,label\n1,0\nhello,1\n", "mine.csv:3: `a` must be a number, and is 'hello'"),
        ("a,label\n1,0\n2,1.5\n", r"row 2.*a label must be a whole number"),
        ("a,label\n1,0\nnan,1\n", r"`a` must be a number"),
        ("a,label\n1,0\n2,2\n", "none has label 1"),
        ("a,label\n1,0\n2,0\n", "only 0"),
        ("label,test\n0,0\n1,1\n", "no feature"),
        ("a,label,test\n1,0,0\n2,1,2\n", "row 2.*`test` must be 0"),
        ("a,label,test\n1,0,0\n2,1,0\n", "1 for some examples"),
        ("a,b\n1,0\n2,1\n", "`label` must be a number, and is missing"),
    ],
)
def test_what_a_table_cannot_say_is_refused_with_its_row(tmp_path: Path, text: str, said: str):
    path = tmp_path / "mine.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=said) as refused:
        files.read(path)
    assert "mine.csv" in str(refused.value)


def test_archives_of_other_things_are_refused(tmp_path: Path):
    path = tmp_path / "mine.npz"
    for arrays, said in (
        ({"x": np.zeros((2, 2))}, "holds x and y"),
        ({"x": np.zeros(2), "y": np.zeros(2)}, r"x must be \[examples, features\]"),
        ({"x": np.zeros((2, 2)), "y": np.array([0, 1]), "typical": np.zeros(3)}, "`typical` has shape"),
        ({"x": np.full((2, 2), np.inf), "y": np.array([0, 1])}, "row 1.*not a finite number"),
        ({"x": np.array([["a"], ["b"]]), "y": np.array([0, 1])}, "not numbers"),
    ):
        np.savez(path, **arrays)
        with pytest.raises(DataError, match=said):
            files.read(path)
    np.savez(path, x=np.array([[object()], [object()]]), y=np.array([0, 1]))
    with pytest.raises(DataError, match="not an npz archive of plain arrays"):
        files.read(path)
    path.write_bytes(b"PK broken")
    with pytest.raises(DataError, match="not an npz archive"):
        files.read(path)
