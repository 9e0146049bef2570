"""The experiments of the GOU paper (Taheri 2026, arXiv:2606.03360) run again, and published peers beside ours."""

from __future__ import annotations

from typing import Literal

__all__ = ["Length", "seeds_for"]

Length = Literal["quick", "full"]
"""How long an experiment may take: minutes, or as long as it needs."""


def seeds_for(length: Length, seeds: int | None) -> int:
    """The number of seeds asked for; 2 for quick and 5 for full if ``None``."""
    return seeds or {"quick": 2, "full": 5}[length]
