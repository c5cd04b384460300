"""Images of a diffusion world: the digits of scikit-learn, or a file of one's own, checked image by image."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, field
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from equipoise.worlds.scored.task import Recorded

IMAGE = "image"  # the one array of an example: [C, H, W] in [-1, 1], single precision
NEEDS_SCIKIT_LEARN = "the digits and the classifier need scikit-learn: pip install 'equipoise[diffusion]'"
ARRAYS = {
    "images": "[M, H, W] or [M, C, H, W], 8-bit integers, or numbers in [-1, 1]",
    "classes": "[M] class of each image, from 0, optional",
    "pairs": "[N, 2] indices of compared images, optional",
    "label": "[N] probability that the first of a pair is preferred, optional; without it the first is",
}

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Images:
    """Images and what is known of them.

    values     [M, C, H, W] in [-1, 1].
    labels     [M] class of each, or None.
    recorded   comparisons of them, or None.
    """

    values: Array
    labels: npt.NDArray[np.intp] | None = None
    recorded: Recorded | None = field(default=None, repr=False)

    @property
    def classes(self) -> int:
        return 0 if self.labels is None else int(self.labels.max()) + 1

    @property
    def digest(self) -> str:
        """Hash of the pixels."""
        return sha256(
            np.ascontiguousarray(self.values).tobytes() + str(self.values.shape).encode()
        ).hexdigest()


def digits() -> Images:
    """The 1,797 digits of scikit-learn, 8x8, in [-1, 1]. Raises ValueError if it is not installed."""
    values, labels = scikit_learn("datasets").load_digits(return_X_y=True)
    pixels = (values.reshape(-1, 1, 8, 8) / 8 - 1).astype(np.float32)
    return Images(pixels, labels.astype(np.intp))


def scikit_learn(module: str) -> Any:
    """A module of scikit-learn. Raises ValueError if it is not installed."""
    try:
        return import_module(f"sklearn.{module}")
    except ImportError as error:
        raise ValueError(NEEDS_SCIKIT_LEARN) from error


def read_images(path: Path) -> Images:
    """Read a .npz file with the arrays of `ARRAYS`; no pickled objects are read.

    Raises ValueError with the file, the array and the first bad row.
    """
    found = _arrays(path)
    stray = sorted(found.keys() - ARRAYS.keys())
    if "images" not in found or stray:
        what = f"has an unknown array {stray[0]!r}" if stray else "has no array 'images'"
        known = "; ".join(f"{name}: {words}" for name, words in ARRAYS.items())
        raise ValueError(f"{path} {what}; its arrays are {known}")
    values = _pixels(path, found["images"])
    labels = found.get("classes")
    if labels is not None:
        labels = _labels(path, labels, len(values))
    return Images(values, labels, _pairs(path, values, found))


def _arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (zipfile.BadZipFile, ValueError, EOFError, AttributeError) as error:
        raise ValueError(f"{path} is not an intact .npz file of plain arrays: {error}") from error


def _pixels(path: Path, images: npt.NDArray[Any]) -> Array:
    if images.ndim == 3:
        images = images[:, None]
    if images.ndim != 4 or not len(images):
        raise ValueError(
            f"{path}: images must be [M, H, W] or [M, C, H, W] with M > 0, got {list(images.shape)}"
        )
    if images.shape[2] != images.shape[3] or images.shape[2] % 2 or images.shape[2] < 4:
        raise ValueError(
            f"{path}: images must be squares of an even size of at least 4, got {images.shape[2]} x {images.shape[3]}; "
            "crop or pad them"
        )
    if images.dtype == np.uint8:
        return (images / np.float32(127.5) - 1).astype(np.float32)
    if not np.issubdtype(images.dtype, np.floating):
        raise ValueError(f"{path}: images are {images.dtype}; give 8-bit integers, or numbers in [-1, 1]")
    outside = ~((images >= -1) & (images <= 1))  # also of numbers that are none
    if outside.any():
        row = int(outside.reshape(len(images), -1).any(axis=1).argmax())
        value = images[row][outside[row]][0]
        raise ValueError(f"{path}: image {row} has a pixel of {value}, outside [-1, 1]; scale the images")
    return images.astype(np.float32)


def _labels(path: Path, labels: npt.NDArray[Any], count: int) -> npt.NDArray[np.intp]:
    if labels.shape != (count,) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"{path}: classes must be {count} integers, one for each image, got {list(labels.shape)} {labels.dtype}"
        )
    if labels.min() < 0:
        row = int((labels < 0).argmax())
        raise ValueError(f"{path}: image {row} has the class {labels[row]}; they are counted from 0")
    if len(np.unique(labels)) < 2:
        raise ValueError(f"{path}: all images have one class; leave classes out")
    return labels.astype(np.intp)


def _pairs(path: Path, values: Array, found: dict[str, npt.NDArray[Any]]) -> Recorded | None:
    if "pairs" not in found:
        if "label" in found:
            raise ValueError(f"{path}: label without pairs; it is the label of a pair")
        return None
    pairs = found["pairs"]
    if pairs.ndim != 2 or pairs.shape[1] != 2 or not len(pairs) or not np.issubdtype(pairs.dtype, np.integer):
        raise ValueError(f"{path}: pairs must be integers [N, 2], got {list(pairs.shape)} {pairs.dtype}")
    prob = np.asarray(found.get("label", np.ones(len(pairs))), dtype=np.float64)
    if prob.shape != (len(pairs),):
        raise ValueError(
            f"{path}: label must be {len(pairs)} numbers, one for each pair, got {list(prob.shape)}"
        )
    try:
        return Recorded(examples={IMAGE: values}, pairs=pairs.astype(np.intp), prob=prob)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
