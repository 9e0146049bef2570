"""The accountant against published values, against integrals of densities, and against itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from genodiff.private.accountant import compose, delta_of, epsilon_of, mu_of


@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0, 4.0])
@pytest.mark.parametrize("mu", [0.2, 1.0, 2.5])
def test_delta_is_the_integral_it_stands_for(epsilon: float, mu: float) -> None:
    """δ(ε) = ∫ max(0, p − e^ε q) of N(μ, 1) and N(0, 1), which differ in sign at x = ε/μ + μ/2."""
    start = epsilon / mu + mu / 2
    want, _ = quad(lambda x: norm.pdf(x - mu) - math.exp(epsilon) * norm.pdf(x), start, start + 20, epsabs=1e-14)
    assert delta_of(epsilon, mu) == pytest.approx(want, rel=1e-8, abs=1e-13)


def test_the_noise_of_balle_and_wang() -> None:
    """Their algorithm 1 at Δ = 1, ε = 1, δ = 1e−5 gives σ = 3.7306; the classical bound asks for 4.845."""
    assert 1 / mu_of(1.0, 1e-5) == pytest.approx(3.730631634816464, rel=1e-8)
    assert math.sqrt(2 * math.log(1.25e5)) == pytest.approx(4.845, abs=1e-3)
    assert 1 / mu_of(0.1, 1e-5) < math.sqrt(2 * math.log(1.25e5)) / 0.1


@pytest.mark.parametrize("epsilon", [1e-3, 0.5, 1.0, 8.0, 100.0, 1e4])
@pytest.mark.parametrize("delta", [1e-12, 1e-5, 0.3])
def test_there_and_back(epsilon: float, delta: float) -> None:
    mu = mu_of(epsilon, delta)
    assert delta_of(epsilon, mu) <= delta
    assert delta_of(epsilon, mu * (1 + 1e-6)) > delta
    assert epsilon_of(mu, delta) == pytest.approx(epsilon, rel=1e-6, abs=1e-9)


def test_monotone() -> None:
    mus = [mu_of(e, 1e-5) for e in np.geomspace(0.01, 1000, 30)]
    assert (np.diff(mus) > 0).all()


def test_composition_is_that_of_one_release_with_both() -> None:
    """Two noisy numbers are one noisy vector: the distance of its means is the hypotenuse."""
    assert compose(0.6, 0.8) == pytest.approx(1.0)
    mu = mu_of(3.0, 1e-6)
    assert epsilon_of(compose(mu * math.sqrt(0.3), mu * math.sqrt(0.7)), 1e-6) == pytest.approx(3.0)


def test_extremes() -> None:
    assert mu_of(math.inf, 1e-5) == math.inf
    assert epsilon_of(math.inf, 1e-5) == math.inf
    assert epsilon_of(0.0, 1e-5) == 0.0
    assert delta_of(0.5, 0.0) == 0.0
    assert delta_of(0.5, math.inf) == 1.0
    assert delta_of(0.0, 1e-3) == pytest.approx(2 * norm.cdf(5e-4) - 1)


@pytest.mark.parametrize("epsilon", [0.0, -1.0, math.nan])
def test_epsilon_must_be_positive(epsilon: float) -> None:
    with pytest.raises(ValueError, match="epsilon must be positive"):
        mu_of(epsilon, 1e-5)


@pytest.mark.parametrize("delta", [0.0, 1.0, -0.1, math.nan])
def test_delta_must_be_a_probability(delta: float) -> None:
    with pytest.raises(ValueError, match=r"delta must lie in \(0, 1\)"):
        mu_of(1.0, delta)
    with pytest.raises(ValueError, match=r"delta must lie in \(0, 1\)"):
        epsilon_of(1.0, delta)
    with pytest.raises(ValueError, match="mu must be at least 0"):
        epsilon_of(-1.0, 0.5)
