"""Feature networks learn, are kept as they are, and see damage."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from genodiff.core.training import TrainingConfig
from imaging import features
from imaging.datasets import Images, ImageSets, load
from imaging.errors import ImagingError
from imaging.features import FeatureNetwork, Features, load_features, save_features, shipped, train_features
from imaging.metrics import frechet_distance
from tests.imaging.images import disc_sets, discs, needs_fashion_mnist

QUICK = TrainingConfig(steps=60, batch=32, learning_rate=3e-3, warmup=5, validate_every=20)


@pytest.fixture(scope="module")
def trained() -> tuple[FeatureNetwork, float]:
    network, accuracy, result = train_features(disc_sets(200), seed=1, config=QUICK)
    assert result.steps == 60
    return network, accuracy


def test_a_feature_network_learns_classes(trained: tuple[FeatureNetwork, float]) -> None:
    assert trained[1] > 0.9


def test_the_parts_of_the_features_weigh_the_same(trained: tuple[FeatureNetwork, float]) -> None:
    seen = Features("discs", trained[0], (1, 16, 16), trained[1], "").of(disc_sets(200).train)
    assert seen.shape == (200, 224)
    totals = [part.var(0, ddof=1).sum() for part in np.split(seen, [32, 96], axis=1)]
    np.testing.assert_allclose(totals, 1, rtol=1e-4)
    mean = np.repeat(seen.mean(0, keepdims=True), 200, axis=0)
    assert frechet_distance(mean, seen) == pytest.approx(3, rel=1e-3)


def test_what_is_kept_is_what_was_learned(trained: tuple[FeatureNetwork, float], tmp_path: Path) -> None:
    network, accuracy = trained
    path = tmp_path / "discs.safetensors"
    save_features(network, path, sets=disc_sets(4), accuracy=accuracy, force=False)
    loaded = load_features(path)
    assert (loaded.name, loaded.shape, loaded.accuracy) == ("discs", (1, 16, 16), accuracy)
    assert len(loaded.digest) == 12
    images = discs(20)
    before = Features("discs", network, (1, 16, 16), accuracy, "").of(images)
    np.testing.assert_allclose(loaded.of(images), before, atol=0.02 * np.abs(before).max())
    with pytest.raises(ImagingError, match="exists"):
        save_features(network, path, sets=disc_sets(4), accuracy=accuracy, force=False)


def test_training_follows_the_seed() -> None:
    config = replace(QUICK, steps=3)
    nets = [train_features(disc_sets(40), seed=seed, config=config)[0] for seed in (1, 1, 2)]
    first = [torch.cat([p.flatten() for p in net.parameters()]) for net in nets]
    assert torch.equal(first[0], first[1])
    assert not torch.equal(first[0], first[2])


def test_images_without_a_class_are_left_out() -> None:
    sets = disc_sets(40)
    assert sets.train.labels is not None
    part = replace(sets.train, labels=np.where(np.arange(40) < 30, sets.train.labels, -1))
    assert len(features._labelled(part)) == 30
    with pytest.raises(ImagingError, match="has no classes to learn features from"):
        train_features(ImageSets(replace(part, labels=None), sets.test), seed=1, config=QUICK)
    with pytest.raises(ImagingError, match="apt-get install unicode-data"):
        features._labelled(replace(part, name="emoji", labels=None))


def test_what_holds_no_features_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImagingError, match="no features are called vgg: choose one of"):
        load_features("vgg")
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"nothing")
    with pytest.raises(ImagingError, match="holds no features"):
        load_features(path)
    with pytest.raises(ImagingError, match="choose other --features"):
        Features("x", FeatureNetwork((1, 16, 16), 2), (1, 16, 16), 0.5, "").of(discs(2, channels=3))
    with pytest.raises(ValueError, match="multiples of 8"):
        FeatureNetwork((1, 20, 16), 2)


def test_shipped_features_are_small() -> None:
    assert set(shipped()) >= {"fmnist"}
    assert sum(path.stat().st_size for path in features._WEIGHTS.glob("*.safetensors")) < 1_000_000
    for name in shipped():
        assert load_features(name).accuracy > 0.4
    assert load_features("fashion-mnist").name == "fmnist"


@needs_fashion_mnist
def test_fd_fmnist_rises_with_damage() -> None:
    known, sets = load_features("fmnist"), load("fashion-mnist")
    real, held = (images.select(np.arange(1000)) for images in (sets.train, sets.test))

    def distance(pixels: np.ndarray) -> float:
        return frechet_distance(known.of(Images("x", pixels.astype(np.uint8))), reference)

    reference = known.of(real)
    noise = np.random.default_rng(1).normal(size=held.pixels.shape)
    floor = distance(held.pixels)
    noisy = [distance(np.clip(held.pixels + 127.5 * level * noise, 0, 255)) for level in (0.1, 0.3)]
    blurred = distance(ndimage.uniform_filter(held.pixels, (1, 1, 3, 3)))
    assert floor < noisy[0] < noisy[1]
    assert blurred > 2 * floor
    logits = known.network(held.values())
    assert held.labels is not None
    assert (logits.argmax(1).numpy() == held.labels).mean() == pytest.approx(known.accuracy, abs=0.03)
