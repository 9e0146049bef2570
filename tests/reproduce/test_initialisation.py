"""W2 of start laws: exact cases, Lemma 10, and where the printed covariance breaks it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from genodiff.genotypes.units import Units
from genodiff.reproduce.claims import gou_of_covariance
from genodiff.reproduce.initialisation import (
    STATIONARY,
    anchorings,
    draw_initialisation,
    gelbrich,
    genotype_anchorings,
    genotype_process,
    initialisation_error,
    sampled_w2,
)
from genodiff.reproduce.plane import Plane
from genodiff.reproduce.theory import plane_processes

RNG = np.random.default_rng(3)


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    return Plane().draw(600, rng=np.random.default_rng(2))[0]


@pytest.fixture(scope="module")
def frame(rows: np.ndarray) -> pd.DataFrame:
    process = next(iter(plane_processes(rows).values()))
    return initialisation_error(process, rows, anchorings(rows, k=2), horizons=[0.3, 1.0, 30.0], samples=200)


def of(frame: pd.DataFrame, start: str, covariance: str) -> pd.DataFrame:
    return frame[frame["start"].str.startswith(start) & (frame["covariance"] == covariance)]


def test_lemma_10_holds_for_the_noise_around_anchors(frame: pd.DataFrame) -> None:
    """Claim 3: the error is governed by the variance within clusters."""
    noise = frame[frame["covariance"] == "noise"]
    assert (noise["bound_matrix"] <= noise["bound_scalar"] + 1e-12).all()
    assert (noise["w2_marginals"] <= noise["bound_matrix"] + 1e-6).all()
    assert (noise["gelbrich"] <= noise["bound_matrix"] + 1e-6).all()
    # Sampled W2 has a floor of its own; where the bound is well above it the sample keeps to it too.
    above = noise[noise["bound_matrix"] > noise["floor"] + 0.1]
    assert len(above) >= 5
    assert (above["w2"] <= above["bound_matrix"]).all()
    means = of(frame, "means", "noise").iloc[0]
    assert means["bound_scalar"] == pytest.approx(np.exp(-0.05 * 0.3) * np.sqrt(2) * 0.5, rel=0.05)


def test_the_printed_covariance_breaks_the_lemma(frame: pd.DataFrame) -> None:
    total = of(frame, "means", "total")
    assert (total["w2_marginals"] > total["bound_scalar"])[:2].all()
    assert (total["gelbrich"] > total["bound_scalar"])[:2].all()


def test_within_cluster_variance_is_the_better_spread(frame: pd.DataFrame) -> None:
    within, noise = of(frame, "means", "within"), of(frame, "means", "noise")
    assert (within["w2_marginals"].to_numpy() < 0.2 * noise["w2_marginals"].to_numpy() + 1e-3).all()


def test_every_training_point_with_noise_is_exact(frame: pd.DataFrame) -> None:
    exact = of(frame, "every", "noise")
    assert exact["w2_marginals"].max() < 1e-6
    assert exact["gelbrich"].max() < 1e-5
    assert (exact["bound_scalar"] == 0).all()


def test_lower_bounds_lie_below_samples_and_errors_vanish_with_time(frame: pd.DataFrame) -> None:
    # A sampled W2 may fall short of W2 by what one sample of this size can miss.
    assert (frame["w2_marginals"] <= frame["w2"] + 0.45).all()
    assert (frame["gelbrich"] <= frame["w2_marginals"] + 0.01).all()
    none = frame[frame["start"] == STATIONARY]
    assert (none["w2_marginals"] <= none["bound_matrix"]).all()
    assert (none["bound_matrix"] <= none["bound_scalar"]).all()
    assert none["w2_marginals"].is_monotonic_decreasing


def test_gelbrich_of_gaussians_along_axes() -> None:
    a, b = np.diag([4.0, 1.0]), np.diag([1.0, 9.0])
    expected = np.sqrt(1 + (2 - 1) ** 2 + (1 - 3) ** 2)
    assert gelbrich(np.zeros(2), np.sqrt(a), np.array([0.0, 1.0]), b) == pytest.approx(expected)
    turn = np.linalg.qr(RNG.normal(size=(2, 2)))[0]
    turned = gelbrich(np.zeros(2), turn @ np.sqrt(a) @ turn.T, turn @ [0.0, 1.0], turn @ b @ turn.T)
    assert turned == pytest.approx(expected)


def test_sampled_w2_of_a_shift_and_of_shapes_that_differ() -> None:
    x = RNG.normal(size=(50, 3))
    shift = np.array([1.0, -2.0, 2.0])
    assert sampled_w2(x, RNG.permutation(x)) == pytest.approx(0, abs=1e-6)
    assert sampled_w2(x, x + shift) == pytest.approx(3.0)
    with pytest.raises(ValueError, match="same shape"):
        sampled_w2(x, x[:10])


def test_medoids_are_rows(rows: np.ndarray) -> None:
    chosen = anchorings(rows, k=2)
    medoids = next(c for name, c in chosen.items() if name.startswith("medoids"))
    assert all((rows == point).all(1).any() for point in medoids.points)
    assert medoids.weights.tolist() == [0.5, 0.5]


def test_genotypes_in_leading_modes() -> None:
    founders = RNG.integers(0, 2, size=(6, 40))
    states = founders[RNG.integers(6, size=(120, 4))[:, np.arange(40) // 10], np.arange(40)].astype(np.int8)
    states[0, 0] = -1
    units = Units(states, ploidy=1, per_person=2)
    process, x = genotype_process(units)
    out = initialisation_error(
        process, x, genotype_anchorings(units, n=4), horizons=[1.0], modes=5, samples=60, covariances=["noise"]
    )
    assert (out["modes"] == 5).all()
    assert (out["gelbrich"].iloc[1:] <= out["bound_matrix"].iloc[1:] + 1e-6).all()
    assert out.loc[out["start"] == "every training row", "gelbrich"].item() < 1e-4
    with pytest.raises(ValueError, match="at most 1,000 sites"):
        genotype_process(Units(np.zeros((4, 1001), dtype=np.int8), ploidy=1, per_person=2))


def test_figure_has_a_panel_per_process_and_spread(frame: pd.DataFrame) -> None:
    assert len(draw_initialisation({"GOU": frame, "again": frame}).axes) == 6


def test_start_of_a_gaussian_without_anchors() -> None:
    """The stationary law against a Gaussian p_T: both are known."""
    process, spectrum = gou_of_covariance(np.diag([4.0, 1.0]), a=0.5)
    x = RNG.normal(size=(3_000, 2))
    x = (x - x.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(x, rowvar=False, bias=True))).T * np.sqrt(spectrum)
    out = initialisation_error(process, x, {}, horizons=[1.0], samples=50).iloc[0]
    m2, s2 = np.exp(2 * process.rates.numpy()), process.stationary_variance().numpy()
    s2_t = s2 * (1 - m2)
    expected = np.sqrt(np.sum((np.sqrt(m2 * spectrum + s2_t) - np.sqrt(s2)) ** 2))
    assert out["gelbrich"] == pytest.approx(expected, rel=1e-6)
    assert out["w2_marginals"] == pytest.approx(expected, abs=0.02)
