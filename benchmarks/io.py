"""Reading and writing of genotypes beside bcftools, plink2 and bgzip, in one run.

    python benchmarks/io.py --people 20000 --sites 5000 --threads 1 --seed 1 --markdown docs/results/io.md

Makes a VCF of mosaics of 200 founders in a temporary folder, converts it into the other formats, and times every reader
and writer in a process of its own, next to the program it is compared with. Only the quotient of two times of one row
means something where other jobs share the cores.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pandas as pd

from data_prep.formats import companions
from data_prep.readers import read_chunks
from data_prep.variants import VariantTable
from data_prep.writers import open_writer

FOUNDERS, STRETCH, AT_ONCE = 200, 100, 100


@dataclass(frozen=True)
class Cost:
    """Wall and CPU time (s) and peak resident memory (MB) of a job."""

    wall: float
    cpu: float
    memory: float


def mosaics(people: int, sites: int, seed: int) -> Iterator[VariantTable]:
    """Phased people whose haplotypes copy founders over 100 sites at a time, chunk by chunk; most variants are rare."""
    rng = np.random.default_rng(seed)
    samples = pd.DataFrame(index=pd.Index([f"S{i:06d}" for i in range(people)], name="sample"))
    for start in range(0, sites, AT_ONCE):
        m = min(AT_ONCE, sites - start)
        if start % STRETCH == 0:
            copied = rng.integers(FOUNDERS, size=(people, 2))
        founders = (rng.random((m, FOUNDERS)) < rng.beta(0.2, 0.8, size=(m, 1))).astype(np.int8)
        position = np.arange(start + 1, start + m + 1) * 100
        frame = pd.DataFrame({"contig": "22", "position": position, "id": ".", "ref": "A", "alt": "G"})
        yield VariantTable(founders[:, copied].transpose(1, 0, 2), frame, samples)


def write(chunks: Iterator[VariantTable], target: Path, *, threads: int, n_variants: int | None) -> tuple[float, float]:
    """Wall and CPU time of writing alone, without that of making the chunks."""
    first = next(chunks)
    wall, cpu = time.perf_counter(), time.process_time()
    writer = open_writer(target, list(first.samples.index), contigs=("22",), threads=threads, n_variants=n_variants)
    with writer:
        writer.write(first)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        for chunk in chunks:
            begin = time.perf_counter(), time.process_time()
            writer.write(chunk)
            wall, cpu = wall + time.perf_counter() - begin[0], cpu + time.process_time() - begin[1]
        begin = time.perf_counter(), time.process_time()
    return wall + time.perf_counter() - begin[0], cpu + time.process_time() - begin[1]


def job(arguments: argparse.Namespace) -> None:
    """One measurement in this process; the result goes to stdout as JSON."""
    if arguments.job == "read":
        begin = time.perf_counter(), time.process_time()
        calls = sum(
            chunk.haplotypes.shape[0] * chunk.n_variants
            for chunk in read_chunks(arguments.file, region=arguments.region)[2]
        )
        wall, cpu = time.perf_counter() - begin[0], time.process_time() - begin[1]
        assert calls == arguments.people * arguments.sites, calls
    else:
        chunks = mosaics(arguments.people, arguments.sites, arguments.seed)
        known = arguments.sites if arguments.known else None
        wall, cpu = write(chunks, arguments.file, threads=arguments.threads, n_variants=known)
    print(json.dumps([wall, cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))


def ours(kind: str, file: Path, options: argparse.Namespace, *, known: bool = False, region: str | None = None) -> Cost:
    """A job of this script in a process of its own; the start of Python and its imports do not count."""
    command = [sys.executable, __file__, "--job", kind, "--file", str(file)]
    command += [f"--{name}={getattr(options, name)}" for name in ("people", "sites", "threads", "seed")]
    run = subprocess.run(
        [*command, *(["--known"] if known else []), *(["--region", region] if region else [])],
        check=True,
        capture_output=True,
        text=True,
    )
    return Cost(*json.loads(run.stdout))


def theirs(command: Sequence[object], folder: Path) -> Cost | None:
    """A program from its start to its end, or ``None`` where it is not installed."""
    if shutil.which(str(command[0])) is None:
        return None
    begin = time.perf_counter()
    with subprocess.Popen(
        [str(word) for word in command], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} failed")
    return Cost(time.perf_counter() - begin, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def row(what: str, own: Cost, name: str, other: Cost | None) -> str:
    """One line of the table."""
    cells = [what, f"{own.wall:.1f}", f"{own.cpu:.1f}", f"{own.memory:,.0f}", f"`{name}`" if name else "–"]
    if other is None:
        cells += ["–"] * 4
    else:
        cells += [f"{other.wall:.1f}", f"{other.cpu:.1f}", f"{own.wall / other.wall:.2f}", f"{own.cpu / other.cpu:.2f}"]
    return "| " + " | ".join(cells) + " |"


def measure(options: argparse.Namespace, folder: Path) -> Iterator[str]:
    """The rows of the table, as they are measured."""
    n, m, t = options.people, options.sites, options.threads
    vcf, text = folder / "x.vcf.gz", folder / "x.vcf"
    own = ours("write", vcf, options)
    ours("write", text, options)
    bgzip = ["bgzip", "-@", t, "-k", "-f", "x.vcf"]
    shutil.copy2(vcf, folder / "ours.vcf.gz")  # no newer than its index
    yield row("write .vcf.gz", own, f"bgzip -@ {t}", theirs(bgzip, folder))
    shutil.move(folder / "ours.vcf.gz", vcf)
    plink = ["plink2", "--threads", t, "--memory", 4000, "--out", "theirs"]
    made = theirs(["bgzip", "-@", t, "-c", "x.vcf"], folder)
    yield row("write .pgen", ours("write", folder / "x.pgen", options, known=True), f"bgzip -@ {t} (of the VCF)", made)
    yield row(
        "write .pgen, number of sites not known",
        ours("write", folder / "y.pgen", options),
        "plink2 --vcf --make-pgen",
        theirs([*plink, "--vcf", "x.vcf.gz", "--make-pgen"], folder),
    )
    text.unlink()
    for name in ("x.bcf", "x.bed", "x.vcz", "x.haps"):
        yield row(f"write {Path(name).suffix}", ours("write", folder / name, options), "", None)
    query = ["bcftools", "query", "-f", "[%GT]"]
    counts = [*plink, "--geno-counts"]
    beside: dict[str, tuple[str, list[object]]] = {
        "x.vcf.gz": ("bcftools query -f '[%GT]'", [*query, "x.vcf.gz"]),
        "x.bcf": ("bcftools query -f '[%GT]'", [*query, "x.bcf"]),
        "x.pgen": ("plink2 --geno-counts", [*counts, "--pfile", "x"]),
        "x.bed": ("plink2 --geno-counts", [*counts, "--bfile", "x"]),
    }
    for name in ("x.vcf.gz", "x.bcf", "x.pgen", "x.bed", "x.vcz", "x.haps"):
        label, command = beside.get(name, ("", []))
        other = theirs(command, folder) if command else None
        yield row(f"read .{name.split('.', 1)[1]}", ours("read", folder / name, options), label, other)
    inside = "22:1-2000000000"
    own = ours("read", vcf, options, region=inside)
    yield row("read .vcf.gz, --region", own, "bcftools query -r", theirs([*query, "-r", inside, "x.vcf.gz"], folder))
    size = {p.suffix: sum(f.stat().st_size for f in (p, *companions(p))) for p in (folder / "x.pgen", folder / "x.bed")}
    yield (
        f"\nSizes: .vcf.gz {vcf.stat().st_size / 1e6:.1f} MB, "
        + ", ".join(f"{k} {v / 1e6:.1f} MB" for k, v in size.items())
        + f"; {n:,} people × {m:,} sites."
    )


def main() -> None:
    """Measure, print the table as Markdown, and write it as a page if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=2000)
    parser.add_argument("--sites", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=1, help="threads that compress, of every program")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made")
    parser.add_argument("--markdown", type=Path, help="page to write")
    parser.add_argument("--job", choices=["read", "write"], help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--known", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--region", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        job(options)
        return
    shown = f"python benchmarks/io.py --people {options.people} --sites {options.sites} --threads {options.threads}"
    lines = [
        f"    {shown} --seed {options.seed} --markdown docs/results/io.md",
        "",
        f"{options.people:,} people × {options.sites:,} sites, {options.threads} thread(s), {platform.machine()}, "
        f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f} at the start.",
        "",
        "| job | wall, s | CPU, s | peak, MB | beside | wall, s | CPU, s | wall ratio | CPU ratio |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for line in measure(options, Path(folder)):
            print(line, flush=True)
            lines.append(line)
    if options.markdown is not None:
        options.markdown.write_text(PAGE.format(table="\n".join(lines)), encoding="utf-8")


PAGE = """# Reading and writing genotypes

{table}

Times of genodiff are those of the call, without the start of Python and its imports (about a second); its memory is
that of the whole process. Times of the other programs are from start to end. Readers hand over every allele and its
phase, chunk by chunk, and keep nothing. `plink2 --geno-counts` counts genotypes and needs neither phase nor alleles one
by one. Other jobs shared the cores: only the ratios, genodiff over the program beside it in the same row, mean
something, and of these CPU more than wall.
"""


if __name__ == "__main__":
    main()
