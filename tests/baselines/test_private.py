"""``dp-gaussian``: what it draws, promises, refuses, and leaves beside its VCF."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep.errors import InputError
from data_prep.variants import VariantTable
from genodiff.baselines import baseline
from genodiff.baselines.private import DpGaussian
from genodiff.private.accountant import compose, epsilon_of
from genodiff.private.moments import block_slices, count_sensitivity, product_sensitivity
from genodiff.private.promise import PrivacyWarning
from tests.baselines.tables import correlation, two_labels, unphased, with_gaps
from tests.commands import People, refused, succeed, tree
from tests.genotypes.tables import table_of

QUIETLY = ("--threads", "1", "--quiet")
PEOPLE = People(n=30, sites=40)
SOME = ("--delta", "1e-3")


def linked(people: int = 2000, sites: int = 40, *, seed: int = 0) -> VariantTable:
    """Haplotypes from a chain: neighbours correlated by .8, frequencies between .2 and .5."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((2 * people, sites))
    for j in range(1, sites):
        z[:, j] = 0.95 * z[:, j - 1] + math.sqrt(1 - 0.95**2) * z[:, j]
    rows = z < np.linspace(-0.8, 0.0, sites)
    return table_of(rows.reshape(people, 2, sites).transpose(0, 2, 1).astype(np.int8))


def made(table: VariantTable, n: int, *, seed: int = 1, **options: Any) -> VariantTable:
    """People, where warnings of experiments are not wanted."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PrivacyWarning)
        return DpGaussian(**options).generate(table, n, seed=seed)


@pytest.mark.parametrize("change", [lambda t: t, unphased], ids=["phased", "unphased"])
def test_without_noise_frequencies_and_linkage_are_those_of_the_people(change: Any) -> None:
    table = change(linked())
    found = made(table, 3000, epsilon=math.inf, clip=1.0, block_sites=8)
    assert np.abs(found.allele_frequency() - table.allele_frequency()).max() < 5 * 0.5 / math.sqrt(6000)
    want, got = (correlation(t.dosage()) for t in (table, found))
    lag = np.abs(np.subtract.outer(np.arange(40), np.arange(40)))
    learned = (lag > 0) & (lag <= 8)
    assert np.abs(want - got)[learned].max() < 0.15
    assert np.abs(want - got)[learned].mean() < 0.04
    assert got[lag == 8].mean() > 0.8 * want[lag == 8].mean()
    assert (found.phased is None) == (table.phased is None)


def test_fidelity_falls_with_epsilon() -> None:
    table = linked()
    want, errors = correlation(table.dosage()), []
    for epsilon in (0.1, 2.0, 50.0):
        found = made(table, 3000, epsilon=epsilon, noise_seed=1)
        errors.append(
            [
                np.abs(found.allele_frequency() - table.allele_frequency()).mean(),
                np.abs(np.diagonal(correlation(found.dosage()) - want, 1)).mean(),
            ]
        )
    assert (np.diff(np.array(errors), axis=0) < 0).all()


@pytest.mark.parametrize("change", [lambda t: t, unphased], ids=["phased", "unphased"])
@pytest.mark.parametrize("sites", [1, 7, 16, 40])
def test_the_table_is_complete_and_labelled_at_tiny_and_huge_noise(change: Any, sites: int) -> None:
    table = change(two_labels(60, sites))
    for epsilon in (1e-3, 8.0, math.inf):
        found = made(table, 25, epsilon=epsilon, delta=1e-3, block_sites=16)
        assert found.haplotypes.shape == (25, sites, 2)
        assert set(np.unique(found.haplotypes)) <= {0, 1}
        assert found.sites.equals(table.sites)
        assert set(found.samples["label"]) == {"A", "B"}


def test_the_budget_is_spent_and_not_passed() -> None:
    method = DpGaussian(epsilon=3.0, delta=1e-4, share=0.2, block_sites=8, clip=0.4)
    moments = method.moments(_units(two_labels(60, 20)))
    spent = compose(
        count_sensitivity(20) / moments.count_sigma,
        product_sensitivity(block_slices(20, 8), 0.4) / moments.product_sigma,
    )
    assert epsilon_of(spent, 1e-4) == pytest.approx(3.0, rel=1e-6)
    assert (count_sensitivity(20) / moments.count_sigma / spent) ** 2 == pytest.approx(0.2)


def _units(table: VariantTable) -> Any:
    from genodiff.genotypes.units import units_of

    return units_of(table)


def test_the_seed_does_not_fix_the_noise() -> None:
    """Equal seeds, other noise; only a noise seed makes it come again, and says so."""
    table, method = linked(200), DpGaussian(epsilon=1.0)
    one, two = (method.moments(_units(table)).counts for _ in range(2))
    assert not np.intersect1d(one, two).size
    assert not np.array_equal(
        method.generate(table, 50, seed=1).haplotypes, method.generate(table, 50, seed=1).haplotypes
    )
    known = DpGaussian(epsilon=1.0, noise_seed=4)
    with pytest.warns(PrivacyWarning, match="known seed: there is no privacy"):
        first = known.generate(table, 50, seed=1)
    np.testing.assert_array_equal(first.haplotypes, made(table, 50, epsilon=1.0, noise_seed=4).haplotypes)


def test_a_guarantee_that_says_little_is_warned_of() -> None:
    with pytest.warns(PrivacyWarning, match=r"delta 0.05 is not below 1/60"):
        DpGaussian(delta=0.05).generate(two_labels(60), 5, seed=1)
    with pytest.warns(PrivacyWarning, match="no noise and no privacy"):
        DpGaussian(epsilon=math.inf).generate(two_labels(60), 5, seed=1)
    assert DpGaussian(epsilon=2.0, delta=1e-4).guarantee(60)[0].startswith("(2, 0.0001)-differential privacy")
    assert not any("differential" in line for line in DpGaussian(noise_seed=1).guarantee(60))
    assert not any("differential" in line for line in DpGaussian(epsilon=math.inf).guarantee(60))


@pytest.mark.parametrize(
    "options",
    [
        {"epsilon": 0.0},
        {"epsilon": -1.0},
        {"epsilon": math.nan},
        {"delta": 0.0},
        {"delta": 1.0},
        {"share": 0.0},
        {"share": 1.0},
        {"block_sites": 0},
        {"clip": 0.0},
        {"clip": 1.5},
        {"noise_seed": -1},
    ],
)
def test_options_outside_their_domain_are_named(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        baseline("dp-gaussian", **options)


def test_missing_calls_are_refused() -> None:
    with pytest.raises(InputError, match=r"dp-gaussian: [\d,]+ calls are missing: impute them from people who are not"):
        DpGaussian().generate(with_gaps(two_labels()), 5, seed=1)


def test_an_unphased_call_changes_nothing_but_itself() -> None:
    """Which people are drawn from the same moments must not tell whether somebody lacked phase."""
    table = linked(200)
    phased = np.ones(table.haplotypes.shape[:2], dtype=bool)
    het = np.argwhere(table.haplotypes[:, :, 0] != table.haplotypes[:, :, 1])[0]
    phased[tuple(het)] = False
    options: dict[str, Any] = {"epsilon": 1e-3, "noise_seed": 1, "seed": 3}
    one, two = (made(t, 40, **options) for t in (table, table_of(np.array(table.haplotypes), phased=phased)))
    assert np.mean(one.haplotypes == two.haplotypes) > 0.999


def test_the_command_says_what_is_promised_and_keeps_back_what_is_not_covered(tmp_path: Path) -> None:
    vcf, panel, out = PEOPLE.write(tmp_path), PEOPLE.panel(tmp_path), tmp_path / "new" / "s.vcf.gz"
    said = succeed("baseline", "dp-gaussian", vcf, "-o", out, "--panel", panel, "--maf", "0", *SOME, *QUIETLY)
    promise = "(8, 0.001)-differential privacy for the genotypes of one person of 30; public are the sites"
    assert promise in said
    assert tree(tmp_path / "new") == {"s.vcf.gz", "s.vcf.gz.tbi", "s.panel.tsv", "s.provenance.json"}
    facts = json.loads((tmp_path / "new" / "s.provenance.json").read_text())
    assert facts["privacy"][0].startswith(promise)
    assert facts["inputs"] == {}
    assert "filters" not in facts
    assert facts["configuration"]["options"]["epsilon"] == 8.0


def test_the_command_warns_of_a_large_delta(tmp_path: Path) -> None:
    vcf = PEOPLE.write(tmp_path)
    said = succeed("baseline", "dp-gaussian", vcf, "-o", tmp_path / "s.vcf", "--maf", "0", "--delta", "0.1", *QUIETLY)
    assert "delta 0.1 is not below 1/30" in said


def test_sites_chosen_by_the_people_are_refused(tmp_path: Path) -> None:
    vcf = PEOPLE.write(tmp_path)
    arguments = ("baseline", "dp-gaussian", vcf, "-o", tmp_path / "s.vcf", "--maf", "0.3", *SOME, *QUIETLY)
    refused(tmp_path, *arguments, words=(vcf, "by maf", "--maf 0", "--public-sites"))
    assert "differential privacy" in succeed(*arguments, "--public-sites")


def test_sites_that_do_not_vary_among_the_people_stay(tmp_path: Path) -> None:
    vcf = PEOPLE.write(tmp_path)
    lines = vcf.read_text().splitlines()
    last = lines[-1].split("\t")
    vcf.write_text("\n".join([*lines[:-1], "\t".join(last[:9] + ["0|0"] * len(last[9:]))]) + "\n")
    succeed("baseline", "dp-gaussian", vcf, "-o", tmp_path / "s.vcf", "--maf", "0", *SOME, *QUIETLY)
    made = [line for line in (tmp_path / "s.vcf").read_text().splitlines() if not line.startswith("#")]
    assert [line.split("\t")[1] for line in made] == [line.split("\t")[1] for line in lines if line[0] != "#"]


def test_the_command_refuses_epsilon_zero(tmp_path: Path) -> None:
    arguments = (tmp_path / "no.vcf", "-o", tmp_path / "s.vcf", "--epsilon", "0", *QUIETLY)
    refused(tmp_path, "baseline", "dp-gaussian", *arguments, words=("dp-gaussian: epsilon must be positive, got 0",))
