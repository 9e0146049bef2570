"""Every format comes back as it went out, and reads what the reference programs write and the other way round."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_prep import InputError, OutputError, VariantTable
from data_prep.alleles import AlleleRules
from data_prep.readers import open_source, read_chunks, read_variants
from data_prep.writers import open_writer, write_variants
from tests.data_prep.formats import OUTPUTS, SINGLE, assert_same, needs, program, read, tables
from tests.data_prep.helpers import make_table

FEW = settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@pytest.fixture
def table() -> VariantTable:
    """Nine people at 300 sites with missing calls and some unphased ones."""
    rng = np.random.default_rng(3)
    h = (rng.random((9, 300, 2)) < rng.random((1, 300, 1))).astype(np.int8)
    h[rng.random((9, 300)) < 0.05] = -1
    return make_table(h, phased=rng.random((9, 300)) < 0.8)


@pytest.fixture
def whole(table: VariantTable) -> VariantTable:
    """The same, with every call there and phased."""
    return make_table(np.abs(table.haplotypes))


@pytest.mark.parametrize("ending", OUTPUTS)
def test_what_is_written_is_read(ending: str) -> None:
    needs(ending)
    few = settings(FEW, max_examples=3) if ending.endswith("zarr") or ending in (".vcz", ".h5ad") else FEW

    @few
    @given(tables())
    def check(wanted: VariantTable) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"x{ending}"
            write_variants(wanted, path)
            assert_same(read(path), wanted, phase=ending != ".bed")

    check()


@pytest.mark.parametrize("ending", OUTPUTS)
def test_chunks_make_the_same_file_as_the_table(ending: str, tmp_path: Path, table: VariantTable) -> None:
    """PLINK 2 is written without knowing the number of variants; the chunks of VCF-Zarr do not fit its own."""
    needs(ending)
    path = tmp_path / f"x{ending}"
    names = [str(name) for name in table.samples.index]
    with open_writer(path, names, contigs=("22",)) as writer:
        for start in range(0, 300, 70):
            writer.write(table.select(variants=slice(start, start + 70)))
    assert_same(read(path), table, phase=ending != ".bed")
    assert not [p.name for p in tmp_path.iterdir() if p.name.startswith(".")]


@pytest.mark.parametrize("ending", OUTPUTS)
def test_region_and_people_are_chosen_alike(ending: str, tmp_path: Path, table: VariantTable) -> None:
    needs(ending)
    path = tmp_path / f"x{ending}"
    write_variants(table, path)
    wanted = table.select(variants=slice(9, 20), samples=[4, 2])
    assert_same(read(path, region="chr22:100-200", samples=["P4", "P2"]), wanted, phase=ending != ".bed")
    with pytest.raises(InputError, match=r"has no (contig '7'|record in region 7)"):
        read(path, region="7")
    with pytest.raises(InputError, match="lacks 1 of 2 requested samples, the first is 'Q'"):
        read(path, samples=["P4", "Q"])


@pytest.mark.parametrize("ending", SINGLE)
def test_several_contigs_need_a_region(ending: str, tmp_path: Path, table: VariantTable) -> None:
    needs(ending)
    two = VariantTable(
        haplotypes=table.haplotypes,
        sites=table.sites.assign(contig=["21"] * 100 + ["22"] * 200),
        samples=table.samples,
        phased=table.phased,
    )
    path = tmp_path / f"x{ending}"
    write_variants(two, path)
    with pytest.raises(InputError, match=r"holds several contigs \(21, 22"):
        read(path)
    assert read(path, region="21").n_variants == 100


@pytest.mark.parametrize("ending", SINGLE)
def test_a_failed_writer_leaves_what_was_there(ending: str, tmp_path: Path, table: VariantTable) -> None:
    needs(ending)
    path = tmp_path / f"x{ending}"
    write_variants(table, path)
    before = {p: p.read_bytes() for p in sorted(tmp_path.rglob("*")) if p.is_file()}
    writer = open_writer(path, [str(n) for n in table.samples.index], contigs=("22",))
    with pytest.raises(ValueError, match="the people of the chunk"), writer:  # noqa: PT012 - the block is what fails
        writer.write(table.select(variants=slice(0, 5)))
        writer.write(table.select(samples=[0]))
    assert {p: p.read_bytes() for p in sorted(tmp_path.rglob("*")) if p.is_file()} == before


def test_bed_says_what_it_loses(tmp_path: Path, table: VariantTable) -> None:
    het = (table.dosage() == 1) & ~table.unphased_het
    assert write_variants(table, tmp_path / "x.bed") == [
        f"PLINK 1 holds no phase: {het.sum():,} heterozygous calls are written without theirs"
    ]
    assert write_variants(make_table(np.ones((2, 3, 2))), tmp_path / "y.bed") == []


# ---- reference programs


def test_plink2_exports_the_vcf_we_write(tmp_path: Path, table: VariantTable) -> None:
    needs(".pgen")
    write_variants(table, tmp_path / "x.pgen")
    program("plink2", "--pfile", "x", "--export", "vcf", "--out", "theirs", cwd=tmp_path)
    assert_same(read(tmp_path / "theirs.vcf"), table)


@FEW
@given(wanted=tables())
def test_plink2_and_we_make_the_same_pgen_of_a_vcf(wanted: VariantTable) -> None:
    needs(".pgen")
    with tempfile.TemporaryDirectory() as folder:
        write_variants(wanted, Path(folder) / "x.vcf")
        options = ("--vcf", "x.vcf", "--allow-extra-chr", "--output-chr", "chr26", "--make-pgen", "--out", "theirs")
        program("plink2", *options, cwd=Path(folder))
        found = read(Path(folder) / "theirs.pgen")
        # PLINK names contigs in its own way, chr22 or 22.
        like = wanted.sites["contig"].iloc[0]
        assert_same(
            VariantTable(found.haplotypes, found.sites.assign(contig=like), found.samples, found.phased), wanted
        )


@pytest.mark.parametrize("name", ["plink1.9", "plink2"])
def test_plink_reads_our_bed_and_we_read_theirs(name: str, tmp_path: Path, table: VariantTable) -> None:
    needs(".bed")
    write_variants(table, tmp_path / "x.bed")
    kept = ("--keep-allele-order",) if name == "plink1.9" else ()
    export = ("--recode", "vcf-iid") if name == "plink1.9" else ("--export", "vcf")
    program(name, "--bfile", "x", *kept, *export, "--out", "theirs", cwd=tmp_path)
    assert_same(read(tmp_path / "theirs.vcf"), table, phase=False)
    program(name, "--bfile", "x", *kept, "--make-bed", "--out", "back", cwd=tmp_path)
    assert_same(read(tmp_path / "back.bed"), table, phase=False)
    assert (tmp_path / "back.bed").read_bytes() == (tmp_path / "x.bed").read_bytes()


def test_plink2_and_bcftools_read_our_haps_and_we_read_theirs(tmp_path: Path, whole: VariantTable) -> None:
    needs(".pgen")
    write_variants(whole, tmp_path / "x.haps")
    program(
        "plink2", "--haps", "x.haps", "ref-first", "--sample", "x.sample", "--make-pgen", "--out", "p", cwd=tmp_path
    )
    assert_same(read(tmp_path / "p.pgen"), whole)
    program("plink2", "--pfile", "p", "--export", "haps", "ref-first", "--out", "theirs", cwd=tmp_path)
    assert_same(read(tmp_path / "theirs.haps"), whole)


def test_bcftools_hapsample_is_read_with_missing_and_unphased_calls(tmp_path: Path, table: VariantTable) -> None:
    write_variants(table, tmp_path / "x.vcf.gz")
    program("bcftools", "convert", "--hapsample", "theirs", "--vcf-ids", "x.vcf.gz", cwd=tmp_path)
    assert_same(read(tmp_path / "theirs.hap.gz"), table, ids=False)


def test_bcftools_reads_our_haps(tmp_path: Path, whole: VariantTable) -> None:
    named = whole.sites.assign(id=[f"22:{p}_A_G" for p in whole.sites["position"]])
    write_variants(VariantTable(whole.haplotypes, named, whole.samples), tmp_path / "x.haps")
    program("bcftools", "convert", "--hapsample2vcf", "x.haps,x.sample", "-o", "theirs.vcf", cwd=tmp_path)
    assert_same(read(tmp_path / "theirs.vcf"), whole, ids=False)


def test_bcftools_and_we_make_the_same_bcf(tmp_path: Path, table: VariantTable) -> None:
    write_variants(table, tmp_path / "x.vcf.gz")
    program("bcftools", "view", "-Ob", "-o", "theirs.bcf", "x.vcf.gz", cwd=tmp_path)
    write_variants(table, tmp_path / "ours.bcf")
    query = ("query", "-f", "%CHROM %POS %ID %REF %ALT[ %GT]\\n")
    ours, theirs, text = (program("bcftools", *query, f, cwd=tmp_path) for f in ("ours.bcf", "theirs.bcf", "x.vcf.gz"))
    assert ours == theirs == text
    assert_same(read(tmp_path / "theirs.bcf"), table)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.filterwarnings("ignore")  # those of the other program
def test_a_store_of_bio2zarr_is_read(tmp_path: Path, table: VariantTable, zarr_format: int) -> None:
    vcf2zarr = pytest.importorskip("bio2zarr.vcf", reason="stores are made by bio2zarr")
    write_variants(table, tmp_path / "x.vcf.gz")
    vcf2zarr.convert([tmp_path / "x.vcf.gz"], tmp_path / "x.vcz", worker_processes=0, zarr_format=zarr_format)
    assert_same(read(tmp_path / "x.vcz"), table)


@pytest.mark.filterwarnings("ignore")
def test_our_store_has_the_arrays_of_bio2zarr(tmp_path: Path, table: VariantTable) -> None:
    vcf2zarr = pytest.importorskip("bio2zarr.vcf", reason="stores are made by bio2zarr")
    import zarr

    write_variants(table, tmp_path / "x.vcf.gz")
    write_variants(table, tmp_path / "ours.vcz")
    vcf2zarr.convert([tmp_path / "x.vcf.gz"], tmp_path / "theirs.vcz", worker_processes=0)
    ours, theirs = (zarr.open_group(tmp_path / name, mode="r") for name in ("ours.vcz", "theirs.vcz"))
    for name, array in ours.arrays():
        other = theirs[name]
        assert array.attrs["_ARRAY_DIMENSIONS"] == other.attrs["_ARRAY_DIMENSIONS"], name
        assert array.shape == other.shape, name
        if name != "variant_quality":
            np.testing.assert_array_equal(np.asarray(array[...]), np.asarray(other[...]), err_msg=name)
    quality = [np.asarray(g["variant_quality"][...]).view(np.uint32) for g in (ours, theirs)]
    np.testing.assert_array_equal(*quality)


def test_an_older_store_keeps_its_contigs_as_an_attribute(tmp_path: Path, table: VariantTable) -> None:
    """sgkit did so before contig_id was an array; it may lack the phase too."""
    needs(".vcz")
    import zarr

    write_variants(table, tmp_path / "x.vcz")
    store = zarr.open_group(tmp_path / "x.vcz", mode="a")
    for name in ("contig_id", "call_genotype_phased"):
        del store[name]
    store.attrs["contigs"] = ["22"]
    assert_same(read(tmp_path / "x.vcz"), table, phase=False)


def test_anndata_reads_what_we_write(tmp_path: Path, table: VariantTable) -> None:
    import anndata

    write_variants(table.with_labels(["EUR"] * 9), tmp_path / "x.h5ad")
    data = anndata.read_h5ad(tmp_path / "x.h5ad")
    np.testing.assert_array_equal(np.asarray(data.X), table.dosage())
    assert list(data.obs["label"]) == ["EUR"] * 9


# ---- what the formats say of people and sites


def test_people_of_one_iid_are_called_by_family_too(tmp_path: Path) -> None:
    needs(".bed")
    write_variants(make_table(np.zeros((3, 2, 2))), tmp_path / "x.bed")
    (tmp_path / "x.fam").write_text("F1 1 0 0 1 -9\nF1 2 0 0 2 -9\nF2 1 0 0 2 -9\n")
    assert open_source(tmp_path / "x.bed").samples == ["F1_1", "F1_2", "F2_1"]
    (tmp_path / "x.fam").write_text("F1 1 0 0 1 -9\nF1 2 0 0 2 -9\nF2 3 0 0 2 -9\n")
    assert open_source(tmp_path / "x.bed").samples == ["1", "2", "3"]


def test_psam_and_pvar_come_in_several_shapes(tmp_path: Path) -> None:
    needs(".pgen")
    wanted = make_table([[[0, 1], [1, 1]], [[1, 0], [0, 0]]])
    write_variants(wanted, tmp_path / "x.pgen")
    psam, pvar = tmp_path / "x.psam", tmp_path / "x.pvar"
    for text in ("#FID\tIID\tSEX\tpop\n1\tP0\t1\tGBR\n2\tP1\t2\tFIN\n", "1 P0 0 0 1 -9\n2 P1 0 0 2 -9\n"):
        psam.write_text(text)
        assert open_source(tmp_path / "x.pgen").samples == ["P0", "P1"]
    pvar.write_text("22 rs0 0 10 G A\n22 rs1 0 20 G A\n")  # without a header: as a .bim
    assert_same(read(tmp_path / "x.pgen"), wanted)


def test_multiallelic_and_symbolic_sites_are_counted_and_left_out(tmp_path: Path) -> None:
    needs(".pgen")
    lines = [
        "##fileformat=VCFv4.2",
        "##contig=<ID=22>",
        '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">',
        "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tA\tB",
        *(f"22\t{p}\t.\tA\t{alt}\t.\t.\t.\tGT\t{calls}" for p, alt, calls in
          [(1, "C", "0|1\t1|1"), (2, "C,G", "1|2\t0|0"), (3, "<*>", "0|1\t0|0"), (4, "T", "1|0\t0/1")]),
    ]  # fmt: skip
    (tmp_path / "x.vcf").write_text("\n".join(lines) + "\n")
    program("plink2", "--vcf", "x.vcf", "--make-pgen", "--out", "x", cwd=tmp_path)
    plain, report = read_variants(tmp_path / "x.vcf", maf=None)
    found, same = read_variants(tmp_path / "x.pgen", maf=None)
    assert_same(found, plain)
    assert report.removed == same.removed == {"multi-allelic": 1, "symbolic-allele": 1}
    split = AlleleRules("split")
    found, plain = (read_variants(tmp_path / name, maf=None, rules=split)[0] for name in ("x.pgen", "x.vcf"))
    assert plain.sites["alt"].tolist() == ["C", "C", "G", "T"]
    assert np.array_equal(found.haplotypes, plain.haplotypes)
    assert found.sites["alt"].tolist() == plain.sites["alt"].tolist()


@pytest.mark.parametrize("ending", [".bed", ".pgen", ".haps"])
def test_names_with_blanks_are_refused(ending: str, tmp_path: Path) -> None:
    needs(ending)
    table = make_table(np.zeros((2, 2, 2)))
    named = VariantTable(table.haplotypes, table.sites, pd.DataFrame(index=["a b", "c"]))
    with pytest.raises(OutputError, match=r"sample name 'a b' cannot be written to .*without blanks"):
        write_variants(named, tmp_path / f"x{ending}")
    assert not list(tmp_path.iterdir())


def test_unsorted_records_do_not_stream(tmp_path: Path) -> None:
    needs(".bed")
    write_variants(make_table(np.zeros((2, 3, 2))), tmp_path / "x.bed")
    (tmp_path / "x.bim").write_text("22 a 0 10 A C\n22 b 0 30 A C\n22 c 0 20 A C\n")
    with pytest.raises(InputError, match="22:20 lies before the record it follows"):
        list(read_chunks(tmp_path / "x.bed")[2])


@given(st.integers(1, 9))
@FEW
def test_bits_of_a_bed_fill_whole_bytes(n: int) -> None:
    needs(".bed")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.bed"
        write_variants(make_table(np.ones((n, 2, 2))), path)
        assert path.stat().st_size == 3 + 2 * -(-n // 4)
        assert (read(path).dosage() == 2).all()
