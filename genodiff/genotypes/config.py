"""Everything that can be chosen about a model, and the presets."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

from genodiff.core.training import TrainingConfig
from genodiff.genotypes.network import NetworkConfig

__all__ = ["PRESETS", "DriftName", "ModelConfig", "Preset", "SamplerName", "ScheduleName", "preset"]

Preset = Literal["fast", "balanced", "best"]
DriftName = Literal["gou", "fp-noise"]
ScheduleName = Literal["geometric", "constant-speed", "learned-time"]
SamplerName = Literal[
    "ancestral", "ancestral-mean", "euler-maruyama", "euler-ode", "heun-ode", "euler-flow", "heun-flow"
]


@dataclass(frozen=True)
class ModelConfig:
    """Choices of a genotype model.

    Attributes:
        drift: contraction rates set by the variances of the modes (``"gou"``), or rates of contraction and noise, one
            for every mode, learned before the network (``"fp-noise"``, FP-Diffusion); see
            :mod:`genodiff.genotypes.schedules`.
        a: contraction of the leading mode relative to a mode without variance, GOU eq. 2; 1 is isotropic. Only
            ``"gou"`` asks for it.
        anchors: number of anchors, or ``None`` to let the data choose.
        anchor_kind: ``"means"`` or ``"medoids"``.
        anchor_covariance: spread of the start law around an anchor, GOU eq. 12.
        basis: modes of the drift: principal components within LD blocks, of the whole region (dense: cost grows with
            the square of the sites), or every site a mode of its own.
        base: what the network corrects: the posterior mean under the anchors' Gaussian mixture, under one Gaussian with
            the covariance of the data, or under independent sites (``"none"``).
        shrink: how sample covariances are shrunk: every lag between sites by itself, or all alike (Ledoit–Wolf).
        block_sites: smallest and largest number of sites in an LD block of the basis.
        scales: tile and halo in sites of the haplotype backgrounds, one pair per scale.
        backgrounds: most backgrounds per tile; with few rows there are fewer, one for every 12 rows.
        rare: minor-allele frequency below which a site is not diffused but drawn given the backgrounds of the common
            sites, :mod:`genodiff.genotypes.rare`; 0 diffuses all. Models of dosages always do.
        lowest_noise: noise-to-signal ratio ρ (allele units squared) at which alleles are read off.
        subspaces: number of groups of modes, by their variance, whose noise has a schedule of its own (TOAD); 0 is the
            drift of GOU.
        schedule: what the steps of the sampler are equal in: the logarithm of the noise (``"geometric"``), the length
            of the path with error curves measured before training (``"constant-speed"``; in subspaces each has its own
            speed), or, in subspaces, a clock learned on top of that; :mod:`genodiff.genotypes.schedules`.
        drowned: the start time is that at which the largest variance-to-noise ratio of a mode has fallen to this.
        sampling_steps: steps from the start time to ``lowest_noise``.
        sampler: rule of a step, see :mod:`genodiff.core.samplers`; all but ``"ancestral"`` are there for comparison.
            ``"euler-maruyama"`` needs a drift, ``"euler-flow"`` and ``"heun-flow"`` noise in subspaces.
        start_noise: noise-to-signal ratio ρ of a mode without variance at which the sampler starts, if that is earlier
            than the start time of ``drowned``: anchors stand in for what is not drowned by then.
        validation: share of the training people kept aside to stop training by, at least 10 and at most 100 people.
        crop_sites: longest run of sites in one training example.
        network: sizes of the network.
        passes: how often training sees every site of every person, at some noise level; sets the number of steps, so
            that cost is linear in people and sites. ``None`` leaves ``training.steps`` as it is.
        least_steps: fewest steps that ``passes`` may lead to.
        training: length (where ``passes`` is ``None``) and rates of training.
        precision: arithmetic of the network: ``"auto"`` is bfloat16 where the processor multiplies it natively.
    """

    drift: DriftName = "gou"
    a: float = 0.5
    anchors: int | None = None
    anchor_kind: Literal["means", "medoids"] = "means"
    anchor_covariance: Literal["noise", "within", "total"] = "within"
    basis: Literal["blocks", "full", "identity"] = "blocks"
    base: Literal["none", "gaussian", "mixture"] = "mixture"
    shrink: Literal["lags", "ledoit-wolf"] = "lags"
    block_sites: tuple[int, int] = (96, 384)
    scales: tuple[tuple[int, int], ...] = ((8, 64), (32, 96), (128, 128))
    backgrounds: int = 384
    rare: float = 0.01
    lowest_noise: float = 0.03
    subspaces: int = 0
    schedule: ScheduleName = "geometric"
    drowned: float = 0.25
    sampling_steps: int = 16
    sampler: SamplerName = "ancestral"
    start_noise: float | None = None
    validation: float = 0.05
    crop_sites: int = 4608
    passes: float | None = 12.0
    least_steps: int = 600
    network: NetworkConfig = field(default_factory=NetworkConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"

    def __post_init__(self) -> None:
        if self.subspaces < 0:
            raise ValueError(f"the number of subspaces must be 0 or more, got {self.subspaces}")
        if self.drift not in get_args(DriftName):
            raise ValueError(f"no drift {self.drift!r}: choose one of {', '.join(get_args(DriftName))}")
        if self.drift == "fp-noise" and self.subspaces:
            raise ValueError(f"fp-noise learns the noise of every mode: choose 0 subspaces, not {self.subspaces}")
        if self.schedule == "learned-time" and self.subspaces == 0:
            raise ValueError("a learned time needs noise in subspaces: choose subspaces of 1 or more")

    def with_steps(self, steps: int | None) -> ModelConfig:
        """The same choices with so many training steps, whatever passes they make; itself if ``None``."""
        if steps is None:
            return self
        return replace(self, passes=None, training=replace(self.training, steps=steps))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelConfig:
        """The inverse of :meth:`to_dict`."""
        values = dict(values)
        network = dict(values.pop("network"))
        network["dilations"] = tuple(network["dilations"])
        values["block_sites"] = tuple(values["block_sites"])
        values["scales"] = tuple((tile, halo) for tile, halo in values["scales"])
        return cls(network=NetworkConfig(**network), training=TrainingConfig(**values.pop("training")), **values)


PRESETS: dict[str, ModelConfig] = {
    "fast": ModelConfig(
        passes=4, least_steps=150, sampling_steps=8, training=TrainingConfig(validate_every=50, warmup=25)
    ),
    "balanced": ModelConfig(),
    "best": ModelConfig(passes=48, least_steps=1500, sampling_steps=40, network=NetworkConfig(width=64)),
}


def preset(name: str) -> ModelConfig:
    """A preset by name.

    Raises:
        ValueError: no such preset.
    """
    if name not in PRESETS:
        raise ValueError(f"no preset {name!r}: choose one of {', '.join(PRESETS)}")
    return PRESETS[name]
