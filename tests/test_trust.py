"""Files are data: no reader runs what is in them, and none asks for memory because a file says so."""

from __future__ import annotations

import ast
import json
import os
import shutil
import signal
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from data_prep.errors import InputError
from genodiff.core.training import TrainingConfig, Workers, train
from genodiff.genotypes import config, store
from genodiff.genotypes.engine import AlleleProblem
from genodiff.loading import unchanged
from tests.commands import ROOT, TINY, TRAINING, People, assert_refusal, run, tree

PACKAGES = ("data_prep", "genodiff", "imaging", "benchmarks")
FORBIDDEN = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "joblib"}


def calls_that_execute(source: str) -> list[str]:
    """Imports and calls that run code out of a file, or may."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            found += [name for name in modules if name.split(".")[0] in FORBIDDEN]
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            options = {word.arg: ast.unparse(word.value) for word in node.keywords}
            loads = name in (
                "torch.load",
                "torch.hub.load",
                "torch.jit.load",
                "yaml.load",
                "eval",
                "exec",
                "pd.read_pickle",
            )
            if loads or options.get("allow_pickle", "False") != "False" or options.get("weights_only") == "False":
                found.append(f"{name} in line {node.lineno}")
    return found


def test_the_guard_sees_what_it_is_there_for() -> None:
    for source in (
        "import pickle",
        "torch.load(p)",
        "np.load(p, allow_pickle=True)",
        "from joblib import load",
        "exec(s)",
    ):
        assert calls_that_execute(source), source
    assert not calls_that_execute("np.load(p, allow_pickle=False)\njson.load(f)")


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_that_is_read_is_run(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert len(files) > 5
    assert {str(p): found for p in files if (found := calls_that_execute(p.read_text(encoding="utf-8")))} == {}


@pytest.fixture
def model(fitted: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(fitted, tmp_path / "model"))


def forge(model: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes the header and gives it, and the files it vouches for, the hashes they should have."""
    header = json.loads((model / "model.json").read_text())
    change(header)
    header["sha256"] = {name: store.sha256(model / name) for name in store._HASHED}
    header[store._DIGEST_KEY] = store._header_digest(header)
    (model / "model.json").write_text(json.dumps(header))


FORGED: dict[str, Callable[[dict[str, Any]], object]] = {
    "network of petabytes": lambda h: h["config"]["network"].update(width=9_999_999),
    "embeddings of petabytes": lambda h: h.update(conditions=[9_999_999]),
    "number beyond floats": lambda h: h.update(counts=[10**400]),
    "number beyond all": lambda h: h["config"].update(sampling_steps=10**30),
    "endless walk": lambda h: h["config"].update(sampling_steps=10**6),
    "blocks that go back": lambda h: h.update(bounds=[0, 60, 10]),
    "labels that are numbers": lambda h: h.update(labels=[1, 2]),
    "anchor that is not there": lambda h: h["combinations"][0].__setitem__(1, 999),
    "line end in the header": lambda h: h.update(vcf_header=["##contig=<ID=22>\n#CHROM"]),
    "no configuration": lambda h: h.pop("config"),
    "no noise levels": lambda h: h["config"].update(lowest_noise=1e200),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_header_is_refused(model: Path, name: str) -> None:
    forge(model, FORGED[name])
    result = run("inspect", model)
    assert_refusal(result.exit_code, result.stderr, model, "cannot rebuild it")


def test_weights_that_claim_terabytes_are_refused(model: Path) -> None:
    for header in (
        {"x": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}},
        {"x": {"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 16]}},
    ):
        text = json.dumps(header).encode()
        (model / "weights.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(16))
        forge(model, lambda _: None)
        result = run("inspect", model)
        assert_refusal(result.exit_code, result.stderr, model)
    (model / "weights.safetensors").write_bytes(struct.pack("<Q", 2**60))
    forge(model, lambda _: None)
    result = run("inspect", model)
    assert_refusal(result.exit_code, result.stderr, model)


@pytest.mark.parametrize("content", ["[" * 100_000, "9" * 5000, '{"format": 1e999}', "\ud800"])
def test_json_that_breaks_parsers_is_refused(model: Path, content: str) -> None:
    (model / "model.json").write_bytes(content.encode("utf-8", "surrogatepass"))
    result = run("inspect", model)
    assert_refusal(result.exit_code, result.stderr, "model.json")


def test_an_input_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.vcf"

    def appended() -> None:
        path.write_text("ab")

    def replaced() -> None:
        other = tmp_path / "y"
        other.write_text("a")
        other.replace(path)

    for change in (appended, replaced, path.unlink, lambda: os.utime(path, ns=(1, 1))):
        path.write_text("a")
        with pytest.raises(InputError, match=r"x\.vcf changed while it was read"), unchanged([path, None]):
            change()
    path.write_text("a")
    with unchanged([path]):
        assert path.read_text() == "a"


@pytest.mark.parametrize("command", ["fit", "evaluate", "baseline"])
def test_commands_notice_that_an_input_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: None, command: str
) -> None:
    import genodiff.loading

    people, others = People().write(tmp_path), People(prefix="Q", seed=9).write(tmp_path, "others.vcf")
    true_read = genodiff.loading.read_variants

    def read(path: Path, **options: Any) -> Any:
        out = true_read(path, **options)
        with people.open("a") as file:
            file.write("\n")
        return out

    monkeypatch.setattr(genodiff.loading, "read_variants", read)
    arguments = {
        "fit": ("fit", people, *TRAINING),
        "evaluate": ("evaluate", "--synthetic", people, "--train", people, "--holdout", others),
        "baseline": ("baseline", "bootstrap", people),
    }[command]
    output = tmp_path / ("s.vcf" if command == "baseline" else "out")
    result = run(*arguments, "-o", output)
    assert_refusal(result.exit_code, result.stderr, people, "changed while it was read")
    assert tree(tmp_path) == {"people.vcf", "others.vcf"}


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_that_is_asked_to_end_keeps_its_state_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, status: int
) -> None:
    """No checkpoint is due before the signal: it is written because of it, after the step it came in."""
    seldom = replace(TINY, training=replace(TINY.training, checkpoint_seconds=1e9))
    monkeypatch.setitem(config.PRESETS, "fast", seldom)
    true_loss, calls = AlleleProblem.loss, []

    def loss(self: AlleleProblem, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 7:
            signal.raise_signal(number)
        return true_loss(self, *arguments)

    monkeypatch.setattr(AlleleProblem, "loss", loss)
    command = ("fit", People().write(tmp_path), "-o", tmp_path / "model", *TRAINING)
    # A shell starts what it puts into the background with Ctrl-C ignored.
    before = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    inherited = signal.signal(number, before)
    try:
        result = run(*command)
        assert signal.getsignal(number) is before
    finally:
        signal.signal(number, inherited)
    assert result.exit_code == status
    assert len(result.stderr.splitlines()) == 1
    assert "the same command goes on" in result.stderr
    kept = tmp_path / ".model.partial" / "checkpoint.safetensors"
    assert tree(tmp_path) == {"people.vcf", ".model.partial", ".model.partial/checkpoint.safetensors"}
    with safe_open(kept, framework="pt") as handle:
        assert json.loads(handle.metadata()["state"])["steps"] == 7


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_is_ignored_does_not_end_training_half_way(number: signal.Signals) -> None:
    """A shell ignores Ctrl-C in what it starts in the background: half a training must not pass for a whole one."""

    class Halving:
        def __init__(self, weight: torch.Tensor) -> None:
            self.weight, self.calls = weight, 0

        def loss(self, generator: torch.Generator, workers: Workers) -> torch.Tensor:
            self.calls += 1
            if self.calls == 3:
                signal.raise_signal(number)
            return self.weight.square().sum()

        def validation(self) -> float:
            return float(self.weight.detach().square().sum())

    inherited = signal.signal(number, signal.SIG_IGN)
    module = torch.nn.Linear(2, 1, bias=False)
    try:
        result = train(module, Halving(module.weight), TrainingConfig(steps=8), seed=1)
        assert signal.getsignal(number) is signal.SIG_IGN
        signal.signal(number, lambda *_: None)
        with pytest.raises(KeyboardInterrupt):
            train(module, Halving(module.weight), TrainingConfig(steps=8), seed=1)
    finally:
        signal.signal(number, inherited)
    assert result.steps == 8
