r"""Rare sites by frequency: through the diffusion, given the backgrounds of the common sites, and real people.

    python benchmarks/rare.py ../shared/data/kg_chr22_50Mb.b38.vcf.gz --panel ../shared/data/panel.tsv

People whose row of the panel says ``test`` in the column ``split`` are held out. All sets have as many people as are
held out; *training* are so many of those learned from. Sites are binned by their minor alleles among all people learned
from. Tables are printed as Markdown.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np
import scipy.sparse as sp
import torch
from conditioning import head, line, read
from numpy.typing import NDArray
from people import at_sites_of

from data_prep.filters import filter_table
from data_prep.variants import VariantTable
from genodiff.genotypes.config import preset
from genodiff.genotypes.model import GenotypeModel

NEAR_BP = 20_000
COMMON = 0.01
MOST_COUNTED = 30


@dataclass(frozen=True)
class Real:
    """People learned from, told by minor alleles.

    Attributes:
        rows: whether a haplotype carries the minor allele, (haplotypes, sites).
        position: bp, (sites,).
        count: minor alleles per site, (sites,).
        private: whether one person alone carries it, (sites,).
    """

    rows: NDArray[np.int8]
    position: NDArray[np.int64]
    count: NDArray[np.int64]
    private: NDArray[np.bool_]

    @classmethod
    def of(cls, table: VariantTable) -> tuple[Real, NDArray[np.bool_]]:
        """And which sites have REF as their minor allele."""
        rows = table.haplotype_rows()
        mirrored = rows.mean(0) > 0.5
        minor = np.where(mirrored, 1 - rows, rows).astype(np.int8)
        people = (minor[::2] | minor[1::2]).sum(0)
        return cls(minor, table.sites["position"].to_numpy(), minor.sum(0, dtype=np.int64), people == 1), mirrored

    def bins(self) -> Iterator[tuple[str, NDArray[np.intp]]]:
        """Names and sites of the bins."""
        n, f = self.count, self.count / len(self.rows)
        yield "singletons", np.flatnonzero(n == 1)
        yield "doubletons", np.flatnonzero(n == 2)
        yield "rest below .1 %", np.flatnonzero((n > 2) & (f < 0.001))
        yield ".1–.5 %", np.flatnonzero((f >= 0.001) & (f < 0.005) & (n > 2))
        yield ".5–1 %", np.flatnonzero((f >= 0.005) & (f < 0.01))

    @property
    def common(self) -> NDArray[np.intp]:
        """Sites of MAF ≥ 1 %."""
        return np.flatnonzero(self.count >= COMMON * len(self.rows))

    def near(self, site: int) -> NDArray[np.intp]:
        """Common sites within reach of a site."""
        common = self.common
        return common[np.abs(self.position[common] - self.position[site]) <= NEAR_BP]


def correlations(x: NDArray[np.int8], site: int, others: NDArray[np.intp]) -> NDArray[np.float64]:
    """r² of a site with others, NaN where either is fixed."""
    a = x[:, site].astype(np.float64)
    b = x[:, others].astype(np.float64)
    a, b = a - a.mean(), b - b.mean(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.square(a @ b) / (np.square(a).sum() * np.square(b).sum(0))  # type: ignore[no-any-return]


def spectrum(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of sites with 0, 1, … minor alleles, all above the most counted together."""
    return np.bincount(counts.clip(max=MOST_COUNTED), minlength=MOST_COUNTED + 1) / len(counts)


def judge(real: Real, sides: dict[str, NDArray[np.int8]], *, held_out: NDArray[np.int8], most: int) -> None:
    """The table of a few hundred sites of every bin."""
    head(
        "MAF", "sites", "people", "mean alleles", "absent", "AF error to learned", "to held-out", "spectrum distance",
        "r² near pairs", "r² with best tag", "carriers' distance to carriers learned",
    )  # fmt: skip
    for name, sites in real.bins():
        shown = sites[np.linspace(0, len(sites) - 1, min(most, len(sites))).astype(int)]
        near = {int(j): real.near(j) for j in shown}
        tag = {
            j: others[np.nan_to_num(correlations(real.rows, j, others)).argmax()]
            for j, others in near.items()
            if len(others)
        }
        goal = spectrum(held_out[:, sites].sum(0, dtype=np.int64))
        learned = real.count[sites] / len(real.rows)
        for side, x in sides.items():
            counts = x[:, sites].sum(0, dtype=np.int64)
            pairs, best, apart = [], [], []
            for j, others in near.items():
                carriers = np.flatnonzero(x[:, j])
                if j not in tag or not len(carriers):
                    continue
                pairs.append(np.nanmean(correlations(x, j, others)))
                best.append(correlations(x, j, tag[j][None])[0])
                known = real.rows[real.rows[:, j] == 1][:, others]
                for row in carriers[:5]:
                    differs = np.sort((known != x[row, others]).mean(1))
                    # One of the people learned from is not to be compared with itself.
                    apart += differs[1:2].tolist() if side == "training" else differs[:1].tolist()
            line(
                name, len(sites), side, float(counts.mean()), float((counts == 0).mean()),
                float(np.abs(counts / len(x) - learned).mean() * 1e4),
                float(np.abs(counts / len(x) - held_out[:, sites].mean(0)).mean() * 1e4),
                float(np.abs(spectrum(counts) - goal).sum() / 2), float(np.nanmean(pairs)), float(np.nanmean(best)),
                float(np.mean(apart)) if apart else float("nan"),
            )  # fmt: skip


def signatures(real: Real, sides: dict[str, NDArray[np.int8]], *, seed: int) -> None:
    """Pairs of alleles by which one person could be told."""
    private = np.flatnonzero(real.private)
    owner = real.rows[:, private].argmax(0) // 2
    rare = np.flatnonzero((real.count > 0) & (real.count < COMMON * len(real.rows)) & ~real.private)
    alone = _carried_by_one(real.rows[:, rare], real.position[rare])
    rng = np.random.default_rng(seed)
    print()
    head(
        "people", "haplotypes with two private alleles of one person", "expected if independent",
        "near pairs of other rare alleles, of one person alone, per haplotype", "if independent",
    )  # fmt: skip
    for side, x in sides.items():
        found = []
        for shuffled in (False, True):
            y = rng.permuted(x, axis=0) if shuffled else x
            of_person = sp.csr_array(y[:, private].astype(np.int32)) @ sp.csr_array(
                (np.ones(len(private), dtype=np.int32), (np.arange(len(private)), owner))
            )
            z = sp.csc_array(y[:, rare].astype(np.int32))
            together = (z.T @ z).multiply(alone).sum() / 2 / len(y)
            found.append((float((of_person.max(axis=1).toarray() >= 2).mean()), float(together)))
        line(side, found[0][0], found[1][0], found[0][1], found[1][1])


def _carried_by_one(rows: NDArray[np.int8], position: NDArray[np.int64]) -> sp.csr_array:
    """Which pairs of near sites are carried together on a haplotype of exactly one person, (sites, sites)."""
    x = sp.csc_array(rows.astype(np.int32))
    a, b = (x[::2].T @ x[::2]).tocsr(), (x[1::2].T @ x[1::2]).tocsr()
    both = a.minimum(b)
    people = (a + b - (both > 0).astype(np.int32).multiply(both)).tocoo()
    i, j = people.coords
    fits = (people.data == 1) & (i != j) & (np.abs(position[i] - position[j]) <= NEAR_BP)
    return sp.csr_array((np.ones(int(fits.sum()), dtype=np.int32), (i[fits], j[fits])), shape=people.shape)


@click.command()
@click.argument("vcf", type=click.Path(path_type=Path))
@click.option("--panel", type=click.Path(path_type=Path), required=True)
@click.option("--region", default="chr22:50000000-50165000", show_default=True)
@click.option("--preset", "preset_name", default="fast", show_default=True)
@click.option("--steps", default=60, show_default=True, help="Training steps of either model.")
@click.option("--before/--no-before", default=True, show_default=True, help="All sites through the diffusion too.")
@click.option("--most", default=150, show_default=True, help="Sites per bin whose linkage is measured.")
@click.option("--seed", default=1, show_default=True)
@click.option("--threads", default=1, show_default=True)
def main(
    vcf: Path, panel: Path, region: str, preset_name: str, steps: int, before: bool, most: int, seed: int, threads: int
) -> None:
    """The tables of docs/rare.md."""
    torch.set_num_threads(threads)
    train, test = read(vcf, panel, region=region, column="super_pop")
    train, _ = filter_table(train, maf=0.0, max_missing=0.1)
    test = at_sites_of(test, train)
    n = test.n_samples
    real, mirrored = Real.of(train)

    def minor(table: VariantTable) -> NDArray[np.int8]:
        rows = table.haplotype_rows()
        return np.where(mirrored, 1 - rows, rows).astype(np.int8)

    some = np.sort(np.random.default_rng(seed).permutation(train.n_samples)[:n])
    sides = {"held-out": minor(test), "training": minor(train.select(samples=some))}
    print(f"{train.n_samples:,} people learned from, {n:,} held out, {train.n_variants:,} sites, {region}, ", end="")
    print(f"{len(real.common):,} of MAF ≥ 1 %, {preset_name}, {steps} steps, seed {seed}\n")
    for name, rare in (("diffused", 0.0), ("on backgrounds", COMMON)):
        if name == "diffused" and not before:
            continue
        began = time.process_time()
        config = replace(preset(preset_name), rare=rare).with_steps(steps)
        model = GenotypeModel(config).fit(train, seed=seed, device="cpu")
        fitted = time.process_time()
        sides[name] = minor(model.sample(n, seed=seed))
        print(f"{name}: {fitted - began:.0f} s to fit, {time.process_time() - fitted:.0f} s to draw {n} people", end="")
        kept = model.meta.rare
        print("\n" if kept is None else f"; α {kept.strengths[0]:.2f}, β {kept.strengths[1]:.1f} rows\n", flush=True)
    judge(real, sides, held_out=sides["held-out"], most=most)
    signatures(real, sides, seed=seed)


if __name__ == "__main__":
    main()
