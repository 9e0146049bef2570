"""Round trips through our own reader, bcftools and scikit-allel, and what the reader keeps of odd records."""

from __future__ import annotations

import gzip
import shutil
import subprocess
from pathlib import Path

import allel
import cyvcf2
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_prep import InputError, OutputError, VariantTable
from data_prep.readers import read_variants
from data_prep.simulate import simulate_ld_blocks
from data_prep.vcf import VcfWriter, write_vcf
from tests.data_prep.helpers import header, make_table, record, write

BCFTOOLS = shutil.which("bcftools")
needs_bcftools = pytest.mark.skipif(BCFTOOLS is None, reason="bcftools is not installed")


def bcftools(*arguments: object) -> str:
    assert BCFTOOLS is not None
    done = subprocess.run([BCFTOOLS, *map(str, arguments)], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout


def messy(seed: int = 1, n: int = 23, m: int = 400) -> VariantTable:
    """Missing, unphased and common and rare calls; every site polymorphic and fewer than half of the calls missing."""
    rng = np.random.default_rng(seed)
    h = (rng.random((n, m, 2)) < rng.uniform(0.05, 0.9, m)[:, None]).astype(np.int8)
    h[rng.random((n, m)) < 0.1] = -1
    h[0], h[1] = [0, 1], [1, 1]
    position = np.cumsum(rng.integers(1, 90_000, m))
    return make_table(h, phased=rng.random((n, m)) < 0.7, position=position)


def same(read: VariantTable, table: VariantTable) -> None:
    known = table.phased is None or bool((~table.unphased_het).all())
    np.testing.assert_array_equal(read.haplotypes, table.haplotypes)
    pd.testing.assert_frame_equal(read.sites, table.sites[list(read.sites.columns)])
    assert list(read.samples.index) == list(table.samples.index)
    if known:
        assert read.phased is None
    else:
        np.testing.assert_array_equal(read.unphased_het, table.unphased_het)


@pytest.mark.parametrize("name", ["x.vcf", "x.vcf.gz", "x.bcf", "x.vcf.bgz"])
def test_round_trip(tmp_path: Path, name: str) -> None:
    table = messy()
    write_vcf(table, tmp_path / name)
    read, report = read_variants(tmp_path / name, max_missing=0.5)
    same(read, table)
    assert report.missing_calls == int((table.haplotypes < 0).any(axis=2).sum())
    assert report.unphased_het_calls == int(table.unphased_het.sum())
    indices = {"x.vcf.gz": ".tbi", "x.vcf.bgz": ".tbi", "x.bcf": ".csi"}
    expected = {name, name + indices[name]} if name in indices else {name}
    assert {p.name for p in tmp_path.iterdir()} == expected


def test_content_and_not_extension_decides(tmp_path: Path) -> None:
    table = messy(m=50)
    for written, called in (("x.vcf", "y.vcf.gz"), ("x.vcf.gz", "y.vcf"), ("x.bcf", "z.vcf")):
        write_vcf(table, tmp_path / written)
        (tmp_path / written).rename(tmp_path / called)
        same(read_variants(tmp_path / called, max_missing=0.5)[0], table)
    text = tmp_path / "t.vcf"
    write_vcf(table, text)
    same(read_variants(write(tmp_path, gzip.compress(text.read_bytes()), "plain.gz"), max_missing=0.5)[0], table)


def test_threads_and_chunks_change_no_byte(tmp_path: Path) -> None:
    table = messy()
    write_vcf(table, tmp_path / "a.vcf.gz")
    write_vcf(table, tmp_path / "b.vcf.gz", threads=2)
    with VcfWriter(tmp_path / "c.vcf.gz", list(table.samples.index), contigs=("22",)) as writer:
        for start in range(0, table.n_variants, 61):
            writer.write(table.select(variants=slice(start, start + 61)))
    first = (tmp_path / "a.vcf.gz").read_bytes()
    assert first == (tmp_path / "b.vcf.gz").read_bytes() == (tmp_path / "c.vcf.gz").read_bytes()
    assert (tmp_path / "a.vcf.gz.tbi").exists()


@needs_bcftools
@pytest.mark.parametrize("name", ["x.vcf", "x.vcf.gz", "x.bcf"])
def test_bcftools_reads_what_we_write(tmp_path: Path, name: str) -> None:
    table = messy()
    path = tmp_path / name
    write_vcf(table, path, source="a test")
    assert bcftools("query", "-l", path).split() == list(table.samples.index)
    lines = bcftools("query", "-f", "%CHROM %POS %ID %REF %ALT %AC %AN[ %GT]\n", path).splitlines()
    assert len(lines) == table.n_variants
    alt, called = (table.haplotypes == 1).sum(axis=(0, 2)), (table.haplotypes >= 0).sum(axis=(0, 2))
    assert table.phased is not None
    for j, line in enumerate(lines):
        site = table.sites.iloc[j]
        calls = [
            ("|" if table.phased[i, j] else "/").join(".01"[a + 1] for a in table.haplotypes[i, j])
            for i in range(table.n_samples)
        ]
        head = [
            site["contig"],
            str(site["position"]),
            site["id"],
            site["ref"],
            site["alt"],
            str(alt[j]),
            str(called[j]),
        ]
        fields = line.split(" ")
        assert fields[:7] == head
        # BCF keeps no phase in front of the first allele of a missing call: compare alleles there.
        assert [f for f, c in zip(fields[7:], calls, strict=True) if f != c and "." not in c] == []
    assert "##source=a test" in bcftools("view", "-h", path)
    if name != "x.vcf":
        middle = table.sites["position"].iloc[[100, 199]].tolist()
        region = f"22:{middle[0]}-{middle[1]}"
        assert bcftools("view", "-H", "-r", region, path).count("\n") == 100


@needs_bcftools
def test_we_read_what_bcftools_writes(tmp_path: Path) -> None:
    table = messy()
    write_vcf(table, tmp_path / "x.vcf")
    for kind, name in (("z", "y.vcf.gz"), ("b", "y.bcf"), ("v", "y.vcf")):
        bcftools("view", f"-O{kind}", "-o", tmp_path / name, tmp_path / "x.vcf")
        same(read_variants(tmp_path / name, max_missing=0.5)[0], table)


def test_scikit_allel_agrees(tmp_path: Path) -> None:
    table = messy()
    write_vcf(table, tmp_path / "x.vcf.gz")
    other = allel.read_vcf(str(tmp_path / "x.vcf.gz"), fields=["calldata/GT", "variants/*", "samples"])
    np.testing.assert_array_equal(other["calldata/GT"].transpose(1, 0, 2), table.haplotypes)
    np.testing.assert_array_equal(other["variants/POS"], table.sites["position"])
    np.testing.assert_allclose(other["variants/AF"][:, 0], table.allele_frequency(), rtol=1e-5)
    assert other["samples"].tolist() == list(table.samples.index)


def test_retained_records_hold_no_garbage(tmp_path: Path) -> None:
    """``gt_types`` kept beyond its record is freed memory; what the reader keeps of many records must stay right."""
    result = simulate_ld_blocks(300, 1500, phased=True, maf_range=(0.2, 0.5), seed=8)
    path = tmp_path / "x.vcf.gz"
    write_vcf(result.table, path)
    tables = [read_variants(path)[0] for _ in range(3)]
    for table in tables:
        np.testing.assert_array_equal(table.haplotypes, result.table.haplotypes)
    copied = np.stack([np.array(v.gt_types) for v in cyvcf2.VCF(str(path), gts012=True)])
    np.testing.assert_array_equal(copied.T, tables[0].dosage())
    source = (Path(__file__).parents[2] / "data_prep" / "vcf.py").read_text()
    assert ".gt_types" not in source.replace("``Variant.gt_types``", "")


calls = st.tuples(st.sampled_from([(0, 0), (0, 1), (1, 0), (1, 1), (-1, -1)]), st.booleans())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.data(),
    n=st.integers(1, 6),
    m=st.integers(1, 12),
    kind=st.sampled_from(["vcf", "vcf.gz", "bcf"]),
)
def test_any_table_survives(tmp_path: Path, data: st.DataObject, n: int, m: int, kind: str) -> None:
    drawn = data.draw(st.lists(st.lists(calls, min_size=m, max_size=m), min_size=n, max_size=n))
    position = data.draw(st.lists(st.integers(1, 2**29 + 50), min_size=m, max_size=m, unique=True).map(sorted))
    alleles = st.text("ACGTN", min_size=1, max_size=4)
    table = make_table(
        [[call for call, _ in row] for row in drawn], phased=[[p for _, p in row] for row in drawn], position=position
    )
    sites = table.sites.assign(
        ref=data.draw(st.lists(alleles, min_size=m, max_size=m)),
        alt=data.draw(st.lists(alleles, min_size=m, max_size=m)),
    )
    table = VariantTable(table.haplotypes, sites, table.samples, table.phased)
    path = tmp_path / f"x.{kind}"
    write_vcf(table, path)
    alt = (table.haplotypes == 1).sum(axis=(0, 2))
    polymorphic = (alt > 0) & (alt < (table.haplotypes >= 0).sum(axis=(0, 2)))
    if polymorphic.any():
        same(read_variants(path, max_missing=1.0)[0], table.select(variants=polymorphic))
    else:
        with pytest.raises(InputError, match="no site is left"):
            read_variants(path, max_missing=1.0)


@pytest.mark.parametrize("name", ["x.vcf", "x.vcf.gz", "x.bcf"])
@pytest.mark.parametrize("spelling", ["22", "chr22"])
def test_regions(tmp_path: Path, name: str, spelling: str) -> None:
    table = messy()
    one, two = (table.select(variants=slice(0, 200)), table.select(variants=slice(200, 400)))
    both = VariantTable(
        table.haplotypes,
        pd.concat([one.sites.assign(contig="chr21"), two.sites.assign(contig="chr22")]),
        table.samples,
        table.phased,
    )
    path = tmp_path / name
    write_vcf(both, path)
    position = two.sites["position"]
    cases = {
        spelling: 200,
        f"{spelling}:{position[50]}-{position[60]}": 11,
        f"{spelling}:{position[50]:,}-": 150,
        f"{spelling}:{position[7]}": 1,
        f"{spelling}:1-999999999": 200,
    }
    for indexed in (True, False):
        for region, count in cases.items():
            read, report = read_variants(path, region=region, max_missing=0.5)
            assert (read.n_variants, report.n_records) == (count, count)
            assert set(read.sites["contig"]) == {"chr22"}
        if not indexed:
            break
        for index in tmp_path.glob("x.*.*i"):
            index.unlink()
    with pytest.raises(InputError, match="several contigs"):
        read_variants(path)


def test_a_stale_index_is_not_believed(tmp_path: Path) -> None:
    path, index = tmp_path / "x.vcf.gz", tmp_path / "x.vcf.gz.tbi"
    write_vcf(messy(m=100), path)
    old = index.read_bytes()
    table = messy(seed=2)
    write_vcf(table, path)
    index.write_bytes(old)  # newer than the file by its date, yet of another file
    region = f"22:{table.sites['position'][300]}-"
    try:
        assert read_variants(path, region=region, max_missing=0.5)[1].kept == 100
    except InputError as error:
        assert str(path) in str(error)  # noqa: PT017
    index.write_bytes(b"no index")
    assert read_variants(path, region=region, max_missing=0.5)[1].kept == 100


def test_chosen_samples_in_their_order(tmp_path: Path) -> None:
    table = messy()
    write_vcf(table, tmp_path / "x.vcf.gz")
    read, _ = read_variants(tmp_path / "x.vcf.gz", samples=["P9", "P0", "P1"], max_missing=0.5)
    assert list(read.samples.index) == ["P9", "P0", "P1"]
    at = np.searchsorted(table.sites["position"], read.sites["position"])
    np.testing.assert_array_equal(read.haplotypes, table.haplotypes[[9, 0, 1]][:, at])
    np.testing.assert_array_equal(read.unphased_het, table.unphased_het[[9, 0, 1]][:, at])


def test_extra_fields_windows_lines_and_no_last_line_end(tmp_path: Path) -> None:
    text = (
        header()
        + record(10, "0|1:3 0/1:. 1|1:5 .:.", keys="GT:DP")
        + record(20, "2:0|1 3:0|1 .:.|. 4:1|1", keys="DP:GT")
    )
    table, report = read_variants(write(tmp_path, text.rstrip("\n")), max_missing=0.5)
    np.testing.assert_array_equal(table.dosage().T, [[1, 1, 2, -1], [1, 1, -1, 2]])
    assert (report.missing_calls, report.unphased_het_calls) == (2, 1)


def test_progress_bar_goes_to_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_vcf(messy(m=60), tmp_path / "x.vcf.gz")
    read_variants(tmp_path / "x.vcf.gz", max_missing=0.5, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "read" in err


def test_failed_writing_leaves_nothing(tmp_path: Path) -> None:
    table = messy(m=30)
    with pytest.raises(OutputError, match="cannot be written"):
        write_vcf(table, tmp_path / "absent" / "x.vcf.gz")
    path = tmp_path / "x.vcf.gz"
    path.write_bytes(b"before")
    writer = VcfWriter(path, list(table.samples.index), contigs=("22",))
    writer.write(table)
    writer.__exit__(RuntimeError, RuntimeError(), None)
    bad = VariantTable(table.haplotypes, table.sites.assign(id="a\tb"), table.samples)
    with pytest.raises(ValueError, match="cannot be written to a VCF"):
        write_vcf(bad, path)
    assert path.read_bytes() == b"before"
    assert [p.name for p in tmp_path.iterdir()] == ["x.vcf.gz"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is absent")
def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = messy()
    real_open = Path.open
    monkeypatch.setattr(
        Path, "open", lambda self, mode="r": real_open(Path("/dev/full") if "w" in mode else self, mode)
    )
    with pytest.raises(OutputError, match="No space left"):
        write_vcf(table, tmp_path / "x.vcf")
    assert list(tmp_path.iterdir()) == []


def test_writer_refuses_what_does_not_fit(tmp_path: Path) -> None:
    table = messy(m=30)
    names = list(table.samples.index)
    with VcfWriter(tmp_path / "x.vcf", names, contigs=("22",)) as writer:
        writer.write(table)
        with pytest.raises(ValueError, match="lies before"):
            writer.write(table)
        with pytest.raises(ValueError, match="people"):
            writer.write(table.select(samples=slice(1, 5)))
        with pytest.raises(ValueError, match="not in the header"):
            writer.write(VariantTable(table.haplotypes, table.sites.assign(contig="5"), table.samples))


def test_positions_beyond_tabix_get_a_csi_index(tmp_path: Path) -> None:
    table = make_table([[[0, 1], [1, 0]]], position=[5, 2**29 + 7])
    path = tmp_path / "x.vcf.gz"
    write_vcf(make_table([[[0, 1], [1, 0]]]), path)
    write_vcf(table, path)
    assert {p.name for p in tmp_path.iterdir()} == {"x.vcf.gz", "x.vcf.gz.csi"}
    same(read_variants(path, region="22:6-")[0], table.select(variants=[1]))
