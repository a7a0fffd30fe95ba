"""Exported notebooks are plain: every directive and role of a chapter becomes Markdown that any notebook shows.

tests/test_notebooks.py runs them, and installs what their first cell installs.
"""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import install
import labels
import nbformat
import notebooks
import pytest
import reader
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from labels import Book, ExportError
from nbformat.v4 import new_output
from notebooks import Run
from plain import Page

CONFIG = """\
repository: {url: ""}
html: {}
sphinx: {config: {bibtex_bibfiles: [book/references.bib]}}
"""
TOC = """\
root: book/index
parts:
  - caption: One
    chapters: [{file: book/one/first}, {file: book/one/second}]
  - caption: Reference
    numbered: false
    chapters: [{file: book/records}, {file: book/glossary}]
"""
SOURCES = """\
@article{one, author = {Bricken, Trenton and Templeton, Adly and Olah, Chris}, title = {A {Title}}, year = {2023},
  url = {https://example.org/one}}
@misc{team, author = {{The Team}}, title = {Notes}, year = {2024}}
@book{pair, author = {van Dam, Ann and Bo, Cy}, title = {Two}, year = {1999}, url = {https://example.org/two}}
"""
FIRST = '''\
# %% [markdown]
# # First chapter
#
# (why)=
# ## Why at all?
#
# On {glue:text}`tokens` tokens.

# %% tags=["remove-cell"]
chapter.number("tokens", 7)

# %%
#| label: fig-a
#| caption: >-
#|   Counted on {glue:text}`tokens`
#|   tokens, as in {numref}`fig-b`.
figure

# %% [markdown]
# ```{exercise-start} A *task*
# :label: ex-one
# ```
# *Difficulty 1/5.* Do it.
#
# ````{admonition} Hint 1
# :class: dropdown
# Try.
# ````
# ```{exercise-end}
# ```

# %% tags=["stub"]
answer = None

# %% tags=["check", "hide-input"]
check_one(answer)

# %% [markdown]
# ````{solution-start} ex-one
# :class: dropdown
# ````

# %%
answer = 1

# %% [markdown]
# Because one.
# ````{solution-end}
# ````
#
# Goes on.

# %% tags=["remove-cell", "wrong-answers"]
check_one.refuses(2, because="two")
'''
SECOND = """\
# %% [markdown]
# # Second
# $$ a = b $$ (eq-a)

# %%
#| label: fig-b
#| caption: B.
figure
"""


@pytest.fixture
def book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Book:
    """A small book in a folder of its own, published from a repository on GitHub."""
    monkeypatch.setenv("SAE_CORE_REPOSITORY", "https://github.com/Someone/a-book.git")
    files = {
        "_config.yml": CONFIG,
        "_toc.yml": TOC,
        "book/index.py": "# %% [markdown]\n# # The book\n",
        "book/one/first.py": FIRST,
        "book/one/second.py": SECOND,
        "book/records.py": "# %% [markdown]\n# # Records\n",
        "book/glossary.md": "# Glossary\n",
        "book/references.bib": SOURCES,
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(notebooks, "ROOT", tmp_path)
    return labels.load(tmp_path)


SITE = "https://someone.github.io/a-book"
PLAIN = {
    "doc": ("{doc}`second`", f"[Second]({SITE}/book/one/second.html)"),
    "doc with a text over two lines": ("{doc}`see\nthis </book/index>`", f"[see this]({SITE}/book/index.html)"),
    "ref": ("{ref}`why`, {ref}`so <why>`", "[Why at all?](#why), [so](#why)"),
    "row of the claims": ("{ref}`A12 <claim-a12>`", f"[A12]({SITE}/book/claims.html#claim-a12)"),
    "numref": ("{numref}`fig-a`, {numref}`fig-b`", f"[Fig. 1](#fig-a), [Fig. 2]({SITE}/book/one/second.html#fig-b)"),
    "numref with a text": ("{numref}`figure %s <fig-b>`", f"[figure 2]({SITE}/book/one/second.html#fig-b)"),
    "exercise": ("{ref}`ex-one`", "[Exercise 1](#ex-one)"),
    "eq": ("{eq}`eq-a`", f"[(1)]({SITE}/book/one/second.html#eq-a)"),
    "term": ("{term}`base rates <base rate>`", f"[base rates]({SITE}/book/glossary.html#term-base-rate)"),
    "cite": ("{cite}`one,team`", "([Bricken et al., 2023](https://example.org/one); The Team, 2024)"),
    "cite as a noun": ("{cite:t}`pair`", "[van Dam and Bo (1999)](https://example.org/two)"),
    "glue": ("{glue:text}`tokens` of {glue:text}`all`", "1,234 of ⟨all⟩"),
    "what is code stays": ("`{doc}`, `` {doc}`x` ``", "`{doc}`, `` {doc}`x` ``"),
    "a block of code stays": ("```python\n{doc}`x`\n```", "```python\n{doc}`x`\n```"),
    "mathematics stays": (r"$\frac{a}{b}$ and $$\sqrt{x}$$", r"$\frac{a}{b}$ and $$\sqrt{x}$$"),
    "numbered equation": ("$$ a = b $$ (eq-a)", "$$\na = b\n\\tag{1}\n$$"),
    "math": ("```{math}\n:label: eq-a\na = b\n```", "$$\na = b\n\\tag{1}\n$$"),
    "target": ("(here)=", '<a id="here"></a>'),
    "comments": ("a\n% to the author\n<!-- numbers: 5 (a size) -->\nb", "a\nb"),
    "box": (
        "```{admonition} {term}`x`\n:class: tip\nA.\n\nB.\n```",
        f"> **[x]({SITE}/book/glossary.html#term-x)**\n>\n> A.\n>\n> B.",
    ),
    "box with options": (
        "```{tip} Choose\n:class: commit\nWhich?\n\n- [ ] one\n- [x] two\n\nBecause.\n```",
        "> **Choose**\n>\n> Which?\n>\n> - one\n> - two\n>\n> <details>\n> <summary><b>The answer</b></summary>\n>\n"
        "> **two**\n>\n> Because.\n>\n> </details>",
    ),
    "box within prose": ("One.\n```{note}\nTwo.\n```\nThree.", "One.\n\n> **Note**\n>\n> Two.\n\nThree."),
    "box with a colon": (":::{note}\nOne.\n:::", "> **Note**\n>\n> One."),
    "folded box": (
        "````{admonition} Hint `f`\n:class: dropdown\n```{math}\nx\n```\n````",
        "<details>\n<summary><b>Hint <code>f</code></b></summary>\n\n$$\nx\n$$\n\n</details>",
    ),
    "box in a list": ("- a\n  ```{note}\n  One.\n  ```", "- a\n\n  > **Note**\n  >\n  > One."),
    "list-table": (
        "```{list-table} T\n:header-rows: 1\n\n* - a\n  - b\n* - {glue:text}`tokens`\n  - two\n    lines\n```",
        "**T**\n\n| a | b |\n| --- | --- |\n| 1,234 | two lines |",
    ),
    "tabs": (
        "::::{tab-set}\n:::{tab-item} One\nA.\n:::\n:::{tab-item} Two\nB.\n:::\n::::",
        "**One**\n\nA.\n\n**Two**\n\nB.",
    ),
    "bibliography": (
        "{cite:t}`one`\n```{bibliography}\n```",
        "[Bricken et al. (2023)](https://example.org/one)\n\n- Bricken et al. (2023). [A Title](https://example.org/one).",
    ),
}


@pytest.mark.parametrize(("myst", "plain"), PLAIN.values(), ids=PLAIN)
def test_becomes_plain(book: Book, myst: str, plain: str) -> None:
    assert Page("book/one/first", book, {"tokens": "1,234"}).convert(myst) == plain


@pytest.mark.parametrize(
    ("myst", "words"),
    [
        ("```{raw} html\n```", "directive {raw}"),
        ("{nosuch}`x`", "role {nosuch}"),
        ("{doc}`missing`", "missing"),
        ("{numref}`fig-c`", "fig-c"),
        ("{cite}`two`", "two"),
        ("[there](../one/second.py)", "second.py"),
        ("```{note}\nno end", "has no end"),
    ],
)
def test_what_has_no_plain_form_is_refused_by_name(book: Book, myst: str, words: str) -> None:
    with pytest.raises(ExportError, match=re.escape(words)) as error:
        Page("book/one/first", book, {}).convert(myst)
    assert str(error.value).startswith("book/one/first: ")


def test_a_page_that_is_not_there_is_named(book: Book, tmp_path: Path) -> None:
    (tmp_path / "book" / "one" / "second.py").unlink()
    with pytest.raises(ExportError, match="book/one/second: is in _toc.yml"):
        labels.load(tmp_path)


def test_without_a_site_a_reference_is_a_name(book: Book) -> None:
    book.site = ""
    page = Page("book/one/first", book, {})
    assert page.convert("{doc}`second`, {numref}`fig-b`, {term}`x`") == "Second, Fig. 2, x"


def test_one_variable_names_repository_site_and_colab(book: Book) -> None:
    assert (book.repository, book.site) == ("https://github.com/Someone/a-book", SITE)
    colab = "https://colab.research.google.com/github/Someone/a-book/blob/notebooks/book/one/first.ipynb"
    assert notebooks.colab_address(book, "book/one/first") == colab
    assert colab in notebooks.index(book)
    assert 'REPOSITORY = "https://github.com/Someone/a-book"' in notebooks.set_up_cell(book).source


# --- a chapter ------------------------------------------------------------------------------------------------


def test_chapters_are_exported_and_records_are_not(book: Book) -> None:
    assert book.exported == ["book/index", "book/one/first", "book/one/second"]


def test_a_chapter_as_a_notebook(book: Book) -> None:
    made = notebooks.export(book, "book/one/first")
    nbformat.validate(made)
    _, about, title, numbers, figure, caption, exercise, stub, check, solution, rest = made.cells
    assert "⟨brackets⟩" in about.source
    assert title.source.endswith("On ⟨tokens⟩ tokens.")
    assert numbers.source.startswith("# @title Numbers for the text\n")
    assert figure.source == "figure"
    address = f"{SITE}/book/one/second.html#fig-b"
    assert caption.source == f'<a id="fig-a"></a>**Fig. 1.** Counted on ⟨tokens⟩ tokens, as in [Fig. 2]({address}).'
    assert exercise.source.startswith('<a id="ex-one"></a>\n\n### Exercise 1. A *task*\n')
    assert "<summary><b>Hint 1</b></summary>\n\nTry.\n" in exercise.source
    assert stub.source == "answer = None"  # open, for the reader to fill in
    assert check.source.startswith("# @title Check your answer\n")
    assert solution.source == "# @title Solution\nanswer = 1"
    for folded in (numbers, check, solution):
        assert folded.metadata.cellView == "form" and folded.metadata.jupyter.source_hidden
    explained = "<details>\n<summary><b>Solution, explained</b></summary>\n\nBecause one.\n\n</details>"
    assert rest.source == f"{explained}\n\nGoes on."
    assert not any(cell.get("outputs") for cell in made.cells)


def test_exports_of_one_chapter_are_the_same(book: Book) -> None:
    assert notebooks.export(book, "book/one/first") == notebooks.export(book, "book/one/first")


def test_wrong_answers_are_for_tests(book: Book) -> None:
    assert "refuses" not in nbformat.writes(notebooks.export(book, "book/one/first"))
    assert "refuses" in nbformat.writes(notebooks.export(book, "book/one/first", tests=True))


def glued(name: str, value: str):
    """What `myst_nb.glue` leaves in a cell."""
    prefix = "application/papermill.record/"
    metadata = {"scrapbook": {"name": name, "mime_prefix": prefix}}
    return new_output("display_data", data={f"{prefix}text/plain": repr(value)}, metadata=metadata)


FIGURE = (
    '<div class="book-figure" role="group" aria-label="Bars &lt; lines"><div class="book-figure-plot"></div>'
    '<script type="application/json">{"data":[{"x":["\\u003cb>"]}],"layout":{}}</script></div>'
)


@pytest.fixture
def built(book: Book, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache that a build of the site leaves, with a run of the first chapter in it."""
    monkeypatch.setattr(reader, "state", lambda: "text and mode")
    run = reader.reads(FIRST)
    first, numbers, figure, *_, last = [cell for cell in run.cells if cell.cell_type == "code"]
    first.outputs = [new_output("stream", text="of the book's own cell")]
    numbers.outputs = [glued("tokens", "7"), glued("claim:0", "{}")]
    figure.outputs = [new_output("execute_result", data={"text/html": FIGURE, "text/plain": "Bars"})]
    last.outputs = [glued("provenance", "pocket text · quick mode")]
    get_cache(tmp_path / "cache").cache_notebook_bundle(CacheBundleIn(run, "first.py"), check_validity=False)
    return tmp_path / "cache"


def test_numbers_and_outputs_come_from_the_build_of_the_site(book: Book, built: Path) -> None:
    run = notebooks.read_run("book/one/first", built)
    plain = notebooks.export(book, "book/one/first", run=run)
    assert plain.cells[2].source.endswith("On 7 tokens.")
    assert "pocket text · quick mode" in plain.cells[1].source
    assert not any(cell.get("outputs") for cell in plain.cells)

    full = notebooks.export(book, "book/one/first", run=run, outputs=True)
    nbformat.validate(full)
    assert [output.text for output in full.cells[3].outputs] == ["tokens: 7\n"]  # and the claim's record is gone
    (figure,) = full.cells[4].outputs
    assert figure.data["application/vnd.plotly.v1+json"] == {"data": [{"x": ["<b>"]}], "layout": {}}
    assert figure.data["text/plain"] == "Bars < lines"
    assert full.cells[5].source.endswith("<br><small>pocket text · quick mode</small>")  # the caption's last line


@pytest.mark.parametrize("change", ["code", "text or mode"])
def test_a_run_of_something_else_is_not_used(book: Book, built: Path, tmp_path: Path, monkeypatch, change: str) -> None:
    if change == "code":
        chapter = tmp_path / "book" / "one" / "first.py"
        chapter.write_text(chapter.read_text().replace("answer = 1", "answer = 2"))
    else:
        monkeypatch.setattr(reader, "state", lambda: "another")
    run = notebooks.read_run("book/one/first", built)
    assert "⟨tokens⟩" in notebooks.export(book, "book/one/first", run=run).cells[2].source
    with pytest.raises(ExportError, match="book/one/first: has not been built as it is now"):
        notebooks.export(book, "book/one/first", run=run, outputs=True)


def test_without_a_build_there_is_no_run(tmp_path: Path) -> None:
    assert notebooks.read_run("book/one/first", tmp_path / "nowhere") == Run()
    assert not (tmp_path / "nowhere").exists()


# --- the chapters there are -----------------------------------------------------------------------------------

REAL = labels.load()
LEFT_OVER = re.compile(r"\{[a-z][\w:-]*\}`|^ *[`:~]{3,}\{|^ *:{3,}|^\([\w-]+\)=$|^:[a-z-]+:", re.MULTILINE)


@pytest.mark.parametrize("page", REAL.exported)
def test_nothing_of_a_chapter_is_left_unresolved(page: str) -> None:
    made = notebooks.export(REAL, page)
    nbformat.validate(made)
    for cell in made.cells:
        if cell.cell_type == "code":
            ast.parse(re.sub(r"^[%!].*$", "", cell.source, flags=re.MULTILINE))
        else:
            prose = re.sub(r"^```\w*$.*?^```$", "", cell.source, flags=re.MULTILINE | re.DOTALL)
            assert not LEFT_OVER.search(prose), prose
            assert cell.source.count("<details>") == cell.source.count("</details>")


# --- the first cell -------------------------------------------------------------------------------------------


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch):
    """A pretended runtime: `versions` are its packages, `pip` what an installation changes and how it ends."""

    class Runtime:
        versions = {"torch": "2.9.0+cu126", "numpy": "2.0.2"}
        has_sae_core, changes, returncode, stdout = False, {}, 0, ""
        asked: list[str] = []
        constraints = ""

        def find_spec(self, name: str):
            return "spec" if self.has_sae_core else None

        def pip(self, command, **_):
            self.asked = command
            self.constraints = Path(command[command.index("--constraint") + 1]).read_text()
            self.versions = {**self.versions, **self.changes}
            self.has_sae_core = not self.returncode
            return subprocess.CompletedProcess(command, self.returncode, stdout=self.stdout)

        def version(self, name: str) -> str:
            try:
                return {"sae-core": "0.1.0", **self.versions}[name]
            except KeyError:
                raise install.metadata.PackageNotFoundError(name) from None

    pretended = Runtime()
    monkeypatch.setattr(install.importlib.util, "find_spec", pretended.find_spec)
    monkeypatch.setattr(install.subprocess, "run", pretended.pip)
    monkeypatch.setattr(install.metadata, "version", pretended.version)
    return pretended


def test_set_up_keeps_torch_and_numpy_and_says_so(runtime) -> None:
    said = install.set_up("https://github.com/Someone/a-book")
    assert said == "Installed sae_core 0.1.0; left torch 2.9.0+cu126 and numpy 2.0.2 as they were."
    assert runtime.constraints == "torch==2.9.0+cu126\nnumpy==2.0.2\n"
    assert runtime.asked[-1] == "sae-core[text,chapters] @ git+https://github.com/Someone/a-book"


def test_set_up_names_what_came_along(runtime) -> None:
    runtime.versions, runtime.changes = {"numpy": "2.0.2"}, {"torch": "2.13.0"}
    assert install.set_up(".") == "Installed sae_core 0.1.0; left numpy 2.0.2 as they were; torch 2.13.0 came with it."
    assert runtime.asked[-1] == f"{Path.cwd()}[text,chapters]"  # a folder


def test_set_up_does_nothing_twice(runtime) -> None:
    runtime.has_sae_core = True
    assert install.set_up("") == "sae_core is there already; nothing was installed."
    assert runtime.asked == []


@pytest.mark.parametrize(
    ("repository", "state", "words"),
    [
        ("", {}, "Set REPOSITORY"),
        ("x", {"returncode": 1, "stdout": "Collecting x\nERROR: No route\n"}, "sae_core: ERROR: No route"),
        ("x", {"changes": {"numpy": "3.0"}}, "numpy 2.0.2 is now 3.0"),
    ],
)
def test_set_up_fails_in_one_line(runtime, repository: str, state: dict, words: str) -> None:
    for name, value in state.items():
        setattr(runtime, name, value)
    with pytest.raises(install.SetUpError, match=re.escape(words)) as error:
        install.set_up(repository)
    (line,) = error.value._render_traceback_()  # what IPython shows in place of a traceback
    assert line == f"Set-up: {error.value}" and "\n" not in line
