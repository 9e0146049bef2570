"""What the pages share: numbers, Markdown tables, verdicts, figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from imaging.files import writing

__all__ = [
    "Verdict",
    "deviation",
    "judged",
    "markdown",
    "new_figure",
    "number",
    "save_figure",
    "verdict_table",
    "write_text",
]


@dataclass(frozen=True)
class Verdict:
    """A claim and what is found.

    Attributes:
        what: is judged.
        value: found.
        wanted: bound, in words.
        met: whether it holds; ``None`` if it cannot be told.
    """

    what: str
    value: float
    wanted: str
    met: bool | None


def judged(what: str, value: float, limit: float) -> Verdict:
    """Whether a value is at most a limit; not known where it is not a number."""
    return Verdict(what, value, f"at most {limit:g}", None if math.isnan(value) else value <= limit)


def number(value: float, digits: int = 3) -> str:
    """So many digits, or a dash for what is not a number."""
    return "–" if math.isnan(value) else f"{value:.{digits}g}"


def deviation(spread: float) -> str:
    """``± sd`` of a value over seeds, or nothing where there is one seed."""
    return "" if math.isnan(spread) else f"± {spread:.1g}"


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of text, its first column aligned left, all others right."""
    lines = ["| " + " | ".join(header) + " |", "|---" + "|---:" * (len(header) - 1) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def verdict_table(found: Sequence[Verdict]) -> str:
    """How many claims hold, and each of them."""
    word = {True: "met", False: "**missed**", None: "not known"}
    rows = [[verdict.what, number(verdict.value, 4), verdict.wanted, word[verdict.met]] for verdict in found]
    met = f"{sum(verdict.met is True for verdict in found)} of {len(found)} met."
    return f"{met}\n\n" + markdown(["what is judged", "value", "wanted", "verdict"], rows)


def new_figure(width: float, height: float = 3.2) -> Figure:
    """An empty figure, in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """The figure as a PNG that is whole or absent."""
    with writing(path, force=True) as temporary:
        figure.savefig(temporary, dpi=150)


def write_text(parts: Sequence[str], path: Path) -> Path:
    """Paragraphs as a page that is whole or absent."""
    with writing(path, force=True) as temporary:
        temporary.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return path
