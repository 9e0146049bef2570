"""Posterior means of allele states: Gaussian knowledge of the other sites, exact knowledge of the own one.

For site j with states g ∈ {0, …, ploidy} the base log odds are

    log π_j(g) + h_j g − ½ P_j g²

where P = diag(N⁻¹) is the precision with which the noisy state sees the site itself, h the matching linear term, and
π_j what the Gaussian prior and the noisy states of all other sites say about site j: of an allele, the Bernoulli law
with the mean of that *cavity*; of a dosage, the Hardy–Weinberg law reweighted by the evidence of the cavity. With
independent noise the site's own term is the exact likelihood of its noisy value; with structured noise it is that
likelihood with the other sites held at their posterior mean. A network adds its correction to the log odds, starting
from zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genodiff.core.bases import full_precision
from genodiff.core.denoisers import Denoiser, GaussianMixtureDenoiser
from genodiff.genotypes.backgrounds import Backgrounds, Membership
from genodiff.genotypes.network import ChromosomeNetwork

__all__ = ["FEATURES", "AlleleDenoiser", "log_odds"]

FEATURES = 3
"""Channels per site shown to the network, besides one per scale of backgrounds."""


_CERTAIN = 1e-4


def log_odds(p: Tensor) -> Tensor:
    """Log odds of probabilities kept away from 0 and 1."""
    return torch.logit(p.clamp(_CERTAIN, 1 - _CERTAIN))


class AlleleDenoiser(Denoiser):
    """E[x_0 | x_t] for states 0 … ploidy: haplotypes with ploidy 1, dosages with ploidy 2.

    Args:
        base: exact denoiser of the Gaussian mixture fitted to the data.
        network: correction of the log odds, or ``None`` for the base alone.
        ploidy: 1 or 2.
        reference_rate: contraction rate whose noise ratio serves as the network's time.
        least_frequency: frequencies are kept this far from 0 and 1.
        backgrounds: haplotype backgrounds at several scales, shown to the network.
        first_site: index of the first site of the run this denoiser is for.
    """

    def __init__(
        self,
        base: GaussianMixtureDenoiser,
        network: ChromosomeNetwork | None,
        *,
        ploidy: int,
        reference_rate: float = -0.5,
        least_frequency: float = 1e-3,
        backgrounds: Sequence[Backgrounds] = (),
        first_site: int = 0,
    ) -> None:
        super().__init__()
        if ploidy not in (1, 2):
            raise ValueError(f"ploidy must be 1 or 2, got {ploidy}")
        self.base, self.network, self.process = base, network, base.process
        self.ploidy, self.reference_rate, self.least_frequency = ploidy, reference_rate, least_frequency
        self.backgrounds = nn.ModuleList(backgrounds)
        self.first_site = first_site

    def logits(
        self,
        x_t: Tensor,
        t: Tensor,
        *,
        component: Tensor | None = None,
        conditions: tuple[Tensor, ...] = (),
        leave_out: Sequence[Membership] | None = None,
    ) -> Tensor:
        """Log odds against state 0: (B, d) for haplotypes, (B, d, 3) with a zero first column for dosages.

        ``leave_out`` names, per scale, training rows to take out of their own backgrounds.
        """
        return self._views(x_t, t, component=component, conditions=conditions, leave_out=leave_out)[0]

    def together(
        self,
        x_t: Tensor,
        t: Tensor,
        *,
        component: Tensor | None,
        conditions: tuple[Tensor, ...],
        generator: torch.Generator | None,
    ) -> tuple[Tensor, Tensor | float]:
        """Log odds, and their shift, (B, d), by one path of backgrounds per row, drawn from the posterior.

        Alleles of one background come or go together: drawn site by site, a rare haplotype would come in pieces, which
        the next step takes for noise. The paths are those at the widest scale. Dosages have no paths of their own: 0.
        """
        return self._views(
            x_t, t, component=component, conditions=conditions, draws=self.ploidy == 1, generator=generator
        )

    def _views(
        self,
        x_t: Tensor,
        t: Tensor,
        *,
        component: Tensor | None,
        conditions: tuple[Tensor, ...],
        leave_out: Sequence[Membership] | None = None,
        draws: bool = False,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor | float]:
        """Log odds, and their shift by the paths drawn, if any are to be."""
        ploidy = self.ploidy
        # Only a schedule or a clock that is being learned asks for gradients by x_t.
        with torch.set_grad_enabled(x_t.requires_grad and torch.is_grad_enabled()), full_precision(x_t):
            p = self.base.posterior(x_t, t, component=component)
            h = p.innovation + p.precision * p.mean
            # 1/V − P > 0 in exact arithmetic: the prior and the other sites always add something.
            cavity_precision = (1 / p.variance - p.precision).clamp_min(1e-3 / p.variance)
            cavity = (p.mean / p.variance - h) / cavity_precision / ploidy
            frequency = cavity.clamp(self.least_frequency, 1 - self.least_frequency)
            own = h - 0.5 * p.precision
            others = self._others(cavity, cavity_precision, component, p.responsibility)
            states = [others[g - 1] + g * h - 0.5 * g * g * p.precision for g in range(1, ploidy + 1)]
            if ploidy == 1:
                base = states[0]
                mean = torch.sigmoid(base)
            else:
                base = torch.stack([torch.zeros_like(h), *states], dim=-1)
                mean = torch.softmax(base, dim=-1) @ torch.arange(3, dtype=base.dtype, device=base.device) / 2
        if self.network is None:
            return base, 0.0
        noise = self.process.noise_ratio(t, rate=self.reference_rate).log().expand(len(x_t))
        with torch.no_grad(), full_precision(x_t):
            channels = [frequency - 0.5, mean - 0.5, own / (4 + own.abs())]
            own_rows: Sequence[Membership | None] = leave_out or [None] * len(self.backgrounds)
            anchor = component if self.ploidy == 1 else None
            scales: list[Backgrounds] = list(self.backgrounds)  # type: ignore[arg-type]
            widest = max((g.tile for g in scales), default=0)
            implied: list[Tensor] = []
            shift: Tensor | float = 0.0
            for g, row in zip(scales, own_rows, strict=True):
                if draws and g.tile == widest:
                    one, every = g.draw(h, p.precision, anchor=anchor, generator=generator)
                    shift = log_odds(one) - log_odds(every)
                else:
                    every = g(h, p.precision, anchor=anchor, first_site=self.first_site, leave_out=row) / ploidy
                implied.append(every)
            channels += [f - 0.5 for f in implied]
            features = torch.stack(channels, dim=-1) * 2
            opinions = None
            if implied:
                own_view = log_odds(mean)
                opinions = torch.stack([log_odds(f) - own_view for f in implied], dim=-1)
        correction = self.network(
            features,
            noise,
            conditions,
            opinions=opinions,
            first_tile=self.first_site // self.network.config.tile,
        )
        return base + (correction.squeeze(-1) if ploidy == 1 else F.pad(correction, (1, 0))), shift

    def _others(
        self, cavity: Tensor, precision: Tensor, component: Tensor | None, responsibility: Tensor
    ) -> list[Tensor]:
        """Log odds of the states 1 … ploidy from all other sites.

        Of one allele they are those of a Bernoulli law with the cavity mean. Of a dosage the Gaussian cavity N(c, v)
        is wider or narrower than a binomial law: its quotient by the site's own Gaussian prior N(m, V) is the
        evidence of the others, and the discrete prior it meets is the Hardy–Weinberg law with mean m.

        Args:
            cavity: mean of the cavity over ploidy, (B, d).
            precision: of the cavity, 1/v.
            component: component of each row, if known.
            responsibility: of the components otherwise.
        """
        least, ploidy = self.least_frequency, self.ploidy
        if ploidy == 1:
            return [torch.logit(cavity.clamp(least, 1 - least))]
        prior = self.base.prior
        mean = prior.means[component] if component is not None else responsibility @ prior.means
        wide = torch.maximum(self.process.basis.diagonal(prior.modal_variance), 1 / precision)
        hardy_weinberg = torch.logit((mean / ploidy).clamp(least, 1 - least))
        c = ploidy * cavity
        evidence = [0.5 * ((g - mean).square() / wide - (g - c).square() * precision) for g in range(ploidy + 1)]
        return [
            g * hardy_weinberg + math.log(math.comb(ploidy, g)) + evidence[g] - evidence[0]
            for g in range(1, ploidy + 1)
        ]

    def expectation(self, logits: Tensor) -> Tensor:
        """Expected state, (B, d), in [0, ploidy]."""
        if self.ploidy == 1:
            return torch.sigmoid(logits)
        # A product would be taken in half precision under autocast, where .999 is 1.
        with full_precision(logits):
            return torch.softmax(logits, dim=-1) @ torch.arange(3, dtype=logits.dtype, device=logits.device)

    def states(self, logits: Tensor, t: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """A joint draw of states with the posterior law of every site and the Gaussian base's correlations, (B, d).

        A Gaussian copula: a field with the posterior correlations of the base (sites in one LD block are decided
        together) is turned into uniforms, and these into states by the quantile function of each site's own law.

        Args:
            logits: as :meth:`logits` gives them, (B, d) or (B, d, 3).
            t: time (), which sets the correlations.
            generator: source of the field.
        """
        process = self.process
        with full_precision(logits):
            variance = self.base.prior.posterior_variance(t)
            noise = torch.randn(logits.shape[:2], generator=generator, device=logits.device, dtype=torch.float32)
            field = process.basis.synthesis(variance.sqrt() * noise) / process.basis.diagonal(variance).sqrt()
            u = torch.special.ndtr(field)
            if self.ploidy == 1:
                return (u < torch.sigmoid(logits.float())).float()
            above = 1 - torch.softmax(logits.float(), dim=-1).cumsum(-1)[..., :2]
            return (u.unsqueeze(-1) < above).sum(-1).float()

    def draw(self, x_t: Tensor, t: Tensor, *, generator: torch.Generator | None = None, **condition: Any) -> Tensor:
        """States drawn from the posterior, (B, d)."""
        return self.states(self.logits(x_t, t, **condition), t, generator=generator)

    def forward(self, x_t: Tensor, t: Tensor, **condition: Any) -> Tensor:
        """E[x_0 | x_t], (B, d)."""
        return self.expectation(self.logits(x_t, t, **condition))
