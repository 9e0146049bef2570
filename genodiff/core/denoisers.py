"""Denoisers: models of the posterior mean D(x, t) = E[x_0 | x_t = x], and the score that follows from it.

For x_0 ~ Σ_k w_k N(ν_k, Q diag(λ) Qᵀ) in the basis of the process, everything is exact: with z the modal coordinates,

    r_k ∝ w_k N(z; m ν_k, m² λ + s²),    D = Σ_k r_k [ν_k + m λ / (m² λ + s²) (z − m ν_k)].

With one component this is the Wiener filter of the data; with anchors as components it is the start law of GOU
(eq. 12) carried through all t. A network need only learn what is not Gaussian.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from genodiff.core.bases import full_precision
from genodiff.core.processes import Diffusion

__all__ = [
    "AnchorCovariance",
    "Denoiser",
    "GaussianMixture",
    "GaussianMixtureDenoiser",
    "NoiseDenoiser",
    "ResidualDenoiser",
    "terminal",
]

AnchorCovariance = Literal["noise", "within", "total"]


class Denoiser(nn.Module):
    """A model of the posterior mean. ``forward(x_t (B, d), t, **condition)`` returns E[x_0 | x_t], (B, d).

    Times have shape (B,), or () where all rows share one, which saves work.
    """

    process: Diffusion

    def on(self, process: Diffusion) -> Self:
        """The same denoiser on another process, sharing all else; a network must have been made for its noise."""
        twin = copy.copy(self)
        twin._modules = {
            name: child.on(process) if isinstance(child, Denoiser | GaussianMixture) else child
            for name, child in self._modules.items()
            if child is not None
        }
        twin._modules["process"] = process
        return twin

    def score(self, x_t: Tensor, t: Tensor, **condition: Any) -> Tensor:
        """∇ log p_t(x_t) by Tweedie's formula, (m D_z − z)/s² per mode; t > 0."""
        process = self.process
        z = process.basis.analysis(x_t - process.mean)
        d_z = process.basis.analysis(self(x_t, t, **condition) - process.mean)
        return process.basis.synthesis((process.mean_coefficient(t) * d_z - z) / process.variance(t))

    def velocity(self, x_t: Tensor, t: Tensor, *, score_share: float = 0.5, **condition: Any) -> Tensor:
        """M(x − μ) − share · β · score per unit of t: ½ is the probability flow, 1 the drift of the reverse SDE."""
        score = self.score(x_t, t, **condition)
        return self.process.drift(x_t, t) - score_share * self.process.diffused(score, t)

    def draw(self, x_t: Tensor, t: Tensor, *, generator: torch.Generator | None = None, **condition: Any) -> Tensor:
        """A draw of x_0 from (a model of) its posterior given x_t, (B, d).

        A denoiser that knows no more than the posterior mean returns the mean.
        """
        return self(x_t, t, **condition)


class GaussianMixture(nn.Module):
    """Σ_k w_k N(ν_k, Q diag(variance) Qᵀ) with one covariance for all components.

    Args:
        process: gives the basis Q and the centre μ.
        weights: w, (K,), positive; normalised here.
        means: ν in the coordinates of x, (K, d).
        variance: modal variances shared by the components, (d,), ≥ 0.
    """

    weights: Tensor
    means: Tensor
    modal_variance: Tensor

    def __init__(self, process: Diffusion, *, weights: Tensor, means: Tensor, variance: Tensor) -> None:
        super().__init__()
        if means.ndim != 2 or means.shape != (len(weights), process.dim):
            raise ValueError(f"means must have shape ({len(weights)}, {process.dim}), got {tuple(means.shape)}")
        if (weights <= 0).any():
            raise ValueError("component weights must be positive")
        if variance.shape != (process.dim,) or (variance < 0).any():
            raise ValueError(f"variance must be non-negative with shape ({process.dim},)")
        dtype = process.basis.dtype
        self.process = process
        self.register_buffer("weights", (weights / weights.sum()).to(dtype))
        self.register_buffer("means", means.to(dtype))
        self.register_buffer("modal_variance", variance.to(dtype))

    def on(self, process: Diffusion) -> Self:
        """The same law beside another process in the same basis."""
        twin = copy.copy(self)
        twin._modules = {**self._modules, "process": process}
        return twin

    @property
    def n_components(self) -> int:
        """Number of components K."""
        return len(self.weights)

    def modal_means(self) -> Tensor:
        """ν in modal coordinates, (K, d)."""
        return self.process.basis.analysis(self.means - self.process.mean)

    def sample(
        self, n: int, *, component: Tensor | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draws n points and the components they came from (or those given), (n, d) and (n,)."""
        device = self.means.device
        if component is None:
            component = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        noise = torch.randn(n, self.process.dim, generator=generator, device=device, dtype=self.means.dtype)
        spread = self.process.basis.synthesis(self.modal_variance.sqrt() * noise)
        return self.means[component] + spread, component

    def posterior_variance(self, t: Tensor) -> Tensor:
        """λ s²/(m² λ + s²): the variance left in every mode of X_0 within a component, given X_t, (..., d)."""
        m, s2 = self.process.mean_coefficient(t), self.process.variance(t)
        return self.modal_variance * s2 / (m.square() * self.modal_variance + s2)

    def restrict(self, process: Diffusion, coordinates: slice) -> GaussianMixture:
        """The marginal law of a run of coordinates, for the process restricted to them."""
        return GaussianMixture(
            process,
            weights=self.weights,
            means=self.means[:, coordinates],
            variance=self.modal_variance[coordinates],
        )

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean (d,) and covariance (d, d) of the mixture; dense, for tests and small problems."""
        mean = self.weights @ self.means
        centred = self.means - mean
        q = self.process.basis.matrix()
        return mean, (q * self.modal_variance) @ q.T + (centred.T * self.weights) @ centred

    def pushed(self, t: float) -> GaussianMixture:
        """The law of X_t when X_0 follows this mixture: again a mixture, exactly (Theorems 4 and 5)."""
        time = torch.as_tensor(t, dtype=self.means.dtype, device=self.means.device)
        m, s2 = self.process.mean_coefficient(time), self.process.variance(time)
        means = self.process.mean + self.process.basis.synthesis(m * self.modal_means())
        variance = m.square() * self.modal_variance + s2
        return GaussianMixture(self.process, weights=self.weights, means=means, variance=variance)


def terminal(
    process: Diffusion,
    *,
    weights: Tensor,
    anchors: Tensor,
    spectrum: Tensor | None = None,
    covariance: AnchorCovariance = "within",
    time: float | None = None,
) -> GaussianMixture:
    """The start law of the sampler: anchors carried to time T, with Gaussian spread around each (GOU eq. 12).

    Args:
        process: the forward process.
        weights: anchor weights, (K,).
        anchors: points x̂_k, (K, d).
        spectrum: modal variances added to the noise: those within clusters for ``"within"``, those of the whole data
            for ``"total"``; not used for ``"noise"``.
        covariance: ``"noise"`` spreads by s²(T) alone, which is what the proof of Lemma 10 couples; ``"within"`` by
            s² + m² λ_within, which has the second moment of the forward marginal; ``"total"`` by eq. (8) read
            literally, which counts the variance between clusters twice.
        time: T, the horizon of the process if not given.
    """
    if covariance == "noise":
        variance = torch.zeros(process.dim, dtype=process.basis.dtype, device=process.basis.device)
    elif spectrum is None:
        raise ValueError(f"anchor covariance {covariance!r} needs a spectrum")
    else:
        variance = spectrum
    return GaussianMixture(process, weights=weights, means=anchors, variance=variance).pushed(
        process.horizon if time is None else time
    )


@dataclass(frozen=True)
class GaussianPosterior:
    """What a Gaussian(-mixture) prior and x_t say about x_0.

    Attributes:
        mean: E[x_0 | x_t], (B, d), in the coordinates of x.
        innovation: N⁻¹(y − mean), (B, d), where y = x_0 + noise is x_t rescaled and N the covariance of that noise.
        variance: diagonal of the posterior covariance within a component, (B, d) or (1, d).
        precision: diagonal of N⁻¹, same shape.
        responsibility: posterior component probabilities, (B, K).
    """

    mean: Tensor
    innovation: Tensor
    variance: Tensor
    precision: Tensor
    responsibility: Tensor


class GaussianMixtureDenoiser(Denoiser):
    """The exact posterior mean under a Gaussian mixture: oracle for tests, base for networks."""

    def __init__(self, prior: GaussianMixture) -> None:
        super().__init__()
        self.prior = prior
        self.process = prior.process

    def responsibility(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Posterior component probabilities r_k, (B, K)."""
        z = self.process.basis.analysis(x_t - self.process.mean)
        m, s2 = self.process.mean_coefficient(t), self.process.variance(t)
        return self._responsibility(z, m, m.square() * self.prior.modal_variance + s2)

    def _responsibility(self, z: Tensor, m: Tensor, total: Tensor) -> Tensor:
        nu = self.prior.modal_means()
        # ‖z − mν‖²/total expanded, so that (B, K, d) is never formed; the common ‖z‖² term drops out.
        with full_precision(z):
            cross = (z * m / total) @ nu.T
            own = (m.square() / total) @ nu.square().T
        return torch.softmax(self.prior.weights.log() + cross - 0.5 * own, dim=-1)

    def posterior(self, x_t: Tensor, t: Tensor, *, component: Tensor | None = None) -> GaussianPosterior:
        """Posterior mean, variances and responsibilities.

        Args:
            x_t: noisy points (B, d).
            t: times (B,), or () where all rows share one time.
            component: the component each row is known to come from, (B,); inferred if ``None``.
        """
        process, prior = self.process, self.prior
        z = process.basis.analysis(x_t - process.mean)
        m, s2 = process.mean_coefficient(t), process.variance(t)
        total = m.square() * prior.modal_variance + s2
        nu = prior.modal_means()
        if component is None:
            r = self._responsibility(z, m, total)
            with full_precision(z):
                expected = r @ nu
        else:
            r = torch.nn.functional.one_hot(component, prior.n_components).to(z.dtype)
            expected = nu[component]
        d_z = expected + m * prior.modal_variance / total * (z - m * expected)
        # (z − m D)/s² = (z − mν)/total inside a component, which stays finite as s → 0.
        innovation = m * (z - m * expected) / total
        variance = prior.modal_variance * s2 / total
        shared = t.ndim == 0
        precision = m.square() / s2
        if shared:
            variance, precision = variance.unsqueeze(0), precision.unsqueeze(0)
        basis = process.basis
        return GaussianPosterior(
            mean=process.mean + basis.synthesis(d_z),
            innovation=basis.synthesis(innovation),
            variance=basis.diagonal(variance),
            precision=basis.diagonal(precision),
            responsibility=r,
        )

    def forward(self, x_t: Tensor, t: Tensor, *, component: Tensor | None = None) -> Tensor:
        """E[x_0 | x_t], (B, d)."""
        process, prior = self.process, self.prior
        z = process.basis.analysis(x_t - process.mean)
        m, s2 = process.mean_coefficient(t), process.variance(t)
        total = m.square() * prior.modal_variance + s2
        nu = prior.modal_means()
        with full_precision(z):
            expected = nu[component] if component is not None else self._responsibility(z, m, total) @ nu
        d_z = expected + m * prior.modal_variance / total * (z - m * expected)
        return process.mean + process.basis.synthesis(d_z)

    def draw(
        self,
        x_t: Tensor,
        t: Tensor,
        *,
        generator: torch.Generator | None = None,
        component: Tensor | None = None,
        **condition: Any,
    ) -> Tensor:
        """An exact draw from p(x_0 | x_t): a component from its posterior, then the Gaussian within it."""
        process, prior = self.process, self.prior
        if component is None:
            r = self.responsibility(x_t, t)
            component = torch.multinomial(r, 1, generator=generator).squeeze(-1)
        mean = self(x_t, t, component=component)
        variance = prior.posterior_variance(t)
        noise = torch.randn(x_t.shape, generator=generator, device=x_t.device, dtype=x_t.dtype)
        return mean + process.basis.synthesis(variance.sqrt() * noise)

    def log_prob(self, x_t: Tensor, t: Tensor) -> Tensor:
        """log p_t(x_t) of the forward marginal, (B,)."""
        z = self.process.basis.analysis(x_t - self.process.mean)
        m, s2 = self.process.mean_coefficient(t), self.process.variance(t)
        total = (m.square() * self.prior.modal_variance + s2).unsqueeze(-2)
        deviation = z.unsqueeze(-2) - m.unsqueeze(-2) * self.prior.modal_means()
        each = -0.5 * (deviation.square() / total + total.log() + math.log(2 * math.pi)).sum(-1)
        return torch.logsumexp(self.prior.weights.log() + each, dim=-1)


class ResidualDenoiser(Denoiser):
    """A network's correction of a base denoiser: D = D_base + c_out(t) F_θ(c_in(t) z, t).

    c_in normalises the modal coordinates by the variance of the forward marginal, c_out is the posterior standard
    deviation of a mode under the base prior, so that the correction vanishes where nothing is left to decide.

    Args:
        base: exact denoiser of the prior.
        network: maps (B, d) normalised modal coordinates and (B,) log noise ratios to (B, d).
        reference_rate: the contraction rate whose noise ratio is shown to the network as its time.
    """

    def __init__(self, base: GaussianMixtureDenoiser, network: nn.Module, *, reference_rate: float = -0.5) -> None:
        super().__init__()
        self.base = base
        self.process = base.process
        self.network = network
        self.reference_rate = reference_rate

    def forward(self, x_t: Tensor, t: Tensor, **condition: Any) -> Tensor:
        """E[x_0 | x_t], (B, d)."""
        process, prior = self.process, self.base.prior
        m, s2 = process.mean_coefficient(t), process.variance(t)
        total = m.square() * prior.modal_variance + s2
        z = process.basis.analysis(x_t - process.mean)
        noise = process.noise_ratio(t, rate=self.reference_rate).log().expand(len(x_t))
        correction = self.network(z / total.sqrt(), noise)
        c_out = (prior.modal_variance * s2 / total).sqrt()
        return self.base(x_t, t, **condition) + process.basis.synthesis(c_out * correction)


class NoiseDenoiser(Denoiser):
    """A plain network that predicts the noise, ε̂ = F_θ(z_t, t) in modal coordinates, without a base: D = (z − s ε̂)/m.

    This is the parametrisation of Ho et al. 2020, for any linear diffusion; the score is −ε̂/s per mode.

    Args:
        process: the forward process.
        network: maps (B, d) modal coordinates and (B,) log noise ratios to (B, d) modal noise.
        reference_rate: the contraction rate whose noise ratio is shown to the network as its time.
    """

    def __init__(self, process: Diffusion, network: nn.Module, *, reference_rate: float = -0.5) -> None:
        super().__init__()
        self.process, self.network, self.reference_rate = process, network, reference_rate

    def _noise(self, z: Tensor, t: Tensor) -> Tensor:
        """ε̂ in modal coordinates, (B, d)."""
        level = self.process.noise_ratio(t, rate=self.reference_rate).log().expand(len(z))
        return self.network(z, level)

    def forward(self, x_t: Tensor, t: Tensor, **condition: Any) -> Tensor:
        """E[x_0 | x_t], (B, d)."""
        process = self.process
        z = process.basis.analysis(x_t - process.mean)
        d_z = (z - process.variance(t).sqrt() * self._noise(z, t)) / process.mean_coefficient(t)
        return process.mean + process.basis.synthesis(d_z)

    def score(self, x_t: Tensor, t: Tensor, **condition: Any) -> Tensor:
        """−ε̂/s per mode: Tweedie's formula without the detour over D."""
        process = self.process
        z = process.basis.analysis(x_t - process.mean)
        return -process.basis.synthesis(self._noise(z, t) / process.variance(t).sqrt())
