"""Which figures the report shows, in which order, with caption and text for those who cannot see them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from data_prep.variants import VariantTable
from genodiff.report import figures, summaries
from genodiff.report.style import LABELS, REAL, SYNTHETIC, TRAIN, limits

__all__ = ["SECTIONS", "Panel", "Section", "panels"]


@dataclass(frozen=True)
class Panel:
    """One figure of the page.

    Attributes:
        section: key of :data:`SECTIONS`.
        name: of the file in ``figures``, without suffix.
        alt: what the figure shows, for those who cannot see it.
        figure: what is drawn.
        wide: whether it takes a whole line of the page.
    """

    section: str
    name: str
    alt: str
    figure: Figure
    wide: bool = False


@dataclass(frozen=True)
class Section:
    """A heading and the text that says how to read the figures below it."""

    title: str
    text: str


SECTIONS: dict[str, Section] = {
    "frequencies": Section(
        "Allele frequencies",
        "One point per site. Two samples of the same population scatter around the diagonal by chance alone; how far "
        "shows the second figure, where the training people take the place of the synthetic ones. The first should "
        "look like it.",
    ),
    "ld": Section(
        "Linkage disequilibrium",
        "Mean r² falls with distance, and at long range levels off at what structure and sample size leave. Below, "
        "r² of all pairs in windows of neighbouring common sites: held-out people above the diagonal, synthetic "
        "people below. The square should look symmetric; grey lines are sites that do not vary.",
    ),
    "structure": Section(
        "Population structure",
        "Principal components of the held-out people, with the synthetic people projected on them. Clouds should "
        "cover one another: a gap is a group the model lost, a bridge between groups a mixture nobody has.",
    ),
    "covariance": Section(
        "Covariance of genotypes",
        "Covariances of dosages between common sites spread over the whole region, on one scale. Blocks on the "
        "diagonal are linkage; the faint pattern far from it is population structure.",
    ),
    "privacy": Section(
        "Nearest neighbours and copied runs",
        "Synthetic rows (haplotypes, or genotypes where phase is unknown) should lie as far from the training people "
        "as those of strangers do: a synthetic curve to the left of the real one would be copying. In the second "
        "figure, training and held-out people should not be told apart by their distance to the synthetic ones. "
        "Relatives and common haplotypes make strangers share long runs too, which is why the synthetic curve of "
        "copied runs is drawn against theirs; dashed lines are the means.",
    ),
    "training": Section(
        "Training",
        "Loss by step. The dot marks the lowest loss on people left out of the fit; from there on, a widening gap "
        "between the curves is overfitting.",
    ),
}
"""Headings and texts by key, in the order of the page."""

Curves = Mapping[str, Any]


def panels(
    *,
    curves: Curves,
    synthetic: VariantTable,
    holdout: VariantTable,
    history: pd.DataFrame | None,
) -> Iterator[Panel]:
    """All figures the data allow, one at a time.

    Args:
        curves: of the evaluation.
        synthetic: synthetic people.
        holdout: people the model never saw.
        history: columns ``step``, ``train_loss``, ``holdout_loss``; ``None`` where nothing was trained.
    """
    yield from _frequencies(curves)
    yield from _ld_decay(curves)
    yield from _ld_windows(synthetic, holdout)
    yield from _structure(curves)
    yield from _covariance(synthetic, holdout)
    yield from _privacy(curves)
    if history is not None and len(history):
        alt = "Loss by training step on training people and on people left out of the fit."
        yield _panel("training", "training", alt, figures.training_curve(history), wide=True)


def _panel(section: str, name: str, alt: str, figure: Figure, *, wide: bool = False) -> Panel:
    return Panel(section=section, name=name, alt=alt, figure=figure, wide=wide)


def _frequencies(curves: Curves) -> Iterator[Panel]:
    table = curves.get("allele_frequency")
    if table is None:
        return
    real = table["holdout"].to_numpy()
    for column, name, colour in (("synthetic", "synthetic", SYNTHETIC), ("train", "training", TRAIN)):
        figure = figures.frequency_scatter(real, table[column].to_numpy(), name=name, colour=colour)
        alt = f"Scatter of allele frequencies per site: held-out people on the x axis, {name} people on the y axis."
        yield _panel("frequencies", f"frequencies_{name}", alt, figure)


def _ld_decay(curves: Curves) -> Iterator[Panel]:
    for key, unit in (("ld_decay", "bp"), ("ld_decay_cm", "cM")):
        if key in curves:
            alt = f"Mean r² between sites by their distance in {unit}, for held-out, synthetic and training people."
            yield _panel("ld", key, alt, figures.ld_decay(curves[key], unit=unit), wide=True)


def _ld_windows(synthetic: VariantTable, holdout: VariantTable) -> Iterator[Panel]:
    phased = holdout.is_phased and synthetic.is_phased
    position = holdout.sites["position"].to_numpy()
    for i, window in enumerate(summaries.windows(summaries.common_sites(holdout))):
        real, other = (
            summaries.correlation_squared(summaries.centred(summaries.rows(t.select(variants=window), phased=phased)))
            for t in (holdout, synthetic)
        )
        start, end = (position[window[k]] / 1e6 for k in (0, -1))
        where = f"{len(window)} sites, {start:.2f}–{end:.2f} Mb"
        alt = f"Heatmap of r² between {where}: held-out people above the diagonal, synthetic people below it."
        yield _panel("ld", f"ld_window_{i + 1}", alt, figures.ld_triangles(real, other, title=where))


def _label_names(labels: NDArray[Any]) -> list[str]:
    """Labels with a colour of their own: all of them, or the most frequent ones where there are more than colours."""
    names, counts = np.unique(labels.astype(str), return_counts=True)
    if len(names) <= len(LABELS):
        return [str(n) for n in names]
    return sorted(str(n) for n in names[np.argsort(-counts, kind="stable")[: len(LABELS) - 1]])


def _structure(curves: Curves) -> Iterator[Panel]:
    table = curves.get("pca")
    if table is None:
        return
    sets = {name: table[table["set"] == name] for name in ("holdout", "synthetic")}
    # Equally many points of both, evenly spaced, so that a difference in density is one of the people.
    n = min(map(len, sets.values()))
    sets = {name: part.iloc[np.linspace(0, len(part) - 1, n).round().astype(int)] for name, part in sets.items()}
    scores = {name: part.filter(regex="^PC").to_numpy(dtype=float) for name, part in sets.items()}
    k = scores["holdout"].shape[1]
    for x in range(0, min(k, 4) - 1, 2):
        figure = figures.overlay_scatter(scores["holdout"], scores["synthetic"], x=x, y=x + 1)
        alt = f"Principal components {x + 1} and {x + 2}: synthetic people drawn over held-out people."
        yield _panel("structure", f"pca_{x + 1}_{x + 2}", alt, figure)
    labels = {name: part["label"].to_numpy(dtype=str) for name, part in sets.items()}
    # Without a panel the labels are empty strings.
    if k < 2 or not all((values != "").any() for values in labels.values()):
        return
    names = _label_names(labels["holdout"])
    frame = [limits(*(values[:, i] for values in scores.values())) for i in (0, 1)]
    for key, name in (("holdout", "held-out"), ("synthetic", "synthetic")):
        title = f"{name.capitalize()} people by label"
        figure = figures.label_scatter(scores[key], labels[key], names=names, frame=frame, title=title)
        alt = (
            f"Principal components 1 and 2 of {name} people, coloured by population label; same axes as its neighbour."
        )
        yield _panel("structure", f"pca_labels_{name}", alt, figure)


def _covariance(synthetic: VariantTable, holdout: VariantTable) -> Iterator[Panel]:
    sites = summaries.thinned(summaries.common_sites(holdout))
    real, other = (summaries.covariance(summaries.centred(t.dosage()[:, sites])) for t in (holdout, synthetic))
    # The variances would take the whole scale; the upper quantile of the covariances sets it instead.
    apart = real[~np.eye(len(real), dtype=bool)]
    bound = float(np.quantile(np.abs(apart), 0.995)) if apart.size else 0.0
    for matrix, name, colour in ((real, "held-out", REAL), (other, "synthetic", SYNTHETIC)):
        figure = figures.covariance_heatmap(matrix, bound=bound or 1.0, name=f"{name} people", colour=colour)
        alt = f"Heatmap of dosage covariances between {len(sites)} sites in {name} people, same scale as its neighbour."
        yield _panel("covariance", f"covariance_{name}", alt, figure)


def _privacy(curves: Curves) -> Iterator[Panel]:
    for name, title, parts in (
        (
            "nearest_training",
            "How near is the nearest training row?",
            {"nearest_synthetic_to_train": "synthetic people", "nearest_holdout_to_train": "held-out people"},
        ),
        (
            "nearest_synthetic",
            "How near is the nearest synthetic row?",
            {"nearest_train_to_synthetic": "training people", "nearest_holdout_to_synthetic": "held-out people"},
        ),
    ):
        distances = {caption: np.asarray(curves[key]) for key, caption in parts.items() if key in curves}
        if distances:
            alt = f"Histogram of the distance to the nearest row, for {' and for '.join(distances)}. {title}"
            yield _panel("privacy", name, alt, figures.distance_histogram(distances, title=title))
    parts = {"copied_run_synthetic_train": "synthetic people", "copied_run_holdout_train": "held-out people"}
    runs = {caption: np.asarray(curves[key]) for key, caption in parts.items() if key in curves}
    if runs:
        alt = f"Share of rows by the longest run of sites shared with a training row, for {' and for '.join(runs)}."
        yield _panel("privacy", "copied_runs", alt, figures.run_histogram(runs), wide=True)
