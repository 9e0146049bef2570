"""``genodiff audit``: does a model folder give away whom it was learned from?

Whoever receives a model can ask how well it restores somebody's alleles from noise. The attacker scores every row of
known members and non-members by

* *loss*: the cross-entropy of the alleles given their noisy states, at several noise levels, the noise being the same
  for everybody;
* *gain*: that loss minus the loss of the base alone, which calibrates it by how hard a row is to restore anyhow
  (Watson et al. 2022);
* *background*: the distance to the nearest haplotype background, an average over people that lies in the file;
* *combined*: a logistic regression on all of them, fitted on other people than it judges.

Nobody is left out of the backgrounds, as they are in training, for an attacker cannot know who is in them.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from data_prep.errors import InputError
from data_prep.panels import attach_panel, read_panel
from data_prep.variants import MISSING, VariantTable
from genodiff.core.bases import full_precision
from genodiff.core.losses import allele_cross_entropies
from genodiff.evaluation.attacks import Attack
from genodiff.evaluation.intervals import auc_interval, tpr_interval
from genodiff.evaluation.results import metric_generator
from genodiff.files import atomic_text
from genodiff.genotypes.backgrounds import Backgrounds, windows
from genodiff.genotypes.denoiser import AlleleDenoiser
from genodiff.genotypes.engine import Engine, autocast
from genodiff.genotypes.model import GenotypeModel, resolve_device
from genodiff.genotypes.units import units_of
from genodiff.loading import hash_inputs
from genodiff.provenance import Provenance
from genodiff.sites import read_at, site_keys
from genodiff.staging import Staging

__all__ = ["COLUMNS", "LEAST_PEOPLE", "Evidence", "Suspects", "attack", "audit", "gather", "run", "summary", "text"]

COLUMNS = ("attack", "noise", "unit", "auc", "low", "high", "tpr", "tpr_low", "tpr_high", "members", "others")
"""Columns of the table: area under the ROC curve and members found at 1 % error with their 95 % intervals."""

LEVELS = 5
"""Noise levels, spread geometrically from where alleles are read off to where the sampler starts."""

DRAWS = 2
"""Draws of noise at every level."""

FOLDS = 5
"""Parts of the people of which each is judged by a regression on the others."""

LEAST_PEOPLE = 20
"""Members, and non-members, that are needed at least."""

_BATCH = 64


@dataclass(frozen=True)
class Suspects:
    """Rows in the form the model learns, whoever they belong to.

    Attributes:
        states: int8 (n, drawn sites), −1 where unknown.
        component: the anchor nearest to each row, (n,).
        conditions: what the network is told of each row, one (n,) tensor each.
        rows_per_person: 2 for haplotypes, 1 for dosages.
    """

    states: Tensor
    component: Tensor
    conditions: tuple[Tensor, ...]
    rows_per_person: int

    @classmethod
    def of(cls, model: GenotypeModel, table: VariantTable) -> Suspects:
        """People of a table that has some of the model's sites; the others are unknown.

        A row is given the nearest anchor, and where the model has labels that of the person, or the commonest of the
        anchor where the person has none the model knows.
        """
        meta, engine = model.meta, model.engine
        if meta.per_person == 2 and not table.is_phased:
            raise ValueError("the model is one of haplotypes, and most heterozygous calls have no phase")
        known = units_of(table).states if meta.per_person == 2 else table.dosage()
        states = np.full((len(known), len(meta.sites)), MISSING, dtype=np.int8)
        states[:, site_keys(meta.sites).get_indexer(table.site_keys)] = known
        rows = torch.from_numpy(states[:, meta.ties.drawn])
        component = _nearest_anchor(rows, engine.prior.means.cpu())
        conditions = [component]
        if len(engine.conditions) > 1:
            conditions.append(_labels(model, table, component))
        place = engine.device
        moved = tuple(c.to(place) for c in conditions)
        return cls(rows.to(place), component.to(place), moved, meta.per_person)


def _nearest_anchor(states: Tensor, means: Tensor) -> Tensor:
    """Index of the anchor whose mean lies nearest at the known sites, (n,)."""
    known = (states >= 0).float()
    x = states.float() * known
    return (known @ means.square().T - 2 * x @ means.T).argmin(dim=1)


def _labels(model: GenotypeModel, table: VariantTable, component: Tensor) -> Tensor:
    population = model.meta.population
    counts = np.zeros((len(population.labels), model.meta.n_anchors))
    for row, count in zip(population.combinations, population.counts, strict=True):
        counts[row[0], row[1:]] += count
    guess = counts.argmax(axis=0)[component.numpy()]
    if table.labels is None:
        return torch.from_numpy(guess)
    given = pd.Index(population.labels).get_indexer(np.repeat(table.labels, model.meta.per_person))
    return torch.from_numpy(np.where(given >= 0, given, guess))


@dataclass(frozen=True)
class Evidence:
    """What an attacker measures, lower for those the model knows well.

    Attributes:
        noise: noise-to-signal ratio of each level.
        loss: cross-entropy in nats per allele, (n, levels).
        gain: the same minus that of the base, (n, levels).
        background: mean squared distance to the nearest background in standard deviations, (n, scales).
    """

    noise: NDArray[np.float64]
    loss: NDArray[np.float64]
    gain: NDArray[np.float64]
    background: NDArray[np.float64]

    def scores(self) -> Iterator[tuple[str, str, NDArray[np.float64]]]:
        """Name, noise level and score of every attack by one measure, and by its mean over levels."""
        for name, values in (("loss", self.loss), ("gain", self.gain)):
            for level, ratio in enumerate(self.noise):
                yield name, f"{ratio:.3g}", -values[:, level]
            yield name, "mean", -values.mean(axis=1)
        if self.background.shape[1]:
            yield "background", "none", -self.background.mean(axis=1)

    @property
    def features(self) -> NDArray[np.float64]:
        """All of it, (n, features)."""
        return np.concatenate([self.loss, self.gain, self.background], axis=1)


def gather(
    model: GenotypeModel,
    suspects: Suspects,
    *,
    levels: int = LEVELS,
    draws: int = DRAWS,
    seed: int = 1,
    progress: bool = False,
) -> Evidence:
    """Measures every row.

    Args:
        model: the fitted model.
        suspects: the rows; equal seeds mean equal noise, so that rows of different calls can be compared.
        levels: noise levels, at least 2.
        draws: draws of noise at each.
        seed: of the noise.
        progress: show a bar.
    """
    engine = model.engine.eval()
    times = engine.grid(levels - 1)
    n = len(suspects.states)
    total, count = np.zeros((2, n, levels)), np.zeros((n, 1))
    generator = torch.Generator().manual_seed(seed)
    runs = _runs(engine)
    steps = len(runs) * levels * draws * -(-n // _BATCH)
    with tqdm(total=steps, desc="audit", unit="batch", disable=not progress, dynamic_ncols=True) as bar:
        for run in runs:
            sites = slice(int(engine.basis.bounds[run[0]]), int(engine.basis.bounds[run[1]]))
            count[:, 0] += (suspects.states[:, sites] >= 0).sum(dim=1).cpu().numpy()
            for level, _ in itertools.product(range(levels), range(draws)):
                noise = torch.randn(1, sites.stop - sites.start, generator=generator).to(engine.device)
                for at in range(0, n, _BATCH):
                    part = slice(at, at + _BATCH)
                    both = _losses(engine, suspects, part, times[level], noise, run)
                    total[:, part, level] += both.cpu().numpy() / draws
                    bar.update()
    mean = total / np.maximum(count, 1)
    ratio = engine.process.noise_ratio(times, rate=engine.denoiser.reference_rate)
    found = [_background_distance(b, suspects, engine) for b in engine.backgrounds]  # type: ignore[arg-type]
    background = np.stack(found, axis=1) if found else np.empty((n, 0))
    return Evidence(ratio.cpu().double().numpy(), mean[0], mean[0] - mean[1], background)


def _runs(engine: Engine) -> list[tuple[int, int]]:
    """Runs of LD blocks of at most the length the network is trained on, or one block, that cover all sites."""
    bounds, runs, first = engine.basis.bounds, [], 0
    for last in range(1, len(bounds)):
        is_end = last == len(bounds) - 1
        if is_end or bounds[last + 1] - bounds[first] > engine.config.crop_sites:
            runs.append((first, last))
            first = last
    return runs


@torch.no_grad()
def _losses(
    engine: Engine, suspects: Suspects, part: slice, time: Tensor, noise: Tensor, run: tuple[int, int]
) -> Tensor:
    """Summed cross-entropy of some rows in a run of blocks by the whole model and by its base, (2, rows)."""
    process, denoiser, sites = engine.run_of(*run)
    states, component = suspects.states[part, sites], suspects.component[part]
    known = states >= 0
    x_0 = torch.where(known, states.to(noise.dtype), engine.prior.means[component][:, sites])
    t = time.to(device=engine.device, dtype=noise.dtype).expand(len(x_0))
    x_t = process.transition(torch.zeros_like(t), t).noised(x_0, noise)
    base = AlleleDenoiser(denoiser.base, None, ploidy=engine.ploidy, reference_rate=denoiser.reference_rate)
    with autocast(engine.device, engine.config.precision):
        conditions = tuple(c[part] for c in suspects.conditions)
        logits = denoiser.logits(x_t, t, component=component, conditions=conditions)
        plain = base.logits(x_t, t, component=component)
    return torch.stack([(allele_cross_entropies(x.float(), states) * known).sum(dim=1) for x in (logits, plain)])


@torch.no_grad()
def _background_distance(backgrounds: Backgrounds, suspects: Suspects, engine: Engine) -> NDArray[np.float64]:
    """Squared distance to the nearest background in standard deviations, mean over sites and tiles, (n,)."""
    found = []
    precision = 1 / backgrounds.variance.unsqueeze(1)
    for at in range(0, len(suspects.states), _BATCH):
        states = suspects.states[at : at + _BATCH]
        filled = torch.where(states >= 0, states.float(), engine.prior.means[suspects.component[at : at + _BATCH]])
        x = windows(filled, backgrounds.tile, 0)
        with full_precision(x):
            weighted = x * precision
            cross = torch.bmm(weighted, backgrounds.means)
            own = (weighted * x).sum(dim=-1, keepdim=True)
            centre = torch.bmm(precision, backgrounds.means.square())
            found.append((own - 2 * cross + centre).amin(dim=-1).mean(dim=0) / x.shape[-1])
    return torch.cat(found).double().cpu().numpy()


def _combined(features: NDArray[np.float64], is_member: NDArray[np.bool_], per: int, seed: int) -> NDArray[np.float64]:
    """Log odds of membership by a regression on the other folds of people, (rows,)."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    generator = metric_generator(seed, "audit folds")
    people = is_member[::per]
    fold = np.empty(len(people), dtype=np.int64)
    for side in (True, False):
        chosen = np.flatnonzero(people == side)
        fold[generator.permutation(chosen)] = np.arange(len(chosen)) % FOLDS
    of_row = np.repeat(fold, per)
    out = np.empty(len(features))
    for k in range(FOLDS):
        judged = of_row == k
        regression = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=2_000))
        regression.fit(features[~judged], is_member[~judged])
        out[judged] = regression.decision_function(features[judged])
    return out


def attack(members: Evidence, others: Evidence, *, rows_per_person: int, seed: int = 1) -> pd.DataFrame:
    """All attacks, on rows and on people, by the sum of their rows.

    Args:
        members: of people the model was learned from.
        others: of people it was not.
        rows_per_person: rows of a person.
        seed: of folds and bootstrap.

    Returns:
        A table with the columns :data:`COLUMNS`, one line for each attack, noise level and unit.
    """
    scored = [
        (name, level, Attack(inside, outside, rows_per_person))
        for (name, level, inside), (_, _, outside) in zip(members.scores(), others.scores(), strict=True)
    ]
    features = np.concatenate([members.features, others.features])
    is_member = np.repeat([True, False], [len(members.loss), len(others.loss)])
    odds = _combined(features, is_member, rows_per_person, seed)
    scored.append(("combined", "all", Attack(odds[is_member], odds[~is_member], rows_per_person)))
    unit = "haplotypes" if rows_per_person == 2 else "genotypes"
    lines: list[list[Any]] = []
    for name, level, rows in scored:
        sums = (s.reshape(-1, rows_per_person).sum(axis=1) for s in (rows.members, rows.others))
        for what, one in ((unit, rows), ("people", Attack(*sums))):
            area = auc_interval(one.members, one.others, per_person=one.rows_per_person)
            found = tpr_interval(
                one.members,
                one.others,
                per_person=one.rows_per_person,
                generator=metric_generator(seed, f"{name} {level} {what}"),
            )
            numbers = (area.value, area.low, area.high, found.value, found.low, found.high)
            lines.append([name, level, what, *numbers, len(one.members), len(one.others)])
    return pd.DataFrame(lines, columns=list(COLUMNS))


def audit(
    model: GenotypeModel,
    *,
    members: VariantTable,
    others: VariantTable,
    seed: int = 1,
    progress: bool = False,
) -> pd.DataFrame:
    """Attacks a model with people it was learned from and people it was not.

    Args:
        model: the fitted model.
        members: people it was learned from.
        others: people of the same population it was not learned from, at the same sites as the members.
        seed: of noise, folds and bootstrap.
        progress: show bars.

    Returns:
        The table of :func:`attack`.

    Raises:
        ValueError: the tables differ in sites, or lack the phase that the model needs.
    """
    if not members.site_keys.equals(others.site_keys):
        raise ValueError("members and others must be known at the same sites: what one side lacks tells them apart")
    sides = [Suspects.of(model, table) for table in (members, others)]
    evidence = [gather(model, side, seed=seed, progress=progress) for side in sides]
    return attack(evidence[0], evidence[1], rows_per_person=model.meta.per_person, seed=seed)


def summary(found: pd.DataFrame) -> str:
    """What the strongest attack on people finds, in a sentence or two.

    The strongest of many attacks looks stronger than it is; *combined* was judged on people it was not fitted on.
    """
    people = found[found["unit"] == "people"].set_index("attack")
    row = people.loc["combined"]
    sure = row["low"] > 0.5
    verb = "tells" if sure else "does not tell"
    line = (
        f"The combined attack {verb} members from others: AUC {row['auc']:.3f} ({row['low']:.3f} to {row['high']:.3f}) "
        f"on people, where .5 is chance; it finds {row['tpr']:.1%} of members while it calls 1 % of others members."
    )
    single = people.drop(index="combined")
    if (single.loc[(single.index == "gain") & (single["noise"] == "mean"), "high"] < 0.5).any():
        line += " The model restores others better than members: are the two files swapped?"
    best = single.iloc[int(single["auc"].to_numpy().argmax())]
    name = f"{best.name} at noise {best['noise']}" if best["noise"] not in ("none", "mean") else str(best.name)
    return f"{line} The strongest single one, of many: {name}, AUC {best['auc']:.3f}."


def text(found: pd.DataFrame) -> str:
    """The table for a screen or a page, in Markdown, one line for each attack."""
    units = list(dict.fromkeys(found["unit"]))
    head = ["attack", "noise", *(f"{what}, {unit}" for unit in units for what in ("AUC", "found at 1 %"))]
    lines = []
    for (name, noise), part in found.groupby(["attack", "noise"], sort=False):
        cells = [str(name), str(noise)]
        for _, row in part.iterrows():
            cells.append(f"{row['auc']:.3f} ({row['low']:.3f} to {row['high']:.3f})")
            cells.append(f"{row['tpr']:.3f} ({row['tpr_low']:.3f} to {row['tpr_high']:.3f})")
        lines.append(cells)
    widths = [max(map(len, column)) for column in zip(head, *lines, strict=True)]
    rows = [head, ["-" * w for w in widths], *lines]
    return "\n".join(
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |" for row in rows
    )


def _page(found: pd.DataFrame, *, model: Path, sites: int, of: int) -> str:
    row = found[found["unit"] == "people"].iloc[0]
    return (
        f"# Audit of {model.name}\n\n{summary(found)}\n\n"
        f"{row['members']:,} people the model was learned from (members) and {row['others']:,} it was not, at "
        f"{sites:,} of its {of:,} sites.\n\n{text(found)}\n\n"
        "Scores: *loss*, how badly the model restores a row from noise of the given noise-to-signal ratio; *gain*, "
        "that less the loss of the base alone; *background*, the distance to the nearest haplotype background in the "
        f"file; *combined*, a logistic regression on all of them, fitted on {FOLDS - 1} parts of the people and judged "
        "on the other. Where the model tells nothing, AUC is .5, and .01 of the members are found while 1 % of the "
        "others are called members. In brackets are 95 % intervals, with people as the unit. Members and others must "
        "come from one population: otherwise it is ancestry that tells them apart.\n"
    )


def run(
    model: Path,
    members: Path,
    others: Path,
    output: Path | None,
    *,
    panel: Path | None = None,
    sex: Path | None = None,
    seed: int = 1,
    device: str = "auto",
    threads: int | None = None,
    force: bool = False,
    progress: bool = False,
) -> str:
    """``genodiff audit``: attacks a model folder; writes ``audit.csv`` and ``audit.md`` where a folder is given.

    Returns:
        The table and its summary.

    Raises:
        InputError: a file that cannot be used, too few people, people on both sides, or no site of the model in both.
        OutputError: the folder cannot be written.
    """
    torch.set_num_threads(threads or os.cpu_count() or 1)
    inputs = {"model": model / "model.json", "members": members, "non-members": others, "panel": panel, "sexes": sex}
    if output is None:
        found, _, _ = _audited(model, members, others, panel, sex, seed=seed, device=device, progress=progress)
        return f"{text(found)}\n\n{summary(found)}"
    provenance = Provenance(seed=seed, configuration={"model": model, "members": members, "non-members": others})
    with Staging(output, force=force, inputs=inputs.values()) as staging:
        hash_inputs(provenance, inputs)
        with provenance.stage("audit"):
            found, sites, of = _audited(model, members, others, panel, sex, seed=seed, device=device, progress=progress)
        atomic_text(staging.path / "audit.csv", found.to_csv(index=False, lineterminator="\n"))
        atomic_text(staging.path / "audit.md", _page(found, model=model, sites=sites, of=of))
        provenance.write(staging.path / "provenance.json")
        staging.finish()
    return f"{text(found)}\n\n{summary(found)}"


def _audited(
    model: Path,
    members: Path,
    others: Path,
    panel: Path | None,
    sex: Path | None,
    *,
    seed: int,
    device: str,
    progress: bool,
) -> tuple[pd.DataFrame, int, int]:
    """The table, the number of sites that both files have, and that of the model."""
    loaded = GenotypeModel.load(model, device=resolve_device(device))
    tables = [
        read_at(path, loaded.meta.sites, header=loaded.meta.header, sex=sex, progress=progress)
        for path in (members, others)
    ]
    for path, table in zip((members, others), tables, strict=True):
        if table.n_samples < LEAST_PEOPLE:
            raise InputError(
                f"{path} has {table.n_samples} people: an audit needs at least {LEAST_PEOPLE} on each side"
            )
        if loaded.meta.per_person == 2 and not table.is_phased:
            raise InputError(f"{path}: most heterozygous calls have no phase, and {model} knows haplotypes: phase it")
    shared = tables[0].samples.index.intersection(tables[1].samples.index)
    if len(shared):
        raise InputError(
            f"{others}: {len(shared):,} people are also in {members}, the first is {shared[0]}: nobody can be a member "
            "and not; give two files without common people"
        )
    if panel is not None:
        labels = read_panel(panel)
        tables = [attach_panel(table, labels, source=panel) for table in tables]
    common = tables[0].site_keys.intersection(tables[1].site_keys, sort=False)
    if not len(common):
        raise InputError(f"{members} and {others} have no site of {model} in common: give genotypes at its sites")
    inside, outside = (t.select(variants=t.site_keys.get_indexer(common)) for t in tables)
    found = audit(loaded, members=inside, others=outside, seed=seed, progress=progress)
    return found, len(common), len(loaded.meta.sites)
