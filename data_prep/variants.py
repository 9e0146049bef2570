"""``VariantTable``: the one object that carries genotypes through the project.

Dimensions are named as in the VCF-Zarr convention: *samples* (people), *variants* (sites), *ploidy*.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

if TYPE_CHECKING:
    import anndata

__all__ = ["MISSING", "SITE_COLUMNS", "VariantTable"]

MISSING = -1
"""Allele code of a missing call."""

SITE_COLUMNS = ("contig", "position", "id", "ref", "alt")


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    view = array.view()
    view.flags.writeable = False
    return view


@dataclass(frozen=True, repr=False)
class VariantTable:
    """Biallelic diploid genotypes of some people at some sites; immutable and validated.

    Attributes:
        haplotypes: int8, shape (samples, variants, 2). Allele codes 0 (REF), 1 (ALT), −1 (missing). Where a call is
            phased, ``haplotypes[:, :, 0]`` is the first chromosome; where it is not, the order of the two alleles
            carries no meaning.
        sites: one row per variant with the columns ``contig`` (str), ``position`` (int, bp, 1-based), ``id``, ``ref``,
            ``alt`` (str); further columns (for example ``cM``) are carried along. Sorted by position within a contig.
        samples: one row per person, indexed by sample name; a column ``label`` (str) where a panel was given. On X,
            where men have one copy, a row may be of two men, see :mod:`data_prep.sexes`.
        phased: bool, shape (samples, variants): whether the call carries phase (``|``). ``None`` means all phased.
        header: the ``##contig`` and ``##reference`` lines of the input, kept for the output.
        haploid: bool, shape (samples, variants): calls of one allele, which is then in both places. ``None`` means
            none. Chunks on their way from file to file have it; tables that are learned from have not.

    Raises:
        ValueError: a shape, allele code, coordinate or name that is not valid; the message gives value and index.
    """

    haplotypes: NDArray[np.int8]
    sites: pd.DataFrame
    samples: pd.DataFrame
    phased: NDArray[np.bool_] | None = None
    header: tuple[str, ...] = field(default=(), repr=False)
    haploid: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        h = np.asarray(self.haplotypes)
        if h.ndim != 3 or h.shape[2] != 2:
            raise ValueError(f"haplotypes must have shape (samples, variants, 2), got {h.shape}")
        if h.dtype != np.int8:
            raise ValueError(f"haplotypes must be int8, got {h.dtype}")
        if h.size and (h.min() < MISSING or h.max() > 1):
            i, j, k = np.argwhere((h < MISSING) | (h > 1))[0]
            raise ValueError(f"allele code {h[i, j, k]} at sample {i}, variant {j}: expected 0, 1 or -1 (missing)")
        absent = [c for c in SITE_COLUMNS if c not in self.sites.columns]
        if absent:
            raise ValueError(f"sites lack the columns {absent}")
        if len(self.sites) != h.shape[1]:
            raise ValueError(f"{len(self.sites)} rows in sites for {h.shape[1]} variants in haplotypes")
        if len(self.samples) != h.shape[0]:
            raise ValueError(f"{len(self.samples)} rows in samples for {h.shape[0]} people in haplotypes")
        names = pd.Index(self.samples.index)
        if names.has_duplicates:
            raise ValueError(f"sample name {names[names.duplicated()][0]!r} occurs twice")
        position = self.sites["position"].to_numpy()
        contig = self.sites["contig"].to_numpy()
        if len(position) and position.min() < 1:
            raise ValueError(f"position {position.min()} at variant {int(position.argmin())}: positions are 1-based bp")
        backwards = (np.diff(position) < 0) & (contig[1:] == contig[:-1])
        if backwards.any():
            j = int(np.argmax(backwards)) + 1
            raise ValueError(f"variant {j} at {position[j]} bp lies before variant {j - 1} at {position[j - 1]} bp")
        for name in ("phased", "haploid"):
            mask = getattr(self, name)
            if mask is not None:
                if mask.shape != h.shape[:2]:
                    raise ValueError(f"{name} must have shape {h.shape[:2]}, got {mask.shape}")
                object.__setattr__(self, name, _frozen(np.asarray(mask, dtype=bool)))
        object.__setattr__(self, "haplotypes", _frozen(h))
        object.__setattr__(self, "sites", self.sites.reset_index(drop=True))

    def __repr__(self) -> str:
        """One line: people, sites, place, phase."""
        where = "no sites"
        if self.n_variants:
            first, last = self.sites.iloc[0], self.sites.iloc[-1]
            where = f"{first['contig']}:{first['position']:,}-{last['position']:,}"
        phase = "phased" if self.is_phased else "unphased"
        return f"VariantTable({self.n_samples:,} people × {self.n_variants:,} sites, {where}, {phase})"

    @property
    def n_samples(self) -> int:
        """Number of people."""
        return self.haplotypes.shape[0]

    @property
    def n_variants(self) -> int:
        """Number of sites."""
        return self.haplotypes.shape[1]

    @cached_property
    def people(self) -> tuple[str, ...]:
        """Names of all people, in the order of the rows: of both men where a row is of two."""
        names = self.samples.index.astype(str)
        if "second" not in self.samples.columns:
            return tuple(names)
        both = zip(names, self.samples["second"].astype(str), strict=True)
        return tuple(name for row in both for name in row if name)

    @property
    def people_per_row(self) -> NDArray[np.int64]:
        """Number of people in each row (samples,): 2 of a pair of men, 1 otherwise."""
        if "second" not in self.samples.columns:
            return np.ones(self.n_samples, dtype=np.int64)
        return 1 + (self.samples["second"] != "").to_numpy(dtype=np.int64)

    @property
    def n_people(self) -> int:
        """Number of people."""
        return int(self.people_per_row.sum())

    @property
    def missing_calls(self) -> int:
        """Number of calls (person × site) that are missing or lack an allele."""
        absent = self.haplotypes < 0
        pair = self.people_per_row == 2
        return int(absent[~pair].any(axis=2).sum() + absent[pair].sum())

    @property
    def labels(self) -> NDArray[Any] | None:
        """Population labels (samples,), or ``None`` where no panel was given."""
        return self.samples["label"].to_numpy(dtype=str) if "label" in self.samples.columns else None

    @cached_property
    def site_keys(self) -> pd.Index:
        """``contig:position:ref:alt`` of every site: what makes two sites of two tables the same."""
        s = self.sites
        keys = [f"{c}:{p}:{r}:{a}" for c, p, r, a in zip(s["contig"], s["position"], s["ref"], s["alt"], strict=True)]
        return pd.Index(keys)

    @cached_property
    def unphased_het(self) -> NDArray[np.bool_]:
        """bool (samples, variants): heterozygous calls whose two alleles cannot be told apart by chromosome."""
        het = (self.haplotypes[:, :, 0] != self.haplotypes[:, :, 1]) & (self.haplotypes >= 0).all(axis=2)
        return np.zeros_like(het) if self.phased is None else het & ~self.phased

    @cached_property
    def is_phased(self) -> bool:
        """Whether most heterozygous calls are phased, so that haplotypes are the unit of modelling."""
        if self.phased is None:
            return True
        het = (self.haplotypes[:, :, 0] != self.haplotypes[:, :, 1]) & (self.haplotypes >= 0).all(axis=2)
        return bool(2 * self.unphased_het.sum() <= het.sum())

    def dosage(self) -> NDArray[np.int8]:
        """Number of ALT alleles, int8 (samples, variants) in 0/1/2; −1 where either allele is missing."""
        h = self.haplotypes
        total = h[:, :, 0] + h[:, :, 1]
        total[(h < 0).any(axis=2)] = MISSING
        return total

    def haplotype_rows(self) -> NDArray[np.int8]:
        """Haplotypes as rows, int8 (2 · samples, variants): both chromosomes of person *i* are rows 2i and 2i + 1."""
        return np.ascontiguousarray(self.haplotypes.transpose(0, 2, 1)).reshape(-1, self.n_variants)

    def allele_frequency(self) -> NDArray[np.float64]:
        """Frequency of the ALT allele among called alleles, (variants,); NaN where nobody is called."""
        called = (self.haplotypes >= 0).sum(axis=(0, 2))
        alt = (self.haplotypes == 1).sum(axis=(0, 2))
        return np.divide(alt, called, out=np.full(self.n_variants, np.nan), where=called > 0)

    def missing_rate(self) -> NDArray[np.float64]:
        """Share of people without a complete call, (variants,)."""
        return (self.haplotypes < 0).any(axis=2).mean(axis=0)

    def select(self, *, variants: Any = None, samples: Any = None) -> VariantTable:
        """A new table with some variants and some people.

        Args:
            variants: boolean mask, integer index array or slice over variants; all if ``None``.
            samples: the same over people.
        """
        v = np.arange(self.n_variants) if variants is None else np.arange(self.n_variants)[variants]
        s = np.arange(self.n_samples) if samples is None else np.arange(self.n_samples)[samples]
        # np.ix_ keeps the result C-contiguous; a slice would keep the parent array alive.
        return replace(
            self,
            haplotypes=self.haplotypes[np.ix_(s, v)],
            sites=self.sites.iloc[v],
            samples=self.samples.iloc[s],
            phased=None if self.phased is None else self.phased[np.ix_(s, v)],
            haploid=None if self.haploid is None else self.haploid[np.ix_(s, v)],
        )

    def with_labels(self, labels: Any) -> VariantTable:
        """The same table with population labels (samples,) in ``samples["label"]``."""
        return replace(self, samples=self.samples.assign(label=np.asarray(labels, dtype=object)))

    def to_anndata(self) -> anndata.AnnData:
        """AnnData with X = dosage (samples × variants), obs = samples, var = sites, one layer per haplotype.

        ``layers["haplotype_0"]`` and ``layers["haplotype_1"]`` hold the two alleles, ``layers["phased"]`` (where some
        calls are unphased) the phase, ``layers["haploid"]`` (where there are any) the haploid calls,
        ``uns["vcf_header"]`` the header lines.
        """
        import anndata

        var = self.sites.copy()
        var.index = pd.Index(self.site_keys.astype(str))
        obs = self.samples.copy()
        obs.index = obs.index.astype(str)
        layers = {f"haplotype_{k}": np.ascontiguousarray(self.haplotypes[:, :, k]) for k in (0, 1)}
        layers |= {k: np.array(mask) for k in ("phased", "haploid") if (mask := getattr(self, k)) is not None}
        return anndata.AnnData(
            X=self.dosage(), obs=obs, var=var, layers=layers, uns={"vcf_header": np.array(self.header, dtype=object)}
        )

    @classmethod
    def from_anndata(cls, data: anndata.AnnData) -> VariantTable:
        """The inverse of :meth:`to_anndata`.

        Raises:
            ValueError: the two haplotype layers or a site column are absent.
        """
        absent = [k for k in ("haplotype_0", "haplotype_1") if k not in data.layers]
        if absent:
            raise ValueError(f"AnnData lacks the layers {absent}: haplotypes cannot be rebuilt from dosages")
        haplotypes = np.stack([np.asarray(data.layers[f"haplotype_{k}"], dtype=np.int8) for k in (0, 1)], axis=2)
        return cls(
            haplotypes=haplotypes,
            sites=data.var.reset_index(drop=True),
            samples=data.obs.copy(),
            **{k: np.asarray(data.layers[k], dtype=bool) for k in ("phased", "haploid") if k in data.layers},
            header=tuple(str(line) for line in data.uns.get("vcf_header", ())),
        )
