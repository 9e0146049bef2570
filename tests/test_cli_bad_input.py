"""Bad input, command by command: status 2, one line that names file and remedy, nothing written."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from genodiff.genotypes import store
from tests.commands import TRAINING, People, record, refused, succeed, tree

PEOPLE = People()
HOM = ["0|0"] * PEOPLE.n


def without_samples() -> str:
    return "\n".join("\t".join(line.split("\t")[:8]) for line in PEOPLE.text().splitlines()) + "\n"


def only(*records: str) -> str:
    """The header of :data:`PEOPLE` and other records."""
    head = [line for line in PEOPLE.text().splitlines() if line.startswith("#")]
    return "\n".join([*head, *records]) + "\n"


def halves(text: str) -> bytes:
    return gzip.compress(text.encode())[: len(gzip.compress(text.encode())) // 2]


def spoiled(text: str) -> bytes:
    content = bytearray(gzip.compress(text.encode()))
    middle = len(content) // 2
    content[middle : middle + 40] = bytes(40)
    return bytes(content)


FILTERED = only(
    record(10, HOM),
    record(20, ["0|1", *HOM[1:]]),
    record(30, ["0|1", *HOM[1:]]),
    record(40, ["./."] * 20 + ["0|1"] * 20),
    record(50, ["0|1"] * 40, alt="C,G"),
    record(60, ["0|1"] * 40, alt="*"),
    record(70, ["0", "1"] * 20),
)

FILES: dict[str, tuple[str | bytes, tuple[str, ...]]] = {
    "not a VCF": ("sample\tpop\nA\tEUR\n", ("not a VCF",)),
    "empty": ("", ("is empty",)),
    "truncated gzip": (halves(PEOPLE.text()), ("truncated", "again")),
    "corrupt gzip": (spoiled(PEOPLE.text()), ("corrupt", "again")),
    "no samples": (without_samples(), ("no samples", "genotypes")),
    "no records": (only(), ("no records",)),
    "no GT": (only(record(10, ["3"] * 40, keys="DP")), ("1 no-GT", "GT field")),
    "haploid calls": (
        only(record(10, ["0", "1"] * 20), record(20, ["0|1", "1"] * 20)), ("2 non-diploid", "diploid region")),
    "triploid calls": (only(record(10, ["0|1|1"] * 40)), ("1 non-diploid", "diploid region")),
    "filters leave nothing": (
        FILTERED,
        ("of 7 records", "1 multi-allelic", "1 symbolic-allele", "1 non-diploid", "1 missing", "1 monomorphic", "2 maf",
         "lower --maf"),
    ),
    "several contigs": (People(contigs=("21", "22")).text(), ("several contigs (21, 22)", "--region 21")),
    "contigs that alternate": (
        People(contigs=("21",), extra=(record(99, HOM),)).text(), ("several contigs", "--region")),
    "fewer than 20 people": (People(n=19).text(), ("19 people", "at least 20")),
    "a broken record": (
        People(extra=("22\t9000\t.\tA",)).text(), ("line 66", "22:9000", "4 columns"),
    ),
    "a genotype that is none": (People(extra=(record(9000, ["x|y", *HOM[1:]]),)).text(), ("line 66", "x|y")),
    "an allele that is not listed": (People(extra=(record(9000, ["0|2", *HOM[1:]]),)).text(), ("22:9000", "P000")),
}  # fmt: skip


@pytest.mark.parametrize("case", FILES)
@pytest.mark.parametrize("command", ["fit", "synthesize"])
def test_a_file_that_cannot_be_learned_from(tmp_path: Path, case: str, command: str) -> None:
    content, words = FILES[case]
    path = tmp_path / "input.vcf.gz"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    options = [] if command == "fit" else ["--holdout", "0.1"]
    refused(
        tmp_path, command, path, "-o", tmp_path / "new" / "out", "--maf", "0.05", *options, *TRAINING,
        words=(path, *words),
    )  # fmt: skip


@pytest.mark.parametrize("command", ["fit", "synthesize", "inspect"])
def test_a_file_that_is_not_there(tmp_path: Path, command: str) -> None:
    path = tmp_path / "absent.vcf.gz"
    options = [] if command == "inspect" else ["-o", tmp_path / "out", *TRAINING]
    refused(tmp_path, command, path, *options, words=(path, "does not exist"))


def test_a_folder_instead_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    refused(tmp_path, "fit", tmp_path / "folder", "-o", tmp_path / "out", words=("is a directory",))
    refused(tmp_path, "inspect", tmp_path / "folder", words=("not a model folder",))


OPTIONS: dict[str, tuple[Callable[[Path], list[object]], tuple[str, ...]]] = {
    "panel lacks people": (
        lambda d: ["--panel", PEOPLE.panel(d, missing=3)], ("people.panel", "3 of 40", "P000, P001, P002")),
    "panel is absent": (lambda d: ["--panel", d / "nowhere"], ("nowhere", "does not exist")),
    "panel column is absent": (
        lambda d: ["--panel", PEOPLE.panel(d), "--panel-column", "city"], ("people.panel", "'city'", "sample, pop")),
    "panel column without panel": (lambda d: ["--panel-column", "pop"], ("--panel-column", "--panel")),
    "panel parent without panel": (lambda d: ["--panel-parent", "pop"], ("--panel-parent", "--panel")),
    "panel is a VCF": (lambda d: ["--panel", d / "input.vcf"], ("input.vcf",)),
    "label nobody has": (
        lambda d: ["--panel", PEOPLE.panel(d), "--labels", "EUR=3,EAS=2"],
        ("people.panel", "'EAS'", "AFR, EUR", "--labels"),
    ),
    "labels without a panel": (lambda d: ["--labels", "EUR=3"], ("--labels", "--panel")),
    "region is malformed": (lambda d: ["--region", "22:5-x"], ("22:5-x", "22:1-2000000")),
    "region holds nothing": (lambda d: ["--region", "22:1-10"], ("input.vcf", "22:1-10")),
    "contig is absent": (lambda d: ["--region", "7"], ("input.vcf", "'7'", "22")),
    "nobody held out": (lambda d: ["--holdout", "0"], ("--holdout",)),
    "one person held out": (lambda d: ["--holdout", "0.02"], ("one person held out",)),
    "too many held out": (lambda d: ["--holdout", "0.6"], ("input.vcf", "16 people are left", "at least 20")),
    "strangers held out": (lambda d: ["--holdout-samples", names(d, "P001", "Q1", "Q2")], ("held.txt", "2 of 3", "Q1")),
    "more held out than there are": (
        lambda d: ["--holdout-samples", names(d, *(f"Q{i}" for i in range(99)))], ("held.txt", "99 of 99", "Q0")),
    "everybody held out": (
        lambda d: ["--holdout-samples", names(d, *PEOPLE.names)], ("held.txt", "40 of 40", "both sides")),
    "held out twice": (lambda d: ["--holdout-samples", names(d, "P001", "P001")], ("held.txt", "line 2", "P001")),
    "holdout list is absent": (lambda d: ["--holdout-samples", d / "nowhere"], ("nowhere", "does not exist")),
    "map is absent": (lambda d: ["--map", d / "nowhere"], ("nowhere", "does not exist")),
    "map is no map": (lambda d: ["--map", d / "input.vcf"], ("input.vcf",)),
    "one person asked for": (lambda d: ["--samples", "1"], ("at least 2",)),
    "device is unknown": (lambda d: ["--device", "abacus"], ("abacus", "cpu, cuda or mps")),
    "device is malformed": (lambda d: ["--device", "cpu:x"], ("cpu:x", "cpu, cuda or mps")),
    "anchors beyond people": (lambda d: ["--anchors", "999"], ("--anchors 999", "60 haplotypes")),
}  # fmt: skip


def write(folder: Path, text: str) -> Path:
    path = folder / "flat.vcf"
    path.write_text(text)
    return path


def names(folder: Path, *people: str) -> Path:
    path = folder / "held.txt"
    path.write_text("\n".join(people) + "\n")
    return path


@pytest.mark.parametrize("case", OPTIONS)
def test_options_that_do_not_fit_the_data(tmp_path: Path, case: str) -> None:
    make, words = OPTIONS[case]
    path = PEOPLE.write(tmp_path, "input.vcf")
    options = make(tmp_path)
    refused(tmp_path, "synthesize", path, "-o", tmp_path / "out", *TRAINING, *options, words=words)


def test_odd_records_are_kept_out_and_counted(tmp_path: Path, tiny: None) -> None:
    rng = np.random.default_rng(0)
    mixed = rng.choice(["0|0", "0|1", "1|0", "1|1"], PEOPLE.n)
    odd = (
        record(1050, mixed),  # before the last site
        record(9000, mixed),
        record(9000, mixed, alt="G"),  # a position twice
        record(9100, mixed, alt="C,G"),
        record(9200, mixed, alt="*"),
        record(9300, ["1", *mixed[1:]]),  # one haploid call
        record(9400, HOM),
        record(9500, ["."] * PEOPLE.n),
    )
    path = People(extra=odd).write(tmp_path)
    succeed("fit", path, "-o", tmp_path / "model", *TRAINING)
    facts = json.loads((tmp_path / "model" / "provenance.json").read_text())["filters"]
    assert facts["n_records"] == 68
    assert facts["kept"] == 61
    assert facts["removed"] == {
        "multi-allelic": 1, "symbolic-allele": 1, "non-diploid": 1, "missing": 1, "monomorphic": 1, "unsorted": 1,
        "duplicate-position": 1,
    }  # fmt: skip


def test_labels_the_model_does_not_know(fitted: Path, tmp_path: Path) -> None:
    words = (str(fitted), "'EAS'", "AFR, EUR", "--labels")
    refused(tmp_path, "sample", fitted, "--labels", "EAS=3", "-o", tmp_path / "a" / "s.vcf", words=words)


def copy(model: Path, folder: Path) -> Path:
    target = folder / "model"
    target.mkdir()
    for file in model.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return target


def edit(model: Path, *, sign: bool, **changes: object) -> None:
    header = {**json.loads((model / "model.json").read_text()), **changes}
    if sign:
        header[store._DIGEST_KEY] = store._header_digest(header)
    (model / "model.json").write_text(json.dumps(header))


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


TAMPERED: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "another version": (lambda m: edit(m, sign=True, format_version=99), ("format 99", "fit it again")),
    "another program": (lambda m: edit(m, sign=True, format="other"), ("model.json", "fit the model again")),
    "header changed": (lambda m: edit(m, sign=False, n_people=41), ("model.json", "changed", "fit the model again")),
    "header cut": (lambda m: (m / "model.json").write_text("{"), ("model.json", "fit the model again")),
    "weights changed": (lambda m: flip(m / "weights.safetensors"), ("weights.safetensors", "changed")),
    "weights absent": (lambda m: (m / "weights.safetensors").unlink(), ("weights.safetensors", "fit the model again")),
    "sites changed": (lambda m: flip(m / "sites.json"), ("sites.json", "changed")),
    "no header": (lambda m: (m / "model.json").unlink(), ("not a model folder", "genodiff fit")),
}


@pytest.mark.parametrize("case", TAMPERED)
def test_model_folders_that_are_not_whole(fitted: Path, tmp_path: Path, case: str) -> None:
    change, words = TAMPERED[case]
    model = copy(fitted, tmp_path)
    change(model)
    refused(tmp_path, "sample", model, "-n", "2", "-o", tmp_path / "new" / "s.vcf.gz", words=(model, *words))
    refused(tmp_path, "inspect", model, words=(model, *words))


def test_a_file_instead_of_a_model(tmp_path: Path) -> None:
    path = PEOPLE.write(tmp_path)
    refused(tmp_path, "sample", path, "-o", tmp_path / "s.vcf", words=(path, "not a model folder"))
    refused(tmp_path, "sample", tmp_path / "no", "-o", tmp_path / "s.vcf", words=("not a model folder",))


EVALUATE: dict[str, tuple[Callable[[Path], dict[str, object]], tuple[str, ...]]] = {
    "absent": (lambda d: {"--holdout": d / "nowhere"}, ("nowhere", "does not exist")),
    "not a VCF": (lambda d: {"--synthetic": PEOPLE.panel(d)}, ("people.panel", "not a VCF")),
    "no site in common": (
        lambda d: {"--synthetic": People(contigs=("7",)).write(d, "other.vcf")}, ("other.vcf", "no site in common")),
    "one person": (
        lambda d: {"--holdout": People(n=1, prefix="H").write(d, "one.vcf")}, ("holdout", "1 people", "at least 2")),
    "people on both sides": (
        lambda d: {"--holdout": People(n=4).write(d, "both.vcf")}, ("both.vcf", "4 people", "P000")),
    "panel lacks people": (lambda d: {"--panel": PEOPLE.panel(d, missing=39)}, ("people.panel", "39 of 40")),
    "synthetic panel lacks people": (
        lambda d: {"--synthetic-panel": PEOPLE.panel(d, missing=1)}, ("people.panel", "1 of 40", "P000")),
    "several contigs": (
        lambda d: {"--train": People(contigs=("1", "2")).write(d, "two.vcf")}, ("two.vcf", "--region 1")),
    "nothing varies": (
        lambda d: {"--train": write(d, only(record(10, HOM)))}, ("flat.vcf", "1 monomorphic", "another region")),
}  # fmt: skip


@pytest.mark.parametrize("case", EVALUATE)
def test_evaluation_of_what_does_not_fit(tmp_path: Path, case: str) -> None:
    change, words = EVALUATE[case]
    prefixes = {"a": "P", "b": "H", "c": "P"}
    a, b, c = (People(seed=k, prefix=p).write(tmp_path, f"{f}.vcf") for k, (f, p) in enumerate(prefixes.items()))
    options = {"--train": a, "--holdout": b, "--synthetic": c, **change(tmp_path)}
    flat = [part for pair in options.items() for part in pair]
    refused(tmp_path, "evaluate", *flat, "-o", tmp_path / "new" / "out", "--quiet", words=words)


def test_outputs_that_exist_are_kept(fitted: Path, tmp_path: Path) -> None:
    path = PEOPLE.write(tmp_path, "input.vcf")
    (tmp_path / "out").mkdir()
    for command in ("fit", "synthesize"):
        refused(tmp_path, command, path, "-o", tmp_path / "out", words=("out exists", "--force"))
    for name in ("s.vcf.gz", "t.panel.tsv", "u.provenance.json"):
        (tmp_path / name).write_text("precious")
        vcf = tmp_path / f"{name[0]}.vcf.gz"
        refused(tmp_path, "sample", fitted, "-n", "2", "-o", vcf, words=(f"{name} exists", "--force"))
        assert (tmp_path / name).read_text() == "precious"
    refused(tmp_path, "simulate", "ld-blocks", "-o", tmp_path / "s.vcf.gz", words=("s.vcf.gz exists", "--force"))


@pytest.mark.parametrize(
    "content",
    [{"notes.txt": "mine"}, {"provenance.json": '{"tool": "other"}'}, {"model.json": "not JSON"}, {"model.json": "[]"}],
    ids=lambda c: " ".join(c.values()),
)
def test_force_spares_what_genodiff_did_not_make(tmp_path: Path, content: dict[str, str]) -> None:
    path = PEOPLE.write(tmp_path, "input.vcf")
    (tmp_path / "out").mkdir()
    for name, text in content.items():
        (tmp_path / "out" / name).write_text(text)
    words = ("out exists", "not made by genodiff", "another -o")
    refused(tmp_path, "fit", path, "-o", tmp_path / "out", "--force", *TRAINING, words=words)
    refused(tmp_path, "fit", path, "-o", path, "--force", *TRAINING, words=("input.vcf exists", "not made by"))


def test_force_spares_the_input(fitted: Path, tmp_path: Path) -> None:
    model = copy(fitted, tmp_path)
    path = PEOPLE.write(model, "input.vcf")
    words = ("holds the input input.vcf", "another -o")
    refused(tmp_path, "fit", path, "-o", model, "--force", *TRAINING, words=words)
    both = ["--train", path, "--holdout", path, "--synthetic", path]
    refused(tmp_path, "evaluate", *both, "-o", model, "--force", words=words)


def test_places_that_cannot_be_written(fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = PEOPLE.write(tmp_path, "input.vcf")
    for target in (path / "out", tmp_path / ("x" * 255)):
        for command in ("fit", "synthesize"):
            refused(tmp_path, command, path, "-o", target, words=(target, "cannot write there", "another -o"))
    refused(tmp_path, "sample", fitted, "-o", path / "s.vcf", words=("another -o",))
    refused(tmp_path, "sample", fitted, "-o", tmp_path / f"{'x' * 300}.vcf", words=("another -o",))
    refused(tmp_path, "sample", fitted, "-o", tmp_path, words=("is a folder", "synthetic.vcf.gz"))
    refused(tmp_path, "sample", fitted, "-o", tmp_path / "s.txt", words=("s.txt", ".vcf.gz"))
    refused(tmp_path, "sample", fitted, "-o", tmp_path / ".vcf", words=("must end in",))
    monkeypatch.chdir(tmp_path)
    refused(tmp_path, "fit", path, "-o", ".", words=(". exists",))
    refused(tmp_path, "fit", path, "-o", ".", "--force", words=("not made by genodiff",))
    refused(tmp_path, "fit", path, "-o", "/", "--force", words=("not made by genodiff",))


def test_force_replaces_and_follows_links(fitted: Path, tmp_path: Path, tiny: None) -> None:
    path = PEOPLE.write(tmp_path, "input.vcf")
    model = copy(fitted, tmp_path)
    (model / "old").write_text("of an earlier run")
    (tmp_path / "link").symlink_to(model)
    succeed("fit", path, "-o", tmp_path / "link", "--force", *TRAINING)
    assert (tmp_path / "link").is_symlink()
    assert tree(model) == {"model.json", "sites.json", "weights.safetensors", "provenance.json"}
    assert json.loads((model / "model.json").read_text())["labels"] == [""]
    assert {name for name in tree(tmp_path) if "/" not in name} == {"input.vcf", "model", "link"}
