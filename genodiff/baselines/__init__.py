"""Other ways to make synthetic genotypes, under one signature: what the model is measured against.

A baseline is a frozen dataclass of options, each field with ``metadata={"help": ...}``, with the class attributes
``name`` and ``summary`` and the method :meth:`Baseline.generate`. The modules are imported when a baseline is first
asked for: a list of names and summaries costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast

if TYPE_CHECKING:
    from data_prep.maps import GeneticMap
    from data_prep.variants import VariantTable

__all__ = ["Baseline", "baseline", "baseline_class", "generate", "names", "summary_of"]


@dataclass(frozen=True)
class _Entry:
    """A baseline that is not imported yet.

    Attributes:
        target: where its class is, ``module:class`` within this package.
        summary: what it does, in one line.
    """

    target: str
    summary: str


_REGISTRY = {
    "independent-sites": _Entry(
        "sites:IndependentSites", "Every site on its own, by its frequency within the label: no linkage."
    ),
    "bootstrap": _Entry(
        "sites:Bootstrap", "Training people drawn with replacement: everything is right, everybody is a copy."
    ),
    "gaussian": _Entry(
        "gaussian:GaussianFit", "Multivariate normal with Ledoit-Wolf covariance, rounded to the nearest state."
    ),
    "gaussian-copula": _Entry(
        "gaussian:GaussianCopula", "Latent normals with tetrachoric correlations, cut at the allele frequencies."
    ),
    "dp-gaussian": _Entry(
        "private:DpGaussian", "Gaussian copula from noisy moments, differentially private for one person."
    ),
    "li-stephens": _Entry(
        "mosaic:LiStephens", "Mosaic of training haplotypes with switches by genetic distance, as HAPGEN2 makes it."
    ),
    "hapnest": _Entry("mosaic:Hapnest", "Mosaic whose segments have ages and lengths from the coalescent (HAPNEST)."),
    "isotropic-paper": _Entry(
        "isotropic:IsotropicPaper", "Isotropic DDPM on dosages: plain network, standard normal start."
    ),
    "gou-paper": _Entry(
        "isotropic:GouPaper", "GOU on dosages by the paper's recipe: the same plain network, start around anchors."
    ),
    "isotropic-tuned": _Entry(
        "isotropic:IsotropicTuned", "genodiff's model with an isotropic drift: same network, base, anchors and budget."
    ),
}


class Baseline(Protocol):
    """A method with its options."""

    name: ClassVar[str]
    summary: ClassVar[str]

    def generate(
        self,
        train: VariantTable,
        n: int,
        *,
        seed: int,
        genetic_map: GeneticMap | None = None,
        device: str = "auto",
        progress: bool = False,
    ) -> VariantTable:
        """Makes ``n`` people from those of ``train``.

        Args:
            train: the people learned from.
            n: number of new people, at least 1.
            seed: equal seeds give equal people on the CPU.
            genetic_map: bp to cM, for the methods that need distances.
            device: for the methods that use torch; the others compute with numpy whatever it is.
            progress: show a bar where it takes long.

        Returns:
            People BL000001 …, complete calls at the sites and with the header of ``train``; phased where haplotypes
            were made; labelled in the proportions of ``train`` if that has labels.

        Raises:
            InputError: input the method cannot use.
            ValueError: ``n`` < 1.
        """
        ...


def names() -> list[str]:
    """The names of all baselines, simplest first."""
    return list(_REGISTRY)


def _entry(name: str) -> _Entry:
    if name not in _REGISTRY:
        raise ValueError(f"baseline {name!r} is unknown: choose one of {', '.join(_REGISTRY)}")
    return _REGISTRY[name]


def summary_of(name: str) -> str:
    """What a baseline does, in one line; imports nothing.

    Raises:
        ValueError: a name that is not known.
    """
    return _entry(name).summary


def baseline_class(name: str) -> type[Baseline]:
    """The dataclass behind a name; imports its module.

    Raises:
        ValueError: a name that is not known.
    """
    module, attribute = _entry(name).target.split(":")
    return cast("type[Baseline]", getattr(import_module(f"{__name__}.{module}"), attribute))


def baseline(name: str, **options: Any) -> Baseline:
    """A baseline with options, for example ``baseline("li-stephens", ne=40_000.0)``.

    Raises:
        ValueError: a name that is not known, or an option outside its domain.
        TypeError: an option the baseline does not have.
    """
    return baseline_class(name)(**options)


def generate(
    name: str,
    train: VariantTable,
    n: int,
    *,
    seed: int,
    genetic_map: GeneticMap | None = None,
    device: str = "auto",
    progress: bool = False,
    **options: Any,
) -> VariantTable:
    """``baseline(name, **options).generate(train, n, …)`` in one call."""
    method = baseline(name, **options)
    return method.generate(train, n, seed=seed, genetic_map=genetic_map, device=device, progress=progress)
