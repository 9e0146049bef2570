"""Running the commands, checking refusals, and small VCFs of people with linkage."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from click.testing import CliRunner, Result
from numpy.typing import NDArray

from genodiff.cli import main
from genodiff.genotypes.config import ModelConfig
from tests.genotypes.tables import SMALL

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "genodiff" / "data" / "example.vcf.gz"
EXAMPLE_PANEL = ROOT / "genodiff" / "data" / "example.panel.tsv"

TINY: ModelConfig = replace(SMALL, training=replace(SMALL.training, checkpoint_seconds=0.0))
"""A model that is learned in about a second, with a checkpoint after every step."""

TRAINING = ("--preset", "fast", "--threads", "1", "--quiet")


def run(*arguments: object) -> Result:
    """A command in this process; an error that is not turned into a line fails the test."""
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def succeed(*arguments: object) -> str:
    """Standard output of a command that must succeed without a word on stderr."""
    result = run(*arguments)
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    return result.stdout


def shell(
    *arguments: object, code: str | None = None, before: Callable[[], None] | None = None
) -> subprocess.CompletedProcess[str]:
    """``python -m genodiff`` (or ``python -c code``) as a process of its own, on one thread."""
    start = ["-m", "genodiff"] if code is None else ["-c", code]
    return subprocess.run(
        [sys.executable, *start, *map(str, arguments)],
        capture_output=True, text=True, timeout=120, check=False, preexec_fn=before,
        env={**os.environ, "OMP_NUM_THREADS": "1"}, cwd=ROOT,
    )  # fmt: skip


def tree(folder: Path) -> set[str]:
    """Everything below a folder, hidden files too."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def assert_refusal(code: int | None, stderr: str, *words: object) -> str:
    """Status 2 and one line that holds all the words; returns the line."""
    assert code == 2, stderr
    lines = stderr.splitlines()
    assert len(lines) == 1, stderr
    assert lines[0].startswith("genodiff: ")
    for word in words:
        assert str(word) in lines[0], lines[0]
    return lines[0]


def refused(folder: Path, *arguments: object, words: Sequence[object]) -> str:
    """A command that must be refused in one line with the words and leave ``folder`` as it was."""
    before = tree(folder)
    result = run(*arguments)
    line = assert_refusal(result.exit_code, result.stderr, *words)
    assert result.stdout == ""
    assert tree(folder) == before
    return line


@dataclass(frozen=True)
class People:
    """A VCF as text: haplotypes that are mosaics of eight founders, and what makes it special.

    Attributes:
        n: number of people, named P000 …, or with another prefix.
        sites: number of sites, 100 bp apart from 1000.
        phased: share of heterozygous calls with phase.
        missing: share of calls without alleles.
        extra: further data lines, put after all others.
        contigs: the contigs; each holds all sites.
        seed: of all draws.
        prefix: what names begin with.
    """

    n: int = 40
    sites: int = 60
    phased: float = 1.0
    missing: float = 0.0
    extra: tuple[str, ...] = ()
    contigs: tuple[str, ...] = ("22",)
    seed: int = 5
    prefix: str = "P"
    names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(f"{self.prefix}{i:03d}" for i in range(self.n)))

    def haplotypes(self) -> NDArray[np.int8]:
        """Alleles (people, sites, 2); every site is common."""
        rng = np.random.default_rng(self.seed)
        founders = (rng.random((8, self.sites)) < 0.5).astype(np.int8)
        founders[0], founders[1] = 0, 1
        source = rng.integers(8, size=(self.n, 2, self.sites // 10 + 1)).repeat(10, axis=2)[:, :, : self.sites]
        return founders[source, np.arange(self.sites)].transpose(0, 2, 1)

    def calls(self) -> tuple[NDArray[np.str_], int, int]:
        """Text of every call (people, sites), and how many are missing and heterozygous without phase."""
        rng = np.random.default_rng(self.seed + 1)
        h = self.haplotypes()
        absent = rng.random(h.shape[:2]) < self.missing
        het = h[:, :, 0] != h[:, :, 1]
        plain = het & (rng.random(h.shape[:2]) >= self.phased)
        bar = np.where(plain, "/", "|")
        text = np.char.add(np.char.add(h[:, :, 0].astype(str), bar), h[:, :, 1].astype(str))
        return np.where(absent, "./.", text), int(absent.sum()), int((plain & ~absent).sum())

    def text(self) -> str:
        """The file."""
        calls, _, _ = self.calls()
        lines = ["##fileformat=VCFv4.2", "##reference=test"]
        lines += [f"##contig=<ID={name},length=50000000>" for name in self.contigs]
        lines += ['##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">']
        lines += ["\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", *self.names])]
        for name in self.contigs:
            for j in range(self.sites):
                lines.append(record(1000 + 100 * j, calls[:, j], contig=name, name=f"rs{j}"))
        return "\n".join([*lines, *self.extra]) + "\n"

    def write(self, folder: Path, name: str = "people.vcf") -> Path:
        """The file as plain text."""
        path = folder / name
        path.write_text(self.text())
        return path

    def panel(self, folder: Path, *, labels: Sequence[str] = ("EUR", "AFR"), missing: int = 0) -> Path:
        """A panel that lacks the first ``missing`` people."""
        path = folder / "people.panel"
        rows = [f"{name}\t{labels[i % len(labels)]}" for i, name in enumerate(self.names)]
        path.write_text("\n".join(["sample\tpop", *rows[missing:]]) + "\n")
        return path


def record(
    position: int,
    calls: Sequence[str] | NDArray[np.str_],
    *,
    contig: str = "22",
    name: str = ".",
    alt: str = "C",
    keys: str = "GT",
) -> str:
    """One data line."""
    return "\t".join([contig, str(position), name, "A", alt, ".", "PASS", ".", keys, *calls])
