"""Genetic maps: base pairs to centimorgans."""

from __future__ import annotations

import itertools
import math
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from data_prep.errors import InputError
from data_prep.files import read_text

__all__ = ["GeneticMap", "read_map"]


@dataclass(frozen=True)
class GeneticMap:
    """A piecewise linear map of one contig.

    Attributes:
        position: int64 (knots,), bp, strictly increasing, at least two.
        centimorgan: float64 (knots,), cM, never decreasing.
        contig: name, empty where the file has none.

    Raises:
        ValueError: shapes differ, fewer than two knots, or not monotone.
    """

    position: NDArray[np.int64]
    centimorgan: NDArray[np.float64]
    contig: str = ""

    def __post_init__(self) -> None:
        position = np.asarray(self.position, dtype=np.int64)
        cm = np.asarray(self.centimorgan, dtype=np.float64)
        if position.ndim != 1 or position.shape != cm.shape:
            raise ValueError(f"position {position.shape} and centimorgan {cm.shape} must be vectors of one length")
        if len(position) < 2:
            raise ValueError(f"a genetic map needs at least two positions, got {len(position)}")
        if not np.isfinite(cm).all():
            raise ValueError(f"cM at knot {int(np.argmin(np.isfinite(cm)))} is not finite")
        for name, bad in (("position", np.diff(position) <= 0), ("cM", np.diff(cm) < 0)):
            if bad.any():
                j = int(np.argmax(bad)) + 1
                raise ValueError(f"{name} does not increase at knot {j} ({position[j]} bp, {cm[j]} cM)")
        for name, value in (("position", position), ("centimorgan", cm)):
            value = value.copy()
            value.flags.writeable = False
            object.__setattr__(self, name, value)

    @property
    def rate(self) -> float:
        """Mean recombination rate, cM per bp."""
        span = int(self.position[-1] - self.position[0])
        return float(self.centimorgan[-1] - self.centimorgan[0]) / span

    def cM(self, position: ArrayLike) -> NDArray[np.float64]:
        """Genetic position of sites: linear between the knots, at the map's mean rate outside them.

        Outside, the mean rate of the whole map is used and not that of the last interval, which is often a telomeric
        extreme. Values before the first knot may be negative; only differences matter.

        Args:
            position: bp, any shape.

        Returns:
            float64 of the same shape, cM, never decreasing with position.
        """
        x = np.asarray(position, dtype=np.float64)
        inside = np.interp(x, self.position, self.centimorgan)
        below = np.minimum(x - self.position[0], 0.0) * self.rate
        above = np.maximum(x - self.position[-1], 0.0) * self.rate
        return inside + below + above


def _numbers(fields: list[str]) -> bool:
    try:
        return all(math.isfinite(float(field)) for field in fields)
    except ValueError:
        return False


def _columns(fields: list[str], path: Any, number: int) -> tuple[int | None, int, int, bool]:
    """Columns (contig, position, cM) of a map file and whether this first line is a header."""
    lower = [field.strip().lower().lstrip("#") for field in fields]
    if not any(_numbers([field]) for field in fields):
        at = next((k for k, f in enumerate(lower) if f in ("pos", "position", "position(bp)", "bp")), None)
        cm = next((k for k, f in enumerate(lower) if f in ("cm", "map(cm)", "genetic_map(cm)", "gpos")), None)
        contig = next((k for k, f in enumerate(lower) if f in ("chr", "chrom", "chromosome", "contig")), None)
        if at is not None and cm is not None:
            return contig, at, cm, True
        raise InputError(
            f"{path}, line {number}: columns {' '.join(fields)} lack position and cM; name them pos and cM"
        )
    # Without a header: PLINK has chr id cM bp, HapMap chr pos rate cM, SHAPEIT pos chr cM.
    if len(fields) == 4 and _numbers(fields[2:]):
        whole = fields[1].isdecimal() and not fields[3].isdecimal()
        return (0, 1, 3, False) if whole else (0, 3, 2, False)
    if len(fields) == 3 and _numbers([fields[0], fields[2]]):
        return 1, 0, 2, False
    raise InputError(
        f"{path}, line {number} is not a genetic map: write 'pos chr cM' (SHAPEIT), 'chr id cM bp' (PLINK) or "
        "'chr pos rate cM' (HapMap)"
    )


def read_map(path: str | os.PathLike[str], contig: str | None = None) -> GeneticMap:
    """Read a genetic map: SHAPEIT (``pos chr cM``), PLINK (``chr id cM bp``) or HapMap (``chr pos rate cM``).

    Args:
        path: the file, plain or gzip, with or without a header (HapMap and SHAPEIT have one, PLINK none).
        contig: the contig to take where the file holds several; ``22`` and ``chr22`` mean the same.

    Raises:
        InputError: not a map, several contigs without ``contig``, fewer than two positions, or not monotone.
    """
    lines = read_text(path, what="genetic map")
    contig_at, position_at, cm_at, header = _columns(lines[0][1].replace(",", " ").split(), path, lines[0][0])
    width = max(k for k in (contig_at, position_at, cm_at) if k is not None)
    rows: list[tuple[int, str, int, float]] = []
    for number, line in lines[1:] if header else lines:
        fields = line.replace(",", " ").split()
        try:
            name = "" if contig_at is None else fields[contig_at].removeprefix("chr")
            place, cm = float(fields[position_at]), float(fields[cm_at])
        except (IndexError, ValueError):
            raise InputError(
                f"{path}, line {number}: expected at least {width + 1} columns with numbers for position and cM"
            ) from None
        if not math.isfinite(cm) or not 0 <= place < 2**53 or not place.is_integer():
            raise InputError(
                f"{path}, line {number}: position {fields[position_at]} or cM {fields[cm_at]} is not usable"
            )
        rows.append((number, name, int(place), cm))
    names = list(dict.fromkeys(name for _, name, _, _ in rows))
    if contig is not None and contig_at is not None:
        wanted = contig.removeprefix("chr")
        if wanted not in names:
            raise InputError(
                f"{path} has no contig {contig} (it has {', '.join(names[:8])}): give the map of that contig"
            )
        rows = [row for row in rows if row[1] == wanted]
    elif len(names) > 1:
        raise InputError(f"{path} holds several contigs ({', '.join(names[:8])}): say which one")
    if len(rows) < 2:
        raise InputError(f"{path} holds fewer than two positions: give a whole genetic map")
    for (_, _, before, lower), (number, _, place, cm) in itertools.pairwise(rows):
        if place <= before or cm < lower:
            raise InputError(
                f"{path}, line {number}: the map goes back at {place} bp, {cm} cM (before: {before} bp, {lower} cM); "
                "sort it by position and drop duplicates"
            )
    _, found, position, values = zip(*rows, strict=True)
    return GeneticMap(np.array(position, dtype=np.int64), np.array(values), contig=found[0])
