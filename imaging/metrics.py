"""How far a set of images is from another: Fréchet distance, precision and recall, power by frequency.

Every measure stands beside its floor, the same measure of real images that were not learned from. A Fréchet distance
falls with the number of images, so a value and its floor are of equal numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy import fft

from imaging.datasets import Images, ImageSets
from imaging.errors import ImagingError
from imaging.features import Features

__all__ = [
    "frechet_distance",
    "inception_features",
    "judge",
    "precision_recall",
    "radial_spectrum",
    "spectrum_distance",
]

Array = NDArray[np.float64]

_CHUNK = 1024
_NEIGHBOURS = 3
_MOST_COMPARED = 10_000


def frechet_distance(x: Array, y: Array) -> float:
    """‖μ_x − μ_y‖² + tr(Σ_x + Σ_y − 2 (Σ_x^½ Σ_y Σ_x^½)^½): the squared 2-Wasserstein distance of fitted Gaussians.

    Args:
        x: features (n, d), n ≥ 2.
        y: features (m, d), m ≥ 2.
    """
    if min(len(x), len(y)) < 2:
        raise ValueError(f"a covariance needs at least 2 rows, got {len(x)} and {len(y)}")
    s_x, s_y = (np.atleast_2d(np.cov(z, rowvar=False)) for z in (x, y))
    values, vectors = np.linalg.eigh(s_x)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    overlap = np.sqrt(np.linalg.eigvalsh(root @ s_y @ root).clip(0)).sum()
    gap = x.mean(0) - y.mean(0)
    return max(0.0, float(gap @ gap + np.trace(s_x) + np.trace(s_y) - 2 * overlap))


def _squared_distances(x: Array, y: Array) -> Iterator[tuple[slice, Array]]:
    """‖x_i − y_j‖² for runs of rows of x, (≤ 1024, m) at a time."""
    norms = (y**2).sum(1)
    for k in range(0, len(x), _CHUNK):
        part = x[k : k + _CHUNK]
        yield slice(k, k + len(part)), ((part**2).sum(1)[:, None] + norms - 2 * part @ y.T).clip(0)


def _covered(points: Array, centres: Array, k: int) -> float:
    """Share of points within the k-th nearest neighbour's distance of some centre (Kynkäänniemi et al. 2019, eq. 1)."""
    radii = np.empty(len(centres))
    for rows, d in _squared_distances(centres, centres):
        d[np.arange(len(d)), np.arange(rows.start, rows.stop)] = np.inf  # a point is not its own neighbour
        radii[rows] = np.partition(d, k - 1, axis=1)[:, k - 1]
    return float(np.mean(np.concatenate([(d <= radii).any(1) for _, d in _squared_distances(points, centres)])))


def precision_recall(real: Array, made: Array, *, k: int = _NEIGHBOURS) -> tuple[float, float]:
    """Share of made images that lie among real ones, and of real ones among made ones, by k nearest neighbours.

    Args:
        real: features (n, d), n > k.
        made: features (m, d), m > k.
        k: the neighbour whose distance is the radius of a point's ball.
    """
    if min(len(real), len(made)) <= k:
        raise ValueError(f"{k} neighbours need more than {k} images, got {len(real)} and {len(made)}")
    return _covered(made, real, k), _covered(real, made, k)


def radial_spectrum(images: Images) -> Array:
    """Mean squared coefficient of the orthonormal 2-D DCT of the values, by rounded radius √(p² + q²), (R,).

    Frequencies p and q count half-periods across the image; radius 0 is the squared mean.
    """
    _, height, width = images.shape
    power = np.zeros((height, width))
    for k in range(0, len(images), _CHUNK):
        values = images.values(slice(k, k + _CHUNK)).numpy().astype(np.float64)
        power += (fft.dctn(values, axes=(2, 3), norm="ortho") ** 2).mean(1).sum(0)
    p, q = np.ogrid[:height, :width]
    radius = np.rint(np.hypot(p, q)).astype(np.int64).ravel()
    return np.bincount(radius, weights=power.ravel()) / np.bincount(radius) / len(images)


def spectrum_distance(x: Array, y: Array) -> float:
    """Root mean square over the radii of 10 log₁₀(x/y), in dB; 0 for equal spectra."""
    tiny = np.finfo(np.float64).tiny
    return float(np.sqrt(np.mean((10 * np.log10((x + tiny) / (y + tiny))) ** 2)))


def inception_features(images: Images, weights: Path) -> Array:
    """The 2,048 features of Inception v3 that FID is defined by, through the package ``torch-fidelity``.

    Args:
        images: of any size; they are resized as FID prescribes.
        weights: ``weights-inception-2015-12-05-6726825d.pth``, published with torch-fidelity; not shipped.

    Raises:
        ImagingError: the package or the weights are absent.
    """
    if not weights.is_file():
        raise ImagingError(f"{weights} is not there: FID needs the Inception weights published with torch-fidelity")
    try:
        from torch_fidelity import FeatureExtractorInceptionV3
    except ImportError as error:
        raise ImagingError("FID needs the package torch-fidelity: pip install torch-fidelity") from error
    extractor = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=str(weights))
    extractor.eval()
    parts = []
    for k in range(0, len(images), 64):
        pixels = torch.as_tensor(images.pixels[k : k + 64])
        with torch.no_grad():
            (found,) = extractor(pixels if pixels.shape[1] == 3 else pixels.repeat(1, 3, 1, 1))
        parts.append(found.numpy())
    return np.concatenate(parts).astype(np.float64)


def judge(
    made: Images, sets: ImageSets, features: Features, *, seed: int, inception: Path | None = None
) -> pd.DataFrame:
    """Every measure of ``made`` against the training set, beside that of the test set.

    Args:
        made: what a model drew.
        sets: what it learned from, and real images it has not seen.
        features: the feature network.
        seed: of the draws of equal numbers.
        inception: weights for the true FID; left out if ``None``.

    Returns:
        columns metric, value, floor, n (images on either side of the value), n_floor.
    """
    if made.shape != sets.train.shape:
        raise ImagingError(f"{made.name}: images of shape {made.shape}, but {sets.train.name} has {sets.train.shape}")
    rows: list[dict[str, Any]] = []

    def add(metric: str, value: float, floor: float | None, n: int, n_floor: int) -> None:
        rows.append({"metric": metric, "value": value, "floor": floor, "n": n, "n_floor": n_floor})

    def distances(name: str, train: Array, test: Array, drawn: Array) -> None:
        n = min(len(drawn), len(test))
        rng = np.random.default_rng(seed)
        few, held = (z[np.sort(rng.permutation(len(z))[:n])] for z in (drawn, test))
        add(name, frechet_distance(few, train), frechet_distance(held, train), n, n)
        if len(drawn) > n:  # more were drawn than there are real images to set beside them
            add(f"{name} of all", frechet_distance(drawn, train), None, len(drawn), 0)

    train, test, drawn = (features.of(images) for images in (sets.train, sets.test, made))
    distances(f"FD-{features.name}", train, test, drawn)
    rng = np.random.default_rng(seed)
    n = min(len(train), len(test), len(drawn), _MOST_COMPARED)
    real, held, few = (z[rng.permutation(len(z))[:n]] for z in (train, test, drawn))
    for name, value, floor in zip(
        ("precision", "recall"), precision_recall(real, few), precision_recall(real, held), strict=True
    ):
        add(name, value, floor, n, n)
    spectra = [radial_spectrum(images) for images in (sets.train, made, sets.test)]
    add("spectrum (dB)", spectrum_distance(spectra[1], spectra[0]), spectrum_distance(spectra[2], spectra[0]),
        len(made), len(sets.test))  # fmt: skip
    if inception is not None:
        distances("FID", *(inception_features(images, inception) for images in (sets.train, sets.test, made)))
    return pd.DataFrame(rows)
