"""Why a task cannot be measured on the data or the machine at hand."""

from __future__ import annotations

from data_prep.errors import InputError

__all__ = ["Unmeasurable"]


class Unmeasurable(InputError):
    """A task lacks what it needs: a program, labels, phase or sites.

    A task that was asked for by name fails with it; one that was not is left out, and the reason stands in its place.
    """
