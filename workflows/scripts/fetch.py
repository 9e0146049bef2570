"""Fetches a file and keeps it only where its MD5 checksum is the one expected.

    python fetch.py URL DESTINATION                       no checksum: for a manifest
    python fetch.py URL DESTINATION --md5 HEX
    python fetch.py URL DESTINATION --manifest FILE       the line of FILE that names URL's file holds the checksum

URL may be https, http, ftp or file. A manifest is any text with a path and an MD5 in every line, such as ``md5sum``
writes or the ``current.tree`` of the 1000 Genomes site. Standard library only.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shutil
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import unquote, urlparse

_MD5 = re.compile(r"[0-9a-fA-F]{32}")


class Refusal(Exception):
    """What the user can mend, in one line."""


def expected(manifest: Path, url: str) -> str:
    """The checksum that a manifest gives for the file of a URL.

    Of several files of the same name counts the one whose path agrees with the URL for longest.

    Raises:
        Refusal: no line names the file with a checksum, or two that agree equally well differ.
    """
    path = unquote(urlparse(url).path)
    found: dict[str, int] = {}
    for line in manifest.read_text(encoding="utf-8", errors="replace").splitlines():
        fields = line.split()
        sums = [field for field in fields if _MD5.fullmatch(field)]
        names = [field.lstrip("*") for field in fields if Path(field.lstrip("*")).name == Path(path).name]
        if sums and names:
            shared = _shared_folders(names[0], path)
            found[sums[0].lower()] = max(shared, found.get(sums[0].lower(), 0))
    best = [md5 for md5, shared in found.items() if shared == max(found.values())]
    if len(best) != 1:
        what = f"{len(best)} different checksums" if best else "no checksum"
        raise Refusal(f"{manifest} gives {what} for {Path(path).name}: give it in the configuration (download: md5)")
    return best[0]


def _shared_folders(one: str, other: str) -> int:
    """How many last parts two paths have in common."""
    pairs = zip(reversed(Path(one).parts), reversed(Path(other).parts), strict=False)
    return next((k for k, (a, b) in enumerate(pairs) if a != b), min(len(Path(one).parts), len(Path(other).parts)))


def fetch(url: str, destination: Path, md5: str | None) -> None:
    """Writes the file beside its destination and moves it there once it is whole and right.

    Raises:
        Refusal: it cannot be fetched, or its checksum is another.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.md5()
    with tempfile.NamedTemporaryFile(dir=destination.parent, prefix=f".{destination.name}-", delete=False) as kept:
        temporary = Path(kept.name)
        try:
            with urllib.request.urlopen(url, timeout=60) as source:
                size = source.headers.get("Content-Length")
                while chunk := source.read(1 << 20):
                    digest.update(chunk)
                    kept.write(chunk)
            kept.close()
            got = temporary.stat().st_size
            if size is not None and int(size) != got:
                raise Refusal(f"{url} broke off after {got:,} of {int(size):,} bytes: run again")
            if md5 is not None and digest.hexdigest() != md5.lower():
                raise Refusal(
                    f"{url} has the MD5 {digest.hexdigest()} where {md5.lower()} is expected: it was not kept"
                )
            temporary.chmod(0o644)
            shutil.move(temporary, destination)
        except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
            reason = getattr(error, "reason", error)
            raise Refusal(f"{url} cannot be fetched ({reason}): check the address and the network") from error
        finally:
            temporary.unlink(missing_ok=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Fetch a file and verify its MD5 checksum.")
    parser.add_argument("url")
    parser.add_argument("destination", type=Path)
    given = parser.add_mutually_exclusive_group()
    given.add_argument("--md5")
    given.add_argument("--manifest", type=Path)
    o = parser.parse_args()
    try:
        fetch(o.url, o.destination, expected(o.manifest, o.url) if o.manifest else o.md5)
    except Refusal as refusal:
        print(f"fetch: {refusal}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
