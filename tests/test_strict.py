"""``--privacy strict``: its bounds by brute force, whom it finds, whom it redraws, and the commands."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import cyvcf2
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from data_prep.errors import InputError
from data_prep.readers import read_variants
from data_prep.variants import VariantTable
from data_prep.vcf import write_vcf
from genodiff.baselines import baseline
from genodiff.evaluation import classifier
from genodiff.strict import Guard, Neighbours, redraw
from tests.commands import TRAINING, People, refused, succeed
from tests.evaluation.conftest import people_from, table_of
from tests.evaluation.test_privacy import brute_force_runs

QUIETLY = ("--threads", "1", "--quiet")


@pytest.fixture(scope="module")
def real() -> tuple[VariantTable, VariantTable]:
    """Training people and as many strangers of the same population; haplotypes are seldom alike."""
    rng = np.random.default_rng(5)
    founders = (rng.random((40, 150)) < rng.beta(0.8, 0.8, 150)).astype(np.int8)
    labels = np.repeat(["AAA", "BBB"], 50)
    return tuple(table_of(people_from(founders, 100, rng), labels=labels, prefix=p) for p in "RS")  # type: ignore[return-value]


def brute_force(rows: NDArray[np.int8], per: int) -> tuple[list[int], list[float], list[int]]:
    """Distance to the nearest row of another person, largest exposure of one, and longest run with one."""
    n = len(rows)
    apart = np.abs(rows[:, None].astype(int) - rows[None]).sum(axis=2)
    person = [i // per for i in range(n)]
    distance, exposure, runs = [], [], []
    for q in range(n):
        others = [r for r in range(n) if person[r] != person[q]]
        distance.append(min(apart[q, r] for r in others))
        runs.append(brute_force_runs(rows[[q]], rows[others])[0])
        found = []
        for r in others:
            known = [x for x in range(n) if person[x] not in (person[q], person[r])]
            found.append((1 + min(apart[r, x] for x in known)) / (1 + apart[q, r]))
        exposure.append(max(found))
    return distance, exposure, runs


@pytest.mark.parametrize("phased", [True, False])
def test_bounds_equal_brute_force(phased: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    table = table_of(people_from((rng.random((5, 30)) < 0.4).astype(np.int8), 12, rng))
    rows = table.haplotype_rows() if phased else table.dosage()
    distance, exposure, runs = brute_force(rows, 2 if phased else 1)
    for cells in (1 << 23, 50):
        monkeypatch.setattr("genodiff.strict._CELLS", cells)
        guard = Guard.of(table, phased=phased, quantile=0.8)
        near = Neighbours.of(rows, rows_per_person=guard.rows_per_person)
        np.testing.assert_array_equal(near.distance, distance)
        assert guard.least_distance == np.quantile(distance, 0.2, method="lower")
        assert guard.longest_run == np.quantile(runs, 0.8, method="higher")
        assert guard.largest_exposure == pytest.approx(np.quantile(exposure, 0.8, method="higher"))
        beyond = (np.array(distance) < guard.least_distance) | (np.array(runs) > guard.longest_run)
        beyond |= np.array(exposure, dtype=np.float32) > guard.largest_exposure
        assert guard.real_share == beyond.reshape(12, -1).any(axis=1).mean()


def test_measures_of_new_rows_equal_brute_force() -> None:
    rng = np.random.default_rng(2)
    train, new = (rng.integers(0, 2, (n, 40)).astype(np.int8) for n in (20, 9))
    guard = Guard.of(table_of(train.reshape(10, 2, 40).transpose(0, 2, 1)), phased=True)
    found = guard.measures(new)
    apart = (new[:, None] != train[None]).sum(axis=2)
    within = (train[:, None] != train[None]).sum(axis=2).astype(float)
    within[np.arange(20)[:, None] // 2 == np.arange(20) // 2] = np.inf
    np.testing.assert_array_equal(found.distance, apart.min(axis=1))
    np.testing.assert_allclose(found.exposure, ((1 + within.min(axis=1)) / (1 + apart)).max(axis=1), rtol=1e-6)
    np.testing.assert_array_equal(found.run, brute_force_runs(new, train))


def test_strangers_exceed_as_often_as_training_people_and_copies_always(
    real: tuple[VariantTable, VariantTable],
) -> None:
    train, strangers = real
    guard = Guard.of(train, phased=True)
    assert 0.01 <= guard.real_share <= 0.06
    assert guard.exceeded(strangers).mean() <= 0.1
    assert guard.exceeded(train).all()
    mosaic = baseline("li-stephens").generate(train, 60, seed=1)
    assert guard.exceeded(mosaic).mean() > 0.9


def test_missing_calls_of_training_people_count_as_the_commonest_state(real: tuple[VariantTable, VariantTable]) -> None:
    train, _ = real
    holed = np.array(train.haplotypes)
    holed[3, 7] = -1
    guard = Guard.of(replace(train, haplotypes=holed), phased=True)
    common = int(train.haplotypes[:, 7].mean() > 0.5)
    assert guard.rows[6:8, 7].tolist() == [common, common]


class Source:
    """Draws strangers, with copies of training people among them at a given rate."""

    def __init__(self, train: VariantTable, strangers: VariantTable, rate: float) -> None:
        self.train, self.strangers, self.rate = train, strangers, rate
        self.asked: list[int | Mapping[str, int]] = []

    def __call__(self, asked: int | Mapping[str, int], seed: int) -> VariantTable:
        self.asked.append(asked)
        rng = np.random.default_rng(seed)
        labels = self.strangers.labels
        assert labels is not None
        if isinstance(asked, int):
            chosen = rng.choice(len(labels), asked)
        else:
            chosen = np.concatenate([rng.choice(np.flatnonzero(labels == k), n) for k, n in asked.items()])
        copied = rng.random(len(chosen)) < self.rate
        haplotypes = np.where(copied[:, None, None], self.train.haplotypes[chosen], self.strangers.haplotypes[chosen])
        found = table_of(haplotypes, prefix="GD")
        return found if isinstance(asked, int) else found.with_labels(labels[chosen])


def test_who_copies_is_replaced_with_the_same_label(real: tuple[VariantTable, VariantTable]) -> None:
    train, strangers = real
    guard = Guard.of(train, phased=True)
    source = Source(train, strangers, 0.3)
    first = source({"AAA": 30, "BBB": 20}, 1)
    beyond = guard.exceeded(first)
    assert 5 < beyond.sum() < 30
    kept, outcome = redraw(first, guard, source, seed=4)
    assert not guard.exceeded(kept).any()
    assert kept.samples.index.tolist() == first.samples.index.tolist()
    assert kept.labels is not None
    assert first.labels is not None
    assert kept.labels.tolist() == first.labels.tolist()
    np.testing.assert_array_equal(kept.haplotypes[~beyond], first.haplotypes[~beyond])
    assert (outcome.people, outcome.exceeded, outcome.redrawn, outcome.dropped) == (50, beyond.sum(), beyond.sum(), 0)
    assert sum(sum(a.values()) for a in source.asked[1:] if isinstance(a, Mapping)) == outcome.candidates
    again, _ = redraw(first, guard, source, seed=4)
    np.testing.assert_array_equal(again.haplotypes, kept.haplotypes)
    other, _ = redraw(first, guard, source, seed=5)
    assert (other.haplotypes != kept.haplotypes).any()


def test_who_cannot_be_replaced_is_left_out_and_said(real: tuple[VariantTable, VariantTable]) -> None:
    train, strangers = real
    guard = Guard.of(train, phased=True)
    first = Source(train, strangers, 0.2)(60, 1)
    beyond = guard.exceeded(first)
    kept, outcome = redraw(first, guard, Source(train, strangers, 1.0), seed=1, rounds=2)
    assert kept.n_samples == 60 - beyond.sum()
    assert outcome.dropped == beyond.sum() > 0
    assert outcome.rounds == 2
    assert f"{outcome.dropped} were left out" in outcome.line
    np.testing.assert_array_equal(kept.haplotypes, first.haplotypes[~beyond])


def test_a_model_that_only_copies_is_refused(real: tuple[VariantTable, VariantTable]) -> None:
    train, strangers = real
    guard = Guard.of(train, phased=True)
    copier = Source(train, strangers, 1.0)
    with pytest.raises(InputError, match="40 of 40 people copy"):
        redraw(copier(40, 1), guard, copier, seed=1, rounds=2)


def test_nobody_is_redrawn_where_nobody_exceeds(real: tuple[VariantTable, VariantTable]) -> None:
    train, strangers = real
    guard = Guard.of(train, phased=True)
    honest = strangers.select(samples=~guard.exceeded(strangers))
    source = Source(train, strangers, 1.0)
    kept, outcome = redraw(honest, guard, source, seed=1)
    assert not source.asked
    assert (outcome.exceeded, outcome.rounds) == (0, 0)
    np.testing.assert_array_equal(kept.haplotypes, honest.haplotypes)


def test_sample_strictly_against_the_people_learned_from(fitted: Path, tmp_path: Path) -> None:
    path = People().write(tmp_path)
    options = ("--privacy", "strict", "--against", path, "--labels", "EUR=12,AFR=8", *QUIETLY)
    said = succeed("sample", fitted, "-o", tmp_path / "s.vcf", *options).splitlines()
    assert said[0].startswith("Strict privacy: ")
    facts = json.loads((tmp_path / "s.provenance.json").read_text())
    assert facts["privacy"]["note"] == said[0]
    assert facts["privacy"]["people"] == 20
    assert str(path) in facts["inputs"]
    table, _ = read_variants(tmp_path / "s.vcf", maf=None)
    train, _ = read_variants(path)
    assert table.n_samples == 20 - facts["privacy"]["dropped"]
    assert not Guard.of(train, phased=True).exceeded(table).any()


def test_other_people_than_those_learned_from_are_refused(fitted: Path, tmp_path: Path) -> None:
    path = People(n=People().n - 5).write(tmp_path)
    strict = ("--privacy", "strict", "--against", path, "-n", "5", *QUIETLY)
    refused(tmp_path, "sample", fitted, "-o", tmp_path / "s.vcf", *strict, words=(path, "was learned from"))


def test_synthesize_strictly_says_what_it_did_and_what_it_cost(
    tmp_path: Path, tiny: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classifier.two_sample_auc, "__kwdefaults__", {"trees": 25, "repeats": 1})
    people = People(n=80)
    said = succeed(
        "synthesize", people.write(tmp_path), "-o", tmp_path / "out", "--privacy", "strict", "--panel",
        people.panel(tmp_path), *TRAINING,
    )  # fmt: skip
    facts = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert facts["configuration"]["sample"]["privacy"] == "strict"
    note = facts["privacy"]["note"]
    assert said.splitlines()[0] == note
    assert said.splitlines()[1].startswith("Its cost in fidelity: allele-frequency error ")
    assert note in (tmp_path / "out" / "report.html").read_text()
    cost = pd.read_csv(tmp_path / "out" / "strict.csv")
    assert list(cost.columns) == ["family", "metric", "standard", "strict", "floor", "unit"]
    assert set(cost["family"]) == {"frequencies", "covariance", "ld", "structure"}
    metrics = pd.read_csv(tmp_path / "out" / "metrics.csv").set_index("metric")["value"]
    np.testing.assert_array_equal(cost["strict"], metrics[cost["metric"]])
    assert len(cyvcf2.VCF(str(tmp_path / "out" / "synthetic.vcf.gz")).samples) == 60 - facts["privacy"]["dropped"]


def test_dosages_are_guarded_as_people(tmp_path: Path, tiny: None) -> None:
    path = People(n=60, phased=0.1).write(tmp_path)
    succeed("fit", path, "-o", tmp_path / "model", *TRAINING)
    strict = ("--privacy", "strict", "--against", path)
    succeed("sample", tmp_path / "model", "-o", tmp_path / "s.vcf", *strict, *QUIETLY)
    facts = json.loads((tmp_path / "s.provenance.json").read_text())
    assert facts["privacy"]["people"] == 60
    made, learned = (read_variants(tmp_path / name, maf=None)[0] for name in ("s.vcf", "people.vcf"))
    assert not made.is_phased
    assert not Guard.of(learned, phased=False).exceeded(made).any()


def test_strict_sampling_refuses_what_it_cannot_use(fitted: Path, tmp_path: Path) -> None:
    path = People().write(tmp_path)
    start = ("sample", fitted, "-o", tmp_path / "s.vcf")
    for options in (("--privacy", "strict"), ("--against", path)):
        refused(tmp_path, *start, *options, words=("--privacy strict and --against", "both or neither"))
    strict = (*start, "--privacy", "strict", *QUIETLY, "--against")
    refused(tmp_path, *strict, tmp_path / "none.vcf", words=("none.vcf", "does not exist"))
    table, _ = read_variants(path)
    cases = {
        "short.vcf": (table.select(variants=slice(0, 50)), ("lacks 10 of the 60 sites",)),
        "few.vcf": (table.select(samples=slice(0, 19)), ("19 people", "at least 20")),
        "other.vcf": (replace(table, sites=table.sites.assign(alt="T")), ("none of the 60 sites", "REF and ALT")),
        "far.vcf": (replace(table, sites=table.sites.assign(position=table.sites["position"] + 10**6)), ("no record",)),
    }
    for name, (other, words) in cases.items():
        write_vcf(other, tmp_path / name)
        refused(tmp_path, *strict, tmp_path / name, words=(name, *words))
