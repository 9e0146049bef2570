"""Trajectory-optimal anisotropic diffusion of images (TOAD): the process, its rows and its samplers as values.

A model is a :class:`PreconditionedDenoiser` in the cosine basis. What differs between the rows of the paper's table is
the number of subspaces, the schedule of each and the clock of the sampler, all set by one :class:`Toad`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from genodiff.core.cosines import CosineBasis, frequency_bands
from genodiff.core.knots import KnotSchedule, NoiseSchedule, TransformedSchedule, karras_schedule
from genodiff.core.preconditioning import PreconditionedDenoiser
from genodiff.core.samplers import HeunFlow
from genodiff.core.schedules import uniform_grid
from genodiff.core.subspaces import SubspaceDiffusion
from imaging.models import ImageModel, seeded_unet, time_of_level, tuples
from imaging.networks import UNet, UNetConfig

__all__ = ["Grid", "Toad", "ToadModel", "edm_times", "karras_grid", "sample"]

Grid = Literal["karras", "uniform"]

_LOWEST = 0.002
"""Last level of noise that the sampler of EDM visits before 0."""


@dataclass(frozen=True)
class Toad:
    """An anisotropic diffusion of images.

    Attributes:
        shape: channels, height, width.
        cuts: bounds between subspaces as shares of the highest frequency; none is the isotropic process.
        knots: K of every schedule.
        lowest: g_0, variance of the noise at time 0.
        highest: variance at the last time, which is also that time T; 6400 is σ = 80.
        rho: of the schedule to start from (Karras et al. 2022).
        c: variance of the data in TLSM.
        gain: speed at which schedules are learned beside a network; see :class:`KnotSchedule`.
    """

    shape: tuple[int, int, int]
    cuts: tuple[float, ...] = ()
    knots: int = 32
    lowest: float = 1e-9
    highest: float = 6400.0
    rho: float = 7.0
    c: float = 1.0
    gain: float = 1.0

    @property
    def subspaces(self) -> int:
        """J."""
        return len(self.cuts) + 1

    def process(self, schedule: NoiseSchedule | None = None) -> SubspaceDiffusion:
        """The process with a given schedule, or with that of Karras et al. in every subspace."""
        if schedule is None:
            schedule = karras_schedule(
                self.subspaces, knots=self.knots, horizon=self.highest,
                lowest=self.lowest, highest=self.highest, rho=self.rho, gain=self.gain,
            )  # fmt: skip
        return SubspaceDiffusion(CosineBasis(self.shape), frequency_bands(self.shape, self.cuts), schedule)

    def denoiser(
        self,
        network: nn.Module,
        *,
        variance: Tensor | float = 0.25,
        centre: Tensor | None = None,
        schedule: NoiseSchedule | None = None,
    ) -> PreconditionedDenoiser:
        """A network F(x (B, C, H, W), c_noise (B,)) as a posterior mean; pixels in [−1, 1] have a variance near ¼."""
        return PreconditionedDenoiser(
            self.process(schedule), network, variance=variance, centre=centre, shape=self.shape
        )


def edm_times(process: SubspaceDiffusion, *, mean: float = -1.2, deviation: float = 1.2, cells: int = 256) -> Tensor:
    """Times, falling, between which a network is trained equally often when log σ̃ ~ N(mean, deviation²).

    Used as the grid of a :class:`genodiff.core.losses.VectorProblem` (Karras et al. 2022, table 1).
    """
    middle = (torch.arange(cells + 1, dtype=torch.float64) / cells).clamp(0.5 / cells, 1 - 0.5 / cells)
    log_noise = mean + deviation * torch.special.ndtri(middle)
    low, high = (process.log_noise(torch.tensor(t, dtype=torch.float64)).to(log_noise) for t in (0.0, process.horizon))
    return process.schedule.time_of(2 * log_noise.clamp(low, high)).detach().flip(0)


def karras_grid(
    process: SubspaceDiffusion, steps: int, *, lowest: float = _LOWEST, highest: float = 80.0, rho: float = 7.0
) -> Tensor:
    """Times at which σ̃ takes the values of EDM, from ``highest`` to ``lowest``, and 0: (steps + 1,), float64."""
    if steps < 2:
        raise ValueError(f"the grid of EDM needs at least 2 steps, got {steps}")
    sigma = torch.linspace(highest ** (1 / rho), lowest ** (1 / rho), steps, dtype=torch.float64) ** rho
    times = process.schedule.time_of(2 * sigma.log()).detach()
    times = times.clamp_max(process.horizon)
    return torch.cat([times, times.new_zeros(1)])


def sample(
    denoiser: PreconditionedDenoiser,
    n: int,
    *,
    steps: int,
    grid: Tensor | None = None,
    second: float = 0.5,
    euler_last: bool = True,
    generator: torch.Generator,
    batch: int = 256,
) -> Tensor:
    """Images by the second-order sampler (TOAD eq. 17) in equal steps of the process's own time.

    Args:
        denoiser: the model on the process, schedule and clock to sample with.
        n: number of images.
        steps: K; ignored where a grid is given.
        grid: times to visit instead, falling from T.
        second: see :class:`HeunFlow`; EDM is 1.
        euler_last: see :class:`HeunFlow`.
        generator: source of x_T.
        batch: images at once.

    Returns:
        (n, C, H, W).
    """
    process = denoiser.process
    if not isinstance(process, SubspaceDiffusion):
        raise ValueError(f"needs noise in subspaces, got {type(process).__name__}")
    times = uniform_grid(process.horizon, steps) if grid is None else grid
    rule = HeunFlow(denoiser, second=second, euler_last=euler_last)
    parts: Sequence[Tensor] = [
        rule.sample(process.start(min(batch, n - done), generator=generator), times) for done in range(0, n, batch)
    ]
    return torch.cat(list(parts)).unflatten(1, denoiser.shape)


def _clocked(schedule: KnotSchedule) -> TransformedSchedule:
    """A schedule with a clock that leaves it as it is, r(t) = t, to learn from."""
    knots = schedule.log_knots().detach().mean(0, keepdim=True)
    return TransformedSchedule(schedule, KnotSchedule(knots, horizon=schedule.horizon, gain=schedule.gain))


@dataclass
class ToadModel(ImageModel):
    """A network on a learned schedule, perhaps with a learned clock.

    Attributes:
        toad: shape, subspaces and noise levels.
        grid: the times of its sampler: ``karras``, those of EDM, or ``uniform`` in the time of its own schedule.
    """

    kind: ClassVar[str] = "toad"
    remedy: ClassVar[str] = "give one that train --process edm made"
    denoiser: PreconditionedDenoiser
    toad: Toad = field(kw_only=True)
    grid: Grid = field(default="karras", kw_only=True)

    @classmethod
    def new(
        cls, toad: Toad, network: UNetConfig, *, moments: tuple[float, float], source: dict[str, Any], seed: int
    ) -> ToadModel:
        """An untrained model on the schedule of Karras et al., for data of a given mean and variance.

        Args:
            toad: shape, subspaces and noise levels.
            network: size of the U-Net.
            moments: mean and variance of the values of all pixels.
            source: name and size of the data set.
            seed: of the first weights.
        """
        mean, variance = moments
        unet = seeded_unet(toad.shape, network, seed=seed)
        centre = torch.full((unet.shape[0] * unet.shape[1] * unet.shape[2],), mean)
        return cls(network, toad.denoiser(unet, variance=variance, centre=centre), source, toad=toad)

    @property
    def process(self) -> SubspaceDiffusion:
        """The noise, with its schedule and clock."""
        process = self.denoiser.process
        assert isinstance(process, SubspaceDiffusion)
        return process

    @property
    def schedule(self) -> KnotSchedule:
        """g_j(t), without the clock if there is one."""
        held = self.process.schedule
        found = held.schedule if isinstance(held, TransformedSchedule) else held
        assert isinstance(found, KnotSchedule)
        return found

    @property
    def clock(self) -> KnotSchedule | None:
        """g_w(t) of a learned time."""
        held = self.process.schedule
        return held.clock if isinstance(held, TransformedSchedule) else None

    def on(self, toad: Toad, schedule: KnotSchedule) -> ToadModel:
        """The same network on another schedule; it is sampled in equal steps of that schedule's time."""
        denoiser = self.denoiser.on(toad.process(schedule))
        return ToadModel(self.network, denoiser, self.source, self.learned, toad=toad, grid="uniform")

    def lend(self, other: ToadModel) -> ToadModel:
        """The network of another model in the place of this one's, on this one's schedule, clock and steps."""
        return replace(self, network=other.network, denoiser=other.denoiser.on(self.process))

    def times(self, steps: int, *, first: float | None = None) -> Tensor:
        """The times a sampler of ``steps`` steps visits from ``first``, or T if not given, to 0, (steps + 1,)."""
        process = self.process
        if self.grid == "uniform":
            return uniform_grid(process.horizon if first is None else first, steps)
        if first is None:
            return karras_grid(process, steps)
        highest = process.schedule.log_levels(torch.tensor(first, dtype=torch.float64)).mean().div(2).exp()
        return karras_grid(process, steps, highest=float(highest))

    @property
    def second(self) -> float:
        """Where a step of the sampler takes its second slope: EDM's point for EDM, the half point otherwise."""
        return 1.0 if self.grid == "karras" else 0.5

    def sample(self, n: int, *, steps: int, generator: torch.Generator) -> Tensor:
        """By the second-order sampler, with EDM's second point for EDM and the half point otherwise."""
        grid = self.times(steps)
        return sample(self.denoiser, n, steps=steps, grid=grid, second=self.second, generator=generator, batch=n)

    def level(self, t: float) -> float:
        """σ/(m s) at time t, with m = 1 and σ² the mean of g over all modes; see :meth:`revise`."""
        with torch.no_grad():
            process = self.process
            noise = process.spread(process.schedule.levels(torch.tensor(t, dtype=torch.float64)))
            return math.sqrt(float(noise.mean() / self.denoiser.data_variance.mean()))

    @torch.no_grad()
    def revise(self, values: Tensor, *, level: float, steps: int, generator: torch.Generator) -> Tensor:
        """By the second-order sampler."""
        process = self.process
        edm = self.grid == "karras"
        earliest = float(process.schedule.time_of(torch.tensor(2 * math.log(_LOWEST)))) if edm else 0.0
        first = time_of_level(self.level, level, earliest=earliest, latest=process.horizon)
        times = self.times(steps, first=first)
        x = values.flatten(1)
        noise = process.deviation(times[0]) * torch.randn(x.shape, generator=generator)
        rule = HeunFlow(self.denoiser, second=self.second)
        return rule.sample(x + process.basis.synthesis(noise), times).unflatten(1, self.shape)

    def facts(self) -> dict[str, Any]:
        own = {"toad": asdict(self.toad), "grid": self.grid, "clock": self.clock is not None}
        return {**own, **self.common_facts()}

    @classmethod
    def untrained(cls, facts: dict[str, Any]) -> ToadModel:
        toad, network = Toad(**tuples(facts["toad"])), UNetConfig(**tuples(facts["network"]))
        schedule = karras_schedule(
            toad.subspaces, knots=toad.knots, horizon=toad.highest,
            lowest=toad.lowest, highest=toad.highest, gain=toad.gain,
        )  # fmt: skip
        held = _clocked(schedule) if facts["clock"] else schedule
        denoiser = toad.denoiser(UNet(toad.shape, network), variance=1.0, schedule=held)
        return cls(network, denoiser, facts["data"], tuple(facts["learned"]), toad=toad, grid=facts["grid"])
