"""Regions of a chromosome, as written on the command line: ``22``, ``chr22:1-2000000``, ``22:5,000-``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_prep.errors import InputError

__all__ = ["Region", "windows"]

_PATTERN = re.compile(r"(?P<contig>[^\s:]+)(?::(?P<start>[\d,]+)(?P<dash>-(?P<end>[\d,]*))?)?")
_LAST = (1 << 31) - 2
"""The largest position that an index can hold."""


@dataclass(frozen=True)
class Region:
    """A contig, or positions ``start`` to ``end`` of it.

    Attributes:
        contig: name as the user gave it; ``22`` and ``chr22`` mean the same.
        start: first position, bp, 1-based.
        end: last position, bp, inclusive.
    """

    contig: str
    start: int = 1
    end: int = _LAST

    @classmethod
    def parse(cls, text: str) -> Region:
        """Read ``CONTIG``, ``CONTIG:POS``, ``CONTIG:START-`` or ``CONTIG:START-END``; commas in numbers are ignored.

        Raises:
            InputError: not such a text, or an empty interval.
        """
        found = _PATTERN.fullmatch(text.strip())
        if found is None:
            raise InputError(
                f"region {text!r} is malformed: write CONTIG or CONTIG:START-END, for example 22:1-2000000"
            )
        if found["start"] is None:
            return cls(found["contig"])
        try:
            start = int(found["start"].replace(",", ""))
            end = start if found["dash"] is None else _LAST
            if found["end"]:
                end = int(found["end"].replace(",", ""))
        except ValueError:
            raise InputError(f"region {text!r} is malformed: start and end must be whole numbers of bp") from None
        if start < 1 or end < start or start > _LAST:
            raise InputError(f"region {text!r} is empty: start must be at least 1 and not after the end")
        return cls(found["contig"], start, min(end, _LAST))

    @property
    def aliases(self) -> tuple[str, str]:
        """The contig with and without ``chr``."""
        bare = self.contig.removeprefix("chr")
        return (bare, f"chr{bare}")

    def match(self, contigs: Sequence[str]) -> str | None:
        """The name among ``contigs`` that is meant, an exact match first."""
        return next((name for name in (self.contig, *self.aliases) if name in contigs), None)

    def holds(self, contig: str, position: int) -> bool:
        """Whether a record lies inside; an indel that merely reaches in from before does not."""
        return self.start <= position <= self.end and contig in self.aliases

    def __str__(self) -> str:
        """The text that :meth:`parse` reads; nothing after the dash where the region ends with the contig."""
        return f"{self.contig}:{self.start}-{'' if self.end == _LAST else self.end}"

    def query(self, contig: str) -> str:
        """The text htslib understands for this region on ``contig``."""
        return f"{contig}:{self.start}-{self.end}"


def windows(whole: Region, position: NDArray[np.int64], *, most: int) -> list[Region]:
    """Cuts a region into as few windows of about equally many sites as hold at most about ``most`` each.

    A cut lies in the widest gap between neighbouring sites within a tenth of a window of where equal numbers would put
    it: sites far apart are the least linked. Together the windows are the region, and no two overlap.

    Args:
        whole: the region, a contig for example.
        position: of its sites, bp, ascending, (sites,).
        most: sites per window, at least 1.

    Raises:
        ValueError: no site, or ``most`` below 1.
    """
    if most < 1 or not len(position):
        raise ValueError(f"{len(position)} sites cannot be cut into windows of at most {most}")
    count = -(-len(position) // most)
    slack = len(position) // count // 10
    starts = [whole.start]
    for k in range(1, count):
        at = k * len(position) // count
        near = np.arange(max(1, at - slack), min(len(position) - 1, at + slack) + 1)
        gap = position[near] - position[near - 1]
        cut = int(near[np.lexsort((np.abs(near - at), -gap))[0]])
        starts.append(int(position[cut - 1] + position[cut] + 1) // 2)
    ends = [start - 1 for start in starts[1:]] + [whole.end]
    return [Region(whole.contig, start, end) for start, end in zip(starts, ends, strict=True)]
