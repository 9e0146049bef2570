"""How long one waits before anything happens: importing, help, version, a first run.

    python benchmarks/startup.py                 # 5 repetitions of the short ones, one first run
    python benchmarks/startup.py --no-first-run

Processor seconds are what the budgets are about: wall seconds tell of the other programs of the machine too. Each line
has the least of its repetitions, since whatever else runs can only add.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

DATA = Path(__file__).resolve().parents[1] / "genodiff" / "data"
FIRST_RUN = [
    "-m", "genodiff", "synthesize", str(DATA / "example.vcf.gz"), "--panel", str(DATA / "example.panel.tsv"),
    "-o", "demo", "--preset", "fast", "--threads", "1", "--quiet",
]  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A command of the Python that runs this.

    Attributes:
        name: as printed.
        arguments: of the interpreter.
        budget: processor seconds it may take.
        repetitions: of which the fastest counts; ``None`` for the number asked for.
    """

    name: str
    arguments: list[str]
    budget: float
    repetitions: int | None = None


CASES = (
    Case("python -c pass", ["-c", "pass"], 0.1),
    Case("import genodiff", ["-c", "import genodiff"], 0.15),
    Case("genodiff --version", ["-m", "genodiff", "--version"], 0.4),
    Case("genodiff --help", ["-m", "genodiff", "--help"], 0.6),
    Case("genodiff synthesize --help", ["-m", "genodiff", "synthesize", "--help"], 0.5),
    Case("from genodiff import read_run", ["-c", "from genodiff import read_run"], 1.5),
    Case("from genodiff import read_variants", ["-c", "from genodiff import read_variants"], 2.0),
    Case("from genodiff import GenotypeModel", ["-c", "from genodiff import GenotypeModel"], 6.0),
    Case("genodiff inspect (example)", ["-m", "genodiff", "inspect", str(DATA / "example.vcf.gz")], 2.5),
    Case("genodiff synthesize (make demo)", FIRST_RUN, 300.0, repetitions=1),
)


def measure(arguments: list[str], work: Path) -> tuple[float, float]:
    """Wall and processor seconds of one process.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, cwd=work, stdout=subprocess.DEVNULL)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--no-first-run", action="store_true", help="leave out the run of minutes")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    print("| | wall s | processor s | budget s | |\n|---|---|---|---|---|")
    for case in CASES:
        if options.no_first_run and case.arguments is FIRST_RUN:
            continue
        with tempfile.TemporaryDirectory() as work:
            runs = [measure(case.arguments, Path(work)) for _ in range(case.repetitions or options.repetitions)]
        wall, processor = (min(values) for values in zip(*runs, strict=True))
        verdict = "within" if processor <= case.budget else "**over**"
        print(f"| `{case.name}` | {wall:.2f} | {processor:.2f} | {case.budget:g} | {verdict} |", flush=True)


if __name__ == "__main__":
    main()
