"""What a method costs: time and memory of a process of its own; and which code it was that ran."""

from __future__ import annotations

import ast
import hashlib
import signal
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import torch

from data_prep.errors import GenodiffError
from genodiff.provenance import peak_memory_mb

__all__ = ["Cost", "code_digest", "measured"]

T = TypeVar("T")


@dataclass(frozen=True)
class Cost:
    """Of one call.

    Attributes:
        seconds: wall-clock time, imports left out.
        megabytes: largest resident memory of its process (10⁶ bytes), interpreter and libraries included; NaN where
            the system does not tell.
    """

    seconds: float
    megabytes: float


def measured(function: Callable[..., T], *args: Any, **kwargs: Any) -> tuple[T, Cost]:
    """Calls ``function`` in a process that has done nothing else.

    Memory that a process has held once may stay with it, so that what a call needs shows in a fresh one alone.

    Args:
        function: of a module, not a closure; arguments and result cross the border between the processes.

    Raises:
        GenodiffError: the process was ended from outside.
        Exception: what ``function`` raises.
    """
    with ProcessPoolExecutor(
        1, mp_context=get_context("spawn"), initializer=_begin, initargs=(torch.get_num_threads(),)
    ) as pool:
        try:
            return pool.submit(_call, function, args, kwargs).result()
        except BrokenProcessPool as error:
            raise GenodiffError(
                f"the process of {function.__name__} was ended from outside, most likely for want of memory: free some "
                "and start again; what was finished is kept"
            ) from error


def _begin(threads: int) -> None:
    # An interrupt goes to both processes, and only one of them should speak of it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    torch.set_num_threads(threads)


def _call(function: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[T, Cost]:
    began = time.perf_counter()
    result = function(*args, **kwargs)
    seconds, peak = time.perf_counter() - began, peak_memory_mb()
    return result, Cost(seconds, float("nan") if peak is None else peak)


def code_digest(*names: str) -> str:
    """A hash of the code of packages and modules; comments, docstrings and layout do not count.

    Args:
        names: as they are imported; of a package all modules below it.

    Raises:
        ValueError: a name that cannot be imported.
    """
    digest = hashlib.sha256()
    for name in names:
        spec = find_spec(name)
        if spec is None or spec.origin is None:
            raise ValueError(f"{name} is no module with a source")
        source = Path(spec.origin)
        for path in sorted(source.parent.rglob("*.py")) if spec.submodule_search_locations else [source]:
            tree = ast.parse(path.read_text(encoding="utf-8"))
            for node in ast.walk(tree):
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                    node.body = [statement for statement in node.body if not _is_text(statement)]
            digest.update(f"{name} {path.name}\n{ast.unparse(tree)}\n".encode())
    return digest.hexdigest()[:20]


def _is_text(statement: ast.stmt) -> bool:
    value = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)
