"""Anisotropic fields of images, and what they are compared with, as values of one class of model.

A field smooths an image and adds noise to it, and spares edges in both (``spde``), in one of them or in neither. Rows
of a table differ in the process alone: all have the same network and see the same noise-to-signal ratios equally often
in training, those of flow matching at uniform times.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from genodiff.core.denoisers import Denoiser
from genodiff.core.dissipation import BlurringDiffusion, Ramp
from genodiff.core.fields import FieldConfig, FieldDiffusion, edge_preserving_noise
from genodiff.core.matching import frozen_score_matching
from genodiff.core.preconditioning import PreconditionedDenoiser
from genodiff.core.processes import Diffusion
from genodiff.core.reversal import FieldDenoiser, PluginBridge, TabulatedModes, tabulate_modes
from genodiff.core.samplers import Ancestral, HeunODE, Sampler
from genodiff.core.straight import StraightPath, VelocityDenoiser, velocity_matching
from imaging.autoencoder import LatentSpace, keep_autoencoder, load_autoencoder
from imaging.errors import ImagingError
from imaging.models import ImageModel, known_moments, seeded_unet, tuples
from imaging.networks import UNet, UNetConfig

__all__ = ["EDGE", "EDGED", "PROCESSES", "SMOOTHING", "Field", "FieldModel", "Process", "SamplerName", "equal_noise"]

Process = Literal["vp-sde", "flow", "blurring", "edge-noise", "spde-isotropic", "spde-drift", "spde-noise", "spde"]
PROCESSES: tuple[Process, ...] = (
    "vp-sde", "flow", "blurring", "edge-noise", "spde-isotropic", "spde-drift", "spde-noise", "spde"
)  # fmt: skip

EDGED: tuple[Process, ...] = ("edge-noise", "spde-drift", "spde-noise", "spde")
"""Those that depend on the edges of the image."""

SMOOTHING, EDGE = 8.0, 0.1
"""ν and κ that were best for images of 32 × 32 (docs/results/spde.md)."""

SamplerName = Literal["bridge", "flow"]

_SPACE = "autoencoder"
"""File or folder of the autoencoder within that of a model of latents."""

_LEVELS = 24
_LEAST = 1e-3
"""Share of noise, σ/(1 + σ) with σ the noise-to-signal ratio, below which nothing is learned."""


@dataclass(frozen=True)
class Field:
    """A process of images of mean 0 and variance 1.

    Attributes:
        shape: channels, height, width.
        process: ``vp-sde``, noise alone; ``flow``, the straight path of flow matching; ``blurring``, heat dissipation
            with white noise; ``edge-noise``, noise that spares edges; ``spde…``, smoothing and noise, of which neither
            (``-isotropic``), one, or both spare edges.
        smoothing: ν, pixels² per unit of u; see :class:`genodiff.core.fields.FieldConfig`.
        edge: κ at u = 0, in units of the root mean square gradient; it grows tenfold.
        length: pixels over which the noise is alike.
        images: shape of the images of whose latents ``shape`` is that; ``None`` for pixels.
    """

    shape: tuple[int, int, int]
    process: Process = "spde"
    smoothing: float = SMOOTHING
    edge: float = EDGE
    length: float = 0.0
    images: tuple[int, int, int] | None = None

    @property
    def config(self) -> FieldConfig:
        """Coefficients of the field.

        Raises:
            ValueError: the process is none.
        """
        kappa = Ramp(self.edge, 10 * self.edge, 3.0)
        if self.process == "edge-noise":
            return edge_preserving_noise(self.shape, kappa=kappa, length=self.length)
        nu = Ramp(self.smoothing, self.smoothing)
        whole = FieldConfig(self.shape, nu=nu, kappa=kappa, length=self.length)
        if self.process == "vp-sde":
            return FieldConfig(self.shape, nu=Ramp(0.0, 0.0), length=self.length, drift_edges=False, noise_edges=False)
        variants = {
            "spde": whole, "spde-drift": whole.drift_only(), "spde-noise": whole.noise_only(),
            "spde-isotropic": whole.isotropic(),
        }  # fmt: skip
        if self.process not in variants:
            raise ValueError(f"{self.process} is no field")
        return variants[self.process]

    @property
    def has_edges(self) -> bool:
        """Whether the process depends on the edges of the image."""
        return self.process in EDGED

    def diffusion(self) -> Diffusion:
        """The process; where there are no edges, the Gaussian one that is diagonal in the cosines."""
        if self.process == "flow":
            return StraightPath(math.prod(self.shape))
        if self.process == "blurring":
            return BlurringDiffusion(self.shape)
        return FieldDiffusion(self.config) if self.has_edges else self.config.constant()

    def denoiser(self, network: nn.Module, *, rows: Tensor | None = None, seed: int = 1) -> Denoiser:
        """A network as the posterior mean.

        Args:
            network: maps images and noise levels to images.
            rows: images (n, d) by which the network of a process with edges is scaled; none if the scales are to be
                read from a file.
            seed: of the noise that they are given for it.
        """
        process = self.diffusion()
        if isinstance(process, StraightPath):
            return VelocityDenoiser(process, network, shape=self.shape)
        if not isinstance(process, FieldDiffusion):
            return PreconditionedDenoiser(process, network, variance=1.0, shape=self.shape)
        if rows is None:
            empty = torch.ones(_LEVELS, process.dim)
            modes = TabulatedModes(process, torch.arange(_LEVELS, dtype=torch.float32), empty, empty)
        else:
            modes, _, _ = tabulate_modes(process, rows, levels=_LEVELS, generator=torch.Generator().manual_seed(seed))
        return FieldDenoiser(process, network, modes=modes, variance=1.0)

    @property
    def objective(self) -> Callable[..., Tensor]:
        """What the network learns from."""
        return velocity_matching if self.process == "flow" else frozen_score_matching


def equal_noise(process: Diffusion, steps: int, *, first: float | None = None, last: float = _LEAST) -> Tensor:
    """Times at which the share of noise σ/(1 + σ) falls in equal steps, (steps + 1,) float64; σ² is ρ of the process.

    These are the uniform times of flow matching, carried over to any process by its noise-to-signal ratio.

    Args:
        process: the process.
        steps: number of intervals, ≥ 1.
        first: share of noise to begin at, up to that at the horizon; the horizon if ``None``.
        last: share of noise to end at; 0 is time 0.

    Raises:
        ValueError: no steps, or shares that are not 0 ≤ last < first ≤ that at the horizon.
    """
    end = torch.tensor(process.horizon, dtype=torch.float64)
    highest = float(1 / (1 + process.noise_ratio(end, rate=-0.5).rsqrt()))
    top = highest if first is None else first
    if steps < 1 or not 0 <= last < top <= highest:
        raise ValueError(f"expected steps >= 1 and 0 <= {last} < {top} <= {highest:.4g}, got {steps} steps")
    share = torch.linspace(top, last, steps + 1, dtype=torch.float64)
    times = process.time_of_noise((share / (1 - share)).square(), rate=-0.5)
    if top == highest:
        times[0] = end
    if last == 0:
        times[-1] = 0.0
    return times


@dataclass
class FieldModel(ImageModel):
    """A network as the posterior mean under a process of :class:`Field`.

    Attributes:
        design: the process.
        moments: mean and variance of all values, by which they are brought to mean 0 and variance 1.
        space: the autoencoder of latents; ``None`` for pixels.
        sampler: ``bridge``, which adds noise, or ``flow``, which does not.
    """

    kind: ClassVar[str] = "field"
    samplers: ClassVar[tuple[str, ...]] = ("bridge", "flow")
    design: Field = field(kw_only=True)
    moments: tuple[float, float] = field(kw_only=True)
    space: LatentSpace | None = field(default=None, kw_only=True)
    sampler: SamplerName = field(default="bridge", kw_only=True)

    @classmethod
    def new(
        cls,
        design: Field,
        network: UNetConfig,
        *,
        rows: Tensor,
        moments: tuple[float, float],
        source: dict[str, Any],
        space: LatentSpace | None = None,
        seed: int,
    ) -> FieldModel:
        """An untrained model.

        Args:
            design: the process.
            network: size of the U-Net.
            rows: states (n, d) of mean 0 and variance 1 by which the network is scaled where the process has edges.
            moments: mean and variance of all values.
            source: name and size of the data set.
            space: the autoencoder of latents.
            seed: of the first weights.
        """
        denoiser = design.denoiser(seeded_unet(design.shape, network, seed=seed), rows=rows, seed=seed)
        return cls(network, denoiser, source, design=design, moments=moments, space=space, sampler=_usual(design))

    @property
    def process(self) -> Diffusion:
        """The forward process."""
        return self.denoiser.process

    def standardised(self, values: Tensor) -> Tensor:
        """Values of pixels (B, C, H, W) as the process takes them, (B, d)."""
        mean, variance = self.moments
        held = values if self.space is None else self.space.encode(values)
        return (held.flatten(1) - mean) / variance**0.5

    def restored(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) from states (B, d)."""
        mean, variance = self.moments
        held = (x * variance**0.5 + mean).unflatten(1, self.design.shape)
        return held if self.space is None else self.space.decode(held)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        return self.design.images or self.design.shape

    @property
    def calls_a_step(self) -> int:
        """Calls of the network in a step of the sampler."""
        return 2 if self.sampler == "flow" and not isinstance(self.denoiser, FieldDenoiser) else 1

    def rule(self) -> Sampler:
        """The sampler: one call of the network a step, but two of a flow that has a closed form."""
        if isinstance(self.denoiser, FieldDenoiser):
            return PluginBridge(self.denoiser, noise=1.0 if self.sampler == "bridge" else 0.0)
        return Ancestral(self.denoiser, use_mean=True) if self.sampler == "bridge" else HeunODE(self.denoiser)

    def times(self, steps: int, *, first: float | None = None) -> Tensor:
        """The times that a sampler of ``steps`` steps visits, (steps + 1,).

        A bridge ends at the posterior mean at time 0, a flow with a thousandth of noise, where its slope is known yet.
        """
        return equal_noise(self.process, steps, first=first, last=0.0 if self.sampler == "bridge" else _LEAST)

    def sample(self, n: int, *, steps: int, generator: torch.Generator) -> Tensor:
        """By the sampler of the model."""
        start = self.process.start(n, generator=generator)
        return self.restored(self.rule().sample(start, self.times(steps), generator=generator))

    def revise(self, values: Tensor, *, level: float, steps: int, generator: torch.Generator) -> Tensor:
        """Forward to the time at which noise has come to ``level`` beside what is not smoothed, and back."""
        try:
            times = self.times(steps, first=level / (1 + level))
        except ValueError as error:
            end = torch.tensor(self.process.horizon, dtype=torch.float64)
            highest = float(self.process.noise_ratio(end, rate=-0.5).sqrt())
            raise ImagingError(
                f"a level of {level:g} is beyond this model, whose noise goes up to {highest:.3g} deviations "
                "of the data: choose another --level"
            ) from error
        x = self.process.noised(self.standardised(values), times[0].to(values), generator=generator)
        return self.restored(self.rule().sample(x, times, generator=generator))

    def save_weights(self, folder: Path) -> None:
        """Writes the weights into ``folder``, and the autoencoder of latents."""
        super().save_weights(folder)
        if self.space is not None:
            keep_autoencoder(self.space, folder / _SPACE)

    def read_beside(self, folder: Path) -> None:
        """Reads the autoencoder of a model of latents."""
        if self.design.images is not None:
            self.space = load_autoencoder(folder / _SPACE, shape=self.design.images)

    def facts(self) -> dict[str, Any]:
        return {"field": asdict(self.design), "moments": self.moments, **self.common_facts()}

    @classmethod
    def untrained(cls, facts: dict[str, Any]) -> FieldModel:
        design, network = Field(**tuples(facts["field"])), UNetConfig(**tuples(facts["network"]))
        return cls(
            network, design.denoiser(UNet(design.shape, network)), facts["data"], tuple(facts["learned"]),
            design=design, moments=known_moments(facts), sampler=_usual(design),
        )  # fmt: skip


def _usual(design: Field) -> SamplerName:
    """Flow matching is sampled by its flow, all else by the bridge."""
    return "flow" if design.process == "flow" else "bridge"
