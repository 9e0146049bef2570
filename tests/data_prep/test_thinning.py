"""Unlinked sites, the sites of another table, and windows."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.errors import InputError
from data_prep.readers import read_variants
from data_prep.regions import Region, windows
from data_prep.simulate import simulate_ld_blocks
from data_prep.thinning import AtSites, Unlinked
from data_prep.vcf_write import write_vcf


@pytest.fixture(scope="module")
def linked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Blocks of ten sites in strong LD."""
    path = tmp_path_factory.mktemp("thinning") / "linked.vcf.gz"
    table = simulate_ld_blocks(150, 200, block_size=10, decay=0.05, phased=True, maf_range=(0.2, 0.5)).table
    write_vcf(table, path)
    return path


def test_sites_kept_are_unlinked_and_those_left_out_are_not(linked: Path) -> None:
    everything, _ = read_variants(linked)
    kept, report = read_variants(linked, choose=Unlinked(r2=0.2))
    assert report.removed["not-chosen"] == everything.n_variants - kept.n_variants > 100
    dosage = everything.dosage().astype(float)
    r2 = np.corrcoef(dosage, rowvar=False) ** 2
    chosen = everything.site_keys.isin(kept.site_keys)
    found: list[int] = []
    # The definition, site by site: in when no kept site before it is linked to it.
    for j in range(everything.n_variants):
        if not (r2[j, found[-50:]] > 0.2).any():
            found.append(j)
    assert np.flatnonzero(chosen).tolist() == found


def test_only_the_people_named_count(linked: Path) -> None:
    some = np.arange(40)
    kept, _ = read_variants(linked, choose=Unlinked(people=some))
    names = read_variants(linked)[0].samples.index[:40].tolist()
    alone, _ = read_variants(linked, samples=names, maf=0.0, choose=Unlinked())
    assert kept.site_keys.tolist() == alone.site_keys.tolist()


def test_sites_of_another_table(linked: Path) -> None:
    kept, _ = read_variants(linked, choose=Unlinked())
    again, report = read_variants(linked, maf=None, choose=AtSites(kept.sites))
    assert again.site_keys.equals(kept.site_keys)
    assert np.array_equal(again.haplotypes, kept.haplotypes)
    assert report.kept == kept.n_variants


def test_none_of_the_sites_is_refused_in_words(linked: Path) -> None:
    kept, _ = read_variants(linked, choose=Unlinked())
    with pytest.raises(InputError, match="not among the sites asked for"):
        read_variants(linked, choose=AtSites(kept.sites.assign(position=7)))


@given(
    st.lists(st.integers(1, 10**6), min_size=1, max_size=300, unique=True).map(sorted),
    st.integers(1, 60),
)
def test_windows_hold_every_site_once(position: list[int], most: int) -> None:
    found = windows(Region("22"), np.array(position), most=most)
    assert len(found) == -(-len(position) // most)
    assert found[0].start == 1
    assert all(a.end + 1 == b.start for a, b in pairwise(found))
    inside = [sum(window.holds("22", p) for p in position) for window in found]
    assert sum(inside) == len(position)
    assert min(inside) >= 1
    assert max(inside) <= most * 1.25 + 1


def test_a_window_ends_in_the_widest_gap_nearby() -> None:
    position = np.concatenate([np.arange(1, 54), np.arange(1000, 1047)])
    assert windows(Region("1"), position, most=50)[0] == Region("1", 1, 526)


def test_windows_stay_within_their_region() -> None:
    found = windows(Region.parse("chr2:11-99"), np.arange(20, 90), most=30)
    assert [str(window) for window in found] == ["chr2:11-42", "chr2:43-65", "chr2:66-99"]
    assert str(Region.parse("2:5-")) == "2:5-"


def test_no_window_of_nothing() -> None:
    with pytest.raises(ValueError, match="cannot be cut"):
        windows(Region("1"), np.arange(0), most=5)
