r"""Do the chromosomes of a synthetic person belong together? By what each of them was told of the person.

    python benchmarks/chromosomes.py chr22.vcf.gz --panel panel.tsv \
        --region 22:16000000-24000000 --region 22:44000000-51000000

Regions far apart stand for chromosomes. Unlinked sites of each are learned by a model of its own and drawn for the same
people in three ways: nothing is told (people are drawn freely), their label, or their group. Printed is the correlation
over people of what two regions tell of ancestry, in all and within labels, beside that of people held out.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from data_prep.panels import attach_panel, read_panel
from data_prep.readers import read_variants
from data_prep.splits import split_people
from data_prep.thinning import Unlinked
from data_prep.variants import VariantTable
from genodiff import GenotypeModel
from genodiff.evaluation.chromosomes import Chromosome, Labels, family
from genodiff.genome.groups import group_people
from genodiff.genome.people import draw_people
from genodiff.genotypes.config import preset


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vcf", type=Path)
    parser.add_argument("--panel", type=Path, required=True)
    parser.add_argument("--region", action="append", required=True)
    parser.add_argument("--sites", type=int, default=200, help="unlinked sites of a region, at most")
    parser.add_argument("--steps", type=int, help="of training, instead of those of the preset fast")
    parser.add_argument("--seed", type=int, default=1)
    o = parser.parse_args()
    panel = read_panel(o.panel)
    tables = []
    for region in o.region:
        table, _ = read_variants(o.vcf, region=region, choose=Unlinked())
        keep = np.unique(np.linspace(0, table.n_variants - 1, min(o.sites, table.n_variants)).round().astype(int))
        tables.append(attach_panel(table.select(variants=keep), panel, source=o.panel))
    labels = tables[0].labels
    assert labels is not None
    learned, held = split_people(tables[0], holdout=0.25, seed=o.seed)
    mask = np.isin(np.arange(len(labels)), held)
    parts = tuple(np.concatenate([t.dosage() for t in side], axis=1) for side in (tables[0::2], tables[1::2]))
    found = group_people((parts[0], parts[1]), held=mask, labels=labels, seed=o.seed)
    wanted = dict(zip(*np.unique(labels[learned], return_counts=True), strict=True))
    people = draw_people(found.train, labels[learned], wanted, seed=o.seed).set_index("sample")
    print(f"{len(learned)} people learned from, {len(held)} held out, {len(wanted)} labels, "
          f"{people['group'].nunique()} groups by {found.dimensions} components", flush=True)  # fmt: skip
    config = preset("fast").with_steps(o.steps)
    drawn: dict[str, list[VariantTable]] = {"nothing": [], "label": [], "group": []}
    for k, table in enumerate(tables):
        train = table.select(samples=learned)
        told = replace(train.with_labels(found.train), samples=train.samples.assign(
            label=found.train, parent=labels[learned]))  # fmt: skip
        by_label = GenotypeModel(config).fit(train, seed=o.seed + k)
        by_group = GenotypeModel(config).fit(told, seed=o.seed + k)
        drawn["nothing"].append(by_label.sample(len(people), seed=10 + k))
        drawn["label"].append(by_label.sample(people=people["label"], seed=10 + k))
        drawn["group"].append(by_group.sample(people=people["group"], seed=10 + k))
        print(f"{o.region[k]}: {table.n_variants} sites", flush=True)
    rows = []
    for name, made in drawn.items():
        chromosomes = [
            Chromosome(region, t.select(samples=learned).dosage(), t.select(samples=held).dosage(), s.dosage())
            for region, t, s in zip(o.region, tables, made, strict=True)
        ]
        # People who were told nothing have another label in every region, and so none to take out.
        known = (
            Labels(labels[learned], labels[held], people["label"].to_numpy(dtype=str)) if name != "nothing" else None
        )
        for metric in family(chromosomes, labels=known, seed=o.seed).metrics:
            rows.append({"told": name, "metric": metric.metric, "value": metric.value, "floor": metric.floor,
                         "low": metric.low, "high": metric.high})  # fmt: skip
    print(pd.DataFrame(rows).to_string(index=False, float_format="{:.3f}".format))


if __name__ == "__main__":
    main()
