"""Block finding on data whose blocks are known, and the simulators against theory."""

from __future__ import annotations

import builtins
import itertools

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm

from data_prep import InputError
from data_prep.blocks import cut_costs, ld_blocks
from data_prep.simulate import simulate_coalescent, simulate_ld_blocks
from tests.data_prep.helpers import make_table


@pytest.mark.parametrize("phased", [True, False])
def test_blocks_of_the_simulator_are_found(phased: bool) -> None:
    result = simulate_ld_blocks(1500, 1000, decay=0.1, phased=phased, seed=5)
    found = ld_blocks(result.table, min_size=10, max_size=30, window=40)
    assert np.isin(result.boundaries, found).mean() > 0.95


def test_unequal_blocks_are_found() -> None:
    rng = np.random.default_rng(0)
    sizes = rng.integers(110, 380, 12)
    parts = [
        simulate_ld_blocks(300, int(s), block_size=int(s), decay=0.02, phased=True, seed=k) for k, s in enumerate(sizes)
    ]
    rows = np.concatenate([p.table.haplotype_rows() for p in parts], axis=1)
    found = ld_blocks(rows)
    # Neighbours that fit into one block together may stay joined, but no cut goes through a block.
    distance = np.abs(np.subtract.outer(found, np.concatenate([[0], np.cumsum(sizes)]))).min(axis=1)
    assert distance.max() <= 3
    assert len(found) >= 8


def naive_cost(rows: np.ndarray, window: int) -> np.ndarray:
    r2 = np.nan_to_num(np.corrcoef(rows.T)) ** 2 - 1 / len(rows)
    n = rows.shape[1]
    return np.array([sum(r2[a, b] for a in range(c) for b in range(c, n) if b - a <= window) for c in range(n + 1)])


def test_cut_costs_by_definition() -> None:
    rows = simulate_ld_blocks(30, 60, phased=True, seed=9).table.haplotype_rows()
    np.testing.assert_allclose(cut_costs(rows, window=7), naive_cost(rows, 7), atol=1e-3)
    np.testing.assert_allclose(cut_costs(rows, window=200), naive_cost(rows, 200), atol=1e-3)


def test_cuts_are_the_cheapest() -> None:
    rows = simulate_ld_blocks(20, 14, block_size=5, phased=True, seed=3).table.haplotype_rows()
    cost = cut_costs(rows, window=6)
    options = [
        cuts
        for k in range(1, 6)
        for cuts in itertools.combinations(range(1, 14), k)
        if all(3 <= s <= 6 for s in np.diff([0, *cuts, 14]))
    ]
    best = min(options, key=lambda cuts: sum(cost[list(cuts)]))
    assert ld_blocks(rows, min_size=3, max_size=6, window=6).tolist() == [0, *best, 14]


@pytest.mark.parametrize(
    ("n", "low", "high"), [(1, 100, 400), (99, 100, 400), (401, 100, 400), (170, 100, 150), (7, 5, 6), (5, 1, 1)]
)
def test_every_number_of_sites_is_cut(n: int, low: int, high: int) -> None:
    rows = (np.random.default_rng(n).random((12, n)) < 0.4).astype(np.int8)
    rows[0, 0] = -1
    boundaries = ld_blocks(rows, min_size=low, max_size=high)
    sizes = np.diff(boundaries)
    assert (boundaries[0], boundaries[-1]) == (0, n)
    assert (sizes > 0).all()
    assert sizes.max() <= high
    assert sizes.min() >= min(low, n // -(-n // high))


def test_contigs_are_cut_apart_and_bad_sizes_refused() -> None:
    rng = np.random.default_rng(0)
    h = (rng.random((20, 50, 2)) < 0.4).astype(int)
    table = make_table(h, contig=["1"] * 30 + ["2"] * 20, position=[*range(1, 31), *range(1, 21)])
    assert ld_blocks(table).tolist() == [0, 30, 50]
    assert ld_blocks(np.zeros((4, 0), dtype=np.int8)).tolist() == [0]
    with pytest.raises(ValueError, match="min_size"):
        ld_blocks(table, min_size=5, max_size=4)
    with pytest.raises(ValueError, match="window"):
        ld_blocks(table, window=0)
    with pytest.raises(ValueError, match="shape"):
        ld_blocks(np.zeros((2, 3, 2), dtype=np.int8))


def test_genotypes_follow_hardy_weinberg_and_the_maf() -> None:
    n = 4000
    result = simulate_ld_blocks(n, 200, seed=2)
    q = result.maf
    dosage = result.table.dosage()
    expected = np.stack([(1 - q) ** 2, 2 * q * (1 - q), q**2])
    observed = np.stack([(dosage == g).mean(axis=0) for g in range(3)])
    error = (observed - expected) / np.sqrt(expected * (1 - expected) / n)
    assert np.abs(error).max() < 5
    assert 0.9 < error.std() < 1.1
    assert not result.table.is_phased
    assert (q >= 0.05).all()
    assert (q <= 0.5).all()


def test_genotype_correlation_is_that_of_the_latent_gaussian() -> None:
    q, n = 0.3, 20_000
    result = simulate_ld_blocks(n, 40, block_size=20, decay=0.2, maf_law=np.full(40, q), seed=4)
    cuts = norm.ppf([(1 - q) ** 2, 1 - q**2])
    sd = np.sqrt(2 * q * (1 - q))
    r = np.corrcoef(result.table.dosage().T)
    for i, j in ((0, 1), (3, 8), (0, 19)):
        rho = np.exp(-0.2 * (j - i))
        assert result.latent_correlation[i, j] == pytest.approx(rho)
        # E[g_i g_j] as the sum over both thresholds of P(z_i > a, z_j > b).
        both = sum(multivariate_normal.cdf([-a, -b], cov=[[1, rho], [rho, 1]]) for a in cuts for b in cuts)
        assert r[i, j] == pytest.approx((both - (2 * q) ** 2) / sd**2, abs=5 / np.sqrt(n))
    assert np.abs(r[:20, 20:]).max() < 5 / np.sqrt(n)


def test_haplotypes_have_the_maf_and_are_phased() -> None:
    result = simulate_ld_blocks(3000, 300, phased=True, maf_law="neutral", seed=6)
    q = result.maf
    error = (result.table.allele_frequency() - q) / np.sqrt(q * (1 - q) / 6000)
    assert np.abs(error).max() < 5
    assert result.table.is_phased
    assert np.median(q) < 0.2  # the neutral law prefers rare alleles, the uniform one has median 0.275
    h = result.table.haplotypes
    assert abs(np.corrcoef(h[:, :, 0].ravel() - q.repeat(3000).reshape(300, 3000).T.ravel(), h[:, :, 1].ravel()
                           - q.repeat(3000).reshape(300, 3000).T.ravel())[0, 1]) < 0.01  # fmt: skip


def test_simulators_are_seeded() -> None:
    a, b, c = (simulate_ld_blocks(20, 30, seed=s).table.haplotypes for s in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_people": 0}, "n_people"),
        ({"n_sites": 0}, "n_sites"),
        ({"block_size": 0}, "block_size"),
        ({"decay": 0}, "decay"),
        ({"maf_law": "odd"}, "maf_law"),
        ({"maf_law": [0.1]}, "frequencies"),
        ({"maf_range": (0.3, 0.6)}, "maf_range"),
    ],
)
def test_simulator_domains(options: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {"n_people": 5, "n_sites": 5, **options}
    with pytest.raises(ValueError, match=message):
        simulate_ld_blocks(arguments.pop("n_people"), arguments.pop("n_sites"), **arguments)  # type: ignore[arg-type]


def test_out_of_africa() -> None:
    pytest.importorskip("msprime")
    table = simulate_coalescent(62, length_bp=300_000, seed=3)
    labels = table.labels
    assert labels is not None
    assert {k: int((labels == k).sum()) for k in ("YRI", "CEU", "CHB")} == {"YRI": 21, "CEU": 21, "CHB": 20}
    assert table.phased is None
    assert table.sites["position"].is_unique
    assert table.sites["position"].between(1, 300_000).all()
    assert (table.sites["ref"] != table.sites["alt"]).all()
    f = {k: table.haplotypes[labels == k].mean(axis=(0, 2)) for k in ("YRI", "CEU", "CHB")}
    diversity = {k: (2 * p * (1 - p)).sum() / 300_000 for k, p in f.items()}
    assert diversity["YRI"] > diversity["CEU"] > 2e-4
    assert diversity["YRI"] < 1.3e-3
    again = simulate_coalescent(62, length_bp=300_000, seed=3)
    np.testing.assert_array_equal(table.haplotypes, again.haplotypes)


def test_constant_population_matches_theory() -> None:
    pytest.importorskip("msprime")
    # Watterson: E[S] = 4 N mu L a_n; the spread over recombining sequence is about a fifth here.
    counts = [
        simulate_coalescent(10, length_bp=100_000, seed=s, demography="constant").n_variants for s in range(1, 21)
    ]
    expected = 4 * 10_000 * 1.25e-8 * 100_000 * sum(1 / k for k in range(1, 20))
    assert np.mean(counts) == pytest.approx(expected, rel=0.15)


def test_coalescent_needs_msprime_and_sense(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("msprime")
    with pytest.raises(ValueError, match="demography"):
        simulate_coalescent(5, length_bp=1000, demography="odd")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least 1"):
        simulate_coalescent(0, length_bp=1000)
    with pytest.raises(ValueError, match="rates"):
        simulate_coalescent(5, length_bp=1000, mutation_rate=-1)
    with pytest.raises(InputError, match="no site is polymorphic"):
        simulate_coalescent(5, length_bp=1, mutation_rate=1e-12)
    original = builtins.__import__

    def without(name: str, *rest: object) -> object:
        if name == "msprime":
            raise ImportError(name)
        return original(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"genodiff\[sim\]"):
        simulate_coalescent(5, length_bp=1000)
