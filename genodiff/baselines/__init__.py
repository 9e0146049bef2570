"""Other ways to make synthetic genotypes, under one signature: what the model is measured against.

A baseline is a frozen dataclass of options, each field with ``metadata={"help": ...}``, with the class attributes
``name`` and ``summary`` and the method :meth:`Baseline.generate`. The modules are imported when a baseline is first
asked for: a list of names costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast

if TYPE_CHECKING:
    from data_prep.maps import GeneticMap
    from data_prep.variants import VariantTable

__all__ = ["Baseline", "baseline", "baseline_class", "generate", "names"]

_REGISTRY = {
    "independent-sites": "genodiff.baselines.sites:IndependentSites",
    "bootstrap": "genodiff.baselines.sites:Bootstrap",
    "gaussian": "genodiff.baselines.gaussian:GaussianFit",
    "gaussian-copula": "genodiff.baselines.gaussian:GaussianCopula",
    "li-stephens": "genodiff.baselines.mosaic:LiStephens",
    "hapnest": "genodiff.baselines.mosaic:Hapnest",
    "isotropic-paper": "genodiff.baselines.isotropic:IsotropicPaper",
    "gou-paper": "genodiff.baselines.isotropic:GouPaper",
    "isotropic-tuned": "genodiff.baselines.isotropic:IsotropicTuned",
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


def baseline_class(name: str) -> type[Baseline]:
    """The dataclass behind a name; imports its module.

    Raises:
        ValueError: a name that is not known.
    """
    if name not in _REGISTRY:
        raise ValueError(f"baseline {name!r} is unknown: choose one of {', '.join(_REGISTRY)}")
    module, attribute = _REGISTRY[name].split(":")
    return cast("type[Baseline]", getattr(import_module(module), attribute))


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
