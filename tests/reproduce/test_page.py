"""The page: every file is there, the numbers in it are those of the results, and nothing is left half-written."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from genodiff.report.style import canvas
from genodiff.reproduce.page import markdown_table, number, save_figure, write_page
from genodiff.reproduce.tables import Check, Results


def results() -> Results:
    out = Results()
    for seed, value in ((1, 0.1), (2, 0.3)):
        out.add("drift", "train", seed, {"w2": value, "mean_error": 1234.0})
        out.add("drift", "test", seed, {"w2": 2 * value})
    out.add("floor (train people)", "test", 1, {"w2": 0.05})
    return out


def write(folder: Path) -> str:
    path = write_page(
        folder / "new" / "folder", name="a", title="Title", intro="Why.", results=results(),
        paper={"printed": {"w2": 0.14}}, checks=[Check("w2", 0.2, 0.14, False, "drift"), Check("w2", 0, 1, True, "x")],
        figures=[("a.png", "What one sees")], command="genodiff reproduce a", notes=["First.", "Second."], seconds=90,
    )  # fmt: skip
    assert {p.name for p in path.parent.iterdir()} == {"a.md", "a.csv", "a.seeds.csv"}
    return path.read_text()


def test_page_holds_command_tables_verdicts_figures_and_notes(tmp_path: Path) -> None:
    text = write(tmp_path)
    assert text.startswith("# Title\n\nWhy.\n\n```\ngenodiff reproduce a\n```")
    assert "Seeds 1, 2" in text
    assert "1.5 minutes" in text
    train, test = text.split("## Errors against test")
    head = "| metric | paper, printed | drift | floor (train people), against test |"
    assert head in train
    assert head in test
    assert "| 0.14 | 0.2 ± 0.141 | 0.05 |" in train
    assert "| 0.14 | 0.4 ± 0.283 | 0.05 |" in test
    assert "1 of 2 met" in text
    assert "**missed**" in text
    assert "![What one sees](a.png)" in text
    assert "- First.\n- Second." in text


def test_csv_holds_means_and_seeds(tmp_path: Path) -> None:
    write(tmp_path)
    frame = pd.read_csv(tmp_path / "new" / "folder" / "a.csv")
    assert frame.set_index(["method", "against", "metric"])["mean"]["drift", "test", "w2"] == 0.4
    assert len(pd.read_csv(tmp_path / "new" / "folder" / "a.seeds.csv")) == 7


def test_numbers() -> None:
    assert [number(v) for v in (0.01234, 29.35, 1234.5, 0.0, float("nan"), float("inf"))] == [
        "0.0123", "29.4", "1,234", "0", "–", "∞"
    ]  # fmt: skip


def test_tables_have_as_many_cells_in_every_line() -> None:
    lines = markdown_table(["a", "b"], [["1", "2"], ["3", "4"]]).splitlines()
    assert [line.count("|") for line in lines] == [3, 3, 3, 3]


def test_figures_are_png(tmp_path: Path) -> None:
    figure: Figure = canvas()[0]
    path = save_figure(figure, tmp_path / "f" / "x.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [p.name for p in path.parent.iterdir()] == ["x.png"]
