"""The claims of the paper's discussion on closed forms, each against what it can be checked with by other means."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import ndtr

from genodiff.core.processes import LinearDiffusion
from genodiff.reproduce.claims import (
    active_modes,
    bayes_error,
    block_covariance,
    correlation_change,
    gou_of_covariance,
    group_signal,
    noise_to_signal,
    separation,
    time_of_error,
)
from genodiff.reproduce.forward import simulate

COV = np.array([[4.0, 1.5], [1.5, 1.0]])
GOU, SPECTRUM = gou_of_covariance(COV, a=0.1)
FLAT, _ = gou_of_covariance(COV, a=1.0)
RNG = np.random.default_rng(8)


def modal(process: LinearDiffusion, vector: np.ndarray) -> np.ndarray:
    return process.basis.analysis(torch.from_numpy(vector)).numpy()


@pytest.mark.parametrize("process", [GOU, FLAT], ids=["gou", "isotropic"])
def test_theorem_2_against_simulated_paths(process: LinearDiffusion) -> None:
    n, difference = 10_000, np.array([4.0, -2.0])
    rows = np.concatenate([np.zeros((n, 2)), np.tile(difference, (n, 1))])
    times = [0.0, 0.7, 2.0]
    paths = simulate(process, rows, times, step=0.02, seed=3)
    measured = [np.linalg.norm(x[n:].mean(0) - x[:n].mean(0)) for x in paths]
    formula = separation(process, modal(process, difference), times)
    # Noise of a mean is √(s²/n), and the Euler scheme errs by about c² t · step / 2 of the distance.
    assert measured == pytest.approx(formula, abs=0.08)


def test_separation_keeps_its_length_at_time_zero_and_lasts_longer_under_gou() -> None:
    alpha = modal(GOU, np.array([3.0, 4.0]))
    assert separation(GOU, alpha, [0.0])[0] == pytest.approx(5.0)
    later = [1.0, 5.0]
    assert (separation(GOU, alpha, later) > separation(FLAT, alpha, later)).all()
    assert separation(FLAT, alpha, [2.0])[0] == pytest.approx(5 * np.exp(-1))


def test_bayes_error_against_the_best_rule_on_draws() -> None:
    """Claim 1: mode preservation."""
    difference, within, t = np.array([2.0, 0.5]), np.array([0.3, 0.2]), torch.tensor(1.2, dtype=torch.float64)
    m, s2 = GOU.mean_coefficient(t).numpy(), GOU.variance(t).numpy()
    total = m**2 * within + s2
    n = 400_000
    z = m * difference + np.sqrt(total) * RNG.normal(size=(n, 2))
    rule = (z - m * difference / 2) @ (m * difference / total)
    assert bayes_error(GOU, difference, within, [1.2])[0] == pytest.approx((rule < 0).mean(), abs=0.003)


def test_time_of_error_inverts_the_error_and_is_later_under_gou() -> None:
    difference, within = modal(GOU, np.array([8.0, 3.0])), np.array([0.2, 0.2])
    for level in (0.01, 0.05, 0.25):
        t = time_of_error(GOU, difference, within, level)
        assert bayes_error(GOU, difference, within, [t])[0] == pytest.approx(level)
        assert t > time_of_error(FLAT, difference, within, level)
    assert time_of_error(GOU, np.zeros(2), within, 0.25) == 0


def test_one_mode_is_the_same_path_at_another_speed() -> None:
    """Mode preservation vanishes at equal noise where all signal lies in one mode."""
    slow, spectrum = gou_of_covariance(np.array([[9.0]]), a=0.1)
    fast, _ = gou_of_covariance(np.array([[9.0]]), a=1.0)
    times = np.geomspace(0.01, 30, 400)
    at = [0.1, 1.0, 5.0]
    error = [
        np.interp(at, noise_to_signal(p, spectrum, times), bayes_error(p, np.array([5.0]), np.array([0.5]), times))
        for p in (slow, fast)
    ]
    assert error[0] == pytest.approx(error[1], abs=2e-3)


def test_modes_left_to_the_score() -> None:
    process, spectrum = gou_of_covariance(np.diag([4.0, 1.0, 0.0]), a=0.5)
    # A mode without variance has no signal; at long times no mode has.
    assert active_modes(process, spectrum, [1e-6, 1e3]).tolist() == [2, 0]
    flat, _ = gou_of_covariance(np.diag([4.0, 1.0, 0.0]), a=1.0)
    t = 2.0
    ratio = np.exp(-t) / (1 - np.exp(-t)) * spectrum
    assert active_modes(flat, spectrum, [t])[0] == (ratio > 0.01).sum()
    fine = np.geomspace(1e-3, 50, 200)
    assert (active_modes(process, spectrum, fine) >= active_modes(flat, spectrum, fine)).all()


def test_correlation_change_of_isotropic_diffusion_is_known() -> None:
    """Claim 2: unit variances keep their correlations times m²/(m² + s²) = e^{−t} under the isotropic process."""
    process, spectrum = gou_of_covariance(block_covariance(6), a=1.0)
    times = [0.5, 2.0]
    frame = correlation_change(process, spectrum, times)
    assert frame["change"].to_numpy() == pytest.approx(1 - np.exp(-np.array(times)), abs=1e-9)
    assert frame["signal"].to_numpy() == pytest.approx(frame["change"].to_numpy(), abs=1e-9)
    assert frame["noise_to_signal"].to_numpy() == pytest.approx(np.expm1(times), abs=1e-9)


def test_correlations_last_longer_under_gou_but_mostly_those_of_the_noise() -> None:
    times = np.geomspace(0.01, 100, 60)
    change, signal = {}, {}
    for a in (0.05, 1.0):
        process, spectrum = gou_of_covariance(block_covariance(), a=a)
        frame = correlation_change(process, spectrum, times)
        change[a] = np.interp(10.0, frame["noise_to_signal"], frame["change"])
        signal[a] = np.interp(10.0, frame["noise_to_signal"], frame["signal"])
        assert frame["change"].iloc[0] < 0.03
    assert change[0.05] < change[1.0] - 0.3
    assert signal[1.0] - 0.1 < signal[0.05] < signal[1.0]


def test_group_signal_of_known_groups_and_of_none() -> None:
    n, far = 4_000, np.array([3.0, 0.0])
    rows = RNG.normal(size=(2 * n, 2)) * np.sqrt([0.5, 0.2])
    labels = np.repeat(["A", "B"], n)
    frame = group_signal(FLAT, np.where(labels[:, None] == "B", rows + far, rows), labels, [0.0, 1.0, 50.0])
    # Before any noise all variance is within groups; D² does not change with the basis.
    q = FLAT.basis.matrix().numpy()
    within = np.diag(q.T @ np.diag([0.5, 0.2]) @ q)
    d = np.sqrt(np.sum((q.T @ far) ** 2 / within))
    assert frame["auc"].iloc[0] == pytest.approx(ndtr(d / np.sqrt(2)), abs=0.01)
    assert frame["auc"].is_monotonic_decreasing
    assert frame["auc"].iloc[2] == pytest.approx(0.5, abs=0.01)
    assert frame["ratio"].iloc[1] == pytest.approx(9 / 4 * np.exp(-1) / (2 * (1 - np.exp(-1))), rel=0.05)
    mixed = group_signal(FLAT, rows, RNG.permutation(labels), [0.0])
    assert mixed["auc"].iloc[0] == pytest.approx(0.5, abs=0.03)
