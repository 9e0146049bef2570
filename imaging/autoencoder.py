"""Latent spaces, and a small autoencoder that all models of latents share.

In training, latents are brought to mean 0 and variance 1 over the batch, channel by channel, and noise of a fixed
deviation is added before they are decoded. That does what the divergence from N(0, I) and the learned variance of a
variational autoencoder are there for: what a latent can carry is bounded, ½ log(1 + 1/noise²) nats for Gaussian ones,
and neighbouring latents decode alike. It needs no second head and no weight to tune, and the noise that the decoder
withstands is known in the units in which a diffusion of the latents leaves its errors. The encoder is deterministic;
once training is done, mean and variance over the training set take the place of those of the batch.

How well a model of latents can do is bounded by its autoencoder: judge :func:`reconstructed` test images beside it.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from genodiff.core.training import TrainingConfig, Workers, step_generator, train
from imaging.datasets import Images, ImageSets, from_unit
from imaging.errors import ImagingError
from imaging.files import drop_damaged, writing
from imaging.models import tuples
from imaging.networks import Block, normalised
from imaging.runs import HELD_OUT, Source

__all__ = [
    "TRAINING",
    "Autoencoder",
    "AutoencoderConfig",
    "LatentSpace",
    "digest_of",
    "encoded",
    "keep_autoencoder",
    "load_autoencoder",
    "reconstructed",
    "train_autoencoder",
]

_ABSOLUTE = 0.1
"""Weight of the absolute error beside the squared one: the latter alone is content with faint blur."""

_AT_ONCE = 256
"""Most images in one pass outside of training."""

TRAINING = TrainingConfig(
    steps=4000, batch=32, learning_rate=2e-3, warmup=100, weight_decay=0.0, ema=0.998, validate_every=250, patience=16
)


@dataclass(frozen=True)
class AutoencoderConfig:
    """Size of an :class:`Autoencoder`.

    Attributes:
        widths: channels at every resolution, finest first; each is half as fine as the one before, latents as fine as
            the last.
        channels: of the latents.
        noise: deviation of the noise that latents, of variance 1, receive in training.
    """

    widths: tuple[int, ...] = (32, 64)
    channels: int = 4
    noise: float = 0.05

    def __post_init__(self) -> None:
        if not self.widths or min(self.widths) < 1 or self.channels < 1 or not 0 <= self.noise < 1:
            raise ValueError(f"widths and channels must be at least 1 and noise within [0, 1): {self}")

    @property
    def step(self) -> int:
        """How many times finer images are than latents, 2^(resolutions − 1)."""
        return 2 ** (len(self.widths) - 1)


class LatentSpace(nn.Module):
    """Images as latents of mean about 0 and variance about 1, and back.

    Attributes:
        shape: channels, height and width of an image.
        latent_shape: of its latents.
        name: of the set it was trained on, or of its folder.
        digest: first 12 hexadecimal digits of the SHA-256 of the file of weights; latents compare under equal digests
            only.
        files: that it was read from, its weights last: one, or those of a folder.
    """

    shape: tuple[int, int, int]
    latent_shape: tuple[int, int, int]
    name: str = ""
    digest: str = ""
    files: tuple[Path, ...] = ()

    def encode(self, values: Tensor) -> Tensor:
        """Images (B, C, H, W) in [−1, 1] to latents (B, c, h, w)."""
        raise NotImplementedError

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, c, h, w) to images (B, C, H, W) with values about [−1, 1]."""
        raise NotImplementedError

    def forward(self, values: Tensor) -> Tensor:
        """What is left of images on the way to latents and back, (B, C, H, W)."""
        return self.decode(self.encode(values))


class Autoencoder(LatentSpace):
    """Residual convolutions from an image to latents, and as many back.

    Args:
        shape: channels, height and width of an image.
        config: size.

    Attributes:
        error: root mean square error of reconstructed test images, values in [−1, 1]; NaN before training.

    Raises:
        ValueError: height or width is no multiple of 2^(resolutions − 1).
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, shape: tuple[int, int, int], config: AutoencoderConfig | None = None) -> None:
        super().__init__()
        self.config = config = AutoencoderConfig() if config is None else config
        self.shape = (channels, height, width) = shape
        if height % config.step or width % config.step:
            raise ValueError(f"height {height} and width {width} must be multiples of {config.step} for {config}")
        self.latent_shape = (config.channels, height // config.step, width // config.step)
        self.error = float("nan")
        first, last = config.widths[0], config.widths[-1]
        down: list[nn.Module] = [nn.Conv2d(channels, first, 3, padding=1), Block(first, first)]
        up: list[nn.Module] = [nn.Conv2d(first, channels, 3, padding=1), nn.SiLU(), normalised(first)]
        up.append(Block(first, first))
        for fine, coarse in itertools.pairwise(config.widths):
            down += [nn.Conv2d(fine, coarse, 3, stride=2, padding=1), Block(coarse, coarse)]
            up += [nn.Conv2d(coarse, fine, 3, padding=1), nn.Upsample(scale_factor=2), Block(coarse, coarse)]
        self.down = nn.Sequential(
            *down, Block(last, last), normalised(last), nn.SiLU(), nn.Conv2d(last, config.channels, 3, padding=1)
        )
        self.up = nn.Sequential(nn.Conv2d(config.channels, last, 3, padding=1), Block(last, last), *reversed(up))
        self.register_buffer("shift", torch.zeros(config.channels, 1, 1))
        self.register_buffer("scale", torch.ones(config.channels, 1, 1))

    def encode(self, values: Tensor) -> Tensor:
        """Images (B, C, H, W) in [−1, 1] to latents (B, c, h, w), of mean 0 and variance 1 over the training set."""
        return (self.down(values) - self.shift) / self.scale

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, c, h, w) to images (B, C, H, W) with values about [−1, 1]."""
        return self.up(latents)

    @torch.no_grad()
    def settle(self, images: Images) -> None:
        """Makes mean 0 and variance 1 of every channel of the latents those over ``images``."""
        self.shift.zero_()
        self.scale.fill_(1.0)
        moments = [
            torch.stack([z.mean((0, 2, 3)), z.square().mean((0, 2, 3))]) * len(z)
            for z in (self.encode(x).double() for x in _runs(images))
        ]
        mean, square = torch.stack(moments).sum(0) / len(images)
        self.shift.copy_(mean.view_as(self.shift))
        self.scale.copy_((square - mean.square()).sqrt().clamp_min(1e-6).view_as(self.scale))


def _runs(images: Images) -> Iterator[Tensor]:
    """The values of a set, some images at a time."""
    for k in range(0, len(images), _AT_ONCE):
        yield images.values(slice(k, k + _AT_ONCE))


def _fitting(space: LatentSpace, images: Images) -> Images:
    if images.shape != space.shape:
        raise ImagingError(
            f"{images.name}: images of shape {images.shape}, but the autoencoder of {space.name} is for {space.shape}: "
            "choose another --size, or train one with train-autoencoder"
        )
    return images


@torch.no_grad()
def encoded(space: LatentSpace, images: Images) -> Tensor:
    """Latents of all images, (n, c, h, w) float32.

    Raises:
        ImagingError: the images have another shape than those of the autoencoder.
    """
    return torch.cat([space.encode(x) for x in _runs(_fitting(space, images))])


@torch.no_grad()
def reconstructed(space: LatentSpace, images: Images) -> Images:
    """Images through latents and back: what a perfect model of latents would be judged by.

    Raises:
        ImagingError: the images have another shape than those of the autoencoder.
    """
    return replace(images, pixels=np.concatenate([from_unit(space(x)) for x in _runs(_fitting(space, images))]))


class _Reconstruction:
    """Error of images decoded from noisy latents, for :func:`genodiff.core.training.train`."""

    def __init__(self, model: Autoencoder, sets: ImageSets, *, batch: int, seed: int) -> None:
        self.model, self.images, self.batch, self.seed = model, sets.train, batch, seed
        self.held_out = sets.test.values(slice(0, HELD_OUT))

    def _error(self, values: Tensor, generator: torch.Generator) -> Tensor:
        raw = self.model.down(values)
        variance, mean = torch.var_mean(raw, (0, 2, 3), correction=0, keepdim=True)
        noise = self.model.config.noise * torch.randn(raw.shape, generator=generator)
        # Moments of the batch, or the encoder could drown any noise by the size of its latents.
        left = self.model.decode((raw - mean) * (variance + 1e-8).rsqrt() + noise) - values
        return left.square().mean() + _ABSOLUTE * left.abs().mean()

    def loss(self, generator: torch.Generator, workers: Workers) -> Tensor:
        index = torch.randint(len(self.images), (self.batch,), generator=generator)[workers.part(self.batch)]
        return self._error(self.images.values(index), generator)

    def validation(self) -> float:
        return float(self._error(self.held_out, step_generator(self.seed, -1)))


def train_autoencoder(
    source: Source,
    output: Path,
    *,
    config: AutoencoderConfig | None = None,
    training: TrainingConfig = TRAINING,
    seed: int = 1,
    force: bool = False,
    progress: bool = False,
) -> Autoencoder:
    """Trains an autoencoder, writes it as one file, weights in half precision, and returns it as it is kept.

    Args:
        source: of the images.
        output: file for the weights; a checkpoint lies beside it until training is done.
        config: size.
        training: length, rates and batch.
        seed: of weights, batches and noise.
        force: replace what is there.
        progress: show a bar.

    Raises:
        ImagingError: the file exists, or the images cannot be halved as often as the size asks.
    """
    if output.is_dir():
        raise ImagingError(f"{output} is a folder: choose another -o")
    if output.exists() and not force:
        raise ImagingError(f"{output} exists: choose another -o, or replace it with --force")
    config = AutoencoderConfig() if config is None else config
    sets = source.load()
    if source.size % config.step:
        raise ImagingError(
            f"a size of {source.size} is no multiple of {config.step}: choose another --size or --widths"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Autoencoder(sets.train.shape, config)
    checkpoint = output.with_name(f".{output.name}.checkpoint.safetensors")
    drop_damaged(checkpoint)
    train(
        model, _Reconstruction(model, sets, batch=training.batch, seed=seed), training, seed=seed,
        checkpoint=checkpoint, progress=progress,
        fingerprint=f"autoencoder {source.facts()} {sets.train.shape} {config} {training} {seed} {sets.digest}",
    )  # fmt: skip
    model.eval().requires_grad_(False)
    for p in model.parameters():  # measured as it will be read
        p.copy_(p.half())
    model.settle(sets.train)
    left = (sets.test.values(), reconstructed(model, sets.test).values())
    model.error = float((left[0] - left[1]).square().mean().sqrt())
    model.name = source.name
    _save(model, output, force=force, source=source.facts(), training=asdict(training), seed=seed)
    checkpoint.unlink(missing_ok=True)
    return _load(output)


def _save(model: Autoencoder, path: Path, *, force: bool, **said: Any) -> None:
    from safetensors.torch import save_file

    halved = {name for name, _ in model.named_parameters()}
    tensors = {name: (t.half() if name in halved else t).contiguous() for name, t in model.state_dict().items()}
    known = {"name": model.name, "shape": model.shape, "config": asdict(model.config), "error": model.error, **said}
    with writing(path, force=force) as temporary:
        save_file(tensors, temporary, metadata={"autoencoder": json.dumps(known)})


def digest_of(path: Path) -> str:
    """First 12 hexadecimal digits of the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def _load(path: Path) -> Autoencoder:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as handle:
            facts = json.loads((handle.metadata() or {})["autoencoder"])
            tensors = {key: handle.get_tensor(key).float() for key in handle.keys()}  # noqa: SIM118 - not a dict
        channels, height, width = facts["shape"]
        model = Autoencoder((channels, height, width), AutoencoderConfig(**tuples(facts["config"])))
        model.load_state_dict(tensors)
        model.name, model.error, model.digest = facts["name"], float(facts["error"]), digest_of(path)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ImagingError(f"{path} holds no autoencoder: give a file that train-autoencoder wrote") from error
    model.files = (path,)
    return model.eval().requires_grad_(False)


def keep_autoencoder(space: LatentSpace, path: Path) -> None:
    """Copies what an autoencoder was read from to ``path``, from where :func:`load_autoencoder` reads the same.

    Raises:
        ImagingError: it is there no more, or another lies in its place.
    """
    try:
        if digest_of(space.files[-1]) != space.digest:
            raise ImagingError(f"{space.files[-1]} has changed since it was read: give the same command again")
        if len(space.files) == 1:
            shutil.copyfile(space.files[0], path)
        else:
            path.mkdir()
            for file in space.files:
                shutil.copyfile(file, path / file.name)
    except FileNotFoundError as error:
        raise ImagingError(f"{error.filename} is there no more: put the autoencoder back") from error


def load_autoencoder(path: Path, *, shape: tuple[int, int, int] | None = None) -> LatentSpace:
    """An autoencoder from a file that ``train-autoencoder`` wrote, or a user's ``AutoencoderKL`` from its folder.

    Args:
        path: the file or the folder.
        shape: of the images, if they are to be checked; an ``AutoencoderKL`` reads images of any size.

    Raises:
        ImagingError: there is none at ``path``, or it is for other images.
    """
    if path.is_dir():
        from imaging.kl import load_autoencoder_kl

        return load_autoencoder_kl(path, shape=shape)
    if not path.exists():
        raise ImagingError(f"{path} is not there: give a file from train-autoencoder or the folder of an AutoencoderKL")
    model = _load(path)
    if shape is not None and shape != model.shape:
        raise ImagingError(
            f"{path} is for images of shape {model.shape}, not {shape}: train one with train-autoencoder"
        )
    return model
