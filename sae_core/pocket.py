"""The embedded default text: about 14 MB assembled from what a fresh installation already has on its disk.

Nothing is downloaded, and everything but Babel's data is read as text: no other package is imported. The text
depends only on the installed versions (`identity` digests them): lists of files are in the order of a hash of
their names, and every generated document comes from a generator with a fixed seed.

Read it from the bottom: `documents` walks through `_slices`, a table with one function for each kind of text
and the bytes to take from it.
"""

import ast
import functools
import hashlib
import html
import inspect
import json
import platform
import re
import sysconfig
import unicodedata
import warnings
from collections.abc import Iterable, Iterator
from importlib import metadata
from itertools import islice, zip_longest
from pathlib import Path

from . import pocket_locales, pocket_sequences
from .corpus import Document
from .errors import SaeCoreError

MAX_CHARACTERS = 20_000
MAX_PIECES = 4  # of one file that is not code, so that no single huge table fills a slice
PARAGRAPHS = Path(__file__).parent / "paragraphs"

# What the text cannot do without, and what adds variety where it is installed. The sizes rest on the former.
REQUIRED = ("babel", "certifi", "sympy", "numpy", "torch")
OPTIONAL = (
    "mpmath", "networkx", "jinja2", "fsspec", "scipy", "pandas", "transformers", "tokenizers", "safetensors",
    "huggingface-hub", "datasets", "transformer-lens", "plotly", "pygments", "docutils", "sphinx",
    "myst-parser", "myst-nb", "jupyter-book", "pydata-sphinx-theme", "sphinx-book-theme", "sphinx-togglebutton",
    "sphinxcontrib-applehelp", "sphinxcontrib-devhelp", "sphinxcontrib-htmlhelp", "sphinxcontrib-qthelp",
    "sphinxcontrib-serializinghtml", "setuptools", "requests", "rich", "jsonschema", "pydantic",
)  # fmt: skip

# One slice a language, by its CLDR locale. Arabic and Hebrew also have paragraphs written for this project.
LANGUAGES = {
    "arabic": "ar", "hebrew": "he", "persian": "fa", "russian": "ru", "ukrainian": "uk", "greek": "el",
    "georgian": "ka", "armenian": "hy", "amharic": "am", "hindi": "hi", "bengali": "bn", "tamil": "ta",
    "thai": "th", "chinese": "zh_CN", "japanese": "ja", "korean": "ko", "vietnamese": "vi", "turkish": "tr",
    "german": "de", "french": "fr", "spanish": "es", "italian": "it", "portuguese": "pt_BR", "polish": "pl",
    "indonesian": "id",
}  # fmt: skip


# --- reading what is installed ------------------------------------------------------------------------------


@functools.cache
def _versions() -> dict[str, str]:
    """Installed version of each distribution that is read; SaeCoreError if a required one is missing."""
    versions = {}
    for name in (*REQUIRED, *OPTIONAL):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            if name in REQUIRED:
                way_out = 'which is not installed: pip install "sae-core[text]"'
                raise SaeCoreError(f"the pocket text is assembled from {name}, {way_out}") from None
    return versions


def _order(name: str) -> str:
    """Sorting key that shuffles alike everywhere, so that a cap does not favour the start of the alphabet."""
    return hashlib.sha256(name.encode()).hexdigest()


def _read(path: Path) -> str:
    """The file's text, or "" if there is none or it is not UTF-8.

    Any other failure is raised: a file skipped because too many were open would make another text.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, UnicodeDecodeError):
        return ""


@functools.cache
def _files(distribution: str) -> list[metadata.PackagePath]:
    """The distribution's files, shuffled; without its tests and the records of how it was built and installed."""
    skip = re.compile(r"(^|[/_.])(tests?|testing|\.\.)([/_.]|$)|direct_url\.json$|/sboms/")
    files = (file for file in metadata.files(distribution) or () if not skip.search(file.as_posix()))
    return sorted(files, key=lambda file: _order(file.as_posix()))


def _installed(distribution: str, suffixes: str) -> Iterator[tuple[str, Path]]:
    """(name inside the distribution, path) of its files with one of the space-separated suffixes."""
    for file in _files(distribution):
        if file.suffix in suffixes.split():
            yield file.as_posix(), Path(file.locate())


@functools.cache
def _standard_library() -> list[tuple[str, Path]]:
    """(relative name, path) of the standard library's modules, shuffled."""
    root = Path(sysconfig.get_path("stdlib"))
    skip = re.compile(  # not the library itself, repetitive, or different on every machine
        r"(^|/)([^/]*-packages|tests?|idle_test|encodings|pydoc_data|config-[^/]*)/"
        r"|(^|/)(_sysconfigdata[^/]*|(site|user)customize\.py)$"
    )
    names = (path.relative_to(root).as_posix() for path in root.rglob("*.py"))
    return [(name, root / name) for name in sorted(names, key=_order) if not skip.search(name)]


def _in_turn(*sources: Iterable[str]) -> Iterator[str]:
    """One document of each source in turn, until all are exhausted."""
    return (text for row in zip_longest(*sources) for text in row if text is not None)


def _parsed(source: str) -> ast.Module:
    """Syntax tree of a Python source, empty where this Python cannot parse it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other people's invalid escapes
        try:
            return ast.parse(source)
        except (SyntaxError, ValueError):
            return ast.Module([], [])


def _long_strings(source: str) -> list[str]:
    """Docstrings of a Python source, and the help texts that it passes to functions, in order."""
    found, blocks = [], [_parsed(source)]
    while blocks:
        for statement in blocks.pop().body:
            if isinstance(statement, ast.Expr):
                found += [node for node in ast.walk(statement) if isinstance(node, ast.Constant)]
            elif hasattr(statement, "body"):
                blocks.append(statement)
    texts = [(node.lineno, node.value) for node in found if isinstance(node.value, str)]
    return [inspect.cleandoc(text) for _, text in sorted(texts) if len(text) >= 200]


def _module(name: str) -> str:
    return re.sub(r"(/__init__)?\.py$", "", name).replace("/", ".")


# --- English, code and markup -------------------------------------------------------------------------------


def _code() -> Iterator[str]:
    """Half of the standard library's modules, and C and C++ headers."""
    modules = (_read(path) for _, path in _standard_library()[::2])
    headers = (_read(path) for name in ("numpy", "torch") for _, path in _installed(name, ".h .pyx .pxd"))
    return _in_turn(modules, islice(headers, 150))


def _sentences(text: str) -> list[str]:
    """The paragraphs of a text that read as prose: mostly letters, and no doctest."""

    def reads_well(paragraph: str) -> bool:
        letters = sum(character.isalpha() or character.isspace() for character in paragraph)
        return len(paragraph) >= 60 and letters >= 0.85 * len(paragraph) and ">>>" not in paragraph

    paragraphs = (paragraph.strip("\n") for paragraph in re.split(r"\n\s*\n", text))
    return [paragraph for paragraph in paragraphs if reads_well(paragraph)]


def _prose() -> Iterator[str]:
    """Python's reference topics, descriptions and docstrings of the installed distributions."""
    from pydoc_data.topics import topics

    seen: set[str] = set()

    def fresh(text: str) -> str:
        """Its prose, without the paragraphs that an earlier text had: docstrings repeat one another."""
        paragraphs = [paragraph for paragraph in _sentences(text) if paragraph not in seen]
        seen.update(paragraphs)
        return "\n\n".join(paragraphs)

    def docstrings(name: str) -> Iterator[str]:
        yield fresh(metadata.metadata(name).get_payload())
        for _, path in _installed(name, ".py"):
            source = _read(path)
            if "math:" not in source:  # the others are for _latex
                yield fresh("\n\n".join(_long_strings(source)))

    return _in_turn((topics[key] for key in sorted(topics)), *map(docstrings, _versions()))


def _latex() -> Iterator[str]:
    """Docstrings with formulas, their reStructuredText turned into LaTeX, and installed LaTeX."""

    def typeset(text: str) -> str:
        text = re.sub(r"^( *)\.\. math::((?:\n*\1 +\S.*|.+)*)", r"\1\\[\2\n\1\\]", text, flags=re.M)
        text = re.sub(r":math:`([^`]*)`", r"$\1$", text)
        text = re.sub(r":\w+:`([^`]*)`|``([^`]*)``", r"\\texttt{\1\2}", text)
        text = re.sub(r"^ *>>>.*(?:\n.*\S.*)*", r"\\begin{verbatim}\n\g<0>\n\\end{verbatim}", text, flags=re.M)
        return re.sub(r"^(\w.*)\n[=~^-]{3,}$", r"\\subsection*{\1}", text, flags=re.M)

    def articles(name: str) -> Iterator[str]:
        for file, path in _installed(name, ".py .tex .sty"):
            source = _read(path)
            if not file.endswith(".py"):
                yield source
            elif "math:" in source:
                formulas = [typeset(text) for text in _long_strings(source) if "math:" in text]
                yield "\n\n".join([rf"\section{{\texttt{{{_module(file)}}}}}", *formulas])

    return _in_turn(*map(articles, _versions()))


def _legal() -> Iterator[str]:
    """Licences and notices; one that differs from another only in its copyright lines is not repeated."""
    files = [Path(sysconfig.get_path("stdlib")) / "LICENSE.txt"]
    for name in _versions():
        found = [f for f in _files(name) if re.search(r"licen[cs]e|copying|notice", f.name, re.I)]
        files += [Path(f.locate()) for f in found if f.suffix not in (".py", ".pyc")]
    seen = set()
    for text in map(_read, files):
        for part in re.split(r"\n[-=*#]{20,}\n", text):
            terms = re.sub(r"(?im)^.*copyright.*$|\W", "", part).lower()
            if len(terms) >= 300 and terms[:300] not in seen:
                seen.add(terms[:300])
                yield part


def _functions(path: Path) -> Iterator[tuple[str, ast.FunctionDef, str]]:
    """(dotted name, definition, docstring) of the documented functions and methods of a Python source."""
    tree = _parsed(_read(path))
    owners = [("", tree)] + [(f"{node.name}.", node) for node in tree.body if isinstance(node, ast.ClassDef)]
    for prefix, owner in owners:
        for node in owner.body:
            if isinstance(node, ast.FunctionDef) and (docstring := ast.get_docstring(node)):
                yield prefix + node.name, node, docstring


def _markup() -> Iterator[str]:
    """Installed web pages, templates, styles, scripts and Markdown, and reference pages made here."""

    def files(name: str) -> Iterator[str]:
        for _, path in _installed(name, ".html .jinja .css .scss .js .md .rst .svg .xml .xsl .yml .yaml"):
            text = _read(path)
            if len(text) < 200 * (1 + text.count("\n")):  # not minified
                yield text

    def pages() -> Iterator[str]:
        for name, path in _standard_library()[1::2]:
            entries = ""
            for dotted, node, docstring in _functions(path):
                title = html.escape(f"{dotted}({ast.unparse(node.args)})")
                text = html.escape(docstring).replace("\n\n", "</p>\n      <p>")
                entries += f'    <dt id="{dotted}"><code>{title}</code></dt>\n    <dd><p>{text}</p></dd>\n'
            title = f"<title>{_module(name)}</title>"
            head = f'<head>\n  <meta charset="utf-8">\n  {title}\n</head>'
            body = f'<body>\n  <h1>{_module(name)}</h1>\n  <dl class="reference">\n{entries}  </dl>\n</body>'
            if entries:
                yield f'<!DOCTYPE html>\n<html lang="en">\n{head}\n{body}\n</html>'

    return _in_turn(pages(), *map(files, _versions()))


def _json() -> Iterator[str]:
    """Installed JSON; signatures, CLDR's names, characters and distributions' metadata written as JSON."""
    from babel import Locale

    def files(name: str) -> Iterator[str]:
        return (_read(path) for _, path in _installed(name, ".json"))

    def signatures() -> Iterator[object]:
        for name, path in _standard_library()[1::2]:
            functions = [
                {"name": dotted, "line": node.lineno, "summary": docstring.split("\n")[0],
                 "arguments": [argument.arg for argument in node.args.args]}
                for dotted, node, docstring in _functions(path)
            ]  # fmt: skip
            yield {"module": _module(name), "functions": functions}

    def names() -> Iterator[object]:
        for code in LANGUAGES.values():
            locale = Locale.parse(code)
            yield {"locale": code, "territories": dict(sorted(locale.territories.items()))}
            yield {"locale": code, "currencies": dict(sorted(locale.currencies.items()))}

    def characters() -> Iterator[object]:
        for block in range(0x20, 0x3000, 0x80):
            named = [c for c in map(chr, range(block, block + 0x80)) if unicodedata.name(c, "")]
            yield [{"code": ord(c), "name": unicodedata.name(c), "kind": unicodedata.category(c)} for c in named]

    def dumps(records: Iterable[object], indent: int | None) -> Iterator[str]:
        return (json.dumps(record, indent=indent, ensure_ascii=indent is None) for record in records)

    distributions = (metadata.metadata(name).json | {"description": ""} for name in _versions())
    made = (dumps(signatures(), 2), dumps(names(), 2), dumps(characters(), None), dumps(distributions, 4))
    return _in_turn(*made, *map(files, _versions()))


def _base64() -> Iterator[str]:
    """certifi's certificates, and generated texts that carry the bytes of the standard library."""

    def certificates() -> Iterator[str]:
        for _, path in _installed("certifi", ".pem"):
            blocks = _read(path).split("\n\n")
            yield from ("\n\n".join(blocks[i : i + 4]) for i in range(0, len(blocks), 4))

    return _in_turn(certificates(), pocket_sequences.base64_texts(_standard_library()))


def _messages(code: str) -> list[str]:
    """Sentences of the installed message catalogues in a language, shuffled."""
    from babel.messages.mofile import read_mo

    found = set()
    for name in _versions():
        for file, path in _installed(name, ".mo"):
            if file.count("/") >= 2 and file.split("/")[-3].replace("-", "_") in (code, code[:2]):
                with path.open("rb") as stream:
                    found |= {message.string for message in read_mo(stream) if message.id}
    return sorted((text for text in found if isinstance(text, str) and len(text.encode()) >= 20), key=_order)


def _language(name: str, code: str) -> Iterator[str]:
    """What was written for this project, if anything; then messages from catalogues between CLDR's text."""
    written = PARAGRAPHS / f"{name}.txt"
    if written.exists():
        yield from _read(written).split("\n\n\n")
    yield from pocket_locales.locale_texts(code, _messages(code))


# --- the whole ----------------------------------------------------------------------------------------------


def _slices() -> list[tuple[str, Iterator[str], int]]:
    """(slice, its texts, how many bytes to take)."""
    return [
        ("prose", _prose(), 3_000_000),
        ("code", _code(), 4_000_000),
        ("markup", _markup(), 1_000_000),
        ("latex", _latex(), 900_000),
        ("legal", _legal(), 400_000),
        ("json", _json(), 700_000),
        ("base64", _base64(), 500_000),
        ("hex", pocket_sequences.hex_texts(_standard_library()), 400_000),
        ("dna", pocket_sequences.dna_texts(), 400_000),
        *((name, _language(name, code), 130_000) for name, code in LANGUAGES.items()),
    ]


def _pieces(text: str) -> Iterator[str]:
    """Cut at line boundaries into pieces of at most MAX_CHARACTERS; a longer line is cut anywhere."""
    piece = ""
    for line in text.splitlines(keepends=True):
        while len(piece) + len(line) > MAX_CHARACTERS:
            if not piece:
                piece, line = line[:MAX_CHARACTERS], line[MAX_CHARACTERS:]
            yield piece
            piece = ""
        piece += line
    yield piece


def documents() -> Iterator[Document]:
    """Every document of the pocket text, each at most 20,000 characters long and none twice.

    Raises SaeCoreError if a distribution that the text cannot do without is not installed.
    """
    _versions()
    seen = set()
    for name, texts, budget in _slices():
        for text in texts:
            if budget <= 0:
                break
            text = re.sub(r"[\x00-\x08\x0b-\x1f\x7f\ufeff\ud800-\udfff]", "", text)  # not valid in every format
            for number, piece in enumerate(map(str.strip, _pieces(text))):
                key = " ".join(piece.split())
                if len(key) >= 40 and key not in seen and (number < MAX_PIECES or name == "code"):
                    seen.add(key)
                    budget -= len(piece.encode())
                    yield Document(piece, name)


def identity() -> str:
    """Hex digest of what determines the text: versions, the standard library's modules, and this source."""
    modules = [(name, path.stat().st_size) for name, path in _standard_library()]
    digest = hashlib.sha256(repr((platform.python_version(), _versions(), modules)).encode())
    for path in (*sorted(Path(__file__).parent.glob("pocket*.py")), *sorted(PARAGRAPHS.glob("*.txt"))):
        digest.update(path.read_bytes())
    return digest.hexdigest()
