"""Independent sites have frequencies and nothing else; the bootstrap has everything and nobody new."""

from __future__ import annotations

import numpy as np

from genodiff.baselines import generate
from tests.baselines.tables import correlation, two_labels, unphased
from tests.genotypes.tables import coalescent


def test_independent_sites_have_the_frequencies_of_their_label() -> None:
    train = two_labels(90)
    made = generate("independent-sites", train, 6000, seed=1)
    for label in ("A", "B"):
        mine = train.select(samples=train.labels == label).allele_frequency()
        new = made.select(samples=made.labels == label).allele_frequency()
        people = (made.labels == label).sum()
        assert np.abs(new - mine).max() < 5 * np.sqrt(0.25 / (2 * people))


def test_independent_sites_are_in_hardy_weinberg_proportions_and_not_linked() -> None:
    train = coalescent(60, 40, demography="constant")
    made = generate("independent-sites", train, 5000, seed=1)
    f = train.allele_frequency()
    heterozygous = (made.dosage() == 1).mean(0)
    assert np.abs(heterozygous - 2 * f * (1 - f)).max() < 5 * np.sqrt(0.25 / 5000)
    r = correlation(made.haplotype_rows())[np.triu_indices(40, 1)]
    assert correlation(train.haplotype_rows())[np.triu_indices(40, 1)].std() > 0.15
    assert np.square(r).mean() < 1.2 / 10_000


def test_independent_sites_without_phase_have_the_same_genotypes() -> None:
    train = unphased(coalescent(60, 40, demography="constant"))
    made = generate("independent-sites", train, 5000, seed=1)
    f = train.allele_frequency()
    assert np.abs((made.dosage() == 2).mean(0) - f**2).max() < 5 * np.sqrt(0.25 / 5000)


def test_the_bootstrap_draws_people_whole_and_within_their_label() -> None:
    train = two_labels(60)
    made = generate("bootstrap", train, 300, seed=2)
    known = {person.tobytes(): label for person, label in zip(train.haplotypes, train.labels, strict=True)}
    assert len(known) == 60
    drawn = [person.tobytes() for person in made.haplotypes]
    assert [known[person] for person in drawn] == made.labels.tolist()
    # With replacement: of 60 people about 60 (1 − e⁻⁵) occur.
    assert 52 <= len(set(drawn)) <= 60
