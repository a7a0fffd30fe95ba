"""Below the title of every chapter: open it in Colab, download it with its outputs, see its source.

The notebook with outputs is made here, when everything has been built, and lies beside the pages. The other two links
need the address of the repository (labels.py says where it comes from) and are left out where nobody has named one.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

import labels
import notebooks
from labels import ExportError
from sphinx.application import Sphinx
from sphinx.util import logging

FOLDER = "notebooks"  # of the site

logger = logging.getLogger(__name__)


def add_badges(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    book = app.book
    if page not in book.exported or "body" not in context:
        return
    notebook = context["pathto"](f"{FOLDER}/{page}.ipynb", resource=True)
    links = [_badge("Notebook with outputs", notebook, "download")]
    if colab := notebooks.colab_address(book, page):
        links = [_badge("Open in Colab", colab), *links, _badge("Source", f"{book.repository}/blob/main/{page}.py")]
    badges = f'<nav class="book-badges" aria-label="This chapter as a notebook">{"".join(links)}</nav>'
    context["body"] = context["body"].replace("</h1>", f"</h1>\n{badges}", 1)


def _badge(text: str, address: str, attributes: str = "") -> str:
    return f'<a href="{escape(address)}" {attributes}>{text}</a>'


def write_notebooks(app: Sphinx, exception: Exception | None) -> None:
    if exception or app.builder.format != "html":
        return
    for page in app.book.exported:
        try:
            run = notebooks.read_run(page, Path(app.env.mystnb_config.execution_cache_path))
            notebook = notebooks.export(app.book, page, run=run, outputs=True)
            notebooks.write(notebook, Path(app.outdir) / FOLDER / f"{page}.ipynb")
        except ExportError as error:
            logger.warning("%s", error, type="notebooks")


def read_book(app: Sphinx) -> None:
    app.book = labels.load()


def setup(app: Sphinx) -> dict:
    app.connect("builder-inited", read_book)
    app.connect("html-page-context", add_badges)
    app.connect("build-finished", write_notebooks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
