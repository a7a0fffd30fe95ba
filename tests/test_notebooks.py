"""Every chapter runs from top to bottom as the notebook that Colab opens, on the embedded text, in quick mode.

The notebooks run in a clean environment, in which their first cell has to install sae_core, and google.colab can be
imported. To save the minutes that torch takes, the environment sees the packages of the one that runs the tests.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import exercises
import labels
import notebooks
import pytest
from labels import Book
from nbmake.nb_run import NotebookRun

ROOT = Path(__file__).resolve().parents[1]
BOOK = ROOT / "book"
TEMPLATE = "book/_template"  # no page, but the next chapter begins as its copy
# Folders that begin with an underscore hold no chapters. From the last to the first: another worker builds the book
# from the first on, so that each finds in the cache what the other has counted.
CHAPTERS = sorted(
    path.relative_to(ROOT).with_suffix("").as_posix()
    for path in BOOK.rglob("*.py")
    if not any(part.startswith("_") for part in path.relative_to(BOOK).parts[:-1])
)[::-1]
SECONDS_A_CELL = 600


@dataclass(frozen=True)
class Clean:
    """An environment without sae_core, as a kernel named "clean"; `repository` is what its notebooks install from."""

    python: Path
    repository: Path
    environment: dict[str, str]


@pytest.fixture(scope="session")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clean]:
    folder = tmp_path_factory.mktemp("clean")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    packages = next((folder / "venv").glob("[Ll]ib/**/site-packages"))
    # A folder named in a .pth file is searched, but its own .pth files are not read: sae_core, which is installed in
    # place where the tests run, stays out of sight.
    seen = dict.fromkeys(sysconfig.get_paths()[name] for name in ("purelib", "platlib"))
    (packages / "tests.pth").write_text("\n".join(seen))
    (folder / "fake" / "google" / "colab").mkdir(parents=True)
    (folder / "fake" / "google" / "colab" / "__init__.py").touch()
    repository = folder / "repository"  # a copy, because pip builds in the folder that it installs from
    shutil.copytree(ROOT / "sae_core", repository / "sae_core", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, repository)
    # "0" turns the isolation off (pip's own riddle): no index is asked for the builder, which is here already.
    environment = {"PYTHONPATH": str(folder / "fake"), "PIP_NO_BUILD_ISOLATION": "0", "PIP_NO_INDEX": "1"}
    python = folder / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    spec = {
        "argv": [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "clean",
        "language": "python",
        "env": environment,
    }
    (folder / "kernels" / "clean").mkdir(parents=True)
    (folder / "kernels" / "clean" / "kernel.json").write_text(json.dumps(spec))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(folder))
        yield Clean(python, repository, environment)


@pytest.fixture(scope="session")
def book(clean: Clean) -> Book:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAE_CORE_REPOSITORY", str(clean.repository))
        return labels.load(also=[TEMPLATE])


def test_set_up_installs_sae_core_and_nothing_else(clean: Clean, book: Book) -> None:
    """The first cell, where sae_core is missing and where it is there; torch and numpy stay."""
    ask = "import google.colab, torch, numpy; print(torch.__version__, numpy.__version__)"
    where = "import sae_core; print(sae_core.__file__)"

    def run(source: str) -> subprocess.CompletedProcess:
        environment = {**os.environ, **clean.environment}
        command = [clean.python, "-c", source]
        return subprocess.run(command, env=environment, cwd=clean.python.parent, capture_output=True, text=True)

    before = run(ask)
    assert before.returncode == 0, before.stderr
    assert run(where).returncode != 0
    set_up = notebooks.set_up_cell(book).source
    first = run(set_up)
    torch, numpy = before.stdout.split()
    assert first.stdout.startswith("Installed sae_core "), first.stderr
    assert f"left torch {torch} and numpy {numpy} as they were" in first.stdout
    assert run(ask).stdout == before.stdout
    assert Path(run(where).stdout.strip()).is_relative_to(clean.python.parents[1])
    assert run(set_up).stdout == "sae_core is there already; nothing was installed.\n"


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda page: page.removeprefix("book/"))
def test_chapter_runs(chapter: str, book: Book, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SAE_CORE_CORPUS", raising=False)
    monkeypatch.setenv("SAE_CORE_MODE", "quick")
    monkeypatch.setenv("SAE_CORE_CLAIMS", str(tmp_path / "claims"))  # not among those of the book's build
    path = tmp_path / "chapter.ipynb"
    notebooks.write(notebooks.export(book, chapter, tests=True), path)
    # Reference pages are not exported: some show files of the repository, which only this environment sees.
    kernel = "clean" if chapter in (*book.exported, TEMPLATE) else "python3"
    result = NotebookRun(path, SECONDS_A_CELL, kernel=kernel).execute()
    assert result.error is None, f"{result.error.summary}\n{result.error.trace}"
    assert exercises.unproven((ROOT / f"{chapter}.py").read_text(encoding="utf-8"), result.nb) == []
