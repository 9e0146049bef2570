"""Which build of the human genome a file is on, and where its pseudo-autosomal regions lie."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["BUILDS", "Build", "Kind", "build_named", "build_of", "kind_of"]

Kind = Literal["X", "Y", "MT", ""]

_KINDS: dict[str, Kind] = {"X": "X", "Y": "Y", "M": "MT", "MT": "MT"}
_CODES: dict[str, Kind] = {"23": "X", "24": "Y", "26": "MT"}
_NAMES = (*map(str, range(1, 23)), "X", "Y")


def kind_of(contig: str, build: Build | None = None) -> Kind:
    """``X``, ``Y`` or ``MT`` for a contig of that name (``chrX``, ``chrM`` …), empty for any other.

    The numbers 23, 24 and 26 that PLINK writes mean them on a build of the human genome; a dog has 38 autosomes.
    """
    name = contig.removeprefix("chr")
    return _KINDS.get(name) or ("" if build is None else _CODES.get(name, ""))


@dataclass(frozen=True)
class Build:
    """A build of the human genome.

    Attributes:
        name: as in ``--build``.
        aliases: other names of it.
        lengths: bp of the chromosomes 1 … 22, X, Y.
        par1: first and last position of the first pseudo-autosomal region on X, bp, 1-based, inclusive.
        par2: likewise of the second.
    """

    name: str
    aliases: tuple[str, ...]
    lengths: tuple[int, ...]
    par1: tuple[int, int]
    par2: tuple[int, int]

    def outside(self, position: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether positions (variants,) on X, in bp, lie outside both regions, where men have one copy."""
        # What lies before PAR1 or behind PAR2 is telomere: no variants are called there.
        return (position > self.par1[1]) & (position < self.par2[0])

    def parts(self, contig: str) -> str:
        """The three regions of X that can be read, in words."""
        between = f"{contig}:{self.par1[1] + 1}-{self.par2[0] - 1}"
        first, last = (f"{contig}:{a}-{b}" for a, b in (self.par1, self.par2))
        return f"{between} (men have one copy), {first} (PAR1) or {last} (PAR2)"


BUILDS = (
    Build(
        "GRCh37", ("hg19", "b37", "hs37d5", "g1k_v37"),
        (249250621, 243199373, 198022430, 191154276, 180915260, 171115067, 159138663, 146364022, 141213431, 135534747,
         135006516, 133851895, 115169878, 107349540, 102531392, 90354753, 81195210, 78077248, 59128983, 63025520,
         48129895, 51304566, 155270560, 59373566),
        par1=(60001, 2699520), par2=(154931044, 155260560),
    ),
    Build(
        "GRCh38", ("hg38", "b38", "hs38"),
        (248956422, 242193529, 198295559, 190214555, 181538259, 170805979, 159345973, 145138636, 138394717, 133797422,
         135086622, 133275309, 114364328, 107043718, 101991189, 90338345, 83257441, 80373285, 58617616, 64444167,
         46709983, 50818468, 156040895, 57227415),
        par1=(10001, 2781479), par2=(155701383, 156030895),
    ),
)  # fmt: skip
"""From NCBI's assembly reports and its table of pseudo-autosomal regions."""


def build_named(name: str) -> Build | None:
    """The build that a text names, ``GRCh38``, ``hg38`` or a path that holds one of them."""
    lower = name.lower()
    return next((b for b in BUILDS if any(n.lower() in lower for n in (b.name, *b.aliases))), None)


def build_of(header: Iterable[str]) -> Build | None:
    """The build that the ``##contig`` and ``##reference`` lines of a VCF tell, ``None`` if none does.

    Lengths of chromosomes come first, since they cannot be wrong by habit; then ``assembly``, then the reference.
    """
    lines = list(header)
    for line in lines:
        found = re.match(r"##contig=<(?:.*,)?ID=(?:chr)?([^,>]+)", line)
        size = re.search(r"[<,]length=(\d+)", line)
        if found is not None and size is not None and found[1] in _NAMES:
            of = next((b for b in BUILDS if b.lengths[_NAMES.index(found[1])] == int(size[1])), None)
            if of is not None:
                return of
    for pattern in (r"##contig=<.*assembly=\"?([^\",>]+)", r"##reference=(.+)"):
        for line in lines:
            found = re.match(pattern, line)
            of = None if found is None else build_named(found[1])
            if of is not None:
                return of
    return None
