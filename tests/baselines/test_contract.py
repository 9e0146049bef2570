"""What every baseline promises, whatever its method."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from data_prep.errors import InputError
from data_prep.variants import VariantTable
from genodiff import baselines
from genodiff.baselines.people import NewPeople, complete_haplotypes, parts, sample_names
from tests.baselines.tables import MOSAICS, PLAIN, two_labels, unphased, with_gaps
from tests.commands import ROOT
from tests.genotypes.tables import table_of

TABLE = two_labels()


@pytest.mark.parametrize("name", baselines.names())
def test_a_baseline_is_a_dataclass_of_explained_options(name: str) -> None:
    method = baselines.baseline_class(name)
    assert method.name == name
    assert method.summary == baselines.summary_of(name)
    assert re.fullmatch(r"\S.{20,100}\.", method.summary)
    assert dataclasses.is_dataclass(method)
    assert all(field.metadata["help"] for field in dataclasses.fields(method))
    instance = baselines.baseline(name)
    for field in dataclasses.fields(method):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(instance, field.name, None)


def test_names_and_summaries_cost_nothing() -> None:
    code = (
        "import sys, genodiff.baselines as b; [b.summary_of(name) for name in b.names()]; "
        "print(*sorted({m.split('.')[0] for m in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not {"numpy", "torch", "scipy", "pandas"} & set(done.stdout.split())


def test_a_name_that_is_not_known_brings_the_list() -> None:
    with pytest.raises(ValueError, match=r"'gan' is unknown: choose one of independent-sites, .*hapnest"):
        baselines.baseline("gan")
    with pytest.raises(ValueError, match="'gan' is unknown"):
        baselines.summary_of("gan")
    with pytest.raises(TypeError):
        baselines.baseline("bootstrap", ne=3)


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("change", [lambda t: t, with_gaps], ids=["complete", "gaps"])
def test_the_table_is_complete_and_at_the_sites_of_the_input(
    name: str, change: Callable[[VariantTable], VariantTable]
) -> None:
    made = baselines.generate(name, change(TABLE), 25, seed=4)
    assert list(made.samples.index[:2]) == ["BL000001", "BL000002"]
    assert made.haplotypes.shape == (25, TABLE.n_variants, 2)
    assert made.haplotypes.min() == 0
    assert made.haplotypes.max() == 1
    assert made.phased is None
    assert made.sites.equals(TABLE.sites)
    assert made.header == TABLE.header
    assert made.labels is not None
    counts = dict(zip(*np.unique(made.labels, return_counts=True), strict=True))
    assert counts["A"] in (16, 17)
    assert counts["B"] in (8, 9)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("isotropic-paper", {"steps": 2, "width": 8, "depth": 1, "sampling_steps": 2}),
        ("isotropic-tuned", {"preset": "fast"}),
    ],
)
def test_people_of_networks_are_named_alike(name: str, options: dict[str, Any], tiny: None) -> None:
    made = baselines.generate(name, TABLE, 25, seed=4, device="cpu", **options)
    assert made.samples.index.equals(sample_names(25))
    assert made.samples.index.name == "sample"
    assert list(made.samples.index[[0, -1]]) == ["BL000001", "BL000025"]
    assert made.sites.equals(TABLE.sites)
    assert made.header == TABLE.header


@pytest.mark.parametrize("name", PLAIN)
def test_equal_seeds_give_equal_people(name: str) -> None:
    first, second, other = (baselines.generate(name, TABLE, 30, seed=s) for s in (7, 7, 8))
    assert np.array_equal(first.haplotypes, second.haplotypes)
    assert first.samples.equals(second.samples)
    assert not np.array_equal(first.haplotypes, other.haplotypes)


@pytest.mark.parametrize("name", sorted(set(PLAIN) - set(MOSAICS)))
def test_people_without_phase_give_people_without_phase(name: str) -> None:
    made = baselines.generate(name, with_gaps(unphased(TABLE)), 400, seed=1)
    assert made.phased is not None
    assert not made.phased.any()
    assert (made.haplotypes[:, :, 0] <= made.haplotypes[:, :, 1]).all()
    assert np.abs(made.allele_frequency() - TABLE.allele_frequency()).mean() < 0.06


@pytest.mark.parametrize("name", MOSAICS)
def test_mosaics_need_phase_and_one_contig(name: str) -> None:
    with pytest.raises(InputError, match="not phased: phase them first"):
        baselines.generate(name, unphased(TABLE), 5, seed=1)
    sites = TABLE.sites.assign(contig=["1"] * 20 + ["2"] * 20)
    with pytest.raises(InputError, match="takes one contig, here are 1, 2"):
        baselines.generate(name, dataclasses.replace(TABLE, sites=sites), 5, seed=1)


@pytest.mark.parametrize("name", PLAIN)
def test_nobody_cannot_be_made(name: str) -> None:
    with pytest.raises(ValueError, match="at least 1 person"):
        baselines.generate(name, TABLE, 0, seed=1)
    with pytest.raises(ValueError, match="nobody to learn from"):
        baselines.generate(name, TABLE.select(samples=[]), 2, seed=1)


@pytest.mark.parametrize("name", PLAIN)
def test_one_person_at_one_site_will_do(name: str) -> None:
    table = table_of(np.array([[[0, 1]]], dtype=np.int8))
    made = baselines.generate(name, table, 3, seed=1)
    assert made.haplotypes.shape == (3, 1, 2)
    assert made.labels is None


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("li-stephens", {"ne": -1.0}),
        ("li-stephens", {"ne": float("nan")}),
        ("li-stephens", {"rate_cm_per_mb": 0.0}),
        ("hapnest", {"ne": 0.0}),
        ("hapnest", {"rho": float("inf")}),
        ("gaussian-copula", {"max_sites": 0}),
        ("isotropic-tuned", {"preset": "slow"}),
        ("isotropic-tuned", {"steps": -1}),
    ],
)
def test_options_outside_their_domain_are_named(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        baselines.baseline(name, **options)


def test_a_label_smaller_than_its_share_is_drawn_as_often_as_it_should() -> None:
    """One person of 60 among 20 new people: a third of the draws have one of the label, none has two."""
    table = TABLE.with_labels(["rare"] + ["often"] * 59)
    counts = [len(NewPeople.draw(table, 20, np.random.default_rng(seed)).groups[1].new) for seed in range(300)]
    assert set(counts) == {0, 1}
    assert np.mean(counts) == pytest.approx(1 / 3, abs=4 * np.sqrt(2 / 9 / 300))


def test_gaps_are_filled_from_the_frequency_within_the_label() -> None:
    rng = np.random.default_rng(0)
    alleles = np.repeat([[[0]], [[1]]], 500, axis=0).repeat(30, axis=1).repeat(2, axis=2).astype(np.int8)
    alleles[0::2, :15] = -1
    table = table_of(alleles, labels=["zero"] * 500 + ["one"] * 500)
    rows = complete_haplotypes(NewPeople.draw(table, 1, rng), rng)
    assert not rows[:1000].any()
    assert rows[1000:].all()
    # A label without any call at a site takes the frequency of everybody.
    alleles[:500] = -1
    everybody = table_of(
        np.where(alleles < 0, -1, rng.integers(0, 2, alleles.shape)), labels=["zero"] * 500 + ["one"] * 500
    )
    rows = complete_haplotypes(NewPeople.draw(everybody, 1, rng), rng)
    assert np.abs(rows[:1000].mean(0) - everybody.allele_frequency()).max() < 5 * 0.5 / np.sqrt(1000)


def test_a_call_without_phase_is_given_one_by_a_coin() -> None:
    """Files write 0/1: the second chromosome must not collect all ALT alleles."""
    alleles = np.tile(np.array([0, 1], dtype=np.int8), (1000, 10, 1))
    phased = np.ones((1000, 10), dtype=bool)
    phased[:, :5] = False
    table = table_of(alleles, phased=phased)
    assert table.is_phased
    rng = np.random.default_rng(3)
    rows = complete_haplotypes(NewPeople.draw(table, 1, rng), rng)
    assert np.array_equal(rows[0::2] + rows[1::2], np.ones((1000, 10)))
    assert np.abs(rows[1::2, :5].mean(0) - 0.5).max() < 5 * 0.5 / np.sqrt(1000)
    assert rows[1::2, 5:].all()


def test_parts_cover_all_rows_once() -> None:
    rows = np.arange(1000)
    pieces = list(parts(rows, 50_000))
    assert len(pieces) > 1
    assert np.array_equal(np.concatenate(pieces), rows)
    assert [len(p) for p in parts(rows[:3], 1 << 40)] == [1, 1, 1]
