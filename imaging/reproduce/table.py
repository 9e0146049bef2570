"""The table of distances by row and network calls, what the paper prints, and verdicts computed from both."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import pandas as pd

from imaging.reproduce.parts import Verdict, judged

__all__ = ["PAPER", "distance_name", "floor_of", "paper_order", "summary", "verdicts"]

PAPER: dict[str, dict[str, dict[int, float]]] = {
    "CIFAR-10": {
        "EDM": {9: 35.55, 11: 14.44, 13: 6.80, 15: 4.32, 17: 3.11},
        "g_iso": {9: 49.29, 11: 31.28, 13: 19.71, 15: 13.34, 17: 9.38},
        "g_iso_w": {9: 5.19, 11: 14.08, 13: 6.94, 15: 2.63, 17: 2.59},
        "(g1, g2)_ani": {9: 5.98, 11: 3.58, 13: 2.93, 15: 2.64, 17: 2.47},
        "(g1, g2)_ani_w": {9: 4.69, 11: 6.06, 13: 5.75, 15: 2.77, 17: 2.54},
    },
    "AFHQv2": {
        "EDM": {9: 27.98, 11: 13.66, 13: 7.59, 15: 4.75, 19: 2.99},
        "g_iso": {9: 35.48, 11: 15.20, 13: 10.33, 15: 8.29, 19: 5.68},
        "g_iso_w": {9: 4.80, 11: 3.85, 13: 2.97, 15: 2.56, 19: 2.50},
        "(g1, g2)_ani": {9: 21.63, 11: 11.50, 13: 8.35, 15: 6.68, 19: 4.39},
        "(g1, g2)_ani_w": {9: 4.86, 11: 3.54, 13: 2.90, 15: 2.47, 19: 2.38},
    },
    "FFHQ": {
        "EDM": {9: 57.28, 11: 29.48, 13: 15.98, 15: 9.94, 19: 5.26},
        "g_iso": {9: 68.41, 11: 27.93, 13: 13.44, 15: 8.12, 19: 4.03},
        "g_iso_w": {9: 6.74, 11: 4.36, 13: 3.94, 15: 3.56, 19: 3.12},
        "(g1, g2)_ani": {9: 45.43, 11: 17.24, 13: 8.30, 15: 5.19, 19: 3.05},
        "(g1, g2)_ani_w": {9: 6.05, 11: 4.33, 13: 3.45, 15: 3.21, 19: 2.90},
    },
}
"""Table 1 of the paper: FID of 50,000 images, by data set, row and NFE. Figure 2, for more calls, has no numbers."""

_BASELINE = "EDM"
_FEW, _MANY = 9, (35, 79)
_GAIN, _LOSS, _COST = 0.5, 1.05, 0.15


def distance_name(frame: pd.DataFrame) -> str:
    """The metric of the table of one set: the Fréchet distance of all images that were drawn; "" if none were."""
    names = [str(name) for name in frame["metric"].unique() if str(name).startswith("FD-")]
    return max(names, key=len, default="")


def floor_of(frame: pd.DataFrame) -> tuple[float, int]:
    """The distance of real images that were not learned from, and how many they are."""
    row = frame[frame["metric"].str.startswith("FD-") & frame["floor"].notna()].iloc[0]
    return float(row["floor"]), int(row["n"])


def summary(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Mean and standard deviation over seeds of one metric of one set: columns row, nfe, mean, sd."""
    chosen = frame[frame["metric"] == metric].astype({"value": float, "nfe": int})
    found = chosen.groupby(["row", "nfe"], sort=False)["value"].agg(["mean", "std"]).reset_index()
    return found.rename(columns={"std": "sd"})


def paper_order(nfe: int) -> dict[str, float]:
    """Mean rank of every row over the sets of the paper that have this column; 1 is the least FID."""
    columns = [{row: line[nfe] for row, line in rows.items()} for rows in PAPER.values() if nfe in rows[_BASELINE]]
    ranks = [{row: 1 + sum(other < value for other in column.values()) for row, value in column.items()}
             for column in columns]  # fmt: skip
    return {row: sum(rank[row] for rank in ranks) / len(ranks) for row in ranks[0]} if ranks else {}


def _ratio(table: pd.Series, nfe: int) -> float:
    """The best learned row over EDM; not a number where the column is absent."""
    if nfe not in table.index.get_level_values("nfe"):
        return math.nan
    column = table.xs(nfe, level="nfe")
    return float(column.drop(_BASELINE).min() / column[_BASELINE])


def verdicts(frame: pd.DataFrame, seconds: Mapping[tuple[str, str], float]) -> list[Verdict]:
    """The targets and the order of the rows, for every set.

    Args:
        frame: cells; columns data, row, nfe, seed, metric, value, floor, n.
        seconds: processor seconds of learning, by set and model.
    """
    found = []
    for data, part in frame.groupby("data", sort=False):
        table = summary(part, distance_name(part)).set_index(["row", "nfe"])["mean"]
        found.append(judged(f"{data}: best learned row over EDM at NFE {_FEW}", _ratio(table, _FEW), _GAIN))
        for nfe in _MANY:
            found.append(judged(f"{data}: best learned row over EDM at NFE {nfe}", _ratio(table, nfe), _LOSS))
        for model in ("iso", "ani"):
            share = seconds[str(data), model] / seconds[str(data), "edm"]
            what = f"{data}: learning schedule and clock of {model} over training EDM, processor time"
            found.append(judged(what, share, _COST))
        for nfe in dict.fromkeys(table.index.get_level_values("nfe")):
            rank = paper_order(int(nfe))
            pairs = [(a, b) for a, b in itertools.permutations(rank, 2) if rank[a] < rank[b]]
            if pairs:
                column = table.xs(nfe, level="nfe")
                right = sum(bool(column[a] < column[b]) for a, b in pairs)
                what = f"{data}: pairs of rows in the paper's order at NFE {nfe}"
                found.append(Verdict(what, right, f"all {len(pairs)}", right == len(pairs)))
    return found
