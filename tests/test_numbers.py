"""No chapter types a result: the linter sees planted ones, and other weights make the prose say other numbers."""

import re
from pathlib import Path

import nbformat
import pytest
import reader
import torch
import typed_numbers
from nbclient import NotebookClient

from sae_core.autoencoder import load_dictionary, save_dictionary

RESULTS = {
    "decimal": "The loss is 3.42 nats.",
    "percentage": "Of the features 12 % are dead.",
    "count": "Of all features, 1,234 fired.",
    "two digits": "We find 17 modes.",
    "negative": "The effect is −2.5 nats.",
    "power": "Densities begin at 3e-7.",
    "as a formula": "The loss is $3.42$ nats.",
    "beside a source": "The paper has 79 % {cite}`bricken2023monosemanticity`, and we have 64 %.",
    "in a list": "- one\n- the loss is 3.42",
    "in a box": "```{admonition} Takeaways\n:class: note\n- The loss is 3.42.\n```",
    "in a table": "| | the paper | here |\n|---|---|---|\n| recovered | 79 % | 64 % |",
    "in a list-table": "```{list-table}\n* -\n  - the paper\n  - here\n* - recovered\n  - 79 %\n  - 64 %\n```",
}
FINE = {
    "glued": "The loss is {glue:text}`loss` nats.",
    "in code": "Set `lam=3.5`:\n\n```python\nlam = 3.5\n```",
    "a formula": "$$\n0.5 \\lVert x \\rVert\n$$\nThat is $0.5 x$.",
    "small": "Two or 3 features, of chapter 2, in 2023.",
    "cited": "They count 168 of 4,096 {cite}`bricken2023monosemanticity`. The paper's A/1 recovers 79 %.",
    "about the paper": "| | the paper | here |\n|---|---|---|\n| recovered | 79 % | {glue:text}`r` |",
    "of the paper": "| | value |\n|---|---|\n| loss of the paper | 3.42 |",
    "a literal": "Of the 20 strongest, the upper 5 % are shown.",
    "a question": "```{admonition} Predict\n:class: tip\nIs it 20.5 %, 50 %, or 90 %?\n```",
    "an exercise": "```{exercise-start} Twice\n:label: ex-twice\n```\n*Difficulty 1/5 · importance 3/5 · 25 minutes.*",
    "minutes": "**Time**: 45 minutes to read.",
    "excused": "A coin gets 0.5.\n\n<!-- numbers: 0.5 (a coin) -->",
    "names": "UTF-8, L0, A/1/3450 and GPT-2.",
}


def chapter(prose: str, code: str = "strongest, share = 20, 0.05") -> str:
    commented = "\n".join(f"# {line}".rstrip() for line in prose.splitlines())
    return f"# %% [markdown]\n{commented}\n\n# %%\n{code}\n"


@pytest.mark.parametrize("prose", RESULTS.values(), ids=RESULTS)
def test_typed_result_is_found_once(prose: str) -> None:
    assert len(typed_numbers.typed(chapter(prose))) == 1


@pytest.mark.parametrize("prose", FINE.values(), ids=FINE)
def test_other_numbers_are_left_alone(prose: str) -> None:
    assert typed_numbers.typed(chapter(prose)) == []


@pytest.mark.parametrize(
    "code",
    [
        '#| label: fig-x\n#| caption: The median is 0.37.\nfigure',
        'plots.describe(figure, f"Histogram of {n} features. The median is 0.37.")',
        'chapter.number("verdict", "most, by 0.37" if won else "none")',
    ],
    ids=["caption", "words of a figure", "sentence chosen by code"],
)
def test_typed_result_in_code_is_found(code: str) -> None:
    (line,) = typed_numbers.typed(chapter("Text.", code))
    assert line.startswith("0.37")
    assert typed_numbers.typed(chapter("Text.", f"{code}\n# numbers: 0.37 (a coin)")) == []


def test_numbers_of_code_and_markup_are_no_prose() -> None:
    code = "f\"<span style='margin-right:2.5px'>{x:.2f} nats</span>\"; t = 0.25; f'{x:.15%} of {t}'"
    assert typed_numbers.typed(chapter("Text.", code)) == []


@pytest.mark.parametrize(
    ("comment", "complaint"),
    [("0.5", "not of the form"), ("0.5 ()", "not of the form"), ("0.5 (a coin); 0.7 (another)", "nothing in the cell")],
)
def test_excuses_need_a_reason_and_a_use(comment: str, complaint: str) -> None:
    found = typed_numbers.typed(chapter(f"A coin gets 0.5.\n\n<!-- numbers: {comment} -->"))
    assert any(complaint in line for line in found)


@pytest.mark.parametrize("path", typed_numbers.chapters(), ids=lambda path: path.stem)
def test_chapter_types_no_result(path: Path) -> None:
    assert typed_numbers.typed(path.read_text(encoding="utf-8")) == []


# --- what a reader is told comes from the run ---------------------------------------------------------------------


def prose(chapter: Path) -> str:
    """A chapter's text and the words of its figures after a run, as the book shows them."""
    notebook = reader.reads(chapter.read_text(encoding="utf-8"))
    NotebookClient(notebook, resources={"metadata": {"path": chapter.parent}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    scraps = [output for output in outputs if "scrapbook" in output.get("metadata", ())]
    glued = {scrap.metadata.scrapbook.name: scrap.data for scrap in scraps}
    words = [output.data["text/plain"] for output in outputs if "text/html" in output.get("data", {})]
    markdown = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    return "\n".join([re.sub(r"\{glue:text\}`(.+?)`", lambda role: _text(glued[role[1]]), markdown), *words])


def _text(data: nbformat.NotebookNode) -> str:
    (value,) = (text for kind, text in data.items() if kind.endswith("text/plain"))
    return value.strip("'")


def test_other_weights_make_the_prose_say_other_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All but fifty features are silenced in a copy of the dictionary; a chapter's text and figure follow."""
    text = tmp_path / "text"
    text.mkdir()
    for page in typed_numbers.BOOK.glob("*.md"):  # small, and English
        (text / f"{page.stem}.txt").write_bytes(page.read_bytes())
    monkeypatch.setenv("SAE_CORE_CORPUS", str(text))
    monkeypatch.setattr(reader, "state", lambda: "a state")
    template = typed_numbers.BOOK / "_template.py"
    before = prose(template)
    dictionary = load_dictionary("A/1")
    heard = 50
    with torch.no_grad():
        dictionary.b_enc[heard:] = -1e6
    save_dictionary(dictionary, tmp_path / "home" / "A" / "1")
    monkeypatch.setenv("SAE_CORE_HOME", str(tmp_path / "home"))
    after = prose(template)

    told = [int(re.search(r"([\d,]+) of [\d,]+ features\s+fire", text)[1].replace(",", "")) for text in (before, after)]
    drawn = [re.search(r"densities of ([\d,]+) features", text)[1] for text in (before, after)]
    assert [f"{number:,}" for number in told] == drawn
    assert told[1] <= heard < told[0]
