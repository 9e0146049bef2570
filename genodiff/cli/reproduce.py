"""``genodiff reproduce``: one command per experiment of the GOU paper, and one for the published peers."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import click

from genodiff.cli.options import PATH, Commands, F, device_options, show_bars, stack

__all__ = ["reproduce"]


@click.group(cls=Commands)
def reproduce() -> None:
    """Repeat published experiments, and judge published genomes.

    The tables, figures and claims of the GOU paper beside what is found here; artificial genomes of others beside ours.

    \b
    Examples:
      genodiff reproduce gou-mixture
      genodiff reproduce gou-chr22 --budget full
      genodiff reproduce artificial-genomes ag805.npz
    """


def _budget_options(function: F, *, output: str = "docs/results/gou") -> F:
    return stack(
        click.option("-o", "--output", type=PATH, default=Path(output), show_default=True,
                     help="Folder for the page, its figures and its tables."),
        click.option("--seeds", type=click.IntRange(min=1), help="Number of seeds; 2 for quick, 5 for full."),
        click.option("--budget", type=click.Choice(["quick", "full"]), default="quick", show_default=True,
                     help="Minutes, or as long as it takes."),
        device_options,
        click.option("--quiet", is_flag=True, help="No progress bars."),
    )(function)  # fmt: skip


def _reproduced(module: str, output: Path, *, quiet: bool, device: str, threads: int | None, **o: Any) -> None:
    from importlib import import_module

    import torch

    from genodiff.genotypes.model import resolve_device

    torch.set_num_threads(threads or os.cpu_count() or 1)
    experiment = import_module(f"genodiff.reproduce.{module}")
    page = experiment.reproduce(output, progress=show_bars(quiet), device=str(resolve_device(device)), **o)
    click.echo(f"page: {page}")


@reproduce.command("gou-mixture")
@_budget_options
def gou_mixture(output: Path, **o: Any) -> None:
    """Table 1 and Figure 1 (two Gaussians in the plane), the error of the start law, the claims of section 6.

    \b
    Examples:
      genodiff reproduce gou-mixture
      genodiff reproduce gou-mixture --budget full --seeds 5 -o results/
    """
    _reproduced("mixture", output, **o)


@reproduce.command("gou-snps")
@click.option(
    "--sensitivity/--no-sensitivity",
    "sensitive",
    default=None,
    help="Also vary block size, decay and law of frequencies; part of the full budget if not said.",
)
@_budget_options
def gou_snps(output: Path, **o: Any) -> None:
    """Table 2: simulated SNPs in LD blocks, 500 people at 1,000 sites.

    \b
    Examples:
      genodiff reproduce gou-snps
      genodiff reproduce gou-snps --budget full --device cuda
    """
    _reproduced("snps", output, **o)


@reproduce.command("gou-chr22")
@click.argument("vcf", type=PATH, required=False)
@click.option("--panel", type=PATH, help="Population labels; a column split (train, test) says whom to hold out.")
@click.option("--map", "genetic_map", type=PATH, help="Genetic map (bp to cM), for the mosaic.")
@_budget_options
def gou_chr22(vcf: Path | None, output: Path, **o: Any) -> None:
    """Table 3 and Figure 2: the real genotypes of VCF, for example chromosome 22 of the 1000 Genomes Project.

    Without VCF the simulated people of the embedded example take their place, on a page of another name.

    \b
    Examples:
      genodiff reproduce gou-chr22 chr22.vcf.gz --panel panel.tsv
      genodiff reproduce gou-chr22 chr22.vcf.gz --panel panel.tsv --map chr22.gmap.gz --budget full
    """
    if vcf is None:
        for flag, name in (("--panel", "panel"), ("--map", "genetic_map")):
            if o[name] is not None:
                raise click.UsageError(f"{flag} needs VCF: without it the embedded example is read as it is")
        click.echo("no VCF was given: simulated people of the embedded example take its place", err=True)
    _reproduced("chr22", output, vcf=vcf, **o)


@reproduce.command("artificial-genomes")
@click.argument("npz", type=PATH)
@click.option("--legend", type=PATH, help="Sites of NPZ (id position a0 a1); the .legend beside it if not given.")
@partial(_budget_options, output="docs/results/peers")
def artificial_genomes(npz: Path, output: Path, **o: Any) -> None:
    """The published artificial genomes of Yelmen et al. 2021 (GAN and RBM, 805 sites) beside ours.

    NPZ holds the haplotypes real, gan and rbm, one a row, alleles 0 and 1.

    \b
    Examples:
      genodiff reproduce artificial-genomes ag805.npz
      genodiff reproduce artificial-genomes ag805.npz --legend ag805.legend --budget full --seeds 3 -o results/
    """
    _reproduced("artificial_genomes", output, npz=npz, **o)
