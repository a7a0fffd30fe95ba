"""Prints the built book to one PDF, and links it from the book's first page.

    python book/_tools/pdf.py [SITE]

The chapters of the pages in _build/html are put behind one another, in light colours and without what only a screen
needs, and Chromium prints them as book/_static/print.css says. It draws the figures as it does on the pages. It prints
twice: the first time tells on which pages the chapters begin, which the contents of the second one say.
"""

from __future__ import annotations

import posixpath
import re
import shutil
import sys
from dataclasses import dataclass
from html import escape
from io import BytesIO
from pathlib import Path
from urllib.parse import unquote, urlparse

import yaml
from bs4 import BeautifulSoup, Tag
from pypdf import PdfReader

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "_build" / "html"
NAME = "one-layer-many-features.pdf"
BROWSERS = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]
WIDTH = 658  # of the text in CSS pixels: A4 without the margins of print.css
SECONDS = 600
# Links to a place beside a heading, folded code, a figure's words, buttons: for the screen.
SCREEN_ONLY = (
    ".headerlink, .book-badges, .book-pdf, details.hide.above-input, .book-figure > details, .claims-show, "
    "script:not([type='application/json'])"
)
PAGE = """<!DOCTYPE html>
<html lang="en" data-theme="light" data-mode="light">
<head><meta charset="utf-8"><title>{title}</title>{styles}
<link rel="stylesheet" href="_static/print.css">
<script defer src="_static/plotly.min.js"></script><script defer src="_static/figures.js"></script></head>
<body class="bd-content"><header class="print-title"><h1>{title}</h1><p>{author}</p><p>{about}</p></header>
<nav class="print-contents" aria-labelledby="contents"><h2 id="contents">Contents</h2>{contents}</nav>
{chapters}</body></html>
"""


@dataclass(frozen=True)
class Part:
    """A part of the book: its caption, and its pages' names."""

    caption: str
    pages: list[str]


def parts_of_the_book() -> list[Part]:
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    rest = [Part(part["caption"], [chapter["file"] for chapter in part["chapters"]]) for part in toc["parts"]]
    return [Part("", [toc["root"]]), *rest]


def find_browser() -> str | None:
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def assemble(site: Path, parts: list[Part], numbers: dict[str, int]) -> str:
    """The pages of the parts as one page of HTML. numbers: the printed page on which a chapter begins, by its name."""
    names = [name for part in parts for name in part.pages]
    soups = {name: BeautifulSoup((site / f"{name}.html").read_text(encoding="utf-8"), "html.parser") for name in names}
    chapters = [_chapter(soups[name], name, names) for name in names]
    contents = ""
    for part in parts:
        lines = (_line(name, soups[name], numbers.get(_anchor(name))) for name in part.pages)
        contents += f"<h3>{escape(part.caption)}</h3><ol>{''.join(lines)}</ol>"
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    first = soups[names[0]]
    updated = first.find("meta", attrs={"name": "docbuild:last-update"})
    styles = [link["href"] for link in first.select("link[rel=stylesheet]")]
    return PAGE.format(
        title=escape(config["title"]),
        author=escape(config["author"]),
        about=f"Built on {updated['content']}" if updated else "",
        styles="".join(f'<link rel="stylesheet" href="{_from_root(names[0], style)}">' for style in styles),
        contents=contents,
        chapters="".join(map(str, chapters)),
    )


def _chapter(soup: BeautifulSoup, name: str, names: list[str]) -> Tag:
    """A page's article, with ids and addresses that hold in the whole."""
    article = soup.select_one("article.bd-article")
    for tag in article.select(SCREEN_ONLY):
        tag.decompose()
    for tag in article.select("details"):
        tag["open"] = ""
    for tag in article.select("[id]"):
        tag["id"] = _anchor(name, tag["id"])
    for tag in article.select("a[href]"):
        address = urlparse(tag["href"])
        if not address.scheme:
            target = posixpath.normpath(posixpath.join(posixpath.dirname(name), address.path)) if address.path else name
            page = target.removesuffix(".html")
            if page in names:
                tag["href"] = "#" + _anchor(page, unquote(address.fragment))
            else:
                del tag["href"]  # the search, the index, notebooks: not in print
    for tag in article.select("[src]"):
        tag["src"] = _from_root(name, tag["src"])
    article["id"] = _anchor(name)
    return article


def _anchor(name: str, place: str = "") -> str:
    return "--".join(filter(None, [name.replace("/", "-"), place]))


def _from_root(name: str, address: str) -> str:
    return address if urlparse(address).scheme else posixpath.normpath(posixpath.join(posixpath.dirname(name), address))


def _line(name: str, soup: BeautifulSoup, number: int | None) -> str:
    title = escape(soup.h1.get_text().strip())
    return f'<li><a href="#{_anchor(name)}"><span>{title}</span> <span>{number or ""}</span></a></li>'


def print_pages(site: Path, html: str, browser: str) -> bytes:
    """The PDF of a page of HTML that lies at the root of the site while it is printed."""
    from playwright.sync_api import sync_playwright

    path = site / "print.html"
    path.write_text(html, encoding="utf-8")
    try:
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
            page = chromium.new_page(viewport={"width": WIDTH, "height": 1000}, color_scheme="light")
            page.set_default_timeout(SECONDS * 1000)
            page.emulate_media(media="print")
            page.goto(path.as_uri())
            page.wait_for_function("document.querySelectorAll('.book-figure:not([data-drawn])').length === 0")
            printed = page.pdf(prefer_css_page_size=True, print_background=True, outline=True, tagged=True)
            chromium.close()
    finally:
        path.unlink()
    return printed


def make(site: Path, parts: list[Part], browser: str) -> bytes:
    """The book as a PDF."""
    numbers: dict[str, int] = {}
    for _ in range(2):
        printed = print_pages(site, assemble(site, parts, numbers), browser)
        reader = PdfReader(BytesIO(printed))
        places = reader.named_destinations.items()
        numbers = {name.lstrip("/"): reader.get_destination_page_number(place) + 1 for name, place in places}
    return printed


def link(page: str, size: int) -> str:
    """A page's HTML with a line below its title that leads to the PDF."""
    page = re.sub(r'<p class="book-pdf">.*?</p>\n', "", page)
    line = f'<p class="book-pdf"><a href="../{NAME}">The book as a PDF</a> ({size / 1e6:.1f} MB)</p>\n'
    return page.replace("</h1>\n", f"</h1>\n{line}", 1)


def main(arguments: list[str]) -> int:
    site = Path(arguments[0]) if arguments else SITE
    browser = find_browser()
    if browser is None:
        print(f"pdf: no browser to print with; install one of {', '.join(BROWSERS)}", file=sys.stderr)
        return 2
    parts = parts_of_the_book()
    missing = [name for part in parts for name in part.pages if not (site / f"{name}.html").is_file()]
    if missing:
        print(f"pdf: {site} has no {missing[0]}.html; build the book first", file=sys.stderr)
        return 2
    printed = make(site, parts, browser)
    (site / NAME).write_bytes(printed)
    first = site / f"{parts[0].pages[0]}.html"
    first.write_text(link(first.read_text(encoding="utf-8"), len(printed)), encoding="utf-8")
    print(f"{site / NAME}: {len(PdfReader(BytesIO(printed)).pages)} pages")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
