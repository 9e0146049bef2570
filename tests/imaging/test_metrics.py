"""Distances of images against closed forms, brute force and other software."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import linalg
from scipy.spatial.distance import cdist

from imaging import metrics
from imaging.datasets import Images
from imaging.errors import ImagingError
from imaging.features import FeatureNetwork, Features
from imaging.metrics import (
    Reference,
    frechet_distance,
    inception_features,
    precision_recall,
    radial_spectrum,
    spectrum_distance,
)
from tests.imaging.images import disc_sets, discs


def test_frechet_distance_of_independent_features_is_the_sum_over_them() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(500, 3)), rng.normal(size=(400, 3)) * [1, 2, 0.5] + [0, 1, 3]

    def whitened(z: np.ndarray) -> np.ndarray:
        z = z - z.mean(0)
        return z @ linalg.inv(linalg.sqrtm(np.cov(z, rowvar=False)).real)

    a, b = np.array([1.0, 2.0, 0.0]), np.array([0.5, 1.0, 3.0])
    distance = frechet_distance(whitened(x) * a + [1, 0, 2], whitened(y) * b)
    assert distance == pytest.approx(1 + 4 + ((a - b) ** 2).sum(), rel=1e-6)


def test_frechet_distance_is_that_of_the_matrix_root() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(60, 8)) @ rng.normal(size=(8, 8)), rng.normal(size=(50, 8)) @ rng.normal(size=(8, 8)) + 1
    s_x, s_y = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = linalg.sqrtm(s_x @ s_y).real
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(s_x + s_y - 2 * root)
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(y, x) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9 * np.trace(s_x))
    assert frechet_distance(x, x + 3) == pytest.approx(9 * 8)
    with pytest.raises(ValueError, match="at least 2 rows"):
        frechet_distance(x[:1], y)


def test_precision_and_recall_are_those_of_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_CHUNK", 7)
    rng = np.random.default_rng(3)
    real, made = rng.normal(size=(40, 2)), 0.8 * rng.normal(size=(30, 2)) + 0.7

    def covered(points: np.ndarray, centres: np.ndarray, k: int) -> float:
        radius = np.sort(cdist(centres, centres), axis=1)[:, k]
        return float((cdist(points, centres) <= radius).any(1).mean())

    for k in (1, 3):
        assert precision_recall(real, made, k=k) == (covered(made, real, k), covered(real, made, k))
    assert precision_recall(real, real + 100) == (0.0, 0.0)
    assert precision_recall(real, real) == (1.0, 1.0)
    assert precision_recall(real, np.repeat(real[:1], 5, 0) + 1e-9)[1] < 0.1  # one image, over and over
    with pytest.raises(ValueError, match="more than 3 images"):
        precision_recall(real[:3], made)


def test_the_spectrum_keeps_the_power() -> None:
    images = discs(10, channels=3)
    power = radial_spectrum(images)
    radius = np.rint(np.hypot(*np.mgrid[:16, :16])).astype(int)
    total = (power * np.bincount(radius.ravel())).sum() * 3
    assert total == pytest.approx(float(images.values().double().square().sum(dim=(1, 2, 3)).mean()), rel=1e-5)


def test_a_wave_has_its_power_at_its_frequency() -> None:
    x = np.cos((2 * np.arange(16) + 1) * 5 * np.pi / 32)
    pixels = np.rint((np.tile(x, (16, 1)) + 1) * 127.5).astype(np.uint8)
    power = radial_spectrum(Images("wave", pixels[None, None]))
    assert power.argmax() == 5
    assert np.delete(power, 5).max() < 1e-3 * power[5]


def test_spectra_are_told_apart_in_decibel() -> None:
    x = np.geomspace(1, 100, 9)
    assert spectrum_distance(x, x) == 0
    assert spectrum_distance(10 * x, x) == pytest.approx(10)
    assert spectrum_distance(x, 100 * x) == pytest.approx(20)


def features(shape: tuple[int, int, int] = (1, 16, 16)) -> Features:
    return Features("discs", FeatureNetwork(shape, 2), shape, 0.9, "0" * 12)


def test_real_images_are_at_the_floor_and_damaged_ones_are_not() -> None:
    sets = disc_sets(96)
    reference = Reference(sets, features(), seed=1)
    table = reference.judge(sets.test).set_index("metric")
    assert list(table.index) == ["FD-discs", "precision", "recall", "spectrum (dB)"]
    np.testing.assert_allclose(table["value"].astype(float), table["floor"].astype(float))
    noisy = replace(sets.test, pixels=sets.test.pixels ^ np.uint8(63))
    worse = reference.judge(noisy).set_index("metric")["value"]
    assert worse["FD-discs"] > 1.5 * table["floor"]["FD-discs"]
    assert worse["spectrum (dB)"] > 2 * table["floor"]["spectrum (dB)"]


def test_a_value_and_its_floor_are_of_equal_numbers() -> None:
    sets = disc_sets(48)
    reference = Reference(sets, features(), seed=1)
    many = reference.judge(discs(80, seed=5)).set_index("metric")
    assert (many["n"]["FD-discs"], many["n_floor"]["FD-discs"], many["n"]["FD-discs of all"]) == (48, 48, 80)
    assert np.isnan(many["floor"]["FD-discs of all"])
    few = reference.judge(discs(20, seed=5)).set_index("metric")
    assert (few["n"]["FD-discs"], few["n_floor"]["FD-discs"]) == (20, 20)
    assert "FD-discs of all" not in few.index


def test_images_of_another_shape_are_refused() -> None:
    with pytest.raises(ImagingError, match=r"shape \(3, 16, 16\), but those of discs are \(1, 16, 16\)"):
        Reference(disc_sets(8), features(), seed=1).judge(discs(8, channels=3))


def test_fid_says_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = tmp_path / "inception.pth"
    with pytest.raises(ImagingError, match="is not there: FID needs the Inception weights"):
        inception_features(discs(2), weights)
    weights.touch()
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(ImagingError, match="pip install torch-fidelity"):
        inception_features(discs(2), weights)
