"""``genodiff baseline``: what it reads, writes and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import cyvcf2
import numpy as np
import pytest

from tests.baselines.tables import MOSAICS, PLAIN
from tests.commands import People, refused, shell, succeed, tree

QUIETLY = ("--threads", "1", "--quiet")
PEOPLE = People(n=30, sites=40)


@pytest.mark.parametrize("name", PLAIN)
def test_a_baseline_leaves_vcf_index_panel_and_provenance(name: str, tmp_path: Path) -> None:
    vcf, panel = PEOPLE.write(tmp_path), PEOPLE.panel(tmp_path)
    out = tmp_path / "new" / "s.vcf.gz"
    said = succeed("baseline", name, vcf, "-o", out, "-n", "12", "--panel", panel, *QUIETLY).splitlines()
    assert said[-1] == f"12 people at 40 sites: {out}"
    assert ("no genetic map: 1 cM per Mb assumed" in said) == (name in MOSAICS)
    assert tree(tmp_path / "new") == {"s.vcf.gz", "s.vcf.gz.tbi", "s.panel.tsv", "s.provenance.json"}
    records = list(cyvcf2.VCF(str(out)))
    assert [r.POS for r in records] == [1000 + 100 * j for j in range(40)]
    alleles = np.array([r.genotype.array() for r in records])
    assert set(np.unique(alleles[:, :, :2])) == {0, 1}
    assert alleles[:, :, 2].all()
    rows = [line.split("\t") for line in (tmp_path / "new" / "s.panel.tsv").read_text().splitlines()]
    assert rows[1][0] == "BL000001"
    assert sorted(label for _, label in rows[1:]) == ["AFR"] * 6 + ["EUR"] * 6
    facts = json.loads((tmp_path / "new" / "s.provenance.json").read_text())
    assert facts["configuration"]["baseline"] == name
    assert set(facts["inputs"]) == {str(vcf), str(panel)}
    assert {"read", "generate", "write"} <= set(facts["seconds"])


def test_a_panel_of_the_run_before_goes_with_its_vcf(tmp_path: Path) -> None:
    vcf, panel, out = PEOPLE.write(tmp_path), PEOPLE.panel(tmp_path), tmp_path / "new"
    for name in ("s.vcf.gz", "t.vcf.gz"):
        succeed("baseline", "bootstrap", vcf, "-o", out / name, "--panel", panel, *QUIETLY)
    (out / "s.vcf.gz.csi").write_text("old")
    (out / "s.notes.tsv").write_text("mine")
    others = {"t.vcf.gz", "t.vcf.gz.tbi", "t.panel.tsv", "t.provenance.json", "s.notes.tsv"}
    plain = ("baseline", "bootstrap", vcf, "-o", out / "s.vcf.gz", "--force", *QUIETLY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("genodiff.pipeline.write_variants", _no_space)
        refused(tmp_path, *plain, words=("s.vcf.gz cannot be written",))
    succeed(*plain)
    assert tree(out) == {"s.vcf.gz", "s.vcf.gz.tbi", "s.provenance.json", *others}
    simulated = ("simulate", "ld-blocks", "--people", "9", "--sites", "20", "-o", out / "s.vcf.gz")
    (out / "s.vcf.gz").unlink()
    refused(tmp_path, *simulated, words=("s.provenance.json exists", "--force"))
    succeed(*simulated, "--force")
    assert tree(out) == {"s.vcf.gz", "s.vcf.gz.tbi", *others}


def _no_space(*_: object, **__: object) -> None:
    raise OSError(28, "no space left")


def test_options_of_the_method_reach_it(tmp_path: Path) -> None:
    vcf = PEOPLE.write(tmp_path)
    map_ = tmp_path / "map.txt"
    map_.write_text("pos chr cM\n1 22 0\n10000000 22 0.0\n")
    arguments = ("--no-mutation", "--map", map_, "--holdout", "0.2", "--maf", "0")
    said = succeed("baseline", "li-stephens", vcf, "-o", tmp_path / "s.vcf", *arguments, "--ne", "5000", *QUIETLY)
    assert said.splitlines()[-1].startswith("24 people")
    assert "no genetic map" not in said
    facts = json.loads((tmp_path / "s.provenance.json").read_text())
    assert facts["configuration"]["options"] == {"ne": 5000.0, "mutation": False, "rate_cm_per_mb": 1.0}
    made = np.array([r.genotype.array()[:, :2] for r in cyvcf2.VCF(str(tmp_path / "s.vcf"))])
    known = {row.tobytes() for row in PEOPLE.haplotypes().transpose(0, 2, 1).reshape(-1, 40)}
    assert {row.tobytes() for row in made.astype(np.int8).reshape(40, -1).T} <= known


def test_equal_seeds_give_equal_files(tmp_path: Path) -> None:
    vcf = PEOPLE.write(tmp_path)
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        succeed("baseline", "hapnest", vcf, "-o", tmp_path / f"{name}.vcf", "--seed", seed, *QUIETLY)
    first, second, third = ((tmp_path / f"{name}.vcf").read_text() for name in "abc")
    assert first == second
    assert first != third


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    vcf = PEOPLE.write(tmp_path)
    plain = People(n=30, sites=40, phased=0.0).write(tmp_path, "plain.vcf")
    out = ("-o", tmp_path / "new" / "s.vcf.gz", *QUIETLY)
    refused(tmp_path, "baseline", "bootstrap", tmp_path / "no.vcf", *out, words=("no.vcf", "does not exist"))
    refused(tmp_path, "baseline", "li-stephens", plain, *out, words=("li-stephens", "not phased", "phase them first"))
    refused(tmp_path, "baseline", "hapnest", vcf, "--ne", "-3", *out, words=("hapnest: ne must be positive, got -3",))
    refused(tmp_path, "baseline", "gaussian-copula", vcf, "--max-sites", "9", *out, words=("at most 9", "--region"))
    refused(tmp_path, "baseline", "bootstrap", vcf, "--device", "abacus", *out, words=("abacus", "cpu, cuda or mps"))
    refused(tmp_path, "baseline", "bootstrap", vcf, "-o", tmp_path / "s.txt", words=("s.txt", "must end in .vcf"))
    (tmp_path / "s.vcf").write_text("mine")
    refused(tmp_path, "baseline", "bootstrap", vcf, "-o", tmp_path / "s.vcf", words=("s.vcf exists", "--force"))
    assert (tmp_path / "s.vcf").read_text() == "mine"


def test_presets_are_a_choice(tmp_path: Path) -> None:
    """An unknown one is refused before anything is read: the file is not even there."""
    assert "--preset [fast|balanced|best]" in succeed("baseline", "isotropic-tuned", "--help")
    arguments = (tmp_path / "no.vcf", "-o", tmp_path / "s.vcf", "--preset", "slow", *QUIETLY)
    line = refused(
        tmp_path, "baseline", "isotropic-tuned", *arguments, words=("--preset", "'fast', 'balanced', 'best'")
    )
    assert "no.vcf" not in line


def test_a_number_of_steps_below_zero_is_refused_before_reading(tmp_path: Path) -> None:
    arguments = (tmp_path / "no.vcf", "-o", tmp_path / "s.vcf", "--steps", "-1", *QUIETLY)
    refused(tmp_path, "baseline", "isotropic-tuned", *arguments, words=("isotropic-tuned: steps must not be negative",))
    arguments = (tmp_path / "no.vcf", "-o", tmp_path / "s.vcf", "--a", "2", *QUIETLY)
    refused(tmp_path, "baseline", "gou-paper", *arguments, words=("gou-paper: a must lie in (0, 1], got 2.0",))


def test_a_baseline_that_is_not_known_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, "baseline", "gan", "x.vcf", words=("'gan'", "see genodiff baseline --help"))


def test_the_list_of_commands_loads_no_baseline() -> None:
    code = (
        "import sys\nfrom genodiff.cli import main\n"
        "try:\n    main(['--help'])\nfinally:\n    print('numpy' in sys.modules, file=sys.stderr)\n"
    )
    done = shell(code=code)
    assert "baseline" in done.stdout
    assert done.stderr.split() == ["False"]
