"""Panels and splits."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from data_prep import InputError, OutputError
from data_prep.panels import attach_panel, parents_of, read_panel, read_parents, write_panel
from data_prep.splits import read_sample_list, split_by_names, split_people
from tests.data_prep.helpers import make_table, write

TABLE = make_table(np.zeros((4, 2, 2)))


@pytest.mark.parametrize(
    "text",
    [
        "sample\tpop\tsuper_pop\nP0\tGBR\tEUR\nP1\tYRI\tAFR\n",
        "#IID,SEX,Super_Pop\nP0,1,EUR\nP1,2,AFR\n",
        "IID label pop\nP0 EUR x\n\nP1   AFR y\n",
        "population id\nEUR P0\nAFR P1\n",
        "P0\tEUR\nP1\tAFR\n",
        "P0 EUR\r\nP1 AFR\r\n",
        "\ufeffsample,pop\nP0,EUR\nP1,AFR",
        "sample\tlabel\nP0\tEUR\nP1\tAFR\nP0\tEUR\n",
    ],
)
def test_panel_layouts(tmp_path: Path, text: str) -> None:
    for content in (text.encode(), gzip.compress(text.encode())):
        panel = read_panel(write(tmp_path, content, "p.txt"))
        assert panel.to_dict() == {"P0": "EUR", "P1": "AFR"}
        assert panel.index.name == "sample"


def test_panel_column(tmp_path: Path) -> None:
    path = write(tmp_path, "sample\tpop\tsuper_pop\nP0\tGBR\tEUR\n")
    assert read_panel(path, column="POP").tolist() == ["GBR"]
    with pytest.raises(InputError, match="no label column 'sex': its columns are sample, pop, super_pop"):
        read_panel(path, column="sex")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("\n \n", "is empty"),
        ("sample\tlabel\n", "header only"),
        ("sample\tage\nP0\t3\n", "hold no label"),
        ("name\tlabel\tage\nP0\tx\t3\n", "hold no sample"),
        ("a b c\n", "name them sample and label"),
        ("sample\tlabel\nP0\tEUR\nP1\n", "line 3: 1 columns"),
        ("sample\tlabel\nP0\t\n", "line 2: the label is empty"),
        ("sample\tlabel\n\tx\n", "line 2: the sample is empty"),
        ("sample\tlabel\nP0\tEUR\nP0\tAFR\n", "line 3: sample 'P0' is both 'EUR' and 'AFR'"),
        (b"\x00\x01\xff" * 9, "is not text"),
        (gzip.compress(b"sample label\n" * 99, mtime=0)[:-12], "truncated"),
    ],
)
def test_bad_panels(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InputError, match=message) as caught:
        read_panel(path)
    assert str(path) in str(caught.value)


def test_attach_panel(tmp_path: Path) -> None:
    panel = read_panel(write(tmp_path, "P3 d\nP2 c\nP1 b\nP0 a\nP9 z\n"))
    labels = attach_panel(TABLE, panel).labels
    assert labels is not None
    assert labels.tolist() == ["a", "b", "c", "d"]
    with pytest.raises(InputError, match=r"lacks 2 of 4 people \(first: P1, P3\)"):
        attach_panel(TABLE, panel.drop(["P1", "P3"]))


PANEL = "sample\tpop\tsuper_pop\tsex\nP0\tGBR\tEUR\tm\nP1\tTSI\tEUR\tf\nP2\tYRI\tAFR\tm\nP3\tGBR\tEUR\tf\n"


def test_parents_are_found_where_every_label_lies_in_one(tmp_path: Path) -> None:
    path = write(tmp_path, PANEL)
    parents = read_parents(path, "pop")
    assert parents is not None
    assert parents.to_dict() == {"P0": "EUR", "P1": "EUR", "P2": "AFR", "P3": "EUR"}
    table = attach_panel(TABLE, read_panel(path, "pop"), parents=parents)
    assert parents_of(table) == {"GBR": "EUR", "TSI": "EUR", "YRI": "AFR"}
    assert parents_of(table.select(samples=[2])) == {"YRI": "AFR"}
    named = read_parents(path, "pop", "super_pop")
    assert named is not None
    assert named.equals(parents)


def test_parents_that_say_nothing_are_not_taken(tmp_path: Path) -> None:
    path = write(tmp_path, PANEL)
    # The label itself, labels that lie in several, and no such column.
    assert read_parents(path) is None
    assert read_parents(path, "sex") is None
    assert read_parents(write(tmp_path, "P0 a\nP1 b\n", "plain.txt")) is None
    assert parents_of(TABLE) is None
    assert parents_of(TABLE.with_labels(list("abcd"))) is None


def test_parents_that_cannot_be_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, PANEL)
    with pytest.raises(InputError, match="label 'GBR' lies in 'f' and in 'm' of column 'sex'"):
        read_parents(path, "pop", "sex")
    with pytest.raises(InputError, match="no label column 'region'"):
        read_parents(path, "pop", "region")
    parents, labels = read_panel(path, "sex"), read_panel(path, "pop")
    with pytest.raises(InputError, match="label 'GBR' lies in 'm' and in 'f'"):
        parents_of(attach_panel(TABLE, labels, parents=parents))


def test_panel_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "p.tsv"
    write_panel(TABLE.with_labels(["a", "b", "a", "c d"]), path)
    assert path.read_text().splitlines()[:2] == ["sample\tlabel", "P0\ta"]
    assert read_panel(path).tolist() == ["a", "b", "a", "c d"]
    with pytest.raises(ValueError, match="no labels"):
        write_panel(TABLE, path)
    with pytest.raises(ValueError, match="cannot be written"):
        write_panel(TABLE.with_labels(["a", "b\t", "a", "c"]), path)
    with pytest.raises(OutputError, match="cannot be written"):
        write_panel(TABLE.with_labels(list("abcd")), tmp_path / "absent" / "p.tsv")


@pytest.mark.parametrize(("holdout", "seed"), [(0.25, 1), (0.1, 2), (0.5, 3), (0.9, 4)])
def test_split_is_balanced(holdout: float, seed: int) -> None:
    sizes = {"a": 101, "b": 40, "c": 7, "d": 1}
    labels = np.random.default_rng(0).permutation(np.repeat(list(sizes), list(sizes.values())))
    table = make_table(np.zeros((149, 1, 2)), labels=labels)
    train, held = split_people(table, holdout=holdout, seed=seed)
    assert len(held) == round(holdout * 149)
    np.testing.assert_array_equal(np.sort(np.concatenate([train, held])), np.arange(149))
    assert (np.diff(train) > 0).all()
    assert (np.diff(held) > 0).all()
    for label, size in sizes.items():
        assert abs((labels[held] == label).sum() - len(held) * size / 149) < 1
    again = split_people(table, holdout=holdout, seed=seed)[1]
    np.testing.assert_array_equal(held, again)
    assert not np.array_equal(held, split_people(table, holdout=holdout, seed=seed + 1)[1])


def test_split_without_labels_and_at_the_edge() -> None:
    train, held = split_people(make_table(np.zeros((2, 1, 2))), holdout=0.01)
    assert (len(train), len(held)) == (1, 1)
    for holdout in (0, 1, -1, float("nan")):
        with pytest.raises(ValueError, match="holdout"):
            split_people(TABLE, holdout=holdout)
    with pytest.raises(ValueError, match="cannot be split"):
        split_people(make_table(np.zeros((1, 1, 2))))


def test_split_by_names(tmp_path: Path) -> None:
    names = read_sample_list(write(tmp_path, "# held out\nP2\textra\n\nP0\n"))
    assert names == ["P2", "P0"]
    train, held = split_by_names(TABLE, names)
    assert (train.tolist(), held.tolist()) == ([1, 3], [0, 2])
    with pytest.raises(InputError, match=r"2 of 3 people .*first: X"):
        split_by_names(TABLE, ["P0", "X", "Y"])
    for all_or_none in ([], ["P0", "P1", "P2", "P3"]):
        with pytest.raises(InputError, match="leave people on both sides"):
            split_by_names(TABLE, all_or_none)


@pytest.mark.parametrize(
    ("text", "message"), [("# only\n", "names no sample"), ("A\nB\nA\n", "line 3.*twice"), ("", "empty")]
)
def test_bad_sample_lists(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_sample_list(write(tmp_path, text))
