"""The page of fields: every row, space and figure; runs that go on; verdicts from cells."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from PIL import Image

from imaging import cli, denoising
from imaging.autoencoder import TRAINING
from imaging.errors import ImagingError
from imaging.networks import UNetConfig
from imaging.reproduce import spde, spde_page
from imaging.reproduce.geometry import Survival
from imaging.runs import Source

pytestmark = pytest.mark.usefixtures("one_thread")

COMMAND = "genodiff imaging reproduce spde --quick --seed 1 -o spde/"


@pytest.fixture(scope="module")
def settings(disc_source: Source, disc_features: Path) -> spde.Settings:
    """Discs of 16 × 16 pixels, features that were never trained, four rows, two seeds."""
    training = replace(denoising.DENOISING, steps=2, batch=8, warmup=1, validate_every=2)
    encoding = replace(TRAINING, steps=2, batch=8, warmup=1, validate_every=2)
    network = UNetConfig(widths=(4, 8), blocks=1)
    return spde.Settings(
        (spde.Task(disc_source, network, training, 24), spde.Task(disc_source, network, training, 24, encoding)),
        rows=("EDM", "VP", "flow matching", "SPDE"), calls=4, levels=(0.5, 2.0), shown=12, seeds=2,
        features=str(disc_features),
    )  # fmt: skip


@pytest.fixture(scope="module")
def done(settings: spde.Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("pages") / "spde"
    assert spde.reproduce(output, settings, command=COMMAND) == output / "spde.md"
    return output


def test_the_page_has_every_row_space_and_figure(done: Path, settings: spde.Settings) -> None:
    page = (done / "spde.md").read_text(encoding="utf-8")
    assert COMMAND in page
    assert all(f"| {row} |" in page for row in settings.rows)
    assert "## folder latents" in page
    assert "| test images, encoded and decoded |" in page
    assert "not known" not in page.split("## What of an image")[0].split("strokes")[0]
    for name in ("folder-survival", "folder-forward", "folder-samples", "folder-latents-samples", "folder-curve",
                 "folder-strokes"):  # fmt: skip
        assert f"spde-{name}.png" in page
        with Image.open(done / f"spde-{name}.png") as picture:
            assert np.ptp(np.asarray(picture.convert("L")).astype(int)) > 0


def test_cells_are_of_equal_calls_and_both_samplers(done: Path) -> None:
    frame = pd.read_csv(done / "spde.csv")
    calls = frame[frame["row"].isin(["VP", "flow matching", "SPDE"])]["nfe"].dropna()
    assert set(calls) == {4}
    pixels = frame[(frame["data"] == "folder") & frame["metric"].str.startswith("FD-") & frame["floor"].notna()]
    seen = pixels[pixels["sampler"] != "strokes"].groupby("row")["sampler"].agg(set).to_dict()
    assert seen == {"EDM": {"its own"}, **{row: {"bridge", "flow"} for row in ("VP", "flow matching", "SPDE")}}
    assert set(pixels[pixels["sampler"] == "strokes"]["level"]) == {0.5, 2.0}
    latents = frame[frame["data"] == "folder latents"]
    assert "EDM" not in set(latents["row"])
    assert set(latents["seed"]) == {1, 2}
    assert (frame[frame["metric"] == "noise beside network"]["value"] > 0).all()


def test_what_is_done_is_not_done_again(done: Path, settings: spde.Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("a finished stage ran again")

    for name in ("_judged", "_stroked", "_train", "_reconstructed", "train_autoencoder"):
        monkeypatch.setattr(spde, name, never)
    for name in ("draw_samples", "draw_strokes"):
        monkeypatch.setattr(spde_page, name, lambda *_, **__: None)
    before = (done / "spde.csv").read_bytes()
    spde.reproduce(done, settings, command=COMMAND)
    assert (done / "spde.csv").read_bytes() == before
    with pytest.raises(AssertionError, match="ran again"):
        spde.reproduce(done, replace(settings, calls=6), command=COMMAND)


def cells() -> pd.DataFrame:
    """Two seeds of VP and SPDE, strokes at two levels; SPDE is better by .1 from noise and worse from strokes."""
    rows = []
    for seed in (1, 2):
        for row, bridge, flow, strokes in (("VP", 0.5, 0.4, (2.0, 1.0)), ("SPDE", 0.3, 0.6, (4.0, 2.0))):
            about = {"data": "x", "row": row, "seed": seed, "training_seconds": 1.0}
            for sampler, value in (("bridge", bridge), ("flow", flow)):
                rows.append({**about, "sampler": sampler, "metric": "FD-x", "value": value + seed, "floor": 0.1})
            for level, far, fd in zip((0.5, 2.0), (0.2, 0.6), strokes, strict=True):
                made = {**about, "sampler": "strokes", "level": level}
                rows.append({**made, "metric": "FD-x", "value": fd, "floor": 0.1})
                rows.append({**made, "metric": "distance to the strokes", "value": far, "floor": None})
            rows.append({**about, "sampler": "", "metric": "noise beside network", "value": 0.5, "floor": None})
    return pd.DataFrame(rows)


def test_verdicts_compare_better_samplers_and_curves_at_equal_distance() -> None:
    table = pd.DataFrame({
        "row": ["VP"] * 2 + ["SPDE"] * 2 + ["SPDE, simulated"] * 2, "ratio": [10.0, 0.0] * 3,
        "at edges": [0.75, 0.25, 1.0, 0.25, 0.6, 0.0],
    })  # fmt: skip
    found = {verdict.what: verdict for verdict in spde_page.verdicts(cells(), {"x": Survival(table, {})})}
    pixels = next(v for k, v in found.items() if k.startswith("x: FD-x, better sampler, SPDE less VP"))
    assert pixels.value == pytest.approx(-0.1)
    assert pixels.met
    strokes = next(v for k, v in found.items() if "strokes" in k and "less VP" in k)
    assert strokes.value == pytest.approx(np.log(2))
    assert strokes.met is False
    edges = found["x: dB at which half the structure at edges is left, SPDE less VP"]
    assert edges.value == pytest.approx(10 * (0.25 / 0.75) - 5.0)
    assert found["x: processor time of noising over that of the network"].met


def test_sets_that_are_not_on_the_page_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImagingError, match="cifar10 is not on this page"):
        spde.settings_of("quick", ["cifar10"])
    assert [task.name for task in spde.settings_of("quick", ["emoji"]).tasks] == ["emoji", "emoji latents"]
    assert {task.samples for task in spde.settings_of("full", samples=9).tasks} == {9}
    found = CliRunner().invoke(
        cli.main, ["reproduce", "spde", "--quick", "--from-weights", "-o", str(tmp_path / "spde")]
    )
    assert found.exit_code == 2
    assert "toad alone" in found.output
