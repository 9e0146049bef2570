"""Clocks and grids of time."""

from __future__ import annotations

import pytest
import torch
from scipy.integrate import quad

from genodiff.core.processes import variance_preserving
from genodiff.core.schedules import Clock, LinearRate, UnitRate, log_noise_grid, uniform_grid
from tests.core.helpers import DOUBLE

CLOCKS = [UnitRate(), LinearRate(), LinearRate(low=3.0, high=3.0)]
TIMES = torch.tensor([0.0, 1e-9, 0.01, 0.3, 0.7, 1.0], dtype=DOUBLE)


@pytest.mark.parametrize("clock", CLOCKS)
def test_inverse_undoes_the_clock(clock: Clock) -> None:
    torch.testing.assert_close(clock.inverse(clock(TIMES)), TIMES, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("clock", CLOCKS)
def test_clock_is_the_integral_of_its_rate(clock: Clock) -> None:
    for t in TIMES:
        integral, _ = quad(lambda u: float(clock.rate(torch.tensor(u, dtype=DOUBLE))), 0, float(t))
        assert float(clock(t)) == pytest.approx(integral, abs=1e-12)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 1.0), (2.0, 1.0)])
def test_rates_that_do_not_rise_from_a_positive_value_are_refused(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="0 < low <= high"):
        LinearRate(low=low, high=high)


def test_uniform_grid_falls_in_equal_steps() -> None:
    torch.testing.assert_close(uniform_grid(2.0, 4, last=1.0), torch.tensor([2.0, 1.75, 1.5, 1.25, 1.0], dtype=DOUBLE))


@pytest.mark.parametrize("clock", [UnitRate(), LinearRate()])
def test_noise_ratio_falls_geometrically_along_the_log_noise_grid(clock: Clock) -> None:
    process = variance_preserving(2, horizon=1.0, clock=clock, dtype=DOUBLE)
    grid = log_noise_grid(lambda rho: process.time_of_noise(rho, rate=-0.5), lowest=0.03, highest=4.0, steps=9)
    rho = process.noise_ratio(grid, rate=-0.5)
    assert len(grid) == 10
    assert (grid.diff() < 0).all()
    torch.testing.assert_close(rho[0], torch.tensor(4.0, dtype=DOUBLE))
    torch.testing.assert_close(rho[-1], torch.tensor(0.03, dtype=DOUBLE))
    torch.testing.assert_close(rho[1:] / rho[:-1], (rho[1] / rho[0]).expand(9))


def test_grids_need_a_step_and_an_order() -> None:
    with pytest.raises(ValueError, match="at least 1 step"):
        uniform_grid(1.0, 0)
    with pytest.raises(ValueError, match="at least 1 step"):
        log_noise_grid(lambda rho: rho, lowest=0.1, highest=1.0, steps=0)
    for lowest, highest in ((1.0, 0.1), (0.0, 1.0), (1.0, 1.0)):
        with pytest.raises(ValueError, match="0 < lowest < highest"):
            log_noise_grid(lambda rho: rho, lowest=lowest, highest=highest, steps=3)
