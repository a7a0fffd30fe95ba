"""Exports the chapters as notebooks for Colab and JupyterLab: `make notebooks` writes them to _build/notebooks.

    python book/_tools/notebooks.py [--out FOLDER] [--outputs]

MyST becomes plain Markdown (plain.py), and the first cell installs sae_core (install.py). Where the site has been built
with the same chapter, text and mode, the prose has that build's numbers, and with --outputs the cells have its outputs.
Otherwise the prose has the names under which the cells print the numbers.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path

import jupytext
import labels
import nbformat
import reader
from jupyter_cache import get_cache
from labels import ROOT, Book, ExportError
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from plain import Page, anchor, details, link
from reader import figure_options

CACHE = ROOT / "_build" / ".jupyter_cache"  # the site's build leaves every page's outputs there
INSTALL = Path(__file__).with_name("install.py")
SOLUTION = re.compile(
    r"^(?P<fence>`{3,}|:{3,})\{solution-(?P<edge>start|end)\}[^\n]*\n(?:(?:(?!(?P=fence)).)*\n)*?(?P=fence)[ ]*$",
    re.MULTILINE,
)
FIGURE = re.compile(r'<div class="book-figure".*?<script type="application/json">(?P<data>.*?)</script>', re.DOTALL)
ALTERNATIVE = re.compile(r'aria-label="(?P<words>[^"]*)"')


def export(
    book: Book, page: str, *, run: Run | None = None, outputs: bool = False, tests: bool = False
) -> NotebookNode:
    """A chapter as a notebook.

    run: the site's, for the numbers in the prose and, with `outputs`, the cells' outputs.
    tests: keep the wrong answers with which the book tests its checks of exercises.

    Raises ExportError for prose that has no plain form, and for outputs that are not there.
    """
    source = jupytext.read(ROOT / f"{page}.py", fmt="py:percent")
    run = run or Run()
    if outputs and not run.outputs:
        raise ExportError(f"{page}: has not been built as it is now; `make book` comes before outputs")
    results = iter(run.outputs if outputs else [])
    prose = Page(page, book, run.values)
    cells, in_solution = [set_up_cell(book), about_cell(book, page, run)], False
    for cell in source.cells:
        if cell.cell_type == "markdown":
            texts, in_solution = _markdown(prose, cell.source, in_solution)
            cells += [new_markdown_cell(texts)] if texts else []
        elif cell.cell_type == "code":
            printed = readable(next(results, []))
            if tests or "wrong-answers" not in cell.metadata.get("tags", []):
                cells += _code(prose, cell, in_solution, printed)
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number}"  # the same in every export
    metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "language_info": {"name": "python"},
        "colab": {"provenance": [], "toc_visible": True},
    }
    return new_notebook(cells=cells, metadata=metadata)


# --- cells ----------------------------------------------------------------------------------------------------


def set_up_cell(book: Book) -> NotebookNode:
    """Installs sae_core where it is missing: install.py, without its docstring, behind the repository's address."""
    script = INSTALL.read_text(encoding="utf-8")
    script = script.removeprefix(f'"""{ast.get_docstring(ast.parse(script), clean=False)}"""').strip()
    source = f"REPOSITORY = {json.dumps(book.repository)}  # a web address, or the folder of a copy\n\n{script}"
    return fold("Set-up: run this cell first", new_code_cell(f"{source}\n\n\nprint(set_up(REPOSITORY))"))


def about_cell(book: Book, page: str, run: Run) -> NotebookNode:
    """Where the notebook comes from, and whose numbers are in the prose."""
    numbers = "A name in ⟨brackets⟩ stands for a number that a cell prints under this name."
    if run.values:
        where = run.values.get("provenance", "")
        numbers = f"Numbers in the prose are those of the book's own run{where and f' ({where})'}; cells print yours."
    origin = f"Made from {link('a chapter', book.address(page))} of the book “One layer, many features”."
    size = "The cells compute at the quick size; for the full one, run `%env SAE_CORE_MODE=full` in a cell first."
    return new_markdown_cell(f"*{origin} {numbers} {size}*")


def _markdown(prose: Page, source: str, in_solution: bool) -> tuple[str, bool]:
    """A cell of prose, what belongs to a solution folded, and whether the solution goes on after it."""
    made, start = [], 0
    for edge in [*SOLUTION.finditer(source), None]:
        text = prose.convert(source[start : edge.start() if edge else None]).strip()
        if text:
            made.append(details("Solution, explained", text) if in_solution else text)
        if edge:
            start, in_solution = edge.end(), edge["edge"] == "start"
    return "\n\n".join(made), in_solution


def _code(prose: Page, cell: NotebookNode, in_solution: bool, outputs: list) -> Iterator[NotebookNode]:
    """A cell of code, folded where reading it first would spoil or bore, and the caption of its figure."""
    options, source = figure_options(cell.source)
    tags = cell.metadata.get("tags", [])
    made = new_code_cell(source, outputs=outputs, metadata={"tags": tags} if tags else {})
    if in_solution:
        made = fold("Solution", made)
    elif "check" in tags:
        made = fold("Check your answer", made)
    elif "remove-cell" in tags:
        made = fold("Numbers for the text", made)
    yield made
    if options:
        number = prose.book.label(options["label"], prose.name).text
        caption = prose.convert(" ".join(options["caption"].split()))
        origin = f"<br><small>{prose.values.get('provenance', '')}</small>" if outputs else ""
        yield new_markdown_cell(f"{anchor(options['label'])}**{number}.** {caption}{origin}")


def fold(title: str, cell: NotebookNode) -> NotebookNode:
    """A cell whose code is folded: Colab shows the title and a button, JupyterLab the title."""
    if not cell.source.startswith("%%"):
        cell.source = f"# @title {title}\n{cell.source}"
    cell.metadata["cellView"] = "form"
    cell.metadata["jupyter"] = {"source_hidden": True}
    return cell


# --- a run of the book ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """What a build of the site left of a page: its glued numbers, and the outputs of its cells in their order."""

    values: Mapping[str, str] = field(default_factory=dict)
    outputs: tuple[list[NotebookNode], ...] = ()


def read_run(page: str, folder: Path = CACHE) -> Run:
    """A page's run with this code, text and mode, from the cache of the site's build; an empty one if none is there.

    Not from the notebook that MyST-NB writes beside it, which has no outputs if the page came from the cache itself.
    """
    if not folder.is_dir():
        return Run()
    chapter = reader.reads((ROOT / f"{page}.py").read_text(encoding="utf-8"))
    try:
        _, executed = get_cache(folder).merge_match_into_notebook(chapter)
    except KeyError:
        return Run()
    cells = [cell for cell in executed.cells if cell.cell_type == "code"]
    values = dict(glued for cell in cells for output in cell.outputs if (glued := _glued(output)))
    return Run(values, tuple(cell.outputs for cell in cells if reader.BOOK_ONLY not in cell.metadata.get("tags", [])))


def readable(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Outputs as any notebook shows them: figures as plotly's own, glued numbers as the lines that Colab prints."""
    made = []
    for output in outputs:
        html = output.get("data", {}).get("text/html", "")
        if glued := _glued(output):
            made.append(new_output("stream", name="stdout", text=f"{glued[0]}: {glued[1]}\n"))
        elif figure := FIGURE.search(html):
            words = unescape(ALTERNATIVE.search(html)["words"])
            data = {"application/vnd.plotly.v1+json": json.loads(figure["data"]), "text/plain": words}
            made.append(new_output("display_data", data=data))
        elif "scrapbook" not in output.get("metadata", {}):
            made.append(output)
    return made


def _glued(output: NotebookNode) -> tuple[str, str] | None:
    """The name and the value of a glued number; None for any other output, a glued record of a claim among them."""
    scrapbook = output.get("metadata", {}).get("scrapbook", {})
    if not scrapbook or scrapbook["name"].startswith("claim:"):
        return None
    return scrapbook["name"], ast.literal_eval(output.data[scrapbook["mime_prefix"] + "text/plain"])


# --- all of them ----------------------------------------------------------------------------------------------


def index(book: Book) -> str:
    """The front page of the branch that holds the notebooks."""
    chapters = ""
    for page in book.exported:
        colab = f" · [open in Colab]({address})" if (address := colab_address(book, page)) else ""
        chapters += f"- [{book.titles[page]}]({page}.ipynb){colab}\n"
    made = "Made from the book's sources by `make notebooks`; nothing here is edited by hand."
    return f"# The chapters as notebooks\n\n{made}\n\n{chapters}"


def colab_address(book: Book, page: str) -> str:
    """Where Colab opens a chapter from the `notebooks` branch; "" where the repository is not on GitHub."""
    github = "https://github.com/"
    if not book.repository.startswith(github):
        return ""
    path = book.repository.removeprefix(github)
    return f"https://colab.research.google.com/github/{path}/blob/notebooks/{page}.ipynb"


def write(notebook: NotebookNode, path: Path) -> None:
    nbformat.validate(notebook)
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "_build" / "notebooks", help="(default: _build/notebooks)")
    parser.add_argument("--outputs", action="store_true", help="keep the outputs of the last build of the site")
    options = parser.parse_args()
    try:
        book = labels.load()
        for page in book.exported:
            notebook = export(book, page, run=read_run(page), outputs=options.outputs)
            write(notebook, options.out / f"{page}.ipynb")
    except ExportError as error:
        print(f"notebooks: {error}", file=sys.stderr)
        return 1
    (options.out / "README.md").write_text(index(book), encoding="utf-8")
    print(f"{len(book.exported)} notebooks in {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
