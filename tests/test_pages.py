"""The book builds without a warning, and its pages work in a real browser from disk with the network off.

`make test` gives each file of tests to one worker (--dist loadfile), so that this one builds the book once.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "_build" / "html"
BROWSERS = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]
PARTS = yaml.safe_load((ROOT / "_toc.yml").read_text())
PAGES = [PARTS["root"], *(chapter["file"] for part in PARTS["parts"] for chapter in part["chapters"])]
SCREENS = {"wide": (1280, 900), "narrow": (360, 740)}
THEMES = ["light", "dark"]
LOAD_SECONDS = 60


@pytest.fixture(scope="session")
def build() -> subprocess.CompletedProcess:
    """Build the book as `make book` does, every page read anew, so that no warning hides behind an earlier build."""
    shutil.rmtree(SITE, ignore_errors=True)
    command = [Path(sys.executable).with_name("jupyter-book"), *"build . --all -W -n --keep-going".split()]
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.fixture(scope="session")
def browser(build: subprocess.CompletedProcess) -> Iterator:
    if build.returncode:
        pytest.skip("the book does not build")
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        missing = f"no browser to check the pages with: install one of {', '.join(BROWSERS)}"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


def test_book_builds_without_a_warning(build: subprocess.CompletedProcess) -> None:
    assert build.returncode == 0, build.stdout[-20_000:]
    assert {page for page in PAGES if (SITE / f"{page}.html").is_file()} == set(PAGES)


class Visit:
    """A page opened from disk; other hosts cannot be reached, and what was asked of them is in `external`."""

    def __init__(self, browser, path: Path, theme: str, screen: str) -> None:
        width, height = SCREENS[screen]
        self.external: list[str] = []
        self.errors: list[str] = []
        self.context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=theme)
        self.context.route("**/*", self._route)
        self.page = self.context.new_page()
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._listen)
        self.page.goto(path.as_uri(), wait_until="load")
        self.page.wait_for_function(
            "document.querySelectorAll('.book-figure:not([data-drawn])').length === 0", timeout=LOAD_SECONDS * 1000
        )

    def _listen(self, message) -> None:
        # sphinx-book-theme 1.1, the newest for Python 3.10, preloads its icons' fonts in a way that browsers refuse for
        # a page opened from disk; the icons are drawn all the same.
        if message.type == "error" and "fontawesome" not in message.text + message.location["url"]:
            self.errors.append(message.text)

    def _route(self, route) -> None:
        if urlparse(route.request.url).scheme in ("file", "data", "blob"):
            route.continue_()
        else:
            self.external.append(route.request.url)
            route.abort()

    def __call__(self, script: str):
        return self.page.evaluate(script)


@pytest.fixture
def visit(browser) -> Iterator:
    opened: list[Visit] = []

    def open_page(page: str, theme: str = "light", screen: str = "wide") -> Visit:
        opened.append(Visit(browser, SITE / f"{page}.html", theme, screen))
        return opened[-1]

    yield open_page
    for visit in opened:
        visit.context.close()


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("page", PAGES)
def test_page(visit, page: str, theme: str) -> None:
    """Nothing missing, nothing blank, no error, nothing from elsewhere."""
    seen = visit(page, theme)
    assert seen("document.documentElement.dataset.theme") == theme
    assert not seen.errors
    assert not seen.external

    # every figure has its drawing, and says in words what it shows
    blank = "[...document.querySelectorAll('.book-figure')].filter(f => !f.querySelector('.main-svg, canvas')).length"
    assert seen(blank) == 0
    wordless = "[...document.querySelectorAll('.book-figure')].filter(f => !f.ariaLabel.trim()).length"
    assert seen(wordless) == 0
    assert seen("[...document.images].filter(i => !i.hasAttribute('alt') || !i.naturalWidth).map(i => i.src)") == []

    # every equation is a <math> element that takes up room, and no TeX is left in the text
    unset = """[...document.querySelectorAll('.math')].filter(e => {
        const box = e.querySelector('math')?.getBoundingClientRect();
        const hidden = e.closest('.toggle-hidden, details:not([open])');
        return !hidden && !(box && box.width > 0 && box.height > 0); }).map(e => e.textContent)"""
    assert seen(unset) == []
    # (in the prose, that is: cells show snippets of a text in which LaTeX and the word "nan" are at home)
    prose = seen("""(() => {
        const copy = document.querySelector('.bd-article').cloneNode(true);
        copy.querySelectorAll('.cell').forEach(cell => cell.remove());
        return copy.textContent; })()""")
    assert "\\frac" not in prose and "\\mathbf" not in prose
    assert "nan" not in prose.split()


@pytest.mark.parametrize("page", PAGES)
def test_page_fits_a_narrow_screen(visit, page: str) -> None:
    seen = visit(page, screen="narrow")
    width = SCREENS["narrow"][0]
    wide = f"[...document.querySelectorAll('.bd-main *')].filter(e => e.getBoundingClientRect().right > {width})"
    assert seen("document.documentElement.scrollWidth") <= width, seen(f"{wide}.map(e => e.outerHTML.slice(0, 200))")


@pytest.mark.parametrize("page", PAGES)
def test_figures_follow_the_theme(visit, page: str) -> None:
    """The text in a figure is dark on the light page and light on the dark one, also when the reader switches."""
    seen = visit(page, "light")
    ink = "[...document.querySelectorAll('.book-figure-plot')].map(plot => plot.layout.font.color)"
    before = seen(ink)
    seen("document.documentElement.dataset.theme = 'dark'")
    seen.page.wait_for_timeout(300)
    assert all(light != dark for light, dark in zip(before, seen(ink), strict=True))
    assert not seen.errors


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(visit, page: str) -> None:
    """Links within the book reach a file and, where they name one, a place in it."""
    seen = visit(page)
    for link in seen("[...document.querySelectorAll('a[href]')].map(a => a.href)"):
        address = urlparse(link)
        if address.scheme != "file":
            continue
        target = Path(unquote(address.path))
        assert target.is_file(), link
        if address.fragment and target.suffix == ".html":
            assert f'id="{unquote(address.fragment)}"' in target.read_text(encoding="utf-8"), link
