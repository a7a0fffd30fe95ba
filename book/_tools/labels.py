"""What the pages of the book, its labels and its citations stand for: titles, numbers and addresses.

Sphinx knows all this while it builds the site. A chapter that is exported as a notebook (notebooks.py) needs it without
Sphinx, so it is read here from the sources, in the order of _toc.yml and numbered as on the site.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from posixpath import dirname, join, normpath

import jupytext
import yaml
from docutils.nodes import make_id
from pybtex.database import Entry, parse_file

ROOT = Path(__file__).resolve().parents[2]
CLAIMS_PAGE = "book/claims"  # its rows are labels that no source spells out: {ref}`A12 <claim-a12>`
GLOSSARY = "book/glossary"

TITLE = re.compile(r"^# (.+)$", re.MULTILINE)
LABEL = re.compile(
    r"^\((?P<section>[\w.:-]+)\)=\s*^#+ (?P<title>.+)$"
    r"|^[`:]{3,}\{exercise(?:-start)?\}[^\n]*\n:label: (?P<exercise>[\w.:-]+)"
    r"|^[`:]{3,}\{math\}[^\n]*\n:label: (?P<math>[\w.:-]+)"
    r"|\$\$ *\((?P<equation>[\w.:-]+)\)"
    r"|^#\| *label: *(?P<figure>[\w.:-]+)",
    re.MULTILINE,
)
NAMES = {"figure": "Fig. {}", "exercise": "Exercise {}", "equation": "({})", "math": "({})"}


class ExportError(ValueError):
    """One line about the page and what in it cannot become plain Markdown."""


@dataclass(frozen=True)
class Label:
    """A place in the book. `text` is how prose names it: "Fig. 12", "Exercise 3", "(4)", a section's title."""

    page: str
    text: str
    number: int  # 0 for a section


@dataclass
class Book:
    """All pages in order, by their names in _toc.yml, those that are exported, and what can be referred to."""

    pages: list[str]
    exported: list[str]
    repository: str  # the address of the repository, "" if nobody has named it
    site: str  # the address of the published pages, "" if it is not known
    titles: dict[str, str] = field(default_factory=dict)
    labels: dict[str, Label] = field(default_factory=dict)
    citations: dict[str, Entry] = field(default_factory=dict)

    def address(self, page: str, anchor: str = "") -> str:
        """Of a published page, or "" where the site is not known."""
        return f"{self.site}/{page}.html{anchor and f'#{anchor}'}" if self.site else ""

    def doc(self, target: str, page: str) -> str:
        """The page that {doc}`target` means on a page."""
        name = target.lstrip("/") if target.startswith("/") else normpath(join(dirname(page), target))
        if name not in self.titles:
            raise ExportError(f"{page}: {{doc}}`{target}` is not a page of _toc.yml")
        return name

    def label(self, target: str, page: str) -> Label:
        if target.startswith("claim-"):
            return Label(CLAIMS_PAGE, target.removeprefix("claim-").upper(), 0)
        if target not in self.labels:
            raise ExportError(f"{page}: no label {target!r} in the book")
        return self.labels[target]

    def term(self, name: str) -> str:
        return self.address(GLOSSARY, make_id(f"term-{name}"))


def load(root: Path = ROOT, also: Sequence[str] = ()) -> Book:
    """Read the book whose _toc.yml lies in a folder. also: chapters that are not in it yet."""
    toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
    pages, exported = _pages(toc, root)
    pages += also
    book = Book(pages, exported, *_addresses(config))
    counts: Counter[str] = Counter()
    for page in pages:
        _scan(book, page, _source(root, page), counts)
    for file in config["sphinx"]["config"]["bibtex_bibfiles"]:
        book.citations |= parse_file(str(root / file), bib_format="bibtex").entries
    return book


def _pages(toc: dict, root: Path) -> tuple[list[str], list[str]]:
    """All pages, and the chapters among them: scripts, but for the reference part's, which show records of runs."""
    pages, exported = [toc["root"]], [toc["root"]]
    for part in toc["parts"]:
        names = [chapter["file"] for chapter in part["chapters"]]
        pages += names
        if part.get("numbered", True):
            exported += names
    return pages, [page for page in exported if (root / f"{page}.py").is_file()]


def _addresses(config: dict) -> tuple[str, str]:
    """Of the repository ($SAE_CORE_REPOSITORY, else repository.url of _config.yml), and of its site."""
    repository = os.environ.get("SAE_CORE_REPOSITORY") or config["repository"]["url"]
    repository = repository.rstrip("/").removesuffix(".git")
    pages = re.fullmatch(r"https://github\.com/([\w.-]+)/([\w.-]+)", repository)
    published = f"https://{pages[1].lower()}.github.io/{pages[2]}" if pages else ""
    return repository, (config["html"].get("baseurl") or published).rstrip("/")


def _source(root: Path, page: str) -> str:
    """A page's prose and, of its code, the lines that label figures."""
    script, prose = root / f"{page}.py", root / f"{page}.md"
    if prose.is_file():
        return prose.read_text(encoding="utf-8")
    if not script.is_file():
        raise ExportError(f"{page}: is in _toc.yml, and there is no such file")
    cells = jupytext.read(script, fmt="py:percent").cells
    return "\n\n".join(cell.source if cell.cell_type == "markdown" else "\n".join(_options(cell)) for cell in cells)


def _options(cell) -> Iterator[str]:
    return (line for line in cell.source.splitlines() if line.startswith("#|"))


def _scan(book: Book, page: str, source: str, counts: Counter[str]) -> None:
    title = TITLE.search(source)
    if not title:
        raise ExportError(f"{page}: has no title")
    book.titles[page] = title[1]
    for found in LABEL.finditer(source):
        kind = found.lastgroup if found.lastgroup != "title" else "section"
        if kind == "section":
            book.labels[found["section"]] = Label(page, found["title"], 0)
            continue
        counted = "equation" if kind == "math" else kind
        counts[counted] += 1
        book.labels[found[kind]] = Label(page, NAMES[kind].format(counts[counted]), counts[counted])
