"""Mixtures of labels: proportions and lengths of tracts against theory, splices, people through the model."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data_prep.errors import InputError, OutputError
from data_prep.maps import GeneticMap
from data_prep.panels import read_panel, write_panel
from data_prep.variants import VariantTable
from genodiff.genotypes.admixture import (
    Mixing,
    by_ancestry,
    encode_tracts,
    local_ancestry,
    paint,
    shares_of,
    splice,
    write_ancestry,
)
from genodiff.genotypes.model import GenotypeModel
from tests.genotypes.tables import coalescent, small, table_of


@pytest.fixture(scope="module")
def model(table: VariantTable) -> GenotypeModel:
    return GenotypeModel(small(training={"steps": 2})).fit(table, seed=1, device="cpu")


@pytest.mark.parametrize(
    ("text", "shares"),
    [
        ("AFR", {"AFR": 1.0}),
        ("AFR=0.8+EUR=0.2", {"AFR": 0.8, "EUR": 0.2}),
        (" a=.5 + b c=5e-1 ", {"a": 0.5, "b c": 0.5}),
        ("A=0.3333333+B=0.3333333+C=0.3333334", {"A": 0.3333333, "B": 0.3333333, "C": 0.3333334}),
    ],
)
def test_shares_by_label(text: str, shares: dict[str, float]) -> None:
    found = shares_of(text)
    assert found == pytest.approx(shares, abs=1e-6)
    assert math.fsum(found.values()) == pytest.approx(1, abs=1e-15)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("A=0.8+B=0.3", "must sum to 1, here 1.1"),
        ("A=0.8+B=0.19999", "must sum to 1, here 0.99999"),
        ("A=0.5+A=0.5", "'A' is given twice"),
        ("A=1", "'A=1' is not a label and its share between 0 and 1"),
        ("A=1+B=0", "'A=1' is not a label and its share"),
        ("A=-0.5+B=1.5", "'A=-0.5' is not a label and its share"),
        ("A=0.5+=0.5", "'=0.5' is not a label and its share"),
        ("A=0.5+B", "'B' is not a label and its share"),
        ("A=nan+B=0.5", "'A=nan' is not a label"),
    ],
)
def test_shares_that_are_none_are_refused(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        shares_of(text)


def test_a_label_that_looks_like_a_mixture_is_itself() -> None:
    assert shares_of("A=1", known=["A=1", "B"]) == {"A=1": 1.0}


@pytest.mark.parametrize("g", [3.0, 12.0])
@pytest.mark.parametrize("shares", [(0.8, 0.2), (0.5, 0.3, 0.2)])
def test_proportions_and_lengths_of_tracts_are_those_of_theory(g: float, shares: tuple[float, ...]) -> None:
    """Tracts on 40 Morgans; those at the ends are cut and left out, which short tracts hardly notice."""
    morgans = np.arange(0, 40, 0.002)
    painted = paint(np.tile(shares, (60, 1)), morgans, generations=g, rng=np.random.default_rng(1))
    for k, p in enumerate(shares):
        assert (painted == k).mean() == pytest.approx(p, abs=0.03)
        lengths = []
        for row in painted:
            edges = np.flatnonzero(np.diff(row)) + 1
            inner = row[edges[:-1]] == k
            lengths += np.diff(morgans[edges])[inner].tolist()
        expected = 1 / (g * (1 - p))
        assert np.mean(lengths) == pytest.approx(expected, rel=4 / np.sqrt(len(lengths)) + 0.03)


def test_ancestry_changes_where_the_map_recombines() -> None:
    position = np.arange(1, 1001) * 1000
    hot = GeneticMap(np.array([1, 500_000, 501_000, 1_000_000]), np.array([0.0, 0.0, 100.0, 100.0]))
    morgans = Mixing(genetic_map=hot).morgans(position)
    painted = paint(np.full((400, 2), 0.5), morgans, generations=8, rng=np.random.default_rng(1))
    changes = np.flatnonzero((np.diff(painted) != 0).any(0))
    np.testing.assert_array_equal(changes, [499])
    assert (painted[:, 499] != painted[:, 500]).mean() == pytest.approx((1 - np.exp(-8)) / 2, abs=0.1)
    assert np.ptp(Mixing().morgans(position)) == pytest.approx(999_000e-8)


def test_a_chromosome_without_recombination_has_one_ancestry() -> None:
    painted = paint(np.full((200, 2), 0.5), np.zeros(50), generations=8, rng=np.random.default_rng(1))
    assert (painted == painted[:, :1]).all()
    assert 0.35 < painted[:, 0].mean() < 0.65


def test_proportions_vary_between_people_as_asked() -> None:
    shares, rng = np.array([0.78, 0.22]), np.random.default_rng(1)
    drawn = Mixing(concentration=10).proportions(shares, 20_000, rng=rng)
    np.testing.assert_allclose(drawn.sum(1), 1)
    np.testing.assert_allclose(drawn.mean(0), shares, atol=0.005)
    assert drawn[:, 1].std() == pytest.approx(np.sqrt(0.78 * 0.22 / 11), rel=0.03)
    same = Mixing(concentration=math.inf).proportions(shares, 3, rng=rng)
    np.testing.assert_array_equal(same, [shares] * 3)


@pytest.mark.parametrize("wrong", [{"generations": 0}, {"generations": math.inf}, {"concentration": 0}])
def test_mixing_out_of_range_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        Mixing(**wrong)  # type: ignore[arg-type]


def test_every_allele_is_that_of_its_source() -> None:
    rng = np.random.default_rng(1)
    sources = [rng.integers(0, 2, (5, 30, 2), dtype=np.int8) for _ in range(3)]
    ancestry = rng.integers(0, 3, (5, 30, 2), dtype=np.int8)
    kept = [s.copy() for s in sources]
    made = splice(sources, ancestry)
    for i, j, h in np.ndindex(made.shape):
        assert made[i, j, h] == sources[ancestry[i, j, h]][i, j, h]
    for before, after in zip(kept, sources, strict=True):
        np.testing.assert_array_equal(before, after)


def test_tracts_cover_every_site_once() -> None:
    position = np.array([5, 9, 14, 20])
    ancestry = np.array([[[0, 1], [0, 1], [1, 1], [0, 1]]], dtype=np.int8)
    (text,) = encode_tracts(ancestry, ["A", "B"], position)
    assert json.loads(text) == [[["A", 4, 13], ["B", 13, 19], ["A", 19, 20]], [["B", 4, 20]]]


def test_mixed_people_are_mosaics_of_the_labels_named(model: GenotypeModel) -> None:
    first, second, third = model.labels
    mixture = f"{first}=0.6+{second}=0.4"
    mixing = Mixing(generations=3000, concentration=math.inf)
    asked = {third: 4, mixture: 30}
    drawn = model.sample(labels=asked, mixing=mixing, seed=5)
    assert drawn.n_samples == 34
    assert drawn.labels is not None
    assert drawn.labels.tolist() == [third] * 4 + [mixture] * 30
    frame = local_ancestry(drawn)
    assert frame is not None
    assert frame.columns.tolist() == ["sample", "haplotype", "contig", "start", "end", "label"]
    assert set(frame["label"][frame["sample"].isin(drawn.samples.index[:4])]) == {third}
    mixed = frame[frame["sample"].isin(drawn.samples.index[4:])]
    length = mixed["end"] - mixed["start"]
    assert set(mixed["label"]) == {first, second}
    assert length[mixed["label"] == first].sum() / length.sum() == pytest.approx(0.6, abs=0.1)
    # Ends meet: the tracts of a haplotype cover the region once, and neighbours differ.
    for _, tracts in frame.groupby(["sample", "haplotype"]):
        assert (tracts["end"].to_numpy()[:-1] == tracts["start"].to_numpy()[1:]).all()
        assert (tracts["label"].to_numpy()[:-1] != tracts["label"].to_numpy()[1:]).all()
        assert tracts["start"].iloc[0] == drawn.sites["position"].iloc[0] - 1
        assert tracts["end"].iloc[-1] == drawn.sites["position"].iloc[-1]


def test_alleles_of_mixed_people_are_those_of_synthetic_people_of_the_labels(
    model: GenotypeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sources are seen on their way into the splice; the mosaic is put together again from the tracts."""
    seen = []
    monkeypatch.setattr(
        "genodiff.genotypes.model.splice", lambda parts, painted: seen.append(parts) or splice(parts, painted)
    )
    first, second, _ = model.labels
    drawn = model.sample(labels={f"{first}=0.5+{second}=0.5": 6}, mixing=Mixing(generations=3000), seed=2)
    (parts,) = seen
    frame, position = local_ancestry(drawn), drawn.sites["position"].to_numpy()
    assert frame is not None
    for row in frame.itertuples():
        inside = (position > row.start) & (position <= row.end)
        person = drawn.samples.index.get_loc(row.sample)
        source = parts[[first, second].index(row.label)]
        np.testing.assert_array_equal(
            drawn.haplotypes[person, inside, row.haplotype], source[person, inside, row.haplotype]
        )


def test_plain_people_are_the_same_beside_nobody_mixed(model: GenotypeModel) -> None:
    first, second, _ = model.labels
    plain = model.sample(labels={first: 3, second: 4}, seed=3)
    assert "ancestry" not in plain.samples
    assert local_ancestry(plain) is None
    other = model.sample(labels={first: 3, second: 4}, mixing=Mixing(generations=99), seed=3)
    np.testing.assert_array_equal(plain.haplotypes, other.haplotypes)


def test_same_seed_same_mosaics(model: GenotypeModel) -> None:
    asked = {f"{model.labels[0]}=0.5+{model.labels[1]}=0.5": 8}
    mixing = Mixing(generations=2000)
    first, again, other = (model.sample(labels=asked, mixing=mixing, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(first.haplotypes, again.haplotypes)
    pd.testing.assert_frame_equal(first.samples, again.samples)
    assert (first.samples["ancestry"] != other.samples["ancestry"]).any()


def test_mixtures_the_model_cannot_make_are_refused(model: GenotypeModel, table: VariantTable) -> None:
    known = model.labels[0]
    with pytest.raises(InputError, match="label 'Mars' is not one the model knows"):
        model.sample(labels={f"{known}=0.5+Mars=0.5": 2})
    with pytest.raises(InputError, match="must sum to 1"):
        model.sample(labels={f"{known}=0.5+{model.labels[1]}=0.6": 2})
    with pytest.raises(ValueError, match="at least 1 person"):
        model.sample(labels={f"{known}=0.5+{model.labels[1]}=0.5": 0})


def test_dosages_cannot_be_mixed() -> None:
    table = coalescent(40, 60, seed=5)
    unphased = VariantTable(table.haplotypes, table.sites, table.samples, np.zeros(table.haplotypes.shape[:2], bool))
    model = GenotypeModel(small(training={"steps": 0})).fit(unphased, device="cpu")
    with pytest.raises(InputError, match="needs a model of haplotypes, this one was fitted on unphased genotypes"):
        model.sample(labels={f"{model.labels[0]}=0.5+{model.labels[1]}=0.5": 2})


def mixed_table() -> VariantTable:
    table = table_of(np.zeros((3, 4, 2), dtype=np.int8), labels=["A", "A=0.5+B=0.5", "A=0.5+B=0.5"])
    tracts = encode_tracts(np.zeros((3, 4, 2), dtype=np.int8), ["A"], table.sites["position"].to_numpy())
    return VariantTable(table.haplotypes, table.sites, table.samples.assign(ancestry=tracts), header=table.header)


def test_mixtures_survive_the_panel_and_anndata(tmp_path: Path) -> None:
    table = mixed_table()
    write_panel(table, tmp_path / "p.tsv")
    assert read_panel(tmp_path / "p.tsv").tolist() == ["A", "A=0.5+B=0.5", "A=0.5+B=0.5"]
    again = VariantTable.from_anndata(table.to_anndata())
    first, second = local_ancestry(table), local_ancestry(again)
    assert first is not None
    assert second is not None
    pd.testing.assert_frame_equal(first, second)


def test_local_ancestry_is_written_beside(tmp_path: Path) -> None:
    table = mixed_table()
    for name in ("a.tsv.gz", "b.tsv.gz"):
        write_ancestry(table, tmp_path / name)
    assert (tmp_path / "a.tsv.gz").read_bytes() == (tmp_path / "b.tsv.gz").read_bytes()
    lines = gzip.decompress((tmp_path / "a.tsv.gz").read_bytes()).decode().splitlines()
    assert lines[:2] == ["sample\thaplotype\tcontig\tstart\tend\tlabel", "P0\t0\t22\t999\t1300\tA"]
    assert len(lines) == 7
    write_ancestry(table_of(np.zeros((3, 4, 2))), tmp_path / "none.tsv.gz")
    assert not (tmp_path / "none.tsv.gz").exists()
    with pytest.raises(OutputError, match="cannot be written"):
        write_ancestry(table, tmp_path / "absent" / "a.tsv.gz")


def test_mixed_people_are_told_from_plain_ones_and_counted_by_ancestry() -> None:
    names = ["A"] * 2 + ["A=0.7+B=0.3"] * 10 + ["A=0.5+X=0.5", "odd=1"]
    mixed, composed = by_ancestry(table_of(np.zeros((14, 2, 2)), labels=names), ["A", "B"])
    assert mixed.tolist() == [False] * 2 + [True] * 10 + [False] * 2
    assert composed.labels is not None
    assert composed.labels.tolist() == ["A"] * 9 + ["B"] * 3 + ["A=0.5+X=0.5", "odd=1"]
    nobody, same = by_ancestry(table_of(np.zeros((2, 2, 2))), [])
    assert not nobody.any()
    assert same.labels is None
