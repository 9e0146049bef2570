"""Mosaics: pieces of the right length, copies where nothing changes, mutations as often as they should."""

from __future__ import annotations

import numpy as np
import pytest

from data_prep.errors import InputError
from data_prep.maps import GeneticMap
from data_prep.variants import VariantTable
from genodiff.baselines import generate
from genodiff.baselines.mosaic import Hapnest, copying_paths, mutation_age, segment_paths, watterson_theta
from tests.baselines.tables import correlation, two_labels
from tests.genotypes.tables import coalescent, table_of


def labelled_rows(people: int, sites: int) -> VariantTable:
    """Haplotypes that can be told apart at every pair of neighbouring sites, by their number in binary."""
    bits = int(np.ceil(np.log2(2 * people)))
    numbers = (np.arange(2 * people)[:, None] >> np.arange(bits)) & 1
    rows = np.tile(numbers, sites // bits + 1)[:, :sites].astype(np.int8)
    return table_of(rows.reshape(people, 2, sites).transpose(0, 2, 1))


def test_switches_are_as_many_as_the_model_says() -> None:
    """Sites d Morgans apart switch with 1 − exp(−4 Nₑ d / n), to another haplotype with (n − 1)/n of that."""
    rng = np.random.default_rng(1)
    n, ne = 50, 11_418.0
    gaps = rng.exponential(3e-4, 400) * rng.choice([0.0, 1.0, 5.0], 400)
    switch = -np.expm1(-4 * ne * gaps / n)
    paths = copying_paths(switch, n, 3000, rng)
    seen = (paths[:, 1:] != paths[:, :-1]).mean(0)
    expected = switch * (n - 1) / n
    assert np.abs(seen - expected).max() < 5 * np.sqrt(0.25 / 3000)
    assert seen.mean() == pytest.approx(expected.mean(), abs=5 * np.sqrt(0.25 / 3000 / 400))
    assert not seen[gaps == 0].any()
    assert np.abs(np.bincount(paths[:, 200], minlength=n) - 60).max() < 5 * np.sqrt(60)


def test_without_recombination_and_mutation_haplotypes_are_copies() -> None:
    train = labelled_rows(30, 60)
    made = generate("li-stephens", train, 200, seed=1, ne=0.0, mutation=False)
    known = {row.tobytes() for row in train.haplotype_rows()}
    assert len(known) == 60
    drawn = [row.tobytes() for row in made.haplotype_rows()]
    assert set(drawn) <= known
    assert len(set(drawn)) > 55
    # The two haplotypes of a person are drawn independently: pairs of the input do not survive.
    pairs = {person.tobytes() for person in train.haplotypes}
    assert np.mean([person.tobytes() in pairs for person in made.haplotypes]) < 0.05


def test_mutations_are_as_many_as_the_model_says() -> None:
    train = table_of(np.zeros((10, 500, 2), dtype=np.int8))
    made = generate("li-stephens", train, 400, seed=1)
    theta = 1 / sum(1 / i for i in range(1, 20))
    assert watterson_theta(20) == pytest.approx(theta)
    expected = theta / (2 * (20 + theta))
    cells = made.haplotypes.size
    assert made.haplotypes.mean() == pytest.approx(expected, abs=5 * np.sqrt(expected / cells))
    assert not generate("li-stephens", train, 400, seed=1, mutation=False).haplotypes.any()


@pytest.mark.parametrize("name", ["li-stephens", "hapnest"])
def test_a_map_takes_the_place_of_the_rate(name: str) -> None:
    """A map of 2 cM per Mb does what a rate of 2 does; one without recombination copies whole haplotypes."""
    train = labelled_rows(30, 60)
    ends = np.array([1, 10_000_000])
    twice = GeneticMap(ends, ends * 2e-6)
    with_map = generate(name, train, 20, seed=3, genetic_map=twice)
    assert np.array_equal(with_map.haplotypes, generate(name, train, 20, seed=3, rate_cm_per_mb=2.0).haplotypes)
    options = {"mutation": False} if name == "li-stephens" else {"ages": False}
    flat = generate(name, train, 20, seed=3, genetic_map=GeneticMap(ends, ends * 0.0), **options)
    known = {row.tobytes() for row in train.haplotype_rows()}
    assert {row.tobytes() for row in flat.haplotype_rows()} <= known


@pytest.mark.parametrize("name", ["li-stephens", "hapnest"])
def test_mosaics_copy_within_the_label(name: str) -> None:
    """A site that is fixed differently in two labels tells them apart in the new people too."""
    train = two_labels(60)
    alleles = np.array(train.haplotypes)
    alleles[:, 7] = (train.labels == "B")[:, None]
    made = generate(name, table_of(alleles, labels=train.labels.tolist()), 200, seed=1)
    agree = (made.haplotypes[:, 7] == (made.labels == "B")[:, None]).mean()
    assert agree > 0.98


@pytest.mark.parametrize("name", ["li-stephens", "hapnest"])
def test_mosaics_keep_frequencies_and_linkage(name: str) -> None:
    train = coalescent(100, 80, demography="constant")
    made = generate(name, train, 1000, seed=1)
    assert np.abs(made.allele_frequency() - train.allele_frequency()).max() < 5 * np.sqrt(0.25 / 2000) + 0.01
    near = np.triu_indices(80, 1)
    near = tuple(index[near[1] - near[0] <= 5] for index in near)
    before, after = (np.square(correlation(t.haplotype_rows())[near]) for t in (train, made))
    # 100 people make short segments for HAPNEST: 0.006 cM on average, some four sites here.
    assert np.corrcoef(before, after)[0, 1] > {"li-stephens": 0.95, "hapnest": 0.8}[name]
    assert {"li-stephens": 0.9, "hapnest": 0.4}[name] < after.mean() / before.mean() <= 1.05


def test_segments_have_ages_and_lengths_of_the_coalescent() -> None:
    """P(longer than x) = (1 + 2 ρ s x)⁻², and the age of a segment is Gamma(2, s)."""
    rng = np.random.default_rng(5)
    cm = np.linspace(0, 3, 3001)
    scale, rho, references = 4.0, 0.5, 10_000
    source, age = segment_paths(cm, references, 2000, scale=scale, rho=rho, rng=rng)
    # The first segment of each haplotype: those that end beyond the last site count as longer than any x below.
    changed = age[:, 1:] != age[:, :1]
    first = np.where(changed.any(1), changed.argmax(1) + 1, cm.size)
    for x in (0.05, 0.2, 0.5, 1.5):
        longer = (first > np.searchsorted(cm, x)).mean()
        expected = (1 + 2 * rho * scale * x) ** -2
        assert longer == pytest.approx(expected, abs=5 * np.sqrt(expected * (1 - expected) / 2000) + 0.003)
    assert age[:, 0].mean() == pytest.approx(2 * scale, rel=5 / np.sqrt(2 * 2000))
    assert age[:, 0].var() == pytest.approx(2 * scale**2, rel=0.25)
    # A new segment copies anybody: two of 10,000 are hardly ever the same.
    assert (changed == (source[:, 1:] != source[:, :1])).mean() > 0.999
    assert set(np.unique(source)) <= set(range(references))


def test_segments_between_sites_leave_no_trace() -> None:
    """Sites far apart: only the segment a site lies in counts, and sites at one place share it."""
    rng = np.random.default_rng(5)
    cm = np.array([0.0, 0.0, 50.0, 50.0, 100.0])
    source, age = segment_paths(cm, 1000, 500, scale=4.0, rho=0.5, rng=rng)
    assert np.array_equal(source[:, 0], source[:, 1])
    assert np.array_equal(source[:, 2], source[:, 3])
    assert (age[:, 1] != age[:, 2]).all()
    # A place in the middle is covered by segments in proportion to their length: theirs is the exponential age.
    assert age[:, 4].mean() == pytest.approx(4, abs=5 * 4 / np.sqrt(500))
    assert age[:, 0].mean() == pytest.approx(8, abs=5 * 4 * np.sqrt(2 / 500))


def test_ages_of_mutations_follow_kimura_and_ohta() -> None:
    f = np.array([0.0, 0.01, 0.5, 1.0])
    age = mutation_age(f, 1000.0)
    assert age[0] == 0
    assert age[1] == pytest.approx(4000 * 0.01 * np.log(100) / 0.99)
    assert age[2] == pytest.approx(4000 * np.log(2))
    assert age[3] == pytest.approx(4000, rel=1e-3)


def test_alleles_younger_than_their_segment_are_not_copied() -> None:
    """At a place P(T > t) = exp(−t/s), with t/s = 4 N f ln(1/f) / (1 − f): Nₑ cancels."""
    people, sites = 20, 300
    rng = np.random.default_rng(1)
    alleles = np.zeros((people, sites, 2), dtype=np.int8)
    alleles[rng.integers(people, size=sites), np.arange(sites), rng.integers(2, size=sites)] = 1
    alleles[:, sites // 2 :] ^= 1  # there REF is the rare allele
    train = table_of(alleles)
    f = 1 / (2 * people)
    t = people * 4 * f * np.log(1 / f) / (1 - f)
    expected = f * (1 - np.exp(-t))
    for ne in (1_000.0, 50_000.0):
        made = generate("hapnest", train, 3000, seed=1, ne=ne, rho=1e5 / ne)
        seen = np.abs(made.allele_frequency() - np.repeat([0, 1], sites // 2))
        assert seen.mean() == pytest.approx(expected, rel=0.03)
    kept = generate("hapnest", train, 3000, seed=1, ages=False).allele_frequency()
    assert np.abs(kept - np.repeat([0, 1], sites // 2)).mean() == pytest.approx(f, rel=0.05)


def test_hapnest_takes_its_published_parameters_by_label() -> None:
    assert Hapnest().parameters("AFR") == (11_900.0, 0.77)
    assert Hapnest().parameters("anything") == Hapnest().parameters("EUR") == (11_700.0, 0.68)
    assert Hapnest(rho=2.0).parameters("AFR") == (11_900.0, 2.0)


def test_more_segments_than_can_be_drawn_are_refused_with_the_remedy() -> None:
    train = two_labels()
    words = "40 sites into .* segments, more than 100 per site and 1,000 .*: lower --ne, --rho or "
    for options in ({"ne": 1e12}, {"ne": 1e300, "rho": 1e300}, {"rate_cm_per_mb": 1e12}):
        with pytest.raises(InputError, match=words + "--rate-cm-per-mb$"):
            generate("hapnest", train, 4, seed=1, **options)
    long = GeneticMap(np.array([1, 10**6]), np.array([0.0, 1e9]))
    with pytest.raises(InputError, match=words + "the lengths in the map$"):
        generate("hapnest", train, 4, seed=1, genetic_map=long)
    # Two sites and many segments each: more than is of use, and still drawn.
    assert generate("hapnest", train.select(variants=[0, 39]), 4, seed=1, ne=2e6).n_samples == 4
