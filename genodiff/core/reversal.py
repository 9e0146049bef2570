"""Anisotropic fields backwards in time: denoisers, scores and samplers.

The frozen law of x_t given x_0 is known and p_t is its mixture over x_0, so that with D = E[x_0 | x_t] in the place of
x_0, and the edges of D or of x_t itself in the place of its edges,

    score ≈ −(A Aᵀ)⁻¹ (x_t − location(D)),    A = V^½ K.

Where coefficients are constant this is Tweedie's formula and exact; else it is exact as the posterior of x_0 narrows.

- :class:`PluginBridge` needs no score: it carries the noise A⁻¹ (x_t − location(D)) over to an earlier time.
- :class:`ReverseField` discretises dX̄ = [−drift + div Σ + Σ score] dt + Σ^½ dW̄, Σ = b g K² g.
- :class:`genodiff.core.samplers.EulerODE` and ``HeunODE`` integrate the probability flow where there is one in closed
  form: for constant coefficients, on the process that :meth:`FieldConfig.constant` gives. For frozen edges
  ``PluginBridge(noise=0)`` is a first-order step of it, along which the noise of a pixel stays what it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol, cast

import torch
from torch import Tensor, nn

from genodiff.core.denoisers import Denoiser
from genodiff.core.fields import FieldDiffusion
from genodiff.core.preconditioning import PreconditionedDenoiser
from genodiff.core.processes import Diffusion
from genodiff.core.samplers import Sampler

__all__ = [
    "Edges",
    "FieldDenoiser",
    "FieldScore",
    "PluginBridge",
    "ReverseField",
    "ScoreModel",
    "TabulatedModes",
    "divergence_estimate",
    "tabulate_modes",
]

Edges = Literal["denoised", "state"]


class ScoreModel(Protocol):
    """What knows ∇ log p_t under a process."""

    process: FieldDiffusion

    def score(self, x_t: Tensor, t: Tensor, **condition: Any) -> Tensor:
        """∇ log p_t(x_t), (B, d)."""


class TabulatedModes(Diffusion):
    """The Gaussian process in the cosines that has the second moments of another: z_t ≈ m(t) z_0 + N(0, s²(t)).

    Between tabulated levels m and log(s²/(1 − e^{−u})) are linear in log ρ, ρ = e^u − 1; beyond them they stay.

    Args:
        process: the process it stands for; gives basis, clock and horizon.
        levels: ½ log ρ, (k,), rising.
        m: mean coefficients, (k, d).
        variance: s², (k, d), > 0.
    """

    levels: Tensor
    table: Tensor

    def __init__(self, process: FieldDiffusion, levels: Tensor, m: Tensor, variance: Tensor) -> None:
        super().__init__()
        if (levels.diff() <= 0).any() or not (variance > 0).all() or m.shape != variance.shape:
            raise ValueError("levels must rise, variances be positive and have the shape of the mean coefficients")
        self.basis, self.clock, self.horizon = process.basis, process.clock, process.horizon
        self.register_buffer("mean", process.mean)
        self.register_buffer("levels", levels)
        isotropic = torch.sigmoid(2 * levels).unsqueeze(-1)  # 1 − e^{−u} = ρ/(1 + ρ)
        self.register_buffer("table", torch.stack([m, (variance / isotropic).log()], dim=1))

    def _at(self, t: Tensor, column: int) -> Tensor:
        level = self.log_noise(t).to(self.levels)
        k = torch.searchsorted(self.levels, level.contiguous()).clamp(1, len(self.levels) - 1)
        low, high = self.levels[k - 1], self.levels[k]
        share = ((level - low) / (high - low)).clamp(0.0, 1.0).unsqueeze(-1)
        return torch.lerp(self.table[k - 1, column], self.table[k, column], share)

    def mean_coefficient(self, t: Tensor) -> Tensor:
        """m(t), (..., d)."""
        return self._at(t, 0)

    def variance(self, t: Tensor) -> Tensor:
        """s²(t), (..., d)."""
        return -torch.expm1(-self.clock(t)).to(self.table).unsqueeze(-1) * self._at(t, 1).exp()

    def noise_ratio(self, t: Tensor, *, rate: float = -0.5) -> Tensor:
        """ρ = e^u − 1."""
        return torch.expm1(self.clock(t))


@torch.no_grad()
def tabulate_modes(
    process: FieldDiffusion, rows: Tensor, *, levels: int = 24, first: float = 1e-4, generator: torch.Generator
) -> tuple[TabulatedModes, Tensor, Tensor]:
    """Second moments of the frozen transition on data: what a network is scaled by, and the best linear guess of x_0.

    m = Cov(z_0, z_t)/λ and s² = Var(z_t) − m²λ, mode by mode, with λ = Var(z_0).

    Args:
        process: the process.
        rows: images (n, d).
        levels: number of tabulated times, ≥ 2.
        first: ρ of the first, > 0; the last is T.
        generator: source of the noise.

    Returns:
        the process of those moments, λ (d,) and the mean of the rows (d,).
    """
    if len(rows) < 2 or levels < 2:
        raise ValueError(f"expected at least 2 rows and 2 levels, got {len(rows)} and {levels}")
    centre = rows.mean(0)
    z_0 = process.basis.analysis(rows - centre)
    spectrum = z_0.square().mean(0)
    spectrum = spectrum.clamp_min(1e-4 * float(spectrum.mean()))
    highest = float(process.log_noise(torch.tensor(process.horizon, dtype=torch.float64)))
    lowest = 0.5 * torch.tensor(first, dtype=torch.float64).log()
    level = torch.linspace(float(lowest), highest, levels, dtype=torch.float64)
    m, variance = [], []
    for t in process.time_of_noise((2 * level).exp()):
        law = process.frozen(rows, torch.zeros_like(t), t)
        z = process.basis.analysis(law.location - law.location.mean(0))
        noise = process.basis.analysis(law.sample(generator=generator)[0] - law.location)
        m.append((z_0 * z).mean(0) / spectrum)
        # The part of the smoothed image that no line through x_0 gives counts as noise; it is >= 0 but for rounding.
        variance.append((z.square().mean(0) - m[-1].square() * spectrum).clamp_min(0.0) + noise.square().mean(0))
    return TabulatedModes(process, level.to(rows.dtype), torch.stack(m), torch.stack(variance)), spectrum, centre


class FieldDenoiser(Denoiser):
    """A network as the posterior mean under a frozen field.

    Args:
        process: the field.
        network: maps (B, C, H, W) and (B,) noise levels to (B, C, H, W).
        modes: Gaussian process of the field's second moments, by which input and output are scaled; with constant
            coefficients it is exact.
        variance: λ of the data in the cosines, (d,), or one for all.
        centre: mean of the data, (d,).
    """

    process: FieldDiffusion

    def __init__(
        self,
        process: FieldDiffusion,
        network: nn.Module,
        *,
        modes: Diffusion | None = None,
        variance: Tensor | float,
        centre: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.process = process
        scaled_by = process.config.constant(dtype=process.mean.dtype) if modes is None else modes
        self.guess = PreconditionedDenoiser(
            scaled_by, network, variance=variance, centre=centre, shape=process.config.shape
        )

    @property
    def network(self) -> nn.Module:
        """The network."""
        return self.guess.network

    def forward(self, x_t: Tensor, t: Tensor, **condition: Any) -> Tensor:
        """E[x_0 | x_t], (B, d)."""
        return self.guess(x_t, t, **condition)

    def precision(self, t: Tensor) -> Tensor:
        """The weight, mode by mode, under which the error of D is that of the network, (..., d)."""
        return self.guess.precision(t)

    def score(self, x_t: Tensor, t: Tensor, *, edges: Edges = "denoised", **condition: Any) -> Tensor:
        """The score of the frozen law with D for x_0 and the edges of D (``denoised``) or of x_t (``state``)."""
        d = self(x_t, t, **condition)
        strength = self.process.strength(d if edges == "denoised" else x_t)
        return self.process.frozen(d, torch.zeros_like(t), t, strength=strength).score(x_t)


class FieldScore(nn.Module):
    """A network as the score itself, for objectives that know no x_0: s = −z/σ² + (c/σ_n) F per mode.

    σ² = m²λ + s² is the variance of x_t and σ_n² = s² that of its noise; c² = m²λ/σ² is the share of x_t that is not
    noise. Without the network this is the score of Gaussian data.

    Args:
        process: the field.
        network: maps (B, C, H, W) and (B,) noise levels to (B, C, H, W).
        modes: Gaussian process of the field's second moments; its smoothed constant case if not given.
        variance: λ of the data in the cosines, (d,), or one for all.
        centre: mean of the data, (d,).
    """

    def __init__(
        self,
        process: FieldDiffusion,
        network: nn.Module,
        *,
        modes: Diffusion | None = None,
        variance: Tensor | float,
        centre: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.process = process
        scaled_by = process.config.constant(white=False, dtype=process.mean.dtype) if modes is None else modes
        self.guess = PreconditionedDenoiser(
            scaled_by, network, variance=variance, centre=centre, shape=process.config.shape
        )

    def score(self, x_t: Tensor, t: Tensor, **condition: Any) -> Tensor:
        """∇ log p_t(x_t), (B, d)."""
        return self.guess.score(x_t, t, **condition)


def divergence_estimate(
    act: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    *,
    probes: int = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """(div Σ)_i = Σ_j ∂_j Σ_ij(x) without bias: E_e of the derivative of Σ(x) e along e, e = ±1 at random, (B, d).

    Args:
        act: Σ(x) v of (x, v), differentiable in x.
        x: (B, d).
        probes: draws of e that are averaged.
        generator: source of e.
    """
    total = torch.zeros_like(x)
    for _ in range(probes):
        coin = torch.rand(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        e = torch.where(coin < 0.5, -1.0, 1.0).to(x)
        total = total + torch.func.jvp(lambda y, e=e: act(y, e), (x,), (e,))[1]
    return total / probes


class PluginBridge(Sampler):
    """D in the place of x_0 in the mean and in the variance of the frozen bridge.

    z = A_t⁻¹ (x_t − location_t(D)) is carried over to s as z_s = (1 − ω² (1 − r²))^½ z + ω (1 − r²)^½ ξ, where
    r = e^{−(u_t−u_s)/2} (V_s/V_t)^½, and x_s = location_s(D) + A_s z_s. Were D known to be x_0, x_s would have its
    exact law for every ω, and with ω = 1 its exact law given x_t, too.

    Args:
        denoiser: posterior mean under a frozen field.
        noise: ω in [0, 1]: 1 is the bridge, 0 a flow without noise.
        edges: those of D, or of the state x_t.
    """

    stochastic = True
    process: FieldDiffusion

    def __init__(self, denoiser: Denoiser, *, noise: float = 1.0, edges: Edges = "denoised") -> None:
        if not isinstance(denoiser.process, FieldDiffusion):
            raise ValueError(f"needs an anisotropic field, got {type(denoiser.process).__name__}")
        if not 0 <= noise <= 1:
            raise ValueError(f"noise must lie in [0, 1], got {noise}")
        super().__init__(denoiser)
        self.noise, self.edges = noise, edges

    def step(
        self, x_t: Tensor, t: Tensor, s: Tensor, *, generator: torch.Generator | None = None, **condition: Any
    ) -> Tensor:
        """x_s, (B, d); at s = 0 it is D."""
        process, zero = self.process, torch.zeros_like(t)
        d = self._denoise(x_t, t, condition)
        edges = process.strength(d if self.edges == "denoised" else x_t)
        later, earlier = (process.frozen(d, zero, time, strength=edges) for time in (t, s))
        z = later.noise(x_t)
        if self.noise:
            u_s, u_t = process.elapsed(s, x_t), process.elapsed(t, x_t)
            gained = process.gathered(edges, u_s, u_t, nodes=process.config.nodes)
            gained = gained.expand(-1, process.config.shape[0], -1, -1).flatten(1)
            kept = torch.exp(-(u_t - u_s)).reshape(-1, 1) * earlier.deviation.square()
            fresh = self.noise**2 * gained / (gained + kept)  # ω² (1 − r²)
            xi = torch.randn(x_t.shape, generator=generator, device=x_t.device, dtype=x_t.dtype)
            z = (1 - fresh).sqrt() * z + fresh.sqrt() * xi
        return earlier.noised(z)


class ReverseField(Sampler):
    """Euler–Maruyama of the reverse SDE of a field, x_s = x_t − (t − s) [drift − div Σ − Σ score] + √(t − s) Σ^½ ξ.

    With the edges of the state it reverses the SDE itself, and needs its score (:class:`FieldScore`, or anything with a
    ``score``). With those of the denoised image it reverses the process that has the frozen laws as its marginals, its
    drift and noise at x_t are those of x_0 averaged over the posterior: D is put in the place of the average.

    Args:
        model: knows the score; with ``edges="denoised"`` a denoiser.
        edges: those of the state x_t, or of D.
        divergence: whether div Σ enters. Without it the sampler is wrong wherever the noise depends on the state.
        probes: directions by which div Σ is estimated where it has no closed form.
    """

    stochastic = True
    process: FieldDiffusion

    def __init__(
        self,
        model: ScoreModel,
        *,
        edges: Edges = "state",
        divergence: bool = True,
        probes: int = 1,
    ) -> None:
        if not isinstance(model.process, FieldDiffusion):
            raise ValueError(f"needs an anisotropic field, got {type(model.process).__name__}")
        if edges == "denoised" and not isinstance(model, Denoiser):
            raise ValueError(f"the edges of the denoised image need a denoiser, got {type(model).__name__}")
        super().__init__(cast(Denoiser, model))  # with the edges of the state nothing but its score is asked for
        self.edges, self.divergence, self.probes = edges, divergence, probes

    def step(
        self, x_t: Tensor, t: Tensor, s: Tensor, *, generator: torch.Generator | None = None, **condition: Any
    ) -> Tensor:
        """x_s, (B, d)."""
        process, config = self.process, self.process.config

        def shown(x: Tensor) -> Tensor:
            return x if self.edges == "state" else self._denoise(x, t, condition)

        by = shown(x_t)
        if self.edges == "state":
            drift, score = process.drift(x_t, t), self.denoiser.score(x_t, t, **condition)
        else:
            drift = process.mean_drift(by, x_t, t)
            score = process.frozen(by, torch.zeros_like(t), t).score(x_t)
        backward = process.covariance(by, score, t) - drift
        if self.divergence and config.noise_edges:
            if self.edges == "state" and process.colour is None:
                backward = backward + process.divergence(x_t, t)
            else:
                backward = backward + divergence_estimate(
                    lambda x, v: process.covariance(shown(x), v, t), x_t, probes=self.probes, generator=generator
                )
        kick, _ = process.step_noise(by, t).sample(generator=generator)
        return x_t + (t - s) * backward + (t - s).sqrt() * kick
