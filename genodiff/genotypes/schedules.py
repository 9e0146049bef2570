"""How fast noise grows, and in which modes: subspaces of the LD-block modes, constant speed, learned clocks and rates.

Everything is fitted before the network is trained, so that training covers what sampling visits: errors are those of
the denoiser whose network says nothing yet (Gaussian base, alleles, haplotype backgrounds), on people whom the
backgrounds have not seen.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from genodiff.core.denoisers import Denoiser
from genodiff.core.evidence import Evidence
from genodiff.core.flexible import FlexibleDiffusion
from genodiff.core.knots import KnotSchedule, NoiseSchedule
from genodiff.core.learning import learn_time
from genodiff.core.losses import VectorProblem, allele_cross_entropies
from genodiff.core.speed import constant_speed_grid, fit_constant_speed_schedule, measure_error_curves, mode_errors
from genodiff.core.subspaces import SubspaceDiffusion
from genodiff.core.training import TrainingConfig, train
from genodiff.genotypes.denoiser import AlleleDenoiser
from genodiff.genotypes.network import ChromosomeNetwork

if TYPE_CHECKING:
    from genodiff.genotypes.engine import Engine

__all__ = [
    "PACES",
    "fit_schedule",
    "leading_subspaces",
    "learn_clock",
    "learn_spectrum",
    "log_linear",
    "spectrum_problem",
]

_KNOTS = 33
_LEVELS = 24
_STATES = 1 << 18
_WINDOW = 0.1
"""Share of the whole time that a step is taken to have while a clock is learned: that of one of ten."""

_CLOCK = TrainingConfig(
    steps=150, batch=24, learning_rate=0.03, weight_decay=0.0, warmup=10, ema=0.9, validate_every=25
)

_SPECTRUM = TrainingConfig(
    steps=200, batch=64, learning_rate=0.02, weight_decay=0.0, warmup=10, ema=0.95, validate_every=25
)

PACES = 257
"""Times that the constant-speed grid of a given process is read off from."""


def leading_subspaces(variance: Tensor, subspaces: int) -> Tensor:
    """Modes in order of their variance, cut into subspaces of about equal shares of it: number of each mode, (d,).

    With two, the leading modes that carry half of the variance, and all others. Where one mode holds more than a
    share, there are fewer subspaces.

    Args:
        variance: of the modes, (d,), ≥ 0, not all zero.
        subspaces: J ≥ 1.
    """
    order = variance.double().argsort(descending=True, stable=True)
    ranked = variance.double()[order]
    before = (ranked.cumsum(0) - ranked) / ranked.sum()
    number = (subspaces * before).long().clamp(0, subspaces - 1)
    out = torch.empty_like(number)
    out[order] = number
    return torch.unique(out, return_inverse=True)[1]


def log_linear(subspaces: int, *, lowest: float, highest: float) -> KnotSchedule:
    """log g_j(t) linear on [0, 1], alike in all subspaces: equal steps of time are geometric steps of noise."""
    knots = torch.linspace(math.log(lowest), math.log(highest), _KNOTS, dtype=torch.float64)
    return KnotSchedule(knots.expand(subspaces, -1), horizon=1.0)


def _on_knots(schedule: NoiseSchedule) -> KnotSchedule:
    """Any schedule at equally spaced times, log-linear between them."""
    times = torch.linspace(0.0, schedule.horizon, _KNOTS, dtype=torch.float64)
    knots = schedule.log_levels(times).detach().T.cpu().clone()
    knots[:, 0], knots[:, -1] = knots[0, 0], knots[0, -1]
    return KnotSchedule(knots, horizon=schedule.horizon)


def _unlearned(engine: Engine) -> AlleleDenoiser:
    """The denoiser with a network that has learned nothing: it only trusts the backgrounds."""
    with torch.random.fork_rng(devices=[]):
        network = ChromosomeNetwork(
            engine.process.dim,
            channels=engine.network.channels,
            outputs=engine.ploidy,
            conditions=(),
            opinions=engine.network.opinions,
            config=engine.config.network,
        ).to(engine.device)
    scales = list(engine.backgrounds)
    return AlleleDenoiser(engine.denoiser.base, network, ploidy=engine.ploidy, backgrounds=scales)  # type: ignore[arg-type]


def fit_schedule(engine: Engine, x_0: Tensor, component: Tensor, *, seed: int) -> None:
    """Fits the schedule that ``engine.config`` asks for, in place; one that is not ``"geometric"``, which needs no fit.

    Args:
        engine: assembled, its network not trained.
        x_0: states of people whom the backgrounds have not seen, (n, d), complete.
        component: their anchors, (n,).
        seed: of the noise.
    """
    config, process = engine.config, engine.process
    denoiser = _unlearned(engine)
    generator = torch.Generator(engine.device).manual_seed(seed)
    batch = max(2, _STATES // process.dim)
    c = float(engine.total.mean())
    times = engine.grid(_LEVELS).flip(0)
    if not isinstance(process, SubspaceDiffusion):
        errors = mode_errors(denoiser, x_0, times, generator=generator, batch=batch, component=component)
        engine.pace = constant_speed_grid(process, times, errors, steps=PACES - 1, c=c).flip(0).to(engine.device)
        return
    curves = measure_error_curves(denoiser, x_0, times, generator=generator, batch=batch, component=component)
    lowest, highest = process.schedule.levels(torch.tensor([0.0, process.horizon]))[:, 0].tolist()
    schedule = fit_constant_speed_schedule(
        curves, c=c, knots=_KNOTS, horizon=process.horizon, lowest=lowest, highest=highest
    )
    engine.set_schedule(schedule)
    if config.schedule == "learned-time":
        learn_clock(engine, x_0, component, seed=seed)


def learn_clock(engine: Engine, x_0: Tensor, component: Tensor, *, seed: int) -> None:
    """Learns a clock for the schedule of the subspaces, in place: the one that ten steps of second order like best.

    Gradients do not pass through the backgrounds: the clock is that of the Gaussian base and its alleles.

    Args:
        engine: with noise in subspaces.
        x_0: states, (n, d), complete; a quarter tells when to stop.
        component: their anchors, (n,).
        seed: of batches and noise.
    """
    alleles = AlleleDenoiser(engine.denoiser.base, None, ploidy=engine.ploidy)
    held = max(1, len(x_0) // 4)
    timed, _ = learn_time(
        alleles, x_0[held:], x_0[:held], _CLOCK, seed=seed, c=float(engine.total.mean()), window=_WINDOW, excess=0.0,
        repeats=4, at_once=max(2, _STATES // engine.process.dim),
        conditions=({"component": component[held:]}, {"component": component[:held]}),
    )  # fmt: skip
    assert isinstance(timed.process, SubspaceDiffusion)
    engine.set_schedule(_on_knots(timed.process.schedule))


def _beyond(
    engine: Engine,
    denoiser: Denoiser,
    x_0: Tensor,
    *,
    grid: Tensor,
    generator: torch.Generator | None,
    component: Tensor,
) -> Tensor:
    """What the path leaves over: the divergence of X_T from the start law, and alleles read off at the last time.

        KL(X_T | x_0 ‖ start law of its anchor) − E log p(x_0 | X_ε),    nats of every row, (B,).

    Alleles have a probability, not a density: without the second term the bound would fall for ever with ε. States that
    were unknown, and are no whole numbers, have none.
    """
    assert isinstance(denoiser, AlleleDenoiser)
    process, law = engine.process, engine.start_law()
    first, last = grid[[0, -1]].to(x_0)
    given = process.transition(torch.zeros_like(first), first)
    ratio = given.variance / law.modal_variance
    missed = process.basis.analysis(given.location(x_0) - law.means[component])
    divergence = 0.5 * (ratio - 1 - ratio.log() + missed.square() / law.modal_variance).sum(-1)
    x_t, _ = process.transition(torch.zeros_like(last), last).sample(x_0, generator=generator)
    each = allele_cross_entropies(denoiser.logits(x_t, last, component=component), x_0.round())
    return divergence + torch.where(x_0 == x_0.round(), each, 0.0).sum(-1)


def spectrum_problem(engine: Engine, x_0: Tensor, component: Tensor, *, seed: int) -> VectorProblem:
    """The evidence bound of alleles given their anchors, nats per allele, along the steps of the sampler.

    Gradients do not pass through the backgrounds: the bound is that of the Gaussian base and its alleles.

    Args:
        engine: whose process is flexible.
        x_0: states, (n, d); a quarter tells when to stop.
        component: their anchors, (n,).
        seed: of the noise of that quarter.
    """
    alleles = AlleleDenoiser(engine.denoiser.base, None, ploidy=engine.ploidy)
    grid = engine.grid(_LEVELS)
    held = max(1, len(x_0) // 4)
    return VectorProblem(
        alleles, x_0[held:], x_0[:held], grid=grid, batch=_SPECTRUM.batch, seed=seed, repeats=8,
        objective=Evidence(grid, rest=partial(_beyond, engine, grid=grid)),
        at_once=max(2, _STATES // engine.process.dim),
        conditions=({"component": component[held:]}, {"component": component[:held]}),
    )  # fmt: skip


def learn_spectrum(engine: Engine, x_0: Tensor, component: Tensor, *, seed: int) -> None:
    """Learns the rates of the modes by the evidence bound (FP-Noise), in place; they stay so from then on.

    For a denoiser that is right the bound is the same along every path between the ends. What is learned is the path on
    which this one errs least.

    Args:
        engine: assembled with the drift ``"fp-noise"``, its network not trained.
        x_0: states of people whom the backgrounds have not seen, (n, d), complete; a quarter tells when to stop.
        component: their anchors, (n,).
        seed: of batches and noise.
    """
    process = engine.process
    assert isinstance(process, FlexibleDiffusion)
    problem = spectrum_problem(engine, x_0, component, seed=seed)
    with torch.no_grad():
        before = problem.validation()
    found = train(process.rates, problem, _SPECTRUM, seed=seed)
    if not found.best_validation < before:
        # As with any training that is stopped by people kept aside, its start is one of the places to stop at.
        with torch.no_grad():
            for p in process.rates.parameters():
                p.zero_()
    engine.settle()
