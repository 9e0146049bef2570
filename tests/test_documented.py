"""Every module can be imported and says what it is; every public name says what it does."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

import data_prep
import genodiff
import imaging


def names_below(package: ModuleType) -> Iterator[str]:
    """The package and all modules in it but those with a main program, which run when imported."""
    yield package.__name__
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not found.name.endswith("__main__"):
            yield found.name


MODULES = [name for package in (data_prep, genodiff, imaging) for name in names_below(package)]


def complaint(text: str | None) -> str:
    """What is wrong with a docstring; empty where nothing is."""
    if not text or not text.strip():
        return "has no docstring"
    summary, *rest = inspect.cleandoc(text).split("\n\n", 1)
    line = " ".join(summary.split())
    if not re.search(r"[.:?!)”\"`]$", line):
        return f"has a summary that does not end: {line!r}"
    if heading := re.search(r"^(Args|Returns|Raises|Attributes|Yields)\s*$", rest[0] if rest else "", re.MULTILINE):
        return f"has a heading {heading[1]} without a colon"
    return ""


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (None, "no docstring"),
        ("  ", "no docstring"),
        ("Adds two numbers", "does not end"),
        ("Adds.\n\n    Args\n        a: one.\n    ", "heading Args"),
        ("Adds.\n\n    Args:\n        a: one.\n    ", ""),
    ],
)
def test_the_check_sees_what_is_wrong(text: str | None, wrong: str) -> None:
    assert wrong in complaint(text)
    assert bool(wrong) == bool(complaint(text))


@pytest.mark.parametrize("package", ["data_prep", "genodiff", "imaging"])
def test_modules_import_and_are_documented(package: str) -> None:
    wrong = []
    for name in MODULES:
        if name.split(".")[0] != package:
            continue
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            # An extra that is not installed is no fault of the module; another import that fails is.
            if (error.name or "").split(".")[0] in {"data_prep", "genodiff", "imaging"}:
                raise
            continue
        if said := complaint(module.__doc__):
            wrong.append(f"{name} {said}")
        public: list[str] = list(getattr(module, "__all__", []))
        if sorted(set(public)) != sorted(public):
            wrong.append(f"{name}.__all__ names something twice")
        for item in public:
            thing: Any = getattr(module, item)  # a name that is not there fails here
            # A decorator that click makes is a value, as options of commands are, and has no docstring of its own.
            defined = inspect.isclass(thing) or inspect.isroutine(thing)
            if defined and "<locals>" not in thing.__qualname__ and (said := complaint(thing.__doc__)):
                wrong.append(f"{name}.{item} {said}")
    assert not wrong, "\n".join(wrong)


def test_the_modules_are_found() -> None:
    assert {"genodiff", "genodiff.pipeline", "genodiff.core.samplers", "data_prep.vcf", "imaging.toad"} <= set(MODULES)
    assert "genodiff.__main__" not in MODULES
