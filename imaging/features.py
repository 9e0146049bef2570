"""Feature networks: small classifiers in whose features sets of images are compared.

A Fréchet distance is only as meaningful as its features. Those of Inception belong to photographs and are not shipped;
here a classifier of a few hundred kilobytes is trained on the images themselves by ``train-features`` and its weights
lie in ``imaging/weights``. The features are in three parts, each scaled to unit total variance over the training set:
images that are all equal to the mean one are at a distance of 3. Distances are named after the set, ``FD-fmnist`` and
``FD-emoji``, and never called FID.

For emoji, which are in colour and have no labels of their own, the classes are the subgroups of Unicode (101, such as
``face-smiling`` or ``animal-bird``), known by the ligatures of the font: telling them apart takes shape and colour.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from genodiff.core.training import TrainingConfig, TrainingResult, Workers, train
from imaging.datasets import Images, ImageSets
from imaging.errors import ImagingError
from imaging.files import writing

__all__ = ["FeatureNetwork", "Features", "load_features", "save_features", "shipped", "train_features"]

_WEIGHTS = Path(__file__).parent / "weights"
_DIM = 128
_TAPS = (1, 4)
"""Layers, counted from 0, whose averages are features, too: a classifier learns not to see noise and blur, they do."""

_BATCH = 512
_VALIDATED = 2000
_SHORT = {"fashion-mnist": "fmnist"}

TRAINING = TrainingConfig(
    steps=1500,
    batch=128,
    learning_rate=2e-3,
    warmup=100,
    weight_decay=0.05,
    validate_every=250,
    checkpoint_seconds=20.0,
)


class FeatureNetwork(nn.Module):
    """Three convolutions, the image halved after each, then one layer of features and one of classes.

    What sets of images are compared by are that layer and, so that fine damage shows, the averages of the first two.

    Args:
        shape: channels, height and width; height and width must be multiples of 8.
        classes: number of classes.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        channels, height, width = shape
        if height % 8 or width % 8:
            raise ValueError(f"height {height} and width {width} must be multiples of 8")
        self.body = nn.Sequential(
            nn.Conv2d(channels, 32, 5, stride=2, padding=2), nn.ReLU(),
            nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2),
            nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2),
            nn.Flatten(), nn.Linear(height * width, _DIM), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(_DIM, classes)
        self.register_buffer("spread", torch.ones(len(_TAPS) + 1))

    def _parts(self, x: Tensor) -> list[Tensor]:
        """Averages over the image of what the first layers see, (B, 32) and (B, 64), and the last layer, (B, 128)."""
        seen = []
        for k, layer in enumerate(self.body):
            x = layer(x)
            if k in _TAPS:
                seen.append(x.mean((2, 3)))
        return [*seen, x]

    def features(self, x: Tensor) -> Tensor:
        """(B, C, H, W) in [−1, 1] to features (B, 224), in three parts of equal weight."""
        spread = self.get_buffer("spread")
        return torch.cat([part / s for part, s in zip(self._parts(x), spread, strict=True)], dim=1)

    @torch.no_grad()
    def balance(self, images: Images) -> None:
        """Scales each part of the features so that its variances over ``images`` sum to one."""
        self.eval()
        parts = zip(*(self._parts(images.values(rows)) for rows in _runs(len(images))), strict=True)
        totals = [torch.cat(part).double().var(0).sum() for part in parts]
        self.get_buffer("spread").copy_(torch.stack(totals).sqrt())

    def forward(self, x: Tensor) -> Tensor:
        """Log odds of the classes, (B, classes)."""
        return self.head(F.dropout(self.body(x), 0.3, self.training))


def _runs(n: int) -> list[slice]:
    """Consecutive runs of rows small enough to be seen at once."""
    return [slice(k, min(k + _BATCH, n)) for k in range(0, n, _BATCH)]


@dataclass(frozen=True)
class Features:
    """A trained feature network and what is to be said of it.

    Attributes:
        name: of the set it was trained on, as in ``FD-name``.
        network: the network.
        shape: of the images it reads.
        accuracy: share of test images it classifies rightly.
        digest: first 12 hexadecimal digits of the SHA-256 of the weights; distances compare under equal digests only.
    """

    name: str
    network: FeatureNetwork
    shape: tuple[int, int, int]
    accuracy: float
    digest: str

    @torch.no_grad()
    def of(self, images: Images) -> NDArray[np.float64]:
        """Features of all images, (n, 224) float64.

        Raises:
            ImagingError: the images have another shape than those the network was trained on.
        """
        if images.shape != self.shape:
            raise ImagingError(
                f"{images.name}: images of shape {images.shape}, but the features of {self.name} are for {self.shape}: "
                "choose other --features, or train them with train-features"
            )
        self.network.eval()
        parts = [self.network.features(images.values(rows)).numpy() for rows in _runs(len(images))]
        return np.concatenate(parts).astype(np.float64)


def _moved(x: Tensor, generator: torch.Generator) -> Tensor:
    """Every image shifted by up to a sixteenth of its side and scaled by up to a tenth, at random."""
    u = 2 * torch.rand(len(x), 3, generator=generator) - 1
    affine = torch.zeros(len(x), 2, 3)
    affine[:, 0, 0] = affine[:, 1, 1] = 1 + 0.1 * u[:, 0]
    affine[:, :, 2] = u[:, 1:] / 8
    grid = F.affine_grid(affine, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


class _Classification:
    """Cross-entropy of classes of labelled images, for :func:`genodiff.core.training.train`."""

    def __init__(self, network: FeatureNetwork, sets: ImageSets, batch: int) -> None:
        self.network, self.batch = network, batch
        self.train, self.test = sets.train, sets.test

    def loss(self, generator: torch.Generator, workers: Workers) -> Tensor:
        index = torch.randint(len(self.train), (self.batch,), generator=generator)[workers.part(self.batch)]
        x, labels = _moved(self.train.values(index), generator), _labels(self.train)[index]
        with torch.random.fork_rng(devices=[]):  # dropout draws from the global generator alone
            torch.manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
            return F.cross_entropy(self.network(x), labels)

    def _logits(self, n: int) -> Tensor:
        return torch.cat([self.network(self.test.values(rows)) for rows in _runs(n)])

    def validation(self) -> float:
        n = min(_VALIDATED, len(self.test))
        return float(F.cross_entropy(self._logits(n), _labels(self.test)[:n]))

    @torch.no_grad()
    def accuracy(self) -> float:
        self.network.eval()
        return float((self._logits(len(self.test)).argmax(1) == _labels(self.test)).double().mean())


def _labels(images: Images) -> Tensor:
    assert images.labels is not None
    return torch.from_numpy(images.labels)


def _labelled(images: Images) -> Images:
    if images.labels is None or len(images.classes) < 2:
        remedy = "apt-get install unicode-data" if images.name == "emoji" else "choose a set with classes"
        raise ImagingError(f"{images.name} has no classes to learn features from: {remedy}")
    return images.select(np.flatnonzero(images.labels >= 0))


def train_features(
    sets: ImageSets,
    *,
    seed: int,
    config: TrainingConfig = TRAINING,
    checkpoint: Path | None = None,
    progress: bool = False,
) -> tuple[FeatureNetwork, float, TrainingResult]:
    """A classifier of the classes of ``sets``, its accuracy on the test set, and how training went."""
    sets = ImageSets(_labelled(sets.train), _labelled(sets.test))
    _, height, width = sets.train.shape
    if height % 8 or width % 8:
        raise ImagingError(f"images of {height} × {width} pixels: features need a --size that is a multiple of 8")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = FeatureNetwork(sets.train.shape, len(sets.train.classes))
    problem = _Classification(network, sets, config.batch)
    result = train(
        network, problem, config, seed=seed, checkpoint=checkpoint,
        fingerprint=f"features {sets.train.name} {sets.train.shape} {seed} {config} {sets.digest}", progress=progress,
    )  # fmt: skip
    network.balance(sets.train)
    return network, problem.accuracy(), result


def save_features(network: FeatureNetwork, path: Path, *, sets: ImageSets, accuracy: float, force: bool) -> None:
    """Writes the weights in half precision, in one step."""
    from safetensors.torch import save_file

    train = sets.train
    facts = {"name": _SHORT.get(train.name, train.name), "shape": train.shape, "classes": len(train.classes),
             "accuracy": accuracy}  # fmt: skip
    tensors = {name: t.half().contiguous() for name, t in network.state_dict().items()}
    with writing(path, force=force) as temporary:
        save_file(tensors, temporary, metadata={"features": json.dumps(facts)})


def shipped() -> tuple[str, ...]:
    """Names of the feature networks that lie in the package."""
    return tuple(sorted(path.stem for path in _WEIGHTS.glob("[!.]*.safetensors")))


def load_features(name: str | Path) -> Features:
    """A shipped feature network by the name of its set, or one from a file that ``train-features`` wrote.

    Raises:
        ImagingError: there is none of that name, or the file is something else.
    """
    from safetensors import SafetensorError, safe_open

    short = _SHORT.get(str(name), str(name))
    path = _WEIGHTS / f"{short}.safetensors" if short in shipped() else Path(name)
    if not path.is_file():
        raise ImagingError(
            f"no features are called {name}: choose one of {', '.join(shipped())}, or with --features a file from "
            "train-features"
        )
    try:
        with safe_open(path, framework="pt") as handle:
            facts = json.loads((handle.metadata() or {})["features"])
            tensors = {key: handle.get_tensor(key).float() for key in handle.keys()}  # noqa: SIM118 - not a dict
        channels, height, width = facts["shape"]
        network = FeatureNetwork((channels, height, width), facts["classes"])
        network.load_state_dict(tensors)
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise ImagingError(f"{path} holds no features: give a file that train-features wrote") from error
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    return Features(facts["name"], network.eval(), (channels, height, width), facts["accuracy"], digest)
