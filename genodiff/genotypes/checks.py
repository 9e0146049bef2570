"""What must hold in a model folder before anything of its size is built: types, ranges, and sizes that agree.

A hash tells a folder that was damaged, not one that was made to do harm: whoever writes it can write the hash, too.
Nothing here runs code of the folder, and memory is asked for only where the file holds as much.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from data_prep.records import SiteOrder
from data_prep.variants import SITE_COLUMNS, VariantTable
from genodiff.genotypes.anchors import Population
from genodiff.genotypes.config import ModelConfig
from genodiff.genotypes.network import ChromosomeNetwork
from genodiff.genotypes.rare import Rare
from genodiff.genotypes.ties import Ties

__all__ = [
    "check_backgrounds",
    "check_header",
    "check_network",
    "check_population",
    "check_rare",
    "check_tensors",
    "check_ties",
    "sites_of",
]

_LARGEST = 10**7
"""No number of a configuration is larger: steps, people, sites of a tile, widths."""

_LONGEST_WALK = 10**4
"""Sampling steps."""

_BACKGROUNDS = ("means", "variance", "sizes", "paths", "anchored", "share", "pseudo")

_TYPES: dict[str, Any] = {
    "genodiff_version": str, "ploidy": Literal[1, 2], "per_person": Literal[1, 2], "bounds": tuple[int, ...],
    "labels": tuple[str, ...], "combinations": tuple[tuple[int, ...], ...], "counts": tuple[float, ...],
    "parents": tuple[str, ...], "borrowed": tuple[float, ...], "n_anchors": int, "n_people": int,
    "inbreeding": tuple[float | None, ...], "vcf_header": tuple[str, ...], "conditions": tuple[int, ...],
    "sha256": dict[str, str], "config": ModelConfig,
    "training": dict[str, Any],
}  # fmt: skip


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value of a JSON document is one of a type; numbers must be finite and not absurd."""
    kind, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if kind is Literal:
        return type(value) in map(type, inner) and value in inner
    if kind in (Union, UnionType):
        return any(_fits(value, one) for one in inner)
    if kind is tuple:
        if not isinstance(value, list | tuple):
            return False
        each = [inner[0]] * len(value) if inner[1:] == (...,) else list(inner)
        return len(value) == len(each) and all(map(_fits, value, each))
    if kind is dict:
        return isinstance(value, dict) and all(_fits(one, inner[1]) for one in value.values())
    if is_dataclass(hint):
        hints, known = get_type_hints(hint), {f.name for f in fields(hint)}
        return isinstance(value, dict) and set(value) <= known and all(_fits(v, hints[k]) for k, v in value.items())
    if hint is float:
        return type(value) in (int, float) and abs(value) < 1e300 and math.isfinite(value)
    if hint is int:
        return type(value) is int and abs(value) <= _LARGEST
    return value is None if hint is NoneType else type(value) is hint


def check_header(header: Mapping[str, Any]) -> None:
    """Types and ranges of ``model.json``.

    Raises:
        KeyError: an entry is absent.
        ValueError: an entry is of another type, or out of range.
    """
    for name, hint in _TYPES.items():
        value = header[name]
        if name == "config":
            wrong = [k for k, v in value.items() if not _fits({k: v}, hint)] if isinstance(value, dict) else [name]
        else:
            wrong = [] if _fits(value, hint) else [name]
        if wrong:
            raise ValueError(f"{wrong[0]} is {str(header[name] if name != 'config' else value)[:40]!r}")
    if not 1 <= header["config"].get("sampling_steps", 1) <= _LONGEST_WALK:
        raise ValueError(f"sampling_steps must be 1 to {_LONGEST_WALK:,}")
    for line in header["vcf_header"]:
        if any(c in line for c in "\r\n\x00"):
            raise ValueError("a line of vcf_header holds a line end")
    if len(header["inbreeding"]) != 2 or header["n_people"] < 1:
        raise ValueError("inbreeding must be two numbers and n_people at least 1")
    bounds = header["bounds"]
    if len(bounds) < 2 or bounds[0] != 0 or any(a >= b for a, b in itertools.pairwise(bounds)):
        raise ValueError("bounds must begin at 0 and ascend")


def sites_of(columns: Any) -> pd.DataFrame:
    """The table of sites, checked as that of a :class:`VariantTable` is.

    Raises:
        ValueError: columns are absent, of different lengths, hold what no VCF does, or sites out of order.
    """
    if not isinstance(columns, dict) or not all(isinstance(values, list) for values in columns.values()):
        raise ValueError("sites.json must hold columns")
    absent = [name for name in SITE_COLUMNS if name not in columns]
    if absent or len({len(values) for values in columns.values()}) != 1:
        raise ValueError(f"sites.json lacks {absent[0]}" if absent else "columns of sites.json differ in length")
    for name in SITE_COLUMNS:
        for j, value in enumerate(columns[name]):
            if name == "position":
                sound = type(value) is int and 0 < value < 2**31
            else:
                sound = type(value) is str and value != "" and not any(c.isspace() or c == "\x00" for c in value)
            if not sound:
                raise ValueError(f"{name} of site {j} is {str(value)[:40]!r}")
    frame = pd.DataFrame(columns)
    if not len(frame):
        raise ValueError("sites.json holds no site")
    order = SiteOrder()
    for contig, position in zip(columns["contig"], columns["position"], strict=True):
        order.place(contig, position)
    return VariantTable(np.empty((0, len(frame), 2), np.int8), frame, pd.DataFrame(index=pd.Index([], name="s"))).sites


def check_tensors(tensors: Mapping[str, Tensor], bounds: tuple[int, ...], *, anchors: int) -> None:
    """Finite numbers, and a basis as large as the LD blocks say.

    Raises:
        KeyError: a tensor is absent.
        ValueError: sizes that do not agree, or a number that is not finite.
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"tensor {name} holds numbers that are not finite")
    if tensors["process.basis.flat"].numel() != sum((b - a) ** 2 for a, b in itertools.pairwise(bounds)):
        raise ValueError(f"the basis has {tensors['process.basis.flat'].numel():,} numbers, not those of its blocks")
    own, mixture = (bounds[-1],), (anchors, bounds[-1])
    shapes = dict.fromkeys(("process.mean", "total", "prior.modal_variance"), own)
    for name, shape in (shapes | {"prior.means": mixture, "starts": mixture, "prior.weights": (anchors,)}).items():
        if tuple(tensors[name].shape) != shape:
            raise ValueError(f"tensor {name} has shape {tuple(tensors[name].shape)}, not {shape}")
    if bool((tensors["total"] <= 0).any()) or bool((tensors["prior.modal_variance"] <= 0).any()):
        raise ValueError("a variance is not positive")
    if bool((tensors["prior.weights"] < 0).any()) or not bool(tensors["prior.weights"].sum() > 0):
        raise ValueError("weights of anchors are negative, or all 0")


def check_network(
    tensors: Mapping[str, Tensor], config: ModelConfig, *, sites: int, channels: int, ploidy: int,
    conditions: tuple[int, ...], opinions: int,
) -> None:  # fmt: skip
    """Weights as the configuration asks for; found out without memory for a network of that size.

    Raises:
        ValueError: a weight is absent, too many, or of another shape.
    """
    network = config.network
    if min(network.width, network.tile, *conditions, ploidy) < 1 or len(network.dilations) > 1000:
        raise ValueError(f"no network has these sizes: {network}")
    with torch.device("meta"):
        twin = ChromosomeNetwork(
            sites, channels=channels, outputs=ploidy, conditions=conditions, opinions=opinions, config=network
        )
    asked = {name: tuple(tensor.shape) for name, tensor in twin.state_dict().items()}
    given = {k.removeprefix("network."): tuple(v.shape) for k, v in tensors.items() if k.startswith("network.")}
    for name in sorted(asked.keys() | given.keys()):
        if asked.get(name) != given.get(name):
            raise ValueError(f"weight {name} has shape {given.get(name)}, the configuration asks for {asked.get(name)}")


def check_backgrounds(
    tensors: Mapping[str, Tensor], k: int, *, tile: int, sites: int, anchors: int, ploidy: int
) -> None:
    """Backgrounds of scale k, whose chain is made of their entries without a further check.

    Raises:
        KeyError: a tensor is absent.
        ValueError: sizes that do not agree, or entries that lie outside.
    """
    own = {name: tensors[f"backgrounds.{k}.{name}"] for name in _BACKGROUNDS}
    if tile < 1 or own["sizes"].ndim != 2:
        raise ValueError(f"backgrounds.{k} have tiles of {tile} sites and sizes of shape {tuple(own['sizes'].shape)}")
    tiles, count = -(-sites // tile), own["sizes"].shape[1]
    shapes = {
        "means": (tiles, tile, count), "variance": (tiles, tile), "sizes": (tiles, count), "share": (anchors,),
        "pseudo": (),
    }  # fmt: skip
    for name, shape in shapes.items():
        if tuple(own[name].shape) != shape:
            raise ValueError(f"backgrounds.{k}.{name} has shape {tuple(own[name].shape)}, not {shape}")
    means = own["means"]
    if bool((means < 0).any()) or bool((means > ploidy).any()) or bool((own["sizes"] < 0).any()):
        raise ValueError(f"backgrounds.{k} hold means or sizes out of range")
    for name in ("variance", "share", "pseudo"):
        if bool((own[name] <= 0).any()):
            raise ValueError(f"backgrounds.{k}.{name} must be positive")
    for name, last, width in (("paths", tiles - 1, count * count), ("anchored", tiles, anchors * count)):
        table = own[name].numpy()
        if table.ndim != 2 or len(table) != 3:
            raise ValueError(f"backgrounds.{k}.{name} has shape {table.shape}, not (3, …)")
        _indices(f"backgrounds.{k}.{name}", table[0], last)
        _indices(f"backgrounds.{k}.{name}", table[1], width)
        if (np.diff(table[0]) < 0).any() or (table[2] < 0).any():
            raise ValueError(f"backgrounds.{k}.{name} must ascend by tile, with numbers of rows")


def check_population(population: Population, *, per_person: int, anchors: int) -> None:
    """Labels and anchors that exist, in combinations that people can have.

    Raises:
        ValueError: they do not.
    """
    table, counts, labels = population.combinations, population.counts, population.labels
    if table.ndim != 2 or table.shape[1] != 1 + per_person or counts.shape != (len(table),) or not labels:
        raise ValueError(f"combinations have shape {table.shape} and counts {counts.shape}")
    limits = np.array([len(labels)] + [anchors] * per_person)
    if (table < 0).any() or (table >= limits).any() or (counts < 0).any() or not counts.sum() > 0:
        raise ValueError("combinations name labels or anchors that are not there")
    if len(set(labels)) != len(labels) or set(table[counts > 0, 0].tolist()) != set(range(len(labels))):
        raise ValueError("a label occurs twice, or nobody has it")
    if any(len(of) not in (0, len(labels)) for of in (population.parents, population.borrowed)):
        raise ValueError("parents must be as many as labels")
    if any(c.isspace() and c != " " for name in labels for c in name):
        raise ValueError("a label holds a tab or line end")


def _indices(name: str, values: np.ndarray, below: int, *, least: int = 0) -> None:
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise ValueError(f"{name} must be a vector of whole numbers")
    if len(values) and (values.min() < least or values.max() >= below):
        raise ValueError(f"{name} holds {int(values.min())} to {int(values.max())}, not {least} to {below - 1}")


def check_ties(ties: Ties, *, drawn: int, sites: int, rare: int) -> None:
    """Every site follows from one that is drawn.

    Raises:
        ValueError: one does not.
    """
    for name, size in (("drawn", drawn), ("follows", drawn), ("turned", drawn), ("gained", drawn), ("lost", drawn)):
        if getattr(ties, name).shape != (size,):
            raise ValueError(f"ties.{name} has shape {getattr(ties, name).shape}, not ({size},)")
    if ties.source.shape != (sites - rare,) or ties.mirrored.shape != (sites - rare,):
        raise ValueError(f"ties.source has shape {ties.source.shape}, not ({sites - rare},)")
    if ties.turned.dtype != bool or ties.mirrored.dtype != bool:
        raise ValueError("ties.turned and ties.mirrored must be truth values")
    _indices("ties.drawn", ties.drawn, sites)
    _indices("ties.follows", ties.follows, drawn)
    _indices("ties.source", ties.source, drawn)


def check_rare(rare: Rare, *, sites: int, anchors: int, tiles: int) -> None:
    """Rare sites that exist, on tiles and in an order that exist.

    Raises:
        ValueError: they do not.
    """
    count = len(rare.sites)
    for name in ("mirrored", "frequency", "shared", "tile", "order", "relative", "inside", "scale"):
        if getattr(rare, name).shape != (count,):
            raise ValueError(f"rare.{name} has shape {getattr(rare, name).shape}, not ({count},)")
    _indices("rare.sites", rare.sites, sites)
    _indices("rare.tile", rare.tile, tiles)
    _indices("rare.order", rare.order, count)
    _indices("rare.relative", rare.relative, count, least=-1)
    if len(set(rare.sites.tolist())) != count or len(set(rare.order.tolist())) != count:
        raise ValueError("a rare site occurs twice")
    if rare.backgrounds.ndim != 2 or len(rare.backgrounds) != tiles or rare.strengths.shape != (2,):
        raise ValueError(f"rare.backgrounds has shape {rare.backgrounds.shape}, not ({tiles}, …)")
    if rare.anchors.shape != (anchors,):
        raise ValueError(f"rare.anchors has shape {rare.anchors.shape}, not ({anchors},)")
    for name, table, width in (("on_background", rare.on_background, rare.backgrounds.shape[1]),
                               ("on_anchor", rare.on_anchor, anchors)):  # fmt: skip
        if table.ndim != 2 or len(table) != 3:
            raise ValueError(f"rare.{name} has shape {table.shape}, not (3, …)")
        _indices(f"rare.{name}", table[0], count)
        _indices(f"rare.{name}", table[1], width)
