"""``ImageModel``: a trained image diffusion as a folder of weights (safetensors) and facts (JSON), without pickle.

What a kind of model adds to it, its process and its sampler, is in the module of that kind.
"""

from __future__ import annotations

import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Self, cast

import torch
from torch import Tensor, nn

from genodiff.core.denoisers import Denoiser
from imaging.errors import ImagingError
from imaging.files import MARK, writing
from imaging.networks import UNet, UNetConfig

__all__ = ["ImageModel", "known_moments", "seeded_unet", "time_of_level", "tuples"]

_WEIGHTS = "weights.safetensors"

_KINDS = {
    "toad": ("imaging.toad", "ToadModel"),
    "flexible": ("imaging.fp", "FlexibleModel"),
    "field": ("imaging.spde", "FieldModel"),
}
"""Where the class of a kind of model is."""


def tuples(held: dict[str, Any]) -> dict[str, Any]:
    """JSON has lists where a configuration has tuples."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in held.items()}


def known_moments(facts: dict[str, Any]) -> tuple[float, float]:
    """Mean and variance of the values, as the facts of a model tell.

    Raises:
        ValueError: they are no mean and variance.
    """
    mean, variance = map(float, facts["moments"])
    if not (math.isfinite(mean) and math.isfinite(variance) and variance > 0):
        raise ValueError(f"{mean} and {variance} are no mean and variance")
    return mean, variance


def seeded_unet(shape: tuple[int, int, int], config: UNetConfig, *, seed: int, inputs: int | None = None) -> UNet:
    """A U-Net whose first weights depend on ``seed`` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return UNet(shape, config, inputs=inputs)


def time_of_level(level_of: Callable[[float], float], level: float, *, earliest: float, latest: float) -> float:
    """The time at which noise has come to ``level``.

    Args:
        level_of: time to level, rising.
        level: see :meth:`ImageModel.revise`.
        earliest: first time that a sampler can go back from, exclusive.
        latest: last time of the process.

    Raises:
        ImagingError: the process does not reach the level between the two.
    """
    from scipy.optimize import brentq

    lowest, highest = level_of(earliest), level_of(latest)
    if not lowest < level <= highest:
        raise ImagingError(
            f"a level of {level:g} is beyond this model, whose noise goes from {lowest:.2g} to {highest:.3g} "
            "deviations of the data: choose another --level"
        )
    return float(brentq(lambda t: math.log(level_of(t) / level), earliest, latest, xtol=1e-12, rtol=1e-9))


@dataclass
class ImageModel(ABC):
    """An image diffusion and what it was learned from.

    Attributes:
        kind: the key of its facts by which a folder is known to hold one.
        remedy: what to do where one of this kind is needed and another is given.
        samplers: names that the attribute ``sampler`` of this kind may have; none if it is sampled in one way only.
        network: size of the U-Net.
        denoiser: the model of the score, with its process.
        source: name and size of the data set.
        learned: what was learned, in order.
    """

    kind: ClassVar[str]
    remedy: ClassVar[str] = "give such a one"
    samplers: ClassVar[tuple[str, ...]] = ()
    network: UNetConfig
    denoiser: Denoiser
    source: dict[str, Any]
    learned: tuple[str, ...] = ()

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """All that :meth:`load` must know beside the weights; the key :attr:`kind` says which class reads it."""

    @classmethod
    @abstractmethod
    def untrained(cls, facts: dict[str, Any]) -> Self:
        """A model of known facts, to be filled with weights."""

    @abstractmethod
    def sample(self, n: int, *, steps: int, generator: torch.Generator) -> Tensor:
        """Images (n, C, H, W) with values about [−1, 1] by ``steps`` steps of the sampler of this kind."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        channels, height, width = cast(UNet, self.denoiser.network).shape
        return channels, height, width

    def revise(self, values: Tensor, *, level: float, steps: int, generator: torch.Generator) -> Tensor:
        """Images that resemble given ones: forward until the noise has come to ``level``, and back (SDEdit).

        The level means the same under all processes: with σ the deviation of the noise that a pixel has received, m
        what it keeps of itself and s the deviation of the data, it is σ/(m s). With modes that are noised unlike each
        other, σ² and m² are their means over all modes; smoothing, where a process has it, is left out of m. For data
        of one Gaussian law and deterministic sampling, a pixel keeps 1/√(1 + level²) of its departure from the mean.

        Args:
            values: (B, C, H, W), about [−1, 1].
            level: > 0.
            steps: of the sampler of this kind, from there to the data.
            generator: source of the noise.

        Returns:
            (B, C, H, W), values about [−1, 1].

        Raises:
            ImagingError: the process does not reach the level, or models of this kind cannot revise images.
        """
        raise ImagingError(f"a model of kind {self.kind} cannot revise images: train one of another process")

    @property
    def digest(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of facts and weights."""
        total = hashlib.sha256(json.dumps(self.facts(), sort_keys=True).encode())
        for _, tensor in sorted(self.denoiser.state_dict().items()):
            total.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return total.hexdigest()[:16]

    def common_facts(self) -> dict[str, Any]:
        """The facts that every kind has."""
        return {"network": asdict(self.network), "learned": self.learned, "data": self.source}

    def save_weights(self, folder: Path) -> None:
        """Writes the weights into ``folder``."""
        from safetensors.torch import save_file

        # Cloned, since a process may be held twice and a file holds no reference.
        tensors = {name: t.detach().cpu().contiguous().clone() for name, t in self.denoiser.state_dict().items()}
        save_file(tensors, folder / _WEIGHTS)
        (folder / _WEIGHTS).chmod((folder / _WEIGHTS).stat().st_mode | 0o044)

    def read_beside(self, folder: Path) -> None:  # noqa: B027 - most kinds keep nothing else
        """Reads what this kind of model keeps in its folder beside facts and weights."""

    @classmethod
    def load(cls, folder: Path) -> Self:
        """A model that ``train``, ``learn-schedule`` or ``learn-time`` wrote; of a kind, if called on its class.

        Raises:
            ImagingError: the folder holds none, or its files do not fit.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        for name in (MARK, _WEIGHTS):
            if not (folder / name).is_file():
                raise ImagingError(f"{folder} holds no {name}: give a model folder from train or learn-schedule")
        try:
            facts = json.loads((folder / MARK).read_text(encoding="utf-8"))["model"]
            model = cls._made(folder, facts, load_file(folder / _WEIGHTS))
            model.read_beside(folder)
            return model
        except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
            what = str(error).splitlines()[0]
            raise ImagingError(f"{folder} holds no readable model ({what}): train it again") from error

    @classmethod
    def _made(cls, where: Path, facts: dict[str, Any], tensors: dict[str, Tensor]) -> Self:
        """A model of known facts and weights, read at ``where``, ready to sample from."""
        kind = next((name for name in _KINDS if name in facts), None)
        if kind is None:
            raise ValueError("of no kind that is known")
        module, name = _KINDS[kind]
        found = getattr(import_module(module), name)
        if not issubclass(found, cls):
            raise ImagingError(
                f"{where} is a model of kind {kind}, where one of kind {cls.kind} is needed: {cls.remedy}"
            )
        if not {"name", "size"} <= facts["data"].keys():
            raise ValueError("it does not say what it was learned from")
        model = cast(Self, found.untrained(facts))
        _, height, width = model.shape
        if facts["data"]["size"] not in (height, width):
            raise ValueError(f"its images are {height} × {width}, its data of size {facts['data']['size']}")
        if any(not t.isfinite().all() for t in tensors.values() if t.is_floating_point()):
            raise ValueError("not all of its weights are numbers")
        model.denoiser.load_state_dict(tensors)
        model.denoiser.eval().requires_grad_(False)
        return model

    def pack(self, path: Path, **said: Any) -> None:
        """Writes the model as one small file: the network in half precision, its schedule as it is.

        Args:
            path: the file, replaced if it is there.
            said: what else to keep in it, as JSON.
        """
        from safetensors.torch import save_file

        own = set(map(id, cast(nn.Module, self.denoiser.network).parameters()))
        halved = {name for name, p in self.denoiser.named_parameters() if id(p) in own}
        tensors = {
            name: (t.half() if name in halved else t).detach().cpu().contiguous().clone()
            for name, t in self.denoiser.state_dict().items()
        }
        with writing(path, force=True) as temporary:
            save_file(tensors, temporary, metadata={"model": json.dumps({"model": self.facts(), **said})})

    @classmethod
    def unpack(cls, path: Path) -> tuple[Self, dict[str, Any]]:
        """A model that :meth:`pack` wrote, and what else the file keeps.

        Raises:
            ImagingError: the file holds none.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt") as handle:
                facts = json.loads((handle.metadata() or {})["model"])
                tensors = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118 - not a dict
            model = cls._made(path, facts.pop("model"), tensors)
        except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
            what = str(error).splitlines()[0]
            raise ImagingError(f"{path} holds no readable model ({what}): train it again") from error
        return model, facts
