"""Reads a chapter (a Jupytext percent script) for MyST-NB, and decides when its outputs are stale.

MyST-NB caches outputs by a chapter's own cells and kernelspec. What a chapter prints also depends on the package, its
weights, the text and the mode, so `reads` adds a digest of all of these to the kernelspec, and `setup` hands the same
digest to Sphinx, which otherwise would not read an unchanged chapter again. A chapter that names claims.yml reads that
table, so its outputs are stale when the table is filled anew.

A code cell may begin with `#|` lines, which turn the figure that it displays into a numbered, captioned one:

    #| label: fig-density
    #| caption: How often each feature of {glue:text}`dictionary` fires.

Below every caption stands where the figure comes from: text, mode, commit and hardware (`sae_core.chapter.provenance`).
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

import jupytext
import nbformat
import yaml

ROOT = Path(__file__).resolve().parents[2]

# Runs first in every chapter's kernel. It looks for this folder from the chapter's, so that the cache key has no path.
BEFORE = """\
import pathlib, sys
here = pathlib.Path.cwd()
sys.path.append(str(next(folder / "_tools" for folder in (here, *here.parents) if (folder / "_tools").is_dir())))
import figures
figures.show_in_book()
del here"""
# Runs last, when the chapter has said which text it read.
AFTER = """\
from sae_core import chapter
chapter.provenance()"""
PROVENANCE = "\n\n{glue:text}`provenance`"  # a second paragraph of a caption is the figure's legend
CLAIMS = "claims.yml"
BOOK_ONLY = "book-only"  # the tag of these cells, which an exported notebook does not have


def digest(folder: Path, paths: Iterable[Path]) -> str:
    """SHA-256 of the names, relative to the folder, and the contents of files in it."""
    sha = hashlib.sha256()
    for path in sorted(path for path in paths if path.is_file() and path.suffix != ".pyc"):
        sha.update(f"{path.relative_to(folder)}\0{path.stat().st_size}\0".encode())
        sha.update(path.read_bytes())
    return sha.hexdigest()


@functools.cache
def state() -> str:
    """Everything besides its own source that decides what a chapter prints, as one hex digest."""
    from sae_core.corpus import open_corpus

    tools = [ROOT / "book" / "_tools" / name for name in ("reader.py", "figures.py")]
    parts = [
        digest(ROOT, [*(ROOT / "sae_core").rglob("*"), *tools, ROOT / "constraints.txt"]),
        digest(ROOT, [ROOT / "benchmarks" / "results.py", *(ROOT / "benchmarks" / "results").glob("*.json")]),
        open_corpus().identity,
        os.environ.get("SAE_CORE_MODE", "quick"),
    ]
    if own_weights := os.environ.get("SAE_CORE_HOME"):
        parts.append(digest(Path(own_weights), Path(own_weights).rglob("*")))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def figure_options(source: str) -> tuple[dict[str, str], str]:
    """The label and the caption that a cell's `#|` lines give its figure, if it has such lines, and the code below."""
    lines = source.splitlines()
    count = next((i for i, line in enumerate(lines) if not line.startswith("#|")), len(lines))
    if not count:
        return {}, source
    options = yaml.safe_load("\n".join(line.removeprefix("#|") for line in lines[:count]))
    if set(options) != {"label", "caption"}:
        raise ValueError(f"a figure's cell takes label and caption, not {', '.join(options)}")
    return options, "\n".join(lines[count:])


def _book_only(source: str) -> nbformat.NotebookNode:
    return nbformat.v4.new_code_cell(source, metadata={"tags": ["remove-cell", BOOK_ONLY]})


def reads(text: str, **_: object) -> nbformat.NotebookNode:
    """A chapter's source as a notebook."""
    notebook = jupytext.reads(text, fmt="py:percent")
    for cell in notebook.cells:
        if cell.cell_type == "code":
            options, cell.source = figure_options(cell.source)
            if options:  # where MyST-NB looks for them
                caption = options["caption"].strip() + PROVENANCE
                cell.metadata["mystnb"] = {"figure": {"name": options["label"], "caption": caption}}
            if "check" in cell.metadata.get("tags", ()):
                cell.metadata["mystnb"] = {"code_prompt_show": "The check", "code_prompt_hide": "The check"}
    notebook.metadata["kernelspec"] = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
        "state": state() + (digest(ROOT, [ROOT / CLAIMS]) if CLAIMS in text else ""),
    }
    notebook.cells = [_book_only(BEFORE), *notebook.cells, _book_only(AFTER)]
    return notebook


def _note_claims(app, _: str, source: list[str]) -> None:
    if CLAIMS in source[0]:
        app.env.note_dependency(str(ROOT / CLAIMS))


def setup(app) -> dict:
    for name in ("SAE_CORE_CORPUS", "SAE_CORE_HOME"):  # a kernel works in its chapter's folder
        if os.environ.get(name):
            os.environ[name] = os.path.abspath(os.environ[name])
    app.add_config_value("book_state", "", "env")
    app.connect("config-inited", lambda app, config: setattr(config, "book_state", state()))
    app.connect("source-read", _note_claims)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
