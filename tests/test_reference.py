"""The reference pages say what the package and the chapters say: conventions, files, minutes, versions."""

import re
from pathlib import Path

import api
import pytest
import yaml
from docutils import nodes

import sae_core
from sae_core.objective import CONVENTIONS, Convention, convert_lambda

ROOT = Path(__file__).resolve().parents[1]
BOOK = ROOT / "book"


def rows(page: Path, first_cell: str) -> list[list[str]]:
    """The cells of a page's table rows whose first cell matches."""
    cells = [line.strip("|").split("|") for line in page.read_text().splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in cells if re.fullmatch(first_cell, row[0].strip())]


def test_notation_shows_the_conventions_of_the_code() -> None:
    d_in, batch_size = 7, 11
    factors = {"$1$": 1, "$d_{in}$": d_in, "$B$": batch_size}
    shown = rows(BOOK / "notation.md", "`[a-z_0-9]+`")
    shown = [row for row in shown if len(row) == 6]
    assert {row[0].strip("`"): Convention(*row[1:5]) for row in shown} == CONVENTIONS
    for name, *_, factor in shown:
        assert convert_lambda(1, name.strip("`"), "sae_core", d_in, batch_size) == factors[factor]


def test_instructors_are_told_the_minutes_of_the_chapters() -> None:
    told = rows(BOOK / "instructors.md", r"\{doc\}`[a-z0-9_/]+`")
    minutes = {re.search("`(.+)`", row[0])[1]: [int(cell) for cell in row[1:]] for row in told}
    for chapter, (reading, exercises, together) in minutes.items():
        source = (BOOK / f"{chapter}.py").read_text()
        assert int(re.search(r"\*\*Time\*\*: (\d+) minutes to read", source)[1]) == reading, chapter
        assert sum(map(int, re.findall(r"· (\d+) minutes\.\*", source))) == exercises, chapter
        assert together == reading + exercises
    parts = yaml.safe_load((ROOT / "_toc.yml").read_text())["parts"]
    chapters = [each["file"].removeprefix("book/") for part in parts[:-1] for each in part["chapters"]]
    assert sorted(minutes) == sorted(chapters)


def test_one_version_everywhere() -> None:
    assert f'\nversion = "{sae_core.__version__}"\n' in (ROOT / "pyproject.toml").read_text()
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == sae_core.__version__
    assert sae_core.__version__ in (ROOT / "CHANGELOG.md").read_text()


def test_the_reference_shows_every_file_of_the_package_once() -> None:
    shown = " ".join(re.findall(r"```\{api\} (.+)", (BOOK / "api.md").read_text())).split()
    assert sorted(shown) == sorted(path.stem for path in (ROOT / "sae_core").glob("[!_]*.py"))


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The function that makes a package of one file, `parts`, and returns what the directive reads in it."""
    monkeypatch.setattr(api, "PACKAGE", tmp_path)

    def make(source: str) -> tuple[str, tuple[api.Entry, ...]]:
        (tmp_path / "parts.py").write_text(source)
        for cached in (api.read, api.places):
            cached.cache_clear()
        return api.read("parts")

    yield make
    for cached in (api.read, api.places):
        cached.cache_clear()


SOURCE = '''\
"""Parts, and how `join` joins them."""

class Part(NamedTuple):
    """One part."""

    size: int  # in metres

    @property
    def area(self) -> int:
        """Its area."""
        return self.size**2

    def plain(self): ...

    def _hidden(self):
        """Not shown."""


@cache
def join(
    parts: list[Part],  # at least one
    glue: str = "a, b",
) -> Part:
    """Join them.

    parts: in order.
    glue, force: how.
    Raises ValueError without parts.

        join([one, two])
    """


def _helper():
    """Not shown."""
'''


def test_reference_shows_signatures_as_they_stand(package) -> None:
    docstring, (part, join) = package(SOURCE)
    assert docstring == "Parts, and how `join` joins them."
    assert (part.signature, part.fields) == ("class Part(NamedTuple)", "size: int  # in metres")
    assert [(member.name, member.signature) for member in part.members] == [
        ("Part.area", "@property\ndef area(self) -> int")
    ]
    signature = 'def join(\n    parts: list[Part],  # at least one\n    glue: str = "a, b",\n) -> Part'
    assert join.signature == signature


def test_reference_gives_each_parameter_a_paragraph(package) -> None:
    _, (_, join) = package(SOURCE)
    made = api.paragraphs(join.docstring)
    assert [node.astext() for node in made] == [
        "Join them.", "parts: in order.", "glue, force: how.", "Raises ValueError without parts.", "join([one, two])",
    ]  # fmt: skip
    assert isinstance(made[-1], nodes.literal_block)


def test_a_word_with_a_colon_within_a_sentence_is_no_parameter() -> None:
    made = api.paragraphs("It takes whichever is\nmore: the rule is simple.\nmore: how many.")
    assert [node.astext() for node in made] == ["It takes whichever is more: the rule is simple.", "more: how many."]


def test_reference_links_names_that_are_unmistakable(package) -> None:
    package(SOURCE + '\n\nclass Bin:\n    def join(self):\n        """Join."""\n\n\ndef parts():\n    """Parts."""\n')
    links = {node.astext(): node["refid"] for node in api.inline("`join` `Part.area` `parts` `other` *x*")
             if isinstance(node, nodes.reference)}
    assert links == {"join": "api-parts-join", "Part.area": "api-parts-Part-area"}
