"""Methods on genotypes, fitted, judged by the paper's metrics, and remembered so that a run can be interrupted.

A :class:`Problem` holds the people to learn from and the dosages to be judged against. :func:`measure` fits a method
on it, or takes the answer from a file: every (method, problem, seed) has a file of its own, named by a hash of all it
depends on, so that a run which is started again goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.maps import GeneticMap
from data_prep.variants import VariantTable
from genodiff import __version__
from genodiff.evaluation.covariance import wasserstein_per_site
from genodiff.files import atomic_text, atomic_write
from genodiff.reproduce import Length
from genodiff.reproduce.tables import Results, paper_metrics, wasserstein_1d

__all__ = [
    "NEAR", "NEAR_LD", "UNROUNDED", "W2_SITES", "Cache", "Drawer", "Method", "Outcome", "Problem",
    "genotype_errors", "measure", "methods",
]  # fmt: skip

W2_SITES = "w2_sites"
"""W2 averaged over all sites, beside the paper's first five."""

NEAR_LD = "near_ld"
"""Slope of correlations on those of the reference over pairs up to :data:`NEAR` sites apart; 1 is right.

Where there are more sites than people, Frobenius norms are mostly sampling error of far pairs and hide lost linkage.
"""

NEAR = 10

UNROUNDED = ", unrounded"
"""What is appended to a method whose real-valued output is judged as it comes."""

_FORMAT = 2
"""Part of the name of every remembered outcome: raise it when a method or a metric changes."""

Drawer = Callable[[int, int], NDArray[Any]]
"""A fitted method: number of people and seed to dosages (people, sites)."""


@dataclass(frozen=True)
class Problem:
    """People to learn from and dosages to be judged against.

    Attributes:
        train: the people; complete calls.
        references: dosages (people, sites) by name, "test" among them.
        genetic_map: for the methods that use one.
    """

    train: VariantTable
    references: Mapping[str, NDArray[np.int8]]
    genetic_map: GeneticMap | None = None

    def digest(self) -> str:
        """A hash of everything in it."""
        digest = hashlib.sha256("\n".join(self.train.site_keys).encode())
        digest.update(np.ascontiguousarray(self.train.haplotypes).tobytes())
        # Alleles without phase are learned from in another way; no mask stands for a phase that is known everywhere.
        phased = self.train.phased
        digest.update(b"no mask" if phased is None else b"mask" + np.packbits(phased).tobytes())
        digest.update("\n".join([] if self.train.labels is None else list(self.train.labels)).encode())
        for name, reference in self.references.items():
            digest.update(f"{name} {reference.shape}".encode())
            digest.update(np.ascontiguousarray(reference).tobytes())
        if self.genetic_map is not None:
            digest.update(self.genetic_map.position.tobytes() + self.genetic_map.centimorgan.tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Method:
    """Something that learns from people and draws new ones.

    Attributes:
        name: column of the tables.
        options: all it can be told; part of what a remembered result is named by.
        fit: problem and seed to a drawer.
        real_valued: whether it draws real numbers, which are judged as they are and rounded to genotypes.
    """

    name: str
    options: Mapping[str, Any]
    fit: Callable[[Problem, int], Drawer]
    real_valued: bool = False


@dataclass
class Outcome:
    """What became of one method on one problem.

    Attributes:
        rows: column, reference and metrics of everything judged.
        seconds: time of fitting, drawing and judging.
        dosage: the people drawn, int8 (people, sites), where they were asked for.
    """

    rows: list[tuple[str, str, dict[str, float]]] = field(default_factory=list)
    seconds: float = 0.0
    dosage: NDArray[np.int8] | None = None

    def add_to(self, results: Results, *, seed: int) -> None:
        """Puts all rows into a table of results."""
        for method, against, metrics in self.rows:
            results.add(method, against, seed, metrics)


class Cache:
    """Outcomes as files: ``<method>-<hash>.json``, and the people as ``.npz`` where they were asked for.

    Args:
        folder: created when the first outcome is put in; removing it makes the next run begin anew.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _stem(self, name: str, key: Mapping[str, Any]) -> Path:
        text = json.dumps({"version": __version__, "format": _FORMAT, "name": name, **key}, sort_keys=True, default=str)
        return self.folder / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:20]}"

    def get(self, name: str, key: Mapping[str, Any], *, people: bool) -> Outcome | None:
        """The outcome, or ``None`` where there is none that can be read."""
        stem = self._stem(name, key)
        try:
            content = json.loads(stem.with_name(stem.name + ".json").read_text(encoding="utf-8"))
            outcome = Outcome([(m, a, dict(v)) for m, a, v in content["rows"]], float(content["seconds"]))
            if people:
                with np.load(stem.with_name(stem.name + ".npz")) as file:
                    outcome.dosage = file["dosage"]
        except (OSError, ValueError, KeyError, TypeError, EOFError):
            # Absent, or damaged by hand: either way it has to be made.
            return None
        return outcome

    def put(self, name: str, key: Mapping[str, Any], outcome: Outcome) -> None:
        """Remembers an outcome."""
        stem = self._stem(name, key)
        if outcome.dosage is not None:
            with atomic_write(stem.with_name(stem.name + ".npz")) as temporary, open(temporary, "wb") as file:
                np.savez_compressed(file, dosage=outcome.dosage)
        # Last, so that an outcome which can be read is a whole one.
        content = {"rows": outcome.rows, "seconds": outcome.seconds}
        atomic_text(stem.with_name(stem.name + ".json"), json.dumps(content, indent=1) + "\n")


def genotype_errors(generated: NDArray[Any], reference: NDArray[Any]) -> dict[str, float]:
    """The paper's metrics, W2 averaged over all sites, and how much of the linkage of neighbours is left."""
    if generated.dtype == reference.dtype == np.int8:
        # Three states need no sorting: a large reference would take most of the time of a quick run.
        sites = wasserstein_per_site(generated, reference)
    else:
        sites = np.array([wasserstein_1d(x, y) for x, y in zip(generated.T, reference.T, strict=True)])
    own = {W2_SITES: float(sites.mean()), NEAR_LD: _near_slope(generated, reference)}
    return {**paper_metrics(generated, reference), **own}


def _near_slope(generated: NDArray[Any], reference: NDArray[Any]) -> float:
    """Σ r r_ref / Σ r_ref² over pairs up to :data:`NEAR` sites apart; a fixed site correlates with nothing."""
    standard = []
    for x in (generated, reference):
        centred = np.asarray(x, dtype=np.float64) - np.mean(x, axis=0, dtype=np.float64)
        norm = np.sqrt(np.square(centred).sum(0))
        standard.append(np.divide(centred, norm, out=np.zeros_like(centred), where=norm > 1e-9))
    cross = square = 0.0
    for lag in range(1, min(NEAR, reference.shape[1] - 1) + 1):
        r, r_ref = ((z[:, lag:] * z[:, :-lag]).sum(0) for z in standard)
        cross, square = cross + float(r @ r_ref), square + float(r_ref @ r_ref)
    return cross / square if square > 0 else float("nan")


def measure(
    method: Method,
    problem: Problem,
    *,
    seed: int,
    people: int,
    cache: Cache,
    many: int = 0,
    keep: bool = False,
) -> Outcome:
    """Fits a method, draws people and judges them against train and all references.

    Args:
        method: what is fitted.
        problem: people and references.
        seed: of fitting and drawing.
        people: number of people drawn.
        cache: where the outcome is looked up, and put.
        many: if not 0, that many are drawn too and judged against the training people: sampling error of the drawn
            people then is next to nothing.
        keep: return the people too.
    """
    key = {"options": dict(method.options), "seed": seed, "people": people, "many": many, "data": problem.digest()}
    known = cache.get(method.name, key, people=keep)
    if known is not None:
        return known
    began = time.perf_counter()
    draw = method.fit(problem, seed)
    first = draw(people, seed)
    train = problem.train.dosage()
    outcome = Outcome(dosage=_rounded(first) if keep else None)
    for against, reference in {"train": train, **problem.references}.items():
        outcome.rows.append((method.name, against, genotype_errors(_rounded(first), reference)))
    if method.real_valued:
        errors = genotype_errors(first, problem.references["test"])
        outcome.rows.append((method.name + UNROUNDED, "test", errors))
    if many:
        errors = genotype_errors(_rounded(draw(many, seed + 1)), train)
        outcome.rows.append((method.name, against_many(many), errors))
    outcome.seconds = time.perf_counter() - began
    cache.put(method.name, key, outcome)
    return outcome


def against_many(people: int) -> str:
    """Name of the reference "train" where so many people were drawn."""
    return f"train, {people:,} draws"


def _rounded(x: NDArray[Any]) -> NDArray[np.int8]:
    return np.asarray(x) if x.dtype == np.int8 else np.clip(np.rint(x), 0, 2).astype(np.int8)


def methods(names: Sequence[str], *, budget: Length, device: str, progress: bool, config: Any = None) -> list[Method]:
    """Methods by name.

    Args:
        names: ``genodiff``, ``isotropic-paper``, ``gou-paper``, ``isotropic-tuned`` or a baseline.
        budget: ``quick`` takes the fast preset and short runs of the plain networks.
        device: where to train.
        progress: show bars.
        config: of genodiff, instead of the preset.
    """
    from genodiff.genotypes.config import preset

    preset_name = "fast" if budget == "quick" else "balanced"
    chosen = config or preset(preset_name)
    found = []
    for name in names:
        if name == "genodiff":
            found.append(_genodiff(name, chosen, device=device, progress=progress))
        elif name == "isotropic-tuned":
            found.append(_genodiff(name, replace(chosen, a=1.0), device=device, progress=progress))
        elif name in ("isotropic-paper", "gou-paper"):
            found.append(_plain(name, budget=budget, device=device, progress=progress))
        else:
            found.append(_baseline(name, device=device, progress=progress))
    return found


def _genodiff(name: str, config: Any, *, device: str, progress: bool) -> Method:
    def fit(problem: Problem, seed: int) -> Drawer:
        from genodiff.genotypes.model import GenotypeModel

        model = GenotypeModel(config).fit(problem.train, seed=seed, device=device, progress=progress)
        return lambda n, s: model.sample(n, seed=s, progress=progress).dosage()

    return Method(name, {"config": config.to_dict(), "device": device}, fit)


def _plain(name: str, *, budget: Length, device: str, progress: bool) -> Method:
    """A published recipe; its real numbers are judged unrounded too, which is what the paper seems to have done."""
    from genodiff.baselines.isotropic import GouPaper, IsotropicPaper

    kind = IsotropicPaper if name == "isotropic-paper" else GouPaper
    recipe = kind(steps=400, sampling_steps=50) if budget == "quick" else kind()

    def fit(problem: Problem, seed: int) -> Drawer:
        import torch

        from genodiff.genotypes.model import resolve_device

        x = torch.from_numpy(problem.train.dosage().astype(np.float32)).to(resolve_device(device))
        return lambda n, s: recipe.draw(x, n, seed=s, progress=progress).cpu().numpy()

    return Method(name, {**asdict(recipe), "device": device}, fit, real_valued=True)


def _baseline(name: str, *, device: str, progress: bool) -> Method:
    from genodiff.baselines import baseline

    made = baseline(name)

    def fit(problem: Problem, seed: int) -> Drawer:
        def draw(n: int, s: int) -> NDArray[np.int8]:
            return made.generate(
                problem.train, n, seed=s, genetic_map=problem.genetic_map, device=device, progress=progress
            ).dosage()

        return draw

    return Method(name, asdict(made) if is_dataclass(made) and not isinstance(made, type) else {}, fit)
