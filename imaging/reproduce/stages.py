"""What a long run has finished, under a hash of all that it depends on, and the processor time it took."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from imaging.files import writing

__all__ = ["Stages", "digest"]


def digest(*parts: bytes) -> str:
    """First 16 hexadecimal digits of the SHA-256 of bytes."""
    total = hashlib.sha256()
    for part in parts:
        total.update(part)
    return total.hexdigest()[:16]


class Stages:
    """A folder of finished stages; one that is there is not run again.

    Args:
        folder: made if absent.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _path(self, name: str, needs: dict[str, Any]) -> Path:
        said = json.dumps(needs, sort_keys=True, default=str)
        return self.folder.resolve() / f"{name}-{digest(said.encode())}"

    def folder_of(self, name: str, make: Callable[[Path], object], **needs: Any) -> tuple[Path, float]:
        """A folder that ``make`` writes whole at the path it is given, and the processor seconds that went into it.

        The seconds are summed over runs that were interrupted; those of a killed process are not known.

        Args:
            name: of the stage, for people.
            make: goes on by itself from what an interrupted run left beside the path.
            needs: all that the stage depends on.
        """
        path = self._path(name, needs)
        if not path.exists():
            began = time.process_time()
            try:
                make(path)
            finally:
                spent = time.process_time() - began + (0.0 if math.isnan(self._spent(path)) else self._spent(path))
                self._write(path.with_suffix(".seconds.json"), spent)
        return path, self._spent(path)

    def value_of(self, name: str, make: Callable[[], Any], **needs: Any) -> Any:
        """What ``make`` returns, which must be expressible in JSON."""
        path = self._path(name, needs).with_suffix(".json")
        if not path.exists():
            self._write(path, make())
        return json.loads(path.read_text(encoding="utf-8"))

    @staticmethod
    def _spent(path: Path) -> float:
        """Processor seconds of a stage so far; not a number where none were noted."""
        kept = path.with_suffix(".seconds.json")
        return float(json.loads(kept.read_text(encoding="utf-8"))) if kept.exists() else math.nan

    @staticmethod
    def _write(path: Path, value: Any) -> None:
        with writing(path, force=True) as temporary:
            temporary.write_text(json.dumps(value) + "\n", encoding="utf-8")
