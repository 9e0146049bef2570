"""How far a set of images is from another: Fréchet distance, precision and recall, power by frequency.

Every measure stands beside its floor, the same measure of real images that were not learned from. A Fréchet distance
falls with the number of images, so a value and its floor are of equal numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
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
    "Reference",
    "frechet_distance",
    "inception_features",
    "precision_recall",
    "radial_spectrum",
    "spectrum_distance",
]

Array = NDArray[np.float64]

_CHUNK = 1024
_NEIGHBOURS = 3
_MOST_COMPARED = 10_000
"""Most images that a spectrum is taken of."""

_MOST_PAIRED = 5000
"""Most images on either side of precision and recall, whose cost grows with the square."""


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
        values = images.values(slice(k, k + _CHUNK)).numpy()
        power += (fft.dctn(values, axes=(2, 3), norm="ortho") ** 2).mean(1).sum(0, dtype=np.float64)
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


def _enough(name: str, n: int, what: str = "") -> None:
    if n <= _NEIGHBOURS:
        raise ImagingError(f"{name} has {n} images: at least {_NEIGHBOURS + 1} {what}are needed")


class Reference:
    """Real images that made ones are judged by; what depends on them alone is computed once.

    Args:
        sets: what a model learned from, and real images it has not seen.
        features: the feature network.
        seed: of the draws of equal numbers.
        inception: Inception weights, for the true FID; left out if ``None``.
    """

    def __init__(self, sets: ImageSets, features: Features, *, seed: int, inception: Path | None = None) -> None:
        _enough(sets.train.name, min(len(sets.train), len(sets.test)), "to learn from and as many to judge by ")
        self.shape, self.name, self.seed = sets.train.shape, sets.train.name, seed
        self._maps: dict[str, Callable[[Images], Array]] = {f"FD-{features.name}": features.of}
        if inception is not None:
            self._maps["FID"] = partial(inception_features, weights=inception)
        self._known = {name: (of(sets.train), of(sets.test)) for name, of in self._maps.items()}
        train, test = (self._few(images) for images in (sets.train, sets.test))
        self.spectra = {"train": radial_spectrum(train), "test": radial_spectrum(test)}
        self._n_test = len(test)
        self._floors: dict[int, tuple[float, float]] = {}

    def _few(self, images: Images) -> Images:
        """At most 10,000 of the images."""
        return images if len(images) <= _MOST_COMPARED else images.select(self._drawn(len(images), _MOST_COMPARED))

    def _drawn(self, n: int, k: int) -> NDArray[np.int64]:
        """Which k of n to take, rising."""
        return np.sort(np.random.default_rng(self.seed).permutation(n)[:k])

    def judge(self, made: Images) -> pd.DataFrame:
        """Every measure of ``made`` against the training set, beside that of the test set.

        A Fréchet distance is between n images and the whole training set, n the same for the value and its floor. Where
        more were made than there are test images, a second row has the distance of all of them, without a floor.

        Returns:
            columns metric, value, floor, n (images made that the value is of), n_floor (test images of the floor).
        """
        if made.shape != self.shape:
            raise ImagingError(f"{made.name}: images of shape {made.shape}, but those of {self.name} are {self.shape}")
        _enough(made.name, len(made))
        rows: list[dict[str, Any]] = []
        drawn = {name: of(made) for name, of in self._maps.items()}
        for name, z in drawn.items():
            train, test = self._known[name]
            n = min(len(z), len(test))
            value, floor = (frechet_distance(x[self._drawn(len(x), n)], train) for x in (z, test))
            rows.append({"metric": name, "value": value, "floor": floor, "n": n, "n_floor": n})
            if len(z) > n:
                rows.append({"metric": f"{name} of all", "value": frechet_distance(z, train), "n": len(z)})
        name = next(iter(self._maps))
        sets = (*self._known[name], drawn[name])
        n = min(_MOST_PAIRED, *map(len, sets))
        real, held, z = (x[self._drawn(len(x), n)] for x in sets)
        if n not in self._floors:
            self._floors[n] = precision_recall(real, held)
        values, floors = precision_recall(real, z), self._floors[n]
        for metric, value, floor in zip(("precision", "recall"), values, floors, strict=True):
            rows.append({"metric": metric, "value": value, "floor": floor, "n": n, "n_floor": n})
        few = self._few(made)
        value = spectrum_distance(radial_spectrum(few), self.spectra["train"])
        floor = spectrum_distance(self.spectra["test"], self.spectra["train"])
        rows.append({"metric": "spectrum (dB)", "value": value, "floor": floor, "n": len(few), "n_floor": self._n_test})
        return pd.DataFrame(rows, columns=["metric", "value", "floor", "n", "n_floor"]).astype({"n_floor": "Int64"})
