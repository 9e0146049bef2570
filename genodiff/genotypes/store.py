"""Model folders: tensors in safetensors, everything else in JSON, hashes of both, no pickle.

``model.json`` names the format and its version, the configuration, the labels and anchors, and the SHA-256 of the two
other files; a file that was changed, cut or exchanged is refused.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from data_prep.errors import InputError, OutputError
from genodiff.core.bases import BlockPCA
from genodiff.core.flexible import FlexibleDiffusion
from genodiff.core.subspaces import SubspaceDiffusion
from genodiff.core.training import TrainingResult
from genodiff.files import current_umask, sha256
from genodiff.genotypes.anchors import Population
from genodiff.genotypes.backgrounds import Backgrounds
from genodiff.genotypes.checks import (
    check_backgrounds,
    check_header,
    check_network,
    check_population,
    check_rare,
    check_tensors,
    check_ties,
    sites_of,
)
from genodiff.genotypes.config import ModelConfig
from genodiff.genotypes.denoiser import FEATURES
from genodiff.genotypes.engine import Engine
from genodiff.genotypes.rare import Rare
from genodiff.genotypes.ties import Ties

if TYPE_CHECKING:
    from genodiff.genotypes.model import GenotypeModel

__all__ = ["FORMAT_VERSION", "load_model", "save_model"]

FORMAT = "genodiff-model"
FORMAT_VERSION = 5
_SCHEDULE = "process.schedule."
_RATES = "process.rates."
_DIGEST_KEY = "header_sha256"
_HASHED = ("weights.safetensors", "sites.json")


def _header_digest(header: dict[str, Any]) -> str:
    import hashlib

    plain = {k: v for k, v in header.items() if k != _DIGEST_KEY}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def save_model(model: GenotypeModel, path: Path) -> Path:
    """Writes the folder beside its destination and moves it there in one step; an older model there is replaced.

    Raises:
        OutputError: the folder cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    from genodiff import __version__

    meta, engine = model.meta, model.engine
    if path.exists() and not _replaceable(path):
        raise OutputError(f"{path} exists and is not a model folder: choose another place, or remove it")
    staging = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}-"))
        staging.chmod(0o777 & ~current_umask())
        tensors = {k: v.detach().cpu().contiguous() for k, v in engine.state_dict().items()}
        # The process appears in several modules; a tensor file holds every tensor once.
        kept = {k: v for k, v in tensors.items() if not k.startswith(("denoiser.", "prior.process.", "basis."))}
        for name, values in vars(meta.ties).items():
            kept[f"ties.{name}"] = torch.from_numpy(values)
        if meta.rare is not None:
            kept |= {f"rare.{k}": torch.from_numpy(np.ascontiguousarray(v)) for k, v in meta.rare.arrays().items()}
        save_file(kept, staging / "weights.safetensors")
        (staging / "weights.safetensors").chmod(0o666 & ~current_umask())
        sites = {c: meta.sites[c].tolist() for c in meta.sites.columns}
        (staging / "sites.json").write_text(json.dumps(sites))
        header: dict[str, Any] = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "genodiff_version": __version__,
            "config": model.config.to_dict(),
            "ploidy": meta.ploidy,
            "per_person": meta.per_person,
            "bounds": list(meta.bounds),
            "labels": list(meta.population.labels),
            "combinations": meta.population.combinations.tolist(),
            "counts": meta.population.counts.tolist(),
            "parents": list(meta.population.parents),
            "borrowed": list(meta.population.borrowed),
            "n_anchors": meta.n_anchors,
            "n_people": meta.n_people,
            "inbreeding": [None if math.isnan(v) else v for v in meta.inbreeding],
            "vcf_header": list(meta.header),
            "conditions": list(engine.conditions),
            "training": {
                "steps": model.result.steps,
                "best_validation": None if math.isinf(model.result.best_validation) else model.result.best_validation,
                "stopped_early": model.result.stopped_early,
                "history": model.result.history,
            },
            "sha256": {name: sha256(staging / name) for name in _HASHED},
        }
        header[_DIGEST_KEY] = _header_digest(header)
        (staging / "model.json").write_text(json.dumps(header, indent=1))
        if path.exists():
            shutil.rmtree(path)
        os.replace(staging, path)
    except OSError as error:
        raise OutputError(f"{path}: the model cannot be written ({error.strerror or error})") from error
    except SafetensorError as error:
        raise OutputError(f"{path}: the model cannot be written ({error})") from error
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)
    return path


def _replaceable(path: Path) -> bool:
    """An older model, or an empty folder: nothing else is ever removed."""
    return path.is_dir() and ((path / "model.json").is_file() or not any(path.iterdir()))


def _read_header(path: Path) -> dict[str, Any]:
    file = path / "model.json"
    if not path.is_dir() or not file.is_file():
        raise InputError(f"{path} is not a model folder: it has no model.json; make one with 'genodiff fit'")
    try:
        header = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file} cannot be read ({error}): fit the model again") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise InputError(f"{file} does not describe a genodiff model: fit the model again")
    if header.get("format_version") != FORMAT_VERSION:
        raise InputError(
            f"{path} has model format {header.get('format_version')}, this genodiff reads format {FORMAT_VERSION}: "
            "use the version it was made with, or fit it again"
        )
    if header.get(_DIGEST_KEY) != _header_digest(header):
        raise InputError(f"{file} was changed after it was written: fit the model again")
    digests = header.get("sha256")
    for name in _HASHED:
        if not (path / name).is_file():
            raise InputError(f"{path} lacks {name}: fit the model again")
        if not isinstance(digests, dict) or sha256(path / name) != digests.get(name):
            raise InputError(f"{path / name} was changed after it was written: fit the model again")
    return header


def load_model(path: Path, *, device: torch.device) -> GenotypeModel:
    """Reads and checks a model folder.

    Raises:
        InputError: not a model folder, of another format version, or changed since it was written.
    """
    from safetensors import SafetensorError

    header = _read_header(path)
    try:
        check_header(header)
        model = _rebuild(path, header)
    # The checks name what is wrong; the others are what tensors and tables say of sizes that do not fit.
    except (LookupError, TypeError, ValueError, ArithmeticError, RuntimeError, MemoryError, SafetensorError) as error:
        version = str(header.get("genodiff_version"))[:20]
        raise InputError(
            f"{path} was written by genodiff {version}, this one cannot rebuild it ({error}): "
            "use the version it was made with, or fit it again"
        ) from error
    model._engine = model.engine.to(device)
    return model


def _rebuild(path: Path, header: dict[str, Any]) -> GenotypeModel:
    from safetensors.torch import load_file

    from genodiff.genotypes.model import GenotypeModel, _Meta

    tensors = load_file(path / "weights.safetensors")
    config = ModelConfig.from_dict(header["config"])
    bounds, conditions = tuple(header["bounds"]), tuple(header["conditions"])
    check_tensors(tensors, bounds, anchors=header["n_anchors"])
    if conditions not in ((header["n_anchors"],), (header["n_anchors"], len(header["labels"]))):
        raise ValueError(f"conditions are {conditions}")
    for k, (tile, _) in enumerate(config.scales):
        check_backgrounds(tensors, k, tile=tile, sites=bounds[-1], anchors=header["n_anchors"], ploidy=header["ploidy"])
    check_network(
        tensors, config, sites=bounds[-1], channels=FEATURES + len(config.scales), ploidy=header["ploidy"],
        conditions=conditions, opinions=len(config.scales),
    )  # fmt: skip
    engine = Engine(
        basis=BlockPCA.from_flat(tensors["process.basis.flat"], bounds),
        frequency=tensors["process.mean"],
        total=tensors["total"],
        within=tensors["prior.modal_variance"],
        points=tensors["prior.means"],
        starts=tensors["starts"],
        weights=tensors["prior.weights"],
        conditions=conditions,
        backgrounds=[
            Backgrounds(
                tensors[f"backgrounds.{k}.means"],
                tensors[f"backgrounds.{k}.variance"],
                tensors[f"backgrounds.{k}.sizes"],
                tensors[f"backgrounds.{k}.paths"],
                tensors[f"backgrounds.{k}.anchored"],
                tensors[f"backgrounds.{k}.share"],
                tensors[f"backgrounds.{k}.pseudo"],
                tile=tile,
                ploidy=header["ploidy"],
            )
            for k, (tile, _) in enumerate(config.scales)
        ],
        ploidy=header["ploidy"],
        config=config,
    )
    if "pace" in tensors:
        engine.pace = tensors["pace"]
    if isinstance(engine.process, SubspaceDiffusion):
        kept = {k.removeprefix(_SCHEDULE): v for k, v in tensors.items() if k.startswith(_SCHEDULE)}
        engine.process.schedule.load_state_dict(kept)
    if isinstance(engine.process, FlexibleDiffusion):
        kept = {k.removeprefix(_RATES): v for k, v in tensors.items() if k.startswith(_RATES)}
        engine.process.rates.load_state_dict(kept)
        engine.settle()
    engine.grid()  # refuses noise levels that no walk leads through
    network = {k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")}
    engine.network.load_state_dict(network)
    model = GenotypeModel(config)
    model._engine = engine
    training = header["training"]
    model.result = TrainingResult(
        steps=training["steps"],
        best_validation=math.inf if training["best_validation"] is None else training["best_validation"],
        stopped_early=training["stopped_early"],
        history=training["history"],
    )
    rare = {k.removeprefix("rare."): v.numpy() for k, v in tensors.items() if k.startswith("rare.")}
    sites = sites_of(json.loads((path / "sites.json").read_text(encoding="utf-8")))
    population = Population(
        tuple(header["labels"]),
        np.asarray(header["combinations"], dtype=np.int64),
        np.asarray(header["counts"], dtype=np.float64),
        tuple(header["parents"]),
        tuple(header["borrowed"]),
    )
    check_population(population, per_person=header["per_person"], anchors=header["n_anchors"])
    ties = Ties(**{k.removeprefix("ties."): v.numpy() for k, v in tensors.items() if k.startswith("ties.")})
    scarce = Rare(**rare) if rare else None
    check_ties(ties, drawn=bounds[-1], sites=len(sites), rare=0 if scarce is None else len(scarce.sites))
    if scarce is not None:
        middle = engine.denoiser.backgrounds[len(config.scales) // 2]
        check_rare(scarce, sites=len(sites), anchors=header["n_anchors"], tiles=middle.get_buffer("sizes").shape[0])
    observed, repaired = (float("nan") if v is None else float(v) for v in header["inbreeding"])
    model._meta = _Meta(
        sites=sites,
        header=tuple(header["vcf_header"]),
        ploidy=header["ploidy"],
        per_person=header["per_person"],
        bounds=bounds,
        population=population,
        n_anchors=header["n_anchors"],
        n_people=header["n_people"],
        inbreeding=(observed, repaired),
        ties=ties,
        rare=scarce,
    )
    return model
