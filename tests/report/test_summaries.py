"""Arrays behind the heatmaps, against numpy."""

from __future__ import annotations

import numpy as np
import pytest

from genodiff.report import summaries
from genodiff.report.figures import distance_histogram, run_histogram
from genodiff.report.style import limits, png
from tests.report.conftest import people


def test_correlation_squared_is_that_of_numpy() -> None:
    rows = people(30, sites=20, seed=1, prefix="x").haplotype_rows()
    found = summaries.correlation_squared(summaries.centred(rows))
    np.testing.assert_allclose(found, np.corrcoef(rows.T) ** 2, atol=1e-6)


def test_a_site_that_does_not_vary_has_no_correlation() -> None:
    rows = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0], [1, 1, 0]], dtype=np.int8)
    found = summaries.correlation_squared(summaries.centred(rows))
    assert np.isnan(found[1]).all()
    assert np.isnan(found[:, 1]).all()
    assert found[0, 2] == pytest.approx(1 / 3)


def test_a_missing_call_counts_as_the_mean() -> None:
    rows = np.array([[0, -1], [1, 1], [1, -1], [0, 0]], dtype=np.int8)
    np.testing.assert_allclose(summaries.centred(rows), [[-0.5, 0], [0.5, 0.5], [0.5, 0], [-0.5, -0.5]])


def test_covariance_is_that_of_numpy() -> None:
    dosage = people(30, sites=20, seed=1, prefix="x").dosage()
    np.testing.assert_allclose(summaries.covariance(summaries.centred(dosage)), np.cov(dosage.T), atol=1e-6)


@pytest.mark.parametrize("n", [5, 400, 401, 799, 800, 4_200])
def test_windows_are_neighbours_within_the_sites(n: int) -> None:
    sites = np.arange(n) * 3
    found = summaries.windows(sites)
    assert len(found) == (2 if n >= 800 else 1)
    for window in found:
        assert len(window) == min(n, 400)
        assert (np.diff(window) == 3).all()
    assert len(np.unique(np.concatenate(found))) == sum(map(len, found))


def test_thinned_sites_are_distinct_and_span_all() -> None:
    found = summaries.thinned(np.arange(4_200))
    assert len(np.unique(found)) == 400
    assert (found[0], found[-1]) == (0, 4_199)


def test_common_sites_fall_back_to_all() -> None:
    table = people(30, sites=40, seed=1, prefix="x")
    frequency = table.allele_frequency()
    np.testing.assert_array_equal(
        summaries.common_sites(table), np.flatnonzero(np.minimum(frequency, 1 - frequency) >= 0.05)
    )
    few = table.select(variants=slice(0, 5))
    np.testing.assert_array_equal(summaries.common_sites(few), np.arange(5))


def test_tables_are_aligned_by_site() -> None:
    table = people(10, sites=40, seed=1, prefix="x")
    a, b = table.select(variants=slice(0, 30)), table.select(variants=slice(10, 40))
    left, right = summaries.aligned(a, b)
    assert left.site_keys.equals(right.site_keys)
    np.testing.assert_array_equal(left.haplotypes, right.haplotypes)
    assert left.n_variants == 20
    assert summaries.aligned(a, a)[1] is a


def test_a_repeated_site_is_aligned_to_its_first() -> None:
    table = people(10, sites=6, seed=1, prefix="x")
    repeated = table.select(variants=[0, 1, 1, 2])
    left, right = summaries.aligned(table, repeated)
    np.testing.assert_array_equal(left.haplotypes, table.haplotypes[:, :3])
    np.testing.assert_array_equal(right.haplotypes, table.haplotypes[:, :3])


def test_histograms_of_one_value_can_be_drawn() -> None:
    same = {"synthetic people": np.zeros(10, dtype=np.float32), "held-out people": np.zeros(4, dtype=np.float32)}
    for figure in (distance_histogram(same, title="t"), run_histogram(same)):
        assert png(figure).startswith(b"\x89PNG")


def test_limits_do_without_finite_values() -> None:
    assert limits(np.array([np.nan])) == (0.0, 1.0)
    low, high = limits(np.array([2.0, 2.0]))
    assert low < 2 < high
