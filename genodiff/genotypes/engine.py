"""The assembled diffusion: process, base, network, and what training and sampling ask of them."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from genodiff.core.bases import BlockPCA
from genodiff.core.denoisers import Denoiser, GaussianMixture, GaussianMixtureDenoiser, terminal
from genodiff.core.flexible import FlexibleDiffusion
from genodiff.core.knots import KnotSchedule
from genodiff.core.losses import allele_cross_entropy, stratified_times
from genodiff.core.processes import Diffusion, LinearDiffusion, gou_rates
from genodiff.core.rates import LearnedRates
from genodiff.core.samplers import Ancestral, EulerFlow, EulerMaruyama, EulerODE, HeunFlow, HeunODE, Sampler
from genodiff.core.schedules import UnitRate, log_noise_grid, uniform_grid
from genodiff.core.subspaces import SubspaceDiffusion
from genodiff.core.training import Workers, generator_on, step_generator
from genodiff.genotypes.backgrounds import Backgrounds, Membership
from genodiff.genotypes.config import ModelConfig, SamplerName
from genodiff.genotypes.denoiser import FEATURES, AlleleDenoiser, log_odds
from genodiff.genotypes.network import ChromosomeNetwork
from genodiff.genotypes.schedules import leading_subspaces, log_linear

__all__ = ["SAMPLERS", "AlleleProblem", "Engine", "autocast", "horizon_for"]

_FAST_RATE = -0.5
"""Contraction rate −b of a mode without variance; its noise ratio is the network's clock."""

_NEXT_TO_NOTHING = 1e-6
"""Variance of a base that knows no more than frequencies: other sites say nothing about a site."""

_LAST_SHARE = 1e-6
"""Where the sampler stops on a schedule of its own, as a share of its time: at 0 itself no noise is left."""

_EVEN_BELOW, _EVENNESS = 8.0, 0.75

_ON_DEVICE = 1 << 30
"""Most bytes of states that are kept on a CUDA device."""

SAMPLERS: dict[SamplerName, Callable[[Denoiser], Sampler]] = {
    "ancestral": Ancestral,
    "ancestral-mean": partial(Ancestral, use_mean=True),
    "euler-maruyama": EulerMaruyama,
    "euler-ode": EulerODE,
    "heun-ode": HeunODE,
    "euler-flow": EulerFlow,
    "heun-flow": partial(HeunFlow, second=0.5),
}
"""Rules of a step by name."""


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Mixed precision for the network: bfloat16 on CUDA, and on processors with native bfloat16 products."""
    if precision == "auto":
        if device.type == "cuda":
            enabled = torch.cuda.is_bf16_supported()
        else:
            enabled = device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
    else:
        enabled = precision == "bfloat16"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


def horizon_for(spectrum: Tensor, rates: Tensor, *, drowned: float) -> float:
    """The first T at which λ_i m_i²/s_i² ≤ ``drowned`` and s_i²/m_i² ≥ 1 for every mode (β = 1).

    Per mode s²/m² = expm1(−2cT)/(−2c), so T = log1p(−2c λ/drowned)/(−2c).
    """
    times = torch.log1p(-2 * rates * spectrum / drowned) / (-2 * rates)
    # Where next to nothing varies within anchors there is still an allele to hide: noise of its own size at least.
    least = torch.log1p(-2 * rates) / (-2 * rates)
    return float(torch.maximum(times.max(), least.max()))


def forgetting_for(spectrum: Tensor, *, drowned: float) -> Tensor:
    """The least κ r_i B(T), (d,), at which the same holds where modes have rates r_i and the stationary law N(0, 1).

    Per mode s²/m² = expm1(κ r_i B).
    """
    return torch.log1p(spectrum / drowned).clamp_min(math.log(2))


class Engine(nn.Module):
    """Start law, process, base and network of one chromosome.

    Args:
        basis: modes of the drift.
        frequency: mean state of every site, (d,).
        total: variance of the data along every mode: sets the contraction rates.
        within: variance along every mode within anchors: covariance of the base and of the start law.
        points: mean states of the anchors, (K, d).
        starts: the points the sampler starts from, (K, d).
        weights: (K,).
        conditions: number of categories of each conditioning variable of the network.
        backgrounds: haplotype backgrounds, one per scale.
        ploidy: largest state.
        config: choices.
    """

    total: Tensor
    starts: Tensor
    pace: Tensor | None

    def __init__(
        self,
        *,
        basis: BlockPCA,
        frequency: Tensor,
        total: Tensor,
        within: Tensor,
        points: Tensor,
        starts: Tensor,
        weights: Tensor,
        conditions: tuple[int, ...],
        backgrounds: Sequence[Backgrounds],
        ploidy: int,
        config: ModelConfig,
    ) -> None:
        super().__init__()
        self.config, self.ploidy, self.conditions, self.basis = config, ploidy, conditions, basis
        self.register_buffer("total", total.float())
        self.register_buffer("starts", starts.float().clone())
        self.register_buffer("pace", None)
        self.process = self._process(basis, frequency.float(), within.float())
        self.prior = GaussianMixture(self.process, weights=weights, means=points, variance=within.float())
        self.network = ChromosomeNetwork(
            self.process.dim,
            channels=FEATURES + len(backgrounds),
            outputs=ploidy,
            conditions=conditions,
            opinions=len(backgrounds),
            config=config.network,
        )
        self.backgrounds = nn.ModuleList(backgrounds)
        self.denoiser = self._denoiser(self._base_law(), first_site=0)

    def _process(self, basis: BlockPCA, frequency: Tensor, within: Tensor) -> Diffusion:
        """The drift of GOU, or noise in subspaces that grows alike in all of them until a schedule is set.

        Rates that are learned begin as those of a = 1.
        """
        config = self.config
        if config.drift == "fp-noise":
            learned = LearnedRates(basis.dim, 1, learn={"spectrum"}, dtype=basis.dtype)
            forgetting = forgetting_for(within, drowned=config.drowned)
            return FlexibleDiffusion(
                basis, learned, mean=frequency, clock=UnitRate(), horizon=float(forgetting.max()), forgetting=forgetting
            )
        rates = gou_rates(self.total, a=config.a, b=-_FAST_RATE)
        horizon = horizon_for(within, rates, drowned=config.drowned)
        drift = LinearDiffusion(basis, mean=frequency, rates=rates, horizon=horizon)
        if not config.subspaces:
            return drift
        # Both begin under the same noise of the fastest modes: with less, too much of a haplotype is left to anchors.
        highest = float(drift.noise_ratio(torch.tensor(horizon, dtype=torch.float64), rate=_FAST_RATE))
        subspace = leading_subspaces(within, config.subspaces)
        schedule = log_linear(int(subspace.max()) + 1, lowest=config.lowest_noise, highest=highest)
        return SubspaceDiffusion(basis, subspace, schedule.requires_grad_(False), mean=frequency)

    def separate(self) -> Engine:
        """A twin whose schedule and grid can be set without touching this one; all that was learned is shared."""
        twin = copy.copy(self)
        twin._buffers, twin._modules = dict(self._buffers), dict(self._modules)
        if isinstance(self.process, SubspaceDiffusion):
            twin.process = self.process.with_schedule(self.process.schedule)
            twin.prior, twin.denoiser = self.prior.on(twin.process), self.denoiser.on(twin.process)
        return twin

    def settle(self) -> None:
        """Ends a process whose rates were learned, or read from a file, where all its modes have forgotten enough.

        From then on no gradient reaches the rates, and a mode with rate 1, which the geometric mean of them is, keeps
        to the clock.
        """
        process = self.process
        if not isinstance(process, FlexibleDiffusion):
            raise ValueError(f"only rates that are learned settle, not those of {type(process).__name__}")
        process.rates.requires_grad_(False)
        process.horizon *= float(process.stretch())

    def set_schedule(self, schedule: KnotSchedule) -> None:
        """Puts a schedule in the place of that of the subspaces; no gradient reaches it."""
        if not isinstance(self.process, SubspaceDiffusion):
            raise ValueError(f"only noise in subspaces has a schedule of its own, not {type(self.process).__name__}")
        self.process.schedule = schedule.requires_grad_(False).to(self.device)

    def _base_law(self) -> GaussianMixture:
        """The law of states that the base of the denoiser is exact for; rows keep the index of their anchor."""
        if self.config.base == "mixture":
            return self.prior
        variance = self.total if self.config.base == "gaussian" else torch.full_like(self.total, _NEXT_TO_NOTHING)
        everywhere = self.process.mean.expand_as(self.prior.means)
        return GaussianMixture(self.process, weights=self.prior.weights, means=everywhere, variance=variance)

    def _denoiser(self, prior: GaussianMixture, *, first_site: int) -> AlleleDenoiser:
        return AlleleDenoiser(
            GaussianMixtureDenoiser(prior),
            self.network,
            ploidy=self.ploidy,
            reference_rate=_FAST_RATE,
            backgrounds=list(self.backgrounds),  # type: ignore[arg-type]
            first_site=first_site,
        )

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return self.process.mean.device

    def grid(self, steps: int | None = None) -> Tensor:
        """Times of the sampler, (steps + 1,), float64: equal steps of what the schedule of the configuration says.

        By default the noise ratio (of the fastest modes; of subspaces their geometric mean) falls geometrically.
        """
        process, start = self.process, torch.tensor(self.start_time, dtype=torch.float64)
        steps = steps or self.config.sampling_steps
        least = _LAST_SHARE * process.horizon if self.config.subspaces else 0.0
        if self.config.schedule != "geometric":
            if self.config.subspaces:
                return uniform_grid(float(start), steps, last=least)
            if self.pace is not None:
                return self._paced(float(start), steps)
        times = log_noise_grid(
            lambda rho: process.time_of_noise(rho, rate=_FAST_RATE),
            lowest=self.config.lowest_noise,
            highest=float(process.noise_ratio(start, rate=_FAST_RATE)),
            steps=steps,
        )
        times[0] = start
        return times.clamp_min(least)

    def _paced(self, start: float, steps: int) -> Tensor:
        """Times at equal lengths along the path of a process that is given."""
        assert self.pace is not None
        pace = self.pace.cpu().numpy()
        first = float(np.interp(start, pace, np.arange(len(pace))))
        times = torch.from_numpy(np.interp(np.linspace(first, 0.0, steps + 1), np.arange(len(pace)), pace))
        times[0] = start
        return times

    @property
    def start_time(self) -> float:
        """When the sampler starts: at the horizon, or as early as the configuration asks for."""
        rho = self.config.start_noise
        if rho is None:
            return self.process.horizon
        time = float(self.process.time_of_noise(torch.tensor(rho, dtype=torch.float64), rate=_FAST_RATE))
        return min(time, self.process.horizon)

    def start_law(self) -> GaussianMixture:
        """The law the sampler starts from (GOU eq. 12)."""
        kind = self.config.anchor_covariance
        return terminal(
            self.process,
            weights=self.prior.weights,
            anchors=self.starts,
            spectrum=self.total if kind == "total" else self.prior.modal_variance,
            covariance=kind,
            time=self.start_time,
        )

    def run_of(self, first: int, last: int) -> tuple[Diffusion, AlleleDenoiser, slice]:
        """Process and denoiser of the LD blocks first … last − 1 alone, and the sites they cover."""
        bounds = self.basis.bounds
        sites = slice(int(bounds[first]), int(bounds[last]))
        if (first, last) == (0, len(bounds) - 1):
            return self.process, self.denoiser, sites
        basis = self.basis.restrict(first, last)
        process = self.process.restrict(basis, sites)
        denoiser = self._denoiser(self.denoiser.base.prior.restrict(process, sites), first_site=sites.start)
        return process, denoiser, sites

    @torch.no_grad()
    def sample(
        self,
        component: Tensor,
        conditions: tuple[Tensor, ...],
        *,
        generator: torch.Generator,
        steps: int | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Tensor:
        """New states, int8 (n, d), for rows with given anchors and conditions.

        The alleles are read off at the last noise level by a draw from their posterior.
        """
        start, _ = self.start_law().sample(len(component), component=component, generator=generator)
        grid = self.grid(steps)
        calibrated = CalibratedDenoiser(self.denoiser, means=self.prior.means)
        with autocast(self.device, self.config.precision):
            x = SAMPLERS[self.config.sampler](calibrated).sample(
                start, grid, generator=generator, progress=progress, component=component, conditions=conditions
            )
            return calibrated.draw(
                x, grid[-1].to(x), component=component, conditions=conditions, generator=generator
            ).to(torch.int8)


class CalibratedDenoiser(Denoiser):
    """A denoiser whose mean over a batch is that of the anchors the batch was drawn from.

    E[D(X_t)] = E[X_0] holds for the true posterior mean at every t; with a learned one rare lineages are lost on the
    way, a few per cent a step. A per-site shift of the log odds restores the mean, by damped Newton steps: bounded,
    because a lineage that is gone cannot be called back, and weaker in small batches, whose own mean is uncertain.
    E[D(X_t) a] = E[X_0 a] holds as well, with a the frequencies of a row's anchor: where rows drift to the frequencies
    of everybody, one more number, the same for all rows and sites, leans them towards their anchors.
    As noise falls lineages are settled and a shift puts alleles where they do not belong: the bounds fall too.

    Args:
        denoiser: the denoiser to hold in place.
        means: mean states of the anchors, (K, d).
    """

    _LARGEST = 4.0
    _STEPS = 3
    _DAMPING = 32.0
    _LEAN = 0.5
    _PART = 128

    def __init__(self, denoiser: AlleleDenoiser, *, means: Tensor) -> None:
        super().__init__()
        self.denoiser, self.process, self.means = denoiser, denoiser.process, means

    def logits(self, x_t: Tensor, t: Tensor, *, component: Tensor, conditions: tuple[Tensor, ...]) -> Tensor:
        """Shifted log odds."""
        logits = [self.denoiser.logits(x, t, **given) for x, given in self._parts(x_t, component, conditions)]
        return self._held(torch.cat(logits).float(), t, component)

    def _parts(
        self, x_t: Tensor, component: Tensor, conditions: tuple[Tensor, ...]
    ) -> Iterator[tuple[Tensor, dict[str, Any]]]:
        """Parts that fit the processor's cache: the network runs on these, the calibration sees the whole batch."""
        for at in range(0, len(x_t), self._PART):
            i = slice(at, at + self._PART)
            yield x_t[i], {"component": component[i], "conditions": tuple(c[i] for c in conditions)}

    def _held(self, logits: Tensor, t: Tensor, component: Tensor) -> Tensor:
        """Log odds with the mean, and the lean towards the anchors, that they should have."""
        denoiser = self.denoiser
        firmness = min(1.0, float(self.process.noise_ratio(t, rate=_FAST_RATE))) ** 0.5
        largest, most = firmness * self._LARGEST, firmness * self._LEAN
        target = self.means[component].mean(0)
        states = torch.arange(denoiser.ploidy + 1, dtype=logits.dtype, device=logits.device)
        odds = log_odds(self.means / denoiser.ploidy)
        towards, own = (odds - log_odds(target / denoiser.ploidy))[component], self.means[component] - target
        moved, shift, lean = logits, torch.zeros_like(target), logits.new_zeros(())
        for _ in range(self._STEPS):
            mean = denoiser.expectation(moved)
            if denoiser.ploidy == 1:
                slope = mean * (1 - mean)
            else:
                slope = (torch.softmax(moved, dim=-1) * states.square()).sum(-1) - mean.square()
            change = (target - mean.mean(0)) / (slope.mean(0) + 1e-5)
            shift = (shift + change.clamp(-1, 1)).clamp(-largest, largest)
            missing = (own * (own - (mean - mean.mean(0)))).sum()
            lean = (lean + missing / ((slope * towards * own).sum() + 1e-5)).clamp(-most, most)
            by = shift * len(logits) / (len(logits) + self._DAMPING) + lean * towards
            moved = logits + (by if denoiser.ploidy == 1 else by.unsqueeze(-1) * states)
        return moved

    def forward(self, x_t: Tensor, t: Tensor, **condition: Any) -> Tensor:
        """Expected states, (B, d)."""
        return self.denoiser.expectation(self.logits(x_t, t, **condition))

    def draw(self, x_t: Tensor, t: Tensor, *, generator: torch.Generator | None = None, **condition: Any) -> Tensor:
        """States drawn from the calibrated posterior, (B, d), a background at a time."""
        component = condition["component"]
        views = [
            self.denoiser.together(x, t, generator=generator, **given)
            for x, given in self._parts(x_t, component, condition["conditions"])
        ]
        logits = self._held(torch.cat([own.float() for own, _ in views]), t, component)
        if isinstance(views[0][1], Tensor):
            logits = logits + torch.cat([shift for _, shift in views])  # type: ignore[misc]
        return self.denoiser.states(logits, t, generator=generator)


@dataclass(frozen=True)
class Rows:
    """Training or validation rows on the device of the engine.

    Attributes:
        states: int8 (n, d), −1 where unknown; those of a large table stay in the memory of the host.
        component: anchor of each row, (n,).
        conditions: one (n,) tensor per conditioning variable of the network.
        members: per scale, the background of each row in every tile, (n, tiles), where the rows are part of the
            backgrounds.
    """

    states: Tensor
    component: Tensor
    conditions: tuple[Tensor, ...]
    members: tuple[Tensor, ...] = ()

    @classmethod
    def from_numpy(
        cls,
        states: NDArray[np.int8],
        component: NDArray[np.int64],
        *conditions: NDArray[np.int64],
        device: torch.device,
    ) -> Rows:
        """Moves arrays to the device, save for states that would fill it: those stay in pinned memory."""
        small = [torch.from_numpy(np.ascontiguousarray(a)).to(device) for a in (component, *conditions)]
        table = torch.from_numpy(np.ascontiguousarray(states))
        host = device.type == "cuda" and table.nbytes > _ON_DEVICE
        return cls(table.pin_memory() if host else table.to(device), small[0], tuple(small[1:]))

    def states_of(self, index: Tensor, sites: slice) -> Tensor:
        """States of rows (B,), at a run of sites, on the device of the index, (B, sites)."""
        found = self.states[index.to(self.states.device), sites]
        if found.device == index.device:
            return found
        # Out of pinned memory the copy runs beside what the device is at.
        return found.pin_memory().to(index.device, non_blocking=True)


class AlleleProblem:
    """Cross-entropy of alleles at noise levels spread over the sampler's grid: what training minimises.

    Args:
        engine: what is trained.
        rows: training rows.
        held_out: validation rows.
        seed: of the fixed validation noise.
    """

    _CHUNK = 64

    def __init__(self, engine: Engine, rows: Rows, held_out: Rows, *, seed: int) -> None:
        self.engine, self.rows, self.held_out, self.seed = engine, rows, held_out, seed
        self.bounds = engine.basis.bounds
        self.grid = engine.grid()

    def _crop(self, generator: torch.Generator) -> tuple[int, int]:
        """A random run of LD blocks of about the crop's length; every site is equally likely to be covered."""
        sites, crop = self.bounds[-1], self.engine.config.crop_sites
        if sites <= crop:
            return 0, len(self.bounds) - 1
        start = int(torch.randint(-crop + 1, sites, (1,), generator=generator))
        lo, hi = max(0, start), min(sites, start + crop)
        first = int(np.searchsorted(self.bounds, lo, side="right")) - 1
        return first, max(first + 1, int(np.searchsorted(self.bounds, hi, side="right")) - 1)

    def _loss(
        self, rows: Rows, index: Tensor, t: Tensor, part: slice, run: tuple[int, int], generator: torch.Generator
    ) -> Tensor:
        process, denoiser, sites = self.engine.run_of(*run)
        device = self.engine.device
        noise_source = generator_on(device, generator)
        # Noise is drawn for the whole batch, so that every worker sees the batch a single process would.
        noise = torch.randn(len(index), process.dim, generator=noise_source, device=device)[part]
        index, t = index[part].to(device), t[part].to(device=device, dtype=noise.dtype)
        states = rows.states_of(index, sites)
        known = states >= 0
        component = rows.component[index]
        x_0 = torch.where(known, states.to(noise.dtype), self.engine.prior.means[component][:, sites])
        x_t = process.transition(torch.zeros_like(t), t).noised(x_0, noise)
        with autocast(device, self.engine.config.precision):
            conditions = tuple(c[index] for c in rows.conditions)
            leave_out = [Membership(x_0, m[index]) for m in rows.members] or None
            logits = denoiser.logits(x_t, t, component=component, conditions=conditions, leave_out=leave_out)
        weight = self._weight(t)
        observed = None if bool(known.all()) else known
        return allele_cross_entropy(logits.float(), states, observed=observed, weight=weight)

    def _weight(self, t: Tensor) -> Tensor:
        """Weight of the loss at times t, (B,), 1 on average over the sampler's grid.

        Where there is little noise nearly every allele is certain and the loss a hundredth of what it is where there is
        much; but there it is decided which alleles go together. The weight grows about as the loss falls.
        """
        process = self.engine.process

        def shape(time: Tensor) -> Tensor:
            return (1 + _EVEN_BELOW / process.noise_ratio(time, rate=_FAST_RATE)) ** _EVENNESS

        return (shape(t) / shape(self.grid).mean()).float()

    def loss(self, generator: torch.Generator, workers: Workers) -> Tensor:
        """Mean cross-entropy of this worker's part of a random batch, nats per allele."""
        batch = self.engine.config.training.batch
        run = self._crop(generator)
        index = torch.randint(len(self.rows.states), (batch,), generator=generator)
        t = stratified_times(self.grid, batch, generator=generator)
        return self._loss(self.rows, index, t, workers.part(batch), run, generator)

    def validation(self) -> float:
        """Mean cross-entropy over the held-out rows, each at one noise level, with fixed noise."""
        generator = step_generator(self.seed, -1)
        n = len(self.held_out.states)
        t = stratified_times(self.grid, n, generator=generator)
        total = 0.0
        # A chromosome longer than the crop is validated on many places.
        chunk = self._CHUNK if self.bounds[-1] <= self.engine.config.crop_sites else self._CHUNK // 8
        for at in range(0, n, chunk):
            index = torch.arange(at, min(n, at + chunk))
            run = self._crop(generator)
            loss = self._loss(self.held_out, index, t[index], slice(None), run, generator)
            total += float(loss) * len(index)
        return total / n
