"""Images destroyed by smoothing and noise that both spare edges: an anisotropic stochastic heat equation.

    dX = [ν ∇·(c_1 ∇X) − ½ X] du + g K dW,    g = η [(1 − τ) c_2 + τ],    u = ∫ b dt,

with c_1 and c_2 either c(s; κ) of :mod:`edges` or 1, ν, η, κ, τ functions of u, and K white or alike over a length ℓ.
κ grows and τ → 1, so that in the end neither knows edges, and −½X makes N(0, K²) the terminal law for η → 1.

Where s depends on X the SDE has no closed transition. Frozen at a given s it has one, N(location, (V^½ K)(V^½ K)ᵀ),

    location = e^{−(u_t − u_s)/2} S x_s,    V = ∫_{u_s}^{u_t} e^{−(u_t − w)} g(w)² dw,

S by substeps of smoothing; noise, once there, is not smoothed, so that V is diagonal. Frozen at x_0 and from time 0
this is the law that networks are trained on. Frozen at x_s over a short time it is a step of the Euler chain, whose
limit is the SDE. Given x_0, the noise Z = K⁻¹ V^{−½} (X − location) of two times s < t has the correlation
e^{−(u_t − u_s)/2} (V_s/V_t)^½.

An anisotropic, a drift-only, a noise-only and an isotropic process are values of one :class:`FieldConfig`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from genodiff.core.cosines import CosineBasis
from genodiff.core.dissipation import Ramp, SmoothingDiffusion, correlated_spectrum, legendre
from genodiff.core.edges import (
    Scheme,
    anisotropy,
    edge_response,
    edge_strength,
    explicit_step,
    semi_implicit_step,
    smoothing_rate,
)
from genodiff.core.processes import Diffusion
from genodiff.core.schedules import Clock, LinearRate

__all__ = ["FieldConfig", "FieldDiffusion", "FieldTransition", "edge_preserving_noise"]


@dataclass(frozen=True)
class FieldConfig:
    """Coefficients of a :class:`FieldDiffusion`; all schedules are functions of u, the integrated rate of its clock.

    Attributes:
        shape: (C, H, W).
        nu: smoothing ν ≥ 0 in pixels² per unit of u.
        eta: noise amplitude η > 0.
        kappa: κ > 0, the edge, in units of the image's root mean square gradient, that is smoothed at 71 % of ν.
        tau: τ in [0, 1], the share of noise that takes no account of edges.
        drift_edges: whether smoothing stops at edges (c_1 = c), or not (c_1 = 1).
        noise_edges: whether noise spares edges (c_2 = c), or not (c_2 = 1).
        presmoothing: width in pixels at which edges are looked for, ≥ 0.
        contrast: gradient per pixel below which an image counts as flat, > 0.
        length: ℓ ≥ 0 in pixels, over which the noise is alike.
        clock: t → u.
        horizon: T.
        substeps: steps of smoothing from time 0 to any other.
        nodes: of the quadrature of V.
        scheme: how a substep is taken; see :mod:`edges`.
    """

    shape: tuple[int, int, int]
    nu: Ramp = field(default_factory=lambda: Ramp(0.5, 0.5))
    eta: Ramp = field(default_factory=lambda: Ramp(1.0, 1.0))
    kappa: Ramp = field(default_factory=lambda: Ramp(0.5, 5.0, 3.0))
    tau: Ramp = field(default_factory=lambda: Ramp(0.0, 1.0))
    drift_edges: bool = True
    noise_edges: bool = True
    presmoothing: float = 0.7
    contrast: float = 0.02
    length: float = 0.0
    clock: Clock = field(default_factory=LinearRate)
    horizon: float = 1.0
    substeps: int = 6
    nodes: int = 8
    scheme: Scheme = "symmetric"

    def __post_init__(self) -> None:
        for name, least in (("nu", 0.0), ("tau", 0.0)):
            ramp = getattr(self, name)
            if not min(ramp.first, ramp.last) >= least:
                raise ValueError(f"{name} must be >= {least}, got {ramp}")
        for name in ("eta", "kappa"):
            ramp = getattr(self, name)
            if not min(ramp.first, ramp.last) > 0:
                raise ValueError(f"{name} must be positive, got {ramp}")
        if max(self.tau.first, self.tau.last) > 1:
            raise ValueError(f"tau must be <= 1, got {self.tau}")
        if not self.contrast > 0 or not self.presmoothing >= 0 or not self.horizon > 0:
            raise ValueError(f"expected contrast > 0, presmoothing >= 0 and horizon > 0, got {self}")
        if self.substeps < 1 or self.nodes < 1:
            raise ValueError(f"substeps and nodes must be at least 1, got {self.substeps} and {self.nodes}")

    def isotropic(self) -> FieldConfig:
        """The same without edges: constant coefficients."""
        return replace(self, drift_edges=False, noise_edges=False)

    def drift_only(self) -> FieldConfig:
        """The same with edges in the smoothing alone."""
        return replace(self, drift_edges=True, noise_edges=False)

    def noise_only(self) -> FieldConfig:
        """The same with edges in the noise alone."""
        return replace(self, drift_edges=False, noise_edges=True)

    def constant(self, *, white: bool = True, dtype: torch.dtype = torch.float32) -> SmoothingDiffusion:
        """The process of :meth:`isotropic`, exact in the cosines.

        Args:
            white: noise is not smoothed once it is there, as in the frozen transition; otherwise it is, as in the SDE.
            dtype: type of the transform.
        """
        return SmoothingDiffusion(
            self.shape, nu=self.nu, eta=self.eta, length=self.length, white=white, clock=self.clock,
            horizon=self.horizon, dtype=dtype,
        )  # fmt: skip


def edge_preserving_noise(shape: Sequence[int], **options: Any) -> FieldConfig:
    """Noise that spares edges, without any smoothing (Vandersanden et al. 2024)."""
    channels, height, width = shape
    return FieldConfig((channels, height, width), nu=Ramp(0.0, 0.0), drift_edges=False, noise_edges=True, **options)


@dataclass(frozen=True)
class FieldTransition:
    """N(location, A Aᵀ) with A = diag(deviation) K: noise alike over a length, scaled pixel by pixel.

    Attributes:
        location: (B, d).
        deviation: V^½, (B, d), ≥ 0.
        basis: the cosines, in which K is diagonal.
        colour: its spectrum k, (d,); white noise if ``None``.
    """

    location: Tensor
    deviation: Tensor
    basis: CosineBasis
    colour: Tensor | None = None

    def coloured(self, z: Tensor, *, power: int = 1) -> Tensor:
        """K^power z."""
        return z if self.colour is None else self.basis.synthesis(self.colour**power * self.basis.analysis(z))

    def noised(self, noise: Tensor) -> Tensor:
        """x_t made from given standard normal noise, (B, d)."""
        return self.location + self.deviation * self.coloured(noise)

    def sample(self, *, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Draws x_t and returns it with the noise that made it."""
        like = self.location
        noise = torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype)
        return self.noised(noise), noise

    def noise(self, x_t: Tensor) -> Tensor:
        """A⁻¹ (x_t − location): the noise that makes x_t; needs positive deviations."""
        return self.coloured((x_t - self.location) / self.deviation, power=-1)

    def score(self, x_t: Tensor) -> Tensor:
        """−A⁻ᵀ A⁻¹ (x_t − location)."""
        return -self.coloured((x_t - self.location) / self.deviation, power=-2) / self.deviation


class FieldDiffusion(Diffusion):
    """The process of a :class:`FieldConfig`, on images held as vectors (B, C·H·W).

    Args:
        config: its coefficients.
        dtype: type of the cosine transform.
    """

    basis: CosineBasis
    colour: Tensor | None

    def __init__(self, config: FieldConfig, *, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.config, self.clock, self.horizon = config, config.clock, config.horizon
        self.basis = CosineBasis(config.shape, dtype=dtype)
        self.register_buffer("mean", torch.zeros(self.basis.dim, dtype=dtype))
        spectrum = correlated_spectrum(config.shape, config.length, dtype=dtype) if config.length else None
        self.register_buffer("colour", spectrum)

    def images(self, x: Tensor) -> Tensor:
        """(B, d) to (B, C, H, W)."""
        return x.unflatten(-1, self.config.shape)

    def elapsed(self, t: Tensor, like: Tensor) -> Tensor:
        """u at times (B,) or (), as (B, 1, 1, 1) or (1, 1, 1, 1)."""
        return self.clock(t).to(like.dtype).reshape(-1, 1, 1, 1)

    def strength(self, x: Tensor) -> Tensor:
        """s, (B, 1, H, W): the edges of images given as vectors (B, d)."""
        config = self.config
        return edge_strength(self.images(x), presmoothing=config.presmoothing, contrast=config.contrast)

    def coefficient(self, strength: Tensor, u: Tensor) -> Tensor:
        """c_1, (B, 1, H, W)."""
        return anisotropy(strength, self.config.kappa(u)) if self.config.drift_edges else torch.ones_like(strength)

    def amplitude(self, strength: Tensor, u: Tensor) -> Tensor:
        """g = η [(1 − τ) c_2 + τ] per square root of u, (B, 1, H, W)."""
        config = self.config
        if not config.noise_edges:
            return config.eta(u) * torch.ones_like(strength)
        tau = config.tau(u)
        return config.eta(u) * ((1 - tau) * anisotropy(strength, config.kappa(u)) + tau)

    def smoothed(self, x: Tensor, strength: Tensor, start: Tensor, end: Tensor, *, substeps: int) -> Tensor:
        """S x: images (B, C, H, W) after smoothing from u = start to end with edges frozen."""
        config, h = self.config, (end - start) / substeps
        if config.nu.first == config.nu.last == 0:
            return x
        for k in range(substeps):
            u = start + k * h
            step = config.nu.integral(u + h) - config.nu.integral(u)
            c = self.coefficient(strength, u + 0.5 * h)
            if config.scheme == "explicit":
                x = explicit_step(x, c, step)
            else:
                x = semi_implicit_step(x, c, step, scheme=config.scheme)
        return x

    def gathered(self, strength: Tensor, start: Tensor, end: Tensor, *, nodes: int) -> Tensor:
        """V, (B, 1, H, W): the variance gathered between u = start and end with edges frozen."""
        total, span = torch.zeros_like(strength), end - start
        for x, weight in zip(*legendre(nodes), strict=True):
            age = span * (1 - x)
            total = total + weight * span * torch.exp(-age) * self.amplitude(strength, end - age).square()
        return total

    def frozen(
        self, x_s: Tensor, s: Tensor, t: Tensor, *, strength: Tensor | None = None, substeps: int | None = None
    ) -> FieldTransition:
        """The law of X_t given X_s = x_s with the edges frozen, s ≤ t of shape (B,) or ().

        Args:
            x_s: (B, d).
            s: times of x_s.
            t: later times.
            strength: the edges, (B, 1, H, W); those of x_s if ``None``.
            substeps: of the smoothing; those of the configuration if ``None``.
        """
        edges = self.strength(x_s) if strength is None else strength
        start, end = self.elapsed(s, x_s), self.elapsed(t, x_s)
        steps = self.config.substeps if substeps is None else substeps
        smooth = self.smoothed(self.images(x_s), edges, start, end, substeps=steps)
        variance = self.gathered(edges, start, end, nodes=min(self.config.nodes, 2 * steps))
        location = torch.exp(-0.5 * (end - start)) * smooth
        deviation = variance.sqrt().expand(-1, self.config.shape[0], -1, -1)
        return FieldTransition(location.flatten(1), deviation.flatten(1), self.basis, self.colour)

    def noised(self, x_0: Tensor, t: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """A draw of X_t given X_0 under the law that is frozen at the edges of X_0, (B, d)."""
        return self.frozen(x_0, torch.zeros_like(t), t).sample(generator=generator)[0]

    def chain(
        self, x_0: Tensor, grid: Tensor, *, generator: torch.Generator | None = None
    ) -> Iterator[tuple[FieldTransition, Tensor, Tensor]]:
        """The Euler chain along rising times: of every step its law, the state drawn from it and the noise drawn."""
        if (grid.diff() <= 0).any():
            raise ValueError("the grid of times must rise strictly")
        x = x_0
        for k in range(len(grid) - 1):
            law = self.frozen(x, grid[k], grid[k + 1], substeps=1)
            x, noise = law.sample(generator=generator)
            yield law, x, noise

    @torch.no_grad()
    def simulate(self, x_0: Tensor, grid: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """States (B, d) at grid[-1] of the SDE that starts at x_0 at grid[0], by the Euler chain."""
        end = x_0
        for _, x, _ in self.chain(x_0, grid, generator=generator):
            end = x
        return end

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        """b (ν ∇·(c_1 ∇x) − ½ x), (B, d), with the edges of x itself."""
        u = self.elapsed(t, x)
        rate = self.config.nu(u) * smoothing_rate(self.images(x), self.coefficient(self.strength(x), u))
        return self._rate(t, x) * (rate.flatten(1) - 0.5 * x)

    def mean_drift(self, x_0: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """b (ν ∇·(c_1 ∇ location) − ½ x) with the edges of x_0: ∂_t of the frozen location, and the noise's decay."""
        u, edges = self.elapsed(t, x), self.strength(x_0)
        location = self.images(self.frozen(x_0, torch.zeros_like(t), t, strength=edges).location)
        rate = self.config.nu(u) * smoothing_rate(location, self.coefficient(edges, u))
        return self._rate(t, x) * (rate.flatten(1) - 0.5 * x)

    def _rate(self, t: Tensor, like: Tensor) -> Tensor:
        return self.clock.rate(t).to(like.dtype).reshape(-1, 1)

    def step_noise(self, x: Tensor, t: Tensor) -> FieldTransition:
        """The noise that the SDE with the edges of x gains per unit of t: a law around 0 with Σ = b g K² g."""
        amplitude = self._rate(t, x).sqrt().reshape(-1, 1, 1, 1) * self.amplitude(self.strength(x), self.elapsed(t, x))
        deviation = amplitude.expand(-1, self.config.shape[0], -1, -1).flatten(1)
        return FieldTransition(torch.zeros_like(x), deviation, self.basis, self.colour)

    def covariance(self, x: Tensor, v: Tensor, t: Tensor) -> Tensor:
        """Σ(x) v per unit of t, shape of v."""
        noise = self.step_noise(x, t)
        return noise.deviation * noise.coloured(noise.deviation * v, power=2)

    def divergence(self, x: Tensor, t: Tensor) -> Tensor:
        """(div Σ)_i = ∂_i Σ_ii = 2 b g_i ∂g_i/∂x_i of white noise, in closed form, (B, d).

        With c' = −c³/(2κ²): ∂g_i/∂x_i = η (1 − τ) c'(s_i) ∂s_i/∂x_i.

        Raises:
            ValueError: correlated noise, where Σ is not diagonal.
        """
        config, u = self.config, self.elapsed(t, x)
        if self.colour is not None:
            raise ValueError(f"noise alike over {config.length} pixels has no diagonal covariance")
        if not config.noise_edges:
            return torch.zeros_like(x)
        strength, response = edge_response(self.images(x), presmoothing=config.presmoothing, contrast=config.contrast)
        kappa = config.kappa(u)
        slope = -0.5 * anisotropy(strength, kappa) ** 3 / kappa**2
        change = config.eta(u) * (1 - config.tau(u)) * slope * response
        return self._rate(t, x) * (2 * self.amplitude(strength, u) * change).flatten(1)

    def noise_ratio(self, t: Tensor, *, rate: float = -0.5) -> Tensor:
        """ρ = e^u − 1: noise of g = 1 against what is not smoothed; ``rate`` does not matter."""
        return torch.expm1(self.clock(t))

    def time_of_noise(self, rho: Tensor, *, rate: float = -0.5) -> Tensor:
        """The inverse of :meth:`noise_ratio`."""
        return self.clock.inverse(torch.log1p(rho))

    def start(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draws from the terminal law of an image without edges, N(0, V_T K²), (n, d)."""
        x = torch.zeros(1, self.dim, dtype=self.mean.dtype, device=self.mean.device)
        time = torch.tensor(self.horizon, dtype=x.dtype, device=x.device)
        law = self.frozen(x, torch.zeros_like(time), time)
        noise = torch.randn(n, self.dim, generator=generator, dtype=x.dtype, device=x.device)
        return law.deviation * law.coloured(noise)
