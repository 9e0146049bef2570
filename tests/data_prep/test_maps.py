"""Genetic maps by hand."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from data_prep import InputError
from data_prep.maps import GeneticMap, read_map
from tests.data_prep.helpers import write

KNOTS = [(100, 0.0), (200, 1.0), (400, 1.5), (600, 2.0)]


def test_interpolation_by_hand() -> None:
    position, cm = zip(*KNOTS, strict=True)
    m = GeneticMap(np.array(position), np.array(cm))
    assert m.rate == pytest.approx(0.004)
    x = [100, 150, 200, 300, 500, 600, 50, 850]
    np.testing.assert_allclose(m.cM(x), [0, 0.5, 1, 1.25, 1.75, 2, -0.2, 3])
    assert m.cM(150).shape == ()
    assert (np.diff(m.cM(np.arange(0, 900))) >= 0).all()


@pytest.mark.parametrize(
    "lines",
    [
        ["pos chr cM"] + [f"{p} 22 {c}" for p, c in KNOTS],
        ["pos\tchr\tcM"] + [f"{p}\tchr22\t{c}" for p, c in KNOTS],
        [f"{p} 22 {c}" for p, c in KNOTS],
        [f"22 rs{p} {c} {p}" for p, c in KNOTS],
        [f"22\t.\t{c}\t{p}" for p, c in KNOTS],
        ["Chromosome\tPosition(bp)\tRate(cM/Mb)\tMap(cM)"] + [f"chr22\t{p}\t2.5\t{c}" for p, c in KNOTS],
        [f"22 {p} 2.5 {c:.4f}" for p, c in KNOTS],
        ["position,genetic_map(cM)"] + [f"{p},{c}" for p, c in KNOTS],
    ],
)
def test_layouts(tmp_path: Path, lines: list[str]) -> None:
    text = "\n".join(lines).encode()
    for content in (text, gzip.compress(text)):
        m = read_map(write(tmp_path, content, "m.gz"))
        assert m.position.tolist() == [100, 200, 400, 600]
        np.testing.assert_allclose(m.centimorgan, [0, 1, 1.5, 2])
        assert m.contig in ("22", "")


def test_one_contig_of_several(tmp_path: Path) -> None:
    path = write(tmp_path, "pos chr cM\n1 21 0\n9 21 4\n1 22 0\n5 22 2\n")
    assert read_map(path, "chr22").position.tolist() == [1, 5]
    assert read_map(path, "21").position.tolist() == [1, 9]
    with pytest.raises(InputError, match=r"several contigs \(21, 22\)"):
        read_map(path)
    with pytest.raises(InputError, match="no contig 7"):
        read_map(path, "7")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("a b c\n1 2 3\n", "lack position and cM"),
        ("1 2\n", "not a genetic map"),
        ("pos chr cM\n5 22 1\n", "fewer than two"),
        ("pos chr cM\n5 22 1\n4 22 2\n", "line 3: the map goes back at 4 bp"),
        ("pos chr cM\n5 22 1\n5 22 2\n", "line 3: the map goes back"),
        ("pos chr cM\n5 22 1\n6 22 0.5\n", "line 3: the map goes back at 6 bp, 0.5 cM"),
        ("pos chr cM\n5 22 x\n6 22 1\n", "line 2: expected"),
        ("pos chr cM\n5 22\n", "line 2: expected"),
        ("pos chr cM\n5 22 nan\n6 22 1\n", "line 2: .* not usable"),
        ("pos chr cM\n5.5 22 1\n6 22 1\n", "line 2: .* not usable"),
        ("pos chr cM\ninf 22 1\n6 22 1\n", "line 2: .* not usable"),
    ],
)
def test_bad_maps(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InputError, match=message) as caught:
        read_map(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("position", "cm", "message"),
    [
        ([1], [0.0], "at least two"),
        ([1, 2], [0.0], "one length"),
        ([2, 1], [0.0, 1.0], "knot 1"),
        ([1, 2], [1.0, 0.0], "cM does not increase"),
        ([1, 2], [0.0, np.nan], "not finite"),
    ],
)
def test_map_validates(position: list[int], cm: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GeneticMap(np.array(position), np.array(cm))
