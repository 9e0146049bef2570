"""Learnable schedules: monotone whatever their parameters, exact derivatives and inverses."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from genodiff.core.knots import KnotSchedule, TransformedSchedule, karras_schedule
from tests.core.helpers import DOUBLE, generator
from tests.core.toad import HIGHEST, LOWEST, knots

TIMES = torch.linspace(0.0, 2.0, 301, dtype=DOUBLE)


def parameters(count: int) -> st.SearchStrategy[Tensor]:
    values = st.floats(-1e4, 1e4, allow_nan=False)
    return arrays("float64", (1, count), elements=values).map(torch.from_numpy)


def moved(schedule: KnotSchedule, offset: Tensor) -> KnotSchedule:
    with torch.no_grad():
        schedule.offset.copy_(offset)
    return schedule


@given(parameters(7))
def test_a_schedule_rises_between_its_ends_for_any_parameters(offset: Tensor) -> None:
    schedule = moved(knots(1), offset)
    log_knots = schedule.log_knots().detach()
    assert (log_knots.diff(dim=1) > 0).all()
    level = schedule.log_levels(TIMES).detach()
    assert (level.diff(dim=0) > 0).all()
    assert (schedule.log_rates(TIMES) > 0).all()
    assert float(level[0]) == pytest.approx(float(torch.tensor(LOWEST, dtype=DOUBLE).log()), abs=1e-12)
    assert float(level[-1]) == pytest.approx(float(torch.tensor(HIGHEST, dtype=DOUBLE).log()), abs=1e-12)


@given(parameters(7), parameters(7), parameters(7))
def test_a_time_transform_rises_from_0_to_the_horizon_for_any_parameters(a: Tensor, b: Tensor, clock: Tensor) -> None:
    schedule = moved(knots(2), torch.cat([a, b]))
    timed = TransformedSchedule(schedule, moved(knots(1, horizon=5.0), clock))
    r = timed.transform(2.5 * TIMES).detach()
    assert float(r[0]) == pytest.approx(0.0, abs=1e-9)
    assert float(r[-1]) == pytest.approx(2.0, abs=1e-9)
    # Where one clock runs a million times faster than the other, neighbouring times may round to one.
    assert (r.diff() >= 0).all()
    assert (timed.log_rates(2.5 * TIMES) > 0).all()


def test_karras_knots_are_the_formula_at_the_knots_and_log_linear_between() -> None:
    schedule = karras_schedule(1, knots=32)
    at = torch.linspace(0, 6400, 32, dtype=DOUBLE)
    first, last = 1e-9 ** (1 / 14), 80 ** (1 / 7)
    sigma = (first + at / 6400 * (last - first)) ** 7
    torch.testing.assert_close(schedule.levels(at).squeeze(-1), sigma.square(), rtol=1e-9, atol=0)
    middle = 0.5 * (at[1:] + at[:-1])
    torch.testing.assert_close(schedule.levels(middle).squeeze(-1), sigma[1:] * sigma[:-1], rtol=1e-9, atol=0)


def test_given_knots_are_kept() -> None:
    log_knots = torch.tensor([[-3.0, -1.0, 0.5, 2.0], [-3.0, -2.9, 1.9, 2.0]], dtype=DOUBLE)
    torch.testing.assert_close(KnotSchedule(log_knots, horizon=1.0).log_knots(), log_knots, rtol=0, atol=1e-12)


def test_rates_are_derivatives_of_the_levels() -> None:
    schedule, h = knots(), 1e-6
    clock = knots(1, seed=8, horizon=2.0)
    t = torch.tensor([0.11, 0.5, 1.03, 1.9], dtype=DOUBLE)
    for each in (schedule, TransformedSchedule(schedule, clock)):
        slope = (each.levels(t + h) - each.levels(t - h)) / (2 * h)
        torch.testing.assert_close(each.rates(t), slope, rtol=1e-6, atol=0)
        torch.testing.assert_close(each(t), each.levels(t))


def test_time_of_inverts_the_mean_of_the_logarithms() -> None:
    schedule = knots()
    clock = knots(1, seed=8)
    for each in (schedule, TransformedSchedule(schedule, clock)):
        torch.testing.assert_close(each.time_of(each.log_levels(TIMES).mean(-1)), TIMES, rtol=0, atol=1e-12)


def test_the_transform_follows_the_clock_on_average_and_is_the_identity_for_an_equal_clock() -> None:
    schedule, clock = knots(), knots(1, seed=8)
    timed = TransformedSchedule(schedule, clock)
    torch.testing.assert_close(timed.log_levels(TIMES).mean(-1), clock.log_levels(TIMES).squeeze(-1))
    equal = KnotSchedule(schedule.log_knots().mean(0, keepdim=True), horizon=2.0)
    same = TransformedSchedule(schedule, equal)
    torch.testing.assert_close(same.transform(TIMES), TIMES, rtol=0, atol=1e-12)


@pytest.mark.parametrize("which", ["clock", "schedule"])
def test_the_gradient_of_the_transform_is_the_implicit_one(which: str) -> None:
    schedule, clock = knots(), knots(1, seed=8)
    timed = TransformedSchedule(schedule, clock)
    parameter = getattr(timed, which).offset
    t = torch.tensor([0.3, 0.77, 1.6], dtype=DOUBLE)
    direction = torch.randn(parameter.shape, generator=generator(1), dtype=DOUBLE)
    (gradient,) = torch.autograd.grad(timed.transform(t).sum(), parameter)
    values, h = [], 1e-6
    start = parameter.detach().clone()
    for sign in (1, -1):
        with torch.no_grad():
            parameter.copy_(start + sign * h * direction)
            values.append(float(timed.transform(t).sum()))
    assert float((gradient * direction).sum()) == pytest.approx((values[0] - values[1]) / (2 * h), rel=1e-6)


def test_a_detached_schedule_has_equal_numbers_and_no_gradient() -> None:
    for schedule in (knots(), TransformedSchedule(knots(), knots(1, seed=8))):
        twin = schedule.detached()
        assert torch.equal(twin.levels(TIMES), schedule.levels(TIMES))
        assert schedule.levels(TIMES).requires_grad
        assert not twin.levels(TIMES).requires_grad


def test_a_split_schedule_gives_each_subspace_the_same_bits() -> None:
    one = knots(1)
    two = one.split(2)
    level = two.levels(TIMES)
    assert torch.equal(level[:, 0], level[:, 1])
    torch.testing.assert_close(level[:, :1], one.levels(TIMES), rtol=1e-12, atol=0)
    with pytest.raises(ValueError, match="one subspace"):
        two.split(2)


def test_gain_is_the_step_of_the_increments_per_unit_of_the_parameter() -> None:
    slow, fast = karras_schedule(1, knots=4), karras_schedule(1, knots=4, gain=10.0)
    shift = torch.tensor([[0.3, -0.1, 0.2]], dtype=DOUBLE)
    torch.testing.assert_close(moved(slow, 10 * shift).log_knots(), moved(fast, shift).log_knots())


@pytest.mark.parametrize(
    ("log_knots", "message"),
    [
        ([[0.0, 1.0, 1.0]], "rise strictly"),
        ([[0.0, 1.0], [0.0, 2.0]], "rise strictly"),
        ([[0.0]], "shape"),
        ([[0.0, float("inf")]], "finite"),
    ],
)
def test_knots_that_are_no_schedule_are_refused(log_knots: list[list[float]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        KnotSchedule(torch.tensor(log_knots), horizon=1.0)


def test_ends_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="end differently"):
        TransformedSchedule(knots(), karras_schedule(1))
    with pytest.raises(ValueError, match="one subspace"):
        TransformedSchedule(knots(), knots(2))
    with pytest.raises(ValueError, match="0 < lowest < highest"):
        karras_schedule(1, lowest=2.0, highest=1.0)
    with pytest.raises(ValueError, match="horizon > 0"):
        karras_schedule(1, horizon=0.0)
