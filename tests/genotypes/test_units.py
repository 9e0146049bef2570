"""Rows to learn from: haplotypes where calls are phased, dosages where they are not, unknown states left out."""

from __future__ import annotations

import numpy as np
import pytest

from genodiff.genotypes.units import haplotypes_from, units_of
from tests.genotypes.tables import coalescent, table_of

# Two people, four sites: homozygous, both kinds of heterozygote, half missing, missing.
CALLS = np.array([[[1, 1], [0, 1], [1, 0], [1, -1]], [[0, 0], [1, 0], [-1, -1], [0, 1]]], dtype=np.int8)


def test_phased_calls_become_two_rows_per_person() -> None:
    units = units_of(table_of(CALLS))
    assert (units.ploidy, units.per_person, units.n_people) == (1, 2, 2)
    assert units.unphased is None
    expected = [[1, 0, 1, 1], [1, 1, 0, -1], [0, 1, -1, 0], [0, 0, -1, 1]]
    np.testing.assert_array_equal(units.states, expected)


def test_unphased_calls_become_one_row_of_dosages_per_person() -> None:
    units = units_of(table_of(CALLS, phased=np.zeros((2, 4), dtype=bool)))
    assert (units.ploidy, units.per_person, units.n_people) == (2, 1, 2)
    np.testing.assert_array_equal(units.states, [[2, 1, 1, -1], [0, 1, -1, 1]])


def test_unphased_heterozygotes_in_a_phased_table_are_unknown_and_homozygotes_are_not() -> None:
    phased = np.ones((2, 4), dtype=bool)
    phased[0, :2] = False
    units = units_of(table_of(CALLS, phased=phased))
    assert units.ploidy == 1
    assert units.unphased is not None
    np.testing.assert_array_equal(units.states[:2], [[1, -1, 1, 1], [1, -1, 0, -1]])
    np.testing.assert_array_equal(units.unphased[:, 1], [True, True, False, False])
    assert units.unphased.sum() == 2


def test_mostly_unphased_tables_are_modelled_as_dosages() -> None:
    table = coalescent(20, 30)
    rng = np.random.default_rng(1)
    for share, ploidy in ((0.3, 1), (0.7, 2)):
        phased = rng.random(table.haplotypes.shape[:2]) >= share
        assert units_of(table_of(table.haplotypes, phased=phased)).ploidy == ploidy


def test_frequency_counts_known_alleles() -> None:
    np.testing.assert_allclose(units_of(table_of(CALLS)).frequency(), [0.5, 0.5, 0.5, 2 / 3])
    dosages = units_of(table_of(CALLS, phased=np.zeros((2, 4), dtype=bool)))
    np.testing.assert_allclose(dosages.frequency(), [0.5, 0.5, 0.5, 0.5])


def test_frequency_of_a_site_nobody_is_called_at_is_zero() -> None:
    calls = CALLS.copy()
    calls[:, 0] = -1
    assert units_of(table_of(calls)).frequency()[0] == 0


def test_unphased_heterozygotes_do_not_bias_the_frequency() -> None:
    """Without them the site would lose heterozygous people only, and with them mostly the rarer allele."""
    table = coalescent(100, 60)
    phased = np.random.default_rng(2).random(table.haplotypes.shape[:2]) >= 0.4
    units = units_of(table_of(table.haplotypes, phased=phased))
    assert units.ploidy == 1
    np.testing.assert_allclose(units.frequency(), table.allele_frequency())
    known = np.where(units.states < 0, np.nan, units.states)
    assert np.abs(np.nanmean(known, axis=0) - table.allele_frequency()).mean() > 0.01


def test_calls_phased_at_random_keep_genotypes_and_known_phase() -> None:
    table = coalescent(30, 40)
    phased = np.random.default_rng(2).random(table.haplotypes.shape[:2]) >= 0.4
    units = units_of(table_of(table.haplotypes, phased=phased))
    filled = units.phased_at_random(np.random.default_rng(3))
    np.testing.assert_array_equal(filled[::2] + filled[1::2], table.dosage())
    known = units.states >= 0
    np.testing.assert_array_equal(filled[known], units.states[known])
    first = filled[::2][units.unphased[::2]]  # type: ignore[index]
    assert 0.4 < first.mean() < 0.6


def test_rows_of_people_are_consecutive() -> None:
    units = units_of(table_of(CALLS))
    np.testing.assert_array_equal(units.rows_of(np.array([1, 0])), [2, 3, 0, 1])


@pytest.mark.parametrize("unphased", [False, True])
def test_haplotypes_from_rows_restore_the_genotypes(unphased: bool) -> None:
    table = coalescent(20, 30)
    phased = np.zeros(table.haplotypes.shape[:2], dtype=bool) if unphased else None
    units = units_of(table_of(table.haplotypes, phased=phased))
    haplotypes = haplotypes_from(units.states, ploidy=units.ploidy)
    np.testing.assert_array_equal(haplotypes.sum(2), table.dosage())
    if not unphased:
        np.testing.assert_array_equal(haplotypes, table.haplotypes)
