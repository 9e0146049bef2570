"""Real images of a source, and how those that a model draws compare with them."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from imaging.datasets import Images, ImageSets
from imaging.features import load_features
from imaging.metrics import Reference
from imaging.models import ImageModel
from imaging.reproduce.stages import digest
from imaging.runs import Source
from imaging.samples import draw

__all__ = ["Judge"]


class Judge:
    """Real images of a source and their features, read when first needed.

    Args:
        source: of the images.
        features: by which sets are compared; those shipped for the set if ``None``.
        seed: of the draws of equal numbers.
    """

    def __init__(self, source: Source, *, features: str | None, seed: int) -> None:
        self.source, self._features, self.seed = source, features, seed

    @cached_property
    def sets(self) -> ImageSets:
        """Images to learn from and to judge with."""
        return self.source.load()

    @cached_property
    def data(self) -> str:
        """Digest of all pixels."""
        return digest(self.sets.train.pixels.tobytes(), self.sets.test.pixels.tobytes())

    @cached_property
    def features(self) -> Any:
        """The feature network."""
        return load_features(self._features or self.source.name)

    @cached_property
    def reference(self) -> Reference:
        """What images are compared with."""
        return Reference(self.sets, self.features, seed=self.seed)

    def cell(self, model: ImageModel, samples: int, *, steps: int, seed: int) -> list[dict[str, Any]]:
        """Measures of what a model draws: rows of metric, value, floor, n and the counted NFE."""
        drawn = draw(model, samples, steps=steps, seed=seed)
        return [{**record, "nfe": drawn.nfe} for record in self.measures(Images("made", drawn.pixels))]

    def measures(self, images: Images) -> list[dict[str, Any]]:
        """Measures of any images: rows of metric, value, floor and n."""
        table = self.reference.judge(images).drop(columns="n_floor")
        # JSON has no NaN, and the file should be read by anything.
        table = table.astype(object).where(table.notna(), None)
        return [{str(key): value for key, value in record.items()} for record in table.to_dict("records")]
