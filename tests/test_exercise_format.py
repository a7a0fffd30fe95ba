"""Every exercise of the book has the format that CONTRIBUTING.md describes, and the linter sees when one has not.

That its stub fails, its solution passes and its wrong answers are refused is shown in test_notebooks.py, which runs it.
"""

from __future__ import annotations

from pathlib import Path

import exercises
import jupytext
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_output

CHAPTERS = exercises.chapters(Path(__file__).resolve().parents[1])

GOOD = '''\
# %% [markdown]
# # A chapter

# %%
import numpy as np

from sae_core.exercises import check

size = 3
data = np.arange(size)

# %% [markdown]
# ## Exercises
#
# ```{exercise-start} Twice
# :label: ex-toy-twice
# ```
# *Difficulty 1/5 · importance 3/5 · 5 minutes.* Write `twice(x)`.
#
# ````{admonition} Hint 1
# :class: dropdown
# Add.
# ````
# ````{admonition} Hint 2
# :class: dropdown
# `x + x`
# ````
# ```{exercise-end}
# ```

# %% tags=["stub"]
def twice(x):
    raise NotImplementedError


# %% tags=["check", "hide-input"]
@check("ex-toy-twice")
def check_twice(twice):
    assert (twice(data) == [value * 2 for value in data]).all(), "twice is two times"


check_twice(twice)

# %% [markdown]
# ````{solution-start} ex-toy-twice
# :class: dropdown
# ````

# %%
def twice(x):
    two = 2
    return two * x


size, factor = 4, 2
check_twice(twice)

# %% [markdown]
# Or add.
#
# ````{solution-end}
# ````

# %% tags=["remove-cell", "wrong-answers"]
check_twice.refuses(lambda x: x * x, because="two times")
'''

CHECKED = GOOD[GOOD.index(").all(), ") : GOOD.index("# %% [markdown]\n# ````{solution-start}")]
SOLVED = GOOD[GOOD.index("# %% [markdown]\n# ````{solution-start}") : GOOD.index('# %% tags=["remove-cell"')]

# What is changed in the good chapter, into what, and what the linter must say.
BROKEN = {
    "no difficulty": ("*Difficulty 1/5 · importance", "*Importance", "its first line"),
    "impossible difficulty": ("Difficulty 1/5", "Difficulty 6/5", "its first line"),
    "no importance": (" · importance 3/5", "", "its first line"),
    "no minutes": (" · 5 minutes", "", "its first line"),
    "no task": (" Write `twice(x)`.\n", "\n", "its first line"),
    "no title": ("{exercise-start} Twice", "{exercise-start}", "no title"),
    "one hint": ("{admonition} Hint 2", "{note} Hint 2", "found [1]"),
    "hints in disorder": ("{admonition} Hint 2", "{admonition} Hint 3", "found [1, 3]"),
    "an open hint": ("Hint 2\n# :class: dropdown\n", "Hint 2\n", "found [1]"),
    "a label of another chapter": ("ex-toy-twice", "ex-other-twice", "with a word of the chapter's path"),
    "no stub": ('tags=["stub"]', "", "found 0 and 1"),
    "no check": ('tags=["check", "hide-input"]', "", "found 1 and 0"),
    "two stubs": ('# %% tags=["check"', '# %% tags=["stub"]\ny = 0\n\n# %% tags=["check"', "found 2 and 1"),
    "a stub that answers": ("    raise NotImplementedError", "    return 2 * x", "does not leave `twice` blank"),
    "a stub of another name": ("def twice(x):\n    raise", "def double(x):\n    raise", "does not leave `twice` blank"),
    "an open check": ('["check", "hide-input"]', '["check"]', "is not folded"),
    "a check of another label": ('@check("ex-toy-twice")', '@check("ex-toy-thrice")', "one function under @check"),
    "a check that is not run": (CHECKED, ').all(), "two times"\n\n\n', "does not end in check_twice(…)"),
    "an open solution": ("ex-toy-twice\n# :class: dropdown", "ex-toy-twice", "solution is not folded"),
    "a solution without its check": ("4, 2\ncheck_twice(twice)", "4, 2", "does not end in check_twice(twice)"),
    "a solution of another name": ("def twice(x):\n    two", "def double(x):\n    two", "does not define twice"),
    "a solution of another exercise": ("{solution-start} ex-toy-twice", "{solution-start} ex-toy", "right behind"),
    "code behind the check": ("# %% [markdown]\n# Or", "# %%\nsize = 5\n\n# %% [markdown]\n# Or", "code follows upon"),
    "no solution": (SOLVED, "", "a wrong-answers cell stands in the wrong place"),
    "no wrong answer": ("check_twice.refuses", "print", "no wrong answer"),
    "no reason": ('because="two times"', 'because=""', "without a reason"),
    "wrong answers on the page": ('["remove-cell", "wrong-answers"]', '["wrong-answers"]', "are on the page"),
    "a check that needs the solution": ("value * 2", "value * factor", "`factor`, which only a solution defines"),
    "a check that reads the solution": ("value * 2", "value * size", "reads `size`, which a solution sets"),
    "a check of something unknown": ("value * 2", "value * nobody", "`nobody`, which nothing before it defines"),
    "an answer that the chapter has": ("data = np", "twice = 0\ndata = np", "has a `twice` of its own"),
    "an exercise without an end": ("# ```{exercise-end}\n# ```\n", "", "begins before the task of the one above"),
    "a solution without an end": ("# ````{solution-end}\n# ````\n", "# The end.\n", "the solution has no end"),
    "an end without a start": ("# ````{solution-start} ex-toy-twice\n", "# ````{note}\n", "without its start"),
    "a stray stub": ("# %%\nimport", '# %% tags=["stub"]\nx = None\n\n# %%\nimport', "belongs to no exercise"),
}


@pytest.mark.parametrize("name", CHAPTERS)
def test_chapter_has_the_format(name: str) -> None:
    source, least = CHAPTERS[name]
    assert not exercises.problems(name, source, least)


def test_labels_are_unique() -> None:
    labels = [
        exercise.label
        for source, _ in CHAPTERS.values()
        for exercise in exercises.read(jupytext.reads(source, fmt="py:percent"))[0]
    ]
    assert len(labels) == len(set(labels))


def test_a_good_exercise_passes() -> None:
    assert exercises.problems("features/toy", GOOD, least=1) == []


def test_too_few_exercises() -> None:
    assert exercises.problems("toy", GOOD, least=4) == ["book/toy.py: 1 exercises; a chapter has at least 4"]


def test_a_label_twice() -> None:
    again = GOOD + GOOD[GOOD.index("# %% [markdown]\n# ## Ex") :]
    assert "book/toy.py: ex-toy-twice: the label is there twice" in exercises.problems("toy", again)


@pytest.mark.parametrize("flaw", BROKEN)
def test_a_broken_exercise_is_told_apart(flaw: str) -> None:
    before, after, message = BROKEN[flaw]
    assert before in GOOD
    found = exercises.problems("toy", GOOD.replace(before, after))
    assert any(message in line for line in found), found
    assert all(line.startswith("book/toy.py: ") for line in found)


@pytest.fixture
def executed() -> NotebookNode:
    """The good chapter with what its cells would print."""
    notebook = jupytext.reads(GOOD, fmt="py:percent")
    for cell, line in zip(
        [cell for cell in notebook.cells if "check_twice" in cell.source],
        ["✗ ex-toy-twice: not answered yet", "2\n✓ ex-toy-twice: passed", "refused ex-toy-twice: two times"],
        strict=True,
    ):
        cell.outputs = [new_output("stream", text=f"{line}\n")]
    return notebook


def test_outputs_prove_the_exercise(executed: NotebookNode) -> None:
    assert exercises.unproven(GOOD, executed) == []


@pytest.mark.parametrize(
    ("printed", "instead", "message"),
    [
        ("✗ ex-toy-twice: not answered yet", "✓ ex-toy-twice: passed", "the blank stub does not fail"),
        ("✓ ex-toy-twice: passed", "✗ ex-toy-twice: two times", "the solution does not pass"),
        ("refused ex-toy-twice", "refused ex-toy-thrice", "no wrong answer is refused"),
    ],
)
def test_outputs_that_prove_nothing(executed: NotebookNode, printed: str, instead: str, message: str) -> None:
    for cell in executed.cells:
        for output in cell.get("outputs", ()):
            output.text = output.text.replace(printed, instead)
    assert exercises.unproven(GOOD, executed) == [f"ex-toy-twice: {message}"]
