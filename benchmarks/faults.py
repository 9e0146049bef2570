"""Faults injected into running commands: ``python benchmarks/faults.py -o runs/faults [--only kill,disk]``.

Every command is run undisturbed first. A fault is survived if the command, given again, ends with the same bytes of
genotypes, metrics and weights, and nothing half written was ever seen under a final name; or, where the fault is one to
refuse, if it ends with status 2 and one line. Data are lost where a finished file is damaged or gone.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from genodiff.cli import main as genodiff
from genodiff.evaluation import suite as _suite  # noqa: F401 - loaded before the forks, as is what follows
from genodiff.genotypes import config, model
from genodiff.report import page as _page  # noqa: F401

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "genodiff" / "data" / "example.vcf.gz"
TRAINING = ("--region", "1:1-40000", "--preset", "fast", "--steps", "8", "--threads", "1", "--quiet")
VOLATILE = ("provenance.json", "report.html")
"""Files that tell times."""


@dataclass
class Row:
    """What became of one kind of fault."""

    fault: str
    injected: int = 0
    survived: int = 0
    lost: int = 0
    said: list[str] = field(default_factory=list)

    def add(self, survived: bool, note: str = "") -> None:
        """Counts a fault; ``note`` is kept where it was not survived."""
        self.injected += 1
        self.survived += survived
        if not survived:
            self.said.append(note[-400:])
        print(f"  {self.fault}: {'survived' if survived else 'NOT SURVIVED'} {note[-200:]}", flush=True)


class Process:
    """A command as a process of its own. It is forked from this one, which has loaded the libraries already.

    Args:
        arguments: of the command line.
        before: called in the new process first.
    """

    def __init__(self, arguments: tuple[object, ...], before: Callable[[], None] | None = None) -> None:
        self.said = Path(tempfile.mkstemp(prefix="faults-")[1])
        self.pid = os.fork()
        self.returncode: int | None = None
        if self.pid:
            return
        code = 1
        # Of a job in the background the shell lets SIGINT be ignored, and what is ignored stays so.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            handle = os.open(self.said, os.O_WRONLY)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(handle, 2)
            sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
            # Checkpoints after every step and small batches of people: every stage has something to lose.
            fast = config.PRESETS["fast"]
            config.PRESETS["fast"] = replace(fast, training=replace(fast.training, checkpoint_seconds=0.0))
            model._SAMPLE_ROWS = 32
            if before is not None:
                before()
            genodiff([str(a) for a in arguments])
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(OSError):
                sys.stderr.flush()
            os._exit(code)

    def poll(self) -> int | None:
        """Status, or ``None`` while it runs."""
        if self.returncode is None:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            if done:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, seconds: float) -> bool:
        """Whether it ends within so many seconds."""
        until = time.monotonic() + seconds
        while self.poll() is None and time.monotonic() < until:
            time.sleep(0.005)
        return self.poll() is not None

    def send(self, number: signal.Signals) -> None:
        """A signal."""
        if self.poll() is None:
            os.kill(self.pid, number)


def start(arguments: tuple[object, ...], before: Callable[[], None] | None = None) -> Process:
    """A command at work."""
    return Process(arguments, before)


def finish(process: Process) -> tuple[int, str]:
    """Status and standard error of a command that has ended, or within 15 minutes does."""
    if not process.wait(900):
        process.send(signal.SIGKILL)
        process.wait(60)
        return -1, "did not end"
    said = process.said.read_text(errors="replace").strip()
    process.said.unlink(missing_ok=True)
    assert process.returncode is not None
    return process.returncode, said


def refused(code: int, said: str) -> bool:
    """Status 2 and one line."""
    return code == 2 and len(said.splitlines()) == 1 and said.startswith("genodiff: ")


def digests(output: Path) -> dict[str, str]:
    """Hashes of what must not depend on when a command ran: of a folder, or of the files named after a VCF."""
    files = output.rglob("*") if output.is_dir() else output.parent.glob(f"{output.name.split('.')[0]}.*")
    found = {}
    for path in files:
        stable = path.is_file() and path.name not in VOLATILE and not path.name.endswith(".provenance.json")
        # The header of a model counts the seconds of training; weights and sites are what it vouches for.
        if stable and path.name != "model.json":
            found[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


@contextmanager
def watched(output: Path) -> Iterator[list[dict[str, int]]]:
    """Sizes of what stands under final names, whenever that changes, seen every few milliseconds."""
    seen: list[dict[str, int]] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            try:
                files = output.rglob("*") if output.is_dir() else output.parent.glob(f"{output.name.split('.')[0]}.*")
                state = {p.name: p.stat().st_size for p in files if p.is_file() and p.name != "lock"}
            except OSError:
                continue
            if state and (not seen or seen[-1] != state):
                seen.append(state)
            time.sleep(0.003)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


def whole(seen: list[dict[str, int]], output: Path) -> bool:
    """Whether every file was seen with its final size alone, and a folder only with all its files."""
    if not seen:
        return True
    last = seen[-1]
    sizes = all(last.get(name) == size for state in seen for name, size in state.items())
    return sizes and (not output.is_dir() or all(state.keys() == last.keys() for state in seen))


def commands(work: Path) -> dict[str, Callable[[Path], tuple[object, ...]]]:
    """The commands that are disturbed, by what they write to; ``sample`` draws from a model made here."""
    learned = work / "model"
    if not learned.exists():
        code, said = finish(start(("fit", EXAMPLE, "-o", learned, *TRAINING)))
        assert code == 0, said
    return {
        "synthesize": lambda out: ("synthesize", EXAMPLE, "-o", out / "out", "-n", "80", *TRAINING),
        "fit": lambda out: ("fit", EXAMPLE, "-o", out / "out", *TRAINING),
        "sample": lambda out: ("sample", learned, "-n", "300", "-o", out / "s.vcf.gz", "--threads", "1", "--quiet"),
    }


def target(name: str, folder: Path) -> Path:
    """What a command writes."""
    return folder / ("s.vcf.gz" if name == "sample" else "out")


@dataclass(frozen=True)
class Whole:
    """An undisturbed run: its digests, seconds and bytes at most."""

    digests: dict[str, str]
    seconds: float
    most: int


def undisturbed(name: str, command: Callable[[Path], tuple[object, ...]], work: Path) -> Whole:
    """Runs a command, and watches how much room it takes."""
    folder = fresh(work / f"whole-{name}")
    most, began = 0, time.monotonic()
    process = start(command(folder))
    while process.poll() is None:
        most = max(most, _size(folder))
        time.sleep(0.02)
    seconds = time.monotonic() - began
    code, said = finish(process)
    assert code == 0, said
    return Whole(digests(target(name, folder)), seconds, most)


def _size(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):  # what vanishes meanwhile is left out
        for name in names:
            with contextlib.suppress(OSError):
                total += (Path(place) / name).stat().st_size
    return total


def fresh(folder: Path) -> Path:
    """An empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def stop(name: str, command: Callable[[Path], tuple[object, ...]], reference: Whole, work: Path, *, times: int,
         how: signal.Signals, rng: random.Random) -> Row:  # fmt: skip
    """Ends a command at random points, again and again, and lets it end; a run that ended begins anew."""
    said_name = {signal.SIGKILL: "kill −9", signal.SIGINT: "Ctrl-C (SIGINT)", signal.SIGTERM: "SIGTERM"}[how]
    row = Row(f"{said_name} at a random point of `{name}`, then the same command")
    folder = fresh(work / f"stop-{name}")
    output = target(name, folder)
    pending: list[str] = []
    with watched(output) as seen:
        while row.injected < times or pending:
            if row.injected + len(pending) >= times:
                code, said = finish(start(command(folder)))
            else:
                process = start(command(folder))
                # Most points lie within the work, not in what comes before it.
                ended = process.wait(rng.uniform(0.1 * reference.seconds, 1.0 * reference.seconds))
                process.send(how)
                code, said = finish(process)
                if not ended and code != 0:
                    status = {signal.SIGKILL: -9, signal.SIGINT: 130, signal.SIGTERM: 143}[how]
                    sound = code == status and (how == signal.SIGKILL or ("goes on" in said and "\n" not in said))
                    pending.append("" if sound else f"status {code}: {said}")
                    continue
            good = code == 0 and digests(output) == reference.digests and whole(seen, output)
            for note in pending:
                row.add(good and not note, note or (said if not good else ""))
            row.lost += 0 if digests(output) == reference.digests else 1
            pending = []
            shutil.rmtree(folder)
            folder.mkdir()
            seen.clear()
    return row


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    """A file system of its own in memory, of so many bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def remount(folder: Path, option: str) -> None:
    """Changes size or permission of a mounted file system."""
    subprocess.run(["mount", "-o", f"remount,{option}", str(folder)], check=True)


def full(name: str, command: Callable[[Path], tuple[object, ...]], reference: Whole, work: Path) -> list[Row]:
    """Disks of several sizes that fill up, then a disk that may not be written to."""
    row = Row(f"disk full in `{name}`, then the same command with room")
    for share in (0.01, 0.15, 0.4, 0.7):
        disk = work / "disk"
        with small_disk(disk, max(8192, int(share * reference.most))):
            code, said = finish(start(command(disk)))
            visible = [p.name for p in disk.iterdir() if not p.name.startswith(".")]
            good = refused(code, said) and not visible
            remount(disk, f"size={4 * reference.most + (1 << 24)}")
            again, wrong = finish(start(command(disk)))
            same = again == 0 and digests(target(name, disk)) == reference.digests
            row.add(good and same, f"[{share:.0%}] {said} {wrong} {visible}")
            row.lost += not same
    locked = Row(f"read-only output folder of `{name}`")
    disk = work / "disk"
    with small_disk(disk, 1 << 26):
        remount(disk, "ro")
        code, said = finish(start(command(disk)))
        locked.add(refused(code, said), said)
    return [row, locked]


def capped(name: str, command: Callable[[Path], tuple[object, ...]], reference: Whole, work: Path) -> Row:
    """Files that cannot grow (``ulimit -f``)."""
    row = Row(f"files that cannot grow in `{name}` (RLIMIT_FSIZE)")
    for size in (2_000, 60_000):
        folder = fresh(work / "capped")
        limits = (size, size)
        code, said = finish(
            start(command(folder), lambda limits=limits: resource.setrlimit(resource.RLIMIT_FSIZE, limits))
        )
        visible = [p.name for p in folder.iterdir() if not p.name.startswith(".")]
        row.add(refused(code, said) and not visible, said)
    return row


def changing(command: Callable[[Path], tuple[object, ...]], work: Path) -> Row:
    """An input that somebody writes to while it is read."""
    row = Row("input that changes while `fit` reads it")
    for _ in range(3):
        folder = fresh(work / "changing")
        source = folder / "in.vcf.gz"
        shutil.copy(EXAMPLE, source)
        process = start(tuple(source if a == EXAMPLE else a for a in command(folder)))
        while process.poll() is None:
            os.utime(source)
            time.sleep(0.002)
        code, said = finish(process)
        row.add(refused(code, said) and "changed while it was read" in said and not (folder / "out").exists(), said)
    return row


def damaged(
    command: Callable[[Path], tuple[object, ...]], reference: Whole, work: Path, rng: random.Random
) -> list[Row]:
    """A checkpoint, drafts and model files with a byte changed, or cut."""
    checkpoint = Row("damaged checkpoint (a byte changed, or cut), then the same command")
    folder = fresh(work / "damaged")
    process = start(command(folder))
    kept = folder / ".out.partial" / "checkpoint.safetensors"
    while process.poll() is None and not kept.exists():
        time.sleep(0.002)
    process.send(signal.SIGKILL)
    finish(process)
    sound = kept.read_bytes()
    for k in range(8):
        at = rng.randrange(len(sound))
        fresh(kept.parent)
        bad = sound[:at] if k % 4 == 3 else sound[:at] + bytes([sound[at] ^ 1 << rng.randrange(8)]) + sound[at + 1 :]
        kept.write_bytes(bad)
        code, said = finish(start(command(folder)))
        checkpoint.add(code == 0 and digests(folder / "out") == reference.digests, f"byte {at}: {said}")
        shutil.rmtree(folder / "out", ignore_errors=True)
    files = Row("model file with one bit changed, cut, or of another model: `inspect` refuses")
    for k in range(24):
        changed = work / "changed"
        shutil.rmtree(changed, ignore_errors=True)
        shutil.copytree(work / "model", changed)
        name = ("model.json", "sites.json", "weights.safetensors")[k % 3]
        content = (changed / name).read_bytes()
        at = rng.randrange(len(content))
        bad = (
            content[:at] if k >= 18 else content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]
        )
        (changed / name).write_bytes(bad)
        code, said = finish(start(("inspect", changed)))
        files.add(refused(code, said), f"{name} byte {at}: {said}")
    return [checkpoint, files]


def twice(command: Callable[[Path], tuple[object, ...]], work: Path) -> Row:
    """A second run into the folder of one at work."""
    row = Row("a second run into the same folder: refused, the first ends well")
    for _ in range(3):
        folder = fresh(work / "twice")
        first = start(command(folder))
        while first.poll() is None and not (folder / ".out.partial" / "lock").exists():
            time.sleep(0.01)
        code, said = finish(start(command(folder)))
        ended, wrong = finish(first)
        row.add(refused(code, said) and ended == 0, f"{said} {wrong}")
    return row


def allow(megabytes: int) -> None:
    """Limits this process to so much beyond the address space that it has."""
    has = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    most = has + megabytes * 1_000_000
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def little_memory(work: Path) -> Row:
    """Less memory than the run is said to take (``ulimit -v``)."""
    row = Row("less memory than is needed: refused before training")
    people = work / "many.vcf.gz"
    if not people.exists():
        code, said = finish(start(("simulate", "coalescent", "--people", "1500", "--length", "3000000", "-o", people)))
        assert code == 0, said
    for megabytes in (380, 430):
        folder = fresh(work / "memory")
        arguments = ("fit", people, "-o", folder / "out", *TRAINING[2:])
        code, said = finish(start(arguments, partial(allow, megabytes)))
        row.add(refused(code, said) and "needs about" in said, said)
    return row


def no_memory(work: Path) -> Row:
    """Memory that ends on the way, where --ignore-memory was said."""
    row = Row("memory ends on the way (--ignore-memory): one line, nothing half-written")
    people = work / "many.vcf.gz"
    for megabytes in (100, 200, 300):
        folder = fresh(work / "memory")
        arguments = ("fit", people, "-o", folder / "out", *TRAINING[2:], "--ignore-memory")
        code, said = finish(start(arguments, partial(allow, megabytes)))
        lines = [line for line in said.splitlines() if "warning" not in line]
        row.add(refused(code, "\n".join(lines)) and "out of memory" in said and not (folder / "out").exists(), said)
    return row


def main() -> None:
    """Injects, counts, writes ``faults.json`` and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--only", default="kill,signal,disk,limit,input,damage,twice,memory")
    parser.add_argument("--command", choices=("synthesize", "fit", "sample"), help="disturb this one alone")
    parser.add_argument("--times", type=int, default=10, help="kills of each command; signals a third of it")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    work, rng, chosen = given.output, random.Random(given.seed), given.only.split(",")
    work.mkdir(parents=True, exist_ok=True)
    runs = commands(work)
    disturbed = [name for name in runs if given.command in (None, name)]
    references = {name: undisturbed(name, command, work) for name, command in runs.items() if name in disturbed}
    for name, reference in references.items():
        print(f"{name}: {reference.seconds:.0f} s, {reference.most / 1e6:.1f} MB at most", flush=True)
    written = work / "faults.json"
    rows: list[dict[str, object]] = json.loads(written.read_text()) if written.exists() else []

    def note(*found: Row) -> None:
        new = {row.fault for row in found}
        rows[:] = [r for r in rows if r["fault"] not in new] + [dict(vars(row)) for row in found]
        written.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")

    parts = {"kill": (signal.SIGKILL, given.times), "signal": (None, max(1, given.times // 3))}
    for part, (how, times) in parts.items():
        for sign in [how] if how else [signal.SIGINT, signal.SIGTERM]:
            for name in disturbed if part in chosen else ():
                note(stop(name, runs[name], references[name], work, times=times, how=sign, rng=rng))
    try:
        for name in disturbed if "disk" in chosen else ():
            note(*full(name, runs[name], references[name], work))
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"disk: left out, no file system may be mounted here ({error})")
    for name in disturbed if "limit" in chosen else ():
        note(capped(name, runs[name], references[name], work))
    if "input" in chosen:
        note(changing(runs["fit"], work))
    if "damage" in chosen and "fit" in disturbed:
        note(*damaged(runs["fit"], references["fit"], work, rng))
    if "twice" in chosen:
        note(twice(runs["fit"], work))
    if "memory" in chosen:
        note(little_memory(work), no_memory(work))
    print("| fault | injected | survived | data lost |\n|---|---:|---:|---:|")
    for row in rows:
        print(f"| {row['fault']} | {row['injected']} | {row['survived']} | {row['lost']} |")


if __name__ == "__main__":
    main()
