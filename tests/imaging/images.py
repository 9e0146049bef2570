"""Small sets of images with known content, and which published sets are here."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from imaging import datasets
from imaging.datasets import Images, ImageSets

needs_fashion_mnist = pytest.mark.skipif(
    not datasets.FASHION_MNIST.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed"
)
needs_emoji = pytest.mark.skipif(
    not datasets.EMOJI_FONT.is_file(), reason="Debian's package fonts-noto-color-emoji is not installed"
)


def discs(n: int, *, size: int = 16, channels: int = 1, seed: int = 0) -> Images:
    """Bright discs and rings at random places, classes 0 and 1 in turn."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    centre = rng.uniform(0.35, 0.65, (n, 2)) * size
    radius = rng.uniform(0.2, 0.3, n) * size
    r = np.hypot(y - centre[:, 0, None, None], x - centre[:, 1, None, None]) / radius[:, None, None]
    labels = np.arange(n) % 2
    drawn = np.where(labels[:, None, None] == 0, r < 1, np.abs(r - 1) < 0.25) * 200
    pixels = (drawn + rng.integers(0, 50, drawn.shape)).astype(np.uint8)
    return Images("discs", np.repeat(pixels[:, None], channels, axis=1), labels.astype(np.int64), ("disc", "ring"))


def disc_sets(n: int = 96, **options: int) -> ImageSets:
    """Discs to learn from and as many others to judge with."""
    return ImageSets(discs(n, seed=1, **options), discs(n, seed=2, **options))


def write_idx(path: Path, values: NDArray[np.uint8]) -> None:
    """An idx file of bytes, gzipped if its name ends in .gz."""
    content = struct.pack(">HBB", 0, 8, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_digits(folder: Path, *, n: int = 12, ending: str = ".gz", side: int = 28) -> NDArray[np.uint8]:
    """Both halves of a set of idx files; returns the training pixels."""
    rng = np.random.default_rng(3)
    pixels = rng.integers(0, 256, (n, side, side), dtype=np.uint8)
    for part in ("train", "t10k"):
        write_idx(folder / f"{part}-images-idx3-ubyte{ending}", pixels)
        write_idx(folder / f"{part}-labels-idx1-ubyte{ending}", (np.arange(n) % 10).astype(np.uint8))
    return pixels


def write_pictures(folder: Path, n: int = 4, *, height: int = 20, width: int = 24, first: int = 0) -> None:
    """PNG files, each of one colour."""
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(n):
        Image.new("RGB", (width, height), (10 * k, 100, 255 - 10 * k)).save(folder / f"{first + k:03d}.png")
