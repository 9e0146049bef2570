"""``GenotypeModel``: learn the structure of some people's genotypes, then make new people."""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from data_prep.blocks import ld_blocks
from data_prep.errors import InputError
from data_prep.panels import parents_of
from data_prep.sexes import sex_counts
from data_prep.variants import VariantTable
from genodiff.core.bases import BlockPCA
from genodiff.core.training import TrainingConfig, TrainingResult, Workers, generator_on, step_generator, train
from genodiff.genotypes.admixture import Mixing, encode_tracts, paint, shares_of, splice
from genodiff.genotypes.anchors import Anchors, Population, fit_anchors
from genodiff.genotypes.backgrounds import Backgrounds
from genodiff.genotypes.config import ModelConfig, preset
from genodiff.genotypes.drafts import Drafts, digest_of
from genodiff.genotypes.engine import AlleleProblem, Engine, Rows
from genodiff.genotypes.rare import Rare, fit_rare, is_rare
from genodiff.genotypes.schedules import fit_schedule, learn_clock, learn_spectrum
from genodiff.genotypes.ties import Ties, find_ties
from genodiff.genotypes.units import Units, haplotypes_from, units_of

__all__ = ["MIN_PEOPLE", "GenotypeModel", "resolve_device"]

MIN_PEOPLE = 20
"""Fewest people a model is learned from."""

_ROWS_PER_BACKGROUND = 12
_SAMPLE_STATES = 1 << 21
_SAMPLE_ROWS = 512
_PATH_ROWS = 256


def resolve_device(name: str = "auto") -> torch.device:
    """``auto`` is CUDA where there is one, else MPS where there is one, else the CPU.

    Raises:
        InputError: the device asked for is not available.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next(k for k in ("cuda", "mps", "cpu") if available[k])
    kind = name.split(":")[0]
    if kind not in available:
        raise InputError(f"--device {name}: expected auto, cpu, cuda or mps")
    if not available[kind]:
        raise InputError(f"--device {name}: not available here; use --device cpu")
    return torch.device(name)


@dataclass(frozen=True)
class _Meta:
    """What a fitted model knows beside its tensors; ``ties`` are those of the sites that are not rare."""

    sites: pd.DataFrame
    header: tuple[str, ...]
    ploidy: int
    per_person: int
    bounds: tuple[int, ...]
    population: Population
    n_anchors: int
    n_people: int
    inbreeding: tuple[float, float]
    ties: Ties
    rare: Rare | None = None


class GenotypeModel:
    """A structured-drift diffusion over the alleles of one chromosome or region.

    Args:
        config: choices; the ``balanced`` preset if ``None``.

    Example:
        >>> model = GenotypeModel().fit(table, seed=1)          # doctest: +SKIP
        >>> synthetic = model.sample(1000, seed=2)              # doctest: +SKIP
    """

    def __init__(self, config: ModelConfig | None = None) -> None:
        self.config = config or preset("balanced")
        self.result = TrainingResult()
        self._engine: Engine | None = None
        self._meta: _Meta | None = None

    @property
    def engine(self) -> Engine:
        """Process, base and network.

        Raises:
            RuntimeError: the model is not fitted.
        """
        if self._engine is None:
            raise RuntimeError("the model is not fitted: call fit(table) or GenotypeModel.load(path) first")
        return self._engine

    @property
    def meta(self) -> _Meta:
        """Sites, labels and anchors of the fitted model."""
        if self._meta is None:
            raise RuntimeError("the model is not fitted: call fit(table) or GenotypeModel.load(path) first")
        return self._meta

    @property
    def labels(self) -> tuple[str, ...]:
        """Population labels the model can be asked for; empty if it was fitted without a panel."""
        return tuple(name for name in self.meta.population.labels if name)

    def fit(
        self,
        table: VariantTable,
        *,
        seed: int = 1,
        device: str | torch.device = "auto",
        checkpoint: Path | None = None,
        fingerprint: str = "",
        workers: Workers | None = None,
        compiled: bool = False,
        progress: bool = False,
    ) -> GenotypeModel:
        """Learns from the people of a table.

        Args:
            table: at least 20 people; haplotypes are the unit where most heterozygous calls are phased, dosages
                otherwise. With labels, samples can be drawn per label. Of haplotypes, sites rarer than
                ``config.rare`` are not diffused but drawn given the others, see :mod:`genodiff.genotypes.rare`.
            seed: of clustering, initial weights, batches and noise. On the CPU equal seeds give equal models.
            device: where to train.
            checkpoint: file to keep the state of training in and to resume from.
            fingerprint: names the run in the checkpoint; a hash of table, configuration and seed if empty.
            workers: this process among the data-parallel ones.
            compiled: compile the network by ``torch.compile``: a minute at the start, and faster steps on CUDA.
            progress: show a bar.

        Raises:
            InputError: fewer than 20 people, or no site.
            TrainingError: the loss became NaN or infinite.
        """
        if table.n_samples < MIN_PEOPLE:
            raise InputError(f"{table.n_samples} people are too few to learn from: give at least {MIN_PEOPLE}")
        if table.n_variants == 0:
            raise InputError("the table has no sites: relax the filters")
        place = device if isinstance(device, torch.device) else resolve_device(device)
        everything = units_of(table)
        frequency = everything.frequency()
        below = self.config.rare if self.config.scales else 0.0
        rare = is_rare(frequency, below=below, ploidy=everything.ploidy)
        ties = find_ties(everything.states[:, ~rare], ploidy=everything.ploidy)
        ties = replace(ties, drawn=np.flatnonzero(~rare)[ties.drawn])
        units = everything.at(ties.drawn)
        anchors = fit_anchors(
            units,
            labels=table.labels,
            parents=parents_of(table),
            n=self.config.anchors,
            kind=self.config.anchor_kind,
            seed=seed,
        )
        bounds = self._blocks(units.states)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            fitted, held = self._validation_people(units.n_people, seed=seed)
            found = self._backgrounds(units, units.rows_of(fitted), anchors, seed=seed)
            self._engine = self._assemble(units, anchors, bounds, [b for b, _ in found]).to(place)
        if compiled:
            self._engine.network.compile(dynamic=True)
        kept = self._rare(everything, rare, ties, anchors, frequency, held=held, seed=seed) if rare.any() else None
        self._meta = _Meta(
            sites=table.sites,
            header=table.header,
            ploidy=units.ploidy,
            per_person=units.per_person,
            bounds=bounds,
            population=anchors.population,
            n_anchors=anchors.n,
            n_people=table.n_samples,
            inbreeding=anchors.inbreeding,
            ties=ties,
            rare=kept,
        )
        problem = self._problem(
            units, anchors, table.labels, parts=(fitted, held), members=[m for _, m in found], seed=seed
        )
        self.result = train(
            self._engine.network,
            problem,
            self._training(len(units.rows_of(fitted)), units.states.shape[1]),
            seed=seed,
            checkpoint=checkpoint,
            fingerprint=fingerprint or (fingerprint_of(table, self.config, seed=seed) if checkpoint else ""),
            workers=workers,
            progress=progress,
        )
        return self

    def _training(self, rows: int, sites: int) -> TrainingConfig:
        """The training schedule, with the steps that the passes over these rows and sites take."""
        config, training = self.config, self.config.training
        if config.passes is None:
            return training
        examples = config.passes * rows * max(1.0, sites / config.crop_sites)
        return replace(training, steps=max(config.least_steps, round(examples / training.batch)))

    def _blocks(self, states: NDArray[np.int8]) -> tuple[int, ...]:
        """LD block boundaries from the data, moved to the nearest tile border so that crops hold whole tiles."""
        sites, tile = states.shape[1], self.config.network.tile
        if self.config.basis == "full":
            return (0, sites)
        smallest, largest = self.config.block_sites
        found = ld_blocks(states, min_size=smallest, max_size=largest)
        inner = {round(int(b) / tile) * tile for b in found[1:-1]} - {0}
        return (0, *sorted(b for b in inner if b < sites), sites)

    def _validation_people(self, people: int, *, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """People whose alleles are learned, and people by whom training is stopped."""
        held = int(np.clip(round(self.config.validation * people), min(10, people // 4), 100))
        order = np.random.default_rng(seed).permutation(people)
        return np.sort(order[held:]), np.sort(order[:held])

    def _backgrounds(
        self, units: Units, rows: NDArray[np.intp], anchors: Anchors, *, seed: int
    ) -> list[tuple[Backgrounds, torch.Tensor]]:
        """Haplotype backgrounds of some rows at every scale, and which of them each row belongs to."""
        states = units.states[rows]
        filled = np.where(states < 0, anchors.points[anchors.assignment[rows]], states).astype(np.float32)
        count = int(np.clip(len(rows) // _ROWS_PER_BACKGROUND, 1, self.config.backgrounds))
        x = torch.from_numpy(filled)
        return [
            Backgrounds.fit(
                x,
                count=count,
                tile=tile,
                halo=halo,
                anchor=torch.from_numpy(anchors.assignment[rows]),
                anchors=anchors.n,
                ploidy=units.ploidy,
                generator=torch.Generator().manual_seed(seed),
            )
            for tile, halo in self.config.scales
        ]

    def _rare(
        self,
        everything: Units,
        rare: NDArray[np.bool_],
        ties: Ties,
        anchors: Anchors,
        frequency: NDArray[np.float64],
        *,
        held: NDArray[np.intp],
        seed: int,
    ) -> Rare:
        """Carriers of rare alleles among all rows, those people included that training is stopped by."""
        where = self._background_scale
        fresh = np.zeros(len(everything.states), dtype=bool)
        fresh[everything.rows_of(held)] = True
        return fit_rare(
            everything.phased_at_random(np.random.default_rng(seed)),
            rare=rare,
            drawn=ties.drawn,
            frequency=frequency,
            paths=self._paths(everything.states[:, ties.drawn]),
            tile=where.tile,
            backgrounds=where.count,
            anchor=anchors.assignment,
            anchors=anchors.n,
            per_person=everything.per_person,
            fresh=fresh,
        )

    @property
    def _background_scale(self) -> Backgrounds:
        """The scale of backgrounds that rare alleles depend on: the middle one."""
        scales = self.engine.denoiser.backgrounds
        return scales[len(scales) // 2]  # type: ignore[return-value]

    def _paths(self, states: NDArray[np.int8]) -> NDArray[np.int16]:
        """Background of every row in every tile, (rows, tiles), from the states at the drawn sites."""
        batch = int(np.clip(_SAMPLE_STATES // states.shape[1], 2, _PATH_ROWS))
        parts = [
            self._background_scale.assign(torch.from_numpy(states[at : at + batch]).to(self.engine.device))
            for at in range(0, len(states), batch)
        ]
        return torch.cat(parts).to(torch.int16).cpu().numpy()

    def _assemble(
        self, units: Units, anchors: Anchors, bounds: tuple[int, ...], backgrounds: list[Backgrounds]
    ) -> Engine:
        """Bases and spectra of the rows about their anchors, block by block."""
        frequency = torch.from_numpy(units.frequency() * units.ploidy)
        points = torch.from_numpy(anchors.points)
        component = torch.from_numpy(anchors.assignment)
        states = torch.from_numpy(np.array(units.states))
        blocks, within, total = [], [], []
        for lo, hi in itertools.pairwise(bounds):
            part = states[:, lo:hi]
            centre = points[:, lo:hi][component].double()
            x = torch.where(part < 0, centre, part.double())
            if self.config.basis == "identity":
                q, spectrum = torch.eye(hi - lo), (x - centre).square().mean(0).clamp_min(1e-6)
            else:
                basis, spectrum = BlockPCA.from_data(x - centre, [0, hi - lo], ordered=self.config.shrink == "lags")
                q = basis.blocks()[0]
            blocks.append(q)
            within.append(spectrum)
            total.append((x - frequency[lo:hi]).matmul(q.double()).square().mean(0))
        combined = torch.cat(within)
        names = anchors.population.labels
        return Engine(
            basis=BlockPCA(blocks),
            frequency=frequency,
            total=torch.maximum(torch.cat(total), combined),
            within=combined,
            points=points,
            starts=torch.from_numpy(anchors.starts),
            weights=torch.from_numpy(anchors.weights),
            conditions=(anchors.n, len(names)) if len(names) > 1 else (anchors.n,),
            backgrounds=backgrounds,
            ploidy=units.ploidy,
            config=self.config,
        )

    def _problem(
        self,
        units: Units,
        anchors: Anchors,
        labels: NDArray[np.str_] | None,
        *,
        parts: tuple[NDArray[np.intp], NDArray[np.intp]],
        members: list[torch.Tensor],
        seed: int,
    ) -> AlleleProblem:
        """Rows to learn from and rows to validate on, on the device."""
        names = anchors.population.labels
        conditions = [anchors.assignment]
        if len(names) > 1 and labels is not None:
            index = np.searchsorted(np.asarray(names), labels.astype(str))
            conditions.append(np.repeat(index, units.per_person).astype(np.int64))
        sides = []
        for chosen in parts:
            rows = units.rows_of(chosen)
            sides.append(
                Rows.from_numpy(
                    units.states[rows], anchors.assignment[rows], *(c[rows] for c in conditions),
                    device=self.engine.device,
                )
            )  # fmt: skip
        if self.config.schedule != "geometric" or self.config.drift == "fp-noise":
            fresh = sides[1]
            x_0 = torch.where(fresh.states >= 0, fresh.states.float(), self.engine.prior.means[fresh.component])
            if self.config.drift == "fp-noise":
                learn_spectrum(self.engine, x_0, fresh.component, seed=seed)
            if self.config.schedule != "geometric":
                fit_schedule(self.engine, x_0, fresh.component, seed=seed)
        learned = replace(sides[0], members=tuple(m.to(self.engine.device) for m in members))
        return AlleleProblem(self.engine, learned, sides[1], seed=seed)

    def sample(
        self,
        n: int | None = None,
        *,
        labels: Mapping[str, int] | None = None,
        people: pd.Series | None = None,
        mixing: Mixing | None = None,
        seed: int = 1,
        steps: int | None = None,
        drafts: Path | None = None,
        progress: bool = False,
    ) -> VariantTable:
        """Draws new people.

        Args:
            n: number of people; as many as the model was fitted on if neither ``n`` nor ``labels`` is given.
            labels: number of people per label, instead of ``n``. A label may be a mixture: ``"AFR=0.8+EUR=0.2"``
                gives people whose haplotypes are mosaics, see :mod:`genodiff.genotypes.admixture`.
            people: plain labels indexed by the names that people are to have, in their order, instead of both: those
                drawn from models of several chromosomes are then the same people.
            mixing: how long ago mixtures came about, and where recombination happens; ``Mixing()`` if ``None``.
            seed: on the CPU, equal seeds give equal people.
            steps: sampling steps, if not those of the configuration.
            drafts: folder in which batches are kept as they are drawn; the same call goes on from there.
            progress: show a bar.

        Returns:
            People named GD000001 … (or as asked for), complete calls, phased if the model is one of haplotypes. If some
            are mixtures, :func:`genodiff.genotypes.admixture.local_ancestry` gives everybody's true ancestry along the
            chromosome.

        Raises:
            InputError: a label the model does not know, shares that do not sum to 1, or a mixture of dosages.
            ValueError: fewer than 1 person asked for.
        """
        from tqdm import tqdm

        from genodiff import __version__

        meta, engine = self.meta, self.engine
        rng = np.random.default_rng(seed)
        asked = None if labels is None else {name: shares_of(name, self.labels) for name in labels}
        if people is None:
            drawn = self._draw_people(n, labels, asked, rng=rng)
        elif n is None and labels is None:
            drawn = self._draw_named(people, rng=rng)
        else:
            raise ValueError("give either people by name or a number of them, not both")
        rows = drawn[:, 1:].reshape(-1)
        row_label = np.repeat(drawn[:, 0], meta.per_person)
        sites = engine.process.dim
        # Batches of equal size, since calibration rests on the mean of a batch.
        largest = int(np.clip(_SAMPLE_STATES // sites, 2, _SAMPLE_ROWS)) // 2 * 2
        batch = 2 * -(-len(rows) // (2 * -(-len(rows) // largest)))
        states = np.empty((len(rows), sites), dtype=np.int8)
        count = steps or self.config.sampling_steps
        settings = {"config": self.config, "seed": seed, "steps": count, "batch": batch, "version": __version__}
        kept = Drafts(drafts, "" if drafts is None else digest_of(engine, drawn, **settings))
        engine.eval()
        batches = -(-len(rows) // batch)
        with tqdm(total=count * batches, desc="sample", unit="step", disable=not progress, dynamic_ncols=True) as bar:

            def draw(number: int) -> NDArray[np.int8]:
                inside = slice(number * batch, (number + 1) * batch)
                component = torch.from_numpy(rows[inside]).to(engine.device)
                label = torch.from_numpy(row_label[inside]).to(engine.device)
                return engine.sample(
                    component,
                    (component, label) if len(engine.conditions) > 1 else (component,),
                    # Not the streams of training and validation.
                    generator=generator_on(engine.device, step_generator(seed, -2 - number)),
                    steps=count,
                    progress=lambda _: bar.update(),
                ).cpu().numpy()  # fmt: skip

            for number in range(batches):
                states[number * batch : (number + 1) * batch] = kept.batch(number, partial(draw, number))
                bar.update(count * (number + 1) - bar.n)
        complete = meta.ties.expand(states, ploidy=meta.ploidy, rng=np.random.default_rng([seed, 2]))
        if meta.rare is not None:
            common = np.setdiff1d(np.arange(len(meta.sites)), meta.rare.sites)
            both = np.empty((len(rows), len(meta.sites)), dtype=np.int8)
            both[:, common] = complete
            both[:, meta.rare.sites] = meta.rare.draw(self._paths(states), rows, rng=np.random.default_rng([seed, 1]))
            complete = both
        haplotypes = haplotypes_from(complete, ploidy=meta.ploidy)
        columns: dict[str, Any] = {}
        if self.labels:
            columns["label"] = np.asarray(meta.population.labels, dtype=object)[drawn[:, 0]]
        if labels is not None and asked is not None and any(len(shares) > 1 for shares in asked.values()):
            haplotypes, columns = self._mix(haplotypes, labels, asked, mixing or Mixing(), rng=rng)
        width = max(6, len(str(len(haplotypes))))
        names = [f"GD{i:0{width}d}" for i in range(1, len(haplotypes) + 1)] if people is None else list(people.index)
        samples = pd.DataFrame(columns, index=pd.Index(names, name="sample"))
        phased = None if meta.ploidy == 1 else np.zeros(haplotypes.shape[:2], dtype=bool)
        return VariantTable(haplotypes, meta.sites, samples, phased, meta.header)

    def _mix(
        self,
        haplotypes: NDArray[np.int8],
        labels: Mapping[str, int],
        asked: Mapping[str, Mapping[str, float]],
        mixing: Mixing,
        *,
        rng: np.random.Generator,
    ) -> tuple[NDArray[np.int8], dict[str, Any]]:
        """Haplotypes of the people asked for from those of the labels they are made of, and their columns."""
        position = self.meta.sites["position"].to_numpy()
        morgans = mixing.morgans(position)
        made, ancestry, at = [], [], 0
        for name, count in labels.items():
            shares = asked[name]
            parts = [haplotypes[at + k * count : at + (k + 1) * count] for k in range(len(shares))]
            at += len(shares) * count
            painted = np.zeros(parts[0].shape, dtype=np.int8)
            if len(shares) > 1:
                proportions = mixing.proportions(np.asarray(list(shares.values())), count, rng=rng)
                for side in (0, 1):
                    painted[:, :, side] = paint(proportions, morgans, generations=mixing.generations, rng=rng)
            made.append(splice(parts, painted))
            ancestry += encode_tracts(painted, list(shares), position)
        label = np.repeat(np.asarray(list(labels), dtype=object), list(labels.values()))
        return np.concatenate(made), {"label": label, "ancestry": ancestry}

    def _draw_people(
        self,
        n: int | None,
        labels: Mapping[str, int] | None,
        asked: Mapping[str, Mapping[str, float]] | None,
        *,
        rng: np.random.Generator,
    ) -> NDArray[np.int64]:
        """Label and anchors of new people; for a mixture, as many people of each of its labels."""
        population = self.meta.population
        if labels is None or asked is None:
            count = self.meta.n_people if n is None else n
            if count < 1:
                raise ValueError(f"at least 1 person must be asked for, got {count}")
            return population.draw(count, rng=rng)
        if n is not None:
            raise ValueError("give either a number of people or a number per label, not both")
        unknown = sorted({name for shares in asked.values() for name in shares} - set(self.labels))
        if unknown:
            known = ", ".join(self.labels) or "none, since it was fitted without a panel"
            raise InputError(f"label {unknown[0]!r} is not one the model knows ({known})")
        if not labels or any(count < 1 for count in labels.values()):
            raise ValueError(f"at least 1 person must be asked for per label, got {dict(labels)}")
        if self.meta.ploidy != 1 and any(len(shares) > 1 for shares in asked.values()):
            raise InputError(
                f"{next(name for name in asked if len(asked[name]) > 1)!r} needs a model of haplotypes, this one was "
                "fitted on unphased genotypes: phase them and fit again"
            )
        return np.concatenate(
            [
                population.draw(count, rng=rng, label=population.labels.index(name))
                for mixture, count in labels.items()
                for name in asked[mixture]
            ]
        )

    def _draw_named(self, people: pd.Series, *, rng: np.random.Generator) -> NDArray[np.int64]:
        """Label and anchors of people in the order they are asked for."""
        population = self.meta.population
        wanted = people.to_numpy(dtype=str)
        unknown = np.flatnonzero(~np.isin(wanted, self.labels))
        if len(unknown):
            known = ", ".join(self.labels) or "none, since it was fitted without a panel"
            raise InputError(
                f"{people.index[unknown[0]]} is to have the label {wanted[unknown[0]]!r}, which is not one the model "
                f"knows ({known})"
            )
        if not len(wanted):
            raise ValueError("at least 1 person must be asked for")
        drawn = np.empty((len(wanted), 1 + self.meta.per_person), dtype=np.int64)
        for name in np.unique(wanted):
            at = np.flatnonzero(wanted == name)
            drawn[at] = population.draw(len(at), rng=rng, label=population.labels.index(name))
        return drawn

    def with_sampling(self, **choices: Any) -> GenotypeModel:
        """This fitted model with other choices for drawing people; nothing is learned anew, weights are shared.

        Args:
            choices: ``anchor_covariance``, ``sampler``, ``sampling_steps``, ``start_noise`` or ``schedule`` of
                :class:`ModelConfig`. Where a schedule has to be fitted (constant speed with the drift of GOU, a learned
                time on subspaces of constant speed), it is on draws of the model itself.

        Raises:
            ValueError: a choice that training depends on.
        """
        later = {"anchor_covariance", "sampler", "sampling_steps", "start_noise", "schedule"}
        if not set(choices) <= later:
            raise ValueError(f"{sorted(set(choices) - later)} cannot be changed after fitting: {sorted(later)} can")
        other = copy.copy(self)
        other.config = replace(self.config, **choices)
        other._engine = self.engine.separate()
        other._engine.config = other.config
        if other.config.schedule != self.config.schedule:
            self._reschedule(other.engine)
        return other

    def _reschedule(self, engine: Engine, *, people: int = 64, seed: int = 1) -> None:
        """Fits what the schedule of a twin of the engine needs, on new people."""
        old, new = self.config.schedule, engine.config.schedule
        if new == "geometric" or (new == "constant-speed" and engine.pace is not None):
            return
        if self.config.subspaces and (old, new) != ("constant-speed", "learned-time"):
            raise ValueError(f"noise in subspaces fitted with schedule {old!r} cannot be sampled with {new!r}")
        drawn = self.meta.population.draw(people, rng=np.random.default_rng(seed))
        component = torch.from_numpy(drawn[:, 1:].reshape(-1)).to(engine.device)
        label = torch.from_numpy(np.repeat(drawn[:, 0], self.meta.per_person)).to(engine.device)
        conditions = (component, label)[: len(engine.conditions)]
        generator = torch.Generator(engine.device).manual_seed(seed)
        states = self.engine.sample(component, conditions, generator=generator).float()
        (learn_clock if new == "learned-time" else fit_schedule)(engine, states, component, seed=seed)

    def describe(self) -> dict[str, Any]:
        """What the model is, in plain values: for ``genodiff inspect`` and reports."""
        meta, engine = self.meta, self.engine
        population = meta.population
        size = np.bincount(population.combinations[:, 0], population.counts, minlength=len(population.labels))
        counts = {name: round(n) for name, n in zip(population.labels, size.tolist(), strict=True)}
        sexes = sex_counts(meta.header)
        if sexes is not None:  # rows of X are women and pairs of men
            counts = {name: women + 2 * pairs for name, (women, pairs) in sexes.items()}
        borrowed = dict(zip(population.labels, population.borrowed, strict=bool(population.borrowed)))
        return {
            "unit": "haplotypes" if meta.ploidy == 1 else "dosages",
            "people": meta.n_people if sexes is None else sum(counts.values()),
            **({} if sexes is None else {"men": 2 * sum(pairs for _, pairs in sexes.values())}),
            "sites": len(meta.sites),
            "sites_drawn": len(meta.ties.drawn),
            "sites_rare": 0 if meta.rare is None else len(meta.rare.sites),
            "contig": str(meta.sites["contig"].iloc[0]),
            "first_bp": int(meta.sites["position"].iloc[0]),
            "last_bp": int(meta.sites["position"].iloc[-1]),
            "labels": counts if self.labels else {},
            "labels_borrowed": {name: round(share, 3) for name, share in borrowed.items() if share > 0},
            "anchors": meta.n_anchors,
            "f_is": meta.inbreeding[0],
            "f_is_repaired": meta.inbreeding[1],
            "ld_blocks": len(meta.bounds) - 1,
            "horizon": engine.process.horizon,
            "receptive_field_sites": self.config.network.reach,
            "parameters": sum(p.numel() for p in engine.network.parameters()),
            "training_steps": self.result.steps,
            "best_validation": self.result.best_validation,
        }

    def save(self, path: Path | str) -> Path:
        """Writes a model folder: ``model.json``, ``sites.json``, ``weights.safetensors``. The folder appears whole.

        See :mod:`genodiff.genotypes.store`.
        """
        from genodiff.genotypes.store import save_model

        return save_model(self, Path(path))

    @classmethod
    def load(cls, path: Path | str, *, device: str | torch.device = "auto") -> GenotypeModel:
        """Reads a model folder.

        Raises:
            InputError: not a model folder, of another format version, or changed since it was written.
        """
        from genodiff.genotypes.store import load_model

        return load_model(Path(path), device=device if isinstance(device, torch.device) else resolve_device(device))


def fingerprint_of(table: VariantTable, config: ModelConfig, *, seed: int) -> str:
    """A hash of everything a fit depends on: a checkpoint is resumed only by the run that made it."""
    digest = hashlib.sha256(json.dumps([config.to_dict(), seed], sort_keys=True).encode())
    digest.update(np.ascontiguousarray(table.haplotypes).tobytes())
    digest.update("\n".join(table.site_keys).encode())
    if table.phased is not None:
        digest.update(np.packbits(table.phased).tobytes())
    if table.labels is not None:
        digest.update("\n".join(table.labels).encode())
        digest.update(json.dumps(parents_of(table), sort_keys=True).encode())
    return digest.hexdigest()
