"""Sites per second of reading and writing a VCF: ``python benchmarks/vcf_io.py FILE [--repeat 3] [--threads 1]``."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data_prep.errors import GenodiffError
from data_prep.readers import read_variants
from data_prep.vcf import write_vcf


def best(action: Callable[[], Any], repeat: int) -> tuple[float, float, Any]:
    """Least wall time, least CPU time (s) and the last result of some runs."""
    wall, cpu, result = [], [], None
    for _ in range(repeat):
        before = time.perf_counter(), time.process_time()
        result = action()
        wall.append(time.perf_counter() - before[0])
        cpu.append(time.process_time() - before[1])
    return min(wall), min(cpu), result


def main() -> None:
    """Read the file, write it as .vcf.gz and .vcf into a temporary folder, print the rates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("vcf", help="VCF or BCF with one contig")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each; the best counts")
    parser.add_argument("--threads", type=int, default=1, help="threads that compress")
    arguments = parser.parse_args()
    repeat = max(1, arguments.repeat)
    try:
        wall, cpu, (table, report) = best(lambda: read_variants(arguments.vcf), repeat)
    except GenodiffError as error:
        sys.exit(str(error))
    print(f"{table.n_samples:,} people × {table.n_variants:,} sites; load average {os.getloadavg()[0]:.1f}")
    rows = [("read", report.n_records, wall, cpu, "")]
    with tempfile.TemporaryDirectory() as folder:
        for name in ("x.vcf.gz", "x.vcf"):
            path = Path(folder) / name
            wall, cpu, _ = best(lambda path=path: write_vcf(table, path, threads=arguments.threads), repeat)
            rows.append((f"write {path.suffix}", table.n_variants, wall, cpu, f"{path.stat().st_size / 1e6:.1f} MB"))
    for what, sites, wall, cpu, size in rows:
        print(f"{what:<10} {sites / wall:>8,.0f} sites/s wall {sites / cpu:>8,.0f} sites/s CPU  {size}")


if __name__ == "__main__":
    main()
