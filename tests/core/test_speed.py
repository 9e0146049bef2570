"""Constant speed and Lemma 2 against closed forms, quadrature and other searches; what learning reaches."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from torch import Tensor

from genodiff.core.denoisers import GaussianMixtureDenoiser
from genodiff.core.knots import KnotSchedule, TransformedSchedule, karras_schedule
from genodiff.core.learning import frozen, learn_schedule, learn_time
from genodiff.core.samplers import HeunFlow
from genodiff.core.schedules import uniform_grid
from genodiff.core.speed import (
    ErrorCurves,
    constant_speed_grid,
    fit_constant_speed_schedule,
    measure_error_curves,
    mode_errors,
    schedule_of_weight,
    weight_of_schedule,
)
from genodiff.core.subspaces import SubspaceDiffusion
from genodiff.core.training import TrainingConfig
from genodiff.core.trajectory import discretisation_error
from tests.core.helpers import DOUBLE, generator, mixture, normal, small_gou
from tests.core.toad import HIGHEST, LOWEST, exact, knots, split_process, uniform_times

RANGE = {"lowest": 1e-9, "highest": 6400.0}
VARIANCES = torch.tensor([2.0, 0.05], dtype=DOUBLE)


def gaussian_curves(
    variances: Tensor = VARIANCES, sizes: tuple[float, ...] = (1.0, 3.0), points: int = 400
) -> ErrorCurves:
    """mmse = λ u/(λ + u) in each subspace."""
    u = torch.logspace(-9, math.log10(6400.0), points, dtype=DOUBLE).unsqueeze(1).expand(-1, len(variances))
    return ErrorCurves(u, variances * u / (variances + u), torch.tensor(sizes, dtype=DOUBLE))


def arc(variance: float, *, lowest: float = 1e-9, highest: float = 6400.0) -> float:
    """S(T) for a Gaussian with c = λ: ∫ √(λ/u)/(λ + u) du = 2 (atan √(T/λ) − atan √(g_0/λ))."""
    return 2 * (math.atan(math.sqrt(highest / variance)) - math.atan(math.sqrt(lowest / variance)))


def test_the_least_energy_of_a_gaussian_is_the_square_of_its_arc() -> None:
    curves = gaussian_curves(torch.tensor([0.7], dtype=DOUBLE), (1.0,))
    assert float(curves.lengths(c=0.7, **RANGE)) == pytest.approx(arc(0.7), rel=1e-4)
    assert curves.least_energy(c=0.7, **RANGE) == pytest.approx(arc(0.7) ** 2, rel=2e-4)


def test_the_energy_of_knots_is_the_integral_of_the_loss() -> None:
    curves, schedule = gaussian_curves(), karras_schedule(2)
    with torch.no_grad():
        schedule.offset += 0.5 * torch.randn(2, 31, generator=generator(2), dtype=DOUBLE)
    total = 0.0
    for j, (variance, size) in enumerate(zip(VARIANCES.tolist(), (1.0, 3.0), strict=True)):

        def integrand(s: float, j: int = j, variance: float = variance) -> float:
            t = torch.tensor(6400 * s, dtype=DOUBLE)
            g, slope = (float(f(t)[j].detach()) for f in (schedule.levels, schedule.log_rates))
            return (6400 * slope) ** 2 * variance * g / (variance + g) / (1 + g)

        parts = [quad(integrand, a / 31 + 1e-12, (a + 1) / 31 - 1e-12, limit=200)[0] for a in range(31)]
        total += size / 4 * sum(parts)
    assert curves.energy(schedule) == pytest.approx(total, rel=1e-3)


def test_the_fit_comes_within_a_few_per_cent_of_the_oracle_and_plain_schedules_do_not() -> None:
    curves = gaussian_curves()
    least = curves.least_energy(**RANGE)
    fitted = curves.energy(fit_constant_speed_schedule(curves))
    assert least < fitted < 1.05 * least
    log_linear = torch.linspace(math.log(1e-9), math.log(6400), 32, dtype=DOUBLE).expand(2, -1)
    for plain in (karras_schedule(2), KnotSchedule(log_linear, horizon=6400.0)):
        assert curves.energy(plain) > 1.4 * least


def test_the_fitted_knots_are_the_best_of_all_on_a_small_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genodiff.core.speed._CELLS", 16)
    curves = gaussian_curves(torch.tensor([0.7], dtype=DOUBLE), (1.0,))
    ends = {"lowest": 1e-3, "highest": 10.0}
    fitted = fit_constant_speed_schedule(curves, knots=5, horizon=1.0, **ends)
    table = torch.linspace(math.log(1e-3), math.log(10.0), 17, dtype=DOUBLE)
    energies = [
        curves.energy(KnotSchedule(table[[0, *inner, 16]].unsqueeze(0), horizon=1.0))
        for inner in itertools.combinations(range(1, 16), 3)
    ]
    assert curves.energy(fitted) == pytest.approx(min(energies), rel=1e-12)
    assert len(set(energies)) > 400


def test_many_knots_run_at_constant_speed() -> None:
    variance = 0.7
    curves = gaussian_curves(torch.tensor([variance], dtype=DOUBLE), (1.0,))
    schedule = fit_constant_speed_schedule(curves, c=variance, knots=40, horizon=1.0, lowest=1e-3, highest=100.0)
    g = schedule.log_knots().detach().exp().squeeze(0)
    whole = arc(variance, lowest=1e-3, highest=100.0)
    share = torch.tensor([arc(variance, lowest=1e-3, highest=float(x)) / whole for x in g], dtype=DOUBLE)
    torch.testing.assert_close(share, torch.linspace(0, 1, 40, dtype=DOUBLE), rtol=0, atol=0.03)


def test_measured_curves_are_those_of_the_posterior() -> None:
    process = split_process(4)
    denoiser = exact(process, components=1, variance=torch.tensor([2.0, 2.0, 0.05, 0.05], dtype=DOUBLE))
    x_0, _ = denoiser.prior.sample(20_000, generator=generator(1))
    times = torch.tensor([0.2, 0.8, 1.5, 2.0], dtype=DOUBLE)
    curves = measure_error_curves(denoiser, x_0, times, generator=generator(2), batch=7000)
    u = process.schedule.levels(times).detach()
    torch.testing.assert_close(curves.levels, u)
    torch.testing.assert_close(curves.errors, VARIANCES * u / (VARIANCES + u), rtol=0.04, atol=0)
    assert curves.sizes.tolist() == [2.0, 2.0]


def test_outside_the_measured_levels_the_error_falls_with_the_noise_and_stays_at_the_top() -> None:
    u = torch.tensor([[0.1], [1.0]], dtype=DOUBLE)
    x, phi = ErrorCurves(u, 0.5 * u, torch.ones(1)).table(0, lowest=1e-4, highest=100.0, c=1.0)
    g = x.exp()
    torch.testing.assert_close(phi * (1 + g), 0.5 * g.clamp_max(1.0), rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    ("levels", "errors", "message"),
    [
        ([[1.0], [0.5]], [[1.0], [1.0]], "rise"),
        ([[0.5], [1.0]], [[1.0], [0.0]], "positive"),
        ([[0.5], [1.0]], [[1.0]], "differ"),
    ],
)
def test_curves_that_are_none_are_refused(levels: list[list[float]], errors: list[list[float]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ErrorCurves(torch.tensor(levels), torch.tensor(errors), torch.ones(1))


def weight(u: Tensor) -> Tensor:
    return 1 / (0.3 + u) + 0.2 * torch.exp(-u.log().square())


def test_lemma_2_a_weight_and_its_schedule_give_one_loss() -> None:
    """∫ g'²/(c + g) H(g) dt = k ∫ w(u) H(u) du with one k for every H."""
    c, ends = 0.7, {"lowest": 0.1, "highest": 30.0}
    schedule = schedule_of_weight(weight, c=c, knots=2000, horizon=3.0, **ends)
    t = torch.linspace(0, 3.0, 400_001, dtype=DOUBLE)
    g, rate = (f(t).squeeze(-1).detach() for f in (schedule.levels, schedule.rates))
    u = torch.logspace(-1, math.log10(30.0), 200_001, dtype=DOUBLE)
    ratios = []
    for h in (torch.ones_like, torch.log1p, lambda v: torch.exp(-v), lambda v: v * torch.exp(-((v - 2) ** 2))):
        path = torch.trapezoid(rate.square() / (c + g) * h(g), t)
        ratios.append(float(path / torch.trapezoid(weight(u) * h(u), u)))
    np.testing.assert_allclose(ratios, ratios[0], rtol=2e-3)
    phi = quad(lambda v: 1 / ((c + v) * float(weight(torch.tensor(v)))), 0.1, 30.0)[0]
    assert ratios[0] == pytest.approx(phi / 3.0, rel=2e-3)


def test_lemma_2_back_from_a_schedule_to_its_weight() -> None:
    """With the weight of a schedule both integrals are equal, and the weight of a weight's schedule is that weight."""
    schedule, c = knots(1), 0.7
    t = torch.linspace(0, 2.0, 200_001, dtype=DOUBLE)
    g, rate = (f(t).squeeze(-1).detach() for f in (schedule.levels, schedule.rates))
    u = torch.logspace(math.log10(LOWEST), math.log10(HIGHEST), 200_001, dtype=DOUBLE)[1:-1]
    w = weight_of_schedule(schedule, u, c=c).detach()
    path = torch.trapezoid(rate.square() / (c + g) * torch.log1p(g), t)
    assert float(path) == pytest.approx(float(torch.trapezoid(w * torch.log1p(u), u)), rel=1e-3)
    u = torch.logspace(-0.3, 1.4, 500, dtype=DOUBLE)
    again = weight_of_schedule(schedule_of_weight(weight, c=c, knots=2000, lowest=0.1, highest=30.0), u, c=c).detach()
    ratio = again / weight(u)
    torch.testing.assert_close(ratio, ratio.mean().expand_as(ratio), rtol=0.05, atol=0)


def test_weights_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="positive and finite"):
        schedule_of_weight(lambda u: u - 1)
    with pytest.raises(ValueError, match="one schedule"):
        weight_of_schedule(knots(2), torch.ones(1))


def test_a_learned_schedule_is_within_five_per_cent_of_the_oracle() -> None:
    ends = {"lowest": 1e-5, "highest": 6400.0}
    process = split_process(4, schedule=karras_schedule(2, **ends))
    assert isinstance(process.schedule, KnotSchedule)
    denoiser = exact(process, components=1, variance=VARIANCES.repeat_interleave(2))
    x_0, _ = denoiser.prior.sample(4000, generator=generator(1))
    curves = gaussian_curves(sizes=(2.0, 2.0))
    before, least = curves.energy(process.schedule), curves.least_energy(**ends)
    config = TrainingConfig(
        steps=250, batch=1024, learning_rate=0.2, weight_decay=0.0, validate_every=250, ema=0.98, clip=10.0
    )
    learn_schedule(denoiser, x_0, x_0[:500], config, seed=1)
    assert before > 1.5 * least
    assert least < curves.energy(process.schedule) < 1.05 * least


def test_the_clock_begins_as_the_identity() -> None:
    denoiser = exact(split_process(4), components=3)
    timed, result = learn_time(denoiser, normal(5, 4), normal(5, 4), TrainingConfig(steps=0), seed=1)
    process = timed.process
    assert isinstance(process, SubspaceDiffusion)
    assert isinstance(process.schedule, TransformedSchedule)
    t = torch.linspace(0, 2, 50, dtype=DOUBLE)
    torch.testing.assert_close(process.schedule.transform(t), t, rtol=0, atol=1e-9)
    assert result.steps == 0


def test_a_learned_clock_makes_the_same_path_more_accurate_in_few_steps() -> None:
    schedule = karras_schedule(2, lowest=1e-5, highest=6400.0)
    denoiser = exact(split_process(4, schedule=schedule), components=3)
    x_0, _ = denoiser.prior.sample(2000, generator=generator(1))
    held = {k: v.clone() for k, v in denoiser.process.state_dict().items()}
    config = TrainingConfig(
        steps=100, batch=128, learning_rate=0.1, weight_decay=0.0, validate_every=100, ema=0.95, clip=10.0
    )
    timed, _ = learn_time(denoiser, x_0, x_0[:200], config, seed=1, excess=0.0)
    assert all(torch.equal(held[k], v) for k, v in denoiser.process.state_dict().items())
    x_T, _ = denoiser.prior.pushed(6400.0).sample(500, generator=generator(4))
    before, after = [], []
    with torch.no_grad():
        truth = HeunFlow(denoiser, second=0.5).sample(x_T, uniform_grid(6400.0, 150))
        for each, errors in ((denoiser, before), (timed, after)):
            t = uniform_times(2000, 6400.0)
            errors.append(float(discretisation_error(each, x_0, t, generator=generator(5))))
            made = HeunFlow(each, second=0.5).sample(x_T, uniform_grid(6400.0, 10))
            errors.append(float((made - truth).norm()))
    assert after[0] < before[0] / 3
    assert after[1] < before[1] / 2


def test_frozen_parameters_come_back() -> None:
    process = split_process(2)
    module = torch.nn.ModuleList([process, torch.nn.Linear(2, 2)])
    module[1].bias.requires_grad_(False)
    with frozen(module, but=process):
        assert [p.requires_grad for p in module.parameters()] == [True, False, False]
    assert [p.requires_grad for p in module.parameters()] == [True, True, False]
    timed = exact(process).on(process.with_schedule(TransformedSchedule(knots(), knots(1))))
    with pytest.raises(ValueError, match="no clock transforms"):
        learn_time(timed, normal(3, 2), normal(3, 2), TrainingConfig(steps=1), seed=1)


def test_mode_errors_of_an_exact_denoiser_are_its_posterior_variances() -> None:
    process = small_gou()
    denoiser = GaussianMixtureDenoiser(mixture(process))
    x_0, component = denoiser.prior.sample(20_000, generator=generator(1))
    times = torch.tensor([0.1, 1.0], dtype=DOUBLE)
    found = mode_errors(denoiser, x_0, times, generator=generator(2), batch=3000, component=component)
    torch.testing.assert_close(found, denoiser.prior.posterior_variance(times), rtol=0.05, atol=0)


def test_constant_speed_in_a_given_process_is_that_of_the_best_schedule() -> None:
    """For one subspace of noise alone the grid visits the levels of equal steps along the closed-form arc."""
    process, variance = split_process(schedule=karras_schedule(2, horizon=2.0, lowest=LOWEST, highest=HIGHEST)), 0.3
    times = torch.linspace(1e-6, 2.0, 4001, dtype=DOUBLE)
    g = process.variance(times).detach()
    grid = constant_speed_grid(process, times, variance * g / (variance + g), steps=8, c=variance)
    levels = process.schedule.levels(grid)[:, 0].detach()
    arcs = [arc(variance, lowest=LOWEST, highest=float(u)) for u in levels]
    even = np.linspace(arc(variance, lowest=LOWEST, highest=HIGHEST), 0, 9)
    np.testing.assert_allclose(arcs, even, atol=2e-3)


def test_the_grid_depends_on_neither_the_clock_nor_the_unit_of_errors() -> None:
    process = small_gou()
    prior = mixture(process, components=1)
    coarse, fine = (torch.logspace(-2, math.log10(2.0), n, dtype=DOUBLE) for n in (400, 700))
    first = constant_speed_grid(process, coarse, prior.posterior_variance(coarse), steps=6)
    second = constant_speed_grid(process, fine, 7 * prior.posterior_variance(fine), steps=6)
    torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-4)
    assert float(first[0]) == pytest.approx(2.0)


def test_a_grid_needs_steps_and_something_to_do() -> None:
    process, times = small_gou(), torch.tensor([0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match="at least 1 step"):
        constant_speed_grid(process, times, torch.ones(3, 3), steps=0)
    with pytest.raises(ValueError, match="something to do"):
        constant_speed_grid(process, times, torch.zeros(3, 3), steps=2)
