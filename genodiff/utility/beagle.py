"""Beagle, the program that imputes: reference panel and sparse target in, dosages at all sites of the panel out."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from cyvcf2 import VCF
from numpy.typing import NDArray

from data_prep.errors import InputError
from data_prep.variants import SITE_COLUMNS, VariantTable
from data_prep.vcf_write import write_vcf
from genodiff.utility.errors import Unmeasurable

__all__ = ["Beagle", "map_lines"]

_ABSENT = (
    "imputation needs the program beagle, which is not on PATH: install it (Debian and Ubuntu: apt-get install beagle)"
)


@dataclass(frozen=True)
class Beagle:
    """How the program is run.

    Attributes:
        threads: processor threads.
        memory_gb: largest heap of its Java machine, in GB (2³⁰ bytes).
    """

    threads: int = 1
    memory_gb: int = 4

    def require(self) -> str:
        """Path of the program.

        Raises:
            Unmeasurable: it is not installed.
        """
        path = shutil.which("beagle")
        if path is None:
            raise Unmeasurable(_ABSENT)
        return path

    def impute(
        self, reference: VariantTable, target: VariantTable, *, cm: NDArray[np.float64] | None = None, seed: int = 1
    ) -> NDArray[np.float32]:
        """Dosages of the target's people at all sites of the reference.

        Args:
            reference: phased people without missing calls.
            target: people at some of the sites of the reference; phased calls keep their phase.
            cm: genetic position of the sites of the reference in cM, never decreasing; 1 cM per Mb if ``None``.
            seed: of the program's random draws, below 2⁶³.

        Returns:
            float32 (people of the target, sites of the reference), in [0, 2], to two decimals.

        Raises:
            Unmeasurable: the program is not installed.
            InputError: it failed; with its last message.
        """
        program = self.require()
        with tempfile.TemporaryDirectory(prefix="genodiff-beagle-") as name:
            # The program is called in its folder with plain names: a path with a space would fall apart in its script.
            folder = Path(name)
            write_vcf(_numbered(reference, reference, prefix="R"), folder / "reference.vcf.gz", threads=self.threads)
            write_vcf(_numbered(target, reference, prefix="T"), folder / "target.vcf.gz", threads=self.threads)
            arguments = ["gt=target.vcf.gz", "ref=reference.vcf.gz", "out=imputed"]
            arguments += [f"nthreads={self.threads}", f"seed={seed}"]
            if cm is not None:
                (folder / "genetic.map").write_text("".join(map_lines(reference, cm)))
                arguments.append("map=genetic.map")
            self._run([program, *arguments], folder)
            return _dosages(folder / "imputed.vcf.gz", people=target.n_samples, sites=reference.n_variants)

    def _run(self, command: list[str], folder: Path) -> None:
        options = f"{os.environ.get('JAVA_TOOL_OPTIONS', '')} -Xmx{self.memory_gb}g".strip()
        run = subprocess.run(
            command, cwd=folder, env={**os.environ, "JAVA_TOOL_OPTIONS": options}, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, errors="replace", check=False,
        )  # fmt: skip
        if run.returncode or not (folder / "imputed.vcf.gz").exists():
            remedy = "; give it more --memory" if "OutOfMemoryError" in run.stderr + run.stdout else ""
            said = _last_message(run.stderr) or _last_message(run.stdout) or "it said nothing"
            raise InputError(f"beagle failed with status {run.returncode}: {said}{remedy}")


def _last_message(text: str) -> str:
    """The last line a program wrote that is neither empty, nor of a stack trace, nor about its Java options."""
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith(("at ", "Picked up", "..."))]
    return lines[-1] if lines else ""


def _numbered(table: VariantTable, reference: VariantTable, *, prefix: str) -> VariantTable:
    """The same genotypes with people named by number and sites by their place in the reference."""
    place = reference.site_keys.get_indexer(table.site_keys)
    if (place < 0).any():
        raise ValueError(f"site {table.site_keys[int((place < 0).argmax())]} of the target is not in the reference")
    return VariantTable(
        haplotypes=table.haplotypes,
        sites=table.sites[list(SITE_COLUMNS)].assign(id=[f"s{k}" for k in place]),
        samples=pd.DataFrame(index=[f"{prefix}{i}" for i in range(table.n_samples)]),
        phased=table.phased,
    )


def map_lines(table: VariantTable, cm: NDArray[np.float64]) -> list[str]:
    """A genetic map in PLINK's format (``chr id cM bp``) whose knots are the sites of a table.

    Beagle wants the contig's name as in the VCF, positions that increase and genetic positions that do not all agree:
    of sites at one position the first counts.

    Raises:
        Unmeasurable: fewer than two positions, or a map that is flat over them.
    """
    position = table.sites["position"].to_numpy()
    first = np.flatnonzero(np.diff(position, prepend=-1) > 0)
    if len(first) < 2 or not cm[first[-1]] > cm[first[0]]:
        raise Unmeasurable("imputation needs a genetic map that rises over the sites: leave --map away for 1 cM per Mb")
    contig = table.sites["contig"].iloc[0]
    return [f"{contig} . {cm[k]:.9f} {position[k]}\n" for k in first]


def _dosages(path: Path, *, people: int, sites: int) -> NDArray[np.float32]:
    out = np.full((people, sites), np.nan, dtype=np.float32)
    for record in VCF(str(path)):
        out[:, int(record.ID[1:])] = record.format("DS")[:, 0]
    if np.isnan(out).any():
        missing = int(np.isnan(out).any(axis=0).sum())
        raise InputError(f"beagle left {missing:,} of {sites:,} sites without dosages: use version 5.0 or newer")
    return out
