"""The formats genotypes are written in, by the ending of a name, and which files belong together."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from data_prep.errors import InputError, OutputError
from data_prep.files import is_stream

__all__ = [
    "FORMATS",
    "Format",
    "companions",
    "is_store",
    "need",
    "need_to_write",
    "output_format",
    "require_store",
    "stem",
]


@dataclass(frozen=True)
class Format:
    """One format of genotypes.

    Attributes:
        name: in words.
        endings: of the file (or folder) that is named on the command line, the longest first.
        beside: endings of the files that belong to it.
        library: the optional library that writes it, where there is one, and the extra that brings it.
    """

    name: str
    endings: tuple[str, ...]
    beside: tuple[str, ...] = ()
    library: tuple[str, str] | None = None


FORMATS: dict[str, Format] = {
    "vcf": Format("VCF", (".vcf.bgz", ".vcf.gz", ".vcf", ".bcf")),
    "plink1": Format("PLINK 1", (".bed",), (".bim", ".fam")),
    "plink2": Format("PLINK 2", (".pgen",), (".pvar", ".psam"), ("pgenlib", "plink")),
    "oxford": Format("Oxford", (".haps.gz", ".haps"), (".sample",)),
    "vcfzarr": Format("VCF-Zarr", (".vcf.zarr", ".vcz"), library=("zarr", "zarr")),
    "anndata": Format("AnnData", (".h5ad", ".zarr")),
}
"""Every format, by a short name; where two endings fit, the earlier format is meant."""


def _ending(name: str) -> tuple[str, str] | None:
    """Format and ending of a file name, or ``None``."""
    return next(((key, e) for key, kind in FORMATS.items() for e in kind.endings if name.endswith(e)), None)


def output_format(path: Path) -> str:
    """The short name of the format that the ending of ``path`` asks for.

    Raises:
        OutputError: no format has such an ending, or the name is nothing but an ending, or that of a pipe.
    """
    if is_stream(path):
        raise OutputError(
            f"{path} is a pipe or device, which is not written to: name a file, for example synthetic.vcf.gz"
        )
    found = _ending(path.name)
    if found is None or path.name == found[1]:
        known = [e for kind in FORMATS.values() for e in kind.endings if e not in (".vcf.bgz", ".haps.gz", ".vcf.zarr")]
        raise OutputError(f"{path}: the name must end in {', '.join(known[:-1])} or {known[-1]}")
    return found[0]


def stem(path: Path) -> str:
    """``synthetic.vcf.gz`` → ``synthetic``; a name of no format stays."""
    found = _ending(path.name)
    return path.name if found is None else path.name.removesuffix(found[1])


def companions(path: Path) -> list[Path]:
    """The files that belong to an output of this name: ``s.pgen`` → ``s.pvar``, ``s.psam``."""
    found = _ending(path.name)
    return [] if found is None else [path.with_name(stem(path) + e) for e in FORMATS[found[0]].beside]


def is_store(path: Path) -> bool:
    """Whether a folder is a Zarr group, of VCF-Zarr or of AnnData."""
    return path.is_dir() and any((path / name).is_file() for name in ("zarr.json", ".zgroup"))


def require_store(path: Path) -> None:
    """Refuses a folder that is a Zarr group by its name alone.

    Raises:
        InputError: its metadata are absent.
    """
    found = _ending(path.name)
    if found is not None and found[1].endswith((".vcz", ".zarr")) and path.is_dir() and not is_store(path):
        raise InputError(
            f"{path} is no {FORMATS[found[0]].name} store: it has neither .zgroup nor zarr.json; make it again, or "
            "give the folder that holds them"
        )


def need(module: str, *, extra: str, path: Path) -> ModuleType:
    """An optional library.

    Raises:
        InputError: it is not installed; the message names the extra that brings it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise InputError(
            f"{path}: this format needs the package {error.name}: pip install 'genodiff[{extra}]'"
        ) from error


def need_to_write(path: Path) -> None:
    """Refuses a target that no format or no installed library can write, before anything is computed for it.

    Raises:
        InputError: the library is not installed.
        OutputError: no format has such an ending.
    """
    library = FORMATS[output_format(path)].library
    if library is not None:
        need(library[0], extra=library[1], path=path)
