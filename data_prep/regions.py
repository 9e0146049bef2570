"""Regions of a chromosome, as written on the command line: ``22``, ``chr22:1-2000000``, ``22:5,000-``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from data_prep.errors import InputError

__all__ = ["Region"]

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

    def query(self, contig: str) -> str:
        """The text htslib understands for this region on ``contig``."""
        return f"{contig}:{self.start}-{self.end}"
