"""``Provenance``: what a run was, so that it can be repeated and its output believed.

One collector goes through a run; every output folder receives what it gathered as ``provenance.json``.
"""

from __future__ import annotations

import dataclasses
import json
import platform
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from genodiff.files import atomic_text, sha256

__all__ = ["PACKAGES", "Provenance", "package_versions", "peak_memory_mb"]

PACKAGES = ("torch", "numpy", "scipy", "pandas", "scikit-learn", "scikit-allel", "cyvcf2", "pysam", "anndata")
"""Packages whose version can change a result."""

_OWN = frozenset(("genodiff", "command", "started", "seed", "device", "configuration", "inputs", "packages"))
_MEASURED = frozenset(("seconds", "seconds_total", "peak_memory_mb", "python", "platform"))


def package_versions(names: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Installed versions by package name; absent packages are left out. Reads metadata, imports nothing."""
    versions = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def peak_memory_mb() -> float | None:
    """Largest resident memory of this process so far in MB (10⁶ bytes), or ``None`` where the system does not tell."""
    # On Linux ru_maxrss outlives exec: a small program started by a large one reports the large one's peak.
    # VmHWM does not.
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    except OSError:
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e6


def _plain(value: Any) -> Any:
    """``value`` in types that JSON knows; what has no such form becomes its ``str``."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        # NaN and the infinities are no JSON; strict readers refuse the whole file.
        return value if value - value == 0 else str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(v) for v in (sorted(value, key=str) if isinstance(value, set | frozenset) else value)]
    if hasattr(value, "tolist"):  # numpy and torch scalars and arrays
        return _plain(value.tolist())
    return str(value)


@dataclass
class Provenance:
    """Collects version, command, seed, configuration, inputs, timings and memory of one run.

    Attributes:
        command: the command line, paths as they were given.
        seed: the seed of the run; ``None`` where it has none.
        configuration: the options in force, defaults included.
        device: where tensors lived, for example ``cpu``.
        facts: what the stages have to say of themselves, for example the sites each filter removed.
    """

    command: Sequence[str] = field(default_factory=lambda: tuple(sys.argv))
    seed: int | None = None
    configuration: Mapping[str, Any] = field(default_factory=dict)
    device: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    _inputs: dict[str, dict[str, Any]] = field(default_factory=dict, init=False, repr=False)
    _seconds: dict[str, float] = field(default_factory=dict, init=False, repr=False)
    _started: datetime = field(default_factory=lambda: datetime.now(UTC), init=False, repr=False)
    _clock: float = field(default_factory=time.perf_counter, init=False, repr=False)

    def add_input(self, path: Path | str, *, role: str = "genotypes") -> None:
        """Record an input file with its size and SHA-256.

        Args:
            path: the file, as the user named it.
            role: what it was read for, for example ``genotypes``, ``panel`` or ``map``.
        """
        file = Path(path)
        self._inputs[str(path)] = {"role": role, "bytes": file.stat().st_size, "sha256": sha256(file)}

    def record(self, name: str, value: Any) -> None:
        """Record a fact under ``name``; a later value replaces an earlier one.

        Raises:
            ValueError: ``name`` is one that :meth:`to_dict` gives out itself.
        """
        if name in _OWN | _MEASURED:
            raise ValueError(f"{name!r} is recorded by Provenance itself")
        self.facts[name] = value

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the block under ``name``, also where it fails; blocks of the same name add up."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[name] = self._seconds.get(name, 0.0) + time.perf_counter() - start

    def to_dict(self) -> dict[str, Any]:
        """All of it so far, in types that JSON knows."""
        try:
            version: str | None = metadata.version("genodiff")
        except metadata.PackageNotFoundError:  # run from a source tree that is not installed
            version = None
        peak = peak_memory_mb()
        return {
            "genodiff": version,
            "command": [str(part) for part in self.command],
            "started": self._started.isoformat(timespec="seconds"),
            "seed": _plain(self.seed),
            "device": self.device,
            "configuration": _plain(self.configuration),
            "inputs": _plain(self._inputs),
            "seconds": {name: round(value, 3) for name, value in self._seconds.items()},
            "seconds_total": round(time.perf_counter() - self._clock, 3),
            "peak_memory_mb": None if peak is None else round(peak, 1),
            "python": platform.python_version(),
            "platform": platform.platform(),
            "packages": package_versions(),
            **_plain(self.facts),
        }

    def write(self, path: Path | str) -> Path:
        """Write :meth:`to_dict` as JSON to ``path`` in one step and return the path."""
        return atomic_text(path, json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n")
