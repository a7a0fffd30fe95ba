"""Every chapter runs as a notebook from top to bottom, on the embedded text, in quick mode."""

from pathlib import Path

import jupytext
import pytest
from nbmake.nb_run import NotebookRun

ROOT = Path(__file__).resolve().parents[1]
BOOK = ROOT / "book"
# Folders that begin with an underscore hold no chapters; book/_template.py is one, for whoever adds the next.
CHAPTERS = sorted(
    path for path in BOOK.rglob("*.py") if not any(part.startswith("_") for part in path.relative_to(BOOK).parts[:-1])
)
SECONDS_A_CELL = 600


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.relative_to(BOOK).as_posix())
def test_chapter_runs(chapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SAE_CORE_CORPUS", raising=False)
    monkeypatch.setenv("SAE_CORE_MODE", "quick")
    monkeypatch.setenv("SAE_CORE_CLAIMS", str(tmp_path / "claims"))  # not among those of the book's build
    notebook = tmp_path / f"{chapter.stem}.ipynb"
    jupytext.write(jupytext.read(chapter, fmt="py:percent"), notebook)
    error = NotebookRun(notebook, SECONDS_A_CELL, kernel="python3").execute().error
    assert error is None, f"{error.summary}\n{error.trace}"
