"""The checks of exercises: one line for whatever an answer does."""

import pytest

from sae_core.errors import SaeCoreError
from sae_core.exercises import check


@check("ex-double")
def check_double(double):
    assert double(2) == 4, "twice two is four"
    assert double(-1) == -2, "negative numbers double, too"


def blank(x):
    raise NotImplementedError


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (lambda x: 2 * x, "✓ ex-double: passed"),
        (lambda x: x * x, "✗ ex-double: negative numbers double, too"),
        (lambda x: None, "✗ ex-double: twice two is four"),
        (lambda: 0, "✗ ex-double: your answer raises TypeError"),
        (blank, "✗ ex-double: not answered yet"),
        (None, "✗ ex-double: not answered yet"),
        (..., "✗ ex-double: not answered yet"),
    ],
)
def test_one_line_for_every_answer(answer, line, capsys):
    check_double(answer)
    out = capsys.readouterr().out
    assert out.startswith(line) and out.count("\n") == 1


def test_a_wrong_answer_is_refused_with_its_reason(capsys):
    check_double.refuses(lambda x: x * x, because="negative")
    assert capsys.readouterr().out == "refused ex-double: negative numbers double, too\n"
    with pytest.raises(SaeCoreError, match="does not say 'zero'"):
        check_double.refuses(lambda x: x * x, because="zero")
    with pytest.raises(SaeCoreError, match="passes its check"):
        check_double.refuses(lambda x: 2 * x, because="")


def test_an_assertion_without_a_message_still_says_something(capsys):
    @check("ex-silent")
    def silent(answer):
        if answer < 1:
            raise AssertionError

    silent(0)
    assert capsys.readouterr().out == "✗ ex-silent: not right yet\n"


def test_a_label_is_that_of_an_exercise():
    with pytest.raises(SaeCoreError, match="names no exercise"):
        check("double")
