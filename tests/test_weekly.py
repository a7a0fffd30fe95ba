"""The weekly report names what changed and what failed."""

import importlib.util
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def drift() -> ModuleType:
    spec = importlib.util.spec_from_file_location("drift", ROOT / ".ci" / "drift.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_versions_that_differ_are_named(drift: ModuleType) -> None:
    numpy, torch = (metadata.version(name).split("+")[0] for name in ("numpy", "torch"))
    constraints = f"# comment\nnumpy==0.1\ntorch=={torch}\nno-such-package==1.0\nnumpy==9 ; python_version < '3'\n"
    assert drift.changes(constraints) == [("numpy", "0.1", numpy), ("no-such-package", "1.0", "not installed")]


def test_failures_are_named(drift: ModuleType, tmp_path: Path) -> None:
    report = tmp_path / "tests.xml"
    assert len(drift.failures(report)) == 1  # nothing ran
    report.write_text(
        '<testsuite><testcase classname="tests.a" name="good"/>'
        '<testcase classname="tests.a" name="bad"><failure message="one&#10;two">trace</failure></testcase>'
        '<testcase classname="tests.b" name="broken"><error message="">trace</error></testcase></testsuite>'
    )
    assert drift.failures(report) == ["`tests.a::bad`: one", "`tests.b::broken`"]


def test_workflows_call_what_is_there() -> None:
    """Every make target and every program of the repository that a workflow runs exists."""
    targets = {line.split(":")[0] for line in (ROOT / "Makefile").read_text().splitlines() if line[:1].islower()}
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        for job in yaml.safe_load(path.read_text())["jobs"].values():
            words = [word for step in job["steps"] for word in step.get("run", "").split()]
            assert {after for word, after in zip(words, words[1:], strict=False) if word == "make"} <= targets, path
            for word in words:
                assert not word.startswith(".ci/") or (ROOT / word).is_file(), (path, word)
