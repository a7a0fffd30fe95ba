"""The book builds without a warning, and its pages work in a real browser from disk with the network off.

`make test` gives each file of tests to one worker (--dist loadfile), so that this one builds the book once. It also
opens every page once for each view, some pages at a time, and the tests read what was seen.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import shutil
import subprocess
import sys
import unicodedata
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import exercises
import jupytext
import pdf
import pytest
import yaml
from pypdf import PdfReader

pytestmark = pytest.mark.timeout(3000)  # the first test waits for the book to be built, chapter after chapter

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "_build" / "html"
PARTS = yaml.safe_load((ROOT / "_toc.yml").read_text())
PAGES = [PARTS["root"], *(chapter["file"] for part in PARTS["parts"] for chapter in part["chapters"])]
GENERATED = ["genindex", "search"]
LABELS = {  # of the exercises of each page that has any
    f"book/{name}": labels
    for name, (source, _) in exercises.chapters(ROOT).items()
    if f"book/{name}" in PAGES
    and (labels := [each.label for each in exercises.read(jupytext.reads(source, fmt="py:percent"))[0]])
}
VIEWS = {"light": (1280, 900), "dark": (1280, 900), "narrow": (360, 740)}
AT_A_TIME = min(2, os.cpu_count() or 1)
LOAD_SECONDS = 120
FIRST_PAGE_BYTES = 500_000

# What a page shows, asked of the page itself.
QUESTIONS = {
    "theme": "document.documentElement.dataset.theme",
    "figures": "document.querySelectorAll('.book-figure').length",
    "drawn": "[...document.querySelectorAll('.book-figure')].filter(f => f.querySelector('.main-svg, canvas')).length",
    "wordless": "[...document.querySelectorAll('.book-figure')].filter(f => !f.ariaLabel.trim()).length",
    "labelled": "[...document.querySelectorAll('figure[id]')].filter(f => f.querySelector('.main-svg, canvas'))"
    ".flatMap(f => [f.id, ...[...f.querySelectorAll('[id]')].map(e => e.id)])",
    "bad_images": "[...document.images].filter(i => !i.hasAttribute('alt') || !i.naturalWidth).map(i => i.src)",
    "equations": "document.querySelectorAll('div.math').length",
    # an equation is a <math> element that takes up room, unless it is folded away
    "unset": """[...document.querySelectorAll('.math')].filter(e => {
        const box = e.querySelector('math')?.getBoundingClientRect();
        const hidden = e.closest('.toggle-hidden, details:not([open])');
        return !hidden && !(box && box.width > 0 && box.height > 0); }).map(e => e.textContent)""",
    # cells show snippets of a text in which LaTeX and the word "nan" are at home
    "prose": """(() => { const copy = document.querySelector('.bd-article, main').cloneNode(true);
        copy.querySelectorAll('.cell, .math').forEach(part => part.remove());
        return copy.textContent; })()""",
    "width": "document.documentElement.scrollWidth",
    "wide": "[...document.querySelectorAll('.bd-main *')].filter(e => e.getBoundingClientRect().right > innerWidth)"
    ".map(e => e.outerHTML.slice(0, 200))",
    "links": "[...document.querySelectorAll('a[href]')].map(a => a.href)",
    "ink": "[...document.querySelectorAll('.book-figure-plot')].map(plot => plot.layout.font.color)",
}
UNFOLD = """() => {
    document.querySelectorAll('details').forEach(e => e.open = true);
    document.querySelectorAll('.toggle-hidden').forEach(e => e.classList.remove('toggle-hidden')); }"""
# axe-core takes most of a look, and most of that for code, each word of which is an element: of every colour that code
# has on a page, the first word stays.
THIN_CODE = """() => {
    const met = new Set();
    const words = document.querySelectorAll('.highlight span');
    words.forEach(e => met.has(e.className) ? e.remove() : met.add(e.className)); }"""
# Everything once; the other views repeat what the theme or the width decides.
AXE_RULES = {"light": None, "dark": ["color-contrast"], "narrow": ["scrollable-region-focusable", "target-size"]}


@pytest.fixture(scope="session")
def build() -> subprocess.CompletedProcess:
    """Build the book as `make book` does, every page read anew, so that no warning hides behind an earlier build."""
    shutil.rmtree(SITE, ignore_errors=True)
    command = [Path(sys.executable).with_name("jupyter-book"), *"build . --all -W -n --keep-going".split()]
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.fixture(scope="session")
def program(build: subprocess.CompletedProcess) -> str:
    """The browser."""
    if build.returncode:
        pytest.skip("the book does not build")
    program = pdf.find_browser()
    if program is None:
        missing = f"no browser to check the pages with: install one of {', '.join(pdf.BROWSERS)}"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    return program


class Visit:
    """A page opened from disk; other hosts cannot be reached, and what was asked of them is in `external`."""

    def __init__(self, browser, page: str, view: str, query: str = "") -> None:
        width, height = VIEWS[view]
        self.view = view
        self.external: list[str] = []
        self.errors: list[str] = []
        self.files: list[Path] = []
        self.context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme="dark" if view == "dark" else "light"
        )
        self.context.set_default_timeout(LOAD_SECONDS * 1000)
        self.context.route("**/*", self._route)
        self.page = self.context.new_page()
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._listen)
        self.page.goto((SITE / f"{page}.html").as_uri() + query, wait_until="load")
        # A colour on its way from one theme to the other is not the page's.
        still = "*, ::before, ::after { transition: none !important; animation: none !important }"
        self.page.add_style_tag(content=still)
        self.page.wait_for_function("document.querySelectorAll('.book-figure:not([data-drawn])').length === 0")

    def _listen(self, message) -> None:
        if message.type == "error":
            self.errors.append(message.text)

    def _route(self, route) -> None:
        address = urlparse(route.request.url)
        if address.scheme == "file":
            self.files.append(Path(unquote(address.path)))
        if address.scheme in ("file", "data", "blob"):
            route.continue_()
        else:
            self.external.append(route.request.url)
            route.abort()

    def __call__(self, script: str) -> Any:
        return self.page.evaluate(script)

    def close(self) -> None:
        self.context.close()

    def violations(self) -> list[str]:
        """What axe-core finds that is serious or critical, with all that is folded opened. The last thing to ask."""
        from axe_playwright_python.base import AXE_SCRIPT

        rules = AXE_RULES[self.view]
        self(UNFOLD)
        if self.view != "narrow":  # where long lines of code have to be reached with the keyboard
            self(THIN_CODE)
        self(AXE_SCRIPT)
        # (preload fetches stylesheets, which a page opened from disk may not)
        options = {"resultTypes": ["violations"], "preload": False, **({"runOnly": rules} if rules else {})}
        found = self.page.evaluate("options => axe.run(document, options)", options)["violations"]
        return [
            f"{violation['id']} ({violation['help']}): {node['html'][:200]}"
            for violation in found
            if violation["impact"] in ("serious", "critical")
            for node in violation["nodes"]
        ]


def look(browser, page: str, view: str) -> dict[str, Any]:
    """What a visitor of a page meets."""
    visit = Visit(browser, page, view)
    try:
        seen = {name: visit(question) for name, question in QUESTIONS.items()}
        seen["files"] = list(visit.files)
        if view == "light":
            visit("document.documentElement.dataset.theme = 'dark'")
            visit.page.wait_for_timeout(300)
            seen["ink_after_dark"] = visit(QUESTIONS["ink"])
            visit("document.documentElement.dataset.theme = 'light'")
        seen["violations"] = visit.violations()
        return {**seen, "errors": visit.errors, "external": visit.external}
    finally:
        visit.close()


@pytest.fixture(scope="session")
def seen(program: str) -> dict[tuple[str, str], dict[str, Any] | Exception]:
    """What was seen on each page in each view, or the error that ended the look."""
    from playwright.sync_api import Error, sync_playwright

    def look_at(looks: list[tuple[str, str]]) -> dict[tuple[str, str], dict[str, Any] | Exception]:
        found: dict = {}
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
            for page, view in looks:
                try:
                    found[page, view] = look(browser, page, view)
                except Error as error:
                    found[page, view] = error
            browser.close()
        return found

    looks = [(page, view) for page in (*PAGES, *GENERATED) for view in VIEWS]
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        parts = pool.map(look_at, [looks[start::AT_A_TIME] for start in range(AT_A_TIME)])
        return {key: value for part in parts for key, value in part.items()}


@pytest.fixture(scope="session")
def browser(program: str):
    """For the tests that act on a page."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


def of(seen: dict, page: str, view: str) -> dict[str, Any]:
    if isinstance(seen[page, view], Exception):
        raise seen[page, view]
    return seen[page, view]


def source(page: str) -> str:
    (path,) = (path for suffix in (".py", ".md") if (path := ROOT / f"{page}{suffix}").is_file())
    return path.read_text(encoding="utf-8")


def test_book_builds_without_a_warning(build: subprocess.CompletedProcess) -> None:
    assert build.returncode == 0, build.stdout[-20_000:]
    assert {page for page in PAGES if (SITE / f"{page}.html").is_file()} == set(PAGES)


@pytest.mark.parametrize("page", LABELS)
def test_notebook_of_a_page_has_its_numbers(build: subprocess.CompletedProcess, page: str) -> None:
    """The notebook that a page offers counts figures and exercises as the page does, and has outputs."""
    html = (SITE / f"{page}.html").read_text(encoding="utf-8")
    offered = json.loads((SITE / "notebooks" / f"{page}.ipynb").read_text(encoding="utf-8"))
    prose = "\n".join("".join(cell["source"]) for cell in offered["cells"] if cell["cell_type"] == "markdown")
    of_page = re.findall(r'"caption-number">((?:Fig\.|Exercise) \d+) ', html)
    assert re.findall(r"^(?:<a id=.*?</a>\*\*|### )((?:Fig\.|Exercise) \d+)\.", prose, re.MULTILINE) == of_page
    assert any(cell.get("outputs") for cell in offered["cells"])


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("page", PAGES)
def test_page_is_whole(seen, page: str, view: str) -> None:
    """Nothing missing, nothing blank, no error, nothing from elsewhere."""
    shown = of(seen, page, view)
    assert shown["theme"] == ("dark" if view == "dark" else "light")
    assert not shown["errors"]
    assert not shown["external"]
    assert not shown["bad_images"]

    # every figure has its drawing, and says in words what it shows
    labels = re.findall(r"^#\| label: (\S+)$", source(page), re.M)
    assert set(labels) <= set(shown["labelled"])
    assert shown["drawn"] == shown["figures"] >= len(labels)
    assert shown["wordless"] == 0

    # every equation of the source is there and set, and no TeX is left in the text
    assert shown["equations"] == len(re.findall(r"\$\$.+?\$\$", source(page), re.S))
    assert shown["unset"] == []
    assert "\\frac" not in shown["prose"] and "\\mathbf" not in shown["prose"]
    assert "nan" not in shown["prose"].split()


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("page", [*PAGES, *GENERATED])
def test_page_can_be_used_by_everyone(seen, page: str, view: str) -> None:
    """axe-core finds nothing serious: contrast, names, roles, order, what the keyboard reaches."""
    assert of(seen, page, view)["violations"] == []


@pytest.mark.parametrize("page", [*PAGES, *GENERATED])
def test_page_fits_a_narrow_screen(seen, page: str) -> None:
    shown = of(seen, page, "narrow")
    assert shown["width"] <= VIEWS["narrow"][0], shown["wide"]


@pytest.mark.parametrize("page", PAGES)
def test_figures_follow_the_theme(seen, page: str) -> None:
    """The text in a figure is dark on the light page and light on the dark one, also when the reader switches."""
    shown = of(seen, page, "light")
    assert all(light != dark for light, dark in zip(shown["ink"], shown["ink_after_dark"], strict=True))


@cache
def places(path: Path) -> set[str]:
    return set(re.findall(r'\bid="([^"]+)"', path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("page", [*PAGES, *GENERATED])
def test_links_lead_somewhere(seen, page: str) -> None:
    """Links within the book reach a file and, where they name one, a place in it."""
    for link in of(seen, page, "light")["links"]:
        address = urlparse(link)
        if address.scheme != "file":
            continue
        target = Path(unquote(address.path))
        assert target.is_file(), link
        if address.fragment and target.suffix == ".html":
            assert unquote(address.fragment) in places(target), link


def test_first_page_is_light(seen) -> None:
    """What the first page loads, compressed as servers send it, without its figures and the library that draws them."""
    weights = {}
    for path in of(seen, PAGES[0], "light")["files"]:
        content = path.read_bytes()
        if path.suffix == ".html":
            content = re.sub(rb'<script type="application/json">.*?</script>', b"", content, flags=re.S)
        if path.name != "plotly.min.js":
            weights[path.name] = len(content if path.suffix == ".woff2" else gzip.compress(content))
    assert sum(weights.values()) < FIRST_PAGE_BYTES, weights


def test_search_finds_a_word_of_every_page(seen, browser) -> None:
    """For each page a word that no other page has, or as few as possible."""
    words = {page: set(re.findall(r"\b[a-z]{6,14}\b", of(seen, page, "light")["prose"])) for page in PAGES}
    pages_with = Counter(word for found in words.values() for word in found)
    for page in PAGES:
        word = min(words[page], key=lambda word: (pages_with[word], word))
        visit = Visit(browser, "search", "light", f"?q={word}")
        # results are drawn one after the other; the status is written after the last one
        visit.page.wait_for_function("document.querySelector('.search-summary')?.textContent")
        found = visit("[...document.querySelectorAll('#search-results li a')].map(a => a.href)")
        assert any(urlparse(link).path.endswith(f"/{page}.html") for link in found), (page, word)
        assert not visit.external
        visit.close()


def test_keyboard_reaches_the_text_and_the_figures(browser) -> None:
    """The first stop leads to the text; a figure's buttons and sliders obey the keys."""
    visit = Visit(browser, PAGES[0], "light")
    visit.page.keyboard.press("Tab")
    assert visit("document.activeElement.textContent.trim()") == "Skip to main content"
    visible = "document.querySelector('.book-figure-plot').data.map(trace => trace.visible !== false)"
    before = visit(visible)
    visit.page.focus(".updatemenu-button:nth-of-type(2)")
    visit.page.keyboard.press("Enter")
    visit.page.wait_for_function(f"{visible}[0] !== {str(before[0]).lower()}")
    assert visit(visible) == [not shown for shown in before]
    assert not visit.errors
    visit.close()


def test_keyboard_moves_a_slider(browser) -> None:
    visit = Visit(browser, "book/dictionary/density", "light")
    slider = visit.page.locator("[role=slider]").first
    before = slider.get_attribute("aria-valuetext")
    slider.focus()
    visit.page.keyboard.press("ArrowLeft")
    visit.page.wait_for_function(f"document.querySelector('[role=slider]').ariaValueText !== {before!r}")
    assert not visit.errors
    visit.close()


def test_keyboard_chooses_from_a_menu(browser) -> None:
    visit = Visit(browser, "book/structure/splitting", "light")
    menu = visit.page.locator(".updatemenu-header")
    before = menu.text_content()
    menu.focus()
    visit.page.keyboard.press("Enter")  # opens it, and the first entry has the focus
    visit.page.keyboard.press("Tab")
    chosen = visit("document.activeElement.textContent")
    visit.page.keyboard.press("Enter")
    visit.page.wait_for_function("document.querySelectorAll('.updatemenu-dropdown-button').length === 0")
    assert menu.text_content() == chosen != before
    assert visit("document.activeElement.matches('.updatemenu-header')")
    assert not visit.errors
    visit.close()


def test_a_box_searches_a_figure(browser) -> None:
    visit = Visit(browser, "book/structure/splitting", "light")
    visit.page.locator(".book-figure-search input").fill("single token")
    status = visit.page.locator(".book-figure-search [role=status]")
    visit.page.wait_for_function("document.querySelector('.book-figure-search [role=status]').textContent")
    found, of = map(int, re.fullmatch(r"(\d+) of (\d+) features", status.text_content()).groups())
    assert 0 < found < of
    listed = visit.page.locator(".book-figure-search li").all_inner_texts()
    assert listed and all("single token" in line for line in listed)
    assert not visit.errors
    visit.close()


@pytest.mark.parametrize("page", LABELS)
def test_exercises_of_a_page(browser, page: str) -> None:
    """Each has its blank answer, a folded check and a box to tick; what the wrong answers print is not there."""
    visit = Visit(browser, page, "light")
    n = len(LABELS[page])
    assert visit("[...document.querySelectorAll('.exercise.admonition')].map(e => e.id)") == LABELS[page]
    assert visit("document.querySelectorAll('.cell.tag_stub .cell_input pre').length") == n
    assert visit("document.querySelectorAll('.cell.tag_check details:not([open]) .cell_input').length") == n
    assert visit("document.querySelectorAll('.exercise-done input:not(:checked)').length") == n
    assert visit("document.querySelector('p.exercise-progress').textContent") == f"0 of {n} exercises done"
    shown = visit("document.querySelector('.bd-article').textContent")
    for label in LABELS[page]:
        assert f"✗ {label}: not answered yet" in shown
        assert f"✓ {label}: passed" in shown
        assert f"refused {label}" not in shown
    visit.close()


def test_progress_is_kept_and_shown_on_the_front_page(browser) -> None:
    page = next(iter(LABELS))
    n = len(LABELS[page])
    visit = Visit(browser, page, "light")
    address = visit.page.url
    visit.page.locator(".exercise-done input").first.focus()
    visit.page.keyboard.press("Space")
    visit.page.goto((SITE / f"{PAGES[0]}.html").as_uri())
    told = visit.page.locator("td .exercise-progress").all_inner_texts()
    assert told.count(f"1 of {n} exercises done") == 1
    assert len(told) == len(LABELS)
    visit.page.goto(address)
    assert visit.page.locator("p.exercise-progress").inner_text() == f"1 of {n} exercises done"
    visit.page.locator(".exercise-done input").first.uncheck()
    visit.page.reload()
    assert visit.page.locator(".exercise-done input:checked").count() == 0
    assert not visit.errors
    visit.close()


# For the book alone: the theme's own scripts complain where nothing can be stored.
BLOCKED = """for (const name of ["getItem", "setItem"]) {
    const real = Storage.prototype[name];
    Storage.prototype[name] = function (key, ...rest) {
        if (key.startsWith("one-layer")) throw new DOMException("no", "SecurityError");
        return real.call(this, key, ...rest); }; }"""
FOREIGN = "localStorage.setItem('one-layer-many-features:done', '{not ours')"


@pytest.mark.parametrize(
    ("storage", "words"),
    [(BLOCKED, " (your browser does not let pages keep this)"), (FOREIGN, "")],
    ids=["blocked", "not ours"],
)
def test_storage_that_cannot_be_used_does_no_harm(browser, storage: str, words: str) -> None:
    page = next(iter(LABELS))
    visit = Visit(browser, page, "light")
    visit.context.add_init_script(storage)
    visit.page.reload()
    visit.page.locator(".exercise-done input").first.check()
    told = visit.page.locator("p.exercise-progress").inner_text()
    assert told == f"1 of {len(LABELS[page])} exercises done{words}"
    assert not visit.errors
    visit.close()


def test_a_box_opens_when_the_reader_commits(browser) -> None:
    visit = Visit(browser, "book/how_to_run", "light")
    box = visit.page.locator(".admonition.commit")
    explanation, verdict = box.locator(".commit-explanation"), box.locator("[role=status]")
    options = box.get_by_role("button")
    assert options.count() == 3 and not explanation.is_visible()
    options.first.focus()
    visit.page.keyboard.press("Enter")
    assert explanation.is_visible()
    assert verdict.inner_text() == "No. The right one is marked."
    options.nth(1).dispatch_event("click")  # too late
    assert [option.get_attribute("aria-pressed") for option in options.all()] == ["true", "false", "false"]
    visit.page.reload()
    options.nth(1).click()
    assert verdict.inner_text() == "Yes."
    assert not visit.errors
    visit.close()


def test_a_box_without_scripts_is_open(browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((SITE / "book/how_to_run.html").as_uri())
    assert page.locator(".admonition.commit li").count() == 3
    assert page.locator(".admonition.commit > p").last.is_visible()
    context.close()


def test_pdf_has_title_contents_text_and_figures(program: str) -> None:
    """Of two pages, one of them with a figure: its axis is text in the PDF, as it is drawn and not a picture."""
    first, other = PAGES[0], "book/glossary"
    parts = [pdf.Part("", [first]), pdf.Part("Words", [other])]
    with ThreadPoolExecutor(1) as thread:  # playwright, already at work in this one, wants another
        printed = thread.submit(pdf.make, SITE, parts, program).result()
    reader = PdfReader(io.BytesIO(printed))
    texts = [unicodedata.normalize("NFKC", page.extract_text()) for page in reader.pages]  # without ligatures
    texts = [" ".join(text.split()) for text in texts]
    title, contents, *rest = texts
    assert title.startswith("One layer, many features")
    begins = int(re.search(r"Words Glossary (\d+)", contents)[1])
    assert "Glossary The words that" in texts[begins - 1]
    assert "share of tokens it fires on" in " ".join(rest[: begins - 3])
    assert all(re.search(rf"\b{number}$|^{number}\b", text) for number, text in enumerate(texts, 1) if number > 1)
    assert "Show the code" not in " ".join(texts) and "Skip to main content" not in " ".join(texts)
    sizes = {(round(float(page.mediabox.width)), round(float(page.mediabox.height))) for page in reader.pages}
    assert sizes == {(595, 842)}  # A4 in points
    assert reader.outline and "/StructTreeRoot" in reader.trailer["/Root"]  # bookmarks, and tags for screen readers


def test_first_page_links_the_pdf_once() -> None:
    once = pdf.link("<h1>Title</h1>\n<p>Text</p>", 2_000_000)
    assert f'<h1>Title</h1>\n<p class="book-pdf"><a href="../{pdf.NAME}">' in once and "(2.0 MB)" in once
    assert pdf.link(once, 2_000_000) == once
