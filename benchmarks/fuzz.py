"""Damaged and hostile input files against the commands: ``python benchmarks/fuzz.py --minutes 40 -o runs/fuzz``.

Sound files of every kind that is read are changed at random, by bytes, fields, lines and tokens, and given to a command
in a process of its own. A case survives if the command succeeds, or ends with status 2 and one line. Anything else is a
find: a traceback, a signal (a crash in a library), a run that goes on, memory beyond a limit. Finds are told apart by
where they happen, made smaller, and kept in ``finds/``. Files with checksums are changed inside and sealed again, as
somebody would who means harm.

Cases are numbered, and each is drawn with a generator of its own: ``--only KIND:NUMBER`` repeats one.
``--replay FOLDER`` gives every file of a folder of finds to its command again.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import gc
import gzip
import hashlib
import io
import json
import os
import random
import re
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pysam
import torch
from click.testing import CliRunner

from genodiff import pipeline
from genodiff.cli import main as genodiff
from genodiff.genotypes.store import _DIGEST_KEY, _header_digest

SECONDS = 20
"""Of the processor, after which a case counts as hanging; a sound file takes less than one."""

PATIENCE = 30.0
"""Seconds by the clock for one of the processor: the machine may have more to do."""

MEMORY = 2 << 30
"""Bytes of address space a case may take beyond those of this process."""

TOKENS = (
    b"", b".", b"0", b"1", b"-1", b"0|1", b"0/1", b"./.", b"1|1|1", b"2|0", b"99999999999999999999", b"2147483648",
    b"-2147483649", b"1e999", b"nan", b"inf", b"\t", b"\n", b"\r\n", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b",", b" ",
    b"<DEL>", b"*", b"[22:1[", b"GT", b"GT:DP", b"##contig=<ID=22>\n", b"##FORMAT=<ID=GT,Number=2,Type=Integer>\n",
    b"#CHROM", b"##", b"%s", b"../../x", b"A" * 5000, "\u202e\u0660".encode(), b"sample", b"pop", b"cM", b"chr22",
    b"22",
)  # fmt: skip

NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 40, 2**63 - 1)

VALUES: tuple[Any, ...] = (
    None, True, 0, 1, -1, 2, 10**9, 10**12, 10**400, -(10**30), 0.5, 1e308, float("nan"), float("inf"), "", "x", "22",
    "<b>", "\x00", "../x", [], [0], [1, 2, 3], [[]], [None], {}, {"a": 1},
)  # fmt: skip


# Changes ------------------------------------------------------------------------------------------------------------


def change_bytes(data: bytes, rng: random.Random) -> bytes:
    """One to six changes of bytes: bits, runs, cuts, copies, and numbers of 1 to 8 bytes at their extremes."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        at, length = rng.randrange(len(out) + 1), min(len(out), rng.choice((1, 1, 2, 4, 16, 100)))
        kind = rng.randrange(8)
        if kind == 0 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and at < len(out):
            out[at] = rng.randrange(256)
        elif kind == 2:
            size, order = rng.choice((1, 2, 4, 8)), rng.choice(("little", "little", "big"))
            out[at : at + size] = (rng.choice(NUMBERS) % (1 << 8 * size)).to_bytes(size, order)  # type: ignore[arg-type]
        elif kind == 3:
            del out[at : at + length]
        elif kind == 4:
            out[at:at] = out[at : at + length]
        elif kind == 5:
            out[at:at] = rng.randbytes(length)
        elif kind == 6:
            source = rng.randrange(len(out) + 1)
            out[at : at + length] = out[source : source + length]
        elif rng.random() < 0.3:
            del out[at:]
    return bytes(out)


def change_text(data: bytes, rng: random.Random) -> bytes:
    """One to four changes of fields and lines, or of bytes."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        lines = data.splitlines(keepends=True)
        if not lines or rng.random() < 0.25:
            data = change_bytes(data, rng)
            continue
        # The header is short beside the records and as easy to get wrong.
        last_header = max((i for i, line in enumerate(lines) if line.startswith(b"#")), default=0)
        j = rng.randrange(last_header + 1) if rng.random() < 0.4 else rng.randrange(len(lines))
        fields = re.split(rb"([\t ,;:=<>|/])", lines[j])
        k, kind = rng.randrange(len(fields)), rng.randrange(9)
        if kind <= 2:
            fields[k] = rng.choice(TOKENS)
        elif kind == 3:
            del fields[k]
        elif kind == 4:
            fields.insert(k, rng.choice(TOKENS))
        elif kind == 5:
            other = rng.randrange(len(fields))
            fields[k], fields[other] = fields[other], fields[k]
        lines[j] = b"".join(fields)
        if kind == 6:
            lines.insert(j, rng.choice(lines))
        elif kind == 7:
            del lines[j]
        elif kind == 8:
            other = rng.randrange(len(lines))
            lines[j], lines[other] = lines[other], lines[j]
        data = b"".join(lines)
    return data


def change_json(data: bytes, rng: random.Random) -> bytes:
    """One to three values of a JSON document replaced, removed, doubled, or moved; sometimes the text itself."""
    if rng.random() < 0.1:
        return change_text(data, rng)
    tree = json.loads(data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        holder, key = tree, None
        while isinstance(holder, dict | list) and holder:
            above, key = holder, rng.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
            holder = above[key]
            if rng.random() < 0.3:
                break
        if key is None:
            return json.dumps(rng.choice(VALUES)).encode()
        kind = rng.randrange(5)
        if kind <= 2:
            above[key] = copy.deepcopy(rng.choice(VALUES))
        elif kind == 3:
            del above[key]
        elif isinstance(above, list):
            above.insert(key, copy.deepcopy(above[key]))
        elif isinstance(above[key], int | float):
            above[key] = -above[key] * rng.choice((1, 2, 1e6))
    return json.dumps(tree).encode()


def change_tensors(data: bytes, rng: random.Random) -> bytes:
    """The header of a safetensors file, or its bytes."""
    (length,) = struct.unpack_from("<Q", data)
    if rng.random() < 0.3:
        return change_bytes(data, rng)
    header, body = data[8 : 8 + length], data[8 + length :]
    if rng.random() < 0.3:  # only the numbers: bits of floats, indices out of range
        return data[: 8 + length] + change_bytes(body, rng)[: len(body)].ljust(len(body), b"\xff")
    header = change_json(header, rng)
    said = len(header) if rng.random() < 0.9 else rng.choice(NUMBERS)
    return struct.pack("<Q", said) + header + body


# Kinds of files -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """A kind of file that is read.

    Attributes:
        name: what it is called here.
        seeds: sound contents.
        change: makes another content from one.
        use: gives the content to a command, in a scratch folder; called in the process of the case.
        weight: how often it is drawn, relative to the others.
    """

    name: str
    seeds: tuple[bytes, ...]
    change: Callable[[bytes, random.Random], bytes]
    use: Callable[[bytes, Path], None]
    weight: float = 1.0


def command(*arguments: object) -> None:
    """A command as from the shell: it ends this process."""
    genodiff([str(a) for a in arguments])


def bgzip(data: bytes, path: Path) -> Path:
    """Compressed with sound checksums."""
    with pysam.BGZFile(str(path), "wb") as stream:
        stream.write(data)
    return path


def vcf(people: int = 24, sites: int = 24, *, contig: str = "22", seed: int = 1, plain: bool = False) -> bytes:
    """A small VCF, phased and complete, or else with everything that occurs."""
    rng = random.Random(seed)
    lines = [
        "##fileformat=VCFv4.2", '##FILTER=<ID=PASS,Description="All filters passed">', "##reference=GRCh37",
        f"##contig=<ID={contig},length=51304566>", '##INFO=<ID=AC,Number=A,Type=Integer,Description="Count">',
        '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">',
        '##FORMAT=<ID=DP,Number=1,Type=Integer,Description="Depth">',
        "\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT",
                   *(f"P{i:03d}" for i in range(people))]),
    ]  # fmt: skip
    for j in range(sites):
        alt = "C" if plain or rng.random() < 0.85 else rng.choice(["C,G", "<DEL>", "CAT", "."])
        bar = "|" if plain or rng.random() < 0.8 else "/"
        calls = [bar.join(str(rng.randrange(2)) for _ in range(2)) for _ in range(people)]
        depth = not plain and rng.random() < 0.5
        if not plain and rng.random() < 0.3:
            calls[rng.randrange(people)] = rng.choice([".", "./.", "1", "0|.", "."])
        calls = [f"{call}:{rng.randrange(40)}" if depth else call for call in calls]
        keys = "GT:DP" if depth else "GT"
        lines.append("\t".join([contig, str(1000 + 100 * j), f"rs{j}", "A", alt, ".", "PASS", "AC=3", keys, *calls]))
    return ("\n".join(lines) + "\n").encode()


def bcf(text: bytes, scratch: Path) -> bytes:
    """The uncompressed bytes of the same file in BCF."""
    source, target = scratch / "seed.vcf", scratch / "seed.bcf"
    source.write_bytes(text)
    with pysam.VariantFile(str(source)) as given, pysam.VariantFile(str(target), "wb", header=given.header) as made:
        for record in given:
            made.write(record)
    return gzip.decompress(target.read_bytes())


def seal_model(folder: Path) -> None:
    """Gives the header of a changed model folder the hashes it should have."""
    file = folder / "model.json"
    with contextlib.suppress(ValueError, OSError, RecursionError):
        header = json.loads(file.read_bytes())
        if not isinstance(header, dict):
            return
        if isinstance(header.get("sha256"), dict):
            for name in set(header["sha256"]) & {"weights.safetensors", "sites.json"}:
                header["sha256"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        header[_DIGEST_KEY] = _header_digest(header)
        file.write_text(json.dumps(header))


def kinds(scratch: Path) -> list[Kind]:
    """Every kind of file, with its sound examples, which are made here."""
    scratch.mkdir(parents=True, exist_ok=True)
    texts = (vcf(), vcf(plain=True, seed=2), vcf(people=3, sites=400, contig="chr22", seed=3))
    base = scratch / "people.vcf"
    base.write_bytes(vcf(plain=True, sites=30, seed=4))
    names = [f"P{i:03d}" for i in range(24)]
    labels = ["EUR" if i % 2 else "AFR" for i in range(24)]
    indexed = bgzip(vcf(people=4, sites=900, plain=True, seed=5), scratch / "indexed.vcf.gz")
    pysam.tabix_index(str(indexed), preset="vcf", force=True)
    index = gzip.decompress(Path(f"{indexed}.tbi").read_bytes())
    pysam.tabix_index(str(indexed), preset="vcf", force=True, csi=True)
    csi = gzip.decompress(Path(f"{indexed}.csi").read_bytes())
    Path(f"{indexed}.csi").unlink()
    model = scratch / "model"
    if not model.exists():
        made = CliRunner().invoke(
            genodiff, ["fit", str(base), "-o", str(model), "--preset", "fast", "--steps", "2", "--threads", "1"]
        )
        assert made.exit_code == 0, made.output
    genomes = io.BytesIO()
    rows = np.random.default_rng(1).integers(0, 2, (96, 12)).astype(np.int8)
    np.savez(genomes, real=rows, gan=rows, rbm=rows)
    deflated = io.BytesIO()
    np.savez_compressed(deflated, real=rows, gan=rows, rbm=rows)
    legend = scratch / "genomes.legend"
    lines = [f"22:rs{j} {1000 + j} A C" for j in range(12)]
    legend.write_text("id position a0 a1\n" + "\n".join(lines) + "\n")

    def written(name: str, *before: object, after: tuple[object, ...] = ()) -> Callable[[bytes, Path], None]:
        def use(content: bytes, folder: Path) -> None:
            path = folder / name
            path.write_bytes(content)
            command(*before, path, *after)

        return use

    def packed(name: str, *after: object) -> Callable[[bytes, Path], None]:
        return lambda content, folder: command("inspect", bgzip(content, folder / name), *after)

    def region(content: bytes, folder: Path) -> None:
        for path in (indexed, Path(f"{indexed}.tbi")):
            shutil.copy(path, folder / path.name)
        index_path = folder / f"{indexed.name}.tbi"
        index_path.write_bytes(content)
        command("inspect", folder / indexed.name, "--region", "22:30000-60000")

    def resealed(content: bytes, folder: Path) -> None:
        packed_index = bgzip(content, folder / "index")
        region(packed_index.read_bytes(), folder)

    def csi_resealed(content: bytes, folder: Path) -> None:
        shutil.copy(indexed, folder / indexed.name)
        bgzip(content, folder / f"{indexed.name}.csi")
        command("inspect", folder / indexed.name, "--region", "22:30000-60000")

    def of_model(name: str) -> Callable[[bytes, Path], None]:
        def use(content: bytes, folder: Path) -> None:
            shutil.copytree(model, folder / "model")
            (folder / "model" / name).write_bytes(content)
            seal_model(folder / "model")
            command("sample", folder / "model", "-n", "4", "-o", folder / "s.vcf", "--threads", "1")

        return use

    def unsealed(content: bytes, folder: Path) -> None:
        shutil.copytree(model, folder / "model")
        (folder / "model" / "model.json").write_bytes(content)
        command("inspect", folder / "model")

    def read_npz(content: bytes, folder: Path) -> None:
        from genodiff.reproduce.artificial_genomes import read_genomes

        path = folder / "ag.npz"
        path.write_bytes(content)
        refused(lambda: read_genomes(path, legend))

    def read_legend(content: bytes, folder: Path) -> None:
        from genodiff.reproduce.artificial_genomes import read_genomes

        npz, path = folder / "ag.npz", folder / "case.legend"
        npz.write_bytes(genomes.getvalue())
        path.write_bytes(content)
        refused(lambda: read_genomes(npz, path))

    panel = "sample\tpop\tsuper_pop\n" + "".join(
        f"{n}\t{lab[:2]}\t{lab}\n" for n, lab in zip(names, labels, strict=True)
    )
    maps = (
        "pos chr cM\n" + "".join(f"{900 + 500 * k} 22 {k / 7:.4f}\n" for k in range(20)),
        "".join(f"22 rs{k} {k / 7:.4f} {900 + 500 * k}\n" for k in range(20)),
    )
    draw = ("baseline", "li-stephens", base, "-n", "2", "--threads", "1", "-o")
    out = scratch / "never.vcf"  # refused or, in the folder of the case, replaced: see ``use``

    def drawn(option: str, name: str) -> Callable[[bytes, Path], None]:
        def use(content: bytes, folder: Path) -> None:
            path = folder / name
            path.write_bytes(content)
            command(*draw, folder / out.name, option, path)

        return use

    weights = (model / "weights.safetensors").read_bytes()
    header, sites = (model / "model.json").read_bytes(), (model / "sites.json").read_bytes()
    whole = tuple(bgzip(t, scratch / f"seed{k}.vcf.gz").read_bytes() for k, t in enumerate(texts))
    binary = tuple(bcf(t, scratch) for t in texts)
    sealed_bcf = tuple(bgzip(b, scratch / f"seed{k}.bcf").read_bytes() for k, b in enumerate(binary))
    return [
        Kind("vcf", texts, change_text, written("case.vcf", "inspect"), 3),
        Kind("vcf in a region", texts, change_text, written("case.vcf", "inspect", after=("--region", "22")), 1),
        Kind("vcf.gz sealed", texts, change_text, packed("case.vcf.gz"), 1),
        Kind("vcf.gz", whole, change_bytes, written("case.vcf.gz", "inspect")),
        Kind("bcf", sealed_bcf, change_bytes, written("case.bcf", "inspect")),
        Kind("bcf sealed", binary, change_bytes, packed("case.bcf"), 4),
        Kind("tabix index", (Path(f"{indexed}.tbi").read_bytes(),), change_bytes, region, 0.5),
        Kind("tabix index sealed", (index,), change_bytes, resealed, 2),
        Kind("csi index sealed", (csi,), change_bytes, csi_resealed),
        Kind("panel", (panel.encode(), panel.replace("\t", ",").encode()), change_text, drawn("--panel", "case.panel")),
        Kind("genetic map", tuple(m.encode() for m in maps), change_text, drawn("--map", "case.map")),
        Kind("sample list", ("\n".join(names[:4]).encode(),), change_text, drawn("--holdout-samples", "case.txt"), 0.5),
        Kind("model.json", (header,), change_bytes, unsealed, 0.5),
        Kind("model.json sealed", (header,), change_json, of_model("model.json"), 3),
        Kind("sites.json sealed", (sites,), change_json, of_model("sites.json"), 1.5),
        Kind("weights sealed", (weights,), change_tensors, of_model("weights.safetensors"), 2),
        Kind("npz", (genomes.getvalue(), deflated.getvalue()), change_bytes, read_npz),
        Kind("legend", (legend.read_bytes(),), change_text, read_legend, 0.5),
    ]


def refused(read: Callable[[], object]) -> None:
    """What the commands make of an error, for a reader whose command goes on for minutes."""
    try:
        read()
    except Exception as error:
        line = pipeline.as_user_error(error)
        if line is None:
            raise
        print(f"genodiff: {' '.join(line.split())}", file=sys.stderr)
        sys.exit(2)


def warm(chosen: list[Kind]) -> None:
    """Uses every kind once in this process, so that a case finds all modules loaded."""
    for kind in chosen:
        with (
            tempfile.TemporaryDirectory() as folder,
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.suppress(SystemExit),
        ):
            kind.use(kind.seeds[0], Path(folder))
    # What is frozen is not touched by collections, and so not copied for a process of a case.
    gc.collect()
    gc.freeze()


# Cases --------------------------------------------------------------------------------------------------------------


def outcome(kind: Kind, content: bytes, *, seconds: int = SECONDS) -> str | None:
    """``None`` where a case survives, else what happened and where, in a line that equal finds share."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    said = folder / ".said"
    try:
        sys.stdout.flush()
        child = os.fork()
        if not child:
            _case(kind, content, folder, said, seconds)
        status = _wait(child, PATIENCE * seconds)
        if status is None:
            return "hangs"
        text = said.read_text(errors="replace") if said.exists() else ""
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL):
            return "hangs"
        if os.WIFSIGNALED(status):
            return f"signal {signal.Signals(os.WTERMSIG(status)).name}"
        code, lines = os.WEXITSTATUS(status), text.splitlines()
        if code == 0:
            left = [line for line in lines if line.strip()]
            return f"succeeds and says: {_plain(left[0])}" if left else None
        if code == 2 and len(lines) == 1 and lines[0].startswith("genodiff: "):
            return "takes more memory than it may" if "out of memory" in lines[0] else None
        if lines and "Traceback" in text:
            places = re.findall(r'File "([^"]+)", line (\d+), in (\w+)', text)
            own = [p for p in places if re.search(r"/(genodiff|data_prep)/", p[0]) and "/cli/" not in p[0]]
            file, _, function = (own or places)[-1]
            return f"{lines[-1].split(':')[0]} in {Path(file).stem}.{function}"
        return f"status {code}: {_plain(lines[0]) if lines else 'silent'}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _plain(line: str) -> str:
    return re.sub(r"\d+|/\S+|'[^']*'", "…", line)[:90]


def _wait(child: int, seconds: float) -> int | None:
    until = time.monotonic() + seconds
    pause = 0.002
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        time.sleep(pause)
        pause = min(0.05, pause * 1.3)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def _case(kind: Kind, content: bytes, folder: Path, said: Path, seconds: int) -> None:
    """The process of one case; never returns."""
    code = 1
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * os.sysconf("SC_PAGE_SIZE") + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        handle = os.open(said, os.O_WRONLY | os.O_CREAT)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(handle, 2)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
        kind.use(content, folder)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stderr.flush()
        os._exit(code)


def smaller(kind: Kind, content: bytes, key: str, *, seconds: float = 6.0) -> bytes:
    """A shorter content with the same outcome, by taking runs of lines or bytes out."""
    until = time.monotonic() + seconds
    text = kind.change is change_text
    pieces = content.splitlines(keepends=True) if text else [content[i : i + 1] for i in range(len(content))]
    step = max(1, len(pieces) // 2)
    while step and time.monotonic() < until:
        at = 0
        while at < len(pieces) and time.monotonic() < until:
            fewer = pieces[:at] + pieces[at + step :]
            if outcome(kind, b"".join(fewer), seconds=5) == key:
                pieces = fewer
            else:
                at += step
        step //= 2
    return b"".join(pieces)


def main() -> None:
    """Run cases for some minutes; print and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kind", action="append", help="only kinds whose name holds this")
    parser.add_argument("--only", metavar="KIND:NUMBER", help="one case: print what happens, keep its file")
    parser.add_argument("--replay", type=Path, metavar="FOLDER", help="files of finds, and nothing else")
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    everything = kinds(given.output / "seeds")
    chosen = [k for k in everything if not given.kind or any(word in k.name for word in given.kind)]
    warm(chosen)
    for kind in chosen:
        for content in kind.seeds:
            wrong = outcome(kind, content)
            assert wrong is None, f"{kind.name}: a sound file {wrong}"
    if given.replay:
        sys.exit(min(1, replay(given.replay, everything)))
    finds = given.output / "finds"
    finds.mkdir(parents=True, exist_ok=True)
    if given.only:
        name, number = given.only.rsplit(":", 1)
        kind = next(k for k in everything if k.name == name)
        content = _content(kind, given.seed, int(number))
        (finds / f"{name.replace(' ', '-')}-{number}").write_bytes(content)
        kind.use(content, Path(tempfile.mkdtemp()))
        return
    counts: Counter[str] = Counter()
    found: dict[str, dict[str, Any]] = {}
    draw, began = random.Random(given.seed), time.monotonic()
    while (spent := time.monotonic() - began) < 60 * given.minutes:
        kind = draw.choices(chosen, [k.weight for k in chosen])[0]
        number = counts[kind.name]
        counts[kind.name] += 1
        content = _content(kind, given.seed, number)
        key = outcome(kind, content)
        if key is not None:
            name = f"{kind.name}: {key}"
            if name not in found:
                print(f"[{spent:.0f} s] {kind.name}:{number} {key}", flush=True)
                least = smaller(kind, content, key)
                file = f"{_slug(kind.name)}--{_slug(key)[:60]}"
                (finds / file).write_bytes(least)
                found[name] = {"first": number, "times": 0, "file": file, "bytes": len(least)}
            found[name]["times"] += 1
        if sum(counts.values()) % 200 == 0:
            _write(given.output, given.seed, spent, counts, found)
    _write(given.output, given.seed, time.monotonic() - began, counts, found)
    print(
        f"{sum(counts.values()):,} cases in {spent / 60:.1f} minutes, {len(found)} finds: {given.output / 'fuzz.json'}"
    )


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def replay(folder: Path, known: list[Kind]) -> int:
    """Gives every file of a folder to the command of its kind, by its name; returns how many do not survive."""
    by_name = {_slug(kind.name): kind for kind in known}
    files = sorted(path for path in folder.iterdir() if "--" in path.name)
    wrong = [(path.name, outcome(by_name[path.name.split("--")[0]], path.read_bytes())) for path in files]
    wrong = [(name, found) for name, found in wrong if found is not None]
    print("\n".join([*(f"{name}: {found}" for name, found in wrong), f"{len(files)} replayed, {len(wrong)} left"]))
    return len(wrong)


def _content(kind: Kind, seed: int, number: int) -> bytes:
    rng = random.Random(f"{kind.name} {seed} {number}")
    return kind.change(rng.choice(kind.seeds), rng)


def _write(output: Path, seed: int, seconds: float, counts: Counter[str], found: dict[str, dict[str, Any]]) -> None:
    facts = {
        "seed": seed, "minutes": round(seconds / 60, 1), "cases": sum(counts.values()), "by_kind": dict(counts),
        "finds": found,
    }  # fmt: skip
    (output / "fuzz.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
