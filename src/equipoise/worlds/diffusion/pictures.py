"""Grids of images as PNG files."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import numpy.typing as npt

ENLARGED, MARGIN = 6, 2  # pixels of the grid for one of an image, and between images
BACKGROUND = 90


def grid(images: npt.NDArray[np.float32], columns: int = 8) -> bytes:
    """Images [N, C, H, W] in [-1, 1] in rows of `columns`, as a grey or colour PNG.

    Raises ValueError for images of other than 1 or 3 channels.
    """
    count, channels = images.shape[:2]
    if channels not in (1, 3):
        raise ValueError(f"only grey and colour images are drawn, these have {channels} channels")
    rows = -(-count // columns)
    pixels = ((images.clip(-1, 1) + 1) * 127.5).round().astype(np.uint8).transpose(0, 2, 3, 1)
    large = pixels.repeat(ENLARGED, axis=1).repeat(ENLARGED, axis=2)
    height, width = large.shape[1] + MARGIN, large.shape[2] + MARGIN
    sheet = np.full((rows * height + MARGIN, columns * width + MARGIN, channels), BACKGROUND, dtype=np.uint8)
    for number, image in enumerate(large):
        top, left = MARGIN + number // columns * height, MARGIN + number % columns * width
        sheet[top : top + image.shape[0], left : left + image.shape[1]] = image
    return png(sheet)


def png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """A PNG file of pixels [H, W, 1 or 3], 8 bits each (ISO 15948, filter 0)."""
    height, width, channels = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if channels == 1 else 2, 0, 0, 0)
    lines = np.concatenate([np.zeros((height, 1), dtype=np.uint8), pixels.reshape(height, -1)], axis=1)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )
