"""Flexible forward processes: laws against dense references, the start at VP, the gauge of time, slopes, Langevin."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.linalg import expm
from torch import Tensor
from torch.distributions import MultivariateNormal

from genodiff.core.bases import PCA, BlockPCA, Identity
from genodiff.core.flexible import PRIOR_DECAY, FlexibleDiffusion, dense_flexible, flexible, fp_drift, fp_noise
from genodiff.core.langevin import critically_damped
from genodiff.core.processes import variance_preserving
from genodiff.core.rates import FixedRates, LearnedRates
from genodiff.core.schedules import LinearRate
from tests.core.helpers import DOUBLE, at, generator, normal, orthogonal

D = 6
ORDER = torch.tensor([3, 0, 5, 1, 4, 2])
ONE = torch.eye(D, dtype=DOUBLE)
KINDS = ["noise", "drift", "blocks", "dense"]


def start(kind: str, dtype: torch.dtype = DOUBLE) -> FlexibleDiffusion:
    """A process as it is before learning, in an oblique basis, blocks of scattered modes, off the origin."""
    basis, mean = PCA(orthogonal(D).to(dtype)), normal(D, seed=8).to(dtype)
    return {
        "noise": lambda: fp_noise(basis, mean=mean),
        "drift": lambda: fp_drift(basis, mean=mean, order=ORDER),
        "blocks": lambda: flexible(basis, size=3, mean=mean, order=ORDER),
        "dense": lambda: dense_flexible(D, mean=mean, dtype=dtype),
    }[kind]()


def learned(kind: str, size: float = 0.5, dtype: torch.dtype = DOUBLE) -> FlexibleDiffusion:
    """The same with parameters away from 0."""
    process = start(kind, dtype)
    with torch.no_grad():
        for i, p in enumerate(process.parameters()):
            p += size * normal(*p.shape, seed=20 + i).to(p)
    return process


def matrices(process: FlexibleDiffusion) -> tuple[Tensor, Tensor]:
    """κR⁻¹ and κω as dense matrices in the coordinates of x."""
    q = process.basis.matrix()
    if process.order is not None:
        q = q[:, process.order]
    both = (torch.block_diag(*m) for m in process.rates())
    symmetric, skew = (process.stretch() * q @ m @ q.T for m in both)
    return symmetric.detach(), skew.detach()


@pytest.mark.parametrize("kind", KINDS)
def test_before_learning_it_is_the_variance_preserving_process(kind: str) -> None:
    process = start(kind)
    plain = variance_preserving(D, mean=process.mean, horizon=1.0, clock=LinearRate(), dtype=DOUBLE)
    x, y, noise, t = normal(5, D), normal(5, D, seed=1), normal(5, D, seed=2), at(0.37)
    assert float(process.stretch().detach()) == 1.0
    torch.testing.assert_close(process.drift(x, t), plain.drift(x, t), rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(process.diffused(x, t), plain.diffused(x, t), rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(process.shaken(noise, t, 0.01), plain.shaken(noise, t, at(0.01)), rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(process.noise_ratio(t), plain.noise_ratio(t, rate=-0.5))
    torch.testing.assert_close(process.time_of_noise(process.noise_ratio(t)), t)
    for s, later in ((0.0, 1e-4), (0.0, 1.0), (0.2, 0.9)):
        law, expected = process.transition(at(s), at(later)), plain.transition(at(s), at(later))
        modal = noise if kind == "dense" else process.basis.analysis(noise)
        torch.testing.assert_close(law.noised(x, modal), expected.noised(x, noise), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(law.log_prob(x, y), expected.log_prob(x, y), rtol=1e-11, atol=0)
        torch.testing.assert_close(law.score(x, y), expected.score(x, y), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("kind", KINDS)
def test_transition_against_matrix_exponentials(kind: str) -> None:
    process, x, y = learned(kind), normal(3, D), normal(3, D, seed=1)
    symmetric, skew = matrices(process)
    for s, t in ((0.0, 0.05), (0.0, 0.4), (0.3, 0.6)):
        elapsed = float(process.clock(at(t)) - process.clock(at(s)))
        phi = torch.tensor(expm(-(0.5 * symmetric + skew).numpy() * elapsed))
        location = process.mean + (x - process.mean) @ phi.T
        expected = MultivariateNormal(location, ONE - phi @ phi.T)
        law = process.transition(at(s), at(t))
        torch.testing.assert_close(law.location(x).detach(), location)
        torch.testing.assert_close(law.log_prob(y, x).detach(), expected.log_prob(y))
        moved = y.clone().requires_grad_()
        score = torch.autograd.grad(expected.log_prob(moved).sum(), moved)[0]
        torch.testing.assert_close(law.score(y, x).detach(), score)
        torch.testing.assert_close(law.log_det().detach(), torch.logdet(ONE - phi @ phi.T))
        root = law.noised(process.mean.expand(D, D), ONE).detach() - process.mean
        torch.testing.assert_close(root.T @ root, ONE - phi @ phi.T)
        drawn, noise = law.sample(x, generator=generator())
        torch.testing.assert_close(law.noised(x, noise), drawn)


@pytest.mark.parametrize("kind", [*KINDS, "langevin"])
def test_transitions_compose(kind: str) -> None:
    process = critically_damped(3, dtype=DOUBLE) if kind == "langevin" else learned(kind)
    s, t = torch.tensor([[1e-5, 0.1, 0.4], [2e-5, 0.5, 1.0]], dtype=DOUBLE)
    first, second = process.transition(torch.zeros_like(s), s), process.transition(s, t)
    whole = process.transition(torch.zeros_like(s), t)
    torch.testing.assert_close(second.phi @ first.phi, whole.phi, rtol=1e-10, atol=1e-12)
    carried = second.phi @ first.covariance @ second.phi.mT + second.covariance
    scale = whole.covariance.diagonal(dim1=-2, dim2=-1).sqrt()
    relative = (carried - whole.covariance) / (scale.unsqueeze(-1) * scale.unsqueeze(-2))
    assert relative.abs().max() < 1e-10


@pytest.mark.parametrize("kind", KINDS)
def test_drift_and_noise_are_the_slopes_of_the_transition(kind: str) -> None:
    process, x, t, h = learned(kind), normal(4, D), at(0.3), 1e-6
    law = process.transition(t, t + h)
    torch.testing.assert_close((law.location(x) - x) / h, process.drift(x, t), rtol=1e-4, atol=1e-3)
    root = law.noised(process.mean.expand(D, D), ONE) - process.mean
    gained = process.diffused(ONE, t)
    torch.testing.assert_close(root.T @ root / h, gained, rtol=1e-4, atol=1e-4)
    shaken = process.shaken(ONE, t)
    torch.testing.assert_close(shaken.T @ shaken, gained)
    torch.testing.assert_close(process.shaken(ONE, t, 0.01), 0.1 * shaken)
    jacobian = torch.autograd.functional.jacobian(lambda y: process.drift(y, t), x[0])
    torch.testing.assert_close(process.divergence(t), jacobian.trace())
    torch.testing.assert_close(process.trace(), gained.trace() / process.clock.rate(t))


def test_a_batch_of_times_is_each_time_by_itself() -> None:
    process, x, noise = learned("blocks"), normal(3, D), normal(3, D, seed=1)
    t = torch.tensor([0.1, 0.5, 0.9], dtype=DOUBLE)
    together = process.transition(torch.zeros_like(t), t).noised(x, noise)
    for i in range(3):
        alone = process.transition(at(0.0), t[i])
        torch.testing.assert_close(together[i], alone.noised(x[i], noise[i]))
        torch.testing.assert_close(process.drift(x, t)[i], process.drift(x[i], t[i]))
        torch.testing.assert_close(process.diffused(x, t)[i], process.diffused(x[i], t[i]))
        torch.testing.assert_close(process.shaken(x, t)[i], process.shaken(x[i], t[i]))


@pytest.mark.parametrize("kind", ["noise", "blocks", "dense"])
def test_a_constant_in_the_spectrum_does_nothing_and_the_end_is_always_the_prior(kind: str) -> None:
    process, x = learned(kind, 1.5), normal(3, D)
    values = process.rates.get_parameter("log_spectrum")
    before = process.transition(at(0.0), at(0.4)).location(x)
    with torch.no_grad():
        values += 3.0
    torch.testing.assert_close(process.transition(at(0.0), at(0.4)).location(x), before)
    assert float(process.spectrum().log().mean().detach()) == pytest.approx(0, abs=1e-12)
    end = float(process.clock(at(1.0)))
    reached = float((process.stretch() * process.spectrum().amin()).detach()) * end
    assert float(process.stretch().detach()) > 1
    assert reached == pytest.approx(PRIOR_DECAY)
    phi = process.transition(at(0.0), at(1.0)).phi.detach()
    assert torch.linalg.matrix_norm(phi, 2).max() <= math.exp(-PRIOR_DECAY / 2) * (1 + 1e-9)


def test_a_slow_clock_is_stretched_and_a_fast_one_is_not() -> None:
    basis = Identity(2, dtype=DOUBLE)
    assert float(fp_noise(basis, clock=LinearRate(1.0, 1.0)).stretch().detach()) == PRIOR_DECAY
    assert float(fp_noise(basis, clock=LinearRate(9.0, 9.0)).stretch().detach()) == 1.0
    assert float(critically_damped(2, clock=LinearRate(1.0, 1.0)).stretch()) == 1.0


def loss(process: FlexibleDiffusion, t: Tensor, dtype: torch.dtype) -> Tensor:
    law = process.transition(torch.zeros_like(t), t)
    x_t = law.noised(normal(len(t), D).to(dtype), normal(len(t), D, seed=1).to(dtype))
    return x_t.square().sum() + law.log_det().sum() + law.score(x_t, torch.zeros_like(x_t)).sum() * 1e-6


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
@pytest.mark.parametrize("make", [start, learned])
@pytest.mark.parametrize("kind", KINDS)
def test_slopes_are_finite_at_both_ends_of_time(kind: str, make: object, dtype: torch.dtype) -> None:
    process = start(kind, dtype) if make is start else learned(kind, dtype=dtype)
    early = process.clock.inverse(torch.tensor([1e-8, 1e-6], dtype=dtype))
    value = loss(process, torch.cat([early, torch.tensor([0.5, 1.0], dtype=dtype)]), dtype)
    slopes = torch.autograd.grad(value, list(process.parameters()))
    assert torch.isfinite(value)
    assert all(torch.isfinite(g).all() for g in slopes)
    assert max(float(g.abs().max()) for g in slopes) > 0


@pytest.mark.parametrize("size", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_slopes_against_finite_differences(kind: str, size: float) -> None:
    """At the start, away from it, and where the stretch takes part in the slope."""
    process, t = learned(kind, size), torch.tensor([0.02, 0.3, 0.9], dtype=DOUBLE)
    if size == 1.0 and kind != "drift":
        assert float(process.stretch().detach()) > 1
    parameters = list(process.parameters())
    slopes = torch.autograd.grad(loss(process, t, DOUBLE), parameters)
    for i, (p, slope) in enumerate(zip(parameters, slopes, strict=True)):
        step = 1e-6 * normal(*p.shape, seed=40 + i)
        with torch.no_grad():
            p += step
            above = loss(process, t, DOUBLE)
            p -= 2 * step
            below = loss(process, t, DOUBLE)
            p += step
        torch.testing.assert_close((slope * step).sum(), ((above - below) / 2).detach(), rtol=2e-4, atol=1e-9)


def test_mixed_precision_leaves_the_law_alone() -> None:
    for kind in KINDS:
        process, t = learned(kind, dtype=torch.float32), torch.tensor([0.1, 0.8])
        expected = process.transition(torch.zeros_like(t), t).covariance
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = process.transition(torch.zeros_like(t), t).covariance
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_jacobians_by_transforms_of_functions() -> None:
    process, x, t = learned("drift"), normal(4, D), at(0.3)
    found = torch.func.vmap(torch.func.jacrev(lambda y: process.drift(y, t)))(x)
    expected = torch.autograd.functional.jacobian(lambda y: process.drift(y, t), x[0])
    torch.testing.assert_close(found, expected.expand_as(found))


def test_what_is_not_learned_is_no_parameter() -> None:
    def names(process: FlexibleDiffusion) -> set[str]:
        return {name.rpartition(".")[2] for name, _ in process.named_parameters()}

    basis = Identity(4)
    assert names(fp_noise(basis)) == {"log_spectrum"}
    assert names(fp_drift(basis)) == {"drift"}
    assert names(flexible(basis, learn=["spectrum", "drift"])) == {"log_spectrum", "drift"}
    assert names(dense_flexible(3)) == {"log_spectrum", "rotation", "drift"}
    assert names(critically_damped(2)) == set()
    assert set(fp_drift(basis).state_dict()) == set(flexible(basis).state_dict())


def test_single_modes_have_coefficients_and_blocks_have_none() -> None:
    process, t = learned("noise"), torch.tensor([0.1, 0.6], dtype=DOUBLE)
    rates = process.stretch() * process.spectrum().squeeze(-1)
    b = process.clock(t).unsqueeze(-1)
    torch.testing.assert_close(process.mean_coefficient(t), (-0.5 * rates * b).exp())
    torch.testing.assert_close(process.variance(t), 1 - (-rates * b).exp())
    for refused in (start("drift").mean_coefficient, start("drift").variance):
        with pytest.raises(ValueError, match="blocks of 2 modes"):
            refused(t)


def test_start_is_the_stationary_law() -> None:
    process, n = learned("blocks"), 20_000
    x = process.start(n, generator=generator())
    assert ((x.mean(0) - process.mean).abs() < 5 / math.sqrt(n)).all()
    assert ((torch.cov(x.T) - ONE).abs() < 5 * math.sqrt(2 / n)).all()


def test_positions_alone_have_the_spread_of_the_velocities_as_well() -> None:
    process, x, t, n = (
        critically_damped(2, gamma=0.3, mean=normal(2), dtype=DOUBLE),
        normal(1, 2, seed=1),
        at(0.2),
        40_000,
    )
    law = process.from_positions(t)
    state = process.moving(x.expand(n, 2), generator=generator(1))
    torch.testing.assert_close(process.position(state), x.expand(n, 2))
    assert float(process.velocity(state).var()) == pytest.approx(0.3, rel=0.03)
    drawn, _ = process.transition(at(0.0), t).sample(state, generator=generator(2))
    root = law.noised(process.mean.expand(4, 4), torch.eye(4, dtype=DOUBLE)) - process.mean
    covariance = root.T @ root
    sd = covariance.diagonal().sqrt()
    assert ((torch.cov(drawn.T) - covariance).abs() < 5 * math.sqrt(2 / n) * sd.outer(sd)).all()
    assert ((drawn.mean(0) - law.location(process.at_rest(x))[0]).abs() < 5 * sd / math.sqrt(n)).all()


def test_langevin_moves_positions_by_velocities_and_shakes_velocities_only() -> None:
    process, state, t = critically_damped(2, dtype=DOUBLE), normal(3, 4), at(0.4)
    x, v, b = process.position(state), process.velocity(state), process.clock.rate(t)
    torch.testing.assert_close(process.drift(state, t), b * torch.cat([v, -x - 2 * v], -1))
    assert not process.position(process.shaken(state, t)).any()
    torch.testing.assert_close(process.velocity(process.diffused(state, t)), 4 * b * v)
    torch.testing.assert_close(process.divergence(t), -4 * b)


def test_rates_that_make_no_process_are_refused() -> None:
    one, zero = torch.eye(2)[None], torch.zeros(1, 2, 2)
    with pytest.raises(ValueError, match="block 0 of R⁻¹"):
        FixedRates(-one, zero)
    with pytest.raises(ValueError, match="block 0 of R⁻¹"):
        FixedRates(one + torch.tensor([[0.0, 1.0], [0.0, 0.0]]), zero)
    with pytest.raises(ValueError, match="block 0 of ω"):
        FixedRates(one, one)
    with pytest.raises(ValueError, match="blocks"):
        FixedRates(one, torch.zeros(1, 3, 3))
    with pytest.raises(ValueError, match="colour"):
        LearnedRates(1, 2, learn=["colour"])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="neither rotation nor drift"):
        LearnedRates(2, 1, learn=["drift"])


def test_shapes_that_do_not_fit_are_refused() -> None:
    basis, rates = Identity(4), FixedRates(torch.eye(2).repeat(2, 1, 1), torch.zeros(2, 2, 2))
    with pytest.raises(ValueError, match="do not divide 4"):
        fp_drift(basis, size=3)
    with pytest.raises(ValueError, match="do not make"):
        FlexibleDiffusion(Identity(6), rates)
    with pytest.raises(ValueError, match="every mode"):
        FlexibleDiffusion(basis, rates, order=torch.tensor([0, 1, 1, 2]))
    with pytest.raises(ValueError, match="mean"):
        FlexibleDiffusion(basis, rates, mean=torch.zeros(3))
    with pytest.raises(ValueError, match="horizon"):
        FlexibleDiffusion(basis, rates, horizon=0.0)
    with pytest.raises(ValueError, match="velocities"):
        critically_damped(2, gamma=0.0)


def test_noise_grid_takes_equal_steps_of_the_logarithm_of_the_noise_between_its_ends() -> None:
    process = fp_noise(Identity(D))
    grid = process.noise_grid(7, last=1e-4)
    assert grid[[0, -1]].tolist() == pytest.approx([process.horizon, 1e-4])
    steps = process.noise_ratio(grid).log().diff()
    assert torch.allclose(steps, steps[:1].expand(7))
    with pytest.raises(ValueError, match="at least 1 step"):
        process.noise_grid(0, last=1e-4)


def test_a_start_law_that_knows_the_rest_needs_less_to_be_forgotten() -> None:
    """κ = max(1, max f/λ / B(T)): every block decays by f at least, one by no more; with f = 0, κ = 1."""
    needed = torch.tensor([3.0, 0.5, 4.0, 40.0, 0.0, 6.0], dtype=DOUBLE)
    process = FlexibleDiffusion(Identity(D, dtype=DOUBLE), learned("noise").rates, forgetting=needed)
    decayed = process.stretch() * process.spectrum().flatten() * process.clock(at(1.0))
    assert (decayed >= needed * (1 - 1e-12)).all()
    assert float(process.stretch().detach()) > 1
    assert float((decayed - needed).min().detach()) == pytest.approx(0, abs=1e-12)
    free = FlexibleDiffusion(Identity(D, dtype=DOUBLE), process.rates, forgetting=torch.zeros(D))
    assert float(free.stretch().detach()) == 1
    slope = torch.autograd.grad(free.transition(at(0.0), at(0.5)).variance.sum(), process.rates.log_spectrum)[0]
    assert torch.isfinite(slope).all()


@pytest.mark.parametrize("size", [1, 2])
def test_a_run_of_coordinates_is_a_part_of_the_whole(size: int) -> None:
    basis = BlockPCA([orthogonal(2).to(DOUBLE), orthogonal(4).to(DOUBLE)])
    learn = ("spectrum",) if size == 1 else ("spectrum", "rotation", "drift")
    process = flexible(basis, size=size, learn=learn, mean=normal(D))
    with torch.no_grad():
        for i, p in enumerate(process.parameters()):
            p += 0.5 * normal(*p.shape, seed=i)
    sites = slice(2, 6)
    part = process.restrict(basis.restrict(1, 2), sites)
    x, noise, v = normal(3, D), normal(3, D, seed=1), normal(3, D, seed=2)
    s, t = at(0.1), at(0.4)
    assert float(process.stretch().detach()) > 1
    assert torch.equal(part.noise_ratio(t), process.noise_ratio(t))
    whole, law = process.transition(s, t), part.transition(s, t)
    torch.testing.assert_close(law.noised(x[:, sites], noise[:, sites]), whole.noised(x, noise)[:, sites].detach())
    torch.testing.assert_close(part.drift(x[:, sites], t), process.drift(x, t)[:, sites].detach())
    torch.testing.assert_close(part.shaken(v[:, sites], t), process.shaken(v, t)[:, sites].detach())
    trace = process.stretch() * process.spectrum()[2 // size :].sum()
    assert float(part.trace()) == pytest.approx(float(trace.detach()))


def test_runs_that_cut_or_mix_blocks_are_refused() -> None:
    pairs = flexible(Identity(D), size=2)
    with pytest.raises(ValueError, match="coordinates 1 … 3 are not a run of whole blocks of 2"):
        pairs.restrict(Identity(3), slice(1, 4))
    with pytest.raises(ValueError, match="not a run of whole blocks"):
        start("blocks").restrict(Identity(3, dtype=DOUBLE), slice(0, 3))
    with pytest.raises(ValueError, match="forgetting must be 6 numbers >= 0"):
        FlexibleDiffusion(Identity(D), LearnedRates(D, 1, learn=()), forgetting=-torch.ones(D))
