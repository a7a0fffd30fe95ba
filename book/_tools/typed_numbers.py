"""Finds typed results: numbers in a chapter's prose that no code computed and no source is named for.

    python book/_tools/typed_numbers.py [chapter.py ...]

Prose is Markdown, captions, and the strings in code, since these become the words of figures and sentences chosen by
code. A number in it is a mistake unless it is

- glued, or in code or a formula;
- whole and below ten, a year, or an exercise's minutes;
- a source's: its sentence, or its row or column of a table, cites one (`{cite}`) or says "paper". Not in a clause that
  says "we", "ours", "here", "this run" or the like;
- a size or a definition that stands as a literal in the chapter's code, so that the two are read together;
- in a box that asks for a prediction;
- named with a reason in a comment of its cell, `<!-- numbers: 512 (neurons); 0.5 (what a coin gets) -->`, which is
  `# numbers: 512 (neurons)` in a cell of code.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import jupytext
import reader

BOOK = Path(__file__).resolve().parents[1]
NUMBER = re.compile(r"(?<![\w.,/^-])[-−+±]?\d(?:[\d,]*\d)?(?:\.\d+)?(?:e[-−+]?\d+)?(?!\w|\.\d)(?:\s?%)?")
FREE = re.compile(r"[-−]?\d|(?:19|20)\d\d")
SOURCE = re.compile(r"\{cite|\bpaper\b", re.I)
OURS = re.compile(r"\b(?:we|us|our|ours|here|this (?:run|page|chapter|book|dictionary|model|text))\b", re.I)
EXCUSES = re.compile(r"<!-- numbers: (.*?) -->", re.S)
CODE_EXCUSES = re.compile(r"^# numbers: (.*)$", re.M)
EXCUSE = re.compile(rf"\s*(?P<number>{NUMBER.pattern}) \((?P<reason>[^()]{{3,}})\)\s*")
NO_PROSE = [
    re.compile(r"^(?P<fence>[`:]{3,})\{admonition\} Predict.*?^(?P=fence)$", re.M | re.S),
    re.compile(r"^(?P<fence>`{3,})(?:\{(?:code|code-block|code-cell|math|raw)\}|[\w-]*$).*?^(?P=fence)$", re.M | re.S),
    re.compile(r"\$\$.*?\$\$", re.S),
    re.compile(r"\*\*Time\*\*: \d+ minutes|· \d+ minutes\.\*"),
    re.compile(r"^(?::\w+:.*|[`:]{3,})$", re.M),
    re.compile(r"\]\([^)]*\)"),
]
FORMULA = re.compile(r"\$(?!\d[\d.,]*\$)[^$]+\$")  # a lone number between dollars is a number
ROLE = re.compile(r"(\{[\w:]+\})?(`+).+?\2", re.S)


def typed(source: str) -> list[str]:
    """A line for each typed result in a chapter's source, and for each excuse without a reason or a use."""
    cells = jupytext.reads(source, fmt="py:percent").cells
    code = [ast.parse(cell.source) for cell in cells if cell.cell_type == "code"]
    literals = {
        float(node.value)
        for tree in code
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and type(node.value) in (int, float)
    }
    found: list[str] = []
    for cell in cells:
        if cell.cell_type == "markdown":
            found += _check(EXCUSES.findall(cell.source), _sentences(EXCUSES.sub("", cell.source)), literals)
        elif cell.cell_type == "code":
            found += _check(CODE_EXCUSES.findall(cell.source), _in_code(cell.source), literals)
    return found


def _check(comments: list[str], sentences: Iterable[tuple[str, str]], literals: set[float]) -> list[str]:
    """What is wrong in a cell: the comments that excuse numbers, its sentences with their contexts."""
    found, excused = [], {}
    for entry in ";".join(comments).split(";") if comments else []:
        if excuse := EXCUSE.fullmatch(entry):
            excused[_value(excuse["number"])] = excuse["number"]
        else:
            found.append(f"not of the form 'number (reason)': {' '.join(entry.split())!r}")
    results = [
        (number, sentence) for sentence, context in sentences for number in _results(sentence, context, literals)
    ]
    for number, sentence in results:
        if _value(number) not in excused:
            found.append(f"{number} in {' '.join(sentence.split())!r}")
    unused = excused.keys() - {_value(number) for number, _ in results}
    return found + [f"{excused[value]} is excused, and nothing in the cell needs it" for value in unused]


def _in_code(source: str) -> Iterator[tuple[str, str]]:
    """Captions, and the strings of the code that have more than one word; ` stands for what is computed."""
    options, _ = reader.figure_options(source)
    if options:
        yield from _sentences(options["caption"])

    def strings(node: ast.AST) -> Iterator[str]:
        if isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else "`" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        else:
            for child in ast.iter_child_nodes(node):
                yield from strings(child)

    for text in strings(ast.parse(source)):
        if re.search(r"[^\W\d]\s", text):
            yield from ((sentence, sentence) for sentence in re.split(r"(?<=[.?!])\s+", text))


def _sentences(text: str) -> Iterator[tuple[str, str]]:
    """Sentences and table cells, each with what says whose numbers they hold: itself, or its row and column, too."""
    for pattern in NO_PROSE:
        text = pattern.sub("\n" if pattern.flags & re.S else "", text)
    header: list[str] = []
    for block in re.split(r"\n\s*\n|\n(?=\s*(?:[-*] |\d+\. |\||#|[`:]{3,}))", _rows(text)):
        block = " ".join(block.split())
        if not block.startswith("|"):
            header = []
            for sentence in re.split(r"(?<=[.?!])[\"*)]*\s+(?=\W*[A-Z])", block):
                yield sentence, sentence
            continue
        cells = re.split(r"(?<!\\)\|", block.strip().strip("|"))
        if not header:
            header = cells
        for index, cell in enumerate(cells):
            column = header[index] if index < len(header) and cells is not header else ""
            yield cell, f"{cell} {cells[0]} {column}"


def _rows(text: str) -> str:
    """The text with list-tables as tables of lines."""

    def row(match: re.Match) -> str:
        cells = re.split(r"\n  -", match[0].removeprefix("* -"))
        return "| " + " | ".join(" ".join(cell.split()) for cell in cells) + " |\n"

    return re.sub(r"^\* -.*\n(?:  .*\n?)*", row, text, flags=re.M)


def _results(sentence: str, context: str, literals: set[float]) -> list[str]:
    """The numbers of a sentence that need an excuse."""
    of_a_source = bool(SOURCE.search(context))
    found = []
    for clause in re.split(r"[,;:]\s", FORMULA.sub("$", ROLE.sub("`", sentence))):
        if of_a_source and not OURS.search(clause):
            continue
        for number in NUMBER.findall(clause):
            value = _value(number)
            if FREE.fullmatch(number) or value in literals or (number.endswith("%") and value / 100 in literals):
                continue
            found.append(number)
    return found


def _value(number: str) -> float:
    return float(re.sub(r"[−]", "-", re.sub(r"[,%\s±+]", "", number)))


def chapters() -> list[Path]:
    """The sources of the chapters and of their template."""
    return sorted([*BOOK.glob("*.py"), *BOOK.glob("[!_]*/*.py")])


def main(arguments: list[str]) -> int:
    paths = [Path(argument) for argument in arguments] or chapters()
    found = [f"{path}: {line}" for path in paths for line in typed(path.read_text(encoding="utf-8"))]
    print("\n".join(found) or f"no typed result in {len(paths)} chapters")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
