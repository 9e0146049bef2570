"""Networks between a scaled input and a scaled output, mode by mode (Karras et al. 2022, §5; per subspace in TOAD).

With λ the variance of a mode in the data, m its mean coefficient (1 for noise alone) and g the variance of its noise,

    D = c_skip z + c_out F(c_in z; c_noise),   c_skip = m λ/(m²λ + g),  c_out² = λ g/(m²λ + g),  c_in² = 1/(m²λ + g),

in modal coordinates. c_skip alone is the posterior mean of Gaussian data, so F learns what is not Gaussian, and its
input and target have unit variance at every noise level.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from genodiff.core.denoisers import Denoiser
from genodiff.core.processes import Diffusion

__all__ = ["PreconditionedDenoiser"]


class PreconditionedDenoiser(Denoiser):
    """A network F(x, c_noise) made a posterior mean.

    Args:
        process: the noise, and what it does to the mean.
        network: maps inputs (B, *shape) and (B,) values of c_noise = ¼ log σ̃, σ̃ the level that the process reports by
            :meth:`Diffusion.log_noise`, to outputs (B, *shape). A condition is passed on by keyword.
        variance: λ of every mode of the data, (d,), or one for all, > 0.
        centre: mean of the data in the coordinates of x, (d,); 0 if not given.
        shape: what the network takes a vector for; (d,) if not given.
    """

    process: Diffusion
    data_variance: Tensor
    centre: Tensor

    def __init__(
        self,
        process: Diffusion,
        network: nn.Module,
        *,
        variance: Tensor | float,
        centre: Tensor | None = None,
        shape: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        like = process.mean
        spectrum = torch.as_tensor(variance, dtype=like.dtype, device=like.device).expand(process.dim).clone()
        if not (spectrum > 0).all():
            raise ValueError("the variance of the data must be positive in every mode")
        middle = torch.zeros_like(like) if centre is None else centre.to(like)
        self.process, self.network = process, network
        self.shape = (process.dim,) if shape is None else tuple(shape)
        self.register_buffer("data_variance", spectrum)
        self.register_buffer("centre", process.basis.analysis(middle))

    def _parts(
        self, x_t: Tensor, t: Tensor, condition: dict[str, Any]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """m, g and m²λ + g of every mode, z about its mean, and F in modal coordinates."""
        basis, m, g = self.process.basis, self.process.mean_coefficient(t), self.process.variance(t)
        total = m.square() * self.data_variance + g
        # Where the process draws x towards its own centre, the data's goes along.
        z = basis.analysis(x_t) - (m * self.centre + (1 - m) * basis.analysis(self.process.mean))
        scaled = basis.synthesis(z * total.rsqrt()).unflatten(-1, self.shape)
        level = (0.25 * self.process.log_noise(t)).expand(len(x_t))
        return m, g, total, z, basis.analysis(self.network(scaled, level, **condition).flatten(1))

    def forward(self, x_t: Tensor, t: Tensor, **condition: Any) -> Tensor:
        """E[x_0 | x_t], (B, d)."""
        m, g, total, z, out = self._parts(x_t, t, condition)
        c_skip, c_out = m * self.data_variance / total, (self.data_variance * g / total).sqrt()
        return self.process.basis.synthesis(self.centre + c_skip * z + c_out * out)

    def score(self, x_t: Tensor, t: Tensor, **condition: Any) -> Tensor:
        """(m c_out/g) F − z/(m²λ + g) per mode: Tweedie's formula without the difference of nearly equal numbers."""
        m, g, total, z, out = self._parts(x_t, t, condition)
        return self.process.basis.synthesis(m * (self.data_variance / (total * g)).sqrt() * out - z / total)

    def precision(self, t: Tensor) -> Tensor:
        """1/c_out² of every mode, (..., d): the weight under which the error of D is that of F."""
        return 1 / self.data_variance + self.process.mean_coefficient(t).square() / self.process.variance(t)
