"""The command line itself: help, options, what each command leaves."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import cyvcf2
import pytest

from genodiff import __version__, baselines
from genodiff.cli import main
from tests.commands import ROOT, People, assert_refusal, refused, run, shell, succeed, tree

HEAVY = {"torch", "numpy", "pandas", "scipy", "sklearn", "matplotlib", "cyvcf2", "pysam"}
QUIETLY = ("--threads", "1", "--quiet")


def inner(group: click.Group) -> dict[str, click.Command]:
    """Commands of a group, those made when asked for too."""
    context = click.Context(group)
    found = {name: group.get_command(context, name) for name in group.list_commands(context)}
    return {name: command for name, command in found.items() if command is not None}


def commands(group: click.Group, *above: str) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = [above]
    for name, command in inner(group).items():
        found += commands(command, *above, name) if isinstance(command, click.Group) else [(*above, name)]
    return found


def test_all_commands_are_there() -> None:
    assert {" ".join(c) for c in commands(main)} == {
        "", "synthesize", "fit", "sample", "evaluate", "compare", "audit", "utility", "inspect", "completion",
        "survey", "people", "genome", "convert",
        "simulate", "simulate ld-blocks", "simulate coalescent",
        "reproduce", "reproduce gou-mixture", "reproduce gou-snps", "reproduce gou-chr22",
        "reproduce artificial-genomes",
        "imaging", "imaging train", "imaging learn-schedule", "imaging learn-time", "imaging learn", "imaging sample",
        "imaging train-autoencoder", "imaging stroke-to-image", "imaging train-features", "imaging evaluate",
        "imaging reproduce",
        "baseline", *(f"baseline {name}" for name in baselines.names()),
    }  # fmt: skip


@pytest.mark.parametrize("command", commands(main), ids=" ".join)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_explains_every_option_and_gives_examples(command: tuple[str, ...], flag: str) -> None:
    text = succeed(*command, flag)
    assert text.startswith("Usage:")
    if command != ("simulate",):
        assert re.search(r"Examples?:\n +(genodiff|torchrun) ", text)
    target: click.Command = main
    for name in command:
        assert isinstance(target, click.Group)
        target = inner(target)[name]
    for parameter in target.params:
        if isinstance(parameter, click.Option):
            assert max(parameter.opts, key=len) in text


def test_examples_in_help_are_commands_that_exist() -> None:
    """Every option and command in an example is one the program knows."""
    for command in commands(main):
        for line in re.findall(r"^ +(?:torchrun .* -m )?(genodiff .+)$", succeed(*command, "--help"), re.MULTILINE):
            for part in line.split("&&"):
                words = part.split()[1:]
                target: click.Command = main
                while words and isinstance(target, click.Group) and words[0] in inner(target):
                    target = inner(target)[words.pop(0)]
                known = {name for p in target.params for name in (*p.opts, *p.secondary_opts)}
                assert not isinstance(target, click.Group), line
                assert {w for w in words if w.startswith("-")} <= known, line


@pytest.mark.parametrize("command", commands(main)[1:], ids=" ".join)
def test_every_command_has_a_summary_for_the_list_it_stands_in(command: tuple[str, ...]) -> None:
    target: click.Command = main
    for name in command:
        assert isinstance(target, click.Group)
        target = inner(target)[name]
    assert re.fullmatch(r"\S.*[.?]( .*)?", target.get_short_help_str(limit=200)), target.name
    summary = (target.help or "").strip().split("\n\n")[0]
    assert len(" ".join(summary.split())) < 200


def test_help_tells_the_exit_codes() -> None:
    codes = re.findall(r"^  +(\d+)  +\w", succeed("--help").split("Exit codes:")[1], re.MULTILINE)
    assert codes == ["0", "1", "2", "130"]


def test_an_error_of_this_program_has_status_1() -> None:
    code = (
        "import genodiff.pipeline as p\nfrom genodiff.cli import main\n"
        "p.inspect = lambda *a, **k: 1 / 0\nmain(['inspect', 'x'])"
    )
    done = shell(code=code)
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith("ZeroDivisionError: division by zero")


@pytest.mark.parametrize(
    ("name", "holds"), [("bash", "complete -o"), ("zsh", "#compdef genodiff"), ("fish", "complete ")]
)
def test_what_a_shell_reads_to_complete(name: str, holds: str) -> None:
    said = succeed("completion", name)
    assert holds in said
    assert f"_GENODIFF_COMPLETE={name}_complete" in said


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("genodiff sy", {"synthesize"}),
        ("genodiff synthesize --preset ", {"fast", "balanced", "best"}),
        ("genodiff synthesize --holdout-", {"--holdout-samples"}),
        ("genodiff simulate c", {"coalescent"}),
        ("genodiff imaging tr", {"train", "train-autoencoder", "train-features"}),
    ],
)
def test_the_shell_is_offered_what_could_follow(monkeypatch: pytest.MonkeyPatch, typed: str, offered: set[str]) -> None:
    """As bash asks for it: words and place in the environment, one offer a line."""
    words = typed.split(" ")
    asked = {"_GENODIFF_COMPLETE": "bash_complete", "COMP_WORDS": typed, "COMP_CWORD": str(len(words) - 1)}
    for name, value in asked.items():
        monkeypatch.setenv(name, value)
    done = shell(code="from genodiff.cli import main; main(prog_name='genodiff')")
    assert {line.split(",")[1] for line in done.stdout.splitlines()} == offered


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_accepts_what_it_reads() -> None:
    subprocess.run(["bash", "-n"], input=succeed("completion", "bash"), text=True, check=True)


def test_version() -> None:
    assert succeed("--version").split()[-1] == __version__
    facts = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert facts["project"]["version"] == __version__
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text()


@pytest.mark.parametrize("command", ["synthesize", "baseline", "reproduce", "simulate"])
def test_help_imports_nothing_heavy(command: str) -> None:
    code = (
        "import sys\nfrom genodiff.cli import main\n"
        f"try:\n    main([{command!r}, '--help'])\n"
        "finally:\n    print(*sorted({m.split('.')[0] for m in sys.modules}), file=sys.stderr)\n"
    )
    done = shell(code=code)
    assert done.returncode == 0
    assert done.stdout.startswith("Usage:")
    loaded = set(done.stderr.split())
    assert "click" in loaded
    assert not HEAVY & loaded


def test_the_list_of_baselines_says_what_each_does() -> None:
    listed = " ".join(succeed("baseline", "--help").split("Commands:")[1].split())
    assert listed == " ".join(f"{name} {baselines.summary_of(name)}" for name in baselines.names())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["synthesize", "x.vcf"], "--output"),
        (["synthesize", "-o", "out"], "VCF"),
        (["fit", "x.vcf", "-o", "m", "--maf", "0.6"], "--maf"),
        (["fit", "x.vcf", "-o", "m", "--maf", "nan"], "not a finite number"),
        (["fit", "x.vcf", "-o", "m", "--holdout", "1"], "--holdout"),
        (["fit", "x.vcf", "-o", "m", "--holdout", "0", "--holdout-samples", "h"], "not both"),
        (["synthesize", "x.vcf", "-o", "m", "--holdout-samples", "h", "--holdout", "0.25"], "not both"),
        (["people", "x.vcf", "-o", "m", "--holdout", "0.3", "--holdout-samples", "h"], "not both"),
        (["fit", "x.vcf", "-o", "m", "--preset", "slow"], "balanced"),
        (["fit", "x.vcf", "-o", "m", "--seed", "-1"], "--seed"),
        (["fit", "x.vcf", "-o", "m", "--seed", str(2**70)], "--seed"),
        (["sample", "m", "-o", "x.vcf", "-n", "0"], "--samples"),
        (["sample", "m", "-o", "x.vcf", "--labels", "EUR"], "EUR=3000"),
        (["sample", "m", "-o", "x.vcf", "--labels", "EUR=0"], "EUR=0"),
        (["sample", "m", "-o", "x.vcf", "--labels", "EUR=1,EUR=2"], "twice"),
        (["sample", "m", "-o", "x.vcf", "--labels", "EUR=1", "-n", "3"], "not both"),
        (["simulate", "ld-blocks", "-o", "x.vcf", "--decay", "0"], "--decay"),
        (["simulate", "ld-blocks", "-o", "x.vcf", "--decay", "inf"], "not a finite number"),
        (["frobnicate"], "frobnicate"),
        (["--frobnicate"], "--frobnicate"),
        (["fit", "x.vcf", "-o", "m", "--forse"], "--force"),
        (["fit", "x.vcf", "y.vcf", "-o", "m"], "y.vcf"),
        (["fit", "x.vcf", "-o"], "-o"),
        (["simulate", "frobnicate"], "frobnicate"),
        (["simulate", "ld-blocks", "-o"], "-o"),
        (["simulate", "ld-blocks"], "--output"),
        (["baseline", "frobnicate", "x.vcf"], "frobnicate"),
        (["baseline", "bootstrap", "x.vcf"], "--output"),
        (["baseline", "li-stephens", "x.vcf", "-o", "y.vcf", "--mutation=1"], "--mutation"),
        (["reproduce", "gou-mixture", "--budget", "huge"], "'quick', 'full'"),
        (["reproduce", "gou-chr22", "--panel", "x.tsv"], "--panel needs VCF"),
        (["reproduce", "gou-chr22", "--map", "x.gmap"], "--map needs VCF"),
    ],
    ids=lambda value: " ".join(value)[:50] if isinstance(value, list) else "",
)
def test_wrong_options_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    """In one line that says where the help is: of the command that was called, as deep as it is known."""
    monkeypatch.chdir(tmp_path)
    line = refused(tmp_path, *arguments, words=(words,))
    known = max((c for c in commands(main) if c == tuple(arguments[: len(c)])), key=len)
    assert line.endswith(f" (see {' '.join(('genodiff', *known, '--help'))})")


@pytest.mark.parametrize("group", [(), ("simulate",), ("baseline",), ("reproduce",)], ids=" ".join)
def test_a_group_without_a_command_shows_its_help(group: tuple[str, ...]) -> None:
    result = run(*group)
    assert result.output == succeed(*group, "--help")


def test_a_defect_is_not_disguised(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Errors that no user can mend keep their traceback."""
    import genodiff.pipeline

    monkeypatch.setattr(genodiff.pipeline, "inspect", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run("inspect", tmp_path)


def test_bad_input_in_a_process_of_its_own(tmp_path: Path) -> None:
    """What C libraries print by themselves would show here and not in the tests above."""
    whole = tmp_path / "whole.vcf.gz"
    succeed("simulate", "ld-blocks", "--people", "30", "--sites", "400", "-o", whole)
    content = whole.read_bytes()
    (tmp_path / "cut.vcf.gz").write_bytes(content[: len(content) // 2])
    middle = len(content) // 2
    (tmp_path / "bad.vcf.gz").write_bytes(content[:middle] + bytes(64) + content[middle + 64 :])
    (tmp_path / "words.vcf").write_text("hello\n")
    before = tree(tmp_path)
    cases = {"none.vcf": "does not exist", "words.vcf": "not a VCF", "cut.vcf.gz": "truncated", "bad.vcf.gz": "corrupt"}
    running = {
        name: subprocess.Popen(
            # An output each: they run at the same time, and a second run into one folder is refused for that.
            [sys.executable, "-m", "genodiff", "fit", tmp_path / name, "-o", tmp_path / f"model of {name}"],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        )
        for name in cases
    }  # fmt: skip
    for name, process in running.items():
        _, stderr = process.communicate(timeout=120)
        assert_refusal(process.returncode, stderr, tmp_path / name, cases[name])
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", ["x.vcf", "x.vcf.gz", "x.bcf"])
def test_simulated_blocks_are_repeatable(tmp_path: Path, name: str) -> None:
    size = ("--people", "12", "--sites", "40", "--block-size", "10", "--phased")
    said = succeed("simulate", "ld-blocks", *size, "-o", tmp_path / name)
    assert said == f"12 people at 40 sites: {tmp_path / name}\n"
    records = [str(v) for v in cyvcf2.VCF(str(tmp_path / name))]
    assert len(records) == 40
    succeed("simulate", "ld-blocks", *size, "-o", tmp_path / name, "--force")
    assert [str(v) for v in cyvcf2.VCF(str(tmp_path / name))] == records
    succeed("simulate", "ld-blocks", *size, "--seed", "2", "-o", tmp_path / name, "--force")
    assert [str(v) for v in cyvcf2.VCF(str(tmp_path / name))] != records


def test_simulated_coalescent_has_a_panel(tmp_path: Path) -> None:
    pytest.importorskip("msprime")
    succeed("simulate", "coalescent", "--people", "9", "--length", "20000", "-o", tmp_path / "new" / "x.vcf.gz")
    assert tree(tmp_path / "new") == {"x.vcf.gz", "x.vcf.gz.tbi", "x.panel.tsv"}
    rows = [line.split("\t") for line in (tmp_path / "new" / "x.panel.tsv").read_text().splitlines()]
    assert rows[0] == ["sample", "label"]
    assert [name for name, _ in rows[1:]] == cyvcf2.VCF(str(tmp_path / "new" / "x.vcf.gz")).samples
    assert len({label for _, label in rows[1:]}) == 3


def test_inspect_a_vcf(tmp_path: Path) -> None:
    people = People(phased=0.9, missing=0.05, extra=("22\t9000\t.\tA\tC,G\t.\t.\t.\tGT" + "\t0|0" * 40,))
    _, missing, unphased = people.calls()
    lines = succeed("inspect", people.write(tmp_path)).splitlines()
    said = dict(re.split(r" {2,}", line, maxsplit=1) for line in lines)
    assert said["people"] == "40"
    assert said["contig"] == "22"
    assert said["records"] == "61"
    assert said["usable sites"] == "60"
    assert said["removed, multi-allelic"] == "1"
    assert said["missing calls"] == str(missing)
    assert said["unphased heterozygous calls"] == str(unphased)
    assert said["phased"] == "mostly: haplotypes are learned, unphased calls masked"
    part = succeed("inspect", tmp_path / "people.vcf", "--region", "chr22:1000-2000")
    assert re.search(r"^usable sites +11$", part, re.MULTILINE)


def test_inspect_a_model(fitted: Path) -> None:
    said = dict(re.split(r" {2,}", line, maxsplit=1) for line in succeed("inspect", fitted).splitlines())
    assert said["unit"] == "haplotypes"
    assert said["people"] == "40"
    assert said["sites"] == "60"
    assert set(said["labels"].split(", ")) == {"AFR 20", "EUR 20"}
    assert said["training steps"] == "30"


def test_sample_writes_vcf_index_panel_and_provenance(fitted: Path, tmp_path: Path) -> None:
    said = succeed("sample", fitted, "--labels", "EUR=3,AFR=5", "-o", tmp_path / "a" / "s.vcf.gz", *QUIETLY)
    assert said.startswith("8 people at 60 sites: ")
    assert tree(tmp_path / "a") == {"s.vcf.gz", "s.vcf.gz.tbi", "s.panel.tsv", "s.provenance.json"}
    panel = (tmp_path / "a" / "s.panel.tsv").read_text().splitlines()
    assert [line.split("\t")[1] for line in panel[1:]] == ["EUR"] * 3 + ["AFR"] * 5
    facts = json.loads((tmp_path / "a" / "s.provenance.json").read_text())
    assert facts["configuration"]["sample"]["labels"] == {"EUR": 3, "AFR": 5}
    assert str(fitted / "model.json") in facts["inputs"]
    succeed("sample", fitted, "-n", "8", "-o", tmp_path / "b.bcf", *QUIETLY)
    assert cyvcf2.VCF(str(tmp_path / "b.bcf")).samples == [f"GD{i:06d}" for i in range(1, 9)]
    succeed("sample", fitted, "-o", tmp_path / "c.vcf", *QUIETLY)
    assert len(cyvcf2.VCF(str(tmp_path / "c.vcf")).samples) == 40


def test_sample_replaces_an_index_of_another_kind(fitted: Path, tmp_path: Path) -> None:
    (tmp_path / "s.vcf.gz").write_text("old")
    (tmp_path / "s.vcf.gz.csi").write_text("old")
    succeed("sample", fitted, "-n", "2", "-o", tmp_path / "s.vcf.gz", "--force", *QUIETLY)
    assert tree(tmp_path) == {"s.vcf.gz", "s.vcf.gz.tbi", "s.panel.tsv", "s.provenance.json"}


def test_interruption_by_hand_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import genodiff.pipeline

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(genodiff.pipeline, "load_data", stop)
    result = run("fit", People().write(tmp_path), "-o", tmp_path / "model")
    assert result.exit_code == 130
    assert (
        result.stderr == "genodiff: interrupted; the same command goes on from what was kept, if it had come that far\n"
    )
    assert tree(tmp_path) == {"people.vcf"}
