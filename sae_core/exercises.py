"""Checks for the book's exercises: an assertion with a message is all that a check has to say.

    @check("ex-toy-dimensions")
    def check_dimensions(dimensions):
        assert dimensions(identity).shape == (5,), "one number for each feature: sum over the other axis"

    check_dimensions(dimensions)   # prints one line, whatever the answer does

A check never sees the solution. It computes what it needs, or tests a property that every right answer has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .errors import SaeCoreError


class Check:
    """A test of an answer that prints one line: passed, not answered yet, or what is wrong.

    label: of the exercise in the book, such as "ex-toy-dimensions".
    test: takes the answer (a function, a number, an array; several if it likes) and raises AssertionError with a
        message for the reader.
    """

    def __init__(self, label: str, test: Callable[..., None]):
        self.label, self.test = label, test
        self.__doc__ = test.__doc__

    def __call__(self, *answers: Any) -> None:
        """Print the verdict. Nothing that an answer does, short of an exit, raises."""
        problem = self._problem(answers)
        print(f"✓ {self.label}: passed" if problem is None else f"✗ {self.label}: {problem}")

    def refuses(self, *answers: Any, because: str) -> None:
        """Raise SaeCoreError unless this wrong answer fails, with `because` in the message: a test of the check."""
        problem = self._problem(answers)
        if problem is None:
            raise SaeCoreError(f"{self.label}: a wrong answer passes its check; make the check stricter")
        if because not in problem:
            raise SaeCoreError(f"{self.label}: refused with {problem!r}, which does not say {because!r}")
        print(f"refused {self.label}: {problem}")

    def _problem(self, answers: tuple[Any, ...]) -> str | None:
        if any(answer is None or answer is ... for answer in answers):
            return "not answered yet"
        try:
            self.test(*answers)
        except NotImplementedError:
            return "not answered yet"
        except AssertionError as error:
            return _first_line(error) or "not right yet"
        except Exception as error:  # the reader's code may do anything
            return f"your answer raises {type(error).__name__}: {_first_line(error)}"
        return None


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def check(label: str) -> Callable[[Callable[..., None]], Check]:
    """Turn a function of assertions into the check of the exercise with that label.

    Raises SaeCoreError for a label that is not one of an exercise.
    """
    if not label.startswith("ex-"):
        raise SaeCoreError(f"check {label!r} names no exercise; labels look like 'ex-toy-dimensions'")
    return lambda test: Check(label, test)
