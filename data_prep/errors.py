"""Errors a user can act on.

Every one of them is a single line that names the file (and the record, where there is one) and the remedy.
The command line prints the line to stderr and exits with status 2.
"""

from __future__ import annotations

__all__ = ["GenodiffError", "InputError", "OutputError", "PloidyError"]


class GenodiffError(Exception):
    """Base of all errors that are reported to the user as one line."""


class InputError(GenodiffError):
    """An input file, or what it holds, cannot be used."""


class PloidyError(InputError):
    """A contig of which some people have one copy is not read as it was asked for.

    Args:
        found: file, place, and what stands there.
        remedy: what to do where sexes can be given; who cannot take them says something else.
    """

    def __init__(self, found: str, remedy: str) -> None:
        super().__init__(f"{found}: {remedy}")
        self.found = found


class OutputError(GenodiffError):
    """An output cannot be written: it exists, the disk is full, the folder is read-only."""
