"""What a method with a guarantee has to say before it may read people."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from data_prep.filters import FilterReport

__all__ = ["PrivacyWarning", "Private"]


class PrivacyWarning(UserWarning):
    """The options are allowed, and the guarantee says little or nothing."""


@runtime_checkable
class Private(Protocol):
    """A method whose output satisfies differential privacy."""

    def check_sites(self, filters: FilterReport) -> None:
        """Refuses sites that were chosen by looking at the people, unless they are public all the same.

        Raises:
            InputError: a filter on genotypes removed sites.
        """
        ...

    def guarantee(self, people: int) -> list[str]:
        """What is promised for this many people, what is assumed, and what speaks against it, in lines of text."""
        ...
