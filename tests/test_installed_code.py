"""The source code that an installation has on its disk, as text for training."""

import re
from collections import Counter
from pathlib import Path

import pytest

from sae_core import installed_code


@pytest.fixture(scope="module")
def documents():
    return list(installed_code.documents())


def test_there_is_enough_code_and_each_document_fits(documents):
    assert sum(len(document.text.encode()) for document in documents) > 6_000_000
    assert all(200 <= len(document.text) <= installed_code.MAX_CHARACTERS for document in documents)
    assert {document.slice for document in documents} == {"code"}


def test_no_document_comes_twice(documents):
    assert max(Counter(document.text for document in documents).values()) == 1


def test_the_text_is_the_same_every_time(documents):
    assert list(installed_code.documents()) == documents
    assert installed_code.identity() == installed_code.identity()


def test_minified_and_generated_files_are_left_out(documents):
    longest = max(len(line) for document in documents for line in document.text.splitlines())
    assert longest <= installed_code.LONGEST_LINE
    assert not any("automatically generated" in document.text[:500] for document in documents)


def test_it_holds_what_the_mini_pile_lacks(documents):
    text = "\n".join(document.text for document in documents)
    assert len(re.findall(r"\b[a-z]+(?:_[a-z]+)+\b", text)) > 10_000  # snake_case
    assert len(re.findall(r"\b[A-Z]{2,}(?:_[A-Z]+)+\b", text)) > 1_000  # ALL_CAPS
    assert text.count("#include") > 100 and text.count("</div>") > 100


def test_the_home_folder_does_not_appear(documents):
    home = str(Path.home())
    if len(home) > 5:  # "/root" stands in many a source
        assert not any(home in document.text for document in documents)
