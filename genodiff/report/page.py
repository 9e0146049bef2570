"""The page: metrics, figures, data and provenance as one HTML file that opens without a network."""

from __future__ import annotations

import base64
import json
import math
import shlex
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from data_prep.filters import REASONS
from data_prep.variants import VariantTable
from genodiff.files import atomic_text, atomic_write
from genodiff.report import style
from genodiff.report.glossary import FAMILIES, METRICS
from genodiff.report.panels import SECTIONS, Panel, panels
from genodiff.report.summaries import aligned
from genodiff.report.verdict import judge, number

if TYPE_CHECKING:
    from genodiff.evaluation.suite import Evaluation

__all__ = ["embedded", "place_of", "render", "write_metrics_csv", "write_report"]

_HELD_OUT = "_holdout"
_CUE_MIDDLE, _CUE_HALF, _CUE_FACTOR = 46.0, 38.0, 4.0


def write_metrics_csv(frame: pd.DataFrame, path: Path | str) -> Path:
    """Write the tidy table of metrics as CSV in one step and return the path."""
    return atomic_text(path, frame.to_csv(index=False, lineterminator="\n"))


def write_report(
    out_dir: Path,
    *,
    evaluation: Evaluation,
    synthetic: VariantTable,
    train: VariantTable,
    holdout: VariantTable,
    history: pd.DataFrame | None,
    provenance: dict[str, Any],
    title: str,
) -> Path:
    """Write ``report.html`` and ``figures/*.png`` into a folder.

    Args:
        out_dir: the folder; created if absent.
        evaluation: metrics and curves of the synthetic people.
        synthetic: synthetic people.
        train: people the model was fitted on.
        holdout: people it never saw.
        history: columns ``step``, ``train_loss``, ``holdout_loss``; ``None`` where nothing was trained.
        provenance: as :meth:`genodiff.provenance.Provenance.to_dict` gives it. Under ``filters`` may lie what
            :class:`data_prep.filters.FilterReport` gives as a dictionary, or a list of those; the page then lists what
            was removed. Under ``privacy`` may lie a ``note`` of what was done for it, which the page repeats.
        title: heading of the page.

    Returns:
        Path of ``report.html``.
    """
    out_dir = Path(out_dir)
    real, other = aligned(holdout, synthetic)
    shown: dict[str, list[dict[str, Any]]] = {key: [] for key in SECTIONS}
    for panel in panels(curves=evaluation.curves, synthetic=other, holdout=real, history=history):
        with atomic_write(out_dir / "figures" / f"{panel.name}.png") as temporary:
            temporary.write_bytes(panel.image)
        shown[panel.section].append(embedded(panel))
    verdict = judge(evaluation.frame, holdout_haplotypes=2 * holdout.n_samples)
    command = provenance.get("command")
    notes = {"privacy": dict(provenance.get("privacy") or {}).get("note", "")}
    html = render(
        "page.html",
        title=title,
        verdict=verdict,
        sections=[
            {"title": s.title, "text": f"{s.text} {notes.get(key, '')}".strip(), "panels": shown[key]}
            for key, s in SECTIONS.items()
            if shown[key]
        ],
        families=_families(evaluation.frame),
        data=_data(evaluation.frame, synthetic=synthetic, train=train, holdout=holdout),
        filters=_filters(provenance.get("filters")),
        labels=_labels(synthetic=synthetic, train=train, holdout=holdout),
        command=shlex.join(map(str, command)) if command else "",
        version=provenance.get("genodiff"),
        started=provenance.get("started"),
        provenance=json.dumps(provenance, indent=2, ensure_ascii=False, default=str),
    )
    return atomic_text(out_dir / "report.html", html)


def render(template: str, **values: Any) -> str:
    """A page from one of the templates of this folder."""
    # Everything that reaches the page is escaped: names of labels, files and sites are the user's.
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=False
    )
    colours = {"real": style.REAL, "synthetic": style.SYNTHETIC}
    return environment.get_template(template).render(colours=colours, **values)


def embedded(panel: Panel) -> dict[str, Any]:
    """What a template needs of a figure: its bytes in base64, its text, its size."""
    # Width and height, which PNG keeps at byte 16, let the browser lay out the page before it decodes the image.
    width, height = struct.unpack(">II", panel.image[16:24])
    data = base64.b64encode(panel.image).decode("ascii")
    return {"data": data, "alt": panel.alt, "wide": panel.wide, "width": width, "height": height}


@dataclass(frozen=True)
class _Row:
    """One line of a table of metrics, as text; ``place`` is where the mark lies, ``None`` where it cannot be drawn."""

    label: str
    meaning: str
    value: str
    interval: str
    floor: str
    n: str
    unit: str
    ratio: str
    place: float | None


def _families(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Tables of metrics, known families first; counts of sites belong to the data summary."""
    present = [f for f in dict.fromkeys(frame["family"]) if f != "sites"]
    order = [f for f in FAMILIES if f in present] + [f for f in present if f not in FAMILIES]
    tables = []
    for family in order:
        entry = FAMILIES.get(family)
        lines = [asdict(row) for row in _rows(frame[frame["family"] == family])]
        title = entry.label if entry else family.replace("_", " ").capitalize()
        tables.append({"title": title, "text": entry.text if entry else "", "rows": lines})
    return tables


def _rows(frame: pd.DataFrame) -> list[_Row]:
    """Lines of one table. What is measured on held-out people alone is said below the metric it belongs to."""
    values = dict(zip(frame["metric"].astype(str), frame["value"].astype(float), strict=True))
    rows = []
    bounded = frame.reindex(columns=["metric", "value", "floor", "n", "unit", "low", "high"])
    for metric, value, floor, n, unit, *bounds in bounded.itertuples(index=False):
        name = str(metric)
        if name.endswith(_HELD_OUT) and name.removesuffix(_HELD_OUT) in values:
            continue
        row = _row(name, float(value), float(floor), float(n), str(unit))
        if all(map(math.isfinite, bounds)):
            row = replace(row, interval="{} to {}".format(*map(number, bounds)))
        if name + _HELD_OUT in values:
            row = replace(row, meaning=f"{row.meaning} Held-out people: {number(values[name + _HELD_OUT])}.".strip())
        rows.append(row)
    return rows


def _row(metric: str, value: float, floor: float, n: float, unit: str) -> _Row:
    entry = METRICS.get(metric)
    ratio, place = place_of(value, floor)
    return _Row(
        label=entry.label if entry else metric.replace("_", " "),
        meaning=entry.text if entry else "",
        value=number(value),
        interval="",
        floor=number(floor),
        n=f"{n:,.0f}" if math.isfinite(n) else "–",
        unit=unit,
        ratio=ratio,
        place=place,
    )


def place_of(value: float, floor: float) -> tuple[str, float | None]:
    """How many times the floor a value is, as text, and where its mark lies; empty and ``None`` without meaning."""
    if not (math.isfinite(value) and math.isfinite(floor) and value >= 0 and floor > 0):
        return "", None
    ratio = value / floor
    doublings = math.log(max(ratio, 1e-9)) / math.log(_CUE_FACTOR)
    place = round(_CUE_MIDDLE + _CUE_HALF * max(-1.0, min(1.0, doublings)), 1)
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}", place


def _data(
    frame: pd.DataFrame, *, synthetic: VariantTable, train: VariantTable, holdout: VariantTable
) -> dict[str, Any]:
    compared = frame.loc[frame["metric"] == "sites_compared", "value"]
    dropped = frame.loc[frame["metric"] == "sites_dropped", "value"]
    calls = train.n_samples * train.n_variants + holdout.n_samples * holdout.n_variants
    missing = sum(int((t.haplotypes < 0).any(axis=2).sum()) for t in (train, holdout))
    return {
        "synthetic": synthetic.n_samples,
        "train": train.n_samples,
        "holdout": holdout.n_samples,
        "sites": int(compared.iloc[0]) if len(compared) else holdout.n_variants,
        "dropped": int(dropped.iloc[0]) if len(dropped) else 0,
        "region": _region(holdout),
        "phase": "haplotypes" if all(t.is_phased for t in (synthetic, train, holdout)) else "genotypes",
        "missing": "none" if not missing else f"{missing / max(calls, 1):.2%}",
    }


def _region(table: VariantTable) -> str:
    """``22:16.05–51.24 Mb``, or the number of contigs where there are several; empty without sites."""
    contigs = table.sites["contig"].unique()
    if not len(contigs):
        return ""
    if len(contigs) > 1:
        return f"{len(contigs)} contigs"
    position = table.sites["position"].to_numpy() / 1e6
    return f"{contigs[0]}:{position[0]:.2f}–{position[-1]:.2f} Mb"


def _filters(reports: Any) -> list[dict[str, Any]]:
    """One entry for every filter report in the provenance: a sentence, and what was removed for which reason."""
    if not reports:
        return []
    entries = []
    for report in [reports] if isinstance(reports, Mapping) else reports:
        removed = [(_reason(r, report), int(n)) for r, n in dict(report.get("removed", {})).items()]
        kept, seen = report.get("kept"), report.get("n_records")
        line = f"{kept:,} of {seen:,} records were kept" if kept is not None and seen is not None else "Records removed"
        source = report.get("source")
        entries.append({"line": f"{line}{f' of {source}' if source else ''}.", "removed": removed})
    return entries


def _reason(reason: str, report: Mapping[str, Any]) -> str:
    text = REASONS.get(reason, reason)
    if reason == "maf" and "maf" in report:
        return f"{text} of {report['maf']:g}"
    if reason == "missing" and "max_missing" in report:
        return f"{text} (above {report['max_missing']:.0%} of people)"
    return text


def _labels(*, synthetic: VariantTable, train: VariantTable, holdout: VariantTable) -> list[dict[str, Any]]:
    tables = {"train": train, "holdout": holdout, "synthetic": synthetic}
    if any(t.labels is None for t in tables.values()):
        return []
    counts = {
        name: dict(zip(*np.unique(np.asarray(t.labels, dtype=str), return_counts=True), strict=True))
        for name, t in tables.items()
    }
    names = sorted(set().union(*counts.values()))
    return [{"label": name, **{k: int(c.get(name, 0)) for k, c in counts.items()}} for name in names]
