"""Source code that an installation already has on its disk: Python, C headers, JavaScript, templates and style sheets.

The mini-pile has no code, and a language model without code has no snake_case, no ALL_CAPS constants and no brackets.
Files are read as text, never imported. Which files are taken depends on the installed versions alone.
"""

from __future__ import annotations

import hashlib
import re
import sysconfig
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from .corpus import Document

# Bytes of each kind of file, at most; about 11 MB together, 8 % of the text that the bundled model is trained on.
BYTES = {".py": 9_000_000, ".h": 2_500_000, ".js": 1_000_000, ".html": 500_000, ".css": 500_000}
DISTRIBUTIONS = (
    "torch", "numpy", "sympy", "networkx", "jinja2", "transformers", "huggingface-hub", "transformer-lens", "datasets",
    "pandas", "sphinx", "docutils", "pygments", "jupyter-book", "myst-nb", "plotly", "nbconvert", "ipykernel",
    "sphinx-book-theme", "pydata-sphinx-theme", "sphinx-copybutton", "sphinx-togglebutton", "sphinx-thebe", "pip",
)  # fmt: skip
MAX_CHARACTERS = 20_000  # of one document; longer files are cut there
LONGEST_LINE = 1_000  # a longer line is minified code or data


def documents() -> Iterator[Document]:
    """Documents of the slice `code`, at most one per file, up to BYTES of each kind."""
    taken = dict.fromkeys(BYTES, 0)
    seen = set()
    for path in _files():
        if taken[path.suffix] >= BYTES[path.suffix]:
            continue
        try:
            text = path.read_text(encoding="utf-8")[:MAX_CHARACTERS]
        except (OSError, UnicodeDecodeError):
            continue
        if len(text) < 200 or text in seen or "automatically generated" in text[:500]:
            continue
        if max(map(len, text.splitlines())) > LONGEST_LINE:
            continue
        seen.add(text)
        taken[path.suffix] += len(text.encode())
        yield Document(text, "code")


def identity() -> str:
    """A digest of what decides the text: this file and the installed versions."""
    versions = [(name, metadata.version(name)) for name in DISTRIBUTIONS if _is_installed(name)]
    own = Path(__file__).read_bytes()
    return hashlib.sha256(own + repr((sysconfig.get_python_version(), versions)).encode()).hexdigest()


def _files() -> list[Path]:
    """The standard library's and the distributions' files, in an order that favours no package."""
    standard_library = Path(sysconfig.get_path("stdlib"))
    named = [(path.relative_to(standard_library), path) for path in standard_library.rglob("*.py")]
    named = [(name, path) for name, path in named if "site-packages" not in name.parts]
    for distribution in filter(_is_installed, DISTRIBUTIONS):
        named += [(name, Path(name.locate())) for name in metadata.files(distribution) or ()]
    tests = re.compile(r"(^|/)(tests?|testing|idle_test|lib2to3|encodings|config-[^/]*)/|_sysconfigdata|/_generated/")
    kept = {name.as_posix(): path for name, path in named if name.suffix in BYTES and not tests.search(name.as_posix())}
    return [kept[name] for name in sorted(kept, key=lambda name: hashlib.sha256(name.encode()).digest())]


def _is_installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True
