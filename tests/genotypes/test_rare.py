"""Rare sites given the backgrounds of the common ones: probabilities, frequencies, nesting, and nobody's signature."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from data_prep.readers import read_variants
from data_prep.simulate import simulate_coalescent
from data_prep.variants import MISSING, VariantTable
from genodiff.genotypes.backgrounds import Backgrounds
from genodiff.genotypes.model import GenotypeModel
from genodiff.genotypes.rare import LEAST_COMMON, Rare, fit_rare, follow, is_rare, relatives, strength
from tests.commands import EXAMPLE, EXAMPLE_PANEL, TRAINING, succeed
from tests.genotypes.tables import small, table_of

ROWS = 240
FOUNDERS = 12


def by_hand(**changes: Any) -> Rare:
    """Two sites on one tile of three backgrounds (6, 4 and 2 rows) and two anchors of 6 rows."""
    values: dict[str, Any] = {
        "sites": np.array([3, 5]),
        "mirrored": np.array([False, True]),
        "frequency": np.array([0.25, 0.125]),
        "shared": np.array([True, False]),
        "tile": np.array([0, 0]),
        "order": np.array([0, 1]),
        "relative": np.array([-1, -1]),
        "inside": np.ones(2),
        "scale": np.ones(2),
        "on_background": np.array([[0, 0], [0, 2], [2, 1]]),
        "on_anchor": np.array([[0, 1], [0, 1], [3, 1]]),
        "backgrounds": np.array([[6, 4, 2]]),
        "anchors": np.array([6, 6]),
        "strengths": np.array([2.0, 4.0]),
    }
    return Rare(**(values | changes))


def panel(carriers: dict[int, list[int]], *, common: int = 240, seed: int = 0) -> tuple[NDArray[np.int8], Any]:
    """Founder of every row in each of eight tiles, and states with rare alleles at some sites."""
    rng = np.random.default_rng(seed)
    founder = np.repeat(rng.integers(FOUNDERS, size=(ROWS, 1)), 8, axis=1)
    states = rng.integers(0, 2, size=(FOUNDERS, common), dtype=np.int8)[founder[:, 0]]
    for site, rows in carriers.items():
        states[:, site] = 0
        states[rows, site] = 1
    return states, founder


def learned(states: NDArray[np.int8], founder: NDArray[np.int64], rare: list[int], **changes: Any) -> Rare:
    which = np.zeros(states.shape[1], dtype=bool)
    which[rare] = True
    known = states >= 0
    values: dict[str, Any] = {
        "rare": which,
        "drawn": np.flatnonzero(~which),
        "frequency": np.where(known, states, 0).sum(0) / known.sum(0),
        "paths": founder,
        "tile": 30,
        "backgrounds": FOUNDERS,
        "anchor": np.zeros(len(states), dtype=np.int64),
        "anchors": 1,
        "per_person": 2,
        "fresh": np.ones(len(states), dtype=bool),
    }
    return fit_rare(states, **(values | changes))


def draws(rare: Rare, founder: NDArray[np.int64], times: int, *, seed: int = 1) -> NDArray[np.int8]:
    rows = np.tile(founder, (times, 1))
    return rare.draw(rows, np.zeros(len(rows), dtype=np.int64), rng=np.random.default_rng(seed))


def test_probabilities_are_those_computed_by_hand() -> None:
    rare = by_hand()
    # (3 + 4 · ¼) / 10 and (0 + 4 · ¼) / 10, whose mean is the frequency ¼ already.
    np.testing.assert_allclose(rare.given_anchor(0), [0.4, 0.1])
    # (0 + 4 / 8) / 10 and (1 + 4 / 8) / 10 have the mean .1, not ⅛.
    np.testing.assert_allclose(rare.given_anchor(1), [0.05 * 1.25, 0.15 * 1.25])
    background, anchor = np.array([0, 0, 1, 2]), np.array([0, 1, 0, 0])
    expected = [(2 + 2 * 0.4) / 8, (2 + 2 * 0.1) / 8, 2 * 0.4 / 6, 0.4]
    np.testing.assert_allclose(rare.given_background(0, background, anchor), expected)
    np.testing.assert_allclose(by_hand(scale=np.array([2.0, 1])).given_background(0, background, anchor)[0], 0.7 / 1.35)
    # An allele of one person has no background, and two rows are none either: q alone.
    np.testing.assert_allclose(rare.given_background(1, background, anchor), np.array([0.05, 0.15, 0.05, 0.05]) * 1.25)


def test_following_a_relative_keeps_the_probability() -> None:
    p, above = np.array([0.1, 0.3, 0.2, 0.0]), np.array([0.2, 0.3, 0.05, 0.1])
    for inside in (0.5, 0.8, 1.0):
        carried = follow(p, above, np.ones(4, dtype=np.int8), inside=inside)
        other = follow(p, above, np.zeros(4, dtype=np.int8), inside=inside)
        np.testing.assert_allclose(above * carried + (1 - above) * other, p)
    np.testing.assert_array_equal(carried, [0.5, 1, 1, 0])
    np.testing.assert_allclose(other[:2], 0, atol=1e-12)


def test_strength_is_that_of_brute_force() -> None:
    rng = np.random.default_rng(3)
    group = np.repeat(np.arange(20), 12)
    sizes = np.bincount(group)
    chance = rng.beta(0.3, 6, size=(40, 20))
    x = rng.random((40, 240)) < chance[:, group]
    x = x[x.sum(1) >= 2]
    site, row = np.nonzero(x)
    prior = (x.sum(1) - 1) / 239
    found = strength(site, group[row], sizes, prior=prior[site])

    def likelihood(alpha: float) -> float:
        in_group = np.stack([np.bincount(group, s, minlength=20) for s in x])[:, group]
        p = (in_group - x + alpha * prior[:, None]) / (sizes[group] - 1 + alpha)
        return float(np.where(x, np.log(p), np.log1p(-p)).sum())

    grid = np.geomspace(0.03, 300, 41)
    exact = grid[np.argmax([likelihood(a) for a in grid])]
    assert exact / 1.6 <= found <= exact * 1.6
    # The same in each of three tiles: every site has one of them.
    thrice = strength(
        site, group[row] + 20 * (site % 3), np.tile(sizes, 3), prior=prior[site], partitions=3, judged=site >= 0
    )
    assert thrice == found
    assert strength(site, rng.permutation(group)[row], sizes, prior=prior[site]) > 10 * found


def test_relatives_are_nested_and_shared_by_two_people() -> None:
    rows = {0: [0, 2, 4, 6, 8, 10], 1: [0, 2, 4], 2: [0, 1, 12], 3: [0, 2, 4, 6, 8, 10], 4: [20, 22], 5: [0, 2]}
    carried = np.zeros((40, 6), dtype=np.int32)
    for site, who in rows.items():
        carried[who, site] = 1
    person = sp.csr_array((np.ones(40, dtype=np.int32), (np.arange(40) // 2, np.arange(40))))
    sites = np.array([10, 11, 12, 13, 14, 900])
    order = np.argsort(-carried.sum(0), kind="stable")
    relative, inside = relatives(
        sp.csc_array(carried), person, sites=sites, order=order, shared=np.ones(6, dtype=bool)
    )  # fmt: skip
    # Site 2 shares only one person with the others, 4 nobody, and 5 lies out of reach.
    assert relative.tolist() == [-1, 0, -1, 0, -1, -1]
    np.testing.assert_array_equal(inside, 1.0)


def test_alleles_keep_frequency_background_and_nesting() -> None:
    states, founder = panel({})
    on = np.flatnonzero(founder[:, 0] == 4)
    people = on[np.unique(on // 2, return_index=True)[1]]
    outer, inner = people[:7].tolist(), people[:3].tolist()
    states, founder = panel({100: outer, 101: inner, 105: outer})
    rare = learned(states, founder, [100, 101, 105])
    assert rare.relative.tolist() == [-1, 0, 0]
    assert rare.tile.tolist() == [3, 3, 3]
    drawn = draws(rare, founder, 60)
    np.testing.assert_allclose(drawn.mean(0) * ROWS, [7, 3, 7], rtol=0.15)
    there = np.tile(founder[:, 0] == 4, 60)
    assert drawn[there].sum() > 0.97 * drawn.sum()
    np.testing.assert_array_equal(drawn[:, 0], drawn[:, 2])
    assert (drawn[:, 1] <= drawn[:, 0]).all()


def test_private_alleles_of_one_person_come_together_by_chance_alone() -> None:
    sites = list(range(60, 90, 3))
    states, founder = panel({site: [8] for site in sites})
    rare = learned(states, founder, sites)
    assert not rare.shared.any()
    assert rare.on_background.shape == (3, 0)
    drawn = draws(rare, founder, 200)
    np.testing.assert_allclose(drawn.mean() * ROWS, 1, rtol=0.1)
    pairs = (drawn.sum(1) * (drawn.sum(1) - 1) / 2).sum()
    expected = 45 / ROWS**2 * len(drawn)
    assert abs(pairs - expected) < 4 * np.sqrt(expected)
    # Both haplotypes of one person are one person; one of another person makes it shared.
    assert not learned(*panel({70: [8, 9]}), [70]).shared[0]
    assert learned(*panel({70: [8, 10]}), [70]).shared[0]


def test_mirrored_unknown_and_absent_alleles() -> None:
    states, founder = panel({50: [0, 5, 9], 51: [0, 5, 9], 52: []})
    states[:, 51] = 1 - states[:, 51]
    states[20:140, 50] = MISSING
    rare = learned(states, founder, [50, 51, 52])
    assert rare.mirrored.tolist() == [False, True, False]
    np.testing.assert_allclose(rare.frequency, [3 / 120, 3 / 240, 0])
    drawn = draws(rare, founder, 100)
    np.testing.assert_allclose(drawn.mean(0), [3 / 120, 1 - 3 / 240, 0], rtol=0.15)


def test_few_rows_take_their_background_as_it_is_and_many_the_frequency_of_their_anchors() -> None:
    states, founder = panel({})
    on = np.flatnonzero(founder[:, 0] == 4)
    states, founder = panel({100: on[::2].tolist()})
    rare = learned(states, founder, [100])
    alone = np.full((2, 8), 4)
    p = rare.given_background(0, alone[:, 3], np.zeros(2, dtype=np.int64)).mean()
    zeros = np.zeros(40_000, dtype=np.int64)
    few = [rare.draw(alone, zeros[:2], rng=np.random.default_rng(k)).mean() for k in range(400)]
    assert np.mean(few) == pytest.approx(p, abs=0.1)
    many = rare.draw(np.full((40_000, 8), 4), zeros, rng=np.random.default_rng(1))
    assert many.mean() == pytest.approx(rare.frequency[0], rel=0.1)


def test_which_sites_are_rare() -> None:
    frequency = np.r_[np.full(LEAST_COMMON, 0.3), 0.0, 0.009, 0.01, 0.995]
    found = is_rare(frequency, below=0.01, ploidy=1)
    assert np.flatnonzero(found).tolist() == [LEAST_COMMON, LEAST_COMMON + 1, LEAST_COMMON + 3]
    assert not is_rare(frequency, below=0.0, ploidy=1).any()
    assert not is_rare(frequency, below=0.01, ploidy=2).any()
    assert not is_rare(frequency[2:], below=0.01, ploidy=1).any()


def test_rows_are_assigned_to_their_own_background() -> None:
    rng = np.random.default_rng(2)
    founders = rng.integers(0, 2, size=(6, 96))
    states = founders[np.repeat(np.arange(6), 10)].astype(np.int8)
    x = torch.from_numpy(states).float()
    backgrounds, members = Backgrounds.fit(x, count=6, tile=16, halo=16, generator=torch.Generator().manual_seed(1))
    noisy = states.copy()
    noisy[:, ::9] = MISSING
    noisy[np.arange(60), rng.integers(96, size=60)] ^= 1
    torch.testing.assert_close(backgrounds.assign(torch.from_numpy(states)), members)
    assert (backgrounds.assign(torch.from_numpy(noisy)) == members).float().mean() > 0.97


@pytest.fixture(scope="module")
def simulated() -> VariantTable:
    return simulate_coalescent(150, length_bp=160_000, seed=3)


@pytest.fixture(scope="module")
def model(simulated: VariantTable) -> GenotypeModel:
    torch.set_num_threads(1)
    return GenotypeModel(small(rare=0.02, sampling_steps=4, training={"steps": 4})).fit(simulated, seed=1, device="cpu")


def test_frequency_spectrum_of_a_coalescent_panel_is_kept(simulated: VariantTable, model: GenotypeModel) -> None:
    rare = model.meta.rare
    assert rare is not None
    f = simulated.allele_frequency()
    np.testing.assert_array_equal(rare.sites, np.flatnonzero(np.minimum(f, 1 - f) < 0.02))
    drawn = model.sample(400, seed=2)
    assert drawn.sites.equals(simulated.sites)
    minor = np.where(rare.mirrored, 1 - drawn.allele_frequency()[rare.sites], drawn.allele_frequency()[rare.sites])
    count = (rare.frequency * 300).round().astype(int)
    for k in (1, 2, 3):
        assert minor[count == k].mean() == pytest.approx(k / 300, rel=0.12)
        # Poisson with 8/3 alleles for each in the data.
        assert (minor[count == k] == 0).mean() == pytest.approx(np.exp(-k * 8 / 3), abs=0.08)


def test_equal_seeds_equal_people_and_a_stored_model_too(model: GenotypeModel, tmp_path: Path) -> None:
    first = model.sample(30, seed=5)
    again = GenotypeModel.load(model.save(tmp_path / "model"), device="cpu")
    np.testing.assert_array_equal(first.haplotypes, again.sample(30, seed=5).haplotypes)
    assert (first.haplotypes != model.sample(30, seed=6).haplotypes).any()
    assert again.describe() == model.describe()
    assert model.meta.rare is not None
    assert model.describe()["sites_rare"] == len(model.meta.rare.sites) > 200
    named = model.sample(labels={"YRI": 20}, seed=5)
    own = named.allele_frequency()[model.meta.rare.sites]
    assert own.shape == model.meta.rare.sites.shape


def test_alleles_absent_from_a_label_stay_rare_in_it(simulated: VariantTable, model: GenotypeModel) -> None:
    rare = model.meta.rare
    assert rare is not None
    assert simulated.labels is not None
    dosage = simulated.dosage()[:, rare.sites]
    minor = np.where(rare.mirrored, 2 - dosage, dosage)
    african = minor[simulated.labels == "YRI"].sum(0) / np.maximum(minor.sum(0), 1)
    only = rare.shared & (african == 0)
    drawn = {}
    for name in ("YRI", "CHB", "CEU"):
        found = model.sample(labels={name: 100}, seed=3).dosage()[:, rare.sites]
        drawn[name] = np.where(rare.mirrored, 2 - found, found)[:, only].mean()
    assert drawn["YRI"] < 0.25 * (drawn["CHB"] + drawn["CEU"]) / 2


def test_common_sites_are_as_without_a_path_for_rare_ones(table: VariantTable) -> None:
    people = [
        GenotypeModel(small(rare=rare, training={"steps": 3})).fit(table, device="cpu").sample(20, seed=1).haplotypes
        for rare in (0.0, 0.01)
    ]
    np.testing.assert_array_equal(*people)


def test_unknown_and_unphased_calls(simulated: VariantTable) -> None:
    rng = np.random.default_rng(4)
    haplotypes = simulated.haplotypes.copy()
    phased = rng.random(haplotypes.shape[:2]) > 0.1
    haplotypes[rng.random(phased.shape) < 0.03] = MISSING
    table = replace(simulated, haplotypes=haplotypes, phased=phased)
    model = GenotypeModel(small(rare=0.02, sampling_steps=3, training={"steps": 0})).fit(table, device="cpu")
    drawn = model.sample(150, seed=1)
    assert set(np.unique(drawn.haplotypes)) == {0, 1}
    rare = model.meta.rare
    assert rare is not None
    f, g = table.allele_frequency()[rare.sites], drawn.allele_frequency()[rare.sites]
    assert np.where(rare.mirrored, 1 - g, g).mean() == pytest.approx(np.where(rare.mirrored, 1 - f, f).mean(), rel=0.1)


def test_dosages_are_diffused_at_all_sites(simulated: VariantTable) -> None:
    plain = table_of(simulated.haplotypes[:, :260], phased=np.zeros((150, 260), dtype=bool))
    model = GenotypeModel(small(rare=0.02, sampling_steps=3, training={"steps": 0})).fit(plain, device="cpu")
    assert model.meta.rare is None
    assert model.describe()["sites_rare"] == 0


@pytest.mark.usefixtures("tiny")
def test_no_threshold_through_the_commands(tmp_path: Path) -> None:
    succeed("fit", EXAMPLE, "--panel", EXAMPLE_PANEL, "--maf", "0", "-o", tmp_path / "model", *TRAINING)
    succeed("sample", tmp_path / "model", "-n", "150", "-o", tmp_path / "s.vcf.gz", "--threads", "1", "--quiet")
    real, drawn = (read_variants(path, maf=None)[0] for path in (EXAMPLE, tmp_path / "s.vcf.gz"))
    model = GenotypeModel.load(tmp_path / "model", device="cpu")
    assert model.meta.rare is not None
    assert drawn.n_variants == real.n_variants == 569
    sites = model.meta.rare.sites
    assert len(sites) == 569 - 225
    f, g = real.allele_frequency()[sites], drawn.allele_frequency()[sites]
    assert np.minimum(g, 1 - g).mean() == pytest.approx(np.minimum(f, 1 - f).mean(), rel=0.15)
