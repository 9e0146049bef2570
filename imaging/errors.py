"""``ImagingError``: what a user can mend, said in one line that names the file and the remedy."""

from __future__ import annotations

__all__ = ["ImagingError"]


class ImagingError(Exception):
    """Bad input or an impossible request; the command line shows the message and ends with status 2."""
