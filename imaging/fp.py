"""Flexible forward processes of images (FP-Diffusion): the process, its rows and its samplers as values.

Every process leaves N(0, I) invariant, so images are brought to mean 0 and variance 1 over all pixels before they
enter one. What differs between the rows of the paper's tables is which part of the process is learned, in the
basis of cosines.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from genodiff.core.bases import Basis
from genodiff.core.cosines import CosineBasis
from genodiff.core.flexible import FlexibleDiffusion, flexible, fp_drift, fp_noise
from genodiff.core.langevin import LangevinDiffusion, critically_damped
from genodiff.core.rotations import LowRankRotation, Rotated
from genodiff.core.samplers import Ancestral, EulerMaruyama, HeunODE, Sampler
from genodiff.core.schedules import uniform_grid
from genodiff.core.scores import FlexibleDenoiser, PhaseDenoiser
from imaging.datasets import LEVEL
from imaging.errors import ImagingError
from imaging.models import ImageModel, known_moments, seeded_unet, time_of_level, tuples
from imaging.networks import UNet, UNetConfig

__all__ = ["EARLIEST", "PROCESSES", "Flexible", "FlexibleModel", "Process", "SamplerName", "radial_frequency"]

Process = Literal["vp", "fp-noise", "fp-drift", "fp", "cld"]
PROCESSES: tuple[Process, ...] = ("vp", "fp-noise", "fp-drift", "fp", "cld")

SamplerName = Literal["heun", "euler-maruyama", "ancestral"]

EARLIEST = 1e-5
"""ε: the time at which the density of the data is taken, and where sampling ends."""

_FIRST_TURN = 1
"""Seed of the subspace that a learned rotation of the basis begins to turn."""


@dataclass(frozen=True)
class Flexible:
    """A forward process of images.

    Attributes:
        shape: channels, height, width.
        process: ``vp``, nothing learned; ``fp-noise``, R⁻¹ diagonal in the basis of cosines; ``fp-drift``, ω in pairs
            of modes of like frequency; ``fp``, both and a rotation within pairs; ``cld``, critically damped Langevin.
        rank: of a rotation of the basis of cosines that is learned too; 0 for none.
        gamma: variance of the velocities of ``cld`` at time 0.
    """

    shape: tuple[int, int, int]
    process: Process = "vp"
    rank: int = 0
    gamma: float = 0.04

    @property
    def dim(self) -> int:
        """Values of an image."""
        return math.prod(self.shape)

    def diffusion(self) -> FlexibleDiffusion:
        """The process, with all that is learned at its start, where it is ``vp`` (or ``cld``)."""
        if self.process not in get_args(Process):
            raise ValueError(f"{self.process} is no process")
        if self.process == "cld":
            return critically_damped(self.dim, gamma=self.gamma)
        if self.dim % 2 and self.process in ("fp-drift", "fp"):
            raise ImagingError(f"{self.process} pairs modes, and {self.dim} are odd: choose another --size")
        if self.rank > self.dim // 2:
            raise ImagingError(f"rank {self.rank} needs {2 * self.rank} modes, and there are {self.dim}: lower --rank")
        cosines: Basis = CosineBasis(self.shape)
        basis = cosines
        if self.rank:
            generator = torch.Generator().manual_seed(_FIRST_TURN)
            basis = Rotated(cosines, LowRankRotation(self.dim, self.rank, generator=generator))
        if self.process == "vp":
            return flexible(basis, size=1, learn=())
        if self.process == "fp-noise":
            return fp_noise(basis)
        order = by_frequency(self.shape)
        return fp_drift(basis, order=order) if self.process == "fp-drift" else flexible(basis, order=order)

    def denoiser(self, network: nn.Module) -> FlexibleDenoiser | PhaseDenoiser:
        """A network as a score."""
        process = self.diffusion()
        if isinstance(process, LangevinDiffusion):
            return PhaseDenoiser(process, network, shape=self.shape)
        return FlexibleDenoiser(process, network, shape=self.shape)


def radial_frequency(shape: tuple[int, int, int]) -> Tensor:
    """Of every mode of a :class:`CosineBasis`, as a share of the highest along an axis, (d,) float64."""
    channels, height, width = shape
    p = torch.arange(height, dtype=torch.float64).unsqueeze(1) / height
    q = torch.arange(width, dtype=torch.float64) / width
    return torch.hypot(p, q.expand(height, -1)).flatten().repeat(channels)


def by_frequency(shape: tuple[int, int, int]) -> Tensor:
    """Modes of a :class:`CosineBasis`, channel by channel, by rising frequency: neighbours make a pair, (d,)."""
    channels, height, width = shape
    rising = radial_frequency((1, height, width)).argsort(stable=True)
    return (torch.arange(channels).unsqueeze(1) * (height * width) + rising).flatten()


@dataclass
class FlexibleModel(ImageModel):
    """A score network on a forward process that may have been learned.

    Attributes:
        design: the process.
        moments: mean and variance of the values of all pixels, by which images are brought to mean 0 and variance 1.
        sampler: which one draws images.
    """

    kind: ClassVar[str] = "flexible"
    remedy: ClassVar[str] = "give one that train --process vp, fp-… or cld made"
    samplers: ClassVar[tuple[str, ...]] = ("heun", "euler-maruyama", "ancestral")
    denoiser: FlexibleDenoiser | PhaseDenoiser
    design: Flexible = field(kw_only=True)
    moments: tuple[float, float] = field(kw_only=True)
    sampler: SamplerName = field(default="heun", kw_only=True)

    @classmethod
    def new(
        cls,
        design: Flexible,
        network: UNetConfig,
        *,
        moments: tuple[float, float],
        source: dict[str, Any],
        seed: int,
    ) -> FlexibleModel:
        """An untrained model.

        Args:
            design: the process.
            network: size of the U-Net.
            moments: mean and variance of the values of all pixels.
            source: name and size of the data set.
            seed: of the first weights.
        """
        denoiser = design.denoiser(seeded_unet(design.shape, network, seed=seed, inputs=_inputs(design)))
        return cls(network, denoiser, source, design=design, moments=moments)

    @property
    def process(self) -> FlexibleDiffusion:
        """The forward process."""
        return self.denoiser.process

    def standardised(self, values: Tensor) -> Tensor:
        """Values of pixels (B, …) as the process takes them, (B, d)."""
        mean, variance = self.moments
        return (values.flatten(1) - mean) / variance**0.5

    def dequantised(self, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Standardised images with uniform noise of the width of a level of their pixels."""
        noise = torch.rand(x.shape, generator=generator, dtype=x.dtype, device=x.device)
        return x + LEVEL / self.moments[1] ** 0.5 * (noise - 0.5)

    def restored(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) from the data part of states (B, ≥ d)."""
        mean, variance = self.moments
        return (x[:, : self.design.dim] * variance**0.5 + mean).unflatten(1, self.design.shape)

    @property
    def last(self) -> float:
        """The time at which the sampler of the model ends."""
        return 1e-3 if self.sampler == "euler-maruyama" else EARLIEST

    def times(self, steps: int, *, first: float | None = None) -> Tensor:
        """The times that a sampler of ``steps`` steps visits, from ``first``, or T if not given, to ε, (steps + 1,).

        Simulation of the reverse equation takes equal steps (the paper's), all else equal steps of the logarithm of
        the noise.
        """
        if self.sampler == "euler-maruyama":
            return uniform_grid(self.process.horizon if first is None else first, steps, last=self.last)
        return self.process.noise_grid(steps, last=self.last, first=first)

    def _rule(self) -> Sampler:
        rules: dict[SamplerName, type[Sampler]] = {
            "heun": HeunODE, "euler-maruyama": EulerMaruyama, "ancestral": Ancestral
        }  # fmt: skip
        return rules[self.sampler](self.denoiser)

    def sample(self, n: int, *, steps: int, generator: torch.Generator) -> Tensor:
        """By the sampler of the model."""
        start = self.process.start(n, generator=generator)
        return self.restored(self._rule().sample(start, self.times(steps), generator=generator))

    def level(self, t: float) -> float:
        """σ/(m s) at time t, (tr C / tr ΦΦᵀ)^{1/2}; see :meth:`revise`."""
        with torch.no_grad():
            at = torch.tensor(t)
            forward = self.process.transition(torch.zeros_like(at), at)
            noise = forward.covariance.diagonal(dim1=-2, dim2=-1).double().sum()
            return float((noise / forward.phi.double().square().sum()).sqrt())

    @torch.no_grad()
    def revise(self, values: Tensor, *, level: float, steps: int, generator: torch.Generator) -> Tensor:
        """By the sampler of the model; not for ``cld``, whose noise sits on velocities first."""
        if self.design.process == "cld":
            raise ImagingError("a model of cld cannot revise images: take one of edm, vp or fp-…")
        first = time_of_level(self.level, level, earliest=self.last, latest=self.process.horizon)
        times, x = self.times(steps, first=first), self.standardised(values)
        noised = self.process.noised(x, times[0].to(x), generator=generator)
        return self.restored(self._rule().sample(noised, times, generator=generator))

    def facts(self) -> dict[str, Any]:
        return {"flexible": asdict(self.design), "moments": self.moments, **self.common_facts()}

    @classmethod
    def untrained(cls, facts: dict[str, Any]) -> FlexibleModel:
        design, network = Flexible(**tuples(facts["flexible"])), UNetConfig(**tuples(facts["network"]))
        denoiser = design.denoiser(UNet(design.shape, network, inputs=_inputs(design)))
        return cls(
            network, denoiser, facts["data"], tuple(facts["learned"]),
            design=design, moments=known_moments(facts),
        )  # fmt: skip


def _inputs(design: Flexible) -> int | None:
    """Channels that the network sees: position and velocity in phase space."""
    return 2 * design.shape[0] if design.process == "cld" else None
