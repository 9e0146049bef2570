"""The arrows between the packages point one way, and the sources speak only of the project.

Imports are read with ``ast``, so a wrong arrow is found even in a module nobody imports, and inside functions too.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

HEAVY = frozenset(
    ("torch", "pandas", "sklearn", "matplotlib", "allel", "anndata", "scipy", "numpy", "cyvcf2", "pysam", "jinja2")
)
"""What takes long to import; ``genodiff --help`` must not wait for any of it."""

LIGHT = [
    *(
        ROOT / "genodiff" / name
        for name in ("__init__.py", "__main__.py", "baselines/__init__.py", "utility/__init__.py")
    ),
    *sorted((ROOT / "genodiff" / "cli").glob("**/*.py")),
]
"""What is imported before a command runs, or for the help of a group."""


@dataclass(frozen=True)
class Import:
    """One imported module: who imports it, where, and whether already at import of the module itself."""

    importer: str
    name: str
    line: int
    at_import: bool

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.name}"

    def is_in(self, *packages: str) -> bool:
        """Whether the imported module is one of ``packages`` or lies inside one."""
        return any(self.name == p or self.name.startswith(p + ".") for p in packages)


def module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path, root: Path = ROOT) -> list[Import]:
    """Every import of a file, absolute, those under ``if TYPE_CHECKING`` left out."""
    package = ".".join(path.relative_to(root).parent.parts)
    importer = module_name(path, root)
    found: list[Import] = []

    def visit(node: ast.AST, at_import: bool) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.orelse:
                visit(child, at_import)
            return
        if isinstance(node, ast.Import):
            found.extend(Import(importer, alias.name, node.lineno, at_import) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            # `from a import b` may import the module a.b, so that is what the arrows are checked on.
            found.extend(Import(importer, f"{base}.{alias.name}", node.lineno, at_import) for alias in node.names)
        inside = at_import and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            visit(child, inside)

    visit(ast.parse(path.read_text(encoding="utf-8")), True)
    return found


def imports_below(*folders: str) -> Iterator[Import]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield from imports_of(path)


def assert_none(wrong: list[Import]) -> None:
    assert not wrong, "\n".join(map(str, wrong))


def test_data_prep_stands_alone() -> None:
    assert_none([i for i in imports_below("data_prep") if i.is_in("torch", "genodiff", "imaging")])


def test_core_knows_neither_genomes_nor_images() -> None:
    ours = [i for i in imports_below("genodiff/core") if i.is_in("genodiff", "data_prep", "imaging")]
    assert_none([i for i in ours if not i.is_in("genodiff.core")])


def test_imaging_builds_on_core_alone() -> None:
    ours = [i for i in imports_below("imaging") if i.is_in("genodiff", "data_prep")]
    assert_none([i for i in ours if not i.is_in("genodiff.core")])


def test_genodiff_does_not_know_imaging() -> None:
    assert_none([i for i in imports_below("genodiff") if i.is_in("imaging")])


@pytest.mark.parametrize("package", ["evaluation", "report", "utility"])
def test_judging_needs_no_torch(package: str) -> None:
    assert_none([i for i in imports_below(f"genodiff/{package}") if i.is_in("torch", "genodiff.core")])


def test_utility_builds_on_judging_alone() -> None:
    ours = [i for i in imports_below("genodiff/utility") if i.is_in("genodiff")]
    allowed = ["utility", "evaluation", "report.style", "files", "loading", "provenance", "staging"]
    assert_none([i for i in ours if not i.is_in(*(f"genodiff.{name}" for name in allowed))])


def test_only_main_imports_the_command_line() -> None:
    everywhere = imports_below("genodiff", "data_prep", "imaging")
    users = [i for i in everywhere if i.is_in("genodiff.cli") and not i.importer.startswith("genodiff.cli")]
    assert_none([i for i in users if i.importer != "genodiff.__main__"])


@pytest.mark.parametrize("file", LIGHT, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_command_line_starts_light(file: Path) -> None:
    assert_none([i for i in imports_of(file) if i.at_import and i.is_in(*HEAVY)])


def test_the_files_that_start_are_those_looked_at() -> None:
    names = {str(path.relative_to(ROOT / "genodiff")) for path in LIGHT}
    assert {"__init__.py", "__main__.py", "cli/__init__.py", "cli/options.py", "cli/commands.py"} <= names


def test_importing_the_command_line_loads_nothing_heavy() -> None:
    code = "import sys, genodiff.cli; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not HEAVY & set(run.stdout.split())


def test_the_reader_of_imports_sees_all_kinds(tmp_path: Path) -> None:
    """The tests above pass on an empty list too, so the reader is checked on a file with every kind of import."""
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    (folder / "c.py").write_text(
        "import os.path\n"
        "from x import y\n"
        "from . import near\n"
        "from ..up import thing\n"
        "if TYPE_CHECKING:\n    import only_types\nelse:\n    import not_types\n"
        "class K:\n    import in_class\n    def f(self):\n        import late\n"
    )
    found = {i.name: i.at_import for i in imports_of(folder / "c.py", tmp_path)}
    assert found == {
        "os.path": True,
        "x.y": True,
        "a.b.near": True,
        "a.up.thing": True,
        "not_types": True,
        "in_class": True,
        "late": False,
    }


def project_files() -> list[Path]:
    """The files git knows or would take in; without git, the files of a source tree."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        run = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git work tree")
    return [ROOT / name for name in run.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


def test_no_file_speaks_of_one_machine() -> None:
    # The words are put together here, or this file would be the first to hold them.
    banned = [("/work" + "/").encode()]
    banned += [
        host.encode() for host in ("pypi" + ".org", "pythonhosted" + ".org", "anaconda" + ".org", "npmjs" + ".com")
    ]
    wrong = []
    for path in project_files():
        content = path.read_bytes()
        wrong += [f"{path.relative_to(ROOT)} holds {word.decode()}" for word in banned if word in content]
    assert not wrong, "\n".join(wrong)
