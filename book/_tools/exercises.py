"""The format of the exercises, which CONTRIBUTING.md describes: reads it from a chapter, and says what is missing.

`problems` judges a chapter by its source alone. `unproven` judges a chapter that was run, by what its cells printed:
the blank stub is not an answer, the solution passes, and a plausible wrong answer is refused with a reason.
"""

from __future__ import annotations

import ast
import builtins
import re
import symtable
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import jupytext
import yaml
from nbformat import NotebookNode

FENCE = re.compile(
    r"^(?:`{3,}|:{3,})\{(?P<name>(?:exercise|solution)-(?:start|end))\} ?(?P<title>.*)(?P<options>(?:\n:[\w-]+:.*)*)"
    r"(?:\n(?:`{3,}|:{3,})$)?",
    re.MULTILINE,
)
FIRST_LINE = re.compile(r"\*Difficulty [1-5]/5 · importance [1-5]/5 · [1-9]\d* minutes\.\* \S")
HINT = re.compile(r"^(?:`{3,}|:{3,})\{admonition\} Hint (\d+)\n:class: dropdown$", re.MULTILINE)
LEAST = 4  # exercises in a chapter of a numbered part
PARTS = {"stub": "answer", "check": "answer", "wrong-answers": "after"}  # where the cells with these tags stand


@dataclass(frozen=True)
class Cell:
    """A code cell. `part` says where it stands: "outside" of exercises and solutions, in an exercise's "task", in the
    "answer" that is asked for between exercise and solution, in the "solution", or "after" that."""

    place: int  # in the notebook
    part: str
    tags: frozenset[str]
    source: str


@dataclass
class Exercise:
    label: str
    title: str
    task: str = ""  # Markdown between exercise-start and exercise-end
    folded: bool = False  # is the solution?
    cells: list[Cell] = field(default_factory=list)

    def tagged(self, tag: str) -> list[Cell]:
        return [cell for cell in self.cells if tag in cell.tags]

    @property
    def solution(self) -> list[Cell]:
        return [cell for cell in self.cells if cell.part == "solution"]


def read(notebook: NotebookNode) -> tuple[list[Exercise], list[Cell], list[str]]:
    """The exercises of a chapter, the code cells that are of none, and which fences do not fit each other."""
    exercises: list[Exercise] = []
    outside: list[Cell] = []
    problems: list[str] = []
    part = "outside"
    for place, cell in enumerate(notebook.cells):
        if cell.cell_type == "code":
            tags = frozenset(cell.metadata.get("tags", ()))
            found = Cell(place, part, tags, cell.source)
            mine = part in ("task", "solution") or (part != "outside" and tags & set(PARTS))
            (exercises[-1].cells if mine else outside).append(found)
            continue
        if cell.cell_type != "markdown":
            continue
        end = 0
        for fence in [*FENCE.finditer(cell.source), None]:
            if part == "task":
                exercises[-1].task += cell.source[end : fence.start() if fence else None]
            if fence is None:
                break
            end, name, title = fence.end(), fence["name"], fence["title"].strip()
            label = re.search(r":label: *(\S+)", fence["options"])
            if name == "exercise-start":
                exercises.append(Exercise(label[1] if label else "", title))
            here = exercises[-1].label if exercises else title
            if name.endswith("start") and part in ("task", "solution"):
                problems.append(f"{here}: begins before the {part} of the one above has ended")
            if name == "solution-start":
                if title != here:
                    problems.append(f"{title}: its solution does not stand right behind it")
                elif exercises:
                    exercises[-1].folded = ":class: dropdown" in fence["options"]
            if name.endswith("end") and part != {"exercise-end": "task", "solution-end": "solution"}[name]:
                problems.append(f"{here}: {name} without its start")
            part = {"exercise-start": "task", "exercise-end": "answer", "solution-start": "solution"}.get(name, "after")
    if part in ("task", "solution"):
        problems.append(f"{exercises[-1].label if exercises else '?'}: the {part} has no end")
    return exercises, outside, problems


def problems(name: str, source: str, least: int = 0) -> list[str]:
    """What is wrong with the exercises of a chapter, one line each.

    name: the chapter's path below book/, such as "features/arabic".
    source: its percent script.
    least: how many exercises it must have.
    """
    exercises, outside, found = read(jupytext.reads(source, fmt="py:percent"))
    if len(exercises) < least:
        found.append(f"{len(exercises)} exercises; a chapter has at least {least}")
    labels = [exercise.label for exercise in exercises]
    found += [f"{label}: the label is there twice" for label in sorted(set(labels)) if labels.count(label) > 1]
    found += [f"a {tag} cell that belongs to no exercise" for cell in outside for tag in sorted(cell.tags & set(PARTS))]

    of_solutions = set[str]().union(
        *(bound(cell.source) for each in exercises for cell in [*each.solution, *each.tagged("wrong-answers")])
    )
    words = set(re.findall(r"[a-z0-9]+", name.lower()))
    for exercise in exercises:
        before = [cell for cell in outside if cell.place < min([c.place for c in exercise.solution], default=0)]
        before += [cell for each in exercises for tag in ("stub", "check") for cell in each.tagged(tag)]
        found += [f"{exercise.label or exercise.title}: {line}" for line in _of_text(exercise, words)]
        found += [f"{exercise.label or exercise.title}: {line}" for line in _of_code(exercise, before, of_solutions)]
    return [f"book/{name}.py: {line}" for line in found]


def _of_text(exercise: Exercise, words: set[str]) -> Iterable[str]:
    label = re.fullmatch(r"ex-([a-z0-9]+)(-[a-z0-9]+)+", exercise.label)
    if not label or label[1] not in words:
        yield f"label it ex-<chapter>-<name>, with a word of the chapter's path: one of {', '.join(sorted(words))}"
    if not exercise.title:
        yield "it has no title"
    if not FIRST_LINE.match(exercise.task.strip()):
        yield 'its first line is not "*Difficulty 2/5 · importance 3/5 · 15 minutes.* The task …"'
    hints = [int(number) for number in HINT.findall(exercise.task)]
    if len(hints) < 2 or hints != list(range(1, len(hints) + 1)):
        yield f"the ladder needs folded hints, Hint 1, Hint 2 and so on; found {hints or 'none'}"
    if exercise.solution and not exercise.folded:
        yield "its solution is not folded (:class: dropdown)"


def _of_code(exercise: Exercise, before: list[Cell], of_solutions: set[str]) -> Iterable[str]:
    stub, check, wrong = (exercise.tagged(tag) for tag in PARTS)
    for tag, part in PARTS.items():
        if any(cell.part != part for cell in exercise.tagged(tag)):
            yield f"a {tag} cell stands in the wrong place: stub, check, solution and wrong answers, in this order"
    if len(stub) != 1 or len(check) != 1:
        yield f"needs one stub cell and one check cell; found {len(stub)} and {len(check)}"
        return
    if stub[0].place > check[0].place:
        yield "the check cell stands before the stub"
    if "hide-input" not in check[0].tags:
        yield 'the check cell is not folded (tags=["check", "hide-input"])'
    if any("remove-cell" not in cell.tags for cell in wrong):
        yield 'the wrong answers are on the page (tags=["remove-cell", "wrong-answers"])'

    body = ast.parse(check[0].source).body
    tests = [node for node in body if isinstance(node, ast.FunctionDef) and _label(node) is not None]
    if len(tests) != 1 or _label(tests[0]) != exercise.label:
        yield f'the check cell needs one function under @check("{exercise.label}")'
        return
    call, name = _call(body[-1]), tests[0].name
    if call is None or not call.args or ast.unparse(call.func) != name:
        yield f"the check cell does not end in {name}(…)"
        return
    answers = [ast.unparse(argument) for argument in call.args]
    for answer in answers:
        if not _blank(stub[0].source, answer):
            yield f"the stub does not leave `{answer}` blank (raise NotImplementedError, or = None)"
        if any(answer in bound(cell.source) for cell in before if cell.part == "outside"):
            yield f"the chapter has a `{answer}` of its own, which the answer would replace"

    ends = [cell for cell in exercise.solution if ast.unparse(_last(cell.source)) == ast.unparse(body[-1])]
    if not ends:
        yield f"the solution does not end in {ast.unparse(call)}"
    elif any(cell.place > ends[-1].place and "remove-cell" not in cell.tags for cell in exercise.solution):
        yield f"in the solution, code follows upon {ast.unparse(call)}"
    made = set[str]().union(*(bound(cell.source) for cell in exercise.solution))
    if missing := [answer for answer in answers if answer not in made]:
        yield f"the solution does not define {', '.join(missing)}"

    refusals = [
        node
        for cell in wrong
        for node in ast.walk(ast.parse(cell.source))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == f"{name}.refuses"
    ]
    if not refusals:
        yield f'no wrong answer: {name}.refuses(…, because="words of the message")'
    reasons = [keyword.value for call in refusals for keyword in call.keywords if keyword.arg == "because"]
    if len(reasons) < len(refusals) or not all(isinstance(reason, ast.Constant) and reason.value for reason in reasons):
        yield "a wrong answer is refused without a reason (because=…)"

    known = set(dir(builtins)).union(*(bound(cell.source) for cell in before if cell.place <= check[0].place))
    for used in sorted(used_names(check[0].source) - known):
        where = "only a solution" if used in of_solutions else "nothing before it"
        yield f"its check uses `{used}`, which {where} defines"
    for used in sorted(used_names(check[0].source, inside=True) & known & of_solutions):
        yield f"its check reads `{used}`, which a solution sets"


def unproven(source: str, executed: NotebookNode) -> list[str]:
    """What the run of a chapter does not show of its exercises, one line each.

    source: its percent script.
    executed: a notebook with the chapter's code cells, their tags and what they printed.
    """
    printed: dict[str, set[str]] = {tag: set() for tag in (*PARTS, "")}
    for cell in executed.cells:
        tag = next((tag for tag in PARTS if tag in cell.metadata.get("tags", ())), "")
        text = "".join(output.get("text", "") for output in cell.get("outputs", ()))  # a line may come in two pieces
        printed[tag].update(text.splitlines())
    found = []
    for exercise in read(jupytext.reads(source, fmt="py:percent"))[0]:
        label = exercise.label
        if f"✗ {label}: not answered yet" not in printed["check"]:
            found.append(f"{label}: the blank stub does not fail")
        if f"✓ {label}: passed" not in printed[""]:
            found.append(f"{label}: the solution does not pass")
        if not any(line.startswith(f"refused {label}: ") for line in printed["wrong-answers"]):
            found.append(f"{label}: no wrong answer is refused")
    return found


def chapters(root: Path) -> dict[str, tuple[str, int]]:
    """Every chapter of the book that is a script, and the template: {path below book/: (source, least exercises)}."""
    toc = yaml.safe_load((root / "_toc.yml").read_text())
    pages = {toc["root"]: 0, "book/_template": 0}
    for part in toc["parts"]:
        pages |= {chapter["file"]: LEAST if part.get("numbered", True) else 0 for chapter in part["chapters"]}
    scripts = {page: root / f"{page}.py" for page in pages}
    return {
        page.removeprefix("book/"): (path.read_text(encoding="utf-8"), pages[page])
        for page, path in scripts.items()
        if path.is_file()
    }


def bound(source: str) -> set[str]:
    """The names that a cell defines for the cells after it."""
    table = symtable.symtable(source, "a cell", "exec")
    return {symbol.get_name() for symbol in table.get_symbols() if symbol.is_assigned() or symbol.is_imported()}


def used_names(source: str, inside: bool = False) -> set[str]:
    """The names that a cell takes from cells before it; `inside`, only those that its functions look up when called."""

    def of(table: symtable.SymbolTable, depth: int) -> set[str]:
        used = {s.get_name() for s in table.get_symbols() if s.is_referenced() and (depth == 0 or s.is_global())}
        used = used if depth or not inside else set()
        return used.union(*(of(child, depth + 1) for child in table.get_children()))

    return of(symtable.symtable(source, "a cell", "exec"), 0) - bound(source)


def _last(source: str) -> ast.stmt:
    return (ast.parse(source).body or [ast.Pass()])[-1]


def _call(statement: ast.stmt) -> ast.Call | None:
    value = statement.value if isinstance(statement, ast.Expr) else None
    return value if isinstance(value, ast.Call) else None


def _label(function: ast.FunctionDef) -> str | None:
    """The label in a function's decorator, if it is a check."""
    for decorator in function.decorator_list:
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "check" and decorator.args:
            return str(ast.literal_eval(decorator.args[0]))
    return None


def _blank(stub: str, name: str) -> bool:
    """Does a stub define the name, as something that nobody could take for an answer?"""
    for node in ast.parse(stub).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            last = node.body[-1]
            return isinstance(last, ast.Raise) and "NotImplementedError" in ast.unparse(last)
        if isinstance(node, ast.Assign) and name in map(ast.unparse, node.targets):
            return ast.unparse(node.value) in ("None", "...")
    return False
