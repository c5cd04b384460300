"""Data sets of the labels world by name: digits and diabetes of scikit-learn, or a file of the user's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import numpy as np
import torch

from equipoise.worlds.labels.examples import Examples


def digits() -> Examples:
    """1,797 handwritten digits of 8 x 8 pixels in [0, 1], ten classes (scikit-learn's load_digits)."""
    found = _sklearn().load_digits()
    x = torch.from_numpy(np.asarray(found.data / 16, dtype=np.float32))
    return Examples(x=x, y=torch.from_numpy(found.target.astype(np.int64)), classes=10, side=8)


def diabetes() -> Examples:
    """442 patients, ten standardised features; the class is whether the disease progressed by more than the median.

    The continuous measure says which of two patients of a class is the more typical: the larger of the upper class, the
    smaller of the lower (scikit-learn's load_diabetes).
    """
    found = _sklearn().load_diabetes()
    x = (found.data - found.data.mean(axis=0)) / found.data.std(axis=0)
    target = (found.target - found.target.mean()) / found.target.std()
    y = (found.target > np.median(found.target)).astype(np.int64)
    return Examples(
        x=torch.from_numpy(np.asarray(x, dtype=np.float32)),
        y=torch.from_numpy(y),
        classes=2,
        typical=torch.from_numpy(np.asarray(np.where(y == 1, target, -target), dtype=np.float32)),
    )


SETS: Mapping[str, Callable[[], Examples]] = {"digits": digits, "diabetes": diabetes}


def _sklearn() -> Any:
    try:
        return import_module("sklearn.datasets")
    except ImportError as error:
        raise ValueError(
            "the digits and diabetes data come with scikit-learn, which is not installed: "
            "pip install 'equipoise[classify]', or give a file of your own"
        ) from error
