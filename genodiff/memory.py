"""How much memory learning takes, and how much there is: known before the hours are spent."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from data_prep.errors import InputError

__all__ = ["available_bytes", "needed_bytes", "require_memory"]

_BASE = 0.55e9
"""The program and its libraries."""

_PER_SITE = 42e3
"""Weights of every tile with their averages and moments, and the activations of a batch."""

_PER_GENOTYPE = 60.0
"""Bytes per person and site: alleles read, learned, drawn and judged, in the types each of it takes."""

_PER_ALLELE_DRAWN = 6.0

_WIDTH = 32
"""Width of the network for which :data:`_PER_SITE` was measured."""

_SURE = 1.4
"""An estimate so many times what is available is not mistaken."""


def needed_bytes(*, people: int, sites: int, width: int, drawn: int = 0) -> float:
    """Peak memory of learning from and judging people, by what was measured (docs/results/reliability.md).

    Args:
        people: learned from and held out.
        sites: that the model draws; those tied to others cost next to nothing.
        width: channels of the network.
        drawn: people to draw.
    """
    learned = _PER_SITE * sites * width / _WIDTH + _PER_GENOTYPE * people * sites
    return _BASE + learned + 2 * _PER_ALLELE_DRAWN * drawn * sites


def available_bytes() -> float | None:
    """What this process may still take: of the machine, of its control group, and by ``ulimit -v``.

    ``None`` where the system does not tell.
    """
    limits = [_of_machine(), *_of_groups(), _of_process()]
    known = [limit for limit in limits if limit is not None]
    return min(known) if known else None


def _of_machine() -> float | None:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024.0
    except OSError:
        pass
    return None


def _of_groups() -> list[float]:
    """What the control groups of this process leave, version 1 and 2."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, own = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root = Path("/sys/fs/cgroup") / ("memory" if controllers else "")
        most, used = ("memory.max", "memory.current")
        if controllers:
            most, used = ("memory.limit_in_bytes", "memory.usage_in_bytes")
        # Within a container the path of the group may be that outside of it.
        for folder in (root / own.lstrip("/"), root):
            try:
                limit, usage = (folder / most).read_text().strip(), int((folder / used).read_text())
            except (OSError, ValueError):
                continue
            if limit.isdigit() and int(limit) < 1 << 60:
                found.append(max(0.0, float(limit) - usage + _cache(folder)))
            break
    return found


def _cache(folder: Path) -> float:
    """Bytes of files that a group holds and gives up when asked."""
    try:
        lines = (folder / "memory.stat").read_text().splitlines()
    except OSError:
        return 0.0
    facts = dict(line.split()[:2] for line in lines if len(line.split()) == 2)
    return float(facts.get("total_inactive_file", facts.get("inactive_file", 0)))


def _of_process() -> float | None:
    try:
        import resource

        soft, _ = resource.getrlimit(resource.RLIMIT_AS)
        if soft == resource.RLIM_INFINITY:
            return None
        return max(0.0, float(soft) - _of_statm(0))
    except (ImportError, OSError):
        return None


def _resident() -> float:
    """What this process already has."""
    try:
        return _of_statm(1)
    except OSError:
        return 0.0


def _of_statm(place: int) -> float:
    """Bytes of this process: of address space (0), of memory (1)."""
    return float(int(Path("/proc/self/statm").read_text(encoding="ascii").split()[place]) * os.sysconf("SC_PAGE_SIZE"))


def require_memory(needed: float, *, what: str, remedies: str, anyway: bool = False) -> None:
    """Refuses what cannot fit, and warns on stderr of what may not.

    Args:
        needed: estimated peak of this process, bytes.
        what: the run, for the message.
        remedies: what to do about it.
        anyway: warn only.

    Raises:
        InputError: far more is needed than there is.
    """
    free = available_bytes()
    if free is None or needed <= (there := free + _resident()):
        return
    line = f"{what} needs about {_gb(needed)}, {_gb(there)} available"
    if needed > _SURE * there and not anyway:
        raise InputError(f"{line}: {remedies}; or try nevertheless with --ignore-memory")
    print(f"genodiff: warning: {line}: {remedies}", file=sys.stderr)


def _gb(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size < 9.95e9 else f"{size / 1e9:.0f} GB"
