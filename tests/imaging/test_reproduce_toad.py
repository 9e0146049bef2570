"""The page of the TOAD paper: stages that go on to equal bits, tables that are computed, models that are shipped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from genodiff.core.training import TrainingConfig
from imaging import cli
from imaging.errors import ImagingError
from imaging.networks import UNetConfig
from imaging.reproduce import toad
from imaging.reproduce.judge import Judge
from imaging.reproduce.stages import Stages
from imaging.reproduce.table import PAPER, paper_order, summary, verdicts
from imaging.runs import Source
from imaging.samples import draw
from imaging.toad import ToadModel

pytestmark = pytest.mark.usefixtures("one_thread")

SHORT = TrainingConfig(steps=3, batch=8, learning_rate=1e-3, warmup=1, validate_every=3, checkpoint_seconds=0.0)
COMMAND = "genodiff imaging reproduce toad --quick --seed 1 -o toad/"


@pytest.fixture(scope="module")
def settings(disc_source: Source, disc_features: Path) -> toad.Settings:
    """Discs of 16 × 16 pixels, features that were never trained, two columns, two seeds."""
    return toad.Settings(
        sources=(disc_source,), network=UNetConfig(widths=(4, 8), blocks=1), training=SHORT,
        fitting=replace(SHORT, steps=2), refining=replace(SHORT, steps=2), timing=replace(SHORT, steps=2),
        steps=(2, 5), samples=32, seeds=2, features=str(disc_features),
    )  # fmt: skip


@pytest.fixture(scope="module")
def done(settings: toad.Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("pages") / "toad"
    assert toad.reproduce(output, settings, command=COMMAND) == output / "toad.md"
    return output


def test_the_page_has_every_row_floor_and_figure(done: Path) -> None:
    page = (done / "toad.md").read_text(encoding="utf-8")
    assert COMMAND in page
    assert all(f"| {row} |" in page for row in (*toad.ROWS, *toad.CONTROLS))
    assert "NFE 3 | NFE 9" in page
    assert "the distance of the test set itself" in page
    assert "57.28" in page  # the paper's EDM on FFHQ at NFE 9
    assert "--data cifar10" in page
    for name in ("distance", "schedules", "path", "samples"):
        assert f"toad-folder-{name}.png" in page
        with Image.open(done / f"toad-folder-{name}.png") as picture:
            assert np.ptp(np.asarray(picture.convert("L")).astype(int)) > 0


def test_calls_are_counted_and_every_cell_is_there(done: Path) -> None:
    frame = pd.read_csv(done / "toad.csv")
    lent = frame["row"].isin(list(toad.CONTROLS))
    assert set(frame[lent]["seed"]) == {1}
    assert set(frame[lent].groupby(["row", "nfe"])["metric"].nunique()) == {5}
    frame = frame[~lent]
    assert dict(zip(frame["steps"], frame["nfe"], strict=True)) == {2: 3, 5: 9}
    cells = frame.groupby(["row", "nfe", "seed"])["metric"].nunique()
    assert len(cells) == 5 * 2 * 2
    assert set(cells) == {5}  # two distances, precision, recall, spectrum
    floors = frame[frame["floor"].notna()].groupby("metric")["floor"].nunique()
    assert (floors == 1).all()


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are looked at once, in the first run."""
    monkeypatch.setattr(toad.page, "draw_figures", lambda *_, **__: None)


@pytest.mark.usefixtures("no_figures")
def test_an_interrupted_run_goes_on_to_equal_bits(
    done: Path, settings: toad.Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "again"
    cell, learn = Judge.cell, toad.runs.learn_time
    calls = 0

    def interrupted(*arguments: object, **options: object) -> object:
        nonlocal calls
        calls += 1
        if calls in (1, 5):
            raise KeyboardInterrupt
        return (learn if "config" in options else cell)(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Judge, "cell", interrupted)
    monkeypatch.setattr(toad.runs, "learn_time", interrupted)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            toad.reproduce(output, settings, command=COMMAND)
        assert not (output / "toad.md").exists()
    assert len(list((output / ".stages").glob("*-cell-*"))) == 1
    toad.reproduce(output, settings, command=COMMAND)
    assert (output / "toad.csv").read_bytes() == (done / "toad.csv").read_bytes()
    for name in toad.MODELS:
        ours, theirs = (
            ToadModel.unpack(folder / "weights" / f"folder-{name}.safetensors")[0].denoiser.state_dict()
            for folder in (output, done)
        )
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


@pytest.mark.usefixtures("no_figures")
def test_what_is_done_is_not_done_again(done: Path, settings: toad.Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("a finished stage ran again")

    for module, name in ((Judge, "cell"), (toad.runs, "train_model"), (toad.runs, "learn_schedule")):
        monkeypatch.setattr(module, name, never)
    before = (done / "toad.csv").read_bytes()
    toad.reproduce(done, settings, command=COMMAND)
    assert (done / "toad.csv").read_bytes() == before
    with pytest.raises(AssertionError, match="ran again"):
        toad.reproduce(done, replace(settings, training=replace(SHORT, steps=4)), command=COMMAND)


@pytest.mark.usefixtures("no_figures")
def test_published_models_give_the_same_table(done: Path, settings: toad.Settings, tmp_path: Path) -> None:
    toad.reproduce(tmp_path / "shipped", settings, command=COMMAND, weights=done / "weights")
    assert (tmp_path / "shipped" / "toad.csv").read_bytes() == (done / "toad.csv").read_bytes()
    assert "nothing trained here" in (tmp_path / "shipped" / "toad.md").read_text(encoding="utf-8")


def test_rows_are_the_models_with_and_without_their_clock(done: Path) -> None:
    model, said = ToadModel.unpack(done / "weights" / "folder-ani.safetensors")
    assert said["seconds"] > 0
    assert model.toad.subspaces == 2
    assert model.clock is not None
    plain, timed = toad.row_of(model, False), toad.row_of(model, True)
    assert plain.clock is None
    assert timed is model
    assert plain.grid == timed.grid == "uniform"
    assert torch.equal(plain.schedule.log_knots(), model.schedule.log_knots())
    assert draw(plain, 2, steps=3, seed=1).nfe == 5


def test_controls_have_the_network_of_one_row_and_the_steps_of_another(done: Path) -> None:
    edm, timed = (ToadModel.unpack(done / "weights" / f"folder-{name}.safetensors")[0] for name in ("edm", "iso"))
    lent = timed.lend(edm)
    weights = dict(lent.denoiser.network.named_parameters())
    assert all(torch.equal(weights[name], p) for name, p in edm.denoiser.network.named_parameters())
    assert lent.process is timed.process
    assert lent.grid == "uniform"
    assert (
        timed.lend(timed)
        .sample(2, steps=3, generator=torch.Generator().manual_seed(1))
        .equal(timed.sample(2, steps=3, generator=torch.Generator().manual_seed(1)))
    )


def test_half_precision_moves_only_the_network(done: Path) -> None:
    folder = next((done / ".stages").glob("folder-ani-timed-*[!n]"))
    whole, (packed, _) = ToadModel.load(folder), ToadModel.unpack(done / "weights" / "folder-ani.safetensors")
    halved = packed.denoiser.state_dict()
    network = {f"network.{name}" for name, _ in whole.denoiser.network.named_parameters()}
    for name, tensor in whole.denoiser.state_dict().items():
        torch.testing.assert_close(
            halved[name], tensor, rtol=2**-10 if name in network else 0.0, atol=1e-7 if name in network else 0.0
        )


def test_seconds_of_interrupted_stages_add_up(tmp_path: Path) -> None:
    stages = Stages(tmp_path / "stages")

    def work(path: Path) -> None:
        torch.randn(400, 400).matmul(torch.randn(400, 400))
        path.mkdir()

    def stopped(path: Path) -> None:
        torch.randn(400, 400).matmul(torch.randn(400, 400))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stages.folder_of("a", stopped, x=1)
    first = Stages._spent(stages._path("a", {"x": 1}))
    _, both = stages.folder_of("a", work, x=1)
    assert 0 < first < both
    assert stages.folder_of("a", stopped, x=1)[1] == both


def _cells(value: dict[tuple[str, int], float]) -> pd.DataFrame:
    return pd.DataFrame(
        [{"data": "set", "row": row, "nfe": nfe, "seed": 1, "metric": "FD-set", "value": fd, "floor": 0.1, "n": 10}
         for (row, nfe), fd in value.items()]
    )  # fmt: skip


def test_verdicts_are_computed_from_the_table() -> None:
    value = {(row, nfe): PAPER["FFHQ"][row][9] for row in toad.ROWS for nfe in (9, 35)}
    seconds = {("set", "edm"): 100.0, ("set", "iso"): 14.0, ("set", "ani"): 16.0}
    met = {verdict.what: verdict for verdict in verdicts(_cells(value), seconds)}
    assert met["set: best learned row over EDM at NFE 9"].value == pytest.approx(6.05 / 57.28)
    assert met["set: best learned row over EDM at NFE 79"].met is None
    cost = "set: learning schedule and clock of {} over training EDM, processor time"
    assert (met[cost.format("iso")].met, met[cost.format("ani")].met) == (True, False)
    assert met["set: pairs of rows in the paper's order at NFE 9"].met
    value["EDM", 9] = 1.0
    met = {verdict.what: verdict for verdict in verdicts(_cells(value), seconds)}
    assert met["set: best learned row over EDM at NFE 9"].met is False
    order = met["set: pairs of rows in the paper's order at NFE 9"]
    assert (order.value, order.met) == (7, False)


def test_the_order_of_the_paper_is_that_of_its_table() -> None:
    order = paper_order(9)
    assert sorted(order, key=lambda row: order[row])[0] == "(g1, g2)_ani_w"
    assert order["g_iso"] == 5
    assert paper_order(79) == {}


def test_mean_and_deviation_are_over_seeds() -> None:
    frame = pd.concat([_cells({("EDM", 9): fd}) for fd in (1.0, 2.0, 3.0)])
    row = summary(frame, "FD-set").iloc[0]
    assert (row["mean"], row["sd"]) == (2.0, 1.0)


def test_absent_models_are_named(settings: toad.Settings, tmp_path: Path) -> None:
    with pytest.raises(ImagingError, match=r"folder-edm\.safetensors is not there: no such model is shipped"):
        toad.reproduce(tmp_path / "x", settings, command=COMMAND, weights=tmp_path)
    (tmp_path / "damaged.safetensors").write_bytes(b"no model")
    with pytest.raises(ImagingError, match=r"damaged\.safetensors holds no readable model"):
        ToadModel.unpack(tmp_path / "damaged.safetensors")


def test_the_command_refuses_in_one_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli.main, ["reproduce", "toad", "-o", str(tmp_path / "x")], prog_name="imaging")
    assert result.exit_code == 2
    assert result.stderr == "imaging: give --quick or --full, and not both (see imaging reproduce --help)\n"


def test_the_models_of_the_full_run_fit_into_ten_megabytes(tmp_path: Path) -> None:
    from imaging.toad import Toad

    size = 0
    for channels in (1, 3):
        shape = (channels, 32, 32)
        model = ToadModel.new(Toad(shape), toad.FULL.network, moments=(0.0, 0.25), source={}, seed=1)
        model.pack(tmp_path / "model.safetensors")
        size += 3 * (tmp_path / "model.safetensors").stat().st_size
    assert size < 10_000_000
