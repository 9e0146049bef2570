r"""Run ``genodiff synthesize`` on a data set with a fixed split and print every target beside its floor.

    python benchmarks/synthesize.py ../shared/data/kg_chr22_50Mb.b38.vcf.gz \
        --panel ../shared/data/panel.tsv -o runs/50Mb

People whose row of the panel says ``test`` in the column ``split`` are held out; all others are learned from. The
table is printed as Markdown and appended to ``--markdown FILE`` if given.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pandas as pd

from data_prep.vcf import VcfSource
from genodiff.report import judge


@click.command()
@click.argument("vcf", type=click.Path(path_type=Path))
@click.option("--panel", type=click.Path(path_type=Path), required=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
@click.option("--preset", default="balanced", show_default=True)
@click.option("--seed", default=1, show_default=True)
@click.option("--labels/--no-labels", default=False, show_default=True, help="Condition on the panel's labels.")
@click.option("--markdown", type=click.Path(path_type=Path), help="Append the table to this file.")
@click.option("--option", "extra", multiple=True, help="Further options for synthesize, e.g. --option --steps=100.")
def main(
    vcf: Path,
    panel: Path,
    output: Path,
    *,
    preset: str,
    seed: int,
    labels: bool,
    markdown: Path | None,
    extra: tuple[str, ...],
) -> None:
    """Synthesize VCF with the people of the panel's test split held out, and tabulate targets."""
    rows = pd.read_csv(panel, sep="\t", dtype=str)
    present = set(VcfSource(vcf).samples)
    held = [name for name in rows.loc[rows["split"] == "test", "sample"] if name in present]
    output.parent.mkdir(parents=True, exist_ok=True)
    held_file = output.with_name(output.name + ".holdout.txt")
    held_file.write_text("\n".join(held) + "\n")
    command = ["synthesize", str(vcf), "-o", str(output), "--holdout-samples", str(held_file), "--preset", preset]
    command += ["--seed", str(seed), "--force", *(["--panel", str(panel)] if labels else []), *extra]
    shown = "genodiff " + " ".join(command)
    print(shown, flush=True)
    subprocess.run([sys.executable, "-m", "genodiff", *command], check=True)
    text = table(output, shown)
    print(text)
    if markdown is not None:
        with markdown.open("a") as handle:
            handle.write(text)


def table(output: Path, command: str) -> str:
    """The targets of a finished run, as Markdown."""
    frame = pd.read_csv(output / "metrics.csv")
    facts = json.loads((output / "provenance.json").read_text())
    held = int(frame.loc[frame["metric"] == "aa_truth", "n"].iloc[0])
    verdict = judge(frame, holdout_haplotypes=held)
    checks = [*verdict.fidelity.checks, *verdict.privacy.checks]
    seconds = facts["seconds"]
    lines = [
        f"\n### {Path(command.split()[2]).name}\n",
        f"`{command}`\n",
        f"{facts['model']['people']:,} people learned from, {facts['model']['sites']:,} sites, seed {facts['seed']}, "
        f"{facts['model']['training_steps']:,} steps, held-out cross-entropy {facts['model']['best_validation']:.4f}.",
        f"Seconds: {', '.join(f'{k} {v:.0f}' for k, v in seconds.items())}; "
        f"{facts['seconds_total'] / 60:.1f} minutes in all, peak memory {facts['peak_memory_mb'] / 1024:.1f} GB.\n",
        "| check | value | floor | target | met |",
        "|---|---|---|---|---|",
    ]
    for c in checks:
        met = {True: "yes", False: "**no**", None: "not judged"}[c.met]
        lines.append(f"| {c.target.label} | {c.value:.4g} | {c.floor:.4g} | {c.asked} | {met} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
