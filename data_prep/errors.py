"""Errors a user can act on.

Every one of them is a single line that names the file (and the record, where there is one) and the remedy.
The command line prints the line to stderr and exits with status 2.
"""

from __future__ import annotations

__all__ = ["GenodiffError", "InputError", "OutputError"]


class GenodiffError(Exception):
    """Base of all errors that are reported to the user as one line."""


class InputError(GenodiffError):
    """An input file, or what it holds, cannot be used."""


class OutputError(GenodiffError):
    """An output cannot be written: it exists, the disk is full, the folder is read-only."""
