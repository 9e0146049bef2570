"""Model folders: what is loaded is what was saved, or nothing."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from data_prep.errors import InputError, OutputError
from genodiff.genotypes import store
from genodiff.genotypes.model import GenotypeModel
from tests.genotypes.tables import coalescent, small, table_of

FILES = ("model.json", "sites.json", "weights.safetensors")


@pytest.fixture(scope="module")
def model() -> GenotypeModel:
    torch.set_num_threads(1)
    table = coalescent(40, 90)
    table = type(table)(
        table.haplotypes, table.sites.assign(cM=np.linspace(0, 1, 90)), table.samples, table.phased, table.header
    )
    return GenotypeModel(small(training={"steps": 4, "validate_every": 2})).fit(table, device="cpu")


@pytest.fixture
def folder(model: GenotypeModel, tmp_path: Path) -> Path:
    return model.save(tmp_path / "model")


def load(folder: Path) -> GenotypeModel:
    return GenotypeModel.load(folder, device="cpu")


def rewrite(folder: Path, change: Callable[[dict[str, object]], object], *, sign: bool = True) -> None:
    """Edits ``model.json``; with ``sign`` its digest is made to fit, as another version of the program would."""
    header = json.loads((folder / "model.json").read_text())
    change(header)
    if sign:
        header[store._DIGEST_KEY] = store._header_digest(header)
    (folder / "model.json").write_text(json.dumps(header))


def test_loaded_model_draws_the_same_people(model: GenotypeModel, folder: Path) -> None:
    again = load(folder)
    first, second = model.sample(30, seed=3), again.sample(30, seed=3)
    np.testing.assert_array_equal(first.haplotypes, second.haplotypes)
    pd.testing.assert_frame_equal(first.sites, second.sites)
    pd.testing.assert_frame_equal(first.samples, second.samples)
    assert first.header == second.header
    asked = {"CEU": 4, "YRI": 2}
    np.testing.assert_array_equal(
        model.sample(labels=asked, seed=3).haplotypes, again.sample(labels=asked, seed=3).haplotypes
    )
    assert again.describe() == model.describe()
    assert again.config == model.config
    assert again.result.history == model.result.history


def test_model_of_dosages_survives(tmp_path: Path) -> None:
    haplotypes = coalescent(30, 40).haplotypes
    table = table_of(haplotypes, phased=np.zeros(haplotypes.shape[:2], dtype=bool))
    model = GenotypeModel(small(training={"steps": 0})).fit(table, device="cpu")
    again = load(model.save(tmp_path / "model"))
    np.testing.assert_array_equal(model.sample(20, seed=1).haplotypes, again.sample(20, seed=1).haplotypes)
    assert np.isnan(again.meta.inbreeding).all()


def test_folder_holds_three_files_and_no_pickle(folder: Path) -> None:
    assert sorted(f.name for f in folder.iterdir()) == sorted(FILES)
    assert [f.name for f in folder.parent.iterdir()] == ["model"]
    assert (folder / "weights.safetensors").read_bytes()[8:9] == b"{"
    header = json.loads((folder / "model.json").read_text())
    assert header["format"] == "genodiff-model"


def test_folder_names_no_person_of_the_training_data(folder: Path) -> None:
    text = (folder / "model.json").read_text() + (folder / "sites.json").read_text()
    assert "SIM0" not in text


@pytest.mark.parametrize("name", FILES)
def test_missing_file_is_an_input_error(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(InputError, match=r"lacks|not a model folder"):
        load(folder)


@pytest.mark.parametrize("name", FILES)
def test_changed_file_is_an_input_error(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    # One digit or one bit of a weight.
    place = content.rindex(b"1") if name.endswith(".json") else len(content) - 3
    content[place] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(InputError, match=r"changed after it was written|cannot be read"):
        load(folder)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_cut_file_is_an_input_error(folder: Path, name: str, share: float) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=r"changed after it was written|cannot be read"):
        load(folder)


def test_exchanged_file_is_an_input_error(folder: Path, tmp_path: Path) -> None:
    table = coalescent(40, 90, seed=8)
    other = GenotypeModel(small(training={"steps": 0})).fit(table, device="cpu").save(tmp_path / "other")
    shutil.copy(other / "weights.safetensors", folder / "weights.safetensors")
    with pytest.raises(InputError, match=r"weights\.safetensors was changed"):
        load(folder)


def test_other_format_version_is_an_input_error(folder: Path) -> None:
    rewrite(folder, lambda header: header.update(format_version=store.FORMAT_VERSION + 1))
    with pytest.raises(InputError, match=f"model format {store.FORMAT_VERSION + 1}, this genodiff reads format"):
        load(folder)


def test_edited_header_is_an_input_error(folder: Path) -> None:
    rewrite(folder, lambda header: header.update(n_people=41), sign=False)
    with pytest.raises(InputError, match="was changed after it was written"):
        load(folder)


def test_header_this_version_cannot_rebuild_is_an_input_error(folder: Path) -> None:
    rewrite(folder, lambda header: header["config"].update(novelty=1))  # type: ignore[attr-defined]
    with pytest.raises(InputError, match=r"was written by genodiff .*, this one cannot rebuild it"):
        load(folder)


def test_weights_of_another_size_are_an_input_error(folder: Path) -> None:
    rewrite(folder, lambda header: header["config"]["network"].update(width=8))  # type: ignore[index]
    with pytest.raises(InputError, match="this one cannot rebuild it"):
        load(folder)


@pytest.mark.parametrize("content", ["[]", "{}", '{"format": "other"}', "not json", "\udcff"])
def test_file_that_describes_no_model_is_an_input_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "model.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match="fit the model again"):
        load(tmp_path)


def test_place_without_a_model_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for place in (tmp_path, tmp_path / "absent", tmp_path / "file"):
        with pytest.raises(InputError, match="is not a model folder"):
            load(place)


def test_older_model_is_replaced(model: GenotypeModel, folder: Path) -> None:
    (folder / "leftover").write_text("of the older model")
    model.save(folder)
    assert sorted(f.name for f in folder.iterdir()) == sorted(FILES)
    load(folder)


def test_folder_that_is_no_model_is_never_removed(model: GenotypeModel, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    for place in (tmp_path, tmp_path / "thesis.txt"):
        with pytest.raises(OutputError, match="is not a model folder"):
            model.save(place)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
    (tmp_path / "empty").mkdir()
    load(model.save(tmp_path / "empty"))


def test_failed_write_leaves_the_older_model_and_no_rest(
    model: GenotypeModel, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import safetensors.torch
    from safetensors import SafetensorError

    for error in (OSError(28, "No space left on device"), SafetensorError("I/O error: No space left on device")):

        def full(*_: object, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(safetensors.torch, "save_file", full)
        with pytest.raises(OutputError, match=r"cannot be written .*No space left"):
            model.save(folder)
    assert [f.name for f in folder.parent.iterdir()] == ["model"]
    monkeypatch.undo()
    load(folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_folder_that_cannot_be_made_is_an_output_error(model: GenotypeModel, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="cannot be written"):
        model.save(tmp_path / "below" / "model")


def test_parent_that_is_a_file_is_an_output_error(model: GenotypeModel, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot be written"):
        model.save(tmp_path / "file" / "model")
