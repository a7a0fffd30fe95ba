"""The reference of the package, made from its source: every public name with its signature and its docstring.

    ```{api} autoencoder objective
    ```

shows these files of sae_core in this order. The source is parsed and never imported. Signatures and the fields of
records stand as the source has them, comments included; docstrings, which are plain prose, become paragraphs, and what
is indented in them code. A name in backticks that the page documents is a link, and every name is in the book's index.
"""

from __future__ import annotations

import ast
import functools
import re
from dataclasses import dataclass
from inspect import cleandoc
from pathlib import Path
from textwrap import dedent

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx import addnodes
from sphinx.application import Sphinx

PACKAGE = Path(__file__).resolve().parents[2] / "sae_core"
INLINE = re.compile(r"(?P<ticks>`{1,2})(?P<code>[^`]+)(?P=ticks)|(?<![\w*])\*(?P<emphasis>[^\s*][^*]*)\*(?![\w*])")
PARAMETER = re.compile(r"(?P<names>[a-z_]\w*(?:, [a-z_]\w*)*): ")  # begins a line about one or more parameters


@dataclass(frozen=True)
class Entry:
    """A public class, function, method or property."""

    name: str  # with the class's in front of a method's
    signature: str
    docstring: str
    fields: str  # what a record declares, "" for anything else
    members: tuple[Entry, ...]


@functools.cache
def read(module: str) -> tuple[str, tuple[Entry, ...]]:
    """The docstring of a file of the package, and its public names in the order of the source."""
    source = (PACKAGE / f"{module}.py").read_text(encoding="utf-8")
    tree = ast.parse(source)
    return ast.get_docstring(tree) or "", _entries(tree, source.splitlines())


def _entries(parent: ast.Module | ast.ClassDef, lines: list[str]) -> tuple[Entry, ...]:
    found = []
    for node in parent.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef) or node.name.startswith("_"):
            continue
        docstring = ast.get_docstring(node) or ""
        if isinstance(node, ast.ClassDef):
            found.append(Entry(node.name, _class(node, lines), docstring, _fields(node, lines), _entries(node, lines)))
        elif isinstance(parent, ast.Module):
            found.append(Entry(node.name, _header(node, lines), docstring, "", ()))
        elif docstring:  # a method without one does what its name, or that of the parent class, says
            found.append(Entry(f"{parent.name}.{node.name}", _header(node, lines), docstring, "", ()))
    return tuple(found)


def _header(node: ast.ClassDef | ast.FunctionDef, lines: list[str]) -> str:
    """The source from `def` or `class` to the colon; `@property` above it, no other decorator."""
    header = dedent("\n".join(lines[node.lineno - 1 : node.body[0].lineno - 1])).rstrip().removesuffix(":")
    is_property = any(ast.unparse(decorator).endswith("property") for decorator in node.decorator_list)
    return f"@property\n{header}" if is_property else header


def _class(node: ast.ClassDef, lines: list[str]) -> str:
    made = [part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__init__"]
    return "\n".join([_header(node, lines), *(_header(init, lines) for init in made)])


def _fields(node: ast.ClassDef, lines: list[str]) -> str:
    declared = [range(part.lineno - 1, part.end_lineno) for part in node.body if isinstance(part, ast.AnnAssign)]
    return dedent("\n".join(lines[at] for span in declared for at in span))


def identifier(module: str, name: str = "") -> str:
    return "-".join(filter(None, ["api", module, *name.split(".")]))  # in the case of the source: Stopped and stopped


@functools.cache
def places() -> dict[str, str]:
    """The id of each name that is unmistakable as it stands: `resample`, `Trainer.run`, `step`, `parallel.mean`."""
    found: dict[str, set[str]] = {}
    for path in sorted(PACKAGE.glob("[!_]*.py")):
        found.setdefault(path.stem, set()).add(identifier(path.stem))
        for entry in read(path.stem)[1]:
            for each in (entry, *entry.members):
                for name in (each.name, f"{path.stem}.{each.name}"):
                    found.setdefault(name, set()).add(identifier(path.stem, each.name))
    return {name: ids.pop() for name, ids in found.items() if len(ids) == 1}


class Api(Directive):
    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        environment = self.state.document.settings.env
        sections = []
        for module in self.arguments[0].split():
            environment.note_dependency(str(PACKAGE / f"{module}.py"))
            docstring, entries = read(module)
            section = nodes.section(ids=[identifier(module)])
            section += nodes.title("", f"sae_core.{module}")
            section += paragraphs(docstring)
            for entry in entries:
                section += show(module, entry)
            sections.append(section)
        return sections


def show(module: str, entry: Entry) -> list[nodes.Node]:
    """An entry, its members below it, and its place in the index."""
    place = identifier(module, entry.name)
    body = nodes.container(classes=["api-body"])
    body += paragraphs(entry.docstring)
    if entry.fields:
        body += nodes.literal_block(entry.fields, entry.fields, language="python")
    for member in entry.members:
        body += show(module, member)
    block = nodes.container(ids=[place], classes=["api-entry"])
    block += nodes.literal_block(entry.signature, entry.signature, language="python")
    block += body
    return [addnodes.index(entries=[("single", f"{entry.name} (sae_core.{module})", place, "", None)]), block]


def paragraphs(docstring: str) -> list[nodes.Node]:
    """A docstring's paragraphs; a parameter, the errors and the source have one each."""
    made: list[nodes.Node] = []
    for part in re.split(r"\n\s*\n", cleandoc(docstring)):
        if part.startswith("    "):
            code = dedent(part)
            made.append(nodes.literal_block(code, code, language="none"))
            continue
        items: list[list[str]] = []
        for line in part.splitlines():
            done = not items or items[-1][-1].endswith((".", ")"))  # a word with a colon may also begin a line
            if not items or done and PARAMETER.match(line) or line.startswith(("Raises ", "Source: ")):
                items.append([])
            items[-1].append(line.strip())
        for text in map(" ".join, filter(None, items)):
            paragraph = nodes.paragraph(support_smartquotes=False)  # "[..., d_in]" and "--out" stay what they are
            if parameter := PARAMETER.match(text):
                paragraph += [nodes.literal("", parameter["names"]), nodes.Text(": ")]
                text = text[parameter.end() :]
            paragraph += inline(text)
            made.append(paragraph)
    return made


def inline(text: str) -> list[nodes.Node]:
    """Text, with its `code` and its *emphasis*."""
    made: list[nodes.Node] = []
    end = 0
    for found in INLINE.finditer(text):
        made.append(nodes.Text(text[end : found.start()]))
        end = found.end()
        if found["emphasis"]:
            made.append(nodes.emphasis("", found["emphasis"]))
            continue
        literal = nodes.literal("", found["code"])
        place = places().get(found["code"])
        made.append(nodes.reference("", "", literal, refid=place, internal=True) if place else literal)
    return [*made, nodes.Text(text[end:])]


def setup(app: Sphinx) -> dict:
    app.add_directive("api", Api)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
