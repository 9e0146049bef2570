"""What users and their disks do to the image side: each is told in one line, and nothing of theirs is lost."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from genodiff.core.training import TrainingConfig
from imaging import joint, runs
from imaging.errors import ImagingError
from imaging.files import MARK, Output
from imaging.networks import UNetConfig
from imaging.runs import Source
from imaging.samples import read_samples
from tests.imaging.images import discs
from tests.imaging.test_cli import refused, succeed

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = UNetConfig(widths=(4, 8), blocks=1)
SHORT = TrainingConfig(steps=6, batch=8, learning_rate=1e-3, warmup=1, validate_every=3, checkpoint_seconds=0.0)


@pytest.fixture(scope="module")
def edm(disc_source: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("models") / "edm"
    runs.train_model(disc_source, out, network=SMALL, config=replace(SHORT, steps=1))
    return out


def pictures(folder: Path, n: int = 12) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for k, pixels in enumerate(discs(n, channels=3).pixels):
        Image.fromarray(pixels.transpose(1, 2, 0)).save(folder / f"{k:03d}.png")
    return folder


def test_a_link_in_the_place_of_a_folder_is_refused_before_anything_is_spent(edm: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(edm)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("link", "dangling"):
        refused("train", "--force", "-o", tmp_path / name, words="is a link")


def test_a_checkpoint_outlives_a_folder_that_cannot_come_into_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise OSError(5, "Input/output error")

    folder = Output(tmp_path / "model")

    def made() -> None:
        with folder:
            folder.checkpoint.write_bytes(b"state")
            folder.finish("{}")

    monkeypatch.setattr("imaging.files.os.replace", fails)
    with pytest.raises(OSError, match="Input"):
        made()
    assert folder.checkpoint.read_bytes() == b"state"
    monkeypatch.undo()
    folder.finish("{}")
    assert {p.name for p in (tmp_path / "model").iterdir()} == {MARK}


@pytest.mark.parametrize("what", ["data", "start", "correction"])
def test_a_run_on_other_things_does_not_go_on_from_a_checkpoint(
    what: str, edm: Path, disc_source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was interrupted goes on, but not with other images, another start or another objective."""
    from imaging import toad

    seen: list[str] = []

    def recorded(*_: object, fingerprint: str = "", **__: object) -> None:
        seen.append(fingerprint)
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "train", recorded)
    monkeypatch.setattr(runs.core, "learn_schedule", recorded)
    other = Source("folder", pictures(tmp_path / "others", 20), 16)
    start = tmp_path / "start"
    start.mkdir()

    def begin(changed: bool) -> None:
        if what == "data":
            runs.train_model(other if changed else disc_source, tmp_path / "out", network=SMALL, config=SHORT)
        model = toad.ToadModel.load(edm)
        if changed and what == "start":
            next(model.denoiser.network.parameters()).data.add_(1.0)  # type: ignore[union-attr,operator]
        model.save_weights(start)
        (start / MARK).write_text(json.dumps({"model": model.facts()}))
        runs.learn_schedule(
            start, tmp_path / "out", config=SHORT, path=disc_source.path,
            score_correction=not (changed and what == "correction"),
        )  # fmt: skip

    for changed in (False, True, False):
        with pytest.raises(KeyboardInterrupt):
            begin(changed)
    assert seen[0] == seen[2] != seen[1]


def test_a_picture_of_the_users_is_not_replaced_by_that_of_samples(edm: Path, tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(b"mine")
    given = ("sample", edm, "-n", 2, "--steps", 2, "--quiet", "-o", tmp_path / "photo.npz")
    refused(*given, words="photo.png exists")
    assert (tmp_path / "photo.png").read_bytes() == b"mine"
    (tmp_path / "photo.png").unlink()
    (tmp_path / "photo.png").mkdir()
    refused(*given, words="photo.png is a folder")
    assert not (tmp_path / "photo.npz").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no zip", None, "array"])
def test_damaged_samples_are_named(content: bytes | str | None, tmp_path: Path) -> None:
    path = tmp_path / "s.npz"
    if content is None:
        np.savez_compressed(path, images=discs(30).pixels)
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    elif isinstance(content, str):
        np.save(tmp_path / "s.npy", discs(2).pixels)
        (tmp_path / "s.npy").rename(path)
    else:
        path.write_bytes(content)
    with pytest.raises(ImagingError, match="holds no images"):
        read_samples(path, size=16)


@pytest.mark.parametrize("n", [0, 1, 3])
def test_too_few_samples_are_not_judged(n: int, disc_source: Source, disc_features: Path, tmp_path: Path) -> None:
    path = tmp_path / "few.npz"
    np.savez_compressed(path, images=discs(4, channels=3).pixels[:n])
    common = ("--data", "folder", "--data-path", disc_source.path, "--size", 16, "--features", disc_features)
    refused("evaluate", path, *common, "-o", tmp_path / "judged", words=f"has {n} images: at least 4 are needed")
    assert not (tmp_path / "judged").exists()


def test_broken_archives_and_hidden_files(tmp_path: Path) -> None:
    whole = tmp_path / "whole.zip"
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(pictures(tmp_path / "p").iterdir()):
            archive.write(file, f"set/{file.name}")
        archive.writestr("__MACOSX/set/._000.png", b"no image")
        archive.writestr("set/.hidden.png", b"no image")
    assert len(read_samples(whole, size=16)) == 12
    content = bytearray(whole.read_bytes())
    at = content.find(b"\x89PNG"[1:]) if b"PNG" in content else 80
    content[at + 10 : at + 20] = bytes(10)
    (tmp_path / "cut.zip").write_bytes(bytes(content))
    with pytest.raises(ImagingError, match=r"cut.zip/set/\d+.png cannot be read"):
        read_samples(tmp_path / "cut.zip", size=16)


def test_images_without_anything_in_them_are_refused(tmp_path: Path) -> None:
    black = tmp_path / "black"
    black.mkdir()
    for k in range(12):
        Image.new("RGB", (16, 16)).save(black / f"{k}.png")
    common = ("--data", "folder", "--data-path", black, "--size", 16, "--widths", "4,8", "--blocks", 1)
    refused("train", *common, "-o", tmp_path / "m", words="all pixels of all images are alike")
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    "given",
    [
        "train --learning-rate nan", "train --widths ²", "train --widths 99999999", "train --jointly nan --process fp",
        "train --batch 99999999999", "train --size 9999999", "learn-schedule x --gain inf", "learn-schedule x -c inf",
        "learn-time x --window nan", "sample x --steps 100000000000",
    ],
)  # fmt: skip
def test_numbers_that_are_none_or_too_large_are_refused(given: str, tmp_path: Path) -> None:
    refused(*given.split(), "-o", tmp_path / "x.npz", words="")


def test_names_that_are_too_long_are_refused(tmp_path: Path) -> None:
    refused("train", "-o", tmp_path / ("x" * 300), words="cannot be written")


def test_pairs_and_ranks_that_modes_do_not_allow_are_refused(tmp_path: Path) -> None:
    gray = tmp_path / "odd"
    for k in range(12):
        gray.mkdir(exist_ok=True)
        Image.new("RGB", (9, 9), (k, 2 * k, 3 * k)).save(gray / f"{k}.png")
    common = ("--data", "folder", "--data-path", gray, "--size", 9, "--patch", 1, "--widths", 4, "--blocks", 1)
    refused("train", *common, "--process", "fp-drift", "-o", tmp_path / "m", words="choose another --size")
    refused("train", *common, "--process", "fp-noise", "--rank", 9999, "-o", tmp_path / "m", words="lower --rank")


def test_models_that_lack_something_are_named(edm: Path, disc_source: Source, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    for name in ("weights.safetensors", MARK):
        (model / name).write_bytes((edm / name).read_bytes())
    held = json.loads((model / MARK).read_text())
    del held["model"]["data"]["size"]
    (model / MARK).write_text(json.dumps(held))
    refused("learn-schedule", model, "-o", tmp_path / "x", words="does not say what it was learned from")
    (model / MARK).write_bytes((edm / MARK).read_bytes())
    weights = load_file(model / "weights.safetensors")
    weights["network.enter.weight"] = torch.full_like(weights["network.enter.weight"], torch.nan)
    save_file(weights, model / "weights.safetensors")
    refused("sample", model, "-o", tmp_path / "x.npz", words="not all of its weights are numbers")


def test_outputs_that_cannot_be_written_are_known_before_training(disc_source: Source, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    common = ("--data", "folder", "--data-path", disc_source.path, "--size", 16, "--quiet")
    refused("train-features", *common, "-o", tmp_path / "file" / "x.safetensors", words="cannot be written")
    refused("train-features", *common, "--force", "-o", tmp_path, words="is a folder")
    assert {p.name for p in tmp_path.iterdir()} == {"file"}


@pytest.mark.parametrize("option", ["--data emoji", "--size 64", "--features x", "--fid-weights x"])
def test_options_that_a_likelihood_does_not_take_are_refused(option: str, edm: Path, tmp_path: Path) -> None:
    refused(
        "evaluate", edm, "--likelihood", *option.split(), "-o", tmp_path / "b", words="does not go with --likelihood"
    )


def test_steps_of_both_stages_are_counted(disc_source: Source, tmp_path: Path) -> None:
    common = ("--data", "folder", "--data-path", disc_source.path, "--size", 16, "--widths", "4,8", "--blocks", 1)
    said = succeed(
        "train", *common, "--process", "fp-noise", "--steps", 4, "--batch", 8, "--quiet", "-o", tmp_path / "m"
    )
    assert said.startswith("4 steps")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"moments": [0.1, -1.0]}, "no mean and variance"),
        ({"moments": [0.1, float("nan")]}, "no mean and variance"),
        ({"process": "bogus"}, "is no process"),
        ({"size": 64}, "of size 64"),
    ],
)
def test_facts_of_a_model_that_cannot_be_are_refused(
    change: dict[str, object], words: str, disc_source: Source, tmp_path: Path
) -> None:
    made = tmp_path / "vp"
    joint.train_flexible(disc_source, made, process="vp", network=SMALL, config=replace(SHORT, steps=1))
    facts = json.loads((made / MARK).read_text())
    for holder in (facts["model"], facts["model"]["flexible"], facts["model"]["data"]):
        holder.update({key: value for key, value in change.items() if key in holder})
    (made / MARK).write_text(json.dumps(facts))
    refused("sample", made, "-o", tmp_path / "s.npz", words=words)
    assert not (tmp_path / "s.npz").exists()


def test_a_process_is_learned_only_if_some_of_the_steps_are_joint(disc_source: Source, tmp_path: Path) -> None:
    for share, learned in ((0.0, ["network"]), (0.5, ["network", "process"])):
        out = tmp_path / f"m{share}"
        joint.train_flexible(
            disc_source, out, process="fp-noise", jointly=share, network=SMALL, config=replace(SHORT, steps=6)
        )
        held = json.loads((out / MARK).read_text())
        assert held["model"]["learned"] == learned
        assert [row["step"] for row in held["history"]][-1] == 6
