"""Damaged files, files that do not belong together, and libraries that are absent: one line that says what to do."""

from __future__ import annotations

import errno
import importlib
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data_prep import InputError, VariantTable
from data_prep.readers import open_source
from data_prep.writers import FilesWriter, write_variants
from genodiff.loading import DataOptions, hash_inputs, load_data
from genodiff.provenance import Provenance
from tests.commands import EXAMPLE, refused, run, tree
from tests.data_prep.formats import SINGLE, assert_same, needs, read
from tests.data_prep.helpers import header, make_table, record, write


@pytest.fixture
def table() -> VariantTable:
    """Five people at 40 sites."""
    rng = np.random.default_rng(1)
    return make_table((rng.random((5, 40, 2)) < 0.5).astype(np.int8))


def spoiled(path: Path, *words: str) -> None:
    """The file must be refused by the library and, in one line and with status 2, by the command."""
    with pytest.raises(InputError) as error:
        read(path)
    for word in words:
        assert word in str(error.value), str(error.value)
    refused(path.parent, "convert", path, "-o", path.parent / "out.vcf.gz", words=words)


def test_a_bed_cut_short(tmp_path: Path, table: VariantTable) -> None:
    needs(".bed")
    write_variants(table, tmp_path / "x.bed")
    whole = (tmp_path / "x.bed").read_bytes()
    (tmp_path / "x.bed").write_bytes(whole[:-1])
    spoiled(tmp_path / "x.bed", "x.bed is truncated: 82 bytes", "5 people of x.fam", "40 sites", "take 83")
    (tmp_path / "x.bed").write_bytes(whole + b"\0")
    spoiled(tmp_path / "x.bed", "x.bed is too long: 84 bytes")


@pytest.mark.parametrize("ending", [".bim", ".fam"])
def test_a_bed_alone(ending: str, tmp_path: Path, table: VariantTable) -> None:
    needs(".bed")
    write_variants(table, tmp_path / "x.bed")
    (tmp_path / f"x{ending}").unlink()
    spoiled(tmp_path / "x.bed", f"x{ending} does not exist")


def test_another_magic(tmp_path: Path, table: VariantTable) -> None:
    needs(".bed"), needs(".pgen")
    write_variants(table, tmp_path / "x.bed")
    whole = (tmp_path / "x.bed").read_bytes()
    (tmp_path / "x.bed").write_bytes(b"chr" + whole[3:])
    spoiled(tmp_path / "x.bed", "is no PLINK 1 .bed: it must start with the bytes 6c 1b 01")
    (tmp_path / "x.bed").write_bytes(b"\x6c\x1b\x00" + whole[3:])
    spoiled(tmp_path / "x.bed", "has one person after the other")
    write_variants(table, tmp_path / "y.pgen")
    (tmp_path / "y.pgen").write_bytes(b"##fileformat=VCF")
    spoiled(tmp_path / "y.pgen", "is no PLINK 2 .pgen: it must start with the bytes 6c 1b")


@pytest.mark.parametrize(("ending", "what", "here"), [(".pvar", "sites", "39"), (".psam", "people", "4")])
def test_a_pgen_of_other_files(ending: str, what: str, here: str, tmp_path: Path, table: VariantTable) -> None:
    needs(".pgen")
    write_variants(table, tmp_path / "x.pgen")
    beside = tmp_path / f"x{ending}"
    beside.write_text("".join(beside.read_text().splitlines(keepends=True)[:-1]))
    there = {"sites": 40, "people": 5}[what]
    spoiled(tmp_path / "x.pgen", f"holds {there} {what} but x{ending} lists {here}: the files do not belong together")


def test_a_pgen_cut_short(tmp_path: Path, table: VariantTable) -> None:
    needs(".pgen")
    write_variants(table, tmp_path / "x.pgen")
    whole = (tmp_path / "x.pgen").read_bytes()
    for size in (5, 20, len(whole) // 2, len(whole) - 3):
        (tmp_path / "x.pgen").write_bytes(whole[:size])
        spoiled(tmp_path / "x.pgen", "x.pgen")


@pytest.mark.parametrize(
    ("name", "line", "words"),
    [
        ("x.bim", "22 rs0 0 ten G A", ("x.bim, line 1: the position 'ten' is no whole number",)),
        ("x.bim", "22 rs0 0 10 G", ("x.bim, line 1: 5 columns where 6 belong",)),
        ("y.pvar", "#CHROM POS ID REF", ("y.pvar: its column line lacks ALT",)),
        ("y.psam", "#FID SEX", ("y.psam: its column line has no IID",)),
        ("z.sample", "name sex", ("z.sample is no Oxford .sample",)),
        ("z.haps", "22 rs0 10 A G 0 1", ("z.haps, line 1: 2 alleles where 10 alleles belong",)),
        ("z.haps", "22 rs0 10 A G 0 1 2 0 1 1 0 0 1 1", ("line 1: something that is neither 0, 1 nor ?",)),
        ("z.haps", "22 rs0 ten A G 0 1", ("z.haps, line 1 is malformed",)),
    ],
)
def test_a_malformed_line(name: str, line: str, words: tuple[str, ...], tmp_path: Path, table: VariantTable) -> None:
    main = {"x": "x.bed", "y": "y.pgen", "z": "z.haps"}[name[0]]
    needs(main[1:])
    write_variants(table, tmp_path / main)
    file = tmp_path / name
    text = file.read_text().splitlines()
    first = next(k for k, old in enumerate(text) if not old.startswith("##"))
    file.write_text("\n".join([*text[:first], line, *text[first + 1 :]]) + "\n")
    spoiled(tmp_path / main, *words)


def test_stores_that_lack_something(tmp_path: Path, table: VariantTable) -> None:
    needs(".vcz")
    for name in ("sample_id", "variant_position", "variant_allele"):
        write_variants(table, tmp_path / "x.vcz")
        shutil.rmtree(tmp_path / "x.vcz" / name)
        spoiled(tmp_path / "x.vcz", "x.vcz", name)
    write_variants(table.select(variants=slice(9)), tmp_path / "y.vcz")
    shutil.rmtree(tmp_path / "y.vcz" / "call_genotype")
    spoiled(tmp_path / "y.vcz", "neither VCF-Zarr (it has no call_genotype) nor AnnData")
    write_variants(table, tmp_path / "x.vcz")
    for chunk in (tmp_path / "x.vcz" / "call_genotype").iterdir():
        if not chunk.name.startswith("."):
            chunk.write_bytes(b"damaged")
    spoiled(tmp_path / "x.vcz", "x.vcz cannot be read as VCF-Zarr")


def test_anndata_without_haplotypes(tmp_path: Path, table: VariantTable) -> None:
    data = table.to_anndata()
    del data.layers["haplotype_1"]
    data.write_h5ad(tmp_path / "x.h5ad")
    spoiled(tmp_path / "x.h5ad", "x.h5ad: AnnData lacks the layers ['haplotype_1']")
    (tmp_path / "x.h5ad").write_bytes((tmp_path / "x.h5ad").read_bytes()[:300])
    spoiled(tmp_path / "x.h5ad", "x.h5ad is no AnnData that can be read")


@pytest.mark.parametrize(("name", "other"), [("x.bim", ".bed"), ("x.psam", ".pgen"), ("x.sample", ".haps")])
def test_the_wrong_one_of_several_files(name: str, other: str, tmp_path: Path) -> None:
    write(tmp_path, "something\n", name)
    with pytest.raises(InputError, match=f"{name} holds no genotypes: give the {other} it belongs to"):
        open_source(tmp_path / name)


@pytest.mark.parametrize(
    ("ending", "library", "extra"),
    [(".bed", "bed_reader", "plink"), (".pgen", "pgenlib", "plink"), (".vcz", "zarr", "zarr")],
)
def test_an_absent_library_is_named_with_its_extra(
    ending: str, library: str, extra: str, tmp_path: Path, table: VariantTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs(ending)
    write_variants(table, tmp_path / f"x{ending}")
    real = importlib.import_module

    def absent(name: str, package: str | None = None) -> object:
        if name == library:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", absent)
    line = f"needs the package {library}: pip install 'genodiff[{extra}]'"
    spoiled(tmp_path / f"x{ending}", line)
    if ending != ".bed":  # which is packed without it
        refused(tmp_path, "convert", EXAMPLE, "-o", tmp_path / f"y{ending}", words=[line])


# ---- the command


def test_convert_there_and_back(tmp_path: Path) -> None:
    needs(".pgen"), needs(".bed")
    people = tmp_path / "people.txt"
    everybody = open_source(EXAMPLE).samples
    people.write_text("\n".join(everybody[7:3:-1]) + "\n")
    said = run("convert", EXAMPLE, "-o", tmp_path / "x.pgen", "--region", "1:1-50000", "--samples", people, "--quiet")
    assert (said.exit_code, said.stderr) == (0, "")
    wanted = read(EXAMPLE, region="1:1-50000", samples=everybody[7:3:-1])
    assert said.stdout == f"4 people at {wanted.n_variants} sites: {tmp_path / 'x.pgen'}\n"
    assert_same(read(tmp_path / "x.pgen"), wanted)
    said = run("convert", tmp_path / "x.pgen", "-o", tmp_path / "x.bed", "--quiet")
    assert said.exit_code == 0
    assert said.stderr.startswith(f"{tmp_path / 'x.bed'}: PLINK 1 holds no phase: ")
    assert {"x.pgen", "x.pvar", "x.psam", "x.bed", "x.bim", "x.fam", "people.txt"} == tree(tmp_path)


def test_convert_says_what_it_leaves_out(tmp_path: Path) -> None:
    lines = [
        "##fileformat=VCFv4.2", "##contig=<ID=22>", '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">',
        "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tA\tB",
        "22\t5\t.\tA\tC\t.\t.\t.\tGT\t0|0\t0|0", "22\t6\t.\tA\tC,T\t.\t.\t.\tGT\t0|1\t0|2",
        "22\t6\t.\tA\tG\t.\t.\t.\tGT\t./.\t./.",
    ]  # fmt: skip
    path = write(tmp_path, "\n".join(lines) + "\n")
    said = run("convert", path, "-o", tmp_path / "y.haps", "--quiet")
    assert said.stderr == "removed 1 multi-allelic: more than one alternate allele\n"
    assert said.stdout.startswith("2 people at 2 sites")


def test_convert_refuses_what_would_be_lost(tmp_path: Path) -> None:
    needs(".bed")
    assert run("convert", EXAMPLE, "-o", tmp_path / "x.bed", "--quiet").exit_code == 0
    refused(tmp_path, "convert", EXAMPLE, "-o", tmp_path / "x.bed", words=["x.bed exists", "--force"])
    (tmp_path / "x.bed").rename(tmp_path / "y.bed")
    refused(tmp_path, "convert", EXAMPLE, "-o", tmp_path / "x.bed", words=["x.bim exists", "--force"])
    refused(tmp_path, "convert", tmp_path / "x.bed", "-o", tmp_path / "x.bed", "--force", words=["is read"])
    refused(tmp_path, "convert", EXAMPLE, "-o", tmp_path / "x.txt", words=["x.txt: the name must end in", ".pgen"])
    refused(tmp_path, "convert", tmp_path / "none.pgen", "-o", tmp_path / "z.bed", words=["none.pgen does not exist"])


@pytest.mark.parametrize("ending", [".vcz", ".zarr"])
def test_a_folder_is_replaced_whole(ending: str, tmp_path: Path, table: VariantTable) -> None:
    needs(ending)
    write_variants(table, tmp_path / "x.bed")
    write_variants(table, tmp_path / f"y{ending}")
    (tmp_path / f"y{ending}" / "left").write_text("over")
    refused(tmp_path, "convert", tmp_path / "x.bed", "-o", tmp_path / f"y{ending}", words=["exists"])
    assert run("convert", tmp_path / "x.bed", "-o", tmp_path / f"y{ending}", "--force", "--quiet").exit_code == 0
    assert not (tmp_path / f"y{ending}" / "left").exists()
    np.testing.assert_array_equal(read(tmp_path / f"y{ending}").dosage(), table.dosage())


def test_sample_and_simulate_write_any_format(tmp_path: Path) -> None:
    needs(".pgen"), needs(".bed")
    options = ("--people", 30, "--sites", 50, "--phased")
    said = run("simulate", "ld-blocks", *options, "-o", tmp_path / "s.pgen")
    assert (said.exit_code, said.stderr) == (0, "")
    assert tree(tmp_path) == {"s.pgen", "s.pvar", "s.psam"}
    said = run("simulate", "ld-blocks", *options, "-o", tmp_path / "s.bed")
    assert "PLINK 1 holds no phase" in said.stderr
    assert run("inspect", tmp_path / "s.pgen").stdout.startswith("people ")
    np.testing.assert_array_equal(read(tmp_path / "s.pgen").dosage(), read(tmp_path / "s.bed").dosage())


def test_people_are_learned_from_any_format(tmp_path: Path) -> None:
    """What a fit sees, and what its record names, of a .pgen is what it is of the VCF."""
    needs(".pgen")
    assert run("convert", EXAMPLE, "-o", tmp_path / "x.pgen", "--quiet").exit_code == 0
    ours, theirs = (load_data(DataOptions(path), progress=False) for path in (tmp_path / "x.pgen", EXAMPLE))
    for found, wanted in ((ours.train, theirs.train), (ours.holdout, theirs.holdout)):
        assert found is not None
        assert wanted is not None
        assert_same(found, wanted)
    assert ours.filters.removed == theirs.filters.removed
    record = Provenance(seed=1, configuration={})
    hash_inputs(record, {"genotypes": tmp_path / "x.pgen"})
    assert set(record.to_dict()["inputs"]) == {str(tmp_path / f"x.{e}") for e in ("pgen", "pvar", "psam")}


@pytest.mark.parametrize("ending", [".bed", ".vcz"])
def test_a_disk_that_is_full_leaves_nothing(
    ending: str, tmp_path: Path, table: VariantTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder that is written to is not named, but the output that was asked for."""
    needs(ending)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(FilesWriter, "_publish", full)
    words = [f"{tmp_path / 'y'}{ending} cannot be written (No space left on device)"]
    refused(tmp_path, "convert", EXAMPLE, "-o", tmp_path / f"y{ending}", words=words)


def test_pipes_are_neither_read_nor_written(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in ("-", pipe, "/dev/null"):
        words = [path, "is a pipe or device, which is not read", "to disk"]
        refused(tmp_path, "convert", path, "-o", tmp_path / "y.vcf", words=words)
    words = [pipe, "is a pipe or device, which is not read", "the sample list"]
    refused(tmp_path, "convert", EXAMPLE, "-o", tmp_path / "y.vcf", "--samples", pipe, words=words)
    for path in ("-", pipe, "/dev/null"):
        words = [path, "is a pipe or device, which is not written to", "name a file"]
        refused(tmp_path, "convert", EXAMPLE, "-o", path, words=words)


def test_a_folder_without_metadata_is_no_store(tmp_path: Path) -> None:
    for name, kind in (("x.vcz", "VCF-Zarr"), ("x.vcf.zarr", "VCF-Zarr"), ("x.zarr", "AnnData")):
        (tmp_path / name).mkdir()
        for command in (("convert", tmp_path / name, "-o", tmp_path / "y.vcf"), ("inspect", tmp_path / name)):
            refused(tmp_path, *command, words=[name, f"is no {kind} store", "zarr.json"])


def test_a_position_beyond_its_contig_is_named(tmp_path: Path) -> None:
    """The index of a BCF is made for the length in the header."""
    text = header().replace("<ID=22>", "<ID=22,length=1000>") + record(999, "0|1 0|0 0|0 0|0")
    path = write(tmp_path, text + record(90_000_000, "0|1 0|0 0|0 0|0"))
    words = ["y.bcf cannot be indexed", "22:90000000 lies beyond the 1,000 bp", "##contig", ".vcf.gz"]
    refused(tmp_path, "convert", path, "-o", tmp_path / "y.bcf", words=words)
    assert run("convert", path, "-o", tmp_path / "y.vcf.gz", "--quiet").exit_code == 0


@pytest.mark.parametrize("ending", SINGLE)
def test_records_are_counted_by_contig(ending: str, tmp_path: Path) -> None:
    needs(ending)
    table = make_table(np.zeros((2, 5, 2)))
    sites = table.sites.assign(contig=["21", "21", "22", "22", "22"])
    write_variants(replace(table, sites=sites), tmp_path / f"x{ending}")
    said = run("inspect", tmp_path / f"x{ending}").stdout
    assert "contig 21  2 records\ncontig 22  3 records\nmore       with --region, for example --region 21\n" in said
