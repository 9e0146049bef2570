"""Figures fit for print: colours that survive colour blindness, vector files that are repeatable, named axes."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray

from genodiff.report import comparison_figures, figures
from genodiff.report.style import LABELS, REAL, RUNS, SYNTHETIC, TRAIN, canvas, saved

# Machado, Oliveira and Fernandes 2009, severity 1.0, on linear RGB.
_SIGHT = {
    "all cones": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "no long cones": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "no medium cones": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "no short cones": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
_XYZ = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]


def lab(colour: str, sight: str) -> NDArray[np.float64]:
    """CIE Lab of a colour ``#rrggbb`` as somebody of that sight has it."""
    value = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    x = np.array(_XYZ) @ np.clip(np.array(_SIGHT[sight]) @ linear, 0, 1) / (0.95047, 1, 1.08883)
    f = np.where(x > (6 / 29) ** 3, np.cbrt(x), x / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def nearest(colours: Sequence[str], sight: str) -> float:
    return min(float(np.linalg.norm(lab(a, sight) - lab(b, sight))) for a, b in combinations(colours, 2))


def test_the_measure_of_colours_is_right() -> None:
    assert lab("#ffffff", "all cones") == pytest.approx([100, 0, 0], abs=0.01)
    assert lab("#ff0000", "all cones") == pytest.approx([53.24, 80.09, 67.20], abs=0.01)
    # Two colours of a well-known palette: this pink and this grey are one without medium cones.
    assert nearest(("#cc79a7", "#8b97a3"), "no medium cones") < 5 < 30 < nearest(("#cc79a7", "#8b97a3"), "all cones")


@pytest.mark.parametrize("sight", _SIGHT)
@pytest.mark.parametrize(
    "palette", [(REAL, SYNTHETIC, TRAIN), LABELS, (REAL, TRAIN, *RUNS)], ids=("roles", "labels", "runs")
)
def test_colours_are_told_apart(palette: tuple[str, ...], sight: str) -> None:
    assert nearest(palette, sight) > 25
    # Lines need to be seen on white too.
    assert all(np.linalg.norm(lab(colour, sight) - (100, 0, 0)) > 25 for colour in palette)


def test_many_runs_are_told_apart_without_colour() -> None:
    looks = [comparison_figures.look_of(place) for place in range(24)]
    assert len({(str(look["color"]), str(look["linestyle"])) for look in looks}) == 24


def drawn() -> Figure:
    figure, axes = canvas()
    axes.plot([0, 1], [0, 1])
    axes.set(xlabel="distance (kb)", ylabel="mean r²")
    return figure


@pytest.mark.parametrize(("kind", "start"), [("png", b"\x89PNG\r\n"), ("pdf", b"%PDF-1."), ("svg", b"<?xml")])
def test_every_kind_is_what_it_says_and_repeatable(kind: str, start: bytes) -> None:
    content = saved(drawn(), kind)
    assert content.startswith(start)
    assert saved(drawn(), kind) == content


def test_fonts_in_a_pdf_are_whole() -> None:
    content = saved(drawn(), "pdf")
    assert b"/FontFile2" in content  # TrueType
    assert b"/Subtype /Type3" not in content


def test_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="'gif': expected one of png, pdf, svg"):
        saved(drawn(), "gif")


def _decay() -> pd.DataFrame:
    middle = np.logspace(2, 6, 8)
    falling = 0.3 * np.exp(-middle / 1e5)
    return pd.DataFrame({"middle": middle, "holdout": falling, "synthetic": falling * 0.9, "train": falling * 1.1})


_RNG = np.random.default_rng(0)
_POINTS = _RNG.normal(size=(3000, 2))
_PCA = pd.DataFrame({"set": np.repeat(["holdout", "synthetic"], 40), "PC1": _POINTS[:80, 0], "PC2": _POINTS[:80, 1]})
_RUNS = {"a": _RNG.random(50), "b": _RNG.random(50)}

FIGURES: dict[str, Callable[[], Figure]] = {
    "frequencies": lambda: figures.frequency_scatter(
        _RNG.random(3000), _RNG.random(3000), name="synthetic", colour=SYNTHETIC
    ),
    "ld decay": lambda: figures.ld_decay(_decay(), unit="bp"),
    "ld decay, cM": lambda: figures.ld_decay(_decay(), unit="cM"),
    "ld triangles": lambda: figures.ld_triangles(np.eye(5), np.eye(5), title="5 sites"),
    "covariance": lambda: figures.covariance_heatmap(np.eye(5), bound=1, name="synthetic people", colour=SYNTHETIC),
    "components": lambda: figures.overlay_scatter(_POINTS, _POINTS, x=0, y=1),
    "labels": lambda: figures.label_scatter(
        _POINTS, np.array(["A"] * 3000), names=["A"], frame=[(-3, 3)] * 2, title="Labels"
    ),
    "distances": lambda: figures.distance_histogram({"synthetic people": np.arange(9)}, title="Distances"),
    "runs": lambda: figures.run_histogram({"synthetic people": np.arange(9)}),
    "training": lambda: figures.training_curve(pd.DataFrame({"step": [0, 1], "train_loss": [1, 0.5]})),
    "against floors": lambda: comparison_figures.against_floor(
        pd.DataFrame({"a": [1.0, 2.0], "b": [0.5, np.nan]}, index=["x", "y"])
    ),
    "ld decays": lambda: comparison_figures.ld_decays({"a": _decay(), "b": _decay()}, unit="bp", apart=False),
    "ld decays apart": lambda: comparison_figures.ld_decays({"a": _decay(), "b": _decay()}, unit="bp", apart=True),
    "cumulative": lambda: comparison_figures.cumulative(
        _RUNS, _RUNS, axis="error", of="sites", title="Errors", log=True
    ),
    "several components": lambda: comparison_figures.components({"a": _PCA, "b": _PCA}),
}  # fmt: skip


@pytest.mark.parametrize("name", FIGURES)
def test_axes_are_named(name: str) -> None:
    for axes in FIGURES[name]().axes:
        if not axes.get_visible():
            continue
        assert axes.get_ylabel() or name == "against floors"
        assert axes.get_xlabel() or axes.get_label() == "<colorbar>"


@pytest.mark.parametrize(
    ("unit", "label"), [("bp", "distance between sites (kb)"), ("cM", "distance between sites (cM)")]
)
def test_distances_have_a_unit(unit: str, label: str) -> None:
    figure = figures.ld_decay(_decay(), unit=unit)
    saved(figure, "png")
    (axes,) = figure.axes
    assert axes.get_xlabel() == label
    ticks = [text.get_text() for text in axes.get_xticklabels()]
    assert "1,000" in ticks
    assert ("1,000,000" in ticks) == (unit == "cM")
    assert all(re.fullmatch(r"[\d.,]*", tick) for tick in ticks)


def test_a_cloud_of_many_points_stays_small_in_a_vector_file() -> None:
    assert len(saved(FIGURES["frequencies"](), "svg")) < 400_000
